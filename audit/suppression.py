"""Small numbers out of published statistics, so that nothing published gives them back.

A number from 1 to below the limit may be about one person (Reg. (EU) 2024/982 Art 72: statistics
must not let individuals be identified). It is hidden, and so is whatever it could be had from.
A table is a tree: a total, lines that add up to it, and cells that add up to each line.

1. A number from 1 to below the limit is hidden. Nought is shown: it is about nobody.
2. What adds up to a number that is shown has no hidden part, or at least two whose sum is not
   itself small, nor the least or the most that so many small numbers add up to: one alone, or all
   ones, or all just below the limit, could be calculated. If that takes another part, it is the
   last one that is large enough. Which one does not depend on how large parts are, so that knowing
   this rule does not help.
3. Where no part is left to hide, the sum is hidden too, and is a hidden part of what it adds up to.
4. A hidden sum hides the whole of its line, noughts as well.
5. A column's total is shown only if every cell of the column is, so it says nothing new.
6. Tables whose lines have the same totals hide the same lines. A count that tells the total of
   another table's cells is hidden with any of them (``CountTable.tells``).
7. Cells that do not add up to anything shown are treated as if they did, for their sum may be
   known from elsewhere.

What this does not do: two publications of overlapping periods can be subtracted from each other, so
publish a period once, when it is over. Searches and answers are counts of different things and each
table is protected for itself; where there is one agency only they are nearly the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

SUPPRESS_BELOW: Final = 5
"""Numbers from 1 to below this are hidden unless the publisher says otherwise."""
LEAST_LIMIT: Final = 4
"""The least limit that hides anything: numbers of which there are only one or two small ones can be
calculated whatever is hidden beside them."""
HIDDEN: Final = "x"
"""What stands for a hidden number in text."""
_AT_LEAST: Final = 2

Numbers = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class CountTable:
    """Exact counts.

    Attributes:
        name: a name for machines.
        title: what is counted.
        rows_are: what a line stands for.
        counts: ``(row, column)`` to a count above 0.
        columns: every column, in order.
        summed: whether the cells of a line add up to something (7).
        kin: tables of one kin have the same lines with the same totals (6).
        personal: whether counts are of what concerns people; if not, nothing is hidden.
        tells: of a row, which cells of which table add up to what it says (6).
    """

    name: str
    title: str
    rows_are: str
    counts: Mapping[tuple[str, str], int]
    columns: tuple[str, ...]
    summed: bool = True
    kin: str = ""
    personal: bool = True
    tells: tuple[str, Callable[[str, str, str], bool]] | None = field(default=None, compare=False)

    @property
    def rows(self) -> tuple[str, ...]:
        """Every line, in order."""
        return tuple(sorted({row for row, _ in self.counts}))

    def line(self, row: str) -> tuple[int, ...]:
        """Return the cells of a line."""
        return tuple(self.counts.get((row, column), 0) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Line:
    """One line as published; None is hidden, a total also where there is none."""

    label: str
    cells: Numbers
    total: int | None


@dataclass(frozen=True, slots=True)
class Published:
    """A table as published; None is hidden.

    Attributes:
        name: as the table's.
        title: as the table's.
        rows_are: as the table's.
        columns: as the table's.
        lines: every line.
        summed: whether there are totals at all.
        column_totals: of each column.
        total: of everything.
    """

    name: str
    title: str
    rows_are: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    summed: bool
    column_totals: Numbers
    total: int | None

    def numbers(self) -> Iterator[tuple[str, str, int | None]]:
        """Yield row, column and number of everything it states; an empty name is the total."""
        for line in self.lines:
            for column, number in zip(self.columns, line.cells, strict=True):
                yield line.label, column, number
            if self.summed:
                yield line.label, "", line.total
        if self.summed:
            for column, number in zip(self.columns, self.column_totals, strict=True):
                yield "", column, number
            yield "", "", self.total


def hidden_parts(
    parts: Sequence[int], below: int, also: Collection[int] = ()
) -> frozenset[int] | None:
    """Return which parts of a sum that is shown are hidden; None if the sum must be too (2) (3).

    Args:
        parts: counts that add up to the sum.
        below: the limit.
        also: parts that are hidden for another reason.
    """
    hidden = {at for at, count in enumerate(parts) if 0 < count < below or at in also}
    if not hidden:
        return frozenset()
    large = [at for at, count in enumerate(parts) if count and at not in hidden]
    while not _safe([parts[at] for at in hidden], below):
        if not large:
            return None
        hidden.add(large.pop())
    return frozenset(hidden)


def publish(tables: Sequence[CountTable], below: int = SUPPRESS_BELOW) -> tuple[Published, ...]:
    """Return tables as they may be published, in the same order.

    Args:
        tables: a table that ``tells`` of another comes after it.
        below: hide numbers from 1 to below this; 0 hides nothing.

    Raises:
        ValueError: for a limit that would not protect.
    """
    if 0 < below < LEAST_LIMIT:
        raise ValueError("a limit below that protects nothing")
    kins: dict[str, list[CountTable]] = {}
    for table in tables:
        kins.setdefault(table.kin or table.name, []).append(table)
    done: dict[str, Published] = {}
    for table in tables:
        limit = below if table.personal else 0
        if table.summed:
            done[table.name] = _summed(table, kins[table.kin or table.name], limit)
        else:
            done[table.name] = _loose(table, limit, done)
    return tuple(done.values())


def _summed(table: CountTable, kin: Sequence[CountTable], below: int) -> Published:
    rows = sorted({row for one in kin for row in one.rows})
    totals = [sum(table.line(row)) for row in rows]
    unsafe = {
        at
        for at, row in enumerate(rows)
        if any(hidden_parts(one.line(row), below) is None for one in kin)  # (3) (6)
    }
    hidden = hidden_parts(totals, below, unsafe)
    total = None if hidden is None else sum(totals)
    if hidden is None:  # (3): the lines have nothing to be had from
        hidden = frozenset(unsafe | {at for at, sum_ in enumerate(totals) if 0 < sum_ < below})
    lines = tuple(
        Line(row, (None,) * len(table.columns), None)  # (4)
        if at in hidden
        else Line(row, _cells(table.line(row), below), totals[at])
        for at, row in enumerate(rows)
    )
    return _published(table, lines, total)


def _loose(table: CountTable, below: int, done: Mapping[str, Published]) -> Published:
    lines = []
    for row in table.rows:
        told = below > 1 and table.tells is not None and _told(row, table.tells, done)
        cells = (None,) * len(table.columns) if told else _cells(table.line(row), below)  # (6) (7)
        lines.append(Line(row, cells, None))
    return _published(table, tuple(lines), None)


def _told(
    row: str, tells: tuple[str, Callable[[str, str, str], bool]], done: Mapping[str, Published]
) -> bool:
    name, about = tells
    return any(
        number is None and about(row, line, column)
        for line, column, number in done[name].numbers()
        if line and column
    )


def _cells(counts: Sequence[int], below: int) -> Numbers:
    hidden = hidden_parts(counts, below)
    if hidden is None:
        return (None,) * len(counts)
    return tuple(None if at in hidden else count for at, count in enumerate(counts))


def _published(table: CountTable, lines: tuple[Line, ...], total: int | None) -> Published:
    columns = zip(*(line.cells for line in lines), strict=True) if lines else ()
    sums = tuple(_sum(column) for column in columns) or (0,) * len(table.columns)  # (5)
    return Published(
        name=table.name,
        title=table.title,
        rows_are=table.rows_are,
        columns=table.columns,
        lines=lines,
        summed=table.summed,
        column_totals=sums,
        total=total,
    )


def _sum(numbers: Sequence[int | None]) -> int | None:
    shown = [number for number in numbers if number is not None]
    return sum(shown) if len(shown) == len(numbers) else None


def _safe(hidden: Sequence[int], below: int) -> bool:
    least, most = len(hidden), len(hidden) * (below - 1)
    total = sum(hidden)
    all_small = max(hidden) < below
    return (
        len(hidden) >= _AT_LEAST
        and total >= below
        and least < total
        and not (all_small and total >= most)
    )
