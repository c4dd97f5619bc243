"""Police National Database images: contributed by forces, each still its contributor's to release.

What bars a record: a contributor's withdrawal, handling conditions that keep it from being searched
by others, being a victim's or a witness's, and the end of its retention under the Police
Information and Records Management Code 2023.

What bars an order: a purpose that is not policing's.

What holds an answer: a record in it whose contributor is to be asked. The contributor stays its
owner for release, so a person at the PND asks them, and names them with the release.
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
    EligibilityRule,
    Flag,
    IsoDate,
    OptionalIsoDate,
    OptionalPncId,
    OrderRule,
    OwnerDecision,
    Record,
    ReleaseRule,
    days_after,
    detail,
    every_day_if,
)
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder
from trust.second_step import Nature


class Handling(StrEnum):
    """The contributor's handling condition."""

    OPEN = "open"
    ASK_CONTRIBUTOR = "ask_contributor"
    CONTRIBUTOR_ONLY = "contributor_only"


class PndImageSource(StrEnum):
    """Where the contributor's image came from."""

    CUSTODY = "custody"
    INTELLIGENCE = "intelligence"
    VICTIM_OR_WITNESS = "victim_or_witness"
    MISSING_PERSON = "missing_person"


class PndRecord(Record):
    """One contributed image; the date of birth is often not known."""

    contributor: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    contributor_reference: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9./-]{1,64}$")]
    handling: Handling
    image_source: PndImageSource
    date_of_birth: OptionalIsoDate = None
    retain_until: IsoDate
    withdrawn: Flag = False
    pnc_id: OptionalPncId = ""


_NOT_POLICING: Final = frozenset({"civil_penalty", "immigration_enforcement"})


def _withdrawn(record: PndRecord) -> Days:
    return every_day_if(record.withdrawn)


def _contributor_only(record: PndRecord) -> Days:
    return every_day_if(record.handling is Handling.CONTRIBUTOR_ONLY)


def _victim_or_witness(record: PndRecord) -> Days:
    return every_day_if(record.image_source is PndImageSource.VICTIM_OR_WITNESS)


def _retention_ended(record: PndRecord) -> Days:
    return days_after(record.retain_until)


def _policing_purpose(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    return order.justification.purpose not in _NOT_POLICING


def _contributor_to_ask(record: PndRecord) -> str:
    return record.contributor if record.handling is Handling.ASK_CONTRIBUTOR else ""


def _identifiers(record: PndRecord) -> Identifiers:
    # The contributor's own reference is nobody else's, and so no identifier.
    return link_tokens.pnc_id(record.pnc_id) + link_tokens.name_born(
        record.given_names, record.family_name, record.date_of_birth
    )


def _category(record: PndRecord) -> str:
    # Where a custody or an intelligence image comes from does not say how its matter ended.
    missing = record.image_source is PndImageSource.MISSING_PERSON
    return "missing_person" if missing else ""


PND: Final = AgencyKind(
    name="pnd",
    title="Police National Database",
    record=PndRecord,
    eligibility=(
        EligibilityRule("pnd.withdrawn", "PND Code of Practice 2010", _withdrawn),
        EligibilityRule("pnd.contributor-only", "PND Code of Practice 2010", _contributor_only),
        EligibilityRule("pnd.victim-or-witness", "DPA 2018 s.38(3)", _victim_or_witness),
        EligibilityRule(
            "pnd.retention-ended",
            "Police Information and Records Management Code 2023; DPA 2018 s.39",
            _retention_ended,
        ),
    ),
    orders=(OrderRule("pnd.policing-purpose", "PND Code of Practice 2010", _policing_purpose),),
    release=(ReleaseRule("pnd.ask-contributor", "PND Code of Practice 2010", _contributor_to_ask),),
    details=(
        detail("reference", "contributor_reference"),
        *NAMES,
        detail("date_of_birth"),
        detail("captured_at", "captured_on"),
        detail("responsible_authority", "contributor"),
        # How its contributor would have it handled is the contributor's judgement.
        detail("handling", nature=Nature.ASSESSMENT),
        detail("image_source"),
        detail("pnc_id"),
    ),
    category=_category,
    defaults=Defaults(max_candidates=50),
    identifiers=_identifiers,
)
