"""The signed messages of the second step: review, images, disclosure, release, recall.

They follow a search that listed candidates (steps 10 and 11 of the architecture). As in
``trust.messages`` the models are where a stranger's input is first given a meaning; ``trust.wire``
turns exact payload bytes into them.

Who signs what: the force its reviews, requests, reports of wrong matches, acknowledgements,
revocations and corroborations; the agency images, decisions, details and recalls. Images and
details are signed first and sealed then, so that nobody can seal a false one to a force's public
key; the facts of a request are sealed to the agency, so that the broker does not read them.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from trust.messages import (
    MAX_CANDIDATES,
    MAX_CODES,
    SHA256_BYTES,
    Code,
    Digest,
    FreeText,
    MemberId,
    Model,
    Offence,
    OptionalCode,
    OptionalDigest,
    Person,
    ReasonCode,
    Reference,
    Uuid,
)

MAX_REVIEWS: Final = 11
"""Most reviews of one candidate: the most an agreement may ask for, and one to settle."""
MAX_SECONDS_ON_TASK: Final = 86_400
"""Longest time at one candidate, seconds."""
MAX_IMAGE_BYTES: Final = 512 * 1024
"""Largest image of a candidate, bytes."""
MAX_FIELD_CHARS: Final = 500
"""Longest value of a disclosed field, characters."""
MAX_REQUEST_LIFETIME: Final = timedelta(minutes=10)
"""Longest time between the making of a request for disclosure and its end."""
MAX_FACTS_CHARS: Final = 8000
"""Longest description of the facts, characters."""
NO_CONTROLS: Final = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"

Words = Annotated[FreeText, Field(min_length=1)]
Facts = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_FACTS_CHARS, pattern=NO_CONTROLS),
]
MediaType = Literal["image/jpeg", "image/png"]


class Opinion(StrEnum):
    """What a person who compared two faces makes of them; nobody is identified by it."""

    POTENTIAL_CANDIDATE = "potential_candidate"
    NO_CANDIDATE = "no_candidate"
    INCONCLUSIVE = "inconclusive"


class Finding(Model):
    """One reviewer's finding on one candidate."""

    reference: Reference
    opinion: Opinion
    reasons: Words
    disconfirming: FreeText = ""
    side_by_side: bool = False
    seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS_ON_TASK)]
    shown: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _compared(self) -> Finding:
        # Who did not see both images has compared nothing (DPA 2018 s.50A: meaningful involvement).
        if self.opinion is not Opinion.INCONCLUSIVE and not self.side_by_side:
            raise ValueError("side_by_side")
        return self


class Review(Model):
    """What one reviewer found of one agency's candidates; the force signs one for each agency."""

    review_id: Uuid
    search_id: Uuid
    order_sha256: Digest
    force: MemberId
    agency: MemberId
    report_sha256: Digest
    reviewer: Person
    findings: Annotated[tuple[Finding, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]
    started_at: AwareDatetime
    finished_at: AwareDatetime

    @model_validator(mode="after")
    def _coherent(self) -> Review:
        if len({one.reference for one in self.findings}) != len(self.findings):
            raise ValueError("findings.reference")
        if len({one.shown for one in self.findings}) != len(self.findings):
            raise ValueError("findings.shown")
        if self.finished_at < self.started_at:
            raise ValueError("finished_at")
        sitting = (self.finished_at - self.started_at).total_seconds()
        # Whole seconds are rounded, each by at most one.
        if sum(one.seconds for one in self.findings) > sitting + len(self.findings):
            raise ValueError("findings.seconds")
        return self

    def opinion_on(self, reference: str) -> Opinion | None:
        """Return the reviewer's opinion on a candidate, or None if it is not among the findings."""
        return next((f.opinion for f in self.findings if f.reference == reference), None)


class ImageRequest(Model):
    """What a force signs to have candidates' images sent."""

    request_id: Uuid
    search_id: Uuid
    order_sha256: Digest
    force: MemberId
    agency: MemberId
    references: Annotated[tuple[Reference, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]
    reviewer: Person
    reasons: FreeText = ""
    created_at: AwareDatetime

    @model_validator(mode="after")
    def _coherent(self) -> ImageRequest:
        if len(set(self.references)) != len(self.references):
            raise ValueError("references")
        return self


class CandidateImage(Model):
    """A candidate's image; never printed."""

    search_id: Uuid
    order_sha256: Digest
    agency: MemberId
    reference: Reference
    media_type: MediaType
    image: Annotated[bytes, Field(min_length=1, max_length=MAX_IMAGE_BYTES, repr=False)]
    sent_at: AwareDatetime


class DisclosureRequest(Model):
    """What a force signs to ask the owner of a record for its details."""

    request_id: Uuid
    search_id: Uuid
    order_sha256: Digest
    force: MemberId
    agency: MemberId
    reference: Reference
    report_sha256: Digest
    requester: Person
    review_sha256s: Annotated[tuple[Digest, ...], Field(min_length=2, max_length=MAX_REVIEWS)]
    facts_commitment: Digest
    offence: Offence = Offence()
    subject_category: OptionalCode = ""
    fields: Annotated[tuple[Code, ...], Field(min_length=1, max_length=MAX_CODES)]
    created_at: AwareDatetime
    expires_at: AwareDatetime

    @model_validator(mode="after")
    def _coherent(self) -> DisclosureRequest:
        if len(set(self.review_sha256s)) != len(self.review_sha256s):
            raise ValueError("review_sha256s")
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("fields")
        if not timedelta() < self.expires_at - self.created_at <= MAX_REQUEST_LIFETIME:
            raise ValueError("expires_at")
        return self


class DisclosureFacts(Model):
    """What is sealed to the owner beside a request; never printed."""

    facts: Annotated[Facts, Field(repr=False)]
    salt: Annotated[bytes, Field(min_length=SHA256_BYTES, max_length=SHA256_BYTES, repr=False)]


class ReleaseState(StrEnum):
    """What became of a request for disclosure."""

    RELEASED = "released"
    REFUSED = "refused"


class ReleaseDecision(Model):
    """What an agency signs about a request for disclosure."""

    request_sha256: Digest
    request_id: Uuid
    search_id: Uuid
    agency: MemberId
    reference: Reference
    state: ReleaseState
    reason: ReasonCode = ""
    sealed_sha256: OptionalDigest = b""
    sealed_key_id: Annotated[str, StringConstraints(max_length=128)] = ""
    decided_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _coherent(self) -> ReleaseDecision:
        released = self.state is ReleaseState.RELEASED
        for name in ("sealed_sha256", "sealed_key_id", "expires_at"):
            if bool(getattr(self, name)) != released:
                raise ValueError(name)
        if bool(self.reason) == released:
            raise ValueError("reason")
        return self


class Nature(StrEnum):
    """Whether a detail is a fact or somebody's assessment (DPA 2018 s.38(2))."""

    FACT = "fact"
    ASSESSMENT = "assessment"


class DisclosedField(Model):
    """One detail of a record; never printed."""

    name: Code
    value: Annotated[str, StringConstraints(max_length=MAX_FIELD_CHARS), Field(repr=False)]
    nature: Nature


class Disclosure(Model):
    """The details of one record, with the terms that travel with them."""

    request_sha256: Digest
    search_id: Uuid
    agency: MemberId
    reference: Reference
    fields: Annotated[tuple[DisclosedField, ...], Field(min_length=1, max_length=MAX_CODES)]
    subject_category: OptionalCode = ""
    caveats: Annotated[tuple[FreeText, ...], Field(max_length=MAX_CODES)] = ()
    delete_by: AwareDatetime
    onward_transfer: Code
    released_at: AwareDatetime
    expires_at: AwareDatetime


class WrongMatch(Model):
    """What a force signs to report that a candidate is not the person sought."""

    report_id: Uuid
    search_id: Uuid
    order_sha256: Digest
    force: MemberId
    agency: MemberId
    reference: Reference
    reporter: Person
    reasons: Words
    reported_at: AwareDatetime


class RecallReason(StrEnum):
    """Why a candidate is recalled."""

    WRONG_MATCH = "wrong_match"
    WRONG_RECORD = "wrong_record"
    UNLAWFUL = "unlawful"
    ERASED = "erased"


class Recall(Model):
    """What an agency signs to recall a candidate, and whatever was disclosed of it."""

    recall_id: Uuid
    search_id: Uuid
    order_sha256: Digest
    agency: MemberId
    reference: Reference
    reason: RecallReason
    notice: FreeText = ""
    recalled_at: AwareDatetime


class RecallAcknowledgement(Model):
    """What a force signs once a recalled candidate is no longer used."""

    recall_id: Uuid
    recall_sha256: Digest
    force: MemberId
    person: Person
    action: Words
    acknowledged_at: AwareDatetime


class ReviewerRevocation(Model):
    """What a force signs to withdraw a reviewer's reviews, from an instant on."""

    force: MemberId
    reviewer: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    since: AwareDatetime
    person: Person
    reasons: Words
    revoked_at: AwareDatetime


class CorroborationKind(StrEnum):
    """Evidence that does not come from comparing faces."""

    WITNESS = "witness"
    DOCUMENT = "document"
    FINGERPRINTS = "fingerprints"
    DNA = "dna"
    TELEPHONE = "telephone"
    FINANCIAL = "financial"
    LOCATION = "location"
    ADMISSION = "admission"
    OTHER = "other"


class Corroboration(Model):
    """What a force signs about evidence that does not come from comparing faces."""

    corroboration_id: Uuid
    search_id: Uuid
    order_sha256: Digest
    force: MemberId
    agency: MemberId
    reference: Reference
    kind: CorroborationKind
    case_material: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    person: Person
    recorded_at: AwareDatetime
