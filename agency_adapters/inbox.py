"""What the agency's own people do about answers that are held: list them, release one, refuse one.

1. Who reads what waits is on the admin log before anything is shown.
2. A decision is on the admin log, and counts, before it is called made; who decided, and a
   refusal's reasons, are committed to there and kept beside the log.
3. Each person decides once about one answer, however their id is spelt.
4. What a kill switch has turned off cannot be released while it is off; that is said at once.
5. Where somebody else must be asked about a record, a release names all of them, and nobody else.
6. A decision that ended the wait is carried out by the running adapter, on its search log; if none
   runs, by the next one to start, before which nobody can collect anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from agency_adapters.deciding import REFUSED_ENTRY, RELEASED_ENTRY
from agency_adapters.holding import HeldAnswer, HeldAnswers
from agency_adapters.operators import Operator
from agency_adapters.people import (
    carried_out,
    checked_id,
    checked_line,
    checked_prose,
    require_releasable,
    to_be_asked,
)
from agency_adapters.verdicts import Verdict
from audit.leaves import JsonValue
from trust.errors import ProbegateError, Reason
from trust.messages import Offence
from trust.people import plain_id

LISTED_ENTRY = "held.listed"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One answer as it shows in the inbox.

    ``candidates`` counts the records found; in hit/no-hit mode the force would not learn the count.
    ``decided`` says what was decided where the report is still to be made.
    """

    search_id: str
    order_sha256: str
    force: str
    case_reference: str
    purpose: str
    offence: Offence
    necessity: str
    proportionality: str
    candidates: int
    held_at: datetime
    decide_by: datetime
    overdue: bool
    released_by: int
    needed: int
    ask: tuple[str, ...]
    switched_off: tuple[str, ...]
    decided: Verdict | None


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a decision did.

    Attributes:
        search_id: of which search.
        index: of the decision's entry in the admin log.
        verdict: how the wait ended; none if more people must release.
        released_by: how many have released so far.
        needed: how many must.
        reported: whether the report that follows is on the search log.
    """

    search_id: str
    index: int
    verdict: Verdict | None
    released_by: int
    needed: int
    reported: bool


@dataclass(frozen=True, slots=True)
class Inbox:
    """The held answers of one agency, for its own people."""

    operator: Operator
    held: HeldAnswers

    @classmethod
    def of(cls, operator: Operator) -> Inbox:
        """Return the inbox of an operator's agency."""
        return cls(operator, HeldAnswers(operator.state.engine))

    async def waiting(self) -> Sequence[Waiting]:
        """Return what waits, the oldest first, once the read is on the log (1).

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        answers = self.held.waiting()
        await self.operator.log(LISTED_ENTRY, searches=[one.search_id for one in answers])
        now, off = self.operator.clock(), self.operator.switched_off
        return tuple(
            Waiting(
                search_id=one.search_id,
                order_sha256=one.order_sha256.hex(),
                force=one.order.force,
                case_reference=one.order.justification.case_reference,
                purpose=one.order.justification.purpose,
                offence=one.order.justification.offence,
                necessity=one.order.justification.necessity,
                proportionality=one.order.justification.proportionality,
                candidates=len(self.operator.state.resolve(search_id=one.search_id)),
                held_at=one.held_at,
                decide_by=one.decide_by,
                overdue=now >= one.decide_by,
                released_by=one.releases,
                needed=one.needed,
                ask=one.ask,
                switched_off=tuple(sorted(one.switches & off)),
                decided=one.verdict,
            )
            for one in answers
            if one.order is not None
        )

    async def release(
        self, search: str, *, reviewer: str, reference: str, asked: Sequence[str] = ()
    ) -> Reviewed:
        """Release an answer, as far as one person can.

        Args:
            search: the search's id, or the order's digest where several orders share it.
            reviewer: who decides, as the agency knows them.
            reference: the agency's own reference of the decision; it names nobody.
            asked: who was asked about records in the answer, and agreed.

        Raises:
            ProbegateError: ``NOT_FOUND``, ``RESULT_GONE``, ``TEXT_INVALID``, ``RELEASE_INVALID``,
                ``RELEASE_SWITCHED_OFF``, ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        answer = self._reviewable(search, reviewer)
        require_releasable(self.operator, answer.switches, answer.ask, asked)  # (4) (5)
        facts: dict[str, JsonValue] = {"reference": checked_line(reference, "reference")}
        if answer.ask:
            facts["asked"] = list(answer.ask)
        return await self._review(answer, RELEASED_ENTRY, facts, {"reviewer": reviewer})

    async def refuse(self, search: str, *, reviewer: str, reasons: str) -> Reviewed:
        """Refuse an answer; one person can.

        Args:
            search: the search's id, or the order's digest where several orders share it.
            reviewer: who decides, as the agency knows them.
            reasons: why, in their words; kept beside the log.

        Raises:
            ProbegateError: as ``release``, but for the kill switches.
        """
        answer = self._reviewable(search, reviewer)
        checked_prose(reasons, "reasons")
        private: dict[str, JsonValue] = {"reviewer": reviewer, "reasons": reasons}
        return await self._review(answer, REFUSED_ENTRY, {}, private)

    def _reviewable(self, search: str, reviewer: str) -> HeldAnswer:
        """Return the answer, if this person may still decide about it (3)."""
        checked_id(reviewer, "reviewer")
        found = self.held.named(search)
        if not found:
            gone = self.operator.state.is_gone(search)
            raise ProbegateError(Reason.RESULT_GONE if gone else Reason.NOT_FOUND)
        if len(found) > 1:
            digests = ", ".join(one.order_sha256.hex() for one in found)
            raise ProbegateError(Reason.RELEASE_INVALID, f"several orders; name one of {digests}")
        answer = found[0]
        if answer.leaf_index is not None or answer.verdict is Verdict.REFUSED:
            raise ProbegateError(Reason.RELEASE_INVALID, "decided already")
        if any(review.reviewer == plain_id(reviewer) for review in answer.reviews):
            raise ProbegateError(Reason.RELEASE_INVALID, "this reviewer has decided already")
        return answer

    async def _review(
        self,
        answer: HeldAnswer,
        entry: str,
        facts: dict[str, JsonValue],
        private: dict[str, JsonValue],
    ) -> Reviewed:
        index = await self.operator.log(  # (2)
            entry,
            private,
            search_id=answer.search_id,
            order_sha256=answer.order_sha256.hex(),
            **facts,
        )

        def counts(one: HeldAnswer) -> bool:
            return any(review.leaf_index == index for review in one.reviews)

        now = self._again(answer)
        if counts(now) and now.verdict is not None:
            now = await carried_out(  # (6)
                self.operator,
                partial(self._again, now),
                lambda one: one.leaf_index is not None or not counts(one),
            )
        if not counts(now):
            if now.ask != answer.ask:  # (5)
                raise to_be_asked(now.ask)
            raise ProbegateError(Reason.RELEASE_INVALID, "somebody else's decision came first")
        return Reviewed(
            search_id=now.search_id,
            index=index,
            verdict=now.verdict,
            released_by=now.releases,
            needed=now.needed,
            reported=now.leaf_index is not None,
        )

    def _again(self, answer: HeldAnswer) -> HeldAnswer:
        found = self.held.of_order(answer.order_sha256)
        if found is None:
            raise ProbegateError(Reason.RESULT_GONE)
        return found
