"""Quota counters, exact under concurrency.

1. A counter is read from the table when it is first wanted and held in memory from then on.
2. A permitted search is counted before it is recorded (``reserve``), and uncounted if the recording
   fails. Between the decision and the reservation nothing else runs, so of many requests at once
   exactly as many are permitted as a quota leaves.
3. A counter with a reservation under way is never dropped from memory: the table does not show that
   search yet, and a fresh reading would miss it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection

from policy.ledger.statements import Statements
from policy.ledger.subjects import Subjects
from policy.ledger.times import window_of
from policy.settings import limits
from policy.standing import Per, Window, counter


@dataclass(slots=True)
class _Tally:
    """The searches counted for one subject in one window, by agency."""

    by_agency: Counter[str]
    reserved: int = 0


@dataclass(slots=True)
class Reservation:
    """A search that is counted although not on the log yet."""

    tallies: tuple[_Tally, ...]
    agencies: tuple[str, ...]
    open: bool = True

    def keep(self) -> None:
        """The search is on the log: it stays counted."""
        self._close(back=False)

    def release(self) -> None:
        """The search is not on the log: it is not counted."""
        self._close(back=True)

    def _close(self, *, back: bool) -> None:
        if not self.open:
            return
        self.open = False
        for tally in self.tallies:
            tally.reserved -= 1
            if back:
                tally.by_agency.subtract(self.agencies)


class _Place(NamedTuple):
    """Which counter, of whom, in which window."""

    per: Per
    subject: bytes | str
    start_us: int
    end_us: int


Readings = dict[_Place, Counter[str]]
ReadAll = Callable[[Callable[[Connection], Readings]], Awaitable[Readings]]


@dataclass(slots=True)
class Tallies:
    """Every counter in memory, least recently used first.

    Args:
        said: how counters are read.
    """

    said: Statements
    _held: OrderedDict[_Place, _Tally] = field(default_factory=OrderedDict)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ready(self, subjects: Subjects, at: datetime, read: ReadAll) -> dict[str, _Tally]:
        """Return a search's counters by name, reading those that are not in memory (1)."""
        places = _places(subjects, at)
        if any(place not in self._held for place in places.values()):
            async with self._reading:
                missing = [place for place in places.values() if place not in self._held]
                found = await read(lambda c: {place: self._count(c, place) for place in missing})
                for place, by_agency in found.items():
                    self._held[place] = _Tally(by_agency)
                self._trim(keep=set(places.values()))
        for place in places.values():
            self._held.move_to_end(place)
        return {name: self._held[place] for name, place in places.items()}

    def _trim(self, keep: set[_Place]) -> None:
        excess = len(self._held) - limits().ledger_tallies
        if excess <= 0:
            return
        idle = (p for p, tally in self._held.items() if not tally.reserved and p not in keep)  # (3)
        for place in [place for place, _ in zip(idle, range(excess), strict=False)]:
            del self._held[place]

    def _count(self, connection: Connection, place: _Place) -> Counter[str]:
        about = (place.subject, place.start_us, place.end_us)
        tally: Counter[str] = Counter()
        for agencies, times in connection.exec_driver_sql(self.said.count_uses[place.per], about):
            for agency in filter(None, agencies.split(",")):
                tally[agency] += times
        return tally

    def reserve(self, subjects: Subjects, agencies: Iterable[str], at: datetime) -> Reservation:
        """Count a permitted search, right after the decision on ``ready``'s counters (2)."""
        named = tuple(agencies)
        tallies = tuple(self._held[place] for place in _places(subjects, at).values())
        for tally in tallies:
            tally.reserved += 1
            tally.by_agency.update(named)
        return Reservation(tallies, named)


def _places(subjects: Subjects, at: datetime) -> dict[str, _Place]:
    day = at.astimezone(UTC).date()
    return {
        name: _Place(per, subjects.of(per), start, end)
        for name, per, start, end in _windows(day.year, day.month, day.day)
    }


@lru_cache(maxsize=64)
def _windows(year: int, month: int, day: int) -> tuple[tuple[str, Per, int, int], ...]:
    """Return every counter with the window it counts over on a day."""
    at = datetime(year, month, day, tzinfo=UTC)
    return tuple(
        (counter(per, window), per, *window_of(window, at)) for per in Per for window in Window
    )
