"""Handing over an answer again: one that did not arrive, or one that was held and is decided.

1. Only a broker may ask, and only the one that was answered: the one that a held answer was
   withheld from, or whose log the agency's own entry of the answer names.
2. It names the answer by the digests of the very order and grant that were answered. Whatever else
   it names is NOT_FOUND, alike for what was never asked, never held, not yet answered, and another
   broker's. Its own that was erased when its time was over is RESULT_GONE.
3. A broker that shows the order itself, and not only its digest, asks for the answer as it was
   first given. It gets the very report that was signed then: nothing is searched or decided again.
   If that is HELD, it learns by when its release is due.
4. Otherwise it asks what followed a HELD report. While nobody has decided, it learns by when that
   is due, and nothing of what was found.
5. Afterwards it gets the signed report and statement, which are on this agency's search log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest

from agency_adapters import checks
from agency_adapters.command import Witnesses
from agency_adapters.holding import HeldAnswer, HeldAnswers
from agency_adapters.models import Collected, CollectParams, MatchAnswer, StoredMatch
from agency_adapters.recording import Recorder, asked_by
from agency_adapters.state import AdapterState
from audit.notes import VerifierKey
from trust.clock import Clock
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason
from trust.wire import decode_order


@dataclass(frozen=True, slots=True)
class CollectCommand:
    """Answers brokers that ask for answers; free of transport.

    Attributes:
        held: the held answers.
        state: every answer that was given, and the link tokens that go with reports.
        recorder: makes statements; and has this agency's search log.
        witnesses: what is remembered of the brokers' logs.
        directory: returns the directory in force.
        clock: tells the time.
    """

    held: HeldAnswers
    state: AdapterState
    recorder: Recorder
    witnesses: Witnesses
    directory: Callable[[], Directory]
    clock: Clock

    async def execute(self, params: CollectParams, peer: Member) -> Collected:
        """Return an answer, or when it is to be decided about.

        Raises:
            ProbegateError: ``CHANNEL_ROLE``, ``NOT_FOUND``, ``RESULT_GONE`` or
                ``STATE_UNAVAILABLE``.
        """
        checks.require_broker(peer)  # (1)
        log_key = checks.search_log_key(self.directory(), peer.id, self.clock())
        if params.order:
            return self._given(params, log_key)  # (3)
        answer = self.held.of_order(params.order_sha256)
        if answer is None:  # (2)
            stored = self._stored(params, log_key)
            raise ProbegateError(Reason.NOT_FOUND if stored.report else Reason.RESULT_GONE)
        if (  # (2)
            not compare_digest(answer.grant_sha256, params.grant_sha256) or answer.broker != peer.id
        ):
            raise ProbegateError(Reason.NOT_FOUND)
        return Collected(self._followed(answer, log_key), answer.decide_by)

    def _given(self, params: CollectParams, log_key: VerifierKey) -> Collected:
        """Return an answer as it was first given (3)."""
        stored = self._stored(params, log_key)
        if not compare_digest(stored.order_sha256, hashlib.sha256(params.order).digest()):  # (2)
            raise ProbegateError(Reason.NOT_FOUND)
        report = stored.there
        held = self.held.of_order(params.order_sha256)
        answer = MatchAnswer(
            report=report,
            statement=self.recorder.statement(report, decode_order(params.order)),
            links=stored.links,
            acknowledged=self.witnesses.of(log_key).acknowledged,
            agency_checkpoint=self.recorder.log.checkpoint.note,
            agency_leaf_index=stored.leaf_index,
        )
        return Collected(answer, held.decide_by if held is not None else None)

    def _stored(self, params: CollectParams, log_key: VerifierKey) -> StoredMatch:
        """Return the answer that is named, whatever is left of it (1) (2)."""
        stored = self.state.answered(params.order_sha256)
        if (
            stored is None
            or not compare_digest(stored.grant_sha256, params.grant_sha256)
            or asked_by(self.recorder.log, stored.leaf_index) != log_key.name
        ):
            raise ProbegateError(Reason.NOT_FOUND)
        return stored

    def _followed(self, answer: HeldAnswer, log_key: VerifierKey) -> MatchAnswer | None:
        """Return what followed a held answer, if anything has (4)."""
        if answer.report is None or answer.leaf_index is None:
            return None
        return MatchAnswer(  # (5)
            report=answer.report,
            statement=answer.statement,
            links=self.state.links_of(answer.report),
            acknowledged=self.witnesses.of(log_key).acknowledged,
            agency_checkpoint=self.recorder.log.checkpoint.note,
            agency_leaf_index=answer.leaf_index,
        )
