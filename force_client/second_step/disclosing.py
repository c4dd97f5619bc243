"""Requests for details, the owner's decisions, and the details themselves.

How a request stands is shown only if all of this holds; otherwise it is ``RESULT_INVALID``, nothing
is opened and nothing is kept:

1. The record is of the request that this force signed and kept, and the receipt proves the log's
   entry of that very request.
2. Its state and its papers agree: released and refused by the owner come with the owner's decision,
   nothing else does; only what is released comes with sealed details.
3. The decision is the agency's own, under a key that was its own when it was made and when it was
   recorded; it is about this request's digest, id, search, agency and reference, made since the
   request and not in the future; the state is the one that the broker tells; and its receipt proves
   that it is on the log.
4. What is sealed has the digest that the decision states.

Details are opened only if besides:

5. The time to open them has not passed (``RELEASE_EXPIRED`` otherwise).
6. They open under the very context of this order, agency and reference; inside is the agency's own
   signature, and what it signed is of this request, search, agency, reference and end, with no
   field that was not asked for. A broker can seal to a force's public key, and signs nothing.
7. The broker does not withhold them, for a reason of those it may have. This holds for details that
   were opened before as well, at every use.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from audit import kinds
from force_client.ground import Ground, failing, invalid
from force_client.second_step.checks import (
    Matter,
    check_receipt,
    proof_time,
    same,
    signed_by_agency,
)
from force_client.second_step.models import (
    DisclosureState,
    DisclosureView,
    OpenedDisclosure,
    ReceivedDisclosure,
    ReviewStatus,
    SealedFacts,
)
from force_client.second_step.reviews import digest_of
from trust import dsse, sealing
from trust.commitment import facts_commitment
from trust.directory import Directory, Role
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Opener, Signer
from trust.messages import Offence, Person
from trust.payload_types import PayloadType
from trust.second_step import (
    Disclosure,
    DisclosureFacts,
    DisclosureRequest,
    Opinion,
    ReleaseDecision,
    ReleaseState,
)
from trust.wire import checked, decode, encode, envelope_from_bytes

REQUESTED: Final = kinds.DISCLOSURE_REQUESTED
DECIDED: Final = kinds.DISCLOSURE_DECIDED
REQUEST_LIFETIME: Final = timedelta(minutes=5)
"""How long a request may be used after it is made."""
_SALT_DOMAIN: Final = b"probegate/facts-salt/v1\0"
_WITHHELD: Final[Mapping[str, Reason]] = {
    one.name: one for one in (Reason.STOP_USE, Reason.REVIEWER_REVOKED, Reason.RELEASE_SWITCHED_OFF)
}
_DECIDED: Final[Mapping[ReleaseState, DisclosureState]] = {
    ReleaseState.RELEASED: DisclosureState.RELEASED,
    ReleaseState.REFUSED: DisclosureState.REFUSED,
}


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A signed request and its sealed facts, made once: a retry sends the same bytes."""

    request: DisclosureRequest
    envelope: Envelope
    facts: SealedFacts


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, of whom, by whom and why."""

    agency: str
    reference: str
    requester: Person
    facts: str
    fields: tuple[str, ...]
    offence: Offence
    subject_category: str

    def __repr__(self) -> str:
        return f"<request to {self.agency} for {len(self.fields)} fields>"


# --- asking ----------------------------------------------------------------------------------


def counted_reviews(status: ReviewStatus, agency: str, reference: str) -> tuple[bytes, ...]:
    """Return the reviews that a request about a candidate stands on.

    Raises:
        ProbegateError: ``REVIEW_MISSING`` unless reviews are settled and found a potential one.
    """
    standing = status.standing(agency, reference)
    if status.open or standing is None or standing.opinion is not Opinion.POTENTIAL_CANDIDATE:
        raise ProbegateError(Reason.REVIEW_MISSING, "open" if status.open else "found otherwise")
    return standing.review_sha256s


def make_request(
    wanted: Wanted,
    request_id: str,
    reviews: Sequence[bytes],
    matter: Matter,
    *,
    salt_key: bytes,
    signer: Signer,
    directory: Directory,
    now: datetime,
) -> PreparedRequest:
    """Sign a request and seal its facts to the agency.

    Raises:
        ProbegateError: ``DISCLOSURE_INVALID`` with the field's name; ``AGENCY_UNKNOWN`` or
            ``KEY_UNKNOWN``.
    """
    order = matter.order
    salt = facts_salt(salt_key, request_id, wanted.facts)
    stated = checked(
        Reason.DISCLOSURE_INVALID, lambda: DisclosureFacts(facts=wanted.facts, salt=salt)
    )
    request = checked(
        Reason.DISCLOSURE_INVALID,
        lambda: DisclosureRequest(
            request_id=request_id,
            search_id=matter.search_id,
            order_sha256=order.sha256,
            force=order.order.force,
            agency=wanted.agency,
            reference=wanted.reference,
            report_sha256=matter.report_of(
                wanted.agency, wanted.reference, Reason.DISCLOSURE_INVALID
            ),
            requester=wanted.requester,
            review_sha256s=tuple(reviews),
            facts_commitment=facts_commitment(salt, wanted.facts),
            offence=wanted.offence,
            subject_category=wanted.subject_category,
            fields=wanted.fields,
            created_at=now,
            expires_at=now + REQUEST_LIFETIME,
        ),
    )
    directory.member(wanted.agency, Role.AGENCY)
    key = directory.sealing_key(wanted.agency, order.order.force, now)
    info = sealing.facts_info(order.sha256, wanted.agency, request_id, key.kid)
    return PreparedRequest(
        request,
        dsse.sign(PayloadType.DISCLOSURE_REQUEST, encode(request), signer),
        SealedFacts(key.kid, sealing.seal(encode(stated), key, info)),
    )


def facts_salt(salt_key: bytes, request_id: str, facts: str) -> bytes:
    """Return the salt of a request's facts: the same for the same request, unguessable besides."""
    return hmac.digest(salt_key, _SALT_DOMAIN + request_id.encode() + facts.encode(), "sha256")


def require_same(kept: PreparedRequest, wanted: Wanted, search_id: str, salt_key: bytes) -> None:
    """Refuse a request id that this force used for something else.

    Raises:
        ProbegateError: ``DISCLOSURE_REPLAYED``.
    """
    request = kept.request
    salt = facts_salt(salt_key, request.request_id, wanted.facts)
    before = (request.search_id, request.agency, request.reference, request.requester.id)
    now = (search_id, wanted.agency, wanted.reference, wanted.requester.id)
    asked = (request.fields, request.offence, request.subject_category)
    if (
        before != now
        or asked != (wanted.fields, wanted.offence, wanted.subject_category)
        or request.facts_commitment != facts_commitment(salt, wanted.facts)
    ):
        raise ProbegateError(Reason.DISCLOSURE_REPLAYED, field="request_id")


# --- how it stands ---------------------------------------------------------------------------


def verify_disclosure(
    received: ReceivedDisclosure, kept: PreparedRequest, ground: Ground
) -> DisclosureView:
    """Return how a request stands, as it may be relied on: rules (1) to (4).

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    request = kept.request
    _check_record(received, kept, ground)  # (1)
    decision = _decision(received, kept, ground)  # (2) (3)
    if decision is not None and received.sealed:  # (4)
        same(sha256(received.sealed).digest(), decision.sealed_sha256, "digest", "sealed")
    return DisclosureView(
        request=request,
        state=received.state,
        reason=(decision.reason if decision is not None else "") or received.reason,
        created_at=received.created_at,
        decide_by=received.decide_by,
        decision=decision,
        received=received,
    )


def _check_record(received: ReceivedDisclosure, kept: PreparedRequest, ground: Ground) -> None:
    request = kept.request
    about = (received.request_id, received.search_id, received.agency, received.reference)
    asked = (request.request_id, request.search_id, request.agency, request.reference)
    same(about, asked, "request", "disclosure")
    check_receipt(
        received.receipt,
        ground,
        {
            "type": REQUESTED,
            "search_id": request.search_id,
            "order_sha256": request.order_sha256.hex(),
            "agency": request.agency,
            "reference": request.reference,
            "request_id": request.request_id,
            "request_sha256": digest_of(kept.envelope).hex(),
            "reviews": [one.hex() for one in request.review_sha256s],
            "fields": list(request.fields),
        },
    )


def _decision(
    received: ReceivedDisclosure, kept: PreparedRequest, ground: Ground
) -> ReleaseDecision | None:
    state = received.state
    if received.sealed and state is not DisclosureState.RELEASED:
        raise invalid(f"sealed details of what is {state.value}", "state")
    if received.decision is None:
        if state is DisclosureState.RELEASED or received.decision_receipt is not None:
            raise invalid(f"{state.value} without the owner's decision", "decision")
        if state is DisclosureState.REFUSED and not received.reason:
            raise invalid("refused by nobody and for no reason", "state")
        return None
    request = kept.request
    decision = signed_by_agency(
        received.decision,
        ReleaseDecision,
        request.agency,
        ground,
        "decision",
        proved=proof_time(received.decision_receipt),
    )
    same(decision.request_sha256, digest_of(kept.envelope), "request", "decision")
    about = (decision.request_id, decision.search_id, decision.agency, decision.reference)
    asked = (request.request_id, request.search_id, request.agency, request.reference)
    same(about, asked, "request", "decision")
    if _DECIDED[decision.state] is not state:
        raise invalid(f"told as {state.value}", "state")
    ends_first = decision.expires_at is not None and decision.expires_at < decision.decided_at
    if not ground.in_time(decision.decided_at) or ends_first:
        raise invalid("not of this request's time", "decision")
    check_receipt(
        received.decision_receipt,
        ground,
        {
            "type": DECIDED,
            "search_id": request.search_id,
            "agency": request.agency,
            "reference": request.reference,
            "request_id": request.request_id,
            "request_sha256": digest_of(kept.envelope).hex(),
            "decision_sha256": digest_of(received.decision).hex(),
            "state": decision.state.value,
            "reason": decision.reason,
        },
    )
    return decision


# --- opening ---------------------------------------------------------------------------------


def require_not_withheld(view: DisclosureView) -> None:
    """Refuse what was released and is withheld (7).

    Raises:
        ProbegateError: ``STOP_USE``, ``REVIEWER_REVOKED`` or ``RELEASE_SWITCHED_OFF``.
    """
    if view.state is DisclosureState.RELEASED and view.reason in _WITHHELD:
        raise ProbegateError(_WITHHELD[view.reason])


def open_details(
    view: DisclosureView, kept: PreparedRequest, openers: Mapping[str, Opener], ground: Ground
) -> OpenedDisclosure:
    """Open the details of a verified release: rules (5) and (6).

    Raises:
        ProbegateError: ``NOT_FOUND`` if nothing was released; ``RELEASE_EXPIRED``;
            ``RESULT_INVALID``.
    """
    decision, request = view.decision, view.request
    if decision is None or decision.expires_at is None:
        raise ProbegateError(Reason.NOT_FOUND, f"it is {view.state.value}")
    if ground.now >= decision.expires_at or not view.received.sealed:  # (5)
        raise ProbegateError(Reason.RELEASE_EXPIRED)
    with failing("sealed"):  # (6)
        opener = openers.get(decision.sealed_key_id)
        if opener is None:
            raise invalid("sealed to no key of this force", "sealed")
        info = sealing.disclosure_info(
            request.order_sha256, request.agency, request.reference, decision.sealed_key_id
        )
        signed = envelope_from_bytes(opener.open(view.received.sealed, info))
    # The decision states what is sealed, so they were signed when its entry was made.
    proved = proof_time(view.received.decision_receipt)
    details = signed_by_agency(signed, Disclosure, request.agency, ground, "details", proved=proved)
    same(details.request_sha256, digest_of(kept.envelope), "request", "details")
    about = (details.search_id, details.agency, details.reference)
    same(about, (request.search_id, request.agency, request.reference), "candidate", "details")
    same(details.expires_at, decision.expires_at, "end", "details")
    names = [one.name for one in details.fields]
    if len(set(names)) != len(names) or not set(names) <= set(request.fields):
        raise invalid("a field that was not asked for, or twice", "details")
    if not ground.in_time(details.released_at) or details.delete_by < details.released_at:
        raise invalid("not of this request's time", "details")
    return OpenedDisclosure(request.request_id, details, signed, request.offence.code)


def reopen_request(envelope: Envelope, facts: SealedFacts) -> PreparedRequest:
    """Return a request that this force kept; its signature is not checked, it is our own file.

    Raises:
        ProbegateError: ``DISCLOSURE_INVALID`` or ``ENVELOPE_INVALID``.
    """
    if envelope.payload_type != PayloadType.DISCLOSURE_REQUEST:
        raise ProbegateError(Reason.ENVELOPE_INVALID, "not a request for disclosure")
    return PreparedRequest(decode(DisclosureRequest, envelope.payload), envelope, facts)
