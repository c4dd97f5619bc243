"""Reading the entries of a log's folder, in order, a bundle at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from audit.checkpoints import SignedCheckpoint, open_checkpoint
from audit.folder import LogFolder
from audit.leaves import JsonValue, parse_leaf
from audit.notes import VerifierKey
from audit.tiles import TILE_WIDTH
from trust.errors import ProbegateError, Reason

Told = Callable[[str, int, int], None]
"""Told a log's name, how many of its entries are read, and how many there are."""


def untold(_name: str, _done: int, _all: int, /) -> None:
    """Tell nobody."""


class LogReader:
    """The entries of a log under one checkpoint.

    Reading does not verify; ``audit.verify.verify_folder`` does.

    Args:
        folder: the log's folder.
        vkey: the log's key; by default the one the folder names.

    Raises:
        ProbegateError: FILE_MISSING; CHECKPOINT_INVALID.
    """

    def __init__(self, folder: Path, vkey: VerifierKey | None = None) -> None:
        self._folder = LogFolder(folder)
        key = vkey or self._folder.vkey()
        self.checkpoint: SignedCheckpoint = open_checkpoint(self._folder.checkpoint(), [key])

    @property
    def size(self) -> int:
        """How many entries the checkpoint covers."""
        return self.checkpoint.checkpoint.size

    def leaf(self, index: int) -> bytes:
        """Return one entry's bytes; NOT_FOUND if there is none, LOG_CORRUPT if unreadable."""
        if not 0 <= index < self.size:
            raise ProbegateError(Reason.NOT_FOUND, detail=f"the log has {self.size} entries")
        return self._bundle(index // TILE_WIDTH)[index % TILE_WIDTH]

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield ``(index, bytes)`` from ``start`` up to ``stop`` or the end."""
        end = self.size if stop is None else min(stop, self.size)
        for number in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
            first = number * TILE_WIDTH
            for index, leaf in enumerate(self._bundle(number), first):
                if start <= index < end:
                    yield index, leaf

    def facts(
        self, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, dict[str, JsonValue]]]:
        """Yield ``(index, parsed leaf)``; LOG_CORRUPT at an entry that is not canonical."""
        for index, leaf in self.leaves(start, stop):
            yield index, parse_leaf(leaf)

    def _bundle(self, number: int) -> list[bytes]:
        return self._folder.entries(number, min(TILE_WIDTH, self.size - number * TILE_WIDTH))
