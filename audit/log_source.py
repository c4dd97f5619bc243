"""A log's checkpoint and hash tiles, from its folder or from its address, and proofs made of them.

1. Nothing read here is believed: a proof is made of it, and whoever is shown the proof checks it.
2. Over HTTP an answer has a size and a time, and redirects are not followed.
3. A partial tile that is gone is taken from the front of the full one, as every tile client must.
"""

from __future__ import annotations

import http.client
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from audit import merkle
from audit.folder import LogFolder
from audit.merkle import HASH_BYTES
from audit.settings import LEAF_MAX_BYTES, NOTE_MAX_BYTES
from audit.tiles import (
    CHECKPOINT_FILE,
    ENTRIES,
    LENGTH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    decode_bundle,
    level_size,
    split_hashes,
    subtree_of,
    tile_path,
)
from trust.errors import ProbegateError, Reason

TIMEOUT_S: Final = 30.0
"""Longest wait for a byte of an answer, seconds."""
_OK: Final = 200
BUNDLE_MAX_BYTES: Final = TILE_WIDTH * (LENGTH_BYTES + LEAF_MAX_BYTES)
"""Longest bundle of entries that is read."""


class LogSource(Protocol):
    """Where a log can be read."""

    def checkpoint(self) -> bytes:
        """Return the signed note."""

    def hashes(self, level: int, number: int, width: int) -> list[bytes]:
        """Return the first ``width`` hashes of a tile."""


class LogAddress:
    """A log over HTTP (c2sp.org/tlog-tiles).

    Args:
        url: its prefix, http or https.
        ca_file: authorities to trust instead of the system's, PEM.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        self._url = url.rstrip("/")
        self._ca_file = ca_file

    def checkpoint(self) -> bytes:
        """Return the signed note; SERVICE_UNREACHABLE or FILE_MISSING if there is none."""
        return self._read(CHECKPOINT_FILE, NOTE_MAX_BYTES)

    def hashes(self, level: int, number: int, width: int) -> list[bytes]:
        """Return the first ``width`` hashes of a tile; LOG_CORRUPT or FILE_MISSING otherwise."""
        raw = self._tile(level, number, width, TILE_WIDTH * HASH_BYTES)[: width * HASH_BYTES]
        if len(raw) != width * HASH_BYTES:
            raise ProbegateError(Reason.LOG_CORRUPT, file=tile_path(level, number, width))
        return split_hashes(raw)

    def entries(self, number: int, width: int) -> list[bytes]:
        """Return the first ``width`` entries of a bundle; LOG_CORRUPT or FILE_MISSING otherwise."""
        entries = decode_bundle(self._tile(ENTRIES, number, width, BUNDLE_MAX_BYTES))
        if entries is None or len(entries) < width:
            raise ProbegateError(Reason.LOG_CORRUPT, file=tile_path(ENTRIES, number, width))
        return entries[:width]

    def _tile(self, level: int | str, number: int, width: int, most: int) -> bytes:
        """Read a tile or a bundle; of a partial one that is gone, the full one (3)."""
        try:
            return self._read(tile_path(level, number, width), most)
        except ProbegateError as missing:
            if width == TILE_WIDTH or missing.reason is not Reason.FILE_MISSING:
                raise
            return self._read(tile_path(level, number), most)

    def _read(self, name: str, most: int) -> bytes:
        status, body = call("GET", f"{self._url}/{name}", most=most, ca_file=self._ca_file)
        if status != _OK:
            raise ProbegateError(Reason.FILE_MISSING, f"HTTP {status}", file=name)
        return body


def log_source(place: str, ca_file: Path | None = None) -> LogSource:
    """Return the log at a folder or at an http(s) address."""
    if place.startswith(("http://", "https://")):
        return LogAddress(place, ca_file)
    return LogFolder(Path(place))


def node_reader(source: LogSource, size: int) -> merkle.NodeReader:
    """Return what reads the nodes of a log's tree of ``size`` entries."""
    tile = lru_cache(maxsize=64)(source.hashes)

    def read(level: int, index: int) -> bytes:
        tile_level, within = divmod(level, TILE_HEIGHT)
        number, at = divmod(index << within, TILE_WIDTH)
        width = min(TILE_WIDTH, level_size(size, tile_level) - number * TILE_WIDTH)
        return subtree_of(tile(tile_level, number, width)[at : at + (1 << within)])

    return read


def call(
    method: str,
    url: str,
    body: bytes = b"",
    *,
    most: int,
    ca_file: Path | None = None,
    content_type: str = "",
) -> tuple[int, bytes]:
    """Make one HTTP request; return the status and the body (2).

    Raises:
        ProbegateError: ``SERVICE_UNREACHABLE``; ``CONFIG_INVALID`` for another kind of address;
            ``MESSAGE_TOO_LARGE`` for an answer past ``most`` bytes.
    """
    connection = _connection(url, ca_file)
    parts = urlsplit(url)
    try:
        headers = {"Connection": "close"}
        if content_type:
            headers["Content-Type"] = content_type
        connection.request(method, parts.path or "/", body or None, headers)
        with connection.getresponse() as answer:  # else what is left unread keeps it open
            read = answer.read(most + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ProbegateError(Reason.SERVICE_UNREACHABLE, type(error).__name__) from None
    finally:
        connection.close()
    if len(read) > most and answer.status == _OK:
        raise ProbegateError(Reason.MESSAGE_TOO_LARGE, "an answer over HTTP")
    return answer.status, read[:most]


def _connection(url: str, ca_file: Path | None) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        if host and parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    except (ValueError, OSError):
        pass
    raise ProbegateError(Reason.CONFIG_INVALID, "not an http or https address", setting="url")
