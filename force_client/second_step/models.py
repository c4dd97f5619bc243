"""What the second step hands about: what a broker said of it, and what was verified of that.

``Received...`` is what a broker said and nothing more. Nothing here prints an image, facts, details
or a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trust.dsse import Envelope
from trust.second_step import (
    Corroboration,
    Disclosure,
    DisclosureRequest,
    Opinion,
    Recall,
    ReleaseDecision,
)

TokenSource = str | Callable[[], str]
"""An identity token, or what gets a fresh one: a token lives five minutes, a sitting longer."""


def token_from(source: TokenSource) -> str:
    """Return a token."""
    return source if isinstance(source, str) else source()


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry of the broker's log with its proof; nothing is verified yet."""

    proof: bytes
    leaf: bytes


@dataclass(frozen=True, slots=True)
class ReceivedImage:
    """One candidate's sealed image as the broker sent it."""

    reference: str
    key_id: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CandidateStanding:
    """What reviewers together make of one candidate."""

    agency: str
    reference: str
    opinion: Opinion
    review_sha256s: tuple[bytes, ...] = ()
    """The counted reviews of this agency's candidates."""


@dataclass(frozen=True, slots=True)
class ReviewStatus:
    """How the reviews of a search stand; no opinion shows while any are still needed."""

    search_id: str
    reviews: int
    """How many people's reviews count."""
    needed: int
    """How many people must review at least."""
    open: bool
    """Whether another person must review."""
    disagreement: bool
    candidates: tuple[CandidateStanding, ...] = ()
    stop_use: frozenset[tuple[str, str]] = frozenset()
    """Agency and reference of the candidates that are marked here as recalled."""

    def standing(self, agency: str, reference: str) -> CandidateStanding | None:
        """Return what came of one candidate, None while that is open."""
        for one in self.candidates:
            if (one.agency, one.reference) == (agency, reference):
                return one
        return None


@dataclass(frozen=True, slots=True)
class SealedFacts:
    """The facts of a request, which only the agency can open."""

    key_id: str
    ciphertext: bytes = field(repr=False)


class DisclosureState(StrEnum):
    """Where a request for disclosure stands."""

    RECORDED = "recorded"
    WAITING = "waiting"
    RELEASED = "released"
    REFUSED = "refused"
    LAPSED = "lapsed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self not in {DisclosureState.RECORDED, DisclosureState.WAITING}


@dataclass(frozen=True, slots=True)
class ReceivedDisclosure:
    """One request for disclosure as the broker has it."""

    request_id: str
    search_id: str
    agency: str
    reference: str
    state: DisclosureState
    reason: str
    created_at: datetime
    decide_by: datetime | None
    decision: Envelope | None
    sealed: bytes = field(repr=False)
    receipt: Receipt | None = None
    decision_receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class DisclosureSummary:
    """A request for disclosure in a list, as the broker says it stands; nothing is verified."""

    request_id: str
    search_id: str
    agency: str
    reference: str
    state: DisclosureState
    reason: str
    created_at: datetime
    decide_by: datetime | None


@dataclass(frozen=True, slots=True)
class DisclosureView:
    """How a request of this force stands, verified."""

    request: DisclosureRequest
    state: DisclosureState
    reason: str
    """Why it was refused, whoever refused it; or why released details are withheld."""
    created_at: datetime
    decide_by: datetime | None
    decision: ReleaseDecision | None
    received: ReceivedDisclosure = field(repr=False)
    stop_use: bool = False
    """Whether the candidate is marked here as recalled."""

    @property
    def request_id(self) -> str:
        """The force's id of the request."""
        return self.request.request_id

    @property
    def withheld(self) -> bool:
        """Whether details were released and cannot be opened now, by the broker or by a mark."""
        return self.state is DisclosureState.RELEASED and bool(self.stop_use or self.reason)


@dataclass(frozen=True, slots=True)
class OpenedDisclosure:
    """The details of a record as its owner signed them; never printed."""

    request_id: str
    details: Disclosure = field(repr=False)
    signed: Envelope = field(repr=False)
    """As the agency signed them."""
    asked_for: str
    """The offence that they were asked for."""


@dataclass(frozen=True, slots=True)
class ReceivedRecall:
    """A recall as the broker sent it."""

    number: int
    recall: Envelope
    acknowledged_at: datetime | None
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class RecallView:
    """A verified recall; its candidate is marked here and is used no more."""

    number: int
    recall: Recall
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class RecordedCorroboration:
    """Evidence that this force recorded, with the broker's verified receipt."""

    corroboration: Corroboration
    receipt: Receipt
