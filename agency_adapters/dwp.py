"""DWP customers' images: a named person only, and only by the data controller's decision.

1. Disclosure without lawful authority is an offence (SSAA 1992 s.123): a search needs the data
   controller's decision, recorded against the order's request id before the order comes.
2. The department answers about a person who is already named. An order that aims to identify an
   unknown face is denied, decision or not.
3. What is answered may go no further without consent (NCA Act 2013 Sch 7 para 3): an agreement that
   lets the recipient pass it on without is not answered under, and a person at the department
   releases every answer.
"""

from __future__ import annotations

from types import MappingProxyType
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
    OrderRule,
    OwnerDecision,
    PersonRecord,
    detail,
    every_day_if,
    onward_at_most,
)
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder


class DwpRecord(PersonRecord):
    """One customer's image; a specially protected account belongs to somebody at risk."""

    national_insurance_number: Annotated[
        str, StringConstraints(pattern=r"^[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]$")
    ]
    specially_protected: Flag = False


AUTHORITIES: Final = MappingProxyType(
    {"data_controller": "The data controller's decision to disclose about a named person"}
)


def _specially_protected(record: DwpRecord) -> Days:
    return every_day_if(record.specially_protected)


def _named_person(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    return order.justification.aim == "more_on_known"


def _controller_decided(_order: SearchOrder, decision: OwnerDecision | None) -> bool:
    return decision is not None and decision.authority in AUTHORITIES


def _identifiers(record: DwpRecord) -> Identifiers:
    return link_tokens.ni_number(record.national_insurance_number) + record.name_born


DWP: Final = AgencyKind(
    name="dwp",
    title="Department for Work and Pensions",
    record=DwpRecord,
    eligibility=(
        EligibilityRule(
            "dwp.specially-protected", "SSAA 1992 s.123; ECHR Art 2", _specially_protected
        ),
    ),
    orders=(
        OrderRule("dwp.named-person-only", "Hansard 1987, disclosure policy", _named_person),
        OrderRule("dwp.controller-decision", "SSAA 1992 s.123", _controller_decided),
    ),
    duties=(
        DutyRule(
            "dwp.onward-consent",
            "NCA Act 2013 Sch 7 para 3",
            onward_at_most("prohibited", "with_owner_consent"),
        ),
    ),
    details=(
        detail("reference", "record_id"),
        *NAMES,
        detail("date_of_birth"),
        detail("national_insurance_number"),
    ),
    defaults=Defaults(max_candidates=1, release_by_human=True),
    authorities=AUTHORITIES,
    identifiers=_identifiers,
)
