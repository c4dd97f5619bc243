"""What the agreements say of what follows a search, as the broker's own bundle has them now.

1. What follows a search is decided under the agreement that permitted it, by its id, in the version
   that is in the bundle now. An agreement that is gone, or not in force today, permits nothing.
2. It must still have a gateway for the search's purpose.
3. Obligations that this broker does not know make it a denial.
4. What a kill switch turned off is refused while it is off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.decisions import KNOWN_OBLIGATIONS
from broker.models import SearchRecord
from broker.second_step.rules import MIN_NEEDED, Listed
from policy.agreements import IMAGES_WITH_ANSWER, NO_IMAGES, Agreement, Obligations
from policy.decision import CompiledPolicy, enforceable
from policy.ledger import Ledger
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder


@dataclass(frozen=True, slots=True)
class Agreed:
    """Reads the agreements and the kill switches.

    Attributes:
        policy: the agreements as they are now.
        ledger: the kill switches.
    """

    policy: Callable[[], CompiledPolicy]
    ledger: Ledger

    def needed(self, record: SearchRecord, listed: Sequence[Listed]) -> int:
        """Return how many people must review: the most that any agency with candidates asks."""
        asked = [MIN_NEEDED]
        for one in listed:
            agreement = self._agreement(record, one.agency)
            if agreement is not None:
                asked.append(agreement.obligations.reviewers)
        return max(asked)

    def require_images(
        self, record: SearchRecord, order: SearchOrder, agency: str, reasons: str, now: datetime
    ) -> None:
        """Check that an agency's images may be sent.

        Raises:
            ProbegateError: ``IMAGES_NOT_AGREED`` or ``RELEASE_SWITCHED_OFF``.
        """
        duties = self._in_force(record, order, agency, now)
        if duties is None or duties.images == NO_IMAGES:
            raise ProbegateError(Reason.IMAGES_NOT_AGREED, agency=agency)
        if duties.images != IMAGES_WITH_ANSWER and not reasons.strip():
            raise ProbegateError(Reason.IMAGES_NOT_AGREED, field="reasons")
        self._require_switched_on(order, agency)

    def require_disclosure(
        self,
        record: SearchRecord,
        order: SearchOrder,
        agency: str,
        fields: Sequence[str],
        now: datetime,
    ) -> None:
        """Check that details may be asked for.

        Raises:
            ProbegateError: ``DISCLOSURE_DENIED`` or ``RELEASE_SWITCHED_OFF``.
        """
        duties = self._in_force(record, order, agency, now)
        if duties is None or duties.hit_no_hit:
            raise ProbegateError(Reason.DISCLOSURE_DENIED, agency=agency)
        if not set(fields) <= set(duties.fields):
            raise ProbegateError(Reason.DISCLOSURE_DENIED, field="fields")
        self._require_switched_on(order, agency)

    def is_switched_off(self, order: SearchOrder, agency: str) -> bool:
        """Whether a kill switch is off for this (4)."""
        return self.ledger.is_switched_off(agency, order.force, order)

    def _require_switched_on(self, order: SearchOrder, agency: str) -> None:
        if self.is_switched_off(order, agency):
            raise ProbegateError(Reason.RELEASE_SWITCHED_OFF)

    def _agreement(self, record: SearchRecord, agency: str) -> Agreement | None:
        """Return the agreement that permitted the search at an agency, as it reads now (1)."""
        permitted = next((d for d in record.decisions if d.agency == agency and d.permitted), None)
        if permitted is None:
            return None
        for compiled in self.policy().agreements(agency, record.force):
            if compiled.agreement.id == permitted.agreement:
                return compiled.agreement
        return None

    def _in_force(
        self, record: SearchRecord, order: SearchOrder, agency: str, now: datetime
    ) -> Obligations | None:
        """Return what the agreement obliges to, if it permits anything now (1) (2) (3)."""
        agreement = self._agreement(record, agency)
        bundle = self.policy().bundle
        if agreement is None or not bundle.not_before <= now < bundle.not_after:
            return None
        today = now.astimezone(UTC).date()
        documents = agreement.documents
        papers = (documents.dpia, documents.appropriate_policy_document)
        if not agreement.in_force.from_ <= today <= agreement.in_force.to or not all(
            paper.date <= today <= paper.expires for paper in papers
        ):
            return None
        purpose = order.justification.purpose
        if all(gateway.purpose != purpose for gateway in agreement.gateways):
            return None
        duties = agreement.obligations
        return duties if enforceable(duties, KNOWN_OBLIGATIONS) else None
