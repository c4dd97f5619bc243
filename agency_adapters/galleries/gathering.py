"""Concurrent probes gathered into one pass: the gallery's memory is read once for all of them.

1. What arrives while a pass runs waits, and goes into the next one together, up to ``most`` probes.
2. A pass costs nearly the same for one probe as for a dozen, and takes the processor from whoever
   reads the papers of the next ones. So while several calls are being served, it waits until as
   many probes have come as ``SHARE`` of those calls, and ``patience_s`` at most: what is on its way
   has its papers read meanwhile, and who is answered mostly asks again. A lone probe waits for
   nobody.
3. No more than ``waiting`` probes wait. Another is refused with ``SERVER_BUSY`` and a time to come
   back, before anything is done for it.
4. A probe whose caller has gone, or whose deadline has passed, is not searched for.
5. Probes are held here as long as they wait or are searched, and nowhere after that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from trust.errors import ProbegateError, Reason

SHARE: Final = 0.75
"""As many probes as this part of the calls that are being served are enough for a pass."""
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Waiting(Generic[_Asked, _Answer]):
    asked: _Asked = field(repr=False)
    deadline: float | None
    answer: asyncio.Future[_Answer]


class Gatherer(Generic[_Asked, _Answer]):
    """Runs passes, one at a time.

    Args:
        run: answers some questions in one pass; called on a worker thread.
        most: the most questions of one pass.
        waiting: the most questions that wait.
        patience_s: how long a pass waits for company, seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[_Asked]], Sequence[_Answer]],
        *,
        most: int,
        waiting: int,
        patience_s: float = 0.0,
    ) -> None:
        self._run = run
        self._most = most
        self._limit = waiting
        self._waiting: deque[_Waiting[_Asked, _Answer]] = deque()
        self._passes: asyncio.Task[None] | None = None
        self._patience_s = patience_s
        self._company = 1
        self._came = asyncio.Event()

    @property
    def load(self) -> int:
        """How many questions wait."""
        return len(self._waiting)

    async def ask(self, asked: _Asked, deadline: float | None = None, company: int = 1) -> _Answer:
        """Answer one question together with others that wait.

        Args:
            asked: the question.
            deadline: when the answer is of no more use, on the event loop's clock, seconds.
            company: how many are being served now, this one included.

        Raises:
            ProbegateError: ``SERVER_BUSY`` or ``DEADLINE_PASSED``, and what the pass raised.
        """
        if len(self._waiting) >= self._limit:  # (3)
            raise ProbegateError(Reason.SERVER_BUSY)
        loop = asyncio.get_running_loop()
        one = _Waiting(asked, deadline, loop.create_future())
        self._waiting.append(one)
        self._company = company
        if self._enough:
            self._came.set()
        if self._passes is None or self._passes.done():
            self._passes = loop.create_task(self._run_passes())
        answer: _Answer = await one.answer
        return answer

    async def idle(self) -> None:
        """Wait until no pass runs."""
        if self._passes is not None:
            await asyncio.wait({self._passes})

    async def _run_passes(self) -> None:
        while self._waiting:
            await self._gathered()
            together = self._taken()
            if not together:
                continue
            try:
                answers = await asyncio.to_thread(self._run, [one.asked for one in together])
            except Exception as error:  # noqa: BLE001 - each caller is told, and the next pass runs
                for one in together:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, answer in zip(together, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    @property
    def _enough(self) -> bool:
        wanted = min(int(SHARE * self._company), self._most)
        return len(self._waiting) >= wanted

    async def _gathered(self) -> None:
        """Wait until enough have come, or the patience is over (2)."""
        if not self._enough:
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._came.wait()

    def _taken(self) -> list[_Waiting[_Asked, _Answer]]:
        """Take what goes into the next pass (1) (4)."""
        now = asyncio.get_running_loop().time()
        taken: list[_Waiting[_Asked, _Answer]] = []
        while self._waiting and len(taken) < self._most:
            one = self._waiting.popleft()
            if one.answer.done():
                continue
            if one.deadline is not None and one.deadline <= now:
                one.answer.set_exception(ProbegateError(Reason.DEADLINE_PASSED))
                continue
            taken.append(one)
        return taken
