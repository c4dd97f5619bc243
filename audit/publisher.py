"""Writing a log's folder, so that a reader always finds the tiles of the checkpoint it sees.

1. Tiles and bundles are written before the checkpoint that needs them.
2. A file appears whole or not at all: temporary file, fsync, rename, fsync of the folder.
3. Partial tiles go only once the full one is durable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from audit.checkpoints import SignedCheckpoint
from audit.tables import storage_failure
from audit.tiles import (
    CHECKPOINT_FILE,
    ENTRIES,
    LEVELS,
    TILE_WIDTH,
    VKEY_FILE,
    encode_bundle,
    level_size,
    tile_path,
    tiles_between,
)
from audit.tree import LiveTree
from trust.errors import ProbegateError, Reason

LOCK_FILE = ".sequencer.lock"
_TEMPORARY = ".new"


def lock_folder(folder: Path) -> int:
    """Take the folder for this process, making it if need be; return the lock's descriptor.

    Raises:
        ProbegateError: LOG_UNAVAILABLE if another process has it; DISK_FULL.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_failure(error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        why = "another process has the log's folder"
        raise ProbegateError(Reason.LOG_UNAVAILABLE, detail=why) from error
    return lock


def in_use(folder: Path) -> bool:
    """Whether a process has the log open."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        os.close(lock_folder(folder))
    except ProbegateError:
        return True
    return False


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files durably; each appears whole. Raises OSError."""
    touched: set[Path] = set()
    for name, content in files:
        path = folder / name
        _make_folders(path.parent, folder, touched)
        temporary = path.with_name(path.name + _TEMPORARY)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(path)  # (2)
        touched.add(path.parent)
    for parent in touched:
        _sync_folder(parent)


def publish(
    folder: Path,
    tree: LiveTree,
    leaf: Callable[[int], bytes],
    published: int,
    target: SignedCheckpoint,
) -> None:
    """Bring the folder from ``published`` entries to ``target``.

    Repeating it from an older ``published`` writes the same bytes again.

    Args:
        folder: the log's folder.
        tree: holds the hashes.
        leaf: index to entry, for every entry of the last unpublished bundle on.
        published: the size the files hold for certain.
        target: the committed checkpoint to publish.

    Raises:
        OSError: a file could not be written; the old checkpoint still stands.
    """
    size = target.checkpoint.size
    write_files(folder, _tiles(tree, leaf, published, size))  # (1)
    write_files(folder, [(CHECKPOINT_FILE, target.note)])
    for level in (ENTRIES, *range(LEVELS)):  # (3)
        for number, width in tiles_between(level_size(published, level), level_size(size, level)):
            if width == TILE_WIDTH:
                partials = folder / f"{tile_path(level, number)}.p"
                shutil.rmtree(partials, ignore_errors=True)


def _tiles(
    tree: LiveTree, leaf: Callable[[int], bytes], published: int, size: int
) -> Iterator[tuple[str, bytes]]:
    """Yield bundles, then hash tiles from the leaves up; one at a time is in memory."""
    for number, width in tiles_between(published, size):
        first = number * TILE_WIDTH
        bundle = encode_bundle([leaf(at) for at in range(first, first + width)])
        yield tile_path(ENTRIES, number, width), bundle
    for level in range(LEVELS):
        for number, width in tiles_between(level_size(published, level), level_size(size, level)):
            yield tile_path(level, number, width), tree.tile(level, number, width)


def write_vkey(folder: Path, vkey: str) -> None:
    """Write the log's public key beside its tiles."""
    write_files(folder, [(VKEY_FILE, vkey.encode() + b"\n")])


def _make_folders(path: Path, root: Path, touched: set[Path]) -> None:
    missing = []
    while path != root and path not in touched and not path.is_dir():
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            one.mkdir()
        touched.add(one.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
