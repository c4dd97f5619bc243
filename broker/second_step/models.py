"""What the broker passes around of what follows a search: frozen, and free of gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.second_step.rules import Standing
from trust.dsse import Envelope
from trust.second_step import DisclosureRequest, Recall


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry of the search log with its ``.tlog-proof``."""

    proof: bytes
    leaf: bytes


@dataclass(frozen=True, slots=True)
class SignedByForce:
    """Something a force signed, with the token of the person who stands for it."""

    envelope: Envelope
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReviewsParams:
    """One reviewer's findings: an envelope for each agency, and the reviewer's token."""

    envelopes: tuple[Envelope, ...]
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DisclosureParams:
    """What a force sends to ask for the details of a record; the facts are opaque here."""

    envelope: Envelope
    sealed_key_id: str
    sealed_facts: bytes = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedImage:
    """One candidate's image, opaque to the broker (promise 2)."""

    reference: str
    sealed_key_id: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StatusView:
    """How the reviews of a search stand, with the entry that says so once they are settled."""

    search_id: str
    standing: Standing
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class KeptReview:
    """One agency's part of a sitting, as it is kept."""

    review_id: str
    agency: str
    number: int
    person: str
    sha256: bytes
    envelope: Envelope
    token: str = field(repr=False)
    leaf_index: int


@dataclass(frozen=True, slots=True)
class KeptRevocation:
    """A revocation of a reviewer, as it is kept."""

    person: str
    since_us: int
    sha256: bytes
    envelope: Envelope
    leaf_index: int
    reviews: int


class DisclosureState(StrEnum):
    """Where a request for disclosure stands."""

    RECORDED = "recorded"
    WAITING = "waiting"
    RELEASED = "released"
    REFUSED = "refused"
    LAPSED = "lapsed"

    @property
    def is_open(self) -> bool:
        """Whether something may still come of it."""
        return self in {DisclosureState.RECORDED, DisclosureState.WAITING}


@dataclass(frozen=True, slots=True)
class Disclosure:
    """A request for disclosure, as it is kept.

    Attributes:
        said: what the force signed, or none where that was erased.
        asked: how often its agency was asked since its state last changed.
        until: until when the agency is asked.
        sealed: the details, sealed to the force; empty before, and once past their end.
        withheld: why they did not go out when the force asked for them last, if they did not.
    """

    force: str
    request_id: str
    search_id: str
    agency: str
    reference: str
    created_at: datetime
    request_sha256: bytes
    said: DisclosureRequest | None
    envelope: Envelope | None
    sealed_key_id: str
    sealed_facts: bytes = field(repr=False)
    token: str = field(repr=False)
    state: DisclosureState
    reason: str
    leaf_index: int
    decide_by: datetime | None
    decision: Envelope | None
    sealed: bytes = field(repr=False)
    expires_at: datetime | None
    decision_index: int | None
    delivered: bool
    withheld: str
    asked: int
    until: datetime


@dataclass(frozen=True, slots=True)
class DisclosureView:
    """A request as its force reads it."""

    record: Disclosure
    withheld: str = ""
    """The reason for which released details do not go out."""
    sealed: bytes = field(default=b"", repr=False)
    receipt: Receipt | None = None
    decision_receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class KeptStatement:
    """Something a force signed about a candidate, as it is kept."""

    sha256: bytes
    leaf_index: int


@dataclass(frozen=True, slots=True)
class KeptRecall:
    """A recall, as it is kept."""

    force: str
    number: int
    said: Recall
    sha256: bytes
    envelope: Envelope
    leaf_index: int
    acknowledged_at: datetime | None
    acknowledgement_sha256: bytes | None
    acknowledgement_index: int | None


@dataclass(frozen=True, slots=True)
class RecallView:
    """A recall as its force reads it."""

    record: KeptRecall
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that an agency is still to be told."""

    agency: str
    sha256: bytes
    envelope: Envelope
    leaf_index: int
    asked: int
    until: datetime


@dataclass(frozen=True, slots=True)
class NumberedRecall:
    """A recall as an agency sends it, nothing of it checked."""

    number: int
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Released:
    """What an agency says became of a request, nothing of it checked."""

    decision: Envelope | None
    sealed: bytes = field(repr=False)
    decide_by: datetime | None
