"""DSSE envelopes: exact payload bytes, their type, and signatures over both.

The rules:

1. What is signed is the DSSE pre-authentication encoding of the type and the exact payload bytes;
   nothing is ever re-serialised to check a signature.
2. The verifier says which type it expects; any other is refused before a signature is looked at.
3. There is at least one signature, none by the same key twice, and **every** one must verify:
   a signature that is not understood is a reason for doubt, not decoration.
4. A key is whatever ``resolve`` says it is for that key id; the envelope brings no keys of its own.
5. The JSON form is strict: the three fields and no others, standard base64 with its padding, no
   repeated keys, a size limit.

See https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from trust import ed25519, strict_json
from trust.algorithms import KEY_ID_PATTERN
from trust.errors import ProbegateError, Reason
from trust.keys import Signer

MAX_ENVELOPE_BYTES: Final = 8 * 1024 * 1024
"""Longest JSON form of an envelope, bytes."""
MAX_SIGNATURES: Final = 16
"""Most signatures on one envelope."""

Resolve = Callable[[str], bytes]
"""Returns the raw 32-byte Ed25519 key of a key id, or raises KEY_UNKNOWN or KEY_REVOKED."""

_KEY_ID: Final = re.compile(KEY_ID_PATTERN)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the signer's key id and 64 bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """Exact payload bytes with their type and signatures."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def to_json(self) -> bytes:
        """Return the DSSE JSON form, canonical (RFC 8785)."""
        return strict_json.canonical(
            {
                "payload": _encode(self.payload),
                "payloadType": str(self.payload_type),
                "signatures": [
                    {"keyid": one.keyid, "sig": _encode(one.sig)} for one in self.signatures
                ],
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> Envelope:
        """Read the DSSE JSON form; nothing is verified yet.

        Raises:
            ProbegateError: ``ENVELOPE_INVALID``.
        """
        if len(text) > MAX_ENVELOPE_BYTES:
            raise _invalid(f"longer than {MAX_ENVELOPE_BYTES} bytes")
        try:
            match strict_json.parse(text):
                case {
                    "payload": str(payload),
                    "payloadType": str(payload_type),
                    "signatures": list(signatures),
                    **others,
                } if not others:
                    return cls(
                        payload_type,
                        _decode(payload),
                        tuple(_signature(one) for one in signatures),
                    )
                case _:
                    raise _invalid("not the fields of an envelope")
        except ValueError as error:  # (5)
            raise _invalid(str(error)) from None


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the DSSE v1 pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, *signers: Signer) -> Envelope:
    """Sign exact payload bytes by each of the signers."""
    signed = pae(payload_type, payload)
    signatures = tuple(Signature(signer.kid, signer.sign(signed)) for signer in signers)
    return Envelope(str(payload_type), payload, signatures)


def verify(envelope: Envelope, payload_type: str, resolve: Resolve) -> tuple[str, ...]:
    """Verify every signature and return the signers' key ids in the envelope's order.

    Args:
        envelope: what was received.
        payload_type: the type the caller expects.
        resolve: maps a key id to its raw Ed25519 public key.

    Raises:
        ProbegateError: ``ENVELOPE_INVALID``, ``ENVELOPE_TAMPERED``, or whatever ``resolve`` raises.
    """
    if envelope.payload_type != payload_type:  # (2)
        raise _invalid("of another payload type")
    kids = tuple(one.keyid for one in envelope.signatures)
    if not 0 < len(kids) <= MAX_SIGNATURES or len(set(kids)) != len(kids):  # (3)
        raise _invalid("no, too many or repeated signatures")
    signed = pae(payload_type, envelope.payload)  # (1)
    for one in envelope.signatures:
        if not ed25519.is_valid(resolve(one.keyid), one.sig, signed):  # (4)
            raise ProbegateError(Reason.ENVELOPE_TAMPERED, f"key {one.keyid[:16]!r}")
    return kids


def _signature(value: Any) -> Signature:
    match value:
        case {"keyid": str(keyid), "sig": str(sig), **others} if not others:
            if not _KEY_ID.fullmatch(keyid):
                raise ValueError("not a key id")
            return Signature(keyid, _decode(sig))
        case _:
            raise ValueError("not the fields of a signature")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if _encode(data) != text:
        raise ValueError("not the one base64 form")
    return data


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.ENVELOPE_INVALID, why)
