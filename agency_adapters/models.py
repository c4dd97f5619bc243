"""What passes between the adapter's wire, its command and its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from audit.evidence import NO_EVIDENCE, Evidence
from audit.witness import Acknowledged, ConsistencyProof
from trust.dsse import Envelope
from trust.messages import ExpectedFalse, MatchReport


@dataclass(frozen=True, slots=True)
class Dossier:
    """What the broker sent to prove its right to ask; nothing of it is checked."""

    order: Envelope
    grant: Envelope
    leaf: bytes
    leaf_index: int
    inclusion: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class MatchParams:
    """One request to match; nothing of it is checked."""

    dossier: bytes
    sealed_key_id: str
    sealed_probe: bytes = field(repr=False)
    consistency: tuple[ConsistencyProof, ...] = ()
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class MatchAnswer:
    """The signed report with this agency's own record of it.

    ``statement`` says that this agency searched and answered, and nothing of what it found; there
    is none where it did not.
    """

    report: Envelope
    statement: Envelope | None
    acknowledged: Acknowledged
    agency_checkpoint: bytes
    agency_leaf_index: int


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """One candidate as the agency itself knows it."""

    reference: str
    record_id: str
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Finding:
    """How a search ended here: the report, and the records behind it, which stay here."""

    report: MatchReport
    found: tuple[FoundRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredMatch:
    """An answer that was given before."""

    order_sha256: bytes
    grant_sha256: bytes
    search_id: str
    report: Envelope
    leaf_index: int


@dataclass(frozen=True, slots=True)
class ExpectedForQuality:
    """How many false candidates probes of one quality band are expected to yield.

    Attributes:
        quality_from: the band's lowest quality, 0 to 100.
        quality_to: its highest.
        at: thresholds, ascending, each with what is expected there.
    """

    quality_from: int
    quality_to: int
    at: tuple[tuple[float, ExpectedFalse], ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the agency states that it can match."""

    agency: str
    model: str
    dims: int
    matcher: str
    exact: bool
    gallery_class: str
    gallery_generation: int
    gallery_changed_at: datetime
    policy_sha256: bytes
    calibration: str = ""
    calibration_expires_at: datetime | None = None
    expected_false: tuple[ExpectedForQuality, ...] = ()
