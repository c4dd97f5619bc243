"""``probegate audit watch``: signs of misuse in a broker's search log, with their numbers.

::

    probegate audit watch BROKER
    probegate audit watch --config broker.toml --purpose self_monitoring
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfoNotFoundError

import typer

from audit.kinds import READ
from audit.opening import checked_purpose, open_values, reading_facts
from audit.organisation import SEARCH
from audit.reader import LogReader
from audit.signals import CATALOGUE, LEAD, Signal
from audit.watch_limits import Limits, Quota, Watched
from audit.watching import OpenValues, watch
from cli.audit_office import Config, Office, Purpose, Side, open_office
from cli.output import console, indented, print_json, text
from trust.errors import ProbegateError, Reason

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ENTRIES_SHOWN: Final = 8
_COUNTERS: Final = frozenset(
    f"{per}.{window}" for per in ("force", "officer", "case") for window in ("day", "month")
)
_DEFAULTS: Final = Limits()


def watch_command(
    folder: Annotated[
        Path | None,
        typer.Argument(help="The broker's search log; with --config, not needed."),
    ] = None,
    *,
    config: Config = None,
    purpose: Purpose = "",
    since: Annotated[str, typer.Option("--from", metavar="DATE", help="From this day, UTC.")] = "",
    until: Annotated[str, typer.Option("--to", metavar="DATE", help="Before this day, UTC.")] = "",
    quota: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AGENCY:COUNTER=MOST",
            help="A quota whose edge to watch, such as custody:officer.day=50.",
        ),
    ] = None,
    zone: Annotated[str, typer.Option(help="Where office hours are.")] = _DEFAULTS.zone,
    opens: Annotated[int, typer.Option(min=0, max=24, help="Their hour.")] = _DEFAULTS.opens,
    closes: Annotated[int, typer.Option(min=0, max=24, help="Their end.")] = _DEFAULTS.closes,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for signs of misuse: leads to look into, never findings.

    With --config and --purpose also signs that need the values beside the log (officers, probes,
    cases). Such a read is on the admin log before anything is read.
    """
    limits = replace(
        _DEFAULTS,
        zone=zone,
        opens=opens,
        closes=closes,
        quotas=tuple(_quota(one) for one in quota or ()),
    )
    try:
        if config is not None:
            office = open_office(config, Side.BROKER)
            found = _watched_at(office, checked_purpose(purpose), limits, (since, until))
        elif folder is not None:
            found = watch(within(LogReader(folder), since, until), limits)
        else:
            raise ProbegateError(Reason.USAGE, "give a folder, or --config to read values")
    except ZoneInfoNotFoundError:
        raise ProbegateError(Reason.USAGE, f"not a zone: {zone!r}") from None
    if as_json:
        print_json(document(found))
    else:
        _show(found)


def within(reader: LogReader, since: str, until: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the entries of a period, as days."""
    for index, said in reader.facts():
        day = str(said.get("at", ""))[:10]
        if (not since or day >= since) and (not until or day < until):
            yield index, said


def opener(connection: Connection, log: str) -> OpenValues:
    """Return what opens an entry's values.

    A value that is not the one its entry committed to is ``LOG_PROOF_INVALID``.
    """
    return partial(open_values, connection, log)


def document(found: Watched) -> dict[str, Any]:
    """Return what was found as JSON."""
    return {
        "note": LEAD,
        "searches": found.searches,
        "values_asked": found.asked_values,
        "officer_known": found.opened,
        "not_judged": list(found.not_judged),
        "signals": [
            one.document()
            | {"may_be": CATALOGUE[one.kind].may_be, "or_else": CATALOGUE[one.kind].or_else}
            for one in found.signals
        ],
    }


def _watched_at(office: Office, purpose: str, limits: Limits, days: tuple[str, str]) -> Watched:
    reader = LogReader(office.logs_dir / SEARCH)

    def record(stated: str, log: str) -> None:
        facts = reading_facts(office.id, log, reader.size, stated)
        asyncio.run(office.log(READ, **facts))

    with office.engine.connect() as connection:
        return watch(
            within(reader, *days),
            limits,
            open_values=opener(connection, SEARCH),
            record_read=record,
            purpose=purpose,
            what=SEARCH,
        )


def _show(found: Watched) -> None:
    screen = console()
    screen.print(text(f"Signals: {len(found.signals):,} in {found.searches:,} searches", "bold"))
    screen.print(text(LEAD, "bold yellow"))
    if not found.asked_values:
        screen.print(
            text(
                "Who searched, for which case and with which probe was not read: only forces are "
                "looked at. Give --config and --purpose for the rest."
            )
        )
    elif found.opened < found.searches:
        gone = found.searches - found.opened
        screen.print(
            text(f"Who made {gone:,} of them is erased: these count for their force only.")
        )
    for one in found.not_judged:
        screen.print(text(f"Not compared: {one}."))
    for signal in found.signals:
        screen.print()
        _show_one(signal)


def _show_one(signal: Signal) -> None:
    screen, meaning = console(), CATALOGUE[signal.kind]
    screen.print(text(f"{signal.about} {signal.who}: {meaning.title}", "bold"))
    numbers = ", ".join(f"{name} {_number(value)}" for name, value in signal.numbers.items())
    screen.print(indented(numbers))
    screen.print(indented(f"signalled from: {signal.limit}"))
    screen.print(indented(f"may be: {meaning.may_be}; or else: {meaning.or_else}"))
    if signal.entries:
        newest = ", ".join(str(one) for one in signal.entries[-_ENTRIES_SHOWN:])
        screen.print(indented(f"newest entries: {newest}"))


def _number(value: float | str) -> str:
    return f"{value:,}" if isinstance(value, int | float) else value


def _quota(given: str) -> Quota:
    place, equals, most = given.partition("=")
    agency, colon, counter = place.partition(":")
    if not (agency and colon and equals and counter in _COUNTERS and most.isdecimal()):
        raise ProbegateError(Reason.USAGE, "give --quota AGENCY:COUNTER=MOST")
    return Quota(agency, counter, max(1, int(most)))
