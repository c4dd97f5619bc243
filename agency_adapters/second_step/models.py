"""What passes between the wire, the commands and the store of the second step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from audit.evidence import LoggedEntry
from audit.witness import ConsistencyProof
from trust.dsse import Envelope


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry of the broker's log with what is to prove it; nothing of it is checked."""

    entry: LoggedEntry
    checkpoint: bytes
    consistency: tuple[ConsistencyProof, ...]


@dataclass(frozen=True, slots=True)
class ImagesParams:
    """A request for images; nothing of it is checked."""

    order: Envelope
    request: Envelope
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class SentImage:
    """One candidate's image as it is sent; without a key id there is none."""

    reference: str
    sealed_key_id: str = ""
    sealed_image: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ShownReview:
    """A review that a request stands on, with its reviewer's token and its place in the log."""

    review: Envelope
    reviewer_token: str = field(repr=False)
    entry: LoggedEntry


@dataclass(frozen=True, slots=True)
class ReleaseParams:
    """A request for disclosure; nothing of it is checked."""

    order: Envelope
    request: Envelope
    sealed_key_id: str
    sealed_facts: bytes = field(repr=False)
    requester_token: str = field(repr=False)
    reviews: tuple[ShownReview, ...]
    revocations: tuple[Envelope, ...]
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class ReleaseStanding:
    """How a request for disclosure stands; ``sealed`` only where it was released."""

    decision: Envelope | None
    sealed: bytes = field(repr=False)
    decide_by: datetime


@dataclass(frozen=True, slots=True)
class NoticeParams:
    """Something a force signed for the owner of a record; nothing of it is checked."""

    notice: Envelope
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class NumberedRecall:
    """A recall with its number for one broker."""

    number: int
    recall: Envelope
