"""NHS patients' images: nothing without a person's decision on that very request.

1. A search needs a Caldicott decision or a court's order, recorded at this agency against the
   order's request id before the order comes. The duty of confidence is weighed case by case.
2. The vital-interest route needs neither: to find a missing person or to identify remains, with
   DPA 2018 Schedule 8 paragraph 3 as the condition relied on.
3. Either way the answer is hit/no-hit: that something is held, never what.
4. Either way a person here releases it: sharing with the police is decided case by case, by
   somebody, and on the vital-interest route nobody has decided before the search.
5. Children's records and restricted ones are never searched.
6. What was said in confidence is passed on to nobody: an agreement that lets the recipient do so is
   not answered under.
"""

from __future__ import annotations

from datetime import date
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import StringConstraints

from agency_adapters.agency import (
    ADULT_YEARS,
    AgencyKind,
    Days,
    Defaults,
    DutyRule,
    EligibilityRule,
    Flag,
    OrderRule,
    OwnerDecision,
    PersonRecord,
    birthday,
    days_before,
    every_day_if,
    onward_at_most,
)
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder

NHS_NUMBER_DIGITS: Final = 10


class NhsRecord(PersonRecord):
    """One patient's image; ``restricted`` marks a record whose location must not be shown."""

    nhs_number: Annotated[str, StringConstraints(pattern=rf"^[0-9]{{{NHS_NUMBER_DIGITS}}}$")]
    restricted: Flag = False

    def incoherence(self, today: date) -> str | None:
        """An NHS number carries a check digit (NHS Data Model and Dictionary)."""
        digits = [int(digit) for digit in self.nhs_number]
        weighted = sum(d * w for d, w in zip(digits, range(NHS_NUMBER_DIGITS, 1, -1), strict=False))
        if (11 - weighted % 11) % 11 != digits[-1]:
            return "nhs_number: check digit is wrong"
        return super().incoherence(today)


AUTHORITIES: Final = MappingProxyType(
    {
        "caldicott": "The Caldicott Guardian's decision to disclose in the public interest",
        "court_order": "A judge's order for excluded material (PACE 1984 Sch 1) or another court's",
    }
)
_VITAL_PURPOSES: Final = frozenset({"missing_person", "unidentified_remains"})


def _child(record: NhsRecord) -> Days:
    return days_before(birthday(record.date_of_birth, ADULT_YEARS))


def _restricted(record: NhsRecord) -> Days:
    return every_day_if(record.restricted)


def _decided_or_vital(order: SearchOrder, decision: OwnerDecision | None) -> bool:
    why = order.justification
    vital = why.purpose in _VITAL_PURPOSES and why.schedule8_condition == "vital_interests"
    return vital or (decision is not None and decision.authority in AUTHORITIES)


def _identifiers(record: NhsRecord) -> Identifiers:
    # Of use only once an agreement lists candidates (3); a hit is never linked.
    return link_tokens.nhs_number(record.nhs_number) + record.name_born


NHS: Final = AgencyKind(
    name="nhs",
    title="NHS patient images",
    record=NhsRecord,
    eligibility=(
        EligibilityRule("nhs.child", "NHS guidance on sharing with the police", _child),
        EligibilityRule("nhs.restricted", "Common-law duty of confidence", _restricted),
    ),
    orders=(
        OrderRule(
            "nhs.caldicott-decision",
            "Common-law duty of confidence; PACE 1984 ss.11-12 and Sch 1",
            _decided_or_vital,
        ),
    ),
    duties=(
        DutyRule("nhs.no-onward", "Common-law duty of confidence", onward_at_most("prohibited")),
    ),
    defaults=Defaults(max_candidates=1, hit_no_hit=True, release_by_human=True),
    authorities=AUTHORITIES,
    identifiers=_identifiers,
)
