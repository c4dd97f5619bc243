"""Asylum applicants' images (Home Office): applicants and their dependants.

1. Purpose lock: a search made to enforce immigration control is denied whatever an agreement says,
   so that a victim or witness who comes forward is not put at risk by it.
2. The victim, witness or missing person is not searched for here except to protect life or to
   safeguard: being in this gallery is itself dangerous to disclose.
3. Records under protection are never searched.
4. Nothing from here goes to a third country, from whom the applicant may have fled: an agreement
   that lets the recipient pass answers on without asking first is not answered under.
5. A person releases every answer: that somebody is in this gallery is itself dangerous to disclose.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import StringConstraints

from agency_adapters.agency import (
    NAMES,
    AgencyKind,
    Days,
    Defaults,
    DutyRule,
    EligibilityRule,
    Flag,
    OptionalIsoDate,
    OrderRule,
    OwnerDecision,
    Record,
    detail,
    every_day_if,
    onward_at_most,
)
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder


class Standing(StrEnum):
    """Whose image it is."""

    APPLICANT = "applicant"
    DEPENDANT = "dependant"


class ApplicationStatus(StrEnum):
    """How the application stands."""

    PENDING = "pending"
    GRANTED = "granted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class AsylumRecord(Record):
    """One image from one application; a date of birth is often only claimed, or unknown."""

    application_reference: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/-]{1,32}$")]
    standing: Standing
    status: ApplicationStatus
    claimed_date_of_birth: OptionalIsoDate = None
    protected: Flag = False
    passport_number: Annotated[str, StringConstraints(pattern=r"^([0-9A-Z]{6,12})?$")] = ""


_LOCKED_OUT: Final = frozenset(
    {"immigration_enforcement", "public_order_intelligence", "civil_penalty"}
)
_AT_RISK: Final = frozenset({"victim", "witness", "missing_person"})
_TO_PROTECT: Final = frozenset({"protect_life", "safeguarding", "missing_person"})


def _protected(record: AsylumRecord) -> Days:
    return every_day_if(record.protected)


def _purpose_allowed(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    return order.justification.purpose not in _LOCKED_OUT


def _people_at_risk_only_to_protect(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    why = order.justification
    return why.subject_category not in _AT_RISK or why.purpose in _TO_PROTECT


def _identifiers(record: AsylumRecord) -> Identifiers:
    # The application's reference is nobody else's, and so no identifier.
    return link_tokens.passport_number(record.passport_number) + link_tokens.name_born(
        record.given_names, record.family_name, record.claimed_date_of_birth
    )


ASYLUM: Final = AgencyKind(
    name="asylum",
    title="Home Office asylum applications",
    record=AsylumRecord,
    eligibility=(EligibilityRule("asylum.protected", "ECHR Art 3; DPA 2018 s.35(5)", _protected),),
    orders=(
        OrderRule("asylum.purpose-lock", "Immigration and Asylum Act 1999 s.21", _purpose_allowed),
        OrderRule("asylum.people-at-risk", "ECHR Art 2 and 3", _people_at_risk_only_to_protect),
    ),
    duties=(
        DutyRule(
            "asylum.no-third-country",
            "ECHR Art 3; DPA 2018 ss.72-78",
            onward_at_most("prohibited", "with_owner_consent"),
        ),
    ),
    details=(
        detail("reference", "application_reference"),
        *NAMES,
        detail("claimed_date_of_birth"),
        detail("applicant_standing", "standing"),
        detail("application_status", "status"),
        detail("passport_number"),
        detail("captured_at", "captured_on"),
    ),
    defaults=Defaults(max_candidates=10, release_by_human=True),
    identifiers=_identifiers,
)
