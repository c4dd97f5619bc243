"""The bundle in use, its file, and the memory of the highest version trusted.

Rules:
1. The highest version ever trusted, and its digest, are on the disk before the bundle is used, so
   that neither a restart nor an older file brings old agreements back.
2. A version trusted before has the very manifest seen before; only signatures may be added to it.
3. Processes that share the state file take turns; the floor only rises.
4. A state file that cannot be understood stops everything. (A missing one is a first start.)
5. A bundle that is refused raises, and leaves the one in use as it was.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from policy.bundle import load_bundle
from policy.clause_model import FrozenModel
from policy.decision import CompiledPolicy, compile_bundle
from policy.yaml_source import read_file
from trust import files
from trust.directory import Directory
from trust.errors import ProbegateError, Reason


class _Floor(FrozenModel):
    version: Annotated[int, Field(ge=0)] = 0
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""


class BundleStore:
    """Loads the bundle from its file and never goes back to an older one.

    Args:
        path: the bundle's file.
        state_path: where the highest version trusted is kept.
    """

    def __init__(self, path: Path, state_path: Path) -> None:
        self._path = path
        self._state_path = state_path
        self._current: CompiledPolicy | None = None
        self._loaded: tuple[bytes, bytes] = (b"", b"")

    @property
    def current(self) -> CompiledPolicy:
        """The compiled agreements in use.

        Raises:
            ProbegateError: BUNDLE_INVALID before the first ``load``.
        """
        if self._current is None:
            raise ProbegateError(Reason.BUNDLE_INVALID, "not loaded yet")
        return self._current

    def load(self, directory: Directory, at: datetime) -> CompiledPolicy:
        """Read, verify, compile and take up the bundle.

        Raises:
            ProbegateError: FILE_MISSING, BUNDLE_INVALID, BUNDLE_ROLLBACK, STATE_UNAVAILABLE,
                DISK_FULL or FILE_UNWRITABLE; the bundle in use stays (5).
        """
        return self._take_up(read_file(self._path), directory, at)

    def reload_if_changed(self, directory: Directory, at: datetime) -> CompiledPolicy:
        """Take up the file's bundle if the file or the directory changed.

        A changed directory can revoke a signature, so it is a reason to verify again.

        Raises:
            ProbegateError: as ``load``.
        """
        raw = read_file(self._path)
        if self._current is not None and self._loaded == (raw, directory.sha256):
            return self._current
        return self._take_up(raw, directory, at)

    def _take_up(self, raw: bytes, directory: Directory, at: datetime) -> CompiledPolicy:
        with self._turn():  # (3)
            floor = self._floor()
            bundle = load_bundle(raw, directory, at, floor.version)
            seen = _Floor(version=bundle.version, sha256=bundle.sha256.hex())
            if bundle.version == floor.version and floor != seen:  # (2)
                raise ProbegateError(
                    Reason.BUNDLE_ROLLBACK,
                    f"another bundle of version {bundle.version}",
                    version=str(bundle.version),
                )
            compiled = compile_bundle(bundle)
            if seen != floor:  # (1)
                files.write_atomic(self._state_path, seen.model_dump_json().encode())
        self._current, self._loaded = compiled, (raw, directory.sha256)
        return compiled

    def _floor(self) -> _Floor:
        if not self._state_path.exists():
            return _Floor()
        try:
            return _Floor.model_validate_json(files.read(self._state_path))
        except ValidationError:  # (4)
            raise ProbegateError(
                Reason.STATE_UNAVAILABLE, f"{self._state_path} does not say which version was seen"
            ) from None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        lock = self._state_path.with_name(f"{self._state_path.name}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, files.PRIVATE_FILE_MODE)
        except OSError as error:
            raise ProbegateError(Reason.FILE_UNWRITABLE, f"{lock}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
