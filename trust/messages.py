"""The signed messages of one search as frozen domain models: order, grant, report, result.

Every organisation reads these same shapes; ``trust.wire`` turns exact payload bytes into them. The
models are where a stranger's input is first given a meaning, so each field says what it allows:
lengths and patterns for text, ranges for numbers, closed sets for states. A value outside them is
``ORDER_INVALID`` or ``OUTCOME_INVALID`` with the field's name, never its content.

Codes (purposes, ranks, seriousness, ...) are only checked for their form here; which of them exist
is the policy's business (``policy.codes``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from trust.commitment import matter_digest

SHA256_BYTES: Final = 32
MAX_AGENCIES: Final = 64
"""Most agencies one order may name: 45 custody galleries, six national ones, and room."""
MAX_CANDIDATES: Final = 100
"""Most candidates one agency may return for one search."""
MAX_RANKED: Final = MAX_AGENCIES * MAX_CANDIDATES
"""Most candidates in one result."""
MAX_LOG10_LR: Final = 30.0
"""No calibration's data support a stronger log10 likelihood ratio, either way."""
TOKEN_BYTES: Final = 16
"""Length of a link token."""
MAX_LINK_TOKENS: Final = 8
"""Most link tokens of one candidate: one for each kind of identifier, and room."""
MAX_REASON_CHARS: Final = 4000
"""Longest necessity or proportionality text, characters."""
MAX_CODES: Final = 32
"""Most codes in one list of codes."""
MAX_DIMS: Final = 4096
"""Most template dimensions."""
MAX_ORDER_LIFETIME: Final = timedelta(minutes=10)
"""Longest time between an order's making and its end."""
MAX_GRANT_LIFETIME: Final = timedelta(minutes=1)
"""Longest time between a grant's making and its end."""
MAX_TIMEOUT_MS: Final = 60_000
"""Longest time one agency may take, milliseconds."""

Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
OptionalCode = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_.-]{0,63})?$")]
MemberId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._:/ -]{0,127}$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
FreeText = Annotated[
    str, StringConstraints(max_length=MAX_REASON_CHARS, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")
]
ReasonCode = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,62}$|^$")]
ClauseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$")]
Label = Annotated[str, StringConstraints(max_length=128, pattern=r"^[\x20-\x7e]*$")]
Digest = Annotated[bytes, Field(min_length=SHA256_BYTES, max_length=SHA256_BYTES)]
OptionalDigest = Annotated[bytes, Field(max_length=SHA256_BYTES)]
Uuid = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
]


class Model(BaseModel):
    """A frozen model that knows all its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Encoding(StrEnum):
    """How a template's dimensions are encoded, little-endian."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class OutcomeState(StrEnum):
    """How an agency that was asked ended up (promise 5)."""

    PENDING = "pending"
    CANDIDATES = "candidates"
    NO_CANDIDATE = "no_candidate"
    DENIED = "denied"
    HELD = "held"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    NOT_ASKED = "not_asked"

    @property
    def searched(self) -> bool:
        """Whether the agency searched and said what came of it."""
        return self in _SEARCHED

    @property
    def is_answer(self) -> bool:
        """Whether the agency itself (or a decision) gave this, as opposed to nothing coming."""
        return self in _ANSWERS


_SEARCHED: Final = frozenset({OutcomeState.CANDIDATES, OutcomeState.NO_CANDIDATE})
_ANSWERS: Final = frozenset(
    {OutcomeState.CANDIDATES, OutcomeState.NO_CANDIDATE, OutcomeState.DENIED}
)
TO_BE_RELEASED: Final = "TO_BE_RELEASED"
"""The reason of a report that a person at the agency must release first."""
OWNER_REFUSED: Final = "OWNER_REFUSED"
"""The reason of a report whose release a person at the agency refused."""
HIT_ONLY: Final = "HIT_ONLY"
"""The reason of a report that says only that something is held (hit/no-hit mode)."""
_WITH_REASON: Final = frozenset({OutcomeState.DENIED, OutcomeState.HELD, OutcomeState.REJECTED})
REPORTABLE: Final = frozenset(
    {
        OutcomeState.CANDIDATES,
        OutcomeState.NO_CANDIDATE,
        OutcomeState.DENIED,
        OutcomeState.HELD,
        OutcomeState.REJECTED,
    }
)
"""The states an agency may state in a signed report."""


class Person(Model):
    """A person acting for a force, as its identity provider knows them."""

    id: Identifier
    role: OptionalCode = ""
    rank: OptionalCode = ""
    accreditation: OptionalCode = ""
    accreditation_expires: date | None = None


class Offence(Model):
    """An offence and its seriousness class."""

    code: Label = ""
    seriousness: OptionalCode = ""


class Justification(Model):
    """Why a search is lawful: codes to decide on, words to read."""

    purpose: Code
    legal_basis: Code
    schedule8_condition: OptionalCode = ""
    aim: OptionalCode = ""
    subject_category: OptionalCode = ""
    offence: Offence = Offence()
    case_reference: Identifier
    necessity: FreeText = ""
    proportionality: FreeText = ""
    tried_first: Annotated[tuple[Code, ...], Field(max_length=MAX_CODES)] = ()
    urgent: bool = False


class ProbeManifest(Model):
    """What the probe is; ``commitment`` binds the template without revealing it."""

    source: Code
    captured_at: AwareDatetime | None = None
    quality: Annotated[int, Field(ge=0, le=100)]
    edits: Annotated[tuple[Code, ...], Field(max_length=MAX_CODES)] = ()
    model: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    dims: Annotated[int, Field(ge=1, le=MAX_DIMS)]
    encoding: Encoding = Encoding.FLOAT32
    commitment: Digest


class Completeness(StrEnum):
    """How much of an answer is enough for the force that asks.

    It is only judged by: every agency is waited for until its deadline, and nothing is dropped.
    """

    ALL = "all"
    """A final answer of every agency in the order; a denial is one."""
    MIN_N = "min"
    """Candidates, or none, from at least so many agencies; a denial does not count."""
    BEST_EFFORT = "best-effort"
    """Whatever comes."""


class SearchLimits(Model):
    """The most a force wants back, and the least; scores in the matcher's own scale."""

    max_candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 20
    min_score: float | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] = 10_000
    completeness: Completeness = Completeness.BEST_EFFORT
    min_answers: Annotated[int, Field(ge=0, le=MAX_AGENCIES)] = 0
    """How many agencies are enough; with ``Completeness.MIN_N`` alone, and then at least 1."""

    @model_validator(mode="after")
    def _coherent(self) -> SearchLimits:
        if bool(self.min_answers) != (self.completeness is Completeness.MIN_N):
            raise ValueError("min_answers")
        return self

    def met_by(self, outcomes: Iterable[Outcome]) -> bool:
        """Whether how the agencies ended is what was asked for."""
        match self.completeness:
            case Completeness.ALL:
                return all(one.state.is_answer for one in outcomes)
            case Completeness.MIN_N:
                return sum(one.state.searched for one in outcomes) >= self.min_answers
            case Completeness.BEST_EFFORT:
                return True


class SearchOrder(Model):
    """What a force signs: one probe, one purpose, named people, named agencies."""

    request_id: Uuid
    force: MemberId
    officer: Person
    authoriser: Person
    authorised_at: AwareDatetime
    justification: Justification
    probe: ProbeManifest
    agencies: Annotated[tuple[MemberId, ...], Field(min_length=1, max_length=MAX_AGENCIES)]
    limits: SearchLimits = SearchLimits()
    created_at: AwareDatetime
    expires_at: AwareDatetime

    @model_validator(mode="after")
    def _coherent(self) -> SearchOrder:
        if len(set(self.agencies)) != len(self.agencies):
            raise ValueError("agencies")
        if self.limits.min_answers > len(self.agencies):
            raise ValueError("limits.min_answers")
        # A difference, for a sum may leave the calendar.
        if not timedelta() < self.expires_at - self.created_at <= MAX_ORDER_LIFETIME:
            raise ValueError("expires_at")
        return self

    @property
    def matter_sha256(self) -> bytes:
        """Which probe, in which case of which force, as a digest."""
        return matter_digest(self.force, self.justification.case_reference, self.probe.commitment)


class ProbePayload(Model):
    """What is sealed to an agency; never printed."""

    template: Annotated[bytes, Field(min_length=1, max_length=4 * MAX_DIMS, repr=False)]
    salt: Annotated[bytes, Field(min_length=SHA256_BYTES, max_length=SHA256_BYTES, repr=False)]


class Obligations(Model):
    """What an agreement requires of whoever carries out its permission."""

    max_candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)]
    min_score: float
    mode: OptionalCode = ""
    hit_no_hit: bool = False
    release_by_human: bool = False
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    caveats: Annotated[tuple[FreeText, ...], Field(max_length=MAX_CODES)] = ()


class Permit(Model):
    """The broker's permission for one agency."""

    agency: MemberId
    agreement_sha256: Digest
    obligations: Obligations


class SearchGrant(Model):
    """What a broker signs for one search; an agency without a permit in it has no grant."""

    search_id: Uuid
    order_sha256: Digest
    leaf_sha256: Digest
    policy_sha256: Digest
    permits: Annotated[tuple[Permit, ...], Field(min_length=1, max_length=MAX_AGENCIES)]
    issued_at: AwareDatetime
    expires_at: AwareDatetime

    def permit_for(self, agency: str) -> Permit | None:
        """Return the permit for ``agency``, or None: nothing listed, nothing permitted."""
        return next((permit for permit in self.permits if permit.agency == agency), None)


class ExpectedFalse(Model):
    """How many false candidates are expected at a score or above, with a 95 % interval."""

    expected: Annotated[float, Field(ge=0)]
    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _coherent(self) -> ExpectedFalse:
        if not self.low <= self.expected <= self.high:
            raise ValueError("expected")
        return self


class Candidate(Model):
    """One record that resembles the probe: an opaque reference, never a name.

    ``log10_lr`` and ``expected_false`` come together, or not at all where the score is raw.
    """

    reference: Reference
    score: float
    rank: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)]
    log10_lr: Annotated[float, Field(ge=-MAX_LOG10_LR, le=MAX_LOG10_LR)] | None = None
    expected_false: ExpectedFalse | None = None


class MatchReport(Model):
    """What an agency signs about one search."""

    search_id: Uuid
    agency: MemberId
    order_sha256: Digest
    grant_sha256: Digest
    state: OutcomeState
    reason: ReasonCode = ""
    failed_clauses: Annotated[tuple[ClauseId, ...], Field(max_length=256)] = ()
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=MAX_CANDIDATES)] = ()
    matcher: Label = ""
    calibration: Label = ""
    threshold: float = 0.0
    gallery_class: Label = ""
    gallery_generation: Annotated[int, Field(ge=0)] = 0
    exact: bool = False
    policy_sha256: OptionalDigest = b""
    agency_order_leaf_sha256: OptionalDigest = b""
    reported_at: AwareDatetime
    calibration_sha256: OptionalDigest = b""
    calibration_expires_at: AwareDatetime | None = None
    held_report_sha256: OptionalDigest = b""
    """The digest of the HELD report's payload that this one follows."""

    @model_validator(mode="after")
    def _coherent(self) -> MatchReport:
        if self.state not in REPORTABLE:
            raise ValueError("state")
        expected = self.state is OutcomeState.CANDIDATES and self.reason != HIT_ONLY
        if bool(self.candidates) != expected:
            raise ValueError("candidates")
        if not self.reason and self.state in _WITH_REASON:
            raise ValueError("reason")
        if [c.rank for c in self.candidates] != list(range(1, len(self.candidates) + 1)):
            raise ValueError("candidates.rank")
        scores = [c.score for c in self.candidates]
        if scores != sorted(scores, reverse=True):
            raise ValueError("candidates.score")
        if len({c.reference for c in self.candidates}) != len(self.candidates):
            raise ValueError("candidates.reference")
        calibrated = bool(self.calibration)
        if (self.calibration_expires_at is None) == calibrated or (
            bool(self.calibration_sha256) != calibrated
        ):
            raise ValueError("calibration")
        for candidate in self.candidates:
            if (candidate.log10_lr is not None) != calibrated or (
                (candidate.expected_false is not None) != calibrated
            ):
                raise ValueError("candidates.log10_lr")
        return self


class CandidateLink(Model):
    """The link tokens of one candidate of a report; they say nothing without the link key."""

    reference: Reference
    tokens: Annotated[
        tuple[Annotated[bytes, Field(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)], ...],
        Field(min_length=1, max_length=MAX_LINK_TOKENS, repr=False),
    ]


class CandidateLinks(Model):
    """What an agency signs beside a report, for the broker alone (``trust.link_tokens``)."""

    search_id: Uuid
    agency: MemberId
    report_sha256: Digest
    link_key_id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    candidates: Annotated[tuple[CandidateLink, ...], Field(max_length=MAX_CANDIDATES)]

    @model_validator(mode="after")
    def _coherent(self) -> CandidateLinks:
        if len({one.reference for one in self.candidates}) != len(self.candidates):
            raise ValueError("candidates.reference")
        if any(len(set(one.tokens)) != len(one.tokens) for one in self.candidates):
            raise ValueError("candidates.tokens")
        return self


class Outcome(Model):
    """How one agency ended, as the broker states it."""

    agency: MemberId
    state: OutcomeState
    reason: ReasonCode = ""
    failed_clauses: Annotated[tuple[ClauseId, ...], Field(max_length=256)] = ()
    decided_by: Annotated[str, StringConstraints(pattern=r"^(broker|agency)?$")] = ""
    report_sha256: OptionalDigest = b""
    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    late_at: AwareDatetime | None = None
    """When the answer came, where that was after the search had first ended."""
    erased_at: AwareDatetime | None = None
    """When what it found was erased, where its time was over before the rest of the search's."""


class RankedCandidate(Model):
    """One calibrated candidate in the ranking across agencies.

    Candidates with the same ``group`` are said by their agencies to be one person; 0 is no group.
    """

    agency: MemberId
    reference: Reference
    log10_lr: Annotated[float, Field(ge=-MAX_LOG10_LR, le=MAX_LOG10_LR)]
    expected_false: ExpectedFalse
    group: Annotated[int, Field(ge=0)] = 0


class LaneCandidate(Model):
    """One candidate whose score has no calibration."""

    reference: Reference
    score: float
    group: Annotated[int, Field(ge=0)] = 0


class Lane(Model):
    """One agency's candidates whose scores are in a scale of its matcher's own."""

    agency: MemberId
    matcher: Label
    candidates: Annotated[tuple[LaneCandidate, ...], Field(max_length=MAX_CANDIDATES)]


class SearchResult(Model):
    """What the broker signs at the end of a search."""

    search_id: Uuid
    order_sha256: Digest
    outcomes: Annotated[tuple[Outcome, ...], Field(max_length=MAX_AGENCIES)]
    complete: bool
    missing: tuple[MemberId, ...] = ()
    sufficient: bool
    """Whether what was asked for (``SearchLimits.completeness``) was reached."""
    finished_at: AwareDatetime
    ranking: Annotated[tuple[RankedCandidate, ...], Field(max_length=MAX_RANKED)] = ()
    lanes: Annotated[tuple[Lane, ...], Field(max_length=MAX_AGENCIES)] = ()
    revision: Annotated[int, Field(ge=0)] = 0
    replaces_sha256: OptionalDigest = b""
    first_finished_at: AwareDatetime | None = None
    """When the search first ended; None in the first result, whose ``finished_at`` says it."""

    @property
    def ended_at(self) -> datetime:
        """When the search first ended."""
        return self.first_finished_at or self.finished_at


class AnswerStatement(Model):
    """What an agency signs beside a report that it searched, without what it found."""

    search_id: Uuid
    agency: MemberId
    order_sha256: Digest
    answered_at: AwareDatetime
    matter_sha256: Digest
    """``SearchOrder.matter_sha256`` of the order that was answered."""


class UrgentConfirmation(Model):
    """What a force signs to confirm in writing a search that was made on the urgent route."""

    search_id: Uuid
    order_sha256: Digest
    force: MemberId
    confirmer: Person
    confirmed_at: AwareDatetime
    reasons: Annotated[FreeText, Field(min_length=1)]
