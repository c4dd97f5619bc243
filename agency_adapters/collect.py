"""Handing over an answer that was held, once the agency's people have decided.

1. Only a broker may ask, and only the one that was answered HELD.
2. It names the answer by the digests of the very order and grant that were answered. Whatever else
   it names is NOT_FOUND, alike for what was never asked, never held, and another broker's.
3. While nobody has decided, it learns by when that is due, and nothing of what was found.
4. Afterwards it gets the signed report and statement, which are on this agency's search log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest

from agency_adapters import checks
from agency_adapters.command import Witnesses
from agency_adapters.holding import HeldAnswer, HeldAnswers
from agency_adapters.models import Collected, CollectParams, MatchAnswer
from agency_adapters.state import AdapterState
from audit.writer import LogWriter
from trust.clock import Clock
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class CollectCommand:
    """Answers brokers that ask for held answers; free of transport.

    Attributes:
        held: the held answers.
        state: the link tokens that go with reports.
        log: this agency's search log.
        witnesses: what is remembered of the brokers' logs.
        directory: returns the directory in force.
        clock: tells the time.
    """

    held: HeldAnswers
    state: AdapterState
    log: LogWriter
    witnesses: Witnesses
    directory: Callable[[], Directory]
    clock: Clock

    async def execute(self, params: CollectParams, peer: Member) -> Collected:
        """Return what became of a held answer.

        Raises:
            ProbegateError: ``CHANNEL_ROLE``, ``NOT_FOUND`` or ``STATE_UNAVAILABLE``.
        """
        checks.require_broker(peer)  # (1)
        answer = self.held.of_order(params.order_sha256)
        if (  # (2)
            answer is None
            or not compare_digest(answer.grant_sha256, params.grant_sha256)
            or answer.broker != peer.id
        ):
            raise ProbegateError(Reason.NOT_FOUND)
        return Collected(self._answer(answer, peer), answer.decide_by)

    def _answer(self, answer: HeldAnswer, peer: Member) -> MatchAnswer | None:
        if answer.report is None or answer.leaf_index is None:  # (3)
            return None
        log_key = checks.search_log_key(self.directory(), peer.id, self.clock())
        return MatchAnswer(  # (4)
            report=answer.report,
            statement=answer.statement,
            links=self.state.links_of(answer.report),
            acknowledged=self.witnesses.of(log_key).acknowledged,
            agency_checkpoint=self.log.checkpoint.note,
            agency_leaf_index=answer.leaf_index,
        )
