"""Logs of any size, written at once: ten million appends would take an hour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from audit import tables
from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.durable import durable_engine
from audit.merkle import EMPTY_ROOT, fold, leaf_hash
from audit.notes import NoteSigner, note_signer
from audit.tables import Session
from audit.tiles import CHECKPOINT_FILE, ENTRIES, TILE_WIDTH, encode_bundle, subtree_of, tile_path
from trust.ed25519 import SigningKey

ORIGIN: Final = "broker.example/search"
KEY: Final = SigningKey(Ed25519PrivateKey.from_private_bytes(b"b" * 32))
NAME: Final = "search"


def signer() -> NoteSigner:
    """Return the benchmark's log key."""
    return note_signer(ORIGIN, KEY.sign, KEY.public_key)


def entry(number: int) -> bytes:
    """Return an entry as canonical JSON, about 100 bytes."""
    return b'{"at":"2026-11-25T10:00:00+00:00","n":%d,"type":"benchmark.entry","v":1}' % number


def open_engine(path: Path) -> Engine:
    """Open a database as the servers do."""
    return durable_engine(f"sqlite:///{path}")


def make_log(base: Path, size: int) -> Path:
    """Write a published log of ``size`` entries with its database; return its folder."""
    folder = base / "log"
    hashes: list[list[bytes]] = [[]]
    tail: list[bytes] = []
    for number, entries in _bundles(size):
        _write(folder, tile_path(ENTRIES, number, len(entries)), encode_bundle(entries))
        _add(folder, hashes, 0, [leaf_hash(one) for one in entries])
        tail = entries if len(entries) < TILE_WIDTH else []
    for level, rest in enumerate(hashes):
        count = _count(size, level)
        if count % TILE_WIDTH:
            path = tile_path(level, count // TILE_WIDTH, count % TILE_WIDTH)
            _write(folder, path, b"".join(rest))
    root = _root(hashes)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, root), signer()).note
    _write(folder, CHECKPOINT_FILE, note)
    engine = open_engine(base / "state.db")
    tables.create(engine)
    connection = tables.connect(engine, 30)
    tables.insert_head(connection, NAME, (ORIGIN, size, root, note, size))
    Session(connection, NAME).stage(size - len(tail), tail)
    connection.commit()
    connection.close()
    engine.dispose()
    return folder


def _bundles(size: int) -> Iterator[tuple[int, list[bytes]]]:
    for number, first in enumerate(range(0, size, TILE_WIDTH)):
        yield number, [entry(at) for at in range(first, min(first + TILE_WIDTH, size))]


def _add(folder: Path, hashes: list[list[bytes]], level: int, more: list[bytes]) -> None:
    """Add hashes to a level; a full tile is written and goes one level up."""
    if level == len(hashes):
        hashes.append([])
    hashes[level] += more
    if len(hashes[level]) == TILE_WIDTH:
        full, hashes[level] = hashes[level], []
        if level + 1 == len(hashes):
            hashes.append([])
        number = _NUMBERS.setdefault((str(folder), level), 0)
        _NUMBERS[(str(folder), level)] = number + 1
        _write(folder, tile_path(level, number), b"".join(full))
        _add(folder, hashes, level + 1, [subtree_of(full)])


_NUMBERS: dict[tuple[str, int], int] = {}


def _root(hashes: list[list[bytes]]) -> bytes:
    edge: list[bytes] = []
    for rest in reversed(hashes):
        at = 0
        while at < len(rest):
            width = 1 << (len(rest) - at).bit_length() - 1
            edge.append(subtree_of(rest[at : at + width]))
            at += width
    return fold(edge) if edge else EMPTY_ROOT


def _count(size: int, level: int) -> int:
    return size >> (8 * level)


def _write(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
