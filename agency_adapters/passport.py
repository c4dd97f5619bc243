"""Passport images (HM Passport Office): holders' current and historic images.

No statute names this search; guidance asks for serious crime, national security or a life at risk,
the force's own galleries first, and two of the owner's reviewers before anything is released.

1. Children's passports are never searched, nor are those issued in error.
2. A lost, stolen, expired or cancelled passport is still its holder's image and is searched; its
   state is disclosed with it, for whoever shows that passport need not be its holder.
3. Historic images are searched as current ones are, and say that they are historic.
4. Where an answer is held for release, two different people of the owner's release it.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Final

from pydantic import StringConstraints

from agency_adapters.agency import (
    ADULT_YEARS,
    NAMES,
    AgencyKind,
    Days,
    Defaults,
    EligibilityRule,
    OptionalIsoDate,
    OrderRule,
    OwnerDecision,
    PersonRecord,
    birthday,
    days_before,
    detail,
    every_day_if,
)
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder


class PassportState(StrEnum):
    """How the passport stands."""

    VALID = "valid"
    EXPIRED = "expired"
    LOST = "lost"
    STOLEN = "stolen"
    CANCELLED = "cancelled"
    ISSUED_IN_ERROR = "issued_in_error"


class ImageAge(StrEnum):
    """Whether the image is the one in the newest passport."""

    CURRENT = "current"
    HISTORIC = "historic"


class PassportRecord(PersonRecord):
    """One image of one passport."""

    passport_number: Annotated[str, StringConstraints(pattern=r"^[0-9A-Z]{6,12}$")]
    state: PassportState
    image: ImageAge
    issued_on: OptionalIsoDate = None

    def incoherence(self, today: date) -> str | None:
        """A passport is issued with an image, not before it exists."""
        if self.issued_on is not None and self.issued_on < self.captured_on:
            return "issued_on: before captured_on"
        return super().incoherence(today)


_GRAVE: Final = frozenset(
    {"serious_crime", "threat_to_life", "national_security", "missing_at_risk"}
)
_GRAVE_PURPOSES: Final = frozenset({"national_security", "protect_life"})
_OWN_GALLERIES_FIRST: Final = frozenset({"own_custody", "pnd"})


def _child(record: PassportRecord) -> Days:
    return days_before(birthday(record.date_of_birth, ADULT_YEARS))


def _issued_in_error(record: PassportRecord) -> Days:
    return every_day_if(record.state is PassportState.ISSUED_IN_ERROR)


def _own_galleries_tried(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    why = order.justification
    return why.urgent or bool(_OWN_GALLERIES_FIRST & set(why.tried_first))


def _grave(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    why = order.justification
    return why.purpose in _GRAVE_PURPOSES or why.offence.seriousness in _GRAVE


def _identifiers(record: PassportRecord) -> Identifiers:
    return link_tokens.passport_number(record.passport_number) + record.name_born


PASSPORT: Final = AgencyKind(
    name="passport",
    title="HM Passport Office",
    record=PassportRecord,
    eligibility=(
        EligibilityRule("passport.child", "DPA 2018 s.35(5), strict necessity", _child),
        EligibilityRule("passport.issued-in-error", "DPA 2018 s.38(1)", _issued_in_error),
    ),
    orders=(
        OrderRule(
            "passport.own-galleries-first",
            "HM Passport Office staff guidance, September 2025",
            _own_galleries_tried,
        ),
        OrderRule("passport.grave", "HM Passport Office staff guidance, September 2025", _grave),
    ),
    details=(
        detail("reference", "record_id"),
        *NAMES,
        detail("date_of_birth"),
        detail("passport_number"),
        detail("document_state", "state"),
        detail("image_age", "image"),
        detail("issued_on"),
        detail("captured_at", "captured_on"),
    ),
    defaults=Defaults(max_candidates=20, owner_reviewers=2),
    identifiers=_identifiers,
)
