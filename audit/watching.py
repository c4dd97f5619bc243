"""Signs of misuse in a broker's search log: leads to look into, with the numbers behind each.

1. Who searched, for which case and with which probe are values beside the log. Before any of them
   is opened the read and its purpose are recorded (DPA 2018 s.62(4)); where that fails nothing is
   read.
2. Without them, and where they were erased, only signals about forces are left. How many searches
   could not be looked at is said.
3. Peers are compared by ``audit.peers``, and not at all if they are few: that is said too.
4. Nothing is kept of ordinary searches but counts of each officer. A probe or a case is forgotten
   once it has not been searched for a while, so memory follows people and weeks, not the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from math import ceil
from typing import Any, Final
from zoneinfo import ZoneInfo

from audit.evidence import CONFIRMED_ENTRY, ORDER_ENTRY
from audit.opening import checked_purpose
from audit.signals import About, Kind, Signal
from audit.statistics_tables import UNCONFIRMED as UNCONFIRMED_ENTRY
from audit.watch_comparing import (
    BOILERPLATE,
    OUT_OF_HOURS,
    QUOTA_DENIED,
    SEARCHES,
    UNCONFIRMED,
    URGENT,
    Comparison,
    Conduct,
)
from audit.watch_groups import Groups, judge_case, judge_probe
from audit.watch_limits import Limits, Quota, Watched
from trust.errors import ProbegateError, Reason

OpenValues = Callable[[int, Mapping[str, Any]], Mapping[str, Any]]
"""Returns what is there of an entry's values, by field."""
RecordRead = Callable[[str, str], None]
"""Records that values are read: for which purpose, and what."""
_QUOTA: Final = "quota"
_SATURDAY: Final = 5
_DAY: Final = len("2026-01-31")
_MONTH: Final = len("2026-01")


def watch(
    entries: Iterable[tuple[int, Mapping[str, Any]]],
    limits: Limits | None = None,
    *,
    open_values: OpenValues | None = None,
    record_read: RecordRead | None = None,
    purpose: str = "",
    what: str = "",
) -> Watched:
    """Look for signs of misuse.

    Args:
        entries: the broker's search log, in order.
        limits: from where on something is signalled.
        open_values: opens values, if they may be read.
        record_read: is called before the first value is opened (1); needed with ``open_values``.
        purpose: why they are read.
        what: what is read.

    Raises:
        ProbegateError: ``READ_PURPOSE_MISSING``; ``LOG_CORRUPT`` for an entry that is not of its
            type; what ``record_read`` and ``open_values`` raise.
        zoneinfo.ZoneInfoNotFoundError: for a zone that this machine does not know.
    """
    if open_values is not None:
        checked_purpose(purpose)
        if record_read is None:
            raise ProbegateError(Reason.READ_PURPOSE_MISSING, "nobody records the read")
        record_read(purpose, what)  # (1)
    given = limits or Limits()
    watcher = _Watcher(
        given,
        open_values,
        ZoneInfo(given.zone),
        Groups(judge_probe(given), given.within_days),
        Groups(judge_case(given), given.within_days),
    )
    for index, said in entries:
        try:
            watcher.see(index, said)
        except (KeyError, TypeError, AttributeError, ValueError):
            detail = f"entry {index} is not of its type"
            raise ProbegateError(Reason.LOG_CORRUPT, detail=detail) from None
    return watcher.done()


@dataclass(slots=True)
class _Watcher:
    limits: Limits
    open_values: OpenValues | None
    zone: tzinfo
    probes: Groups
    cases: Groups
    searches: int = 0
    opened: int = 0
    officers: dict[str, Conduct] = field(default_factory=dict)
    forces: dict[str, Conduct] = field(default_factory=dict)
    edges: dict[tuple[str, Quota], set[str]] = field(default_factory=dict)
    urgent: dict[str, tuple[Conduct, ...]] = field(default_factory=dict)

    def see(self, index: int, said: Mapping[str, Any]) -> None:
        if said["type"] == ORDER_ENTRY:
            self._order(index, said)
        elif said["type"] == UNCONFIRMED_ENTRY:
            # One for each agency: the first takes the search off the list.
            for one in self.urgent.pop(said["search_id"], ()):
                one.note(UNCONFIRMED, index)
        elif said["type"] == CONFIRMED_ENTRY and not said["late"]:
            self.urgent.pop(said["search_id"], None)

    def done(self) -> Watched:
        officers = Comparison(About.OFFICER, self.officers, self.limits)
        forces = Comparison(About.FORCE, self.forces, self.limits)
        signals = [*self.probes.done(), *self.cases.done(), *self._edges()]
        signals += [*officers.signals(), *forces.signals()]
        order = list(Kind)
        return Watched(
            signals=tuple(
                sorted(signals, key=lambda one: (order.index(one.kind), one.about, one.who))
            ),
            searches=self.searches,
            opened=self.opened,
            asked_values=self.open_values is not None,
            not_judged=(*officers.not_judged(), *forces.not_judged()),
        )

    def _order(self, index: int, said: Mapping[str, Any]) -> None:
        at, force = datetime.fromisoformat(said["at"]), said["force"]
        values = self.open_values(index, said) if self.open_values else {}  # (2)
        officer = values["officer"]["id"] if "officer" in values else ""
        subjects = [self.forces.setdefault(force, Conduct())]
        self.searches += 1
        if officer:
            self.opened += 1
            subjects.append(self.officers.setdefault(officer, Conduct()))
        signs = self._signs(at, said)
        for one in subjects:
            for sign in signs:
                one.note(sign, index)
        if URGENT in signs:
            self.urgent[said["search_id"]] = tuple(subjects)
        case = values.get("case_reference", "")
        who = {"index": index, "at": at, "officer": officer, "case": case}
        if "probe" in values:
            self.probes.join(force, values["probe"]["commitment"], **who)
        if case:
            self.cases.join(force, case, **who)
        if "standing" in values:
            per = {"officer": officer, "case": case, "force": force}
            self._at_edge(said, values["standing"], per)

    def _signs(self, at: datetime, said: Mapping[str, Any]) -> list[str]:
        local, decisions = at.astimezone(self.zone), said["decisions"]
        office = self.limits.opens <= local.hour < self.limits.closes
        clauses = [clause for one in decisions if not one["permitted"] for clause in one["failed"]]
        signs = {
            SEARCHES: True,
            OUT_OF_HOURS: local.weekday() >= _SATURDAY or not office,
            BOILERPLATE: bool(said.get("warnings")),
            URGENT: any("confirm_by" in one for one in decisions),
            QUOTA_DENIED: any(_QUOTA in clause for clause in clauses),
        }
        return [sign for sign, is_so in signs.items() if is_so]

    def _at_edge(
        self, said: Mapping[str, Any], standing: Mapping[str, Any], per: Mapping[str, str]
    ) -> None:
        permitted = {one["agency"] for one in said["decisions"] if one["permitted"]}
        for quota in self.limits.quotas:
            earlier = standing["earlier_searches"].get(quota.agency, {}).get(quota.counter)
            if quota.agency not in permitted or earlier is None:
                continue
            if earlier + 1 >= ceil(quota.most * self.limits.edge):
                whose, _, window = quota.counter.partition(".")
                when = said["at"][: _DAY if window == "day" else _MONTH]
                self.edges.setdefault((per[whose], quota), set()).add(when)

    def _edges(self) -> Iterator[Signal]:
        for (who, quota), windows in self.edges.items():
            if len(windows) >= self.limits.times:
                numbers: dict[str, float | int | str] = {
                    "times": len(windows),
                    "agency": quota.agency,
                    "counter": quota.counter,
                    "most": quota.most,
                }
                about = About(quota.counter.partition(".")[0])
                limit = f"{self.limits.times} times {self.limits.edge:.0%} of it"
                yield Signal(Kind.QUOTA_EDGE, about, who, numbers, limit)
