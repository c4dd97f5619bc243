"""The key algorithms members may use, how long their public keys are, and how a key is named."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

KEY_ID_CHARS: Final = 16
"""Length of a key id, hexadecimal characters (64 bits of SHA-256)."""
KEY_ID_PATTERN: Final = r"^[0-9a-f]{16}$"


class Algorithm(StrEnum):
    """What a key is for, by its algorithm; the names are the directory's."""

    ED25519 = "Ed25519"
    """Signatures (RFC 8032)."""
    X25519 = "X25519"
    """HPKE with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180)."""
    MLKEM768_X25519 = "MLKEM768_X25519"
    """HPKE with the ML-KEM-768 and X25519 hybrid; still a draft at the IETF, so opt-in."""


PUBLIC_KEY_BYTES: Final = {
    Algorithm.ED25519: 32,
    Algorithm.X25519: 32,
    Algorithm.MLKEM768_X25519: 1184 + 32,  # the ML-KEM key, then the X25519 key
}

SEALING_SUITES: Final = (Algorithm.MLKEM768_X25519, Algorithm.X25519)
"""Algorithms that seal, the preferred one first."""


def key_id(algorithm: Algorithm, public_key: bytes) -> str:
    """Return the id of a public key: the start of SHA-256(algorithm name, raw public key)."""
    digest = hashlib.sha256(algorithm.value.encode() + public_key)
    return digest.hexdigest()[:KEY_ID_CHARS]
