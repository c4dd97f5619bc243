"""From the facts of a case to a signed order and its sealed probes; no I/O.

The rules:

1. The order's digest is SHA-256 of the exact bytes that were signed; those bytes are kept and never
   made again, so that a repeated request is the same request.
2. The officer and the authoriser are two people; the broker checks it too, but no order leaves here
   that is not so.
3. Every agency gets a probe of its own, sealed to its current key under a context that binds the
   order's digest, the agency and the key: of no use under another order or at another agency.
4. What the order says of the probe's template is the salted commitment and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from force_client.models import OrderDraft, SealedProbe
from force_client.probes import Probe, commitment_of, salted
from trust import dsse, sealing
from trust.directory import Directory, Role
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import SHA256_BYTES, Encoding, ProbeManifest, ProbePayload, SearchOrder
from trust.payload_types import PayloadType
from trust.wire import checked, decode_order, encode_order, encode_probe

NO_COMMITMENT: Final = bytes(SHA256_BYTES)
"""Stands for the commitment where there is no probe, in a preview."""


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order with the envelope that was signed and the digest everything else binds to."""

    order: SearchOrder
    envelope: Envelope

    @property
    def sha256(self) -> bytes:
        """The order digest, 32 bytes."""
        return sha256(self.envelope.payload).digest()  # (1)


@dataclass(frozen=True, slots=True)
class PreparedSearch:
    """All that is sent, made once, so that a retry sends the same bytes."""

    order: SignedOrder
    probes: tuple[SealedProbe, ...]


def build_order(
    draft: OrderDraft,
    manifest: Callable[[OrderDraft], ProbeManifest],
    *,
    force: str,
    request_id: str,
    now: datetime,
) -> SearchOrder:
    """Return the order a draft makes.

    Raises:
        ProbegateError: ``ORDER_INVALID`` with the field's name.
    """
    if draft.officer.id.strip().casefold() == draft.authoriser.id.strip().casefold():  # (2)
        raise ProbegateError(
            Reason.ORDER_INVALID,
            "the officer cannot authorise their own search",
            field="authoriser",
        )
    return checked(
        Reason.ORDER_INVALID,
        lambda: SearchOrder(
            request_id=request_id,
            force=force,
            officer=draft.officer,
            authoriser=draft.authoriser,
            authorised_at=draft.authorised_at or now,
            justification=draft.justification,
            probe=manifest(draft),
            agencies=draft.agencies,
            limits=draft.limits,
            created_at=now,
            expires_at=now + draft.lifetime,
        ),
    )


def manifest_of(probe: Probe, payload: ProbePayload) -> Callable[[OrderDraft], ProbeManifest]:
    """Return what makes the manifest of a real probe (4)."""
    return _manifest(probe.model, probe.dims, probe.encoding, commitment_of(payload))


def manifest_without_probe(model: str, dims: int) -> Callable[[OrderDraft], ProbeManifest]:
    """Return what makes the manifest of a preview, which is never signed or sent as an order."""
    return _manifest(model, dims, Encoding.FLOAT32, NO_COMMITMENT)


def _manifest(
    model: str, dims: int, encoding: Encoding, commitment: bytes
) -> Callable[[OrderDraft], ProbeManifest]:
    return lambda draft: ProbeManifest(
        source=draft.probe.source,
        captured_at=draft.probe.captured_at,
        quality=draft.probe.quality,
        edits=draft.probe.edits,
        model=model,
        dims=dims,
        encoding=encoding,
        commitment=commitment,
    )


def sign_order(order: SearchOrder, signer: Signer) -> SignedOrder:
    """Sign an order's exact bytes as the force."""
    return SignedOrder(order, dsse.sign(PayloadType.SEARCH_ORDER, encode_order(order), signer))


def reopen_order(envelope: Envelope) -> SignedOrder:
    """Return an order that this force kept; its signature is not checked, it is our own file.

    Raises:
        ProbegateError: ``ORDER_INVALID`` or ``ENVELOPE_INVALID``.
    """
    if envelope.payload_type != PayloadType.SEARCH_ORDER:
        raise ProbegateError(Reason.ENVELOPE_INVALID, "not a search order")
    return SignedOrder(decode_order(envelope.payload), envelope)


def seal_probes(
    signed: SignedOrder, payload: ProbePayload, directory: Directory, now: datetime
) -> tuple[SealedProbe, ...]:
    """Seal a probe once to each agency of the order (3).

    Raises:
        ProbegateError: ``AGENCY_UNKNOWN``, ``KEY_UNKNOWN`` or ``SEAL_INVALID``.
    """
    plaintext, digest = encode_probe(payload), signed.sha256
    sealed = []
    for agency in signed.order.agencies:
        directory.member(agency, Role.AGENCY)
        key = directory.sealing_key(agency, signed.order.force, now)
        info = sealing.probe_info(digest, agency, key.kid)
        sealed.append(SealedProbe(agency, key.kid, sealing.seal(plaintext, key, info)))
    return tuple(sealed)


def prepare(
    draft: OrderDraft,
    probe: Probe,
    *,
    salt_key: bytes,
    signer: Signer,
    force: str,
    directory: Directory,
    request_id: str,
    now: datetime,
) -> PreparedSearch:
    """Build, sign and seal a search.

    Args:
        draft: the facts.
        probe: the template.
        salt_key: the force's probe-salt key, 32 bytes.
        signer: the force's signing key.
        force: the force's directory id.
        directory: the members in force.
        request_id: a new UUID.
        now: the time of making.

    Raises:
        ProbegateError: ``ORDER_INVALID``, ``AGENCY_UNKNOWN``, ``KEY_UNKNOWN`` or ``SEAL_INVALID``.
    """
    payload = salted(probe, salt_key)
    order = build_order(
        draft, manifest_of(probe, payload), force=force, request_id=request_id, now=now
    )
    signed = sign_order(order, signer)
    return PreparedSearch(signed, seal_probes(signed, payload, directory, now))
