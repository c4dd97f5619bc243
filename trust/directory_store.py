"""The directory's file, the pinned scheme key's file, and the memory of the highest version seen.

The rules:

1. The highest version ever accepted, and its digest, are on the disk before the directory is used,
   so that neither a restart nor an older file brings an old directory back.
2. Processes that share the state file take turns; the floor only rises.
3. A state file that cannot be understood stops everything: its loss would reopen the way back.
   (A missing one is a first start.)
4. A reload that fails raises, and leaves the directory in use as it was.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trust import files
from trust.algorithms import PUBLIC_KEY_BYTES, Algorithm, key_id
from trust.directory import Directory, KeyId, Title, verify_directory
from trust.errors import ProbegateError, Reason
from trust.floor import Floor, FloorFile

STATE_FILE: Final = "directory.json"
"""Where a server keeps the highest version it has seen, in its state folder."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PinnedKey(_File):
    """One scheme key that this process trusts."""

    kid: KeyId
    public_key: str
    """The raw Ed25519 public key in base64."""

    @property
    def public_bytes(self) -> bytes:
        """The raw public key, 32 bytes."""
        return base64.b64decode(self.public_key, validate=True)

    @model_validator(mode="after")
    def _key_fits(self) -> Self:
        raw = self.public_bytes
        if len(raw) != PUBLIC_KEY_BYTES[Algorithm.ED25519]:
            raise ValueError("wrong key length")
        if self.kid != key_id(Algorithm.ED25519, raw):
            raise ValueError("not this key's id")
        return self


class PinnedScheme(_File):
    """The pinned file: a scheme's name and its keys (two while the scheme's key is replaced)."""

    scheme: Title
    keys: Annotated[tuple[PinnedKey, ...], Field(min_length=1, max_length=4)]

    def by_kid(self) -> Mapping[str, bytes]:
        """Return key id to raw public key."""
        return {key.kid: key.public_bytes for key in self.keys}

    @classmethod
    def load(cls, path: Path) -> PinnedScheme:
        """Read the pinned file.

        Raises:
            ProbegateError: ``FILE_MISSING`` or ``DIRECTORY_INVALID``.
        """
        try:
            return cls.model_validate_json(files.read(path))
        except ValidationError:
            raise ProbegateError(
                Reason.DIRECTORY_INVALID, f"{path} is not a pinned scheme key file"
            ) from None


class DirectoryPlaces(Protocol):
    """What of a server's settings says where its directory lies, and what it has seen of it."""

    @property
    def directory(self) -> Path: ...  # noqa: D102
    @property
    def scheme_key(self) -> Path: ...  # noqa: D102
    @property
    def state_dir(self) -> Path: ...  # noqa: D102


class DirectoryStore:
    """Loads the directory from its file and never goes back to an older one.

    Args:
        path: the directory's file (DSSE JSON).
        scheme_key_path: the pinned scheme key's file.
        state_path: where the highest version seen is kept.
    """

    def __init__(self, path: Path, scheme_key_path: Path, state_path: Path) -> None:
        self._path = path
        self._scheme_key_path = scheme_key_path
        self._floor = FloorFile(state_path)
        self._current: Directory | None = None
        self._in_use_sha256 = b""  # of the file, as those below
        self._verified_sha256 = b""

    @classmethod
    def of(cls, places: DirectoryPlaces) -> Self:
        """Return the store of a server with these settings."""
        return cls(places.directory, places.scheme_key, places.state_dir / STATE_FILE)

    def load(self, now: datetime) -> Directory:
        """Read, verify and take up the directory.

        Raises:
            ProbegateError: ``FILE_MISSING``, ``DIRECTORY_INVALID``, ``DIRECTORY_EXPIRED``,
                ``DIRECTORY_ROLLBACK``, ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
        """
        directory = self._verified(files.read(self._path), now)
        self.take_up(directory)
        return directory

    def changed(self, now: datetime) -> Directory | None:
        """Return the file's directory if it is a new one, verified and not yet taken up.

        Whoever calls puts it on the record and then takes it up. The one in use is also checked to
        still run.

        Raises:
            ProbegateError: as ``load``; the directory in use stays as it was (rule 4).
        """
        content = files.read(self._path)
        if hashlib.sha256(content).digest() == self._in_use_sha256:
            self.current.require_current(now)
            return None
        return self._verified(content, now)

    def take_up(self, directory: Directory) -> None:
        """Use a directory that ``changed`` returned from now on."""
        self._current, self._in_use_sha256 = directory, self._verified_sha256

    def reload_if_changed(self, now: datetime) -> Directory:
        """Take up the file's directory if the file changed, and return the one in use.

        Raises:
            ProbegateError: as ``load``; the directory in use stays as it was (rule 4).
        """
        found = self.changed(now) if self._current is not None else self.load(now)
        if found is not None:
            self.take_up(found)
        return self.current

    def _verified(self, content: bytes, now: datetime) -> Directory:
        scheme_keys = PinnedScheme.load(self._scheme_key_path).by_kid()
        with self._floor.turn():  # (2)
            floor = self._floor.read()
            directory = verify_directory(
                content,
                scheme_keys,
                now,
                floor.version,
                bytes.fromhex(floor.sha256) or None,
            )
            if directory.version > floor.version:  # (1)
                raised = Floor(version=directory.version, sha256=directory.sha256.hex())
                self._floor.raise_to(raised)
        self._verified_sha256 = hashlib.sha256(content).digest()
        return directory

    @property
    def current(self) -> Directory:
        """The directory in use.

        Raises:
            ProbegateError: ``DIRECTORY_INVALID`` before the first ``load``.
        """
        if self._current is None:
            raise ProbegateError(Reason.DIRECTORY_INVALID, "not loaded yet")
        return self._current
