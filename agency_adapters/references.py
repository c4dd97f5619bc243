"""Opaque references: what stands for a record outside the agency.

A reference is an HMAC under a key that never leaves the adapter, over the search's id and the
record's. Nobody else can invert it, and the references of one record in two searches are as unlike
as those of two records. Whatever else is kept of a record only to be recognised is under that key.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from pathlib import Path
from typing import Final

from trust import files
from trust.errors import ProbegateError, Reason
from trust.keys import require_private
from trust.strict_json import canonical

KEY_FILE: Final = "reference.key"
KEY_BYTES: Final = 32
REFERENCE_CHARS: Final = 20
"""Length of a reference, characters of base32: 100 bits."""
_DOMAIN: Final = b"probegate/reference/v1\0"
_DIGEST_DOMAIN: Final = b"probegate/recognised/v1\0"


class References:
    """Makes references under one key; the key never prints."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ProbegateError(
                Reason.KEY_FILE_INVALID, "the reference key's length", file=KEY_FILE
            )
        self._key = key

    def __repr__(self) -> str:
        return "References()"

    @classmethod
    def open(cls, state_dir: Path) -> References:
        """Read the key of a state folder, or make it once (0600).

        Raises:
            ProbegateError: ``KEY_FILE_INVALID``, ``FILE_MISSING``, ``FILE_UNWRITABLE`` or
                ``DISK_FULL``.
        """
        path = state_dir / KEY_FILE
        if not path.exists():
            files.write_private(path, secrets.token_bytes(KEY_BYTES))
        require_private(path)
        return cls(files.read(path))

    def reference(self, search_id: str, record_id: str) -> str:
        """Return the reference of a record in a search: 20 characters, a-z and 2-7.

        Args:
            search_id: the broker's id of the search, a UUID of fixed length.
            record_id: the agency's id of the record.
        """
        message = _DOMAIN + search_id.encode() + record_id.encode()
        digest = hmac.digest(self._key, message, "sha256")
        return base64.b32encode(digest).decode("ascii").lower()[:REFERENCE_CHARS]

    def digest(self, about: str, *said: str) -> bytes:
        """Return what something of a record is recognised by, 32 bytes that say nothing.

        Args:
            about: what it is, so that digests of unlike things are unlike.
            said: what it says.
        """
        return hmac.digest(self._key, _DIGEST_DOMAIN + canonical([about, *said]), "sha256")
