"""Statistics as they are published: the same numbers as JSON, as CSV and for a page.

1. Whatever is shown comes from here, after ``audit.suppression``; nobody else reads exact counts.
2. Names in a log are another's text: a cell of CSV that a spreadsheet would take for a formula is
   made text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from audit.statistics import Statistics
from audit.suppression import HIDDEN, SUPPRESS_BELOW, Line, Numbers, Published, publish

TOTAL: Final = "total"
"""What stands for a total in CSV."""
CSV_HEAD: Final = ("table", "row", "column", "count")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Publication:
    """Statistics without small numbers; ``of`` makes it.

    Attributes:
        since: from this day; empty for the logs' beginning.
        until: before this day; empty for their end.
        first: the day of the first entry.
        last: the day of the last entry.
        logs: the origins that were read.
        below: numbers from 1 to below this are hidden.
        tables: what is published.
        not_recorded: what no entry tells of.
        agencies_left_out: whether agencies' own entries were not counted beside the broker's.
    """

    since: str
    until: str
    first: str
    last: str
    logs: tuple[str, ...]
    below: int
    tables: tuple[Published, ...]
    not_recorded: tuple[str, ...]
    agencies_left_out: bool

    @classmethod
    def of(
        cls,
        statistics: Statistics,
        *,
        since: str = "",
        until: str = "",
        below: int = SUPPRESS_BELOW,
    ) -> Publication:
        """Publish; ValueError for a limit that would not protect."""
        return cls(
            since=since,
            until=until,
            first=statistics.first,
            last=statistics.last,
            logs=statistics.logs,
            below=below,
            tables=publish(statistics.tables, below),
            not_recorded=statistics.not_recorded,
            agencies_left_out=statistics.agencies_left_out,
        )

    @property
    def period(self) -> str:
        """The period in words."""
        if not self.first:
            return "no entries"
        return f"{self.since or self.first} up to {self.until or self.last}" + (
            ", not included" if self.until else ""
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, a sentence each."""
        said = []
        if self.below:
            said.append(
                f"{HIDDEN} stands for a number from 1 to {self.below - 1}, or for one from which "
                "such a number could be calculated."
            )
        if self.not_recorded:
            said.append(f"Not recorded in these logs: {', '.join(self.not_recorded)}.")
        if self.agencies_left_out:
            said.append("Agencies' own entries are not counted beside the broker's.")
        return tuple(said)

    def table(self, name: str) -> Published | None:
        """Return a table, if anything was counted in it."""
        return next((one for one in self.tables if one.name == name), None)

    def document(self) -> dict[str, Any]:
        """Return it as JSON; null is a hidden number."""
        return {
            "from": self.since,
            "to": self.until,
            "first": self.first,
            "last": self.last,
            "logs": list(self.logs),
            "suppress_below": self.below,
            "notes": list(self.notes),
            "tables": [_document(table) for table in self.tables],
        }

    def csv(self) -> str:
        """Return every number on a line of its own."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(CSV_HEAD)
        for table in self.tables:
            for row, column, number in table.numbers():
                names = (table.name, _text(row or TOTAL), _text(column or TOTAL))
                writer.writerow((*names, HIDDEN if number is None else number))
        return out.getvalue()


def by_first_word(table: Published) -> Published:
    """Return a table of ``agency month`` with one line for each agency.

    A number is shown only if all it adds up are, so it tells nothing new.
    """
    groups: dict[str, list[Line]] = {}
    for line in table.lines:
        groups.setdefault(line.label.rpartition(" ")[0], []).append(line)
    lines = tuple(
        Line(name, _sums([one.cells for one in mine]), _sum([one.total for one in mine]))
        for name, mine in groups.items()
    )
    return Published(
        name=table.name,
        title=table.title,
        rows_are=table.rows_are,
        columns=table.columns,
        lines=lines,
        summed=table.summed,
        column_totals=table.column_totals,
        total=table.total,
    )


def _document(table: Published) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": table.name,
        "title": table.title,
        "rows_are": table.rows_are,
        "columns": list(table.columns),
        "rows": [
            {"row": line.label, "counts": list(line.cells)}
            | ({"total": line.total} if table.summed else {})
            for line in table.lines
        ],
    }
    if table.summed:
        said |= {"column_totals": list(table.column_totals), "total": table.total}
    return said


def _text(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name  # (2)


def _sums(cells: list[Numbers]) -> Numbers:
    return tuple(_sum(list(column)) for column in zip(*cells, strict=True))


def _sum(numbers: list[int | None]) -> int | None:
    shown: Iterator[int] = (number for number in numbers if number is not None)
    return None if None in numbers else sum(shown)
