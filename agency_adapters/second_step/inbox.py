"""What the agency's own people do about requests for details: list, read, release, refuse.

1. Who reads what waits is on the admin log before anything is shown.
2. A decision is on the admin log, and counts, before it is called made; who decided, and their
   reasons, are committed to there and kept beside the log. Reasons are given for either.
3. Each person decides once about one request, however their id is spelt.
4. What a kill switch has turned off cannot be released while it is off; that is said at once.
5. Where somebody else must be asked about the record, a release names all of them, and nobody else.
6. A decision that ended the wait is carried out by the running adapter, on its search log; if none
   runs, by the next one to start, before which nobody can be told anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from agency_adapters.operators import Operator
from agency_adapters.people import (
    carried_out,
    checked_id,
    checked_prose,
    require_releasable,
    to_be_asked,
)
from agency_adapters.second_step.deciding import REFUSED_ENTRY, RELEASED_ENTRY
from agency_adapters.second_step.keeping import Release, Releases
from agency_adapters.verdicts import Verdict
from audit.leaves import JsonValue
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.people import plain_id

LISTED_ENTRY = "release.listed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request as it shows in the inbox; ``facts`` and ``record_id`` never print.

    ``decided`` says what people decided where the decision is still to be made.
    """

    request_id: str
    request_sha256: str
    search_id: str
    reference: str
    record_id: str = field(repr=False)
    force: str
    requester: str
    case_reference: str
    purpose: str
    offence: str
    seriousness: str
    subject_category: str
    fields: tuple[str, ...]
    facts: str = field(repr=False)
    reviews: int
    received_at: datetime
    decide_by: datetime
    overdue: bool
    released_by: int
    needed: int
    ask: tuple[str, ...]
    switched_off: tuple[str, ...]
    decided: Verdict | None


@dataclass(frozen=True, slots=True)
class Done:
    """What a decision did.

    Attributes:
        request_id: of which request.
        index: of the decision's entry in the admin log.
        verdict: how the wait ended; none if more people must release.
        released_by: how many have released so far.
        needed: how many must.
        state: what the signed decision says, once it is on the search log; else empty.
        reason: its reason.
    """

    request_id: str
    index: int
    verdict: Verdict | None
    released_by: int
    needed: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseInbox:
    """The requests for details at one agency, for its own people."""

    operator: Operator
    releases: Releases

    @classmethod
    def of(cls, operator: Operator) -> ReleaseInbox:
        """Return the inbox of an operator's agency."""
        return cls(operator, Releases(operator.state.engine))

    async def waiting(self) -> Sequence[Wanted]:
        """Return what waits, the oldest first, once the read is on the log (1).

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        found = self.releases.waiting()
        await self._read(found)
        return tuple(self._wanted(one, one.order) for one in found if one.order is not None)

    async def show(self, name: str) -> Wanted:
        """Return one request that waits, once the read is on the log (1).

        Args:
            name: the request's id, or its digest where several forces chose one id.

        Raises:
            ProbegateError: ``NOT_FOUND``, ``RESULT_GONE``, ``RELEASE_INVALID``,
                ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        found = self._named(name)
        await self._read((found,))
        if found.order is None:
            raise ProbegateError(Reason.RELEASE_INVALID, "decided already; its facts are erased")
        return self._wanted(found, found.order)

    async def release(
        self, name: str, *, reviewer: str, reasons: str, asked: Sequence[str] = ()
    ) -> Done:
        """Release the details, as far as one person can.

        Args:
            name: the request's id or digest.
            reviewer: who decides, as the agency knows them.
            reasons: why, in their words; kept beside the log.
            asked: who was asked about the record, and agreed.

        Raises:
            ProbegateError: ``NOT_FOUND``, ``RESULT_GONE``, ``TEXT_INVALID``, ``RELEASE_INVALID``,
                ``RELEASE_SWITCHED_OFF``, ``LOG_UNAVAILABLE`` or ``STATE_UNAVAILABLE``.
        """
        found = self._undecided(name, reviewer, reasons)
        require_releasable(self.operator, found.switches, found.ask, asked)  # (4) (5)
        facts: dict[str, JsonValue] = {"asked": list(found.ask)} if found.ask else {}
        return await self._decide(found, RELEASED_ENTRY, facts, reviewer, reasons)

    async def refuse(self, name: str, *, reviewer: str, reasons: str) -> Done:
        """Refuse the details; one person can.

        Raises:
            ProbegateError: as ``release``, but for the kill switches.
        """
        found = self._undecided(name, reviewer, reasons)
        return await self._decide(found, REFUSED_ENTRY, {}, reviewer, reasons)

    def _named(self, name: str) -> Release:
        found = self.releases.named(name)
        if not found:
            gone = self.releases.brokers_of_gone(name)
            raise ProbegateError(Reason.RESULT_GONE if gone else Reason.NOT_FOUND)
        if len(found) > 1:
            digests = ", ".join(one.request_sha256.hex() for one in found)
            raise ProbegateError(Reason.RELEASE_INVALID, f"several requests; name one of {digests}")
        return found[0]

    def _undecided(self, name: str, reviewer: str, reasons: str) -> Release:
        """Return the request, if this person may still decide about it (2) (3)."""
        checked_id(reviewer, "reviewer")
        checked_prose(reasons, "reasons")
        found = self._named(name)
        if found.leaf_index is not None or found.verdict is Verdict.REFUSED:
            raise ProbegateError(Reason.RELEASE_INVALID, "decided already")
        if any(one.reviewer == plain_id(reviewer) for one in found.reviews):
            raise ProbegateError(Reason.RELEASE_INVALID, "this person has decided already")
        return found

    async def _decide(
        self,
        found: Release,
        entry: str,
        facts: dict[str, JsonValue],
        reviewer: str,
        reasons: str,
    ) -> Done:
        index = await self.operator.log(  # (2)
            entry,
            {"reviewer": reviewer, "reasons": reasons},
            search_id=found.request.search_id,
            request_sha256=found.request_sha256.hex(),
            **facts,
        )

        def counts(one: Release) -> bool:
            return any(review.leaf_index == index for review in one.reviews)

        now = self._again(found)
        if counts(now) and now.verdict is not None:
            now = await carried_out(  # (6)
                self.operator,
                partial(self._again, now),
                lambda one: one.leaf_index is not None or not counts(one),
            )
        if not counts(now):
            if now.ask != found.ask:  # (5)
                raise to_be_asked(now.ask)
            raise ProbegateError(Reason.RELEASE_INVALID, "somebody else's decision came first")
        said = now.outcome
        return Done(
            request_id=now.request.request_id,
            index=index,
            verdict=now.verdict,
            released_by=now.releases,
            needed=now.needed,
            state=said.state.value if said is not None else "",
            reason=said.reason if said is not None else "",
        )

    def _again(self, release: Release) -> Release:
        found = self.releases.of(release.request_sha256)
        if found is None:
            raise ProbegateError(Reason.RESULT_GONE)
        return found

    async def _read(self, found: Sequence[Release]) -> None:
        await self.operator.log(
            LISTED_ENTRY,
            search_ids=sorted({one.request.search_id for one in found}),
            requests=[one.request_sha256.hex() for one in found],
        )

    def _wanted(self, one: Release, order: SearchOrder) -> Wanted:
        request, why = one.request, order.justification
        return Wanted(
            request_id=request.request_id,
            request_sha256=one.request_sha256.hex(),
            search_id=request.search_id,
            reference=request.reference,
            record_id=one.record_id,
            force=request.force,
            requester=request.requester.id,
            case_reference=why.case_reference,
            purpose=why.purpose,
            offence=request.offence.code,
            seriousness=request.offence.seriousness,
            subject_category=request.subject_category,
            fields=one.fields,
            facts=one.facts or "",
            reviews=len(one.reviewers),
            received_at=one.received_at,
            decide_by=one.decide_by,
            overdue=self.operator.clock() >= one.decide_by,
            released_by=one.releases,
            needed=one.needed,
            ask=one.ask,
            switched_off=tuple(sorted(one.switches & self.operator.switched_off)),
            decided=one.verdict,
        )
