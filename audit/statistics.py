"""Counts of what logs hold, by month, force and agency: exact ones, to be published or not.

The set of Reg. (EU) 2024/982 Art 72(1) as far as logs hold it, with denials, non-answers, urgent
and held searches, and what was administered.

1. Entries are fed one by one, in any order. Kept of them are counts, and only of searches that were
   urgent, held or ended anew also their ids: memory does not grow with a log.
2. An answer counts in the month its search first ended, with what became of it: a held answer that
   was released or refused since is counted as that, and only as that.
3. The broker's log and the agencies' tell of the same searches, and two sums of the same can be
   subtracted. Agencies' search logs are counted only where no order is among what was read.
4. What no entry tells is said to be not recorded. Nought is never said for it.
5. These numbers are exact. Only ``audit.suppression.publish`` makes them fit to be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from audit import kinds
from audit.evidence import CONFIRMED_ENTRY, ORDER_ENTRY
from audit.suppression import CountTable
from trust.errors import ProbegateError, Reason

STATES: Final = (
    "candidates",
    "no_candidate",
    "held",
    "held, released",
    "held, refused",
    "held, waiting",
    "rejected",
    "timed_out",
    "unavailable",
    "invalid",
    "not_asked",
    "pending",
)
"""How an agency ended up, in the order shown; denials, each with its reason, follow the answers.

What comes late is hidden first (``audit.suppression``): why nothing came rather than what came."""
ANSWERS: Final = 2
"""How many of them are answers."""
DENIED: Final = "denied"
ROUTES: Final = (
    "not urgent",
    "urgent, confirmed in time",
    "urgent, confirmed late",
    "urgent, confirmation missing",
    "urgent, still to be confirmed",
)
NOT_RECORDED: Final = {
    "reviews": ("review",),
    "false matches": ("false_match", "wrong_match"),
    "recalls": ("recall",),
}
"""What statistics should tell besides, by words in the types of entries that would."""
UNCONFIRMED: Final = "search.unconfirmed"
OVERDUE: Final = "held.overdue"
_OWNER_REFUSED: Final = "OWNER_REFUSED"
_ENDED_ANEW: Final = "ended anew"
_ADMINISTRATIVE: Final = frozenset(
    {
        "switch.off",
        "switch.on",
        "directory.activated",
        "bundle.activated",
        "gallery.activated",
        "calibration.activated",
        "calibration.dropped",
        "kind.activated",
    }
)
"""Types of the admin log that are about no person."""
_OF_SEARCHES: Final = frozenset({"held.released", "held.refused", "candidates.resolved"})
"""Types of an agency's admin log that tell of searches (3)."""

Cells = Counter[tuple[str, str]]


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
    _days: tuple[str, str] = ("", "")
    _entries: int = 0
    _logs: set[str] = field(default_factory=set)
    _searches: Cells = field(default_factory=Cells)
    _answers: Cells = field(default_factory=Cells)
    _clauses: Cells = field(default_factory=Cells)
    _reports: Cells = field(default_factory=Cells)
    _admin: Cells = field(default_factory=Cells)
    _personal: Cells = field(default_factory=Cells)
    _of_agencies: Cells = field(default_factory=Cells)
    _later: Cells = field(default_factory=Cells)
    _urgent: dict[str, str] = field(default_factory=dict)
    _confirmed: dict[str, bool] = field(default_factory=dict)
    _missing: set[str] = field(default_factory=set)
    _held: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    _anew: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    _revised: int = 0

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
        tables = [*self._of_searches(), *self._of_administration()]
        told = {name for (name, _), count in self._later.items() if count}
        left_out = bool(self._searches) and bool(self._reports or self._of_agencies)
        return Statistics(
            first=self._days[0],
            last=self._days[1],
            entries=self._entries,
            logs=tuple(sorted(self._logs)),
            tables=tuple(table for table in tables if table.counts),
            not_recorded=tuple(name for name in NOT_RECORDED if name not in told),
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
                self._confirmed[said["search_id"]] = bool(said["late"])
            case _ if kind == UNCONFIRMED and said.get("search_id"):
                self._missing.add(said["search_id"])
            case kinds.REPORT:
                self._report(log, month, said)
            case kinds.REFUSED:
                self._of_agencies[log, f"not proved: {said['reason']}"] += 1
            case _ if kind in {OVERDUE, UNCONFIRMED} or kind in _OF_SEARCHES:
                self._of_agencies[log, kind] += 1
            case _:
                self._other(log, kind, said)

    def _order(self, month: str, said: Mapping[str, Any]) -> None:
        self._searches[month, said["force"]] += 1
        if any("confirm_by" in one for one in said["decisions"]):
            self._urgent[said["search_id"]] = month
        for one in said["decisions"]:
            for clause in one["failed"] if not one["permitted"] else ():
                self._clauses[one["agency"], clause] += 1

    def _result(self, month: str, said: Mapping[str, Any]) -> None:
        search, ends = said["search_id"], {}
        for one in said["outcomes"]:
            ends[one["agency"]] = _state(one["state"], one["reason"])
        revision = int(said.get("revision", 0))
        if revision:
            self._revised += 1
            if revision > self._anew.get(search, (0, {}))[0]:
                self._anew[search] = (revision, ends)
            return
        waiting = tuple(agency for agency, state in ends.items() if state == "held")
        if waiting:
            self._held[search] = (month, waiting)
        for agency, state in ends.items():
            if state != "held":
                self._answers[f"{agency} {month}", state] += 1

    def _report(self, log: str, month: str, said: Mapping[str, Any]) -> None:
        state = _state(said["state"], said["reason"])
        row = f"{log} {month}"
        if not said.get("held_report_sha256"):
            self._reports[row, state] += 1
        else:
            self._of_agencies[log, _fate(state)] += 1

    def _other(self, log: str, kind: str, said: Mapping[str, Any]) -> None:
        for name, words in NOT_RECORDED.items():
            if any(word in kind for word in words):
                self._later[name, kind] += 1
                return
        purpose = said.get("purpose")
        what = f"{kind}, {purpose}" if isinstance(purpose, str) else kind
        counted = self._admin if kind in _ADMINISTRATIVE else self._personal
        counted[log, what] += 1

    def _of_searches(self) -> list[CountTable]:
        routes = Cells()
        for (month, _), count in self._searches.items():
            routes[month, ROUTES[0]] += count
        for search, month in self._urgent.items():
            routes[month, ROUTES[0]] -= 1
            routes[month, self._route(search)] += 1
        answers = self._answers.copy()
        for search, (month, agencies) in self._held.items():
            ends = self._anew.get(search, (0, {}))[1]
            for agency in agencies:
                answers[f"{agency} {month}", _fate(ends.get(agency, "held"))] += 1
        anew = Cells({("all searches", _ENDED_ANEW): self._revised})
        tables = [
            _table("searches", "Searches by month and force", "month", self._searches, kin="month"),
            _table("routes", "Searches by route", "month", routes, ROUTES, kin="month"),
            _table("answers", "What became of each agency asked", "agency", answers, STATES),
            _table(
                "clauses",
                "Clauses that failed where the broker denied",
                "agency",
                self._clauses,
                summed=False,
                tells=("answers", _denied_there),
            ),
            _table(
                "anew",
                "Searches that ended anew with an answer that was held",
                "searches",
                anew,
                summed=False,
                tells=("answers", _held_anywhere),
            ),
        ]
        if not self._searches:  # (3)
            tables += [
                _table("reports", "Reports of an agency", "log", self._reports, STATES),
                _table(
                    "agency",
                    "Held, refused and unconfirmed at an agency",
                    "log",
                    self._of_agencies,
                    summed=False,
                    tells=("reports", _held_at_log),
                ),
            ]
        return tables

    def _of_administration(self) -> list[CountTable]:
        return [
            _table(
                "admin",
                "Administered, about no person",
                "log",
                self._admin,
                summed=False,
                personal=False,
            ),
            _table("personal", "Reads, erasures, holds", "log", self._personal, summed=False),
            _table("later", "Reviews, recalls", "what", self._later, summed=False),
        ]

    def _route(self, search: str) -> str:
        if search in self._confirmed:
            return ROUTES[2] if self._confirmed[search] else ROUTES[1]
        return ROUTES[3] if search in self._missing else ROUTES[4]


def _state(state: str, reason: str) -> str:
    return f"{DENIED}, {reason or 'no reason'}" if state == DENIED else state


def _fate(state: str) -> str:
    if state == "held":
        return "held, waiting"
    return "held, refused" if state == f"{DENIED}, {_OWNER_REFUSED}" else "held, released"


def _denied_there(agency: str, line: str, column: str) -> bool:
    return line.rpartition(" ")[0] == agency and column.startswith(DENIED)


def _held_anywhere(_row: str, _line: str, column: str) -> bool:
    return column.startswith("held")


def _held_at_log(log: str, line: str, _column: str) -> bool:
    return line.rpartition(" ")[0] == log


def _table(
    name: str,
    title: str,
    rows_are: str,
    cells: Cells,
    order: tuple[str, ...] = (),
    **more: Any,
) -> CountTable:
    counts = {place: count for place, count in sorted(cells.items()) if count}
    there = {column for _, column in counts}
    rest = sorted(there.difference(order))
    columns = [one for one in (*order[:ANSWERS], *rest, *order[ANSWERS:]) if one in there]
    return CountTable(name, title, rows_are, counts, tuple(columns), **more)
