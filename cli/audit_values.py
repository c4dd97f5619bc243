"""``probegate audit erase`` and ``hold``: what becomes of the values that entries commit to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.kinds import ERASED, HOLD_LIFTED, HOLD_SET
from audit.opening import Wanted, find
from audit.reader import LogReader
from cli.audit_office import Config, Office, OfSide, Side, open_office
from cli.output import console, print_json, text
from trust.errors import ProbegateError, Reason

if TYPE_CHECKING:
    from audit.erasing import Chosen

Authority = Annotated[
    str, typer.Option(metavar="TEXT", help="Your reference of the decision; it is logged.")
]
OfSearch = Annotated[list[str] | None, typer.Option("--search", help="A search's id.")]
OfEntry = Annotated[list[int] | None, typer.Option("--entry", min=0, help="An entry.")]
OfField = Annotated[list[str] | None, typer.Option("--field", help="Only this field.")]
LogName = Annotated[str, typer.Option(help="Which log.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def erase_command(
    *,
    config: Config,
    authority: Authority,
    of: OfSide = Side.BROKER,
    log: LogName = "search",
    search: OfSearch = None,
    entry: OfEntry = None,
    expired: Annotated[bool, typer.Option(help="All whose time is over.")] = False,
    field: OfField = None,
    as_json: AsJson = False,
) -> None:
    """Erase values beside a log; the log still verifies, and says when and on whose authority.

    Values under legal hold stay. At the broker the signed order goes with its values.
    """
    from audit.erasing import chosen
    from audit.scrubbing import scrub

    office = open_office(config, of)
    if expired == bool(search or entry):
        raise ProbegateError(Reason.USAGE, "give --search or --entry, or --expired")
    entries = None if expired else _entries(office, log, search, entry)
    now = datetime.now(UTC) if expired else None
    there = chosen(office.engine, log, entries, expired_at=now)
    free = [one for one in there if not _held(one, field)]
    logged = _put(office, ERASED, log, [one.index for one in free], field, authority)
    remains = scrub(office.engine, office.tables)
    kept = [one.index for one in there if _held(one, field)]
    done = {
        "erased_entries": [one.index for one in free],
        "held_entries": kept,
        "admin_entries": logged,
        "remains": list(remains),
    }
    if as_json:
        print_json(done)
        return
    screen = console()
    screen.print(text(f"Erased the values of {len(free):,} entries under {authority}."))
    if kept:
        screen.print(text(f"Under legal hold, and still there: {_few(kept)}.", "yellow"))
    for one in remains:
        screen.print(text(f"Not removed from here: {one}."))


def verify_values_command(
    *,
    config: Config,
    of: OfSide = Side.BROKER,
    log: LogName = "search",
    as_json: AsJson = False,
) -> None:
    """Check every value beside a log against what its entry committed to; show none of them."""
    from audit.opening import read_erasures
    from audit.organisation import ADMIN
    from audit.side_store import verify_values

    office = open_office(config, of)
    erasures = read_erasures(office.logs_dir / ADMIN, log)
    with office.engine.connect() as connection:
        report = verify_values(LogReader(office.logs_dir / log), connection, log, erasures)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        screen = console()
        screen.print(f"{report.values:,} values are as committed, {report.erased:,} are erased.")
        for one in report.problems:
            screen.print(text(f"wrong: entry {one.entry}, {one.field}: {one.what}", "red"))
    if not report.ok:
        raise ProbegateError(Reason.LOG_CORRUPT, f"{report.problem_count} values")


def hold_command(
    *,
    config: Config,
    authority: Authority,
    of: OfSide = Side.BROKER,
    log: LogName = "search",
    search: OfSearch = None,
    entry: OfEntry = None,
    field: OfField = None,
    lift: Annotated[bool, typer.Option(help="Lift the hold instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put values under legal hold: nothing erases them until the hold is lifted.

    At an adapter, a hold on a search's entries of its search log keeps what it answered there.
    """
    from audit.erasing import chosen

    office = open_office(config, of)
    entries = _entries(office, log, search, entry)
    valued = (one.index for one in chosen(office.engine, log, entries))
    there = sorted({*valued, *office.answers(log, entries)})
    kind = HOLD_LIFTED if lift else HOLD_SET
    logged = _put(office, kind, log, there, field, authority)
    if as_json:
        print_json({"entries": there, "held": not lift, "admin_entries": logged})
    else:
        said = "no longer held" if lift else "under legal hold"
        console().print(text(f"What {len(there):,} entries stand for is {said}: {_few(there)}."))


def _put(
    office: Office,
    kind: str,
    log: str,
    entries: Sequence[int],
    fields: Sequence[str] | None,
    authority: str,
) -> list[int]:
    """Have it done, some entries at a time; return the admin log's entries."""
    from audit.erasing import ENTRIES_MAX, facts_of

    async def put() -> list[int]:
        return [
            await office.log(
                kind, **facts_of(log, entries[start : start + ENTRIES_MAX], fields or (), authority)
            )
            for start in range(0, len(entries), ENTRIES_MAX)
        ]

    return asyncio.run(put())


def _entries(
    office: Office, log: str, searches: Sequence[str] | None, entries: Sequence[int] | None
) -> list[int]:
    """Return the entries that are named, and those of the searches that are.

    Raises:
        ProbegateError: ``USAGE`` if nothing is named; ``NOT_FOUND`` for a search without entries.
    """
    if not searches and not entries:
        raise ProbegateError(Reason.USAGE, "give --search or --entry")
    named = set(entries or ())
    reader = LogReader(Path(office.logs_dir) / log)
    for search in searches or ():
        # The whole id: what begins alike, or everything, is not to be erased or let go for it.
        found = {one.index for one in find(reader, Wanted(searches=frozenset({search})))}
        if not found:
            raise ProbegateError(Reason.NOT_FOUND, "no entry is of this search")
        named |= found
    return sorted(named)


def _held(one: Chosen, fields: Sequence[str] | None) -> bool:
    return any(not fields or name in fields for name in one.held)


def _few(entries: Sequence[int]) -> str:
    shown = ", ".join(map(str, entries[:10]))
    return shown if len(entries) <= 10 else f"{shown} and {len(entries) - 10:,} more"  # noqa: PLR2004 - ten, twice
