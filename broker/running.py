"""A search while this process runs it: what has come so far, who watches it, and its proof."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from broker.models import AgencyAnswer, SearchRecord
from trust.errors import ProbegateError
from trust.messages import SearchGrant, SearchLimits


@dataclass(slots=True)
class RunningSearch:
    """A search under way in this process; watchers wait on ``changed``."""

    record: SearchRecord
    grant: SearchGrant | None
    limits: SearchLimits
    answers: dict[str, AgencyAnswer] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    cancelled: bool = False
    refusals: int = 0
    """How often its end was not recorded though that was tried."""
    refusal: ProbegateError | None = None
    """Why it was not the last time."""
    ended: asyncio.Future[SearchRecord] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, answer: AgencyAnswer) -> None:
        """Take in one agency's outcome; the first one stands."""
        self.answers.setdefault(answer.outcome.agency, answer)
        self.notify()

    def refused(self, why: ProbegateError) -> None:
        """Take note that its end was not recorded; it is tried again."""
        self.refusals, self.refusal = self.refusals + 1, why
        self.notify()

    async def until_ended(self) -> SearchRecord:
        """Return the search once it has ended.

        Raises:
            ProbegateError: why its end was not recorded, if that is tried and refused meanwhile.
        """
        before = self.refusals
        while not self.ended.done():
            changed = self.changed
            if self.refusal is not None and self.refusals > before:
                raise self.refusal
            await changed.wait()
        return self.ended.result()

    def notify(self) -> None:
        """Wake every watcher."""
        self.changed.set()
        self.changed = asyncio.Event()

    def cancel(self) -> None:
        """Stop waiting for agencies; the search then ends with what it has."""
        self.cancelled = True
        for task in self.asking.values():
            task.cancel()

    def snapshot(self) -> SearchRecord:
        """Return the search as it is now, answers in the order's sequence."""
        known = tuple(
            self.answers[d.agency] for d in self.record.decisions if d.agency in self.answers
        )
        return replace(self.record, answers=known)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where in the log a search stands, and its proof there."""

    leaf: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    checkpoint_size: int
