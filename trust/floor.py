"""The highest version of a signed document that was ever trusted, kept against rollback.

Rules:

1. The highest version, and its digest, are on the disk before the document is used, so that neither
   a restart nor an older file brings an old one back.
2. Processes that share the state file take turns; the floor only rises.
3. A state file that cannot be understood stops everything. (A missing one is a first start.)
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from trust import files
from trust.errors import ProbegateError, Reason


class Floor(BaseModel):
    """A version and the digest it had; version 0 is "nothing seen yet"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[int, Field(ge=0)] = 0
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""


class FloorFile:
    """Where a floor is kept.

    Args:
        path: the state file; its lock lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Floor:
        """Return the floor.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` (3).
        """
        if not self._path.exists():
            return Floor()
        try:
            return Floor.model_validate_json(files.read(self._path))
        except ValidationError:  # (3)
            raise ProbegateError(
                Reason.STATE_UNAVAILABLE, f"{self._path} does not say which version was seen"
            ) from None

    def raise_to(self, floor: Floor) -> None:
        """Keep a floor on the disk (1); call it within ``turn`` and only with a higher one."""
        files.write_atomic(self._path, floor.model_dump_json().encode())

    def turn(self) -> AbstractContextManager[None]:
        """Hold the lock that lets one process at a time read and raise the floor (2).

        Raises:
            ProbegateError: ``FILE_UNWRITABLE``.
        """
        return files.turn(self._path.with_name(f"{self._path.name}.lock"))
