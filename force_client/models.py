"""What a force's system holds in its hands: drafts, searches as they arrived, and verified views.

``ReceivedSearch`` and ``ReceivedAnswer`` are what a broker said and nothing more. Only
``force_client.verify`` turns them into a ``SearchView``, the type that people are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from force_client.settings import DEFAULT_ORDER_LIFETIME
from trust.dsse import Envelope
from trust.messages import (
    MAX_AGENCIES,
    MAX_CODES,
    Code,
    ExpectedFalse,
    Justification,
    MatchReport,
    MemberId,
    Model,
    Obligations,
    Outcome,
    OutcomeState,
    Person,
    SearchLimits,
)
from trust.wire import decode_result


class SearchState(StrEnum):
    """Where a search stands."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self is not SearchState.RUNNING


class ProbeFacts(Model):
    """What the force knows of the image the probe came from."""

    source: Code
    quality: Annotated[int, Field(ge=0, le=100)]
    captured_at: AwareDatetime | None = None
    edits: Annotated[tuple[Code, ...], Field(max_length=MAX_CODES)] = ()


class OrderDraft(Model):
    """The facts of a search before it has an id, a probe, a time or a signature."""

    officer: Person
    authoriser: Person
    authorised_at: AwareDatetime | None = None
    """When the authority was given; by default when the order is made."""
    justification: Justification
    probe: ProbeFacts
    agencies: Annotated[tuple[MemberId, ...], Field(min_length=1, max_length=MAX_AGENCIES)]
    limits: SearchLimits = SearchLimits()
    lifetime: timedelta = DEFAULT_ORDER_LIFETIME


@dataclass(frozen=True, slots=True)
class SealedProbe:
    """A probe that only one agency can open."""

    agency: str
    key_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class ClauseVerdict:
    """The verdict on one clause: satisfied, violated or indeterminate."""

    agreement: str
    clause: str
    citation: str
    attribute: str
    operator: str
    required: str
    actual: str
    verdict: str
    waived: bool = False
    """Whether the urgent route did not ask for it."""

    @property
    def met(self) -> bool:
        """Whether the clause is satisfied; indeterminate is not."""
        return self.verdict == "satisfied"


@dataclass(frozen=True, slots=True)
class AgencyDecision:
    """What the broker decided for one agency."""

    agency: str
    permitted: bool
    code: str
    failed_clauses: tuple[str, ...] = ()
    agreement: str = ""
    clauses: tuple[ClauseVerdict, ...] = ()
    obligations: Obligations | None = None
    waived: tuple[str, ...] = ()
    """What the urgent route waived."""
    confirm_by: datetime | None = None
    """Until when that must be confirmed in writing (``confirm_urgent``)."""
    confirmer_rank: str = ""
    """The lowest rank that may confirm it."""
    expected_false: ExpectedFalse | None = None
    """In a preview: how many false candidates the agency expects to return, if it states it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision for each agency with a paragraph for people, and the bundle decided under."""

    decisions: tuple[AgencyDecision, ...]
    prose: tuple[str, ...]
    policy_sha256: bytes
    warnings: tuple[str, ...] = ()
    """Signs that the reasons are boilerplate, such as ``necessity.short``."""
    expected_false: ExpectedFalse | None = None
    """In a preview: how many false candidates are expected of all permitted agencies together, as
    far as they state it. The ends of the interval are added too, which is on the safe side."""
    without_expectation: tuple[str, ...] = ()
    """In a preview: the permitted agencies that state none."""


@dataclass(frozen=True, slots=True)
class ReceivedAnswer:
    """One agency's outcome as the broker sent it; nothing is verified."""

    outcome: Outcome
    report: Envelope | None = None
    agency_checkpoint: bytes = b""


@dataclass(frozen=True, slots=True)
class ReceivedSearch:
    """A search as the broker sent it; nothing is verified."""

    search_id: str
    request_id: str
    state: SearchState
    created_at: datetime
    decisions: tuple[AgencyDecision, ...] = ()
    answers: tuple[ReceivedAnswer, ...] = ()
    result: Envelope | None = None
    receipt: bytes = b""
    receipt_leaf: bytes = b""
    warnings: tuple[str, ...] = ()
    confirmed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """A search in a list."""

    search_id: str
    request_id: str
    state: SearchState
    created_at: datetime
    agencies: int


@dataclass(frozen=True, slots=True)
class LanedCandidate:
    """A candidate with the agency it came from, in the ranking or in its agency's own lane."""

    agency: str
    reference: str
    score: float
    rank: int
    """The place in the agency's own list, from 1."""
    lane: str = ""
    """The agency whose raw scores alone it may be compared with; empty for what is ranked."""
    log10_lr: float | None = None
    """How strong the evidence is, as log10 of a likelihood ratio; None for a raw score."""
    expected_false: ExpectedFalse | None = None
    """How many people who are not the one sought would be expected to score as high."""
    group: int = 0
    """Candidates of one number are one person, their agencies say; 0 is no group."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The candidates of one agency whose scores have no calibration that counts.

    Lanes are never ranked against each other or against the ranking (promise 7).
    """

    agency: str
    matcher: str
    candidates: tuple[LanedCandidate, ...]


@dataclass(frozen=True, slots=True)
class PersonGroup:
    """Candidates whose agencies say that they are one person.

    ``log10_lr`` is that of its strongest candidate, None if none is calibrated. Evidence within a
    group is never multiplied: that several agencies hold a person says that they enrolled them.
    """

    number: int
    candidates: tuple[LanedCandidate, ...]
    log10_lr: float | None


@dataclass(frozen=True, slots=True)
class AgencyOutcome:
    """How one agency ended, with what its own signed report says."""

    agency: str
    state: OutcomeState
    reason: str = ""
    failed_clauses: tuple[str, ...] = ()
    decided_by: str = ""
    latency_ms: float = 0.0
    candidates: tuple[LanedCandidate, ...] = ()
    matcher: str = ""
    calibration: str = ""
    threshold: float | None = None
    gallery_class: str = ""
    exact: bool = False
    report: MatchReport | None = None
    released: bool = False
    """Whether the agency had held it and its people decided since."""
    late_at: datetime | None = None
    """When it came, where that was after the search had first ended."""
    erased_at: datetime | None = None
    """When what was found was erased, because the agency's agreement lets nobody keep it longer."""


@dataclass(frozen=True, slots=True)
class SearchView:
    """A search that may be relied on as far as ``verified`` says.

    While it runs, ``verified`` is false and ``outcomes`` holds what has come, each report already
    checked under its agency's key. Once it has ended, ``verified`` is true: everything in it was
    checked, or ``RESULT_INVALID`` was raised instead.
    """

    search_id: str
    request_id: str
    state: SearchState
    order_sha256: bytes
    decisions: tuple[AgencyDecision, ...]
    outcomes: tuple[AgencyOutcome, ...]
    ranking: tuple[LanedCandidate, ...]
    """The calibrated candidates of all agencies, the strongest evidence first."""
    lanes: tuple[Lane, ...]
    complete: bool
    missing: tuple[str, ...]
    sufficient: bool
    """Whether what ``limits.completeness`` asks for was reached; never before the end."""
    limits: SearchLimits
    verified: bool
    receipt: str
    receipt_leaf: bytes
    received: ReceivedSearch
    stop_use: frozenset[tuple[str, str]] = frozenset()
    """Agency and reference of what was recalled and must not be used (``ForceClient.recalls``)."""

    @property
    def revision(self) -> int:
        """How often it was stated anew, because an answer came after its end or was erased."""
        result = self.received.result
        return decode_result(result.payload).revision if result is not None else 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Signs that the reasons are boilerplate, as the broker saw them."""
        return self.received.warnings

    @property
    def confirm_by(self) -> datetime | None:
        """Until when its urgent route must still be confirmed in writing; None if it need not."""
        deadlines = [one.confirm_by for one in self.decisions if one.confirm_by is not None]
        return min(deadlines) if deadlines and self.received.confirmed_at is None else None

    @property
    def candidates(self) -> tuple[LanedCandidate, ...]:
        """The ranking, then lane by lane; the order between those means nothing."""
        return (*self.ranking, *(one for lane in self.lanes for one in lane.candidates))

    @property
    def groups(self) -> tuple[PersonGroup, ...]:
        """The groups, by number."""
        numbers = sorted({one.group for one in self.candidates if one.group})
        made = []
        for number in numbers:
            members = tuple(one for one in self.candidates if one.group == number)
            known = [one.log10_lr for one in members if one.log10_lr is not None]
            made.append(PersonGroup(number, members, max(known, default=None)))
        return tuple(made)

    @property
    def all_denied(self) -> bool:
        """Whether every agency was denied."""
        return all(outcome.state is OutcomeState.DENIED for outcome in self.outcomes)
