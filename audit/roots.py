"""Roots of a log's earlier sizes, from its tiles: what others remember of it can be compared."""

from __future__ import annotations

from audit.folder import LogFolder
from audit.merkle import EMPTY_ROOT, fold
from audit.tiles import TILE_HEIGHT, TILE_WIDTH, level_size, subtree_of


def root_at(folder: LogFolder, held: int, size: int) -> bytes:
    """Return the root over a log's first ``size`` entries.

    Args:
        folder: the log's folder; what it holds is believed, so verify it as well.
        held: how many entries the folder's checkpoint covers.
        size: at most ``held``.

    Raises:
        ProbegateError: FILE_MISSING or LOG_CORRUPT if a tile cannot be read.
    """
    parts: list[bytes] = []
    start = 0
    for binary in reversed(range(size.bit_length())):
        if size >> binary & 1:
            parts.append(_node(folder, held, binary, start >> binary))
            start += 1 << binary
    return fold(parts) if parts else EMPTY_ROOT


def _node(folder: LogFolder, held: int, binary: int, index: int) -> bytes:
    level, within = divmod(binary, TILE_HEIGHT)
    number, at = divmod(index << within, TILE_WIDTH)
    width = min(TILE_WIDTH, level_size(held, level) - number * TILE_WIDTH)
    return subtree_of(folder.hashes(level, number, width)[at : at + (1 << within)])
