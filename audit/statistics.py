"""Counts of what logs hold, by month, force and agency: exact ones, to be published or not.

The set of Reg. (EU) 2024/982 Art 72(1) as far as logs hold it, with denials, non-answers, urgent
and held searches, and what was administered.

1. Entries are fed one by one, in any order. Kept of them are counts, and of searches that were
   urgent or held also their ids: memory follows the number of those, not the length of a log.
2. An answer counts in the month its search first ended, with what became of it: a held answer that
   was released or refused since is counted as that, and only as that.
3. The broker's log and the agencies' tell of the same searches, and two sums of the same can be
   subtracted. Agencies' search logs are counted only where no order is among what was read.
4. What no entry tells is said to be not recorded. Nought is never said for it.
5. These numbers are exact. Only ``audit.suppression.publish`` makes them fit to be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from audit import kinds
from audit.evidence import CONFIRMED_ENTRY, ORDER_ENTRY
from audit.statistics_second_step import OF_AGENCIES
from audit.statistics_tables import (
    ADMINISTRATIVE,
    NOT_RECORDED,
    OF_SEARCHES,
    OVERDUE,
    UNCONFIRMED,
    Counts,
    count_tables,
    fate_of,
    state_of,
)
from audit.suppression import CountTable
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class Statistics:
    """Exact counts of a period.

    Attributes:
        first: the day of the first entry that was counted; empty if there was none.
        last: the day of the last.
        entries: how many were counted.
        logs: the origins that were read.
        tables: the counts.
        not_recorded: what no entry tells of (4).
        agencies_left_out: whether agencies' entries were left out (3).
    """

    first: str
    last: str
    entries: int
    logs: tuple[str, ...]
    tables: tuple[CountTable, ...]
    not_recorded: tuple[str, ...]
    agencies_left_out: bool


@dataclass(slots=True)
class Tally:
    """Counts entries; ``done`` says how many of what.

    Args:
        since: from this day (``YYYY-MM-DD``, UTC); empty for the beginning.
        until: before this day; empty for the end.
    """

    since: str = ""
    until: str = ""
    _days: tuple[str, str] = field(default=("", ""), init=False)
    _entries: int = field(default=0, init=False)
    _logs: set[str] = field(default_factory=set, init=False)
    _sums: Counts = field(default_factory=Counts, init=False)

    def feed(self, log: str, entries: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Count the entries of one log.

        Args:
            log: its origin.
            entries: index and entry.

        Raises:
            ProbegateError: ``LOG_CORRUPT`` for an entry that is not of its type.
        """
        self._logs.add(log)
        for index, said in entries:
            try:
                self._count(log, said)
            except (KeyError, TypeError, AttributeError, ValueError):
                detail = f"entry {index} is not of its type"
                raise ProbegateError(Reason.LOG_CORRUPT, detail=detail) from None

    def done(self) -> Statistics:
        """Return what was counted."""
        tables = count_tables(self._sums)
        left_out = bool(self._sums.searches) and bool(self._sums.reports or self._sums.of_agencies)
        return Statistics(
            first=self._days[0],
            last=self._days[1],
            entries=self._entries,
            logs=tuple(sorted(self._logs)),
            tables=tuple(table for table in tables if table.counts),
            not_recorded=tuple(name for name in NOT_RECORDED if name not in self._sums.second.told),
            agencies_left_out=left_out,
        )

    def _count(self, log: str, said: Mapping[str, Any]) -> None:
        kind, at = said["type"], said["at"]
        day = at[:10]
        if (self.since and day < self.since) or (self.until and day >= self.until):
            return
        self._entries += 1
        first, last = self._days
        self._days = (min(first or day, day), max(last, day))
        month = day[:7]
        match kind:
            case _ if kind == ORDER_ENTRY:
                self._order(month, said)
            case kinds.RESULT:
                self._result(month, said)
            case _ if kind == CONFIRMED_ENTRY:
                self._sums.confirmed[said["search_id"]] = bool(said["late"])
            case _ if kind == UNCONFIRMED and said.get("search_id"):
                self._sums.missing.add(said["search_id"])
            case kinds.REPORT:
                self._report(log, month, said)
            case kinds.REFUSED:
                self._sums.of_agencies[log, f"not proved: {said['reason']}"] += 1
            case _ if kind in {OVERDUE, UNCONFIRMED} or kind in OF_SEARCHES | OF_AGENCIES:
                self._sums.of_agencies[log, kind] += 1
            case _ if self._sums.second.take(month, said):
                pass
            case _:
                self._other(log, kind, said)

    def _order(self, month: str, said: Mapping[str, Any]) -> None:
        self._sums.searches[month, said["force"]] += 1
        if any("confirm_by" in one for one in said["decisions"]):
            self._sums.urgent[said["search_id"]] = month
        for one in said["decisions"]:
            for clause in one["failed"] if not one["permitted"] else ():
                self._sums.clauses[one["agency"], clause] += 1

    def _result(self, month: str, said: Mapping[str, Any]) -> None:
        search, ends = said["search_id"], {}
        for one in said["outcomes"]:
            ends[one["agency"]] = state_of(one["state"], one["reason"])
        revision = int(said.get("revision", 0))
        if any(one.get("erased_at") == said["at"] for one in said["outcomes"]):
            return  # stated anew without what was erased: no answer came
        if revision:
            self._sums.revised += 1
            if revision > self._sums.anew.get(search, (0, {}))[0]:
                self._sums.anew[search] = (revision, ends)
            return
        waiting = tuple(agency for agency, state in ends.items() if state == "held")
        if waiting:
            self._sums.held[search] = (month, waiting)
        for agency, state in ends.items():
            if state != "held":
                self._sums.answers[f"{agency} {month}", state] += 1

    def _report(self, log: str, month: str, said: Mapping[str, Any]) -> None:
        state = state_of(said["state"], said["reason"])
        row = f"{log} {month}"
        if not said.get("held_report_sha256"):
            self._sums.reports[row, state] += 1
        else:
            self._sums.of_agencies[log, fate_of(state)] += 1

    def _other(self, log: str, kind: str, said: Mapping[str, Any]) -> None:
        purpose = said.get("purpose")
        what = f"{kind}, {purpose}" if isinstance(purpose, str) else kind
        counted = self._sums.admin if kind in ADMINISTRATIVE else self._sums.personal
        counted[log, what] += 1
