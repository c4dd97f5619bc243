"""What passes between the adapter's wire, its command and its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from audit.evidence import NO_EVIDENCE, Evidence
from audit.witness import Acknowledged, ConsistencyProof
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
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
    """One request to match; nothing of it is checked.

    ``deadline`` is when the caller stops waiting, on the event loop's clock, seconds.
    """

    dossier: bytes
    sealed_key_id: str
    sealed_probe: bytes = field(repr=False)
    consistency: tuple[ConsistencyProof, ...] = ()
    evidence: Evidence = NO_EVIDENCE
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class MatchAnswer:
    """The signed report with this agency's own record of it.

    ``statement`` says that this agency searched and answered, and nothing of what it found; there
    is none where it did not. ``links`` are for the broker alone; there are none where nothing was
    listed or no identifier is held.
    """

    report: Envelope
    statement: Envelope | None
    acknowledged: Acknowledged
    agency_checkpoint: bytes
    agency_leaf_index: int
    links: Envelope | None = None


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """One candidate as the agency itself knows it."""

    reference: str
    record_id: str
    rank: int
    score: float
    erased: bool = False
    """Whether the record is being erased, or was, since it was listed (``erased``)."""
    identity: bytes | None = field(default=None, repr=False)
    """What the record is recognised by, as it was when it was listed (``identities``)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What waits for the agency's own people beside a report that says HELD.

    Attributes:
        withheld: the report that would have been made.
        broker: the member id of the broker that may collect the answer.
        order: the order, encoded, for the people who decide.
        needed: how many different people must release it.
        ask: whom they must have asked, such as a record's contributor.
        switches: the kill switches that forbid its release while they are off.
        decide_by: by when the agency is to decide.
    """

    withheld: MatchReport
    broker: str
    order: bytes = field(repr=False)
    needed: int
    ask: tuple[str, ...]
    switches: tuple[str, ...]
    decide_by: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """How a search ended here: the report, and the records behind it, which stay here."""

    report: MatchReport
    found: tuple[FoundRecord, ...] = ()
    hold: Hold | None = None
    links: Envelope | None = None


@dataclass(frozen=True, slots=True)
class StoredMatch:
    """An answer that was given before; ``said`` is what its report says, if that is at hand.

    ``report`` is none once what the answer found was erased.
    """

    order_sha256: bytes
    grant_sha256: bytes
    search_id: str
    report: Envelope | None
    leaf_index: int
    links: Envelope | None = None
    said: MatchReport | None = field(default=None, repr=False, compare=False)

    @property
    def there(self) -> Envelope:
        """The report.

        Raises:
            ProbegateError: ``RESULT_GONE`` if it was erased.
        """
        if self.report is None:
            raise ProbegateError(Reason.RESULT_GONE)
        return self.report


@dataclass(frozen=True, slots=True)
class CollectParams:
    """What a broker names an answer by; nothing of it is checked.

    ``order`` is the order's payload, where the answer itself is asked for as it was first given.
    """

    order_sha256: bytes
    grant_sha256: bytes
    order: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Collected:
    """What is handed over: an answer, or nothing while it waits for a person."""

    answer: MatchAnswer | None
    decide_by: datetime | None
    """By when the agency's people are to decide; None where there is nothing to decide."""


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
