"""An invented federation's log: many ordinary searches, to which a test adds what it looks for."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 5, tzinfo=UTC)
FORCES = ("northshire", "southshire", "eastmarch")
AGENCIES = ("custody", "passport")
OFFICERS_EACH = 12
ASKED = "custody"

Entry = dict[str, Any]
Values = dict[str, Any]


def order(
    number: int,
    at: datetime,
    force: str = "northshire",
    *,
    agencies: tuple[str, ...] = AGENCIES,
    denied: Mapping[str, tuple[str, ...]] | None = None,
    urgent: bool = False,
    warnings: tuple[str, ...] = (),
) -> Entry:
    said: Entry = {
        "v": 1,
        "type": "search.order",
        "search_id": f"search-{number:06}",
        "force": force,
        "at": at.isoformat(timespec="microseconds"),
        "decisions": [
            {
                "agency": agency,
                "permitted": agency not in (denied or {}),
                "code": "CLAUSE_FAILED" if agency in (denied or {}) else "PERMITTED",
                "failed": list((denied or {}).get(agency, ())),
            }
            | ({"waived": ["rank"], "confirm_by": at.isoformat()} if urgent else {})
            for agency in agencies
        ],
    }
    return said | ({"warnings": list(warnings)} if warnings else {})


def result(
    number: int,
    at: datetime,
    outcomes: Mapping[str, str],
    revision: int = 0,
    erased: Collection[str] = (),
) -> Entry:
    said: Entry = {
        "v": 1,
        "type": "search.result",
        "search_id": f"search-{number:06}",
        "at": at.isoformat(timespec="microseconds"),
        "outcomes": [
            {"agency": agency, "state": state.partition(":")[0], "reason": state.partition(":")[2]}
            | ({"erased_at": at.isoformat(timespec="microseconds")} if agency in erased else {})
            for agency, state in outcomes.items()
        ],
    }
    return said | ({"revision": revision, "replaces_sha256": "00" * 32} if revision else {})


def values(
    officer: str,
    *,
    case: str = "",
    probe: str = "",
    earlier: Mapping[str, Mapping[str, int]] | None = None,
) -> Values:
    return {
        "officer": {"id": officer, "role": "investigator", "rank": "constable"},
        "case_reference": case,
        "probe": {"commitment": probe, "source": "cctv"},
        "standing": {"earlier_searches": earlier or {}},
    }


@dataclass(slots=True)
class Population:
    """Ordinary officers of three forces who search by day, seldom urgently, each case their own.

    Attributes:
        entries: the log so far.
        private: the values of each entry, by its index.
    """

    seed: int = 0
    entries: list[Entry] = field(default_factory=list)
    private: dict[int, Values] = field(default_factory=dict)
    _number: int = 0

    def search(self, officer: str, at: datetime, force: str = "northshire", **how: Any) -> str:
        """Add a search, and return its id."""
        self._number += 1
        own = {"case": f"CASE/{self._number}", "probe": f"{self._number:064x}"}
        kept = own | {name: how.pop(name) for name in ("case", "probe", "earlier") if name in how}
        self.private[len(self.entries)] = values(officer, **kept)
        self.entries.append(order(self._number, at, force, **how))
        return f"search-{self._number:06}"

    def end(self, at: datetime, outcomes: Mapping[str, str]) -> None:
        """Add the result of the newest search."""
        self.entries.append(result(self._number, at, outcomes))

    def add(self, kind: str, at: datetime, **facts: Any) -> None:
        """Add any other entry."""
        self.entries.append({"v": 1, "type": kind, "at": at.isoformat(), **facts})

    def live(self, days: int) -> Population:
        """Let them search for some days."""
        chance = random.Random(self.seed)
        for day in range(days):
            at = START + timedelta(days=day)
            if at.weekday() > 4 and chance.random() < 0.7:
                continue
            for force in FORCES:
                for officer in range(OFFICERS_EACH):
                    for _ in range(chance.choice((0, 0, 1, 1, 2))):
                        self._ordinary(chance, f"{force}-{officer:02}", force, at)
        return self

    def feed(self) -> Iterator[tuple[int, Entry]]:
        yield from enumerate(self.entries)

    def _ordinary(self, chance: random.Random, officer: str, force: str, day: datetime) -> None:
        hour = chance.choice((8, 9, 10, 11, 13, 14, 15, 16, 17, 21))
        at = day + timedelta(hours=hour, minutes=chance.randrange(60))
        urgent = chance.random() < 0.03
        denied = {"passport": ("passport.authoriser-rank",)} if chance.random() < 0.2 else {}
        short = ("necessity.short",) if chance.random() < 0.05 else ()
        search = self.search(officer, at, force, urgent=urgent, denied=denied, warnings=short)
        ended = {
            agency: "denied:CLAUSE_FAILED"
            if agency in denied
            else chance.choices(
                ("candidates", "no_candidate", "held", "unavailable", "rejected"),
                (50, 40, 4, 4, 2),
            )[0]
            for agency in AGENCIES
        }
        self.end(at + timedelta(seconds=4), ended)
        if "held" in ended.values():
            fate = chance.choice(("candidates", "denied:OWNER_REFUSED"))
            again = {name: fate if state == "held" else state for name, state in ended.items()}
            later = at + timedelta(hours=5)
            self.entries.append(result(self._number, later, again, revision=1))
        if urgent:
            late = chance.random() < 0.1
            self.add("search.confirmed", at + timedelta(hours=2), search_id=search, late=late)
