"""From what the agency's people decided about a held answer to the report that follows it.

1. A review counts once its entry is on the admin log (``verdicts``), whoever asks for it.
2. The report that follows names the HELD report it follows by digest. It is on the search log, and
   kept, in one transaction, before anybody can collect it; it is made once. A crash between a
   review and the report leaves a decision that the next turn, or the next start, carries out.
3. What a kill switch has turned off is not released while it is off; it can still be refused. A
   release is recorded only if it still stands in the transaction of its entry (``verdicts``).
4. What may no longer be searched on the day of the release (a deletion asked for, a record erased)
   is left out of what is released, as if it had not been found; also where its erasure begins while
   the release is carried out (``erased``). A record that was corrected meanwhile is not: what is
   released names nobody, and left out it would be silence taken for no match.
5. Nobody's silence is an answer: what was not decided in time is on the log as overdue, once, and
   stays held, until it is erased undecided when its time is over (``retention``).
6. Where a record in it has come to need somebody's leave who was not asked, it is not released: it
   is on the log that it waits again, and for whom, and its people decide anew (``verdicts``, 3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from agency_adapters.erased import require_not_erased
from agency_adapters.galleries.gallery import Gallery
from agency_adapters.holding import (
    HELD_VERDICTS,
    HeldAnswer,
    HeldAnswers,
    keep_decided,
    keep_flagged,
)
from agency_adapters.linking import Linker
from agency_adapters.models import FoundRecord
from agency_adapters.recording import REPORT_ENTRY, Recorder
from agency_adapters.registry import kind_named
from agency_adapters.state import AdapterState, keep_links
from agency_adapters.verdicts import Verdict, VerdictClerk
from audit.leaves import JsonValue, stamp
from audit.writer import NewEntry
from policy.ledger import Ledger
from trust import dsse, telemetry
from trust.clock import Clock
from trust.errors import ProbegateError, Reason
from trust.messages import OWNER_REFUSED, MatchReport, OutcomeState
from trust.payload_types import PayloadType
from trust.wire import encode_report

RELEASED_ENTRY: Final = "held.released"
REFUSED_ENTRY: Final = "held.refused"
OVERDUE_ENTRY: Final = "held.overdue"
REOPENED_ENTRY: Final = "held.reopened"
REVIEW_CLERK: Final = VerdictClerk(
    HELD_VERDICTS, {RELEASED_ENTRY: Verdict.RELEASED, REFUSED_ENTRY: Verdict.REFUSED}
)
"""Keeps reviews of held answers (1)."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """Carries out what was decided; the running adapter has one.

    Attributes:
        held: the held answers.
        state: what references stand for.
        ledger: the kill switches.
        recorder: the search log and the signer.
        linker: makes the link tokens of what is released.
        gallery: returns the gallery's newest generation.
        switches: the operator's eligibility switches that are on.
        clock: tells the time.
    """

    held: HeldAnswers
    state: AdapterState
    ledger: Ledger
    recorder: Recorder
    linker: Linker
    gallery: Callable[[], Gallery]
    switches: frozenset[str]
    clock: Clock

    async def settle(self) -> None:
        """Make the report of every answer that was decided and has none yet (2).

        One that cannot be made now keeps no other waiting.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        for answer in self.held.reviewed():
            try:
                await self._carry_out(answer)
            except ProbegateError as error:
                telemetry.log(
                    "decision not carried out",
                    search_id=answer.search_id,
                    reason=error.reason.name,
                )

    async def _carry_out(self, answer: HeldAnswer) -> None:
        if answer.verdict is Verdict.REFUSED:
            await self._record(answer, self._refused(answer))
        elif answer.verdict is Verdict.RELEASED and not (
            answer.switches & self.ledger.switched_off  # (3)
        ):
            found, kept, ask = await self._today(answer)
            if not ask <= set(answer.ask):
                await self._ask_anew(answer, sorted(ask))
            else:
                await self._record(answer, *self._released(answer, found, kept))

    def _refused(self, answer: HeldAnswer) -> MatchReport:
        # Nothing of what was found is left in it, nor of whether anything was.
        return self._following(
            answer,
            state=OutcomeState.DENIED,
            reason=OWNER_REFUSED,
            candidates=(),
            calibration="",
            calibration_sha256=b"",
            calibration_expires_at=None,
        )

    async def _today(self, answer: HeldAnswer) -> tuple[list[FoundRecord], set[str], set[str]]:
        """Return what was found, what of it may be released (4), and who must be asked (6)."""
        listed = {one.reference for one in _withheld(answer).candidates}
        found = [
            one
            for _, one in self.state.resolve(search_id=answer.search_id)
            if not listed or one.reference in listed
        ]
        gallery, today = self.gallery(), self.clock().date()
        kind = kind_named(gallery.facts.kind)
        kept: set[str] = set()
        ask: set[str] = set()
        for one in found:
            if one.erased:
                continue
            record = await gallery.record(one.record_id)
            # Where no records are kept, who may be searched is decided where they are.
            barred = record is None or kind.bars(record, today, self.switches)
            if not barred or not gallery.facts.keeps_records:
                kept.add(one.reference)
                ask.update(kind.to_ask(record) if record is not None else ())
        return found, kept, ask

    def _released(
        self, answer: HeldAnswer, found: Sequence[FoundRecord], kept: set[str]
    ) -> tuple[MatchReport, frozenset[str], int]:
        """Return what is released, what it is of, and how many records were left out of it (4)."""
        withheld = _withheld(answer)
        left_out = sum(one.reference not in kept for one in found)
        if withheld.state is not OutcomeState.CANDIDATES or not left_out:
            return self._following(answer), frozenset(kept), 0
        ranked = tuple(
            candidate.model_copy(update={"rank": rank})
            for rank, candidate in enumerate(
                (one for one in withheld.candidates if one.reference in kept), start=1
            )
        )
        if left_out < len(found):
            return self._following(answer, candidates=ranked), frozenset(kept), left_out
        nobody = self._following(answer, state=OutcomeState.NO_CANDIDATE, reason="", candidates=())
        return nobody, frozenset(), left_out

    async def _ask_anew(self, answer: HeldAnswer, ask: Sequence[str]) -> None:
        """Put on the log that an answer waits again, with whom to ask (6)."""

        def also(connection: Connection, _index: int) -> None:
            HELD_VERDICTS.ask_anew(connection, answer.order_sha256, ask)

        leaf = _leaf(REOPENED_ENTRY, self.clock(), answer) | {"ask": list(ask)}
        await self.recorder.log.append(NewEntry(leaf=leaf, also=also))
        telemetry.log("held answer waits again", search_id=answer.search_id)

    def _following(self, answer: HeldAnswer, **changes: Any) -> MatchReport:
        """Return the withheld report as one that follows the HELD report, with changes."""
        followed = hashlib.sha256(self.held.held_report(answer.order_sha256).payload).digest()
        withheld = _withheld(answer)
        values = {name: getattr(withheld, name) for name in MatchReport.model_fields}
        values |= {"reported_at": self.clock(), "held_report_sha256": followed}
        return MatchReport(**(values | changes))

    async def _record(
        self,
        answer: HeldAnswer,
        report: MatchReport,
        released: frozenset[str] = frozenset(),
        left_out: int = 0,
    ) -> None:
        """Put the report on the search log, and keep it (2).

        Args:
            answer: what was decided.
            report: what follows it.
            released: the references of the records that it is of.
            left_out: how many records were left out of it.
        """
        envelope = dsse.sign(PayloadType.MATCH_REPORT, encode_report(report), self.recorder.signer)
        statement = (
            self.recorder.statement(envelope, answer.order) if answer.order is not None else None
        )

        until = self.recorder.kept.until(report.reported_at, answer.retention_days)
        # The link key of the time it was held: of the grant, or seconds after.
        found = [one for _, one in self.state.resolve(search_id=answer.search_id)]
        links = await self.linker.links(report, found, self.gallery(), answer.held_at)

        def also(connection: Connection, index: int) -> None:
            if report.state is not OutcomeState.DENIED:  # (3)
                HELD_VERDICTS.require_released(
                    connection,
                    answer.order_sha256,
                    answer.needed,
                    answer.switches,
                    self.ledger,
                )
                require_not_erased(connection, released)  # (4)
            keep_decided(connection, answer.order_sha256, envelope, statement, index, until)
            keep_links(connection, envelope, links)

        leaf = _leaf(REPORT_ENTRY, report.reported_at, answer) | {
            "broker_checkpoint": None,
            "report_sha256": hashlib.sha256(envelope.payload).hexdigest(),
            "held_report_sha256": report.held_report_sha256.hex(),
            "state": report.state.value,
            "reason": report.reason,
            "policy_sha256": report.policy_sha256.hex(),
        }
        if left_out:
            leaf["left_out"] = left_out
        await self.recorder.log.append(NewEntry(leaf=leaf, also=also))
        telemetry.log("held answer decided", search_id=answer.search_id, state=report.state.value)

    async def record_overdue(self) -> None:
        """Put every answer that nobody decided in time on the search log, once (5).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``, or what the log raises.
        """
        now = self.clock()
        for answer in self.held.overdue(now):

            def also(
                connection: Connection, _index: int, digest: bytes = answer.order_sha256
            ) -> None:
                keep_flagged(connection, digest)

            leaf = _leaf(OVERDUE_ENTRY, now, answer) | {"decide_by": stamp(answer.decide_by)}
            await self.recorder.log.append(NewEntry(leaf=leaf, also=also))
            telemetry.log("held answer overdue", search_id=answer.search_id)


def _withheld(answer: HeldAnswer) -> MatchReport:
    withheld = answer.withheld
    if withheld is None:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, "what was withheld is gone")
    return withheld


def _leaf(kind: str, at: datetime, answer: HeldAnswer) -> dict[str, JsonValue]:
    return {
        "v": 1,
        "type": kind,
        "at": stamp(at),
        "search_id": answer.search_id,
        "order_sha256": answer.order_sha256.hex(),
        "grant_sha256": answer.grant_sha256.hex(),
    }
