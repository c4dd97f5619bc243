"""HPKE sealing (RFC 9180, base mode): probes to agencies, disclosures to forces.

The rules:

1. What is sealed opens only under the very context it was sealed for: ``info`` binds the order's
   digest, the agency and the recipient's key id, so that a sealed probe is of no use under another
   order, at another agency or with another key. A link key's binds its own id in the place of an
   order.
2. ``info`` is a domain string, then each part behind its length (u32, big-endian): no two
   contexts share one encoding, and a probe's can never be a disclosure's.
3. The suite is the recipient key's algorithm, never the sender's choice on the wire.
4. Every failure to open is the same ``SEAL_INVALID``; it does not say which part was wrong.

A sealed message is the encapsulated key, then the ciphertext and tag, as RFC 9180 has them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from trust.algorithms import PUBLIC_KEY_BYTES, SEALING_SUITES, Algorithm
from trust.errors import ProbegateError, Reason

PROBE_DOMAIN: Final = b"probegate/probe/v1\0"
DISCLOSURE_DOMAIN: Final = b"probegate/disclosure/v1\0"
FACTS_DOMAIN: Final = b"probegate/disclosure-facts/v1\0"
IMAGE_DOMAIN: Final = b"probegate/candidate-image/v1\0"
LINK_KEY_DOMAIN: Final = b"probegate/link-key/v1\0"
SHA256_BYTES: Final = 32
X25519_BYTES: Final = 32
MAX_CACHED_KEYS: Final = 1024
"""Most parsed public keys kept ready."""

SUITES: Final = {
    Algorithm.X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    Algorithm.MLKEM768_X25519: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}

PrivateSealingKey = X25519PrivateKey | MLKEM768X25519PrivateKey
PublicSealingKey = X25519PublicKey | MLKEM768X25519PublicKey


class Recipient(Protocol):
    """A public sealing key, such as the directory's ``MemberKey``."""

    @property
    def algorithm(self) -> Algorithm:
        """The key's algorithm, which decides the suite."""

    @property
    def public_bytes(self) -> bytes:
        """The raw public key."""


def probe_info(order_sha256: bytes, agency_id: str, kid: str) -> bytes:
    """Return the context of a probe sealed to an agency.

    Args:
        order_sha256: SHA-256 of the order's exact payload bytes, 32 bytes.
        agency_id: the directory id of the agency that may open it.
        kid: the id of the agency's key it is sealed to.
    """
    return _context(PROBE_DOMAIN, order_sha256, agency_id, kid)


def disclosure_info(order_sha256: bytes, agency_id: str, reference: str, kid: str) -> bytes:
    """Return the context of a record's details sealed to a force.

    Args:
        order_sha256: SHA-256 of the payload bytes of the order the candidate came from, 32 bytes.
        agency_id: the directory id of the agency that discloses.
        reference: the candidate's opaque reference.
        kid: the id of the force's key it is sealed to.
    """
    return _context(DISCLOSURE_DOMAIN, order_sha256, agency_id, reference, kid)


def image_info(order_sha256: bytes, agency_id: str, reference: str, kid: str) -> bytes:
    """Return the context of a candidate's image sealed to a force, for review before any name.

    The arguments are those of ``disclosure_info``.
    """
    return _context(IMAGE_DOMAIN, order_sha256, agency_id, reference, kid)


def facts_info(order_sha256: bytes, agency_id: str, request_id: str, kid: str) -> bytes:
    """Return the context of the facts of a request for disclosure, sealed to an agency.

    Args:
        order_sha256: SHA-256 of the payload bytes of the order the candidate came from, 32 bytes.
        agency_id: the directory id of the agency that may open it.
        request_id: the force's id of the request.
        kid: the id of the agency's key it is sealed to.
    """
    return _context(FACTS_DOMAIN, order_sha256, agency_id, request_id, kid)


def link_key_info(link_key_id: str, agency_id: str, kid: str) -> bytes:
    """Return the context of a link key that the scheme authority seals to an agency.

    Args:
        link_key_id: the link key's id in the directory.
        agency_id: the directory id of the agency that may open it.
        kid: the id of the agency's key it is sealed to.
    """
    return LINK_KEY_DOMAIN + _parts(*(one.encode() for one in (link_key_id, agency_id, kid)))


def seal(plaintext: bytes, recipient: Recipient, info: bytes) -> bytes:
    """Seal bytes to a public key under a context.

    Raises:
        ProbegateError: ``SEAL_INVALID`` if the key cannot be sealed to.
    """
    try:
        suite = SUITES[recipient.algorithm]  # (3)
        public_key = _parsed(recipient.algorithm, recipient.public_bytes)
        return suite.encrypt(plaintext, public_key, info)
    except (KeyError, ValueError, UnsupportedAlgorithm):
        raise ProbegateError(Reason.SEAL_INVALID, "the recipient's key is unusable") from None


def open_sealed(
    sealed: bytes, algorithm: Algorithm, private_key: PrivateSealingKey, info: bytes
) -> bytes:
    """Open what was sealed; for ``Opener`` implementations alone.

    Raises:
        ProbegateError: ``SEAL_INVALID`` whatever was wrong.
    """
    try:
        return SUITES[algorithm].decrypt(sealed, private_key, info)
    except (InvalidTag, ValueError, UnsupportedAlgorithm):
        raise ProbegateError(Reason.SEAL_INVALID) from None  # (4)


def _context(domain: bytes, order_sha256: bytes, *parts: str) -> bytes:
    if len(order_sha256) != SHA256_BYTES:
        raise ProbegateError(Reason.SEAL_INVALID, "the order's digest is not a SHA-256")
    return domain + _parts(order_sha256, *(part.encode() for part in parts))  # (1)


def _parts(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4) + part for part in parts)  # (2)


@lru_cache(maxsize=MAX_CACHED_KEYS)
def _parsed(algorithm: Algorithm, raw: bytes) -> PublicSealingKey:
    if algorithm not in SEALING_SUITES or len(raw) != PUBLIC_KEY_BYTES[algorithm]:
        raise ValueError("not a sealing key")
    x25519 = X25519PublicKey.from_public_bytes(raw[-X25519_BYTES:])
    if algorithm is Algorithm.X25519:
        return x25519
    return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:-X25519_BYTES]), x25519)
