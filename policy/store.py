"""The bundle in use, its file, and the memory of the highest version trusted.

Rules:
1. The highest version ever trusted, and its digest, are on the disk before the bundle is used, so
   that neither a restart nor an older file brings old agreements back.
2. A version trusted before has the very manifest seen before; only signatures may be added to it.
3. Processes that share the state file take turns; the floor only rises.
4. A state file that cannot be understood stops everything. (A missing one is a first start.)
5. A bundle that is refused raises, and leaves the one in use as it was.
6. Every bundle taken up stays in ``bundles`` beside the state file, so that what was decided under
   it can be decided again; it is known by the digest that the log names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from policy.bundle import load_bundle
from policy.decision import Bundle, CompiledPolicy, compile_bundle
from policy.yaml_source import read_file
from trust import files
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.floor import Floor, FloorFile

ARCHIVE_FOLDER: Final = "bundles"
"""Where in a server's state folder the bundles it took up are kept."""


class BundleStore:
    """Loads the bundle from its file and never goes back to an older one.

    Args:
        path: the bundle's file.
        state_path: where the highest version trusted is kept.
    """

    def __init__(self, path: Path, state_path: Path) -> None:
        self._path = path
        self._floor = FloorFile(state_path)
        self._archive = BundleArchive(state_path.parent)
        self._current: CompiledPolicy | None = None
        self._in_use: tuple[bytes, bytes] = (b"", b"")  # file and directory
        self._checked: tuple[bytes, bytes] = (b"", b"")
        self._checked_at = datetime.min.replace(tzinfo=UTC)

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
        """Decide by what ``changed`` returned from now on.

        Raises:
            ProbegateError: ``DISK_FULL`` or ``FILE_UNWRITABLE`` (6); the bundle in use stays.
        """
        self._archive.keep(self._checked[0], compiled.bundle.sha256, self._checked_at)
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
            bundle = _trusted(raw, directory, at, floor)
            seen = Floor(version=bundle.version, sha256=bundle.sha256.hex())
            compiled = compile_bundle(bundle)
            if seen != floor:  # (1)
                self._floor.raise_to(seen)
        self._checked, self._checked_at = (raw, directory.sha256), at
        return compiled


class BundleArchive:
    """Every bundle that was taken up, by its manifest's digest and when (6).

    One manifest can have several files: a force that joins adds its signature.

    Args:
        state_dir: the server's state folder.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / ARCHIVE_FOLDER

    def keep(self, raw: bytes, sha256: bytes, at: datetime) -> None:
        """Keep a bundle file, unless it is the newest of its manifest already.

        Raises:
            ProbegateError: ``DISK_FULL`` or ``FILE_UNWRITABLE``.
        """
        kept = self._of(sha256)
        if kept and files.read(kept[-1]) == raw:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=files.PRIVATE_FOLDER_MODE)
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        files.write_atomic(self._folder / f"{sha256.hex()}-{stamp}.json", raw)

    def bundle(self, sha256: bytes, at: datetime) -> bytes:
        """Return the bundle of this manifest that was in use at an instant.

        Raises:
            ProbegateError: ``FILE_MISSING``.
        """
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        kept = self._of(sha256)
        if not kept:
            raise ProbegateError(
                Reason.FILE_MISSING, "no such bundle was kept", file=f"{sha256.hex()}.json"
            )
        until = [path for path in kept if path.stem.partition("-")[2] <= stamp]
        return files.read(until[-1] if until else kept[0])

    def _of(self, sha256: bytes) -> list[Path]:
        return sorted(self._folder.glob(f"{sha256.hex()}-*.json"))


def check_bundle(raw: bytes, directory: Directory, at: datetime, state_path: Path) -> Bundle:
    """Return what a server with this state file would take up, changing nothing.

    Raises:
        ProbegateError: ``BUNDLE_INVALID``, ``BUNDLE_ROLLBACK`` or ``STATE_UNAVAILABLE``.
    """
    return _trusted(raw, directory, at, FloorFile(state_path).read())


def _trusted(raw: bytes, directory: Directory, at: datetime, floor: Floor) -> Bundle:
    bundle = load_bundle(raw, directory, at, floor.version)
    if bundle.version == floor.version and floor.sha256 != bundle.sha256.hex():  # (2)
        raise ProbegateError(
            Reason.BUNDLE_ROLLBACK,
            f"another bundle of version {bundle.version}",
            version=str(bundle.version),
        )
    return bundle
