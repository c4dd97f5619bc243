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

from datetime import datetime
from pathlib import Path

from policy.bundle import load_bundle
from policy.decision import CompiledPolicy, compile_bundle
from policy.yaml_source import read_file
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.floor import Floor, FloorFile


class BundleStore:
    """Loads the bundle from its file and never goes back to an older one.

    Args:
        path: the bundle's file.
        state_path: where the highest version trusted is kept.
    """

    def __init__(self, path: Path, state_path: Path) -> None:
        self._path = path
        self._floor = FloorFile(state_path)
        self._current: CompiledPolicy | None = None
        self._in_use: tuple[bytes, bytes] = (b"", b"")  # file and directory
        self._checked: tuple[bytes, bytes] = (b"", b"")

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
        compiled = self._verified(read_file(self._path), directory, at)
        self.take_up(compiled)
        return compiled

    def changed(self, directory: Directory, at: datetime) -> CompiledPolicy | None:
        """Return the bundle anew if its file or the directory changed; it is not yet taken up.

        A changed directory can revoke a signature, so it is a reason to verify again. Whoever calls
        puts what is returned on the record and then takes it up.

        Raises:
            ProbegateError: as ``load``.
        """
        raw = read_file(self._path)
        if self._current is not None and self._in_use == (raw, directory.sha256):
            return None
        return self._verified(raw, directory, at)

    def take_up(self, compiled: CompiledPolicy) -> None:
        """Decide by what ``changed`` returned from now on."""
        self._current, self._in_use = compiled, self._checked

    def reload_if_changed(self, directory: Directory, at: datetime) -> CompiledPolicy:
        """Take up the bundle anew if its file or the directory changed; return the one in use.

        Raises:
            ProbegateError: as ``load``.
        """
        found = self.changed(directory, at)
        if found is not None:
            self.take_up(found)
        return self.current

    def _verified(self, raw: bytes, directory: Directory, at: datetime) -> CompiledPolicy:
        with self._floor.turn():  # (3)
            floor = self._floor.read()
            bundle = load_bundle(raw, directory, at, floor.version)
            seen = Floor(version=bundle.version, sha256=bundle.sha256.hex())
            if bundle.version == floor.version and floor != seen:  # (2)
                raise ProbegateError(
                    Reason.BUNDLE_ROLLBACK,
                    f"another bundle of version {bundle.version}",
                    version=str(bundle.version),
                )
            compiled = compile_bundle(bundle)
            if seen != floor:  # (1)
                self._floor.raise_to(seen)
        self._checked = (raw, directory.sha256)
        return compiled
