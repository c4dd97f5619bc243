"""C2SP tlog-tiles: where hashes and entries lie in a folder, and how they are written.

A hash tile holds up to 256 hashes; tile ``n`` of level ``l`` holds the roots of complete subtrees
of ``256 ** l`` leaves, from number ``256 * n`` on. A bundle holds up to 256 entries. Only the
last tile of a level may be partial, and its width is in its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from audit.merkle import HASH_BYTES, node_hash

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
LENGTH_BYTES: Final = 2
LEVELS: Final = 8
"""Tile levels of a tree below 2 ** 63 leaves."""
ENTRIES: Final = "entries"
CHECKPOINT_FILE: Final = "checkpoint"
VKEY_FILE: Final = "vkey"


def tile_path(level: int | str, number: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile (``level`` a number) or a bundle (``level`` is ``ENTRIES``).

    >>> tile_path(0, 1234067)
    'tile/0/x001/x234/067'
    >>> tile_path("entries", 5, 17)
    'tile/entries/005.p/17'
    """
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:  # noqa: PLR2004 - three digits to a folder
        number //= 1000
        groups.insert(0, f"x{number % 1000:03d}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def level_size(size: int, level: int | str) -> int:
    """Return how many hashes (or entries) a level holds in a tree of ``size`` leaves."""
    return size if isinstance(level, str) else size >> (TILE_HEIGHT * level)


def tiles_between(old: int, new: int) -> Iterator[tuple[int, int]]:
    """Yield ``(number, width)`` of each tile that growing a level from ``old`` to ``new`` writes.

    Both are sizes of that level; partial tiles in between are not written.
    """
    if new > old:
        for number in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
            yield number, min(TILE_WIDTH, new - number * TILE_WIDTH)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return entries, each behind its length as two bytes, big-endian."""
    return b"".join([part for one in entries for part in (len(one).to_bytes(2, "big"), one)])


def decode_bundle(raw: bytes) -> list[bytes] | None:
    """Return the entries of a bundle, or None if the lengths do not fit the bytes."""
    entries, at = [], 0
    while at < len(raw):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "big")
        entries.append(raw[start:at])
    return entries if at == len(raw) else None


def split_hashes(raw: bytes) -> list[bytes]:
    """Return the hashes of a tile; the caller has checked its length."""
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def subtree_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of hashes."""
    level = list(hashes)
    while len(level) > 1:
        level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]
