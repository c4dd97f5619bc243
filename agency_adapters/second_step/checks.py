"""What a request for disclosure must show before the agency's people are asked (promise 4).

The agency believes nobody's word for it: not that people reviewed, nor that they agree. Rules 1 to
6 are the papers' (``papers``); these follow.

7. The request is of this search, this order and this agency.
8. It is not from the future beyond the clock skew, the broker recorded it before its end, and it
   was handed over within a day of that: an agency that was out is not asked in vain.
9. It is about a candidate of the very report that was handed out, by the report's digest.
10. The reviews it names are shown, in its sequence, and each is signed by the force with a key that
    was valid when the broker recorded it. Each is of this search, order, agency and report, and has
    a finding on every candidate of it and on nothing else.
11. Each review is on the broker's log, under the checkpoint of the request and before the request,
    and the entry says the same.
12. The reviewer's token was issued for a reviewer's part and was valid when the broker recorded the
    review, which was not before the review ended; it says what the review says of the person,
    whose accreditation had not run out on that day. So it is with the requester's own token, for
    an officer's part, but for the accreditation.
13. No two reviews are of one person, however spelt, or of one sitting; no reviewer is the officer
    or the authoriser of the order, or the requester.
14. No reviewer is revoked as of the end of their review, as far as the force has told anybody.
15. As many people as our own agreement asks, and two at least, found this candidate to be a
    potential one, and as many do not share another opinion.

Then in ``asking``: what is disclosed today, and the facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from agency_adapters.second_step.models import ReleaseParams, ShownReview
from agency_adapters.second_step.papers import (
    REVIEW_ENTRY,
    Proved,
    Shown,
    not_recorded,
    require_entry,
)
from policy.agreements import MIN_REVIEWERS
from trust import dsse
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.people import plain_id
from trust.second_step import (
    DisclosureRequest,
    ImageRequest,
    Opinion,
    Review,
    ReviewerRevocation,
)
from trust.tokens import OfficerClaims, Part, verify_recorded_token
from trust.wire import decode

MAX_HANDOVER: Final = timedelta(hours=24)
"""Longest time between the recording of a request and its handing over."""
Revoked = Callable[[str, str, datetime], bool]
"""Whether a force's reviewer, by plain id, is revoked as of an instant."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A review that holds."""

    review: Review
    digest: bytes

    @property
    def reviewer(self) -> str:
        """Who it was, in the one form of the id."""
        return plain_id(self.review.reviewer.id)


def require_of_this_search(
    request: DisclosureRequest | ImageRequest, shown: Shown, agency: str, reason: Reason
) -> None:
    """Apply rule (7).

    Raises:
        ProbegateError: ``reason``.
    """
    require_same(
        reason,
        ("search_id", request.search_id, shown.answer.report.search_id),
        ("order_sha256", request.order_sha256, shown.answer.order_sha256),
        ("force", request.force, shown.force),
        ("agency", request.agency, agency),
    )


def require_same(reason: Reason, *pairs: tuple[str, object, object]) -> None:
    """Refuse what is about something else.

    Args:
        reason: why.
        pairs: each a field, what it says, and what it must say.

    Raises:
        ProbegateError: ``reason`` with the ``field``.
    """
    for field, said, expected in pairs:
        if said != expected:
            raise ProbegateError(reason, "of something else", field=field)


def entry_of(request: DisclosureRequest, digest: bytes, kind: str) -> Mapping[str, Any]:
    """Return what the broker's entry must say of a request (``papers``, rule 6)."""
    return {
        "type": kind,
        "search_id": request.search_id,
        "order_sha256": request.order_sha256.hex(),
        "agency": request.agency,
        "reference": request.reference,
        "request_id": request.request_id,
        "request_sha256": digest.hex(),
        "reviews": [one.hex() for one in request.review_sha256s],
        "fields": list(request.fields),
    }


def require_fresh(
    request: DisclosureRequest, recorded_at: datetime, now: datetime, skew: timedelta
) -> None:
    """Apply rule (8).

    Args:
        request: the request.
        recorded_at: when the broker's entry says that it was recorded.
        now: this adapter's clock.
        skew: how far ahead of ours another's clock may be.

    Raises:
        ProbegateError: ``DISCLOSURE_INVALID``.
    """
    if request.created_at > now + skew or recorded_at > now + skew:
        raise ProbegateError(Reason.DISCLOSURE_INVALID, "of the future", field="created_at")
    late = now >= max(recorded_at, request.created_at) + MAX_HANDOVER
    if late or not request.created_at - skew <= recorded_at < request.expires_at:
        raise ProbegateError(Reason.DISCLOSURE_INVALID, "past its end", field="expires_at")


def require_listed(request: DisclosureRequest, shown: Shown) -> str:
    """Apply rule (9) and return the record's id.

    Raises:
        ProbegateError: ``DISCLOSURE_INVALID``.
    """
    if request.report_sha256 != shown.answer.report_sha256:
        raise ProbegateError(Reason.DISCLOSURE_INVALID, "another report", field="report_sha256")
    record_id = shown.answer.record_of(request.reference)
    if record_id is None:
        raise ProbegateError(Reason.DISCLOSURE_INVALID, "no candidate", field="reference")
    return record_id


def require_reviews(
    params: ReleaseParams,
    request: DisclosureRequest,
    shown: Shown,
    proved: Proved,
    directory: Directory,
    skew: timedelta,
) -> tuple[Reviewed, ...]:
    """Apply rules (10) to (13) and return the reviews.

    Raises:
        ProbegateError: ``DISCLOSURE_INVALID``, ``REVIEW_INVALID``, ``LOG_PROOF_INVALID``,
            ``OFFICER_TOKEN_INVALID``, ``REVIEWER_NOT_ACCREDITED``, ``REVIEW_NOT_INDEPENDENT``;
            an envelope's or key's reason.
    """
    digests = tuple(sha256(one.review.payload).digest() for one in params.reviews)
    if digests != request.review_sha256s:
        raise ProbegateError(Reason.DISCLOSURE_INVALID, "not those named", field="reviews")
    found = []
    for one, digest in zip(params.reviews, digests, strict=True):
        review = decode(Review, one.review.payload)
        recorded_at = _recorded_at(one, review, digest, proved)  # (11)
        keys = directory.resolver(shown.force, KeyUse.SIGN, recorded_at)
        dsse.verify(one.review, PayloadType.REVIEW, keys)  # (10)
        _require_of_this_report(review, request, shown)  # (10)
        if review.finished_at > recorded_at + skew:
            raise ProbegateError(Reason.REVIEW_INVALID, "recorded early", field="finished_at")
        claims = _token(
            one.reviewer_token, review.reviewer, Part.REVIEWER, shown.force, directory, recorded_at
        )
        _require_accredited(claims, recorded_at)  # (12)
        found.append(Reviewed(review, digest))
    _token(
        params.requester_token, request.requester, Part.OFFICER, shown.force, directory, proved.at
    )
    _require_independent(found, request, shown)  # (13)
    return tuple(found)


def _require_of_this_report(review: Review, request: DisclosureRequest, shown: Shown) -> None:
    for field, said, expected in (
        ("search_id", review.search_id, request.search_id),
        ("order_sha256", review.order_sha256, request.order_sha256),
        ("force", review.force, request.force),
        ("agency", review.agency, request.agency),
        ("report_sha256", review.report_sha256, request.report_sha256),
        (
            "findings",
            {finding.reference for finding in review.findings},
            {candidate.reference for candidate in shown.answer.report.candidates},
        ),
    ):
        if said != expected:
            raise ProbegateError(Reason.REVIEW_INVALID, "of something else", field=field)


def _recorded_at(one: ShownReview, review: Review, digest: bytes, proved: Proved) -> datetime:
    said, at = require_entry(
        one.entry,
        proved.checkpoint,
        {
            "type": REVIEW_ENTRY,
            "search_id": review.search_id,
            "order_sha256": review.order_sha256.hex(),
            "review_id": review.review_id,
        },
    )
    reviews = said.get("reviews")
    if not isinstance(reviews, Mapping) or reviews.get(review.agency) != digest.hex():
        raise not_recorded("reviews")
    if one.entry.index >= proved.index:
        raise not_recorded("leaf_index")
    return at


def _token(
    token: str, person: Person, part: Part, force: str, directory: Directory, at: datetime
) -> OfficerClaims:
    claims = verify_recorded_token(
        token,
        resolve=directory.resolver(force, KeyUse.IDENTITY, at),
        force_id=force,
        used_at=at,
        part=part,
    )
    said = (claims.sub, claims.role, claims.rank, claims.accreditation or "")
    if (
        said != (person.id, person.role, person.rank, person.accreditation)
        or claims.accreditation_expires != person.accreditation_expires
    ):
        raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check=f"{part.value} in what is signed")
    return claims


def _require_accredited(claims: OfficerClaims, at: datetime) -> None:
    expires = claims.accreditation_expires
    if not claims.accreditation or expires is None or at.date() > expires:
        raise ProbegateError(Reason.REVIEWER_NOT_ACCREDITED)


def _require_independent(
    found: Sequence[Reviewed], request: DisclosureRequest, shown: Shown
) -> None:
    """Apply rule (13)."""
    people = [one.reviewer for one in found]
    sittings = {one.review.review_id for one in found}
    others = (shown.order.officer.id, shown.order.authoriser.id, request.requester.id)
    if (
        len(set(people)) != len(people)
        or len(sittings) != len(found)
        or not set(people).isdisjoint(plain_id(one) for one in others)
    ):
        raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT)


def told_of(
    params: ReleaseParams, force: str, said_by: Callable[[str, dsse.Envelope, PayloadType], bytes]
) -> tuple[tuple[bytes, ReviewerRevocation], ...]:
    """Return the revocations that came with a request, each with its digest.

    Raises:
        ProbegateError: ``NOTICE_INVALID``; an envelope's or key's reason.
    """
    told = []
    for envelope in params.revocations:
        digest = said_by(force, envelope, PayloadType.REVIEWER_REVOCATION)
        revocation = decode(ReviewerRevocation, envelope.payload)
        if revocation.force != force:
            raise ProbegateError(Reason.NOTICE_INVALID, "signed by another", field="force")
        told.append((digest, revocation))
    return tuple(told)


def require_none_revoked(
    reviews: Sequence[Reviewed],
    force: str,
    told: Sequence[tuple[bytes, ReviewerRevocation]],
    revoked: Revoked,
) -> None:
    """Apply rule (14).

    Raises:
        ProbegateError: ``REVIEWER_REVOKED``.
    """
    for one in reviews:
        ended = one.review.finished_at
        now_told = any(
            plain_id(said.reviewer) == one.reviewer and ended >= said.since for _, said in told
        )
        if now_told or revoked(force, one.reviewer, ended):
            raise ProbegateError(Reason.REVIEWER_REVOKED)


def require_shared_opinion(reviews: Sequence[Reviewed], reference: str, needed: int) -> None:
    """Apply rule (15).

    Raises:
        ProbegateError: ``REVIEW_MISSING``.
    """
    opinions = Counter(one.review.opinion_on(reference) for one in reviews)
    least = max(needed, MIN_REVIEWERS)
    shared = {opinion for opinion, count in opinions.items() if count >= least}
    if shared != {Opinion.POTENTIAL_CANDIDATE}:
        raise ProbegateError(Reason.REVIEW_MISSING)
