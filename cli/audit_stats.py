"""``probegate audit stats``: what can be published of logs, without small numbers.

::

    probegate audit stats BROKER [ADMIN ...] --from 2026-01-01 --to 2026-04-01 --html stats.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from audit.publication import Publication
from audit.reader import LogReader
from audit.statistics import Tally
from audit.statistics_page import page
from audit.suppression import HIDDEN, SUPPRESS_BELOW, Published
from cli.output import console, print_json, text
from trust import files
from trust.errors import ProbegateError, Reason

_FIRST_COLUMN: Final = 36
"""Most columns of a line's name."""


def stats(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Logs' folders.")],
    *,
    since: Annotated[str, typer.Option("--from", metavar="DATE", help="From this day, UTC.")] = "",
    until: Annotated[str, typer.Option("--to", metavar="DATE", help="Before this day, UTC.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    to_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write CSV.")] = None,
    to_html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page with plots.")
    ] = None,
    below: Annotated[
        int,
        typer.Option(
            "--suppress-below", metavar="N", min=0, help="Hide 1 to below N; 0 hides nothing."
        ),
    ] = SUPPRESS_BELOW,
) -> None:
    """Count what was searched, answered, denied and administered, to be published.

    Small numbers are hidden, with others from which they could be calculated. Reading does not
    verify: verify the folders first.
    """
    tally = Tally(_day(since), _day(until))
    for folder in folders:
        reader = LogReader(folder)
        tally.feed(reader.checkpoint.checkpoint.origin, reader.facts())
    try:
        found = Publication.of(tally.done(), since=since, until=until, below=below)
    except ValueError as error:
        raise ProbegateError(Reason.USAGE, str(error)) from None
    if to_csv:
        _write(to_csv, found.csv())
    if to_html:
        _write(to_html, page(found))
    if as_json:
        print_json(found.document())
    elif not (to_csv or to_html):
        _show(found)


def _show(found: Publication) -> None:
    screen = console()
    screen.print(text(f"Searches and what became of them, {found.period}", "bold"))
    for log in found.logs:
        screen.print(text(f"log: {log}"))
    for table in found.tables:
        screen.print()
        screen.print(text(table.title, "bold"))
        screen.print(_table(table))
    screen.print()
    for note in found.notes:
        screen.print(text(note))


def _table(table: Published) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column(table.rows_are.capitalize(), overflow="fold", max_width=_FIRST_COLUMN)
    if table.summed:
        shown.add_column("Total", justify="right", no_wrap=True)
    shown.add_column("Of these" if table.summed else "Counted", overflow="fold")
    for line in table.lines:
        total = [_number(line.total)] if table.summed else []
        shown.add_row(text(line.label), *total, _parts(table.columns, line.cells))
    if table.summed and len(table.lines) > 1:
        shown.add_section()
        sums = _parts(table.columns, table.column_totals)
        shown.add_row(text("all"), _number(table.total), sums)
    return shown


def _parts(columns: Sequence[str], cells: Sequence[int | None]) -> Text:
    if all(number is None for number in cells):
        return text(HIDDEN)
    said = [
        f"{column}: {_number(number)}"
        for column, number in zip(columns, cells, strict=True)
        if number != 0
    ]
    return text(" · ".join(said) or "0")


def _number(number: int | None) -> str:
    return HIDDEN if number is None else f"{number:,}"


def _day(given: str) -> str:
    try:
        return date.fromisoformat(given).isoformat() if given else ""
    except ValueError:
        raise ProbegateError(Reason.USAGE, f"not a day: {given!r}") from None


def _write(path: Path, content: str) -> None:
    files.write_atomic(path, content.encode())
    console(stderr=True).print(text(f"wrote {path}"))
