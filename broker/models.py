"""What the broker's core passes around: frozen, and free of gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from policy.decision import Decision
from policy.ledger import Subjects
from policy.standing import Standing
from trust.dsse import Envelope
from trust.messages import (
    CandidateLinks,
    ExpectedFalse,
    MatchReport,
    Obligations,
    Outcome,
    SearchOrder,
)


class SearchState(StrEnum):
    """Where a search stands."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What an adapter remembers of the broker's log: a size, and sizes it wants proved on."""

    newest_size: int = 0
    debts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedProbe:
    """A probe that only one agency can open; opaque to the broker (promise 2)."""

    agency: str
    key_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class CreateParams:
    """What a force sent to have a search made."""

    order: Envelope
    probes: tuple[SealedProbe, ...]
    officer_token: str
    authoriser_token: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class ConfirmParams:
    """What a force sent to confirm an urgent search."""

    confirmation: Envelope
    confirmer_token: str


@dataclass(frozen=True, slots=True)
class KeptConfirmation:
    """A confirmation that is on the log."""

    envelope: Envelope
    leaf_index: int
    at: datetime


@dataclass(frozen=True, slots=True)
class AdmittedOrder:
    """An order whose signature, people and freshness were checked."""

    order: SearchOrder
    envelope: Envelope
    sha256: bytes
    probes: tuple[SealedProbe, ...]
    admitted_at: datetime


@dataclass(frozen=True, slots=True)
class AgencyDecision:
    """What was decided for one agency; kept as long as the search is."""

    agency: str
    permitted: bool
    code: str
    failed_clauses: tuple[str, ...]
    agreement: str
    agreement_sha256: bytes
    obligations: Obligations | None
    waived: tuple[str, ...] = ()
    """What the urgent route waived; such a permission must be confirmed."""
    confirm_by: datetime | None = None
    confirmer_rank: str = ""
    expected_false: ExpectedFalse | None = None
    """In a preview, what the agency expects at the threshold that would apply; not kept."""
    full: Decision | None = None
    """Every clause, for a preview or an explanation; not kept."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an order asks about: as the ledger knows it, and the digest of its probe and case."""

    subjects: Subjects
    matter_sha256: bytes


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was decided on an order, and everything it was decided on besides the order itself."""

    decisions: tuple[AgencyDecision, ...]
    policy_sha256: bytes
    asked: Asked
    standing: Standing
    warnings: tuple[str, ...]

    @property
    def permitted(self) -> tuple[str, ...]:
        """The agencies that may be asked."""
        return tuple(decision.agency for decision in self.decisions if decision.permitted)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be decided, and how many false candidates are expected."""

    ruling: Ruling
    expected_false: ExpectedFalse | None
    without_expectation: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """What an agency says of itself; the capabilities are not checked."""

    acknowledged: Acknowledged
    capabilities: Envelope | None


@dataclass(frozen=True, slots=True)
class AgencyReply:
    """What came back over the wire from an agency, nothing of it checked."""

    report: Envelope
    acknowledged: Acknowledged
    agency_checkpoint: bytes
    statement: Envelope | None = None
    links: Envelope | None = None


@dataclass(frozen=True, slots=True)
class AgencyAnswer:
    """An agency's outcome with the evidence for it."""

    outcome: Outcome
    report: Envelope | None = None
    agency_checkpoint: bytes = b""
    acknowledged: Acknowledged | None = None
    statement: Envelope | None = None
    """The agency's signed word that it searched, to be shown to other agencies; not checked."""
    asked_under: bytes = field(default=b"", compare=False)
    """The digest of the grant it was asked under, where no answer came and one may have been given
    after we stopped waiting; not kept with the answer, but with what is to be asked for."""
    said: MatchReport | None = field(default=None, compare=False, repr=False)
    """What the report says, where it was decoded in this process."""
    links: CandidateLinks | None = field(default=None, repr=False)
    """Verified link tokens. They never leave the broker: no message to a force has a place."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The end of a search that a later one replaces."""

    revision: int
    result_sha256: bytes
    leaf_index: int
    finished_at: datetime
    ended_at: datetime
    """When the search first ended."""


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """A search as it is kept."""

    search_id: str
    request_id: str
    force: str
    order_sha256: bytes
    state: SearchState
    created_at: datetime
    decisions: tuple[AgencyDecision, ...]
    agencies: int
    answers: tuple[AgencyAnswer, ...] = ()
    result: Envelope | None = None
    result_leaf_index: int | None = None
    order_index: int = -1
    """Where in the log its order is recorded."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """A search as it shows in a list."""

    search_id: str
    request_id: str
    state: SearchState
    created_at: datetime
    agencies: int


@dataclass(frozen=True, slots=True)
class SearchView:
    """A search as a force reads it: the record and, once ended, its proof."""

    record: SearchRecord
    receipt: bytes = b""
    receipt_leaf: bytes = b""
    confirmed_at: datetime | None = None
    """When its urgent route was confirmed."""
