"""Reading a log's folder: checkpoint, key, hash tiles and entry bundles, with bounded memory."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from audit.merkle import HASH_BYTES
from audit.notes import VerifierKey
from audit.settings import NOTE_MAX_BYTES
from audit.tiles import (
    CHECKPOINT_FILE,
    ENTRIES,
    TILE_WIDTH,
    VKEY_FILE,
    decode_bundle,
    split_hashes,
    tile_path,
)
from trust.errors import ProbegateError, Reason

_BUNDLE_CACHE = 8


class LogFolder:
    """The files of one log.

    A live log replaces partial tiles by full ones while it is read, so a partial tile that is
    gone is taken from the front of the full one, as every tile client must.

    Args:
        path: the folder.
        cache_tiles: full hash tiles (8 kB each) kept in memory.
    """

    def __init__(self, path: Path, cache_tiles: int = 64) -> None:
        self.path = path
        self.full_hashes = lru_cache(maxsize=cache_tiles)(self._full_hashes)
        self.full_entries = lru_cache(maxsize=_BUNDLE_CACHE)(self._full_entries)

    def checkpoint(self) -> bytes:
        """Return the signed note; FILE_MISSING if there is none."""
        return self._read(CHECKPOINT_FILE)[: NOTE_MAX_BYTES + 1]

    def vkey(self) -> VerifierKey:
        """Return the key the folder itself names. It proves nothing: pin the key instead."""
        try:
            text = self._read(VKEY_FILE).decode("utf-8")
        except UnicodeDecodeError:
            raise ProbegateError(Reason.CHECKPOINT_INVALID, detail="the vkey file") from None
        return VerifierKey.parse(text.removesuffix("\n"))

    def hashes(self, level: int, number: int, width: int) -> list[bytes]:
        """Return the first ``width`` hashes of a tile; LOG_CORRUPT or FILE_MISSING otherwise."""
        if width == TILE_WIDTH:
            return self.full_hashes(level, number)
        name = tile_path(level, number, width)
        try:
            raw = self._read(name)
        except ProbegateError as missing:
            if not (self.path / tile_path(level, number)).exists():
                raise missing from None
            return self.full_hashes(level, number)[:width]
        if len(raw) != width * HASH_BYTES:
            raise ProbegateError(Reason.LOG_CORRUPT, file=name)
        return split_hashes(raw)

    def entries(self, number: int, width: int) -> list[bytes]:
        """Return the first ``width`` entries of a bundle; LOG_CORRUPT or FILE_MISSING otherwise."""
        if width == TILE_WIDTH:
            return self.full_entries(number)
        name = tile_path(ENTRIES, number, width)
        try:
            raw = self._read(name)
        except ProbegateError as missing:
            if not (self.path / tile_path(ENTRIES, number)).exists():
                raise missing from None
            return self.full_entries(number)[:width]
        return _decoded(raw, width, name)

    def _full_hashes(self, level: int, number: int) -> list[bytes]:
        name = tile_path(level, number)
        raw = self._read(name)
        if len(raw) != TILE_WIDTH * HASH_BYTES:
            raise ProbegateError(Reason.LOG_CORRUPT, file=name)
        return split_hashes(raw)

    def _full_entries(self, number: int) -> list[bytes]:
        name = tile_path(ENTRIES, number)
        return _decoded(self._read(name), TILE_WIDTH, name)

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError:
            raise ProbegateError(Reason.FILE_MISSING, file=name) from None


def _decoded(raw: bytes, width: int, name: str) -> list[bytes]:
    entries = decode_bundle(raw)
    if entries is None or len(entries) != width:
        raise ProbegateError(Reason.LOG_CORRUPT, file=name)
    return entries
