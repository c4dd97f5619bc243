"""The commitment that ties a sealed probe to its order without telling what the probe is.

    commitment = SHA-256("probegate/probe-commitment/v1" 0x00 || salt[32] || template)

The force puts it into the order, the salt travels sealed with the template, and the agency computes
it again. The salt is long and secret, so nobody without it can test a face against the commitment.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from trust.errors import ProbegateError, Reason

DOMAIN: Final = b"probegate/probe-commitment/v1\0"
SALT_BYTES: Final = 32


def probe_commitment(salt: bytes, template: bytes) -> bytes:
    """Return the 32-byte commitment to a template.

    Args:
        salt: 32 secret bytes.
        template: the template's exact bytes, as they are sealed.

    Raises:
        ProbegateError: ``BAD_COMMITMENT`` for a salt of another length.
    """
    if len(salt) != SALT_BYTES:
        raise ProbegateError(Reason.BAD_COMMITMENT, f"a salt has {SALT_BYTES} bytes", field="salt")
    return sha256(DOMAIN + salt + template).digest()
