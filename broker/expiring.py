"""States ended searches anew, without what an agency found and nobody may keep any longer.

1. What an agency found is gone when its time is over (``retention``), whatever other agencies'
   agreements say; what those found stays. Only what was found goes: an answer that there is no
   candidate, a denial or a held answer holds nothing of anybody's record.
2. The signed report, its candidates in the ranking or the lanes, their groups and link tokens go
   together. That there was an answer, its state and its digest stay in the outcome, with when the
   rest was erased: a force is told that it is gone, never that nothing was found (promise 5).
3. The new end is signed, logged and kept as any other is, over the very end that it replaces
   (``ending``): the entry on the search log is the evidence of the erasure, and commits with it.
4. What is under legal hold stays until the hold is lifted.
5. One search that cannot be stated anew keeps no other from it.
6. Their bytes are gone from SQLite's files when that is done, as ``retention`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from audit.scrubbing import Scrubber
from broker.ending import Ending, replaced
from broker.expiring_store import ExpiringStore
from broker.models import SearchRecord
from broker.retention import ResultRetention
from broker.store import SearchStore
from trust import telemetry
from trust.clock import Clock
from trust.rpc import catalogued

AT_ONCE: Final = 500
"""Searches that are looked through in one round."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """Erases what agencies found when its time is over; the broker's core has one.

    Attributes:
        store: which searches are to be looked at.
        searches: where they are kept.
        retention: how long what was found is kept.
        ending: states searches anew.
        files: sees to the database's files once something was erased.
        clock: the time.
    """

    store: ExpiringStore
    searches: SearchStore
    retention: ResultRetention
    ending: Ending
    files: Scrubber
    clock: Clock

    async def erase(self) -> None:
        """Erase once what is due (1) (4) (5) (6).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
        """
        erased = 0
        while due := await self.store.due(self.clock(), AT_ONCE):
            done = [await self._looked_at(force, search_id) for force, search_id in due]
            erased += sum(gone or 0 for gone in done)
            if len(due) < AT_ONCE or all(gone is None for gone in done):
                break
        if erased:
            self.files.erased()
        await self.files.scrub()
        if erased:
            telemetry.log("answers erased", count=erased)

    async def _looked_at(self, force: str, search_id: str) -> int | None:
        """Return of how many agencies something was erased, or none if that failed (5)."""
        try:
            record = await self.searches.get(force, search_id)
            return 0 if record is None else await self._erase(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, other searches go on
            reason = catalogued(error, "expiring").reason.name
            telemetry.log("answers not erased", search_id=search_id, reason=reason)
            return None

    async def _erase(self, record: SearchRecord) -> int:
        """Erase what is due of one search, and keep when it is looked at again (1)."""
        now, end = self.clock(), replaced(record)
        until = dict(self.retention.answers_until(record.decisions, record.answers, end.ended_at))
        gone = {agency for agency, time in until.items() if time <= now}
        again = min((time for time in until.values() if time > now), default=None)
        if gone:
            await self.ending.without(record, gone, again, self.store.expired)  # (2) (3)
        else:
            await self.store.looked_at(record, again)
        return len(gone)
