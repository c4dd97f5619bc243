"""``probegate audit search``: entries that answer a question, with the values they commit to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.kinds import READ
from audit.opening import Opened, Wanted, checked_purpose, day, find, read_erasures, reading_facts
from audit.organisation import ADMIN
from audit.reader import LogReader
from cli.audit_office import Config, OfSide, Purpose, Side, open_office
from cli.output import console, indented, print_json, text
from trust.errors import ProbegateError, Reason


def search_command(
    folder: Annotated[
        Path | None, typer.Argument(help="The log's folder; with --config, not needed.")
    ] = None,
    *,
    log: Annotated[str, typer.Option(help="With --config: which log.")] = "search",
    config: Config = None,
    of: OfSide = Side.BROKER,
    purpose: Purpose = "",
    entry: Annotated[int | None, typer.Option(min=0, help="This entry.")] = None,
    kind: Annotated[str, typer.Option("--type", help="Entries of this type.")] = "",
    search: Annotated[str, typer.Option(help="Of this search (or how its id begins).")] = "",
    force: Annotated[str, typer.Option(help="Asked by this force.")] = "",
    agency: Annotated[str, typer.Option(help="About this agency.")] = "",
    state: Annotated[str, typer.Option(help="With this outcome.")] = "",
    clause: Annotated[str, typer.Option(help="Where this clause failed.")] = "",
    denied: Annotated[bool, typer.Option(help="Where an agency was denied.")] = False,
    since: Annotated[str, typer.Option(help="From this day or instant, UTC.")] = "",
    until: Annotated[str, typer.Option(help="Before this day or instant, UTC.")] = "",
    officer: Annotated[str, typer.Option(help="By this officer; needs --config.")] = "",
    case: Annotated[str, typer.Option(help="For this case; needs --config.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Find entries. With --config and --purpose also the values that they only commit to.

    Such a read is on the admin log before anything is shown.
    """
    wanted = Wanted(
        entry=entry,
        kind=kind,
        search_id=search,
        force=force,
        agency=agency,
        state=state,
        clause=clause,
        denied=denied,
        since=_instant(since),
        until=_instant(until),
        officer=officer,
        case=case,
    )
    if config is None:
        if folder is None or wanted.asks_values:
            raise ProbegateError(Reason.USAGE, "give a folder, or --config to read values")
        found = find(LogReader(folder), wanted)
    else:
        found = _with_values(config, of, log, wanted, checked_purpose(purpose))
    count = 0
    for one in found:
        count += 1
        if as_json:
            print_json(one.document(), on_one_line=True)
        else:
            _show(one)
    if not as_json:
        console(stderr=True).print(f"{count:,} entries.")


def _with_values(
    config: Path, side: Side, log: str, wanted: Wanted, purpose: str
) -> Iterator[Opened]:
    office = open_office(config, side)
    reader = LogReader(office.logs_dir / log)
    facts = reading_facts(office.id, log, reader.size, purpose)
    asyncio.run(office.log(READ, **facts))
    erasures = read_erasures(office.logs_dir / ADMIN, log)
    with office.engine.connect() as connection:
        yield from find(reader, wanted, connection=connection, log=log, erasures=erasures)


def _show(one: Opened) -> None:
    screen = console()
    when = str(one.said.get("at", ""))[:19].replace("T", " ")
    screen.print(text(f"{one.index} {when} {one.said.get('type', '')}", "bold"))
    for name, value in one.said.items():
        if name in {"v", "at", "type", "commitments"} or name.endswith("sha256"):
            continue
        for part in value if isinstance(value, list) else [value]:
            screen.print(indented(f"{name}: {_said(part)}"))
    for name, value in one.values.items():
        screen.print(indented(f"{name} = {_said(value)}", "green"))
    for name, erasure in one.erased.items():
        why = (
            "no entry says why"
            if erasure is None
            else (
                f"{erasure.at[:19].replace('T', ' ')} under {erasure.authority} "
                f"(entry {erasure.entry} of the admin log)"
            )
        )
        screen.print(indented(f"{name}: erased {why}", "yellow"))


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {_said(part)}"
            for name, part in value.items()
            if part not in ("", [], None) and not name.endswith("sha256")
        )
    if isinstance(value, list):
        return " ".join(map(_said, value))
    return str(value)


def _instant(given: str) -> datetime | None:
    if not given:
        return None
    try:
        return day(given)
    except ValueError:
        raise ProbegateError(Reason.USAGE, f"not a day or an instant: {given!r}") from None
