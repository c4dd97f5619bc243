"""The key that agencies share to make link tokens, and that neither broker nor force ever has.

The rules:

1. The scheme authority makes it: 32 random bytes. It keeps them in its own folder, to seal them to
   agencies that join or change their sealing key later; it never sees a token.
2. It travels only in the signed directory, sealed by HPKE to each agency's sealing key, under a
   context that binds the link key's id, the agency and that key.
3. Which key makes the tokens of a search follows from the directory and the instant its grant was
   issued: the newest one that is valid then, so that two agencies choose alike. The next key is in
   the directory some days before it is valid, so that everybody has it by then.
4. A key that leaked is withdrawn: it leaves the next directory, and another is valid at once.
5. A link key never prints.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trust import sealing
from trust.directory import KeyUse, LinkKeyId, Member, SealedLinkKey
from trust.errors import ProbegateError, Reason
from trust.keys import Opener

LINK_KEY_BYTES: Final = 32
LINK_KEY_LIFETIME: Final = timedelta(days=365)
"""How long a link key is valid unless the authority says otherwise."""
LINK_KEY_LEAD: Final = timedelta(days=3)
"""How long a new link key is in the directory before it is valid (3)."""
_ID_BYTES: Final = 8


class KeptLinkKey(BaseModel):
    """A link key as the scheme authority keeps it (1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: LinkKeyId
    not_before: AwareDatetime
    not_after: AwareDatetime
    key: Annotated[str, Field(repr=False, min_length=44, max_length=44)]
    """32 bytes in base64."""

    @classmethod
    def generate(cls, not_before: datetime, lifetime: timedelta) -> KeptLinkKey:
        """Make a new one (1)."""
        return cls(
            id=f"link-{secrets.token_hex(_ID_BYTES)}",
            not_before=not_before,
            not_after=not_before + lifetime,
            key=base64.b64encode(secrets.token_bytes(LINK_KEY_BYTES)).decode("ascii"),
        )

    def sealed_to(self, agency: Member, at: datetime) -> SealedLinkKey | None:
        """Seal it to the agency's newest sealing key (2); None if the agency has none."""
        valid = [key for key in agency.keys if key.use is KeyUse.SEAL and key.valid_at(at)]
        if not valid:
            return None
        newest = max(valid, key=lambda key: key.not_before)
        info = sealing.link_key_info(self.id, agency.id, newest.kid)
        sealed = sealing.seal(base64.b64decode(self.key), newest, info)
        return SealedLinkKey(
            id=self.id,
            kid=newest.kid,
            not_before=self.not_before,
            not_after=self.not_after,
            sealed=base64.b64encode(sealed).decode("ascii"),
        )


_KEPT: Final = TypeAdapter(tuple[KeptLinkKey, ...])


def read_kept(text: bytes) -> tuple[KeptLinkKey, ...]:
    """Read the authority's file of link keys.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    try:
        return _KEPT.validate_json(text)
    except ValidationError:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, "not the link keys of a scheme") from None


def write_kept(keys: Iterable[KeptLinkKey]) -> bytes:
    """Return the authority's file of link keys; for a file that only its owner reads."""
    return _KEPT.dump_json(tuple(keys), indent=2) + b"\n"


@dataclass(frozen=True, slots=True)
class LinkKey:
    """A link key that an agency has opened: its id and 32 bytes."""

    id: str
    key: bytes = field(repr=False)  # (5)


def newest_at(keys: Iterable[SealedLinkKey], at: datetime) -> SealedLinkKey | None:
    """Return the key that makes the tokens of a search granted at an instant (3), if there is one.

    Two that begin together are told apart by their ids.
    """
    valid = (one for one in keys if one.not_before <= at < one.not_after)
    return max(valid, key=lambda one: (one.not_before, one.id), default=None)


def opened(sealed: SealedLinkKey, agency: str, openers: Mapping[str, Opener]) -> LinkKey:
    """Open a link key that was sealed to an agency.

    Args:
        sealed: from the directory.
        agency: the agency's directory id.
        openers: the agency's sealing keys by key id.

    Raises:
        ProbegateError: ``SEAL_INVALID``, also for a key that the agency does not have.
    """
    opener = openers.get(sealed.kid)
    if opener is None:
        raise ProbegateError(Reason.SEAL_INVALID, "no such sealing key")
    key = opener.open(sealed.sealed_bytes, sealing.link_key_info(sealed.id, agency, sealed.kid))
    if len(key) != LINK_KEY_BYTES:
        raise ProbegateError(Reason.SEAL_INVALID, "not a link key's length")
    return LinkKey(sealed.id, key)
