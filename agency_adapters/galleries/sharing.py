"""What the open generations of one gallery have in common: a client and threads to call it on.

1. The client is closed once no generation that is open has it, and no call is under way.
2. A call that its deadline has overtaken, while it waited for a thread, is not made.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agency_adapters.galleries.engines import within
from trust.errors import ProbegateError, Reason

T = TypeVar("T")


class Shared:
    """A client's threads, and who uses them.

    Args:
        threads: most calls at once.
        longest_s: longest a call may take, seconds.
        close: closes the client.
    """

    def __init__(self, threads: int, longest_s: float, close: Callable[[], None]) -> None:
        self._threads = ThreadPoolExecutor(threads, "gallery")
        self._longest_s = longest_s
        self._close = close
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.load = 0
        """How many calls wait or are under way."""

    def join(self, user: object) -> None:
        """Count ``user`` among those that have the client, until it leaves or is forgotten."""
        self._users.add(user)

    async def leave(self, user: object | None = None) -> None:
        """Close the client unless somebody else has it (1)."""
        if user is not None:
            self._users.discard(user)
        if not len(self._users):
            await asyncio.to_thread(self._threads.shutdown)
            self._close()

    async def call(self, work: Callable[[float], T], deadline: float | None = None) -> T:
        """Do ``work`` on a thread; it is told how long it may take, seconds.

        Args:
            work: blocks; keeps the time it is given.
            deadline: on the event loop's clock, seconds.

        Raises:
            ProbegateError: ``DEADLINE_PASSED`` (2), and whatever ``work`` raises.
        """
        loop = asyncio.get_running_loop()

        def run() -> T:
            left_s = self._longest_s
            if deadline is not None:
                left_s = min(left_s, deadline - loop.time())
            if left_s <= 0:
                raise ProbegateError(Reason.DEADLINE_PASSED, "before the gallery was asked")
            return work(left_s)

        self.load += 1
        try:
            return await within(deadline, loop.run_in_executor(self._threads, run))
        finally:
            self.load -= 1
