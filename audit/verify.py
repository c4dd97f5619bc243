"""Offline verification of a log's folder: every signature, tile, bundle and entry.

1. The checkpoint is signed by the given key.
2. Every entry hashes to its place in the level 0 tile.
3. Every full tile hashes to its place in the tile above.
4. The last tiles hash to the checkpoint's root.
5. Every older partial tile still lying about is the beginning of the one that replaced it.
6. Every entry is canonical JSON with well-formed commitments.

After a mismatch the stored hash is carried upwards, not the computed one, so that each fault is
named once, where it is. Memory holds one tile and one bundle, whatever the size of the log.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.folder import LogFolder
from audit.leaves import parse_leaf
from audit.merkle import EMPTY_ROOT, fold, leaf_hash
from audit.notes import VerifierKey
from audit.reader import Told, untold
from audit.tiles import (
    CHECKPOINT_FILE,
    ENTRIES,
    LEVELS,
    TILE_WIDTH,
    VKEY_FILE,
    encode_bundle,
    level_size,
    subtree_of,
    tile_path,
)
from trust.errors import ProbegateError, Reason

PROBLEMS_MAX = 100
"""Problems listed in one report; counting goes on."""


class Problem(BaseModel):
    """One thing that is wrong, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    entry: int | None = None
    what: str


class VerifyReport(BaseModel):
    """What verifying a folder found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    size: int
    root: str
    """Base64."""
    key: str
    """The vkey the checkpoint was verified with."""
    pinned: bool
    """Whether the key came from the auditor rather than from the folder itself."""
    entries: int
    """Entries read and found under the root."""
    files: int
    """Files read."""
    ok: bool
    problem_count: int
    problems: tuple[Problem, ...]
    """The first hundred."""


def verify_folder(
    folder: Path, vkey: VerifierKey | None = None, *, told: Told = untold
) -> VerifyReport:
    """Verify a log's folder against its signed checkpoint; a bundle at a time is in memory.

    Args:
        folder: the log's folder.
        vkey: the log's key from elsewhere; without it the folder is believed about its own key,
            which shows only that it is whole, not whose it is.
        told: hears how far reading the entries is, which is nearly all of the work.

    Raises:
        ProbegateError: FILE_MISSING if there is no checkpoint or key; CHECKPOINT_INVALID if the
            checkpoint is not signed by the key. Faults in tiles and entries are in the report.
    """
    files = LogFolder(folder, cache_tiles=1)
    key = vkey or files.vkey()
    checkpoint = open_checkpoint(files.checkpoint(), [key]).checkpoint  # (1)
    run = _Run(files, checkpoint)
    run.check_vkey_file(key)
    run.check_entries(told)
    for level in range(LEVELS):
        run.check_level(level)
    run.check_root()
    return VerifyReport(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=base64.b64encode(checkpoint.root).decode(),
        key=str(key),
        pinned=vkey is not None,
        entries=run.entries,
        files=run.files,
        ok=run.problem_count == 0,
        problem_count=run.problem_count,
        problems=tuple(run.problems),
    )


class _Run:
    """One verification under way."""

    def __init__(self, folder: LogFolder, checkpoint: Checkpoint) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self.entries = 0
        self.files = 1
        self.problem_count = 0
        self.problems: list[Problem] = []

    def check_vkey_file(self, key: VerifierKey) -> None:
        """The folder's own idea of its key should be the key."""
        try:
            same = self._folder.vkey() == key
            self.files += 1
        except ProbegateError:
            same = False
        if not same:
            self._wrong(VKEY_FILE, "does not hold the key that signed the checkpoint")

    def check_entries(self, told: Told) -> None:
        """Compare every entry with its leaf hash (2) and form (6)."""
        for number, width in self._tiles(0):
            entries, hashes = self._bundle(number, width), self._hashes(0, number, width)
            file, first = tile_path(ENTRIES, number, width), number * TILE_WIDTH
            told(self._checkpoint.origin, first + width, self._checkpoint.size)
            if entries is None or hashes is None:
                continue
            for index, (entry, hash_) in enumerate(zip(entries, hashes, strict=True), first):
                if leaf_hash(entry) != hash_:
                    self._wrong(file, "is not the entry that was logged", index)
                    continue
                self.entries += 1
                try:
                    parse_leaf(entry)
                except ProbegateError as error:
                    self._wrong(file, error.detail, index)
            self._check_partials(ENTRIES, number, width, [encode_bundle([one]) for one in entries])

    def check_level(self, level: int) -> None:
        """Compare every full tile with its hash in the level above (3)."""
        above: list[bytes] | None = None
        for number, width in self._tiles(level):
            hashes = self._hashes(level, number, width, counted=level > 0)
            at = number % TILE_WIDTH
            if width == TILE_WIDTH and at == 0:
                above = self._above(level, number)
            if hashes is None:
                continue
            if width == TILE_WIDTH and above is not None and subtree_of(hashes) != above[at]:
                self._wrong(tile_path(level, number), "does not hash to its place one level up")
            self._check_partials(level, number, width, hashes)

    def check_root(self) -> None:
        """Compare the right edge of every level with the signed root (4)."""
        edge: list[bytes] = []
        files: list[str] = []
        for level in reversed(range(LEVELS)):
            held = level_size(self._checkpoint.size, level)
            number, width = divmod(held, TILE_WIDTH)
            if width:
                hashes = self._hashes(level, number, width, counted=False)
                if hashes is None:
                    return  # said already
                edge += _complete_subtrees(hashes)
                files.append(tile_path(level, number, width))
        root = fold(edge) if edge else EMPTY_ROOT
        if root != self._checkpoint.root:
            for file in files or [CHECKPOINT_FILE]:
                self._wrong(file, "does not hash, with the other last tiles, to the signed root")

    def _above(self, level: int, number: int) -> list[bytes] | None:
        """Return the tile one level up that names tile ``number`` and its neighbours."""
        held = level_size(self._checkpoint.size, level + 1)
        first = number // TILE_WIDTH * TILE_WIDTH
        width = min(TILE_WIDTH, held - first)
        return self._hashes(level + 1, number // TILE_WIDTH, width, counted=False)

    def _tiles(self, level: int) -> Iterator[tuple[int, int]]:
        held = level_size(self._checkpoint.size, level)
        for number in range(-(-held // TILE_WIDTH)):
            yield number, min(TILE_WIDTH, held - number * TILE_WIDTH)

    def _check_partials(
        self, level: int | str, number: int, width: int, parts: list[bytes]
    ) -> None:
        """Compare what is left of narrower versions of a tile with its beginning (5)."""
        folder = self._folder.path / f"{tile_path(level, number)}.p"
        for path in sorted(folder.glob("*")):
            if not path.name.isdecimal() or not 0 < int(path.name) < width:
                continue  # the tile itself, or newer than the checkpoint
            try:
                raw = path.read_bytes()
            except FileNotFoundError:
                continue  # a live log has just dropped it for the full one
            self.files += 1
            if raw != b"".join(parts[: int(path.name)]):
                name = f"{tile_path(level, number)}.p/{path.name}"
                self._wrong(name, "is not the beginning of the tile that replaced it")

    def _hashes(
        self, level: int, number: int, width: int, *, counted: bool = True
    ) -> list[bytes] | None:
        try:
            hashes = self._folder.hashes(level, number, width)
        except ProbegateError as error:
            if counted:
                self._unreadable(tile_path(level, number, width), error)
            return None
        self.files += counted
        return hashes

    def _bundle(self, number: int, width: int) -> list[bytes] | None:
        try:
            entries = self._folder.entries(number, width)
        except ProbegateError as error:
            self._unreadable(tile_path(ENTRIES, number, width), error)
            return None
        self.files += 1
        return entries

    def _unreadable(self, file: str, error: ProbegateError) -> None:
        missing = error.reason is Reason.FILE_MISSING
        self._wrong(file, "is missing" if missing else "has the wrong length")

    def _wrong(self, file: str, what: str, entry: int | None = None) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(file=file, entry=entry, what=what))


def _complete_subtrees(hashes: list[bytes]) -> list[bytes]:
    """Return the roots of the complete subtrees over a partial tile, left to right."""
    roots, at = [], 0
    while at < len(hashes):
        width = 1 << (len(hashes) - at).bit_length() - 1
        roots.append(subtree_of(hashes[at : at + width]))
        at += width
    return roots
