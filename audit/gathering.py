"""Group commit: which entries go into one commit, so that an fsync serves as many as came together.

1. An entry that comes alone is taken at once.
2. After a commit that served several, those who had to wait for it come back together: the next
   one waits until as many are there as the last one served, and ``batch_window_s`` at most.
3. A commit takes at most ``batch_max_entries``, in the order in which they came.
"""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import Final, Generic, TypeVar

from audit.settings import LogSettings

_One = TypeVar("_One")
_LOOK_EVERY_S: Final = 0.000_25
"""Seconds between two looks at whether the others have come."""


class Gathering(Generic[_One]):
    """A queue from any thread to the one that commits."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._queue: queue.SimpleQueue[_One | None] = queue.SimpleQueue()
        self._company = 0

    def put(self, one: _One) -> None:
        """Add an entry."""
        self._queue.put(one)

    def end(self) -> None:
        """Say that nothing more comes."""
        self._queue.put(None)

    def waiting(self) -> int:
        """Return how many wait."""
        return self._queue.qsize()

    def take(self) -> tuple[list[_One], bool]:
        """Return what goes into the next commit, once there is any, and whether the end came."""
        first = self._queue.get()
        if first is None:
            return [], True
        if self._company > 1:  # (1)
            self._wait_for(self._company - 1)
        batch = [first]
        for _ in range(min(self._queue.qsize(), self._settings.batch_max_entries - 1)):  # (3)
            one = self._queue.get()
            if one is None:
                return batch, True
            batch.append(one)
        self._company = len(batch)
        return batch, False

    def drain(self) -> list[_One]:
        """Return what still waits."""
        left = []
        with suppress(queue.Empty):
            while True:
                one = self._queue.get_nowait()
                if one is not None:
                    left.append(one)
        return left

    def _wait_for(self, others: int) -> None:
        """Apply rule (2)."""
        until = time.monotonic() + self._settings.batch_window_s
        while self._queue.qsize() < others and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
