"""What is counted of logs, as tables: which columns, in which order, and what tells of what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from audit.statistics_second_step import (
    FALSE_MATCHES,
    FATES,
    RECALLS,
    REVIEWS,
    SETTLED,
    WRONGS,
    Cells,
    SecondStep,
)
from audit.suppression import CountTable

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
NOT_RECORDED: Final = (REVIEWS, FALSE_MATCHES, RECALLS)
"""What statistics should tell besides, if any entry tells of it."""
UNCONFIRMED: Final = "search.unconfirmed"
OVERDUE: Final = "held.overdue"
_OWNER_REFUSED: Final = "OWNER_REFUSED"
_ENDED_ANEW: Final = "ended anew"
ADMINISTRATIVE: Final = frozenset(
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
OF_SEARCHES: Final = frozenset({"held.released", "held.refused", "candidates.resolved"})
"""Types of an agency's admin log that tell of searches (3)."""


@dataclass(slots=True)
class Counts:
    """Exact counts while they are made, ``(row, column)`` to a count.

    Attributes:
        searches: by month and force.
        answers: by agency and month, and how it ended up; without what was held.
        clauses: by agency and clause.
        reports: an agency's, by its log and month, and state.
        admin: of administration, by log and type.
        personal: of what concerns people, by log and type.
        of_agencies: of an agency's own searches, by log and type.
        second: of the second step.
        urgent: urgent searches and their months.
        confirmed: searches that were confirmed, and whether late.
        missing: searches whose confirmation was missing at its time.
        held: searches that ended with answers held: in which month, and by which agencies.
        anew: how those ended since: the newest revision, and each agency's state.
        revised: how often searches ended anew.
    """

    searches: Cells = field(default_factory=Cells)
    answers: Cells = field(default_factory=Cells)
    clauses: Cells = field(default_factory=Cells)
    reports: Cells = field(default_factory=Cells)
    admin: Cells = field(default_factory=Cells)
    personal: Cells = field(default_factory=Cells)
    of_agencies: Cells = field(default_factory=Cells)
    second: SecondStep = field(default_factory=SecondStep)
    urgent: dict[str, str] = field(default_factory=dict)
    confirmed: dict[str, bool] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    held: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    anew: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    revised: int = 0


def count_tables(sums: Counts) -> list[CountTable]:
    """Return every table, the empty ones too."""
    return [*_of_searches(sums), *_of_second_step(sums.second), *_of_administration(sums)]


def state_of(state: str, reason: str) -> str:
    """Return how an agency ended up, a denial with its reason."""
    return f"{DENIED}, {reason or 'no reason'}" if state == DENIED else state


def fate_of(state: str) -> str:
    """Return what became of an answer that was held, by how the agency ended up since."""
    if state == "held":
        return "held, waiting"
    return "held, refused" if state == f"{DENIED}, {_OWNER_REFUSED}" else "held, released"


def _of_searches(sums: Counts) -> list[CountTable]:
    routes = Cells()
    for (month, _), count in sums.searches.items():
        routes[month, ROUTES[0]] += count
    for search, month in sums.urgent.items():
        routes[month, ROUTES[0]] -= 1
        routes[month, _route(sums, search)] += 1
    answers = sums.answers.copy()
    for search, (month, agencies) in sums.held.items():
        ends = sums.anew.get(search, (0, {}))[1]
        for agency in agencies:
            answers[f"{agency} {month}", fate_of(ends.get(agency, "held"))] += 1
    anew = Cells({("all searches", _ENDED_ANEW): sums.revised})
    tables = [
        _table("searches", "Searches by month and force", "month", sums.searches, kin="month"),
        _table("routes", "Searches by route", "month", routes, ROUTES, kin="month"),
        _table("answers", "What became of each agency asked", "agency", answers, STATES),
        _table(
            "clauses",
            "Clauses that failed where the broker denied",
            "agency",
            sums.clauses,
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
    if not sums.searches:  # (3)
        tables += [
            _table("reports", "Reports of an agency", "log", sums.reports, STATES),
            _table(
                "agency",
                "Held, refused and unconfirmed at an agency",
                "log",
                sums.of_agencies,
                summed=False,
                tells=("reports", _held_at_log),
            ),
        ]
    return tables


def _of_administration(sums: Counts) -> list[CountTable]:
    return [
        _table(
            "admin",
            "Administered, about no person",
            "log",
            sums.admin,
            summed=False,
            personal=False,
        ),
        _table("personal", "Reads, erasures, holds", "log", sums.personal, summed=False),
    ]


def _of_second_step(second: SecondStep) -> list[CountTable]:
    return [
        _table(
            "reviews",
            "Searches whose candidates were reviewed",
            "month",
            second.by_month(),
            SETTLED,
        ),
        _table(
            "thirds",
            "Searches of which two reviewers disagreed",
            "month",
            second.third_reviews(),
            summed=False,
            tells=("reviews", _same_month),
        ),
        _table(
            "disclosures", "What became of requests for details", "agency", second.fates(), FATES
        ),
        _table(
            "wrong", "Wrong matches and recalls", "agency", second.wrongs(), WRONGS, summed=False
        ),
    ]


def _same_month(month: str, line: str, _column: str) -> bool:
    return month == line


def _route(sums: Counts, search: str) -> str:
    if search in sums.confirmed:
        return ROUTES[2] if sums.confirmed[search] else ROUTES[1]
    return ROUTES[3] if search in sums.missing else ROUTES[4]


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
