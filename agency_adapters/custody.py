"""Custody images: one gallery per force, governed by PACE 1984 s.64A and the Custody Images Review.

What bars a record:

1. A deletion request bars it at once, while it is decided.
2. The 2017 Custody Images Review gives people who were not convicted, and above all those under 18
   when captured, deletion *on request* with a presumption in their favour; it deletes nothing by
   itself. An unconvicted minor is therefore counted in the statistics, and
   ``bar_unconvicted_minors`` takes such records out of the search where the force's own policy
   goes further, as RMC and FJ v MPS [2012] EWHC 1681 (Admin) gives it reason to.
3. A matter that is pending is nobody's acquittal: its image is searched, a minor's too.
4. A review date that has passed means that a review is owed, not that the image is unlawful to hold
   until it is done. It is counted as overdue, and ``bar_overdue_reviews`` takes it out.

What bars an order: a purpose that has nothing to do with crime, for which alone s.64A(4) lets these
photographs be used and disclosed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from agency_adapters.agency import (
    NAMES,
    AgencyKind,
    Days,
    EligibilityRule,
    OptionalIsoDate,
    OptionalPncId,
    OrderRule,
    OwnerDecision,
    PersonRecord,
    days_after,
    detail,
    every_day_if,
)
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder


class Disposal(StrEnum):
    """How the matter the person was detained for ended."""

    CONVICTED = "convicted"
    ACQUITTED = "acquitted"
    NO_FURTHER_ACTION = "no_further_action"
    PENDING = "pending"


class ImageSource(StrEnum):
    """What took the image."""

    CUSTODY_PHOTO = "custody_photo"
    MOBILE = "mobile"
    OTHER = "other"


class Deletion(StrEnum):
    """Whether the person has asked for deletion."""

    NONE = ""
    REQUESTED = "requested"


class CustodyRecord(PersonRecord):
    """One custody image."""

    disposal: Disposal
    image_source: ImageSource
    review_due: OptionalIsoDate = None
    deletion: Deletion = Deletion.NONE
    pnc_id: OptionalPncId = ""


_UNCONVICTED: Final = frozenset({Disposal.ACQUITTED, Disposal.NO_FURTHER_ACTION})


_NOT_CRIME: Final = frozenset(
    {"civil_penalty", "immigration_enforcement", "public_order_intelligence"}
)


def _deletion_requested(record: CustodyRecord) -> Days:
    return every_day_if(record.deletion is Deletion.REQUESTED)


def _unconvicted_minor(record: CustodyRecord) -> Days:
    return every_day_if(record.disposal in _UNCONVICTED and record.was_minor)


def _review_overdue(record: CustodyRecord) -> Days:
    return days_after(record.review_due)


def _related_to_crime(order: SearchOrder, _decision: OwnerDecision | None) -> bool:
    return order.justification.purpose not in _NOT_CRIME


def _identifiers(record: CustodyRecord) -> Identifiers:
    return link_tokens.pnc_id(record.pnc_id) + record.name_born


def _category(record: CustodyRecord) -> str:
    # Who was acquitted, or against whom nothing was done, is no suspect any more: none is stated.
    return {Disposal.CONVICTED: "convicted", Disposal.PENDING: "suspect"}.get(record.disposal, "")


CUSTODY: Final = AgencyKind(
    name="custody",
    title="Custody images",
    record=CustodyRecord,
    eligibility=(
        EligibilityRule(
            "custody.deletion-requested",
            "Custody Images Review 2017; DPA 2018 s.47",
            _deletion_requested,
        ),
        EligibilityRule(
            "custody.unconvicted-minor",
            "Custody Images Review 2017; RMC and FJ v MPS [2012] EWHC 1681 (Admin)",
            _unconvicted_minor,
            switch="bar_unconvicted_minors",
        ),
        EligibilityRule(
            "custody.review-overdue",
            "Custody Images Review 2017; DPA 2018 s.39(2)",
            _review_overdue,
            switch="bar_overdue_reviews",
        ),
    ),
    orders=(OrderRule("custody.related-to-crime", "PACE 1984 s.64A(4)", _related_to_crime),),
    details=(
        detail("reference", "record_id"),
        *NAMES,
        detail("date_of_birth"),
        detail("captured_at", "captured_on"),
        detail("disposal"),
        detail("image_source"),
        detail("pnc_id"),
    ),
    category=_category,
    identifiers=_identifiers,
)
