"""Whom and what a search is about, as keyed digests: enough to recognise and not to read.

The key belongs to one database, so no two ledgers know a person or a case by the same digest.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

from policy import reasons
from policy.standing import Per
from trust.messages import SearchOrder
from trust.people import plain_id

KEY_BYTES: Final = 32
"""Length of a ledger's key, bytes."""
SUBJECT_BYTES: Final = 16
"""Length of a keyed digest, bytes."""
_DOMAIN: Final = b"probegate/ledger/v1\x00"


@dataclass(frozen=True, slots=True)
class Subjects:
    """Whom and what a search is about, as the ledger knows them; ``ref`` is its own id."""

    ref: str
    force: str
    officer: bytes
    case: bytes
    matter: bytes
    """This probe in this case of this force."""
    texts: tuple[bytes, ...]
    """Its necessity and its proportionality, in their normal forms."""

    def of(self, per: Per) -> bytes | str:
        """Return whose searches a quota of this sort counts."""
        match per:
            case Per.FORCE:
                return self.force
            case Per.OFFICER:
                return self.officer
            case Per.CASE:
                return self.case


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key that makes subjects; it never prints."""

    key: bytes = field(repr=False)

    def subjects(self, ref: str, order: SearchOrder) -> Subjects:
        """Return what a search is about."""
        why, force = order.justification, order.force.encode()
        case = why.case_reference.encode()
        forms = (reasons.normal_form(t) for t in (why.necessity, why.proportionality))
        return Subjects(
            ref=ref,
            force=order.force,
            officer=self.officer(order.force, order.officer.id),
            case=self._digest(b"case", force, case),
            matter=self._digest(b"matter", force, case, order.probe.commitment),
            texts=tuple(self._digest(b"text", force, form.encode()) for form in forms if form),
        )

    def officer(self, force: str, officer_id: str) -> bytes:
        """Return the digest of an officer of a force; variants of one id are one person."""
        return self._digest(b"officer", force.encode(), plain_id(officer_id).encode())

    def _digest(self, kind: bytes, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in (kind, *parts))
        return hmac.digest(self.key, _DOMAIN + framed, "sha256")[:SUBJECT_BYTES]
