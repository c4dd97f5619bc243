"""A bare group commit: the bytes a log writes and the fsyncs it makes, and nothing else.

It has no tree, no signature, no proof, no canonical JSON: entries come as bytes. It uses the log's
own gathering, statements and file writing, so that what is compared is what the log adds.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine

from audit import tables
from audit.checkpoints import Checkpoint, SignedCheckpoint
from audit.gathering import Gathering
from audit.publisher import write_files
from audit.settings import LogSettings
from audit.tables import Session
from audit.tiles import (
    CHECKPOINT_FILE,
    ENTRIES,
    LEVELS,
    TILE_WIDTH,
    encode_bundle,
    level_size,
    tile_path,
    tiles_between,
)

NAME = "floor"
_One = TypeVar("_One")
HASH = bytes(32)


class FixedWindow(Gathering[_One]):
    """Waits the whole window whenever the last commit had company, as group commits mostly do."""

    def _wait_for(self, _others: int) -> None:
        time.sleep(self._settings.batch_window_s)


@dataclass(slots=True)
class _Waiting:
    leaf: bytes
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]


class Floor:
    """Takes entries as ``LogWriter`` does."""

    def __init__(self, engine: Engine, folder: Path, note: bytes, *, fixed: bool) -> None:
        self._folder, self._note = folder, note
        self._settings = LogSettings()
        tables.create(engine)
        self._connection = tables.connect(engine, self._settings.lock_timeout_s)
        self._session = Session(self._connection, NAME)
        tables.insert_head(self._connection, NAME, (NAME, 0, HASH, note, 0))
        self._session.commit()
        gathering = FixedWindow[_Waiting] if fixed else Gathering[_Waiting]
        self._queue = gathering(self._settings)
        self._leaves: dict[int, bytes] = {}
        self._size = self._published = 0
        self._closing, self._wake = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._write, self._files)]
        for thread in self._threads:
            thread.start()

    async def append(self, leaf: bytes) -> int:
        """Return the entry's index once it is durable."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(leaf, loop, loop.create_future())
        self._queue.put(waiting)
        return await waiting.future

    async def close(self) -> None:
        """Write what is left."""
        self._queue.end()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._session.end()

    def _write(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._queue.take()
            if not batch:
                continue
            first = self._size
            self._session.begin()
            self._session.stage(first, [one.leaf for one in batch])
            head = SignedCheckpoint(self._note, Checkpoint(NAME, first + len(batch), HASH))
            self._session.advance(first, head, self._published)
            keep_from = self._published - self._published % TILE_WIDTH
            self._session.delete_below(keep_from)
            self._session.commit()
            self._leaves.update(enumerate([one.leaf for one in batch], first))
            self._size = first + len(batch)
            self._wake.set()
            batch[0].loop.call_soon_threadsafe(_deliver, batch, first)
        self._closing.set()
        self._wake.set()

    def _files(self) -> None:
        while not self._closing.is_set() or self._wake.is_set():
            self._wake.wait()
            self._closing.wait(self._settings.publish_interval_s)
            self._wake.clear()
            self._publish(self._size)

    def _publish(self, size: int) -> None:
        old = self._published
        files: list[tuple[str, bytes]] = []
        for number, width in tiles_between(old, size):
            first = number * TILE_WIDTH
            bundle = encode_bundle([self._leaves[at] for at in range(first, first + width)])
            files.append((tile_path(ENTRIES, number, width), bundle))
        for level in range(LEVELS):
            for number, width in tiles_between(level_size(old, level), level_size(size, level)):
                files.append((tile_path(level, number, width), HASH * width))
        write_files(self._folder, files)
        write_files(self._folder, [(CHECKPOINT_FILE, self._note)])
        for index in range(old - old % TILE_WIDTH, size - size % TILE_WIDTH):
            self._leaves.pop(index, None)
        self._published = size


def _deliver(batch: list[_Waiting], first: int) -> None:
    for index, one in enumerate(batch, first):
        if not one.future.done():
            one.future.set_result(index)


def opened(folder: Path, note: bytes, engine: Any, *, fixed: bool) -> Floor:
    """Open a floor whose files go to a folder; ``fixed`` for one that always waits the window."""
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    return Floor(engine, folder, note, fixed=fixed)
