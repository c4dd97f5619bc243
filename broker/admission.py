"""Whether an order may be decided at all: who sends it, who signed it, who is asking, and when.

The rules, in the order they are applied; the first that fails is what the caller is told:

1. The order is no larger than the limit, and its envelope is an order's, signed by keys that the
   directory lists for the force that owns the channel. Nothing is decoded before that holds.
2. The order names that force and no other: a force cannot search in another's name.
3. It is fresh: not from the future beyond clock skew, not expired, not longer-lived than allowed.
4. Officer and authoriser each hold a token of their force for their own part, bound to this very
   channel, and the order says of them what the tokens say.
5. They are two people.
6. Every agency named is an agency in the directory.
7. There is exactly one sealed probe for each agency named, of a sensible size. The broker cannot
   open them and does not try (promise 2).
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from broker.models import AdmittedOrder, CreateParams
from broker.settings import MAX_ORDER_BYTES, MAX_SEALED_PROBE_BYTES, MAX_TOKEN_CHARS
from trust import dsse
from trust.directory import Directory, KeyUse, Role
from trust.errors import ProbegateError, Reason
from trust.messages import Person, SearchOrder
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.tokens import OfficerClaims, Part, TokenCache
from trust.wire import decode_order


def open_order(
    params: CreateParams, peer: PeerIdentity, directory: Directory, now: datetime
) -> SearchOrder:
    """Verify the envelope and decode the order: rules (1) and (2).

    Raises:
        ProbegateError: ``MESSAGE_TOO_LARGE``, ``ENVELOPE_INVALID``, ``ENVELOPE_TAMPERED``,
            ``KEY_UNKNOWN``, ``KEY_REVOKED``, ``ORDER_INVALID`` or ``CHANNEL_ROLE``.
    """
    if len(params.order.payload) > MAX_ORDER_BYTES:  # (1)
        raise ProbegateError(Reason.MESSAGE_TOO_LARGE, field="order")
    resolve = directory.resolver(peer.member.id, KeyUse.SIGN, now)
    dsse.verify(params.order, PayloadType.SEARCH_ORDER, resolve)
    order = decode_order(params.order.payload)
    if order.force != peer.member.id:  # (2)
        raise ProbegateError(Reason.CHANNEL_ROLE, field="force")
    return order


def require_fresh(order: SearchOrder, now: datetime, skew: timedelta) -> None:
    """Refuse an order that is not of this moment: rule (3).

    Raises:
        ProbegateError: ``ORDER_STALE``.
    """
    if order.created_at > now + skew or now >= order.expires_at:
        raise ProbegateError(Reason.ORDER_STALE)
    if order.authorised_at > now + skew:
        raise ProbegateError(Reason.ORDER_STALE, field="authorised_at")


def admit(
    params: CreateParams,
    order: SearchOrder,
    peer: PeerIdentity,
    directory: Directory,
    tokens: TokenCache,
    now: datetime,
) -> AdmittedOrder:
    """Check people, agencies and probes of a fresh order: rules (4) to (7).

    Raises:
        ProbegateError: ``OFFICER_TOKEN_INVALID``, ``ORDER_INVALID``, ``AGENCY_UNKNOWN`` or
            ``SEAL_INVALID``.
    """
    resolve = directory.resolver(peer.member.id, KeyUse.IDENTITY, now)
    for part, token, person in (
        (Part.OFFICER, params.officer_token, order.officer),
        (Part.AUTHORISER, params.authoriser_token, order.authoriser),
    ):
        if len(token) > MAX_TOKEN_CHARS:
            raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check="format")
        claims = tokens.verify(  # (4)
            token,
            resolve=resolve,
            force_id=peer.member.id,
            channel_cert_sha256=peer.certificate_sha256,
            now=now,
            part=part,
        )
        if not says_the_same(claims, person):
            raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check=f"{part.value} in the order")
    if order.officer.id == order.authoriser.id:  # (5)
        raise ProbegateError(Reason.ORDER_INVALID, field="authoriser")
    for agency in order.agencies:  # (6)
        directory.member(agency, Role.AGENCY)
    sealed = {probe.agency: probe for probe in params.probes}
    if len(sealed) != len(params.probes) or sealed.keys() != set(order.agencies):  # (7)
        raise ProbegateError(Reason.SEAL_INVALID, field="probes")
    if any(not 0 < len(p.ciphertext) <= MAX_SEALED_PROBE_BYTES for p in params.probes):
        raise ProbegateError(Reason.SEAL_INVALID, field="probes.ciphertext")
    return AdmittedOrder(
        order=order,
        envelope=params.order,
        sha256=hashlib.sha256(params.order.payload).digest(),
        probes=tuple(sealed[agency] for agency in order.agencies),
        admitted_at=now,
    )


def says_the_same(claims: OfficerClaims, person: Person) -> bool:
    """Whether a document says of a person what their token says."""
    return (
        claims.sub == person.id
        and claims.role == person.role
        and claims.rank == person.rank
        and (claims.accreditation or "") == person.accreditation
        and claims.accreditation_expires == person.accreditation_expires
    )
