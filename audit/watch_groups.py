"""What is searched again: one probe, one case, and by whom, while it is being searched.

A probe or case that was not searched for some time is done with: it is judged and forgotten, so
that what is kept follows the weeks and not the length of a log.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from audit.signals import ENTRIES_MAX, About, Kind, Signal
from audit.watch_limits import Limits

_NAMED_MAX = 3
"""Officers named with a probe."""


@dataclass(slots=True)
class Group:
    """Searches of one probe or one case, none long after the one before."""

    force: str
    what: str
    first: datetime
    last: datetime
    searches: int = 0
    officers: set[str] = field(default_factory=set)
    cases: set[str] = field(default_factory=set)
    entries: deque[int] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))

    @property
    def days(self) -> int:
        """From the first search to the last, counted as days begun."""
        return (self.last - self.first).days + 1


@dataclass(slots=True)
class Groups:
    """Those that are being searched.

    Args:
        judge: the signals of a group that is done with.
        within_days: one not searched for so long is.
    """

    judge: Callable[[Group], Iterator[Signal]]
    within_days: int
    signals: list[Signal] = field(default_factory=list)
    _open: OrderedDict[tuple[str, str], Group] = field(default_factory=OrderedDict)

    def join(
        self, force: str, what: str, *, index: int, at: datetime, officer: str, case: str
    ) -> None:
        """Add a search to its group."""
        self._close(at - timedelta(days=self.within_days))
        group = self._open.setdefault((force, what), Group(force, what, at, at))
        self._open.move_to_end((force, what))
        group.last = max(group.last, at)
        group.searches += 1
        group.entries.append(index)
        group.officers.update({officer} - {""})
        group.cases.update({case} - {""})

    def done(self) -> list[Signal]:
        """Judge what is left, and return every signal."""
        self._close(None)
        return self.signals

    def _close(self, before: datetime | None) -> None:
        while self._open:
            key, group = next(iter(self._open.items()))
            if before is not None and group.last >= before:
                return
            del self._open[key]
            self.signals += self.judge(group)


def judge_probe(limits: Limits) -> Callable[[Group], Iterator[Signal]]:
    """Return what signals a probe that is searched again and again, or for two cases."""

    def judge(group: Group) -> Iterator[Signal]:
        if group.searches >= limits.probe_searches or len(group.cases) > 1:
            yield Signal(
                Kind.REPEATED_PROBE,
                About.PROBE,
                f"{group.force} {group.what[:16]}",
                {
                    "searches": group.searches,
                    "cases": len(group.cases),
                    "officers": len(group.officers),
                    "days": group.days,
                    "by": ", ".join(sorted(group.officers)[:_NAMED_MAX]),
                },
                f"{limits.probe_searches} searches or two cases, each within "
                f"{limits.within_days} days of the one before",
                tuple(group.entries),
            )

    return judge


def judge_case(limits: Limits) -> Callable[[Group], Iterator[Signal]]:
    """Return what signals a case that many officers search for."""

    def judge(group: Group) -> Iterator[Signal]:
        if len(group.officers) >= limits.case_officers:
            yield Signal(
                Kind.CASE_OF_MANY,
                About.CASE,
                f"{group.force} {group.what}",
                {
                    "officers": len(group.officers),
                    "searches": group.searches,
                    "days": group.days,
                },
                f"{limits.case_officers} officers, each search within "
                f"{limits.within_days} days of the one before",
                tuple(group.entries),
            )

    return judge
