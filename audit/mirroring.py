"""Copying a log from its address into a folder, to be verified, kept and read offline.

1. The checkpoint is signed by the key that the auditor has from elsewhere.
2. It continues the copy: the copy's size is no larger and its root is a root of what was fetched.
   Otherwise the log showed two histories; both signed notes are kept, and the copy stays as it was.
3. Full tiles never change, so what is there is not fetched again. Everything that is missing is
   written before the checkpoint that needs it.
4. What was fetched hashes to the signed root before the checkpoint is taken over: entries to the
   tile of their hashes, a full tile to its place in the one above, the last tiles to the root. If
   anything does not, nothing that was fetched in this round stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.checkpoints import SignedCheckpoint, open_checkpoint
from audit.folder import LogFolder
from audit.log_source import LogAddress
from audit.merkle import leaf_hash
from audit.notes import VerifierKey
from audit.publisher import write_files, write_vkey
from audit.roots import root_at
from audit.tiles import (
    CHECKPOINT_FILE,
    ENTRIES,
    LEVELS,
    TILE_WIDTH,
    encode_bundle,
    level_size,
    subtree_of,
    tile_path,
)
from trust.errors import ProbegateError, Reason

EVIDENCE: Final = "two-histories"
"""Folder, beside the copy, of pairs of signed notes that contradict each other."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a round of copying did.

    Attributes:
        origin: the log's name.
        before: how many entries the copy had.
        size: how many it has.
        files: how many files were fetched.
    """

    origin: str
    before: int
    size: int
    files: int


def mirror(url: str, folder: Path, vkey: VerifierKey, *, ca_file: Path | None = None) -> Mirrored:
    """Bring a copy of a log up to date.

    Args:
        url: the log's prefix, http or https.
        folder: where the copy is, or will be.
        vkey: the log's key, from the scheme's directory.
        ca_file: authorities to trust instead of the system's, PEM.

    Raises:
        ProbegateError: ``SERVICE_UNREACHABLE``, ``FILE_MISSING``, ``LOG_CORRUPT``,
            ``CHECKPOINT_INVALID``; ``CHECKPOINT_INCONSISTENT`` for a second history.
    """
    there = LogAddress(url, ca_file)
    note = there.checkpoint()
    shown = open_checkpoint(note, [vkey])  # (1)
    held = _held(folder, vkey)
    size = shown.checkpoint.size
    if held is not None and held.checkpoint.size > size:
        raise _two_histories(folder, held, shown, "it has become shorter")
    folder.mkdir(parents=True, exist_ok=True)
    copy, fetched = LogFolder(folder), list[str]()
    try:
        for name, content in _missing(there, copy, size):  # (3)
            write_files(folder, [(name, content)])
            fetched.append(name)
        _require_one_history(copy, held, shown)
    except ProbegateError:
        for name in fetched:
            (folder / name).unlink()
        raise
    write_vkey(folder, str(vkey))
    write_files(folder, [(CHECKPOINT_FILE, note)])
    before = held.checkpoint.size if held is not None else 0
    return Mirrored(shown.checkpoint.origin, before, size, len(fetched))


def _missing(there: LogAddress, copy: LogFolder, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield what the copy lacks, from the top down, each once it hashes to what is above it."""
    for level in reversed(range(LEVELS)):
        for number, width, name in _lacking(copy, level, size):
            hashes = there.hashes(level, number, width)
            if width == TILE_WIDTH and subtree_of(hashes) != _above(copy, level, number, size):
                raise ProbegateError(Reason.LOG_CORRUPT, file=name)
            yield name, b"".join(hashes)
    for number, width, name in _lacking(copy, ENTRIES, size):
        entries = there.entries(number, width)
        if [leaf_hash(one) for one in entries] != copy.hashes(0, number, width):
            raise ProbegateError(Reason.LOG_CORRUPT, file=name)
        yield name, encode_bundle(entries)


def _lacking(copy: LogFolder, level: int | str, size: int) -> Iterator[tuple[int, int, str]]:
    held = level_size(size, level)
    for number in range(-(-held // TILE_WIDTH)):
        width = min(TILE_WIDTH, held - number * TILE_WIDTH)
        name = tile_path(level, number, width)
        if not (copy.path / name).exists():
            yield number, width, name


def _above(copy: LogFolder, level: int, number: int, size: int) -> bytes:
    """Return the hash of a full tile in the tile above, which is there already."""
    above, at = divmod(number, TILE_WIDTH)
    width = min(TILE_WIDTH, level_size(size, level + 1) - above * TILE_WIDTH)
    return copy.hashes(level + 1, above, width)[at]


def _require_one_history(
    copy: LogFolder, held: SignedCheckpoint | None, shown: SignedCheckpoint
) -> None:
    """Compare the tiles with the signed root (4), and with the copy's own (2)."""
    size = shown.checkpoint.size
    if root_at(copy, size, size) != shown.checkpoint.root:
        raise ProbegateError(Reason.LOG_CORRUPT, "the tiles do not hash to the signed root")
    before = held.checkpoint if held is not None else None
    if held and before and root_at(copy, size, before.size) != before.root:
        raise _two_histories(copy.path, held, shown, "it does not continue the copy")


def _held(folder: Path, vkey: VerifierKey) -> SignedCheckpoint | None:
    if not (folder / CHECKPOINT_FILE).exists():
        return None
    return open_checkpoint(LogFolder(folder).checkpoint(), [vkey])


def _two_histories(
    folder: Path, held: SignedCheckpoint, shown: SignedCheckpoint, why: str
) -> ProbegateError:
    """Keep both notes, under a name that is theirs, and return the error (2)."""
    name = hashlib.sha256(held.note + shown.note).hexdigest()[:16]
    place = folder.with_name(f"{folder.name}.{EVIDENCE}") / name
    place.mkdir(parents=True, exist_ok=True)
    write_files(place, [("held", held.note), ("shown", shown.note)])
    return ProbegateError(Reason.CHECKPOINT_INCONSISTENT, f"{why}; both notes are in {place.name}")
