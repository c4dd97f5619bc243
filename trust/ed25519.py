"""Ed25519 signatures (RFC 8032): made and verified in one place, by libsodium.

The rules:

1. Whatever carries a signature (envelopes, notes, officer tokens) is verified here, so that no two
   parts of Probegate can disagree about one.
2. What is accepted here, OpenSSL accepts as well: both compare the encoding of ``[S]B - [k]A`` with
   ``R``. libsodium refuses more: keys and ``R`` of small order, under which one signature may be
   over many messages, and encodings that are not the canonical ones (docs/adr/0020).
3. Lengths are checked before the library is called: it trusts its caller.
4. A private key never prints.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class SigningKey:
    """A private key in the form that libsodium signs with.

    Attributes:
        public_key: the raw public key, 32 bytes.
    """

    __slots__ = ("_secret", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.public_key, self._secret = crypto_sign_seed_keypair(private.private_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; the same one for the same message, as RFC 8032 says."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key.hex()!r})"  # (4)


def is_valid(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature over a message is by the private half of a key (1) (2).

    Args:
        public_key: 32 bytes; any others are no key, and nothing is signed by it.
        signature: 64 bytes; any others are no signature.
        message: what was signed.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:  # (3)
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
