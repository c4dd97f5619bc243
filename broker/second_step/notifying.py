"""Tells agencies what forces signed for them: wrong matches, acknowledgements, revocations.

1. A notice is told with the proof that it is on our log, at growing intervals, until the agency has
   acknowledged it. What is told, when and until when is in the database.
2. An agency that refuses one is told again: its directory may be behind. When the time is over,
   that it was not acknowledged is on the log, with the last reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from audit.writer import LogWriter, NewEntry
from broker.backoff import pause
from broker.second_step import leaves
from broker.second_step.models import Notice
from broker.second_step.notice_store import DELIVERED, NoticeStore
from broker.second_step.releasing import Releasing
from broker.settings import BrokerSettings
from trust import telemetry
from trust.clock import Clock
from trust.errors import ProbegateError
from trust.rpc import catalogued

AT_ONCE: Final = 32
"""Most notices told at once."""


@dataclass(frozen=True, slots=True)
class Notifying:
    """Tells agencies; the broker's core has one."""

    settings: BrokerSettings
    notices: NoticeStore
    releasing: Releasing
    log: LogWriter
    clock: Clock

    async def work(self) -> None:
        """Tell once whoever is to be told now.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        due = await self.notices.due(self.clock(), AT_ONCE)
        await asyncio.gather(*(self._one(notice) for notice in due))

    async def _one(self, notice: Notice) -> None:
        try:
            await self._tell(notice)
        except Exception as error:  # noqa: BLE001 - whatever it is, others go on
            failure = catalogued(error, "notify")
            telemetry.log("not told", agency=notice.agency, reason=failure.reason.name)

    async def _tell(self, notice: Notice) -> None:
        try:
            await self.releasing.tell(notice.agency, notice.envelope, notice.leaf_index)
        except ProbegateError as error:
            await self._not_told(notice, error)
        else:
            await self.notices.done(notice, DELIVERED)

    async def _not_told(self, notice: Notice, error: ProbegateError) -> None:
        reason = error.reason.name
        telemetry.log("not told", agency=notice.agency, reason=reason)
        now = self.clock()
        if now < notice.until:
            first, longest = self.settings.release_first_s, self.settings.release_longest_s
            await self.notices.again(notice, now + pause(notice.asked, first, longest))
            return
        leaf = leaves.notice_lapsed(notice, reason, now)  # (2)
        await self.log.append(NewEntry(leaf=leaf, also=self.notices.given_up(notice, reason)))
