"""Group commit: which entries go into one commit, so that an fsync serves as many as came together.

1. An entry that comes alone is taken at once.
2. After a commit that served several, those who had to wait for it come back together: the next
   one waits until as many are there as the last one served, and ``batch_window_s`` at most.
3. The committing thread is woken while the first entry is still being made: waking takes as long.
4. A commit takes at most ``batch_max_entries``, in the order in which they came.
"""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from audit.settings import LogSettings

_One = TypeVar("_One")
_COMING: Final = object()
"""Says that an entry is being made; it may not come."""
_LOOK_EVERY_S: Final = 0.000_25
"""Seconds between two looks at whether the others have come."""


class Gathering(Generic[_One]):
    """A queue from any thread to the one that commits."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._company = 0

    def announce(self) -> None:
        """Say that an entry may follow; it costs nothing where others wait (3)."""
        if not self._queue.qsize():
            self._queue.put(_COMING)

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
        while first is _COMING:  # (3)
            first = self._queue.get()
        if first is None:
            return [], True
        if self._company > 1:  # (1)
            self._wait_for(self._company - 1)
        batch = [first]
        for _ in range(min(self._queue.qsize(), self._settings.batch_max_entries - 1)):  # (4)
            one = self._queue.get()
            if one is None:
                return batch, True
            if one is not _COMING:
                batch.append(one)
        self._company = len(batch)
        return batch, False

    def drain(self) -> list[_One]:
        """Return what still waits."""
        left = []
        with suppress(queue.Empty):
            while True:
                one = self._queue.get_nowait()
                if one is not None and one is not _COMING:
                    left.append(one)
        return left

    def _wait_for(self, others: int) -> None:
        """Apply rule (2)."""
        until = time.monotonic() + self._settings.batch_window_s
        while self._queue.qsize() < others and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
