"""What the agency's own people do about wrong candidates: order recalls, see what became of them.

1. A recall is on the admin log before it counts; who ordered it and of which record are committed
   to there and kept beside the log.
2. It goes to every search whose handed-out report listed the record, unless that is gone: then
   nobody may hold it any more, and nobody here knows what it listed (``retention``). A match that
   was wrong says nothing of other searches: named by a reference, it is recalled in that search
   alone.
3. What is recalled for one reason is not recalled for it again; of two people who order it at once
   the second is told so.
4. Who reads the list is on the admin log before anything is shown.
5. The running adapter signs what was ordered; if none runs, the next one to start does.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agency_adapters.operators import Operator
from agency_adapters.people import carried_out, checked_id, checked_prose
from agency_adapters.second_step.answered import Answered, HandedOut
from agency_adapters.second_step.recalling import (
    ORDERED_ENTRY,
    OrderedRecall,
    Recalls,
    ReportedMatch,
)
from trust.errors import ProbegateError, Reason
from trust.second_step import RecallReason

LISTED_ENTRY: Final = "recall.listed"
RECALLS_PER_ENTRY: Final = 100
"""Most recalls that one entry orders, which keeps it well below the longest."""


@dataclass(frozen=True, slots=True)
class RecallDesk:
    """The recalls of one agency, for its own people."""

    operator: Operator
    recalls: Recalls
    answered: Answered

    @classmethod
    def of(cls, operator: Operator) -> RecallDesk:
        """Return the desk of an operator's agency."""
        engine = operator.state.engine
        return cls(operator, Recalls(engine), Answered.of(operator.state))

    async def order(
        self,
        *,
        record_id: str = "",
        reference: str = "",
        reason: RecallReason,
        notice: str,
        person: str,
    ) -> Sequence[OrderedRecall]:
        """Order recalls and return them as they stand.

        Args:
            record_id: the record; or else
            reference: a candidate's reference.
            reason: why.
            notice: what the recipients must know; it names nobody.
            person: who orders it, as the agency knows them.

        Raises:
            ProbegateError: ``USAGE`` unless exactly one of record and reference is given;
                ``NOT_FOUND`` if no handed-out report listed it; ``NOTICE_INVALID`` if all of it is
                recalled already; ``RESULT_GONE`` if what listed it was erased meanwhile;
                ``TEXT_INVALID``, ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        if bool(record_id) == bool(reference):
            raise ProbegateError(Reason.USAGE, "give a record or a reference")
        checked_id(person, "person")
        checked_prose(notice, "notice")
        record_id, listed = self._listed(record_id, reference, reason)
        new = self._not_recalled(listed, reason)
        ids: list[str] = []
        for first in range(0, len(new), RECALLS_PER_ENTRY):
            some = new[first : first + RECALLS_PER_ENTRY]
            ids += await self._put(some, record_id, reason, notice, person)
        made = await self._issued(ids)
        if not made:
            self._not_recalled(new, reason)  # somebody else's order came first (3)
            raise ProbegateError(Reason.RESULT_GONE)
        return made

    async def all(self) -> tuple[Sequence[OrderedRecall], Sequence[ReportedMatch]]:
        """Return all recalls, and the wrong matches that wait, once the read is on the log (4).

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        recalls, wrong = self.recalls.all(), self.recalls.wrong_matches()
        await self.operator.log(LISTED_ENTRY, recalls=len(recalls), wrong_matches=len(wrong))
        return recalls, wrong

    def due(self, record_ids: Sequence[str]) -> tuple[str, ...]:
        """Return which of some records a handed-out report listed that is not recalled.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        return tuple(
            record_id
            for record_id in record_ids
            if any(not self.recalls.recalled(ref) for _, ref in self.answered.listing(record_id))
        )

    def _listed(
        self, record_id: str, reference: str, reason: RecallReason
    ) -> tuple[str, Sequence[tuple[HandedOut, str]]]:
        """Return the record, and the reports that listed it (2)."""
        only = ""
        if reference:
            found = self.operator.state.resolve(reference=reference)
            if not found:
                raise ProbegateError(Reason.NOT_FOUND)
            record_id = found[0][1].record_id
            only = reference if reason is RecallReason.WRONG_MATCH else ""
        listed = [
            (answer, ref)
            for answer, ref in self.answered.listing(record_id)
            if not only or ref == only
        ]
        if not listed:
            raise ProbegateError(Reason.NOT_FOUND)
        return record_id, listed

    def _not_recalled(
        self, listed: Sequence[tuple[HandedOut, str]], reason: RecallReason
    ) -> Sequence[tuple[HandedOut, str]]:
        """Return what of it is not recalled for a reason (3).

        Raises:
            ProbegateError: ``NOTICE_INVALID`` if all of it is.
        """
        there = {(one.reference, one.reason) for one in self.recalls.all()}
        new = [(answer, ref) for answer, ref in listed if (ref, reason) not in there]
        if not new:
            raise ProbegateError(Reason.NOTICE_INVALID, "recalled already", field="reference")
        return new

    async def _put(
        self,
        some: Sequence[tuple[HandedOut, str]],
        record_id: str,
        reason: RecallReason,
        notice: str,
        person: str,
    ) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in some]
        await self.operator.log(  # (1)
            ORDERED_ENTRY,
            {"person": person, "record": record_id, "notice": notice},
            reason=reason.value,
            recalls=[
                {
                    "recall_id": recall_id,
                    "search_id": answer.report.search_id,
                    "order_sha256": answer.order_sha256.hex(),
                    "reference": ref,
                }
                for recall_id, (answer, ref) in zip(ids, some, strict=True)
            ],
        )
        return ids

    async def _issued(self, ids: Sequence[str]) -> Sequence[OrderedRecall]:
        """Wait for the running adapter to sign them; return at once if none runs (5)."""
        wanted = set(ids)

        def look() -> tuple[OrderedRecall, ...]:
            return tuple(one for one in self.recalls.all() if one.recall_id in wanted)

        return await carried_out(
            self.operator, look, lambda found: all(one.recall is not None for one in found)
        )
