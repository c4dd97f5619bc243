"""What ties things to a probe without telling what the probe is: a commitment, and a matter.

And what ties a request for disclosure to its facts, which only the owner of the record reads.

The commitment ties a sealed probe to its order:

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


MATTER_DOMAIN: Final = b"probegate/matter/v1\0"


def matter_digest(force: str, case_reference: str, commitment: bytes) -> bytes:
    """Return the 32-byte digest of one probe in one case of one force.

    An agency signs it with its word that it answered, so that nobody can show that word for another
    case or probe. The commitment is unguessable to whoever does not have the order, and so is this.

        SHA-256("probegate/matter/v1" 0x00 || each part behind its length, four bytes, big-endian)

    Args:
        force: the force's member id.
        case_reference: as the order states it.
        commitment: the probe's, 32 bytes; one template of one force has one.
    """
    parts = (force.encode(), case_reference.encode(), commitment)
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return sha256(MATTER_DOMAIN + framed).digest()


FACTS_DOMAIN: Final = b"probegate/disclosure-facts/v1\0"


def facts_commitment(salt: bytes, facts: str) -> bytes:
    """Return the 32-byte commitment to the facts that a request for disclosure stands on.

        SHA-256("probegate/disclosure-facts/v1" 0x00 || salt[32] || facts, UTF-8)

    Args:
        salt: 32 secret bytes.
        facts: the description, as it is sealed to the agency.

    Raises:
        ProbegateError: ``DISCLOSURE_INVALID`` for a salt of another length.
    """
    if len(salt) != SALT_BYTES:
        raise ProbegateError(Reason.DISCLOSURE_INVALID, f"a salt has {SALT_BYTES} bytes")
    return sha256(FACTS_DOMAIN + salt + facts.encode()).digest()
