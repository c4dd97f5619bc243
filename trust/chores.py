"""What a server or a client does beside its calls, for as long as it runs.

1. A step that fails is logged and does not keep the others, or its own next time, waiting.
2. Chores are ended, and have ended, before what they use is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager

from trust import telemetry
from trust.rpc import catalogued

Step = Callable[[], Awaitable[object]]


async def keep_doing(steps: Iterable[Step], interval_s: float, level: int = logging.INFO) -> None:
    """Do every step for ever, ``interval_s`` seconds after the last had its turn (1).

    Args:
        steps: what is done.
        interval_s: the pause, seconds.
        level: how loudly a failure is logged.
    """
    todo = tuple(steps)
    while True:
        await asyncio.sleep(interval_s)
        for step in todo:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - whatever it is, this loop must go on
                failure = catalogued(error, step.__name__)
                telemetry.log("not taken up", level, reason=failure.reason.name)


@asynccontextmanager
async def beside(chores: Iterable[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run chores beside the body, and end them after it (2)."""
    tasks = [asyncio.create_task(chore) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
