"""Driving-licence photographs (invented authority): the worked example of ``docs/new-agency.md``.

The authority, its regulations and its handbook are invented; only the DPA 2018 is real.

1. The photograph of a licence that was surrendered may be searched for a year more, and no longer.
2. Drivers under 18 are not searched, nor is anybody who objected and whose objection stands.
3. A photograph is answered about for serious crime or a life at risk, not for a traffic offence.
4. Licences of the island registry are answered about only once that registry was asked.
5. Whoever receives an answer passes it on with the authority's consent, or not at all.
"""  # noqa: INP001 - an example of a module of somebody else's

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import StringConstraints

from agency_adapters.agency import (
    ADULT_YEARS,
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
    PersonRecord,
    ReleaseRule,
    birthday,
    days_after,
    days_before,
    detail,
    every_day_if,
    onward_at_most,
)
from trust.messages import SearchOrder

SEARCHED_AFTER_SURRENDER: Final = timedelta(days=365)
"""How long the photograph of a surrendered licence may still be searched."""


class Registry(StrEnum):
    """Who keeps the licence's record."""

    MAINLAND = "mainland"
    ISLAND = "island"


class LicenceRecord(PersonRecord):
    """One photograph of one driving licence."""

    licence_number: Annotated[str, StringConstraints(pattern=r"^[A-Z]{5}[0-9]{6}$")]
    registry: Registry
    surrendered_on: OptionalIsoDate = None
    objection: Flag = False


_GRAVE: Final = frozenset({"serious_crime", "threat_to_life", "national_security"})


def _surrendered(record: LicenceRecord) -> Days:
    on = record.surrendered_on
    return days_after(on + SEARCHED_AFTER_SURRENDER if on is not None else None)


def _under_18(record: LicenceRecord) -> Days:
    return days_before(birthday(record.date_of_birth, ADULT_YEARS))


def _objection(record: LicenceRecord) -> Days:
    return every_day_if(record.objection)


def _grave(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    why = order.justification
    return why.purpose == "protect_life" or why.offence.seriousness in _GRAVE


def _island_to_ask(record: LicenceRecord) -> str:
    return "island-registry" if record.registry is Registry.ISLAND else ""


DRIVING_LICENCES: Final = AgencyKind(
    name="driving_licences",
    title="Driving licences (invented)",
    record=LicenceRecord,
    eligibility=(
        EligibilityRule(
            "driving_licences.surrendered",
            "Driving Licences (Photographs) Regulations 2025 (invented) reg. 7",
            _surrendered,
        ),
        EligibilityRule(
            "driving_licences.under-18", "DPA 2018 s.35(5), strict necessity", _under_18
        ),
        EligibilityRule("driving_licences.objection", "DPA 2018 s.47", _objection),
    ),
    orders=(
        OrderRule(
            "driving_licences.grave",
            "Driving Licences (Photographs) Regulations 2025 (invented) reg. 4",
            _grave,
        ),
    ),
    duties=(
        DutyRule(
            "driving_licences.onward-consent",
            "Driving Licences (Photographs) Regulations 2025 (invented) reg. 9",
            onward_at_most("prohibited", "with_owner_consent"),
        ),
    ),
    release=(
        ReleaseRule(
            "driving_licences.island-registry", "Licensing handbook (invented) 3.2", _island_to_ask
        ),
    ),
    details=(
        detail("reference", "licence_number"),
        *NAMES,
        detail("date_of_birth"),
        detail("responsible_authority", "registry"),
        detail("captured_at", "captured_on"),
    ),
    defaults=Defaults(max_candidates=5),
)
