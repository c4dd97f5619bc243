"""``probegate audit trace``: was a search recorded before it ran, and what became of it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from audit.releasing import Asked
from audit.tracing import AtAgency, Recorded, Trace, trace
from cli.audit_reconcile import given_folders
from cli.output import EXIT_REFUSED, console, print_json, text

_WORDS = {
    Recorded.BEFORE: "recorded before it acted",
    Recorded.NOT_PROVED: "NOT PROVED to be recorded before it acted",
    Recorded.NOT_ASKED: "its log holds nothing of it",
    Recorded.NO_LOG: "its log was not given",
}


def trace_command(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="The search's id.")],
    broker: Annotated[Path, typer.Option(help="Folder of the broker's search log.")],
    agency: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=FOLDER", help="An agency's search log; once for each."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Follow one search through everybody's logs, and whatever was disclosed after it.

    The exit status is 1 if it was not recorded first, or details were asked for or released out of
    order.

    Verify the logs as well: this believes what they hold.
    """
    found = trace(search, broker, given_folders(agency or []))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)
    if not found.in_order:
        raise typer.Exit(EXIT_REFUSED)


def _show(found: Trace) -> None:
    screen = console()
    screen.print(text(f"Search {found.search_id}: order is entry {found.order_entry}", "bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Agency", no_wrap=True, max_width=14)
    table.add_column("Decision", overflow="fold")
    table.add_column("Outcome", overflow="fold")
    table.add_column("Record", overflow="fold")
    for one in found.agencies:
        clauses = f" ({', '.join(one.failed)})" if one.failed else ""
        decision = "permitted" if one.permitted else f"denied{clauses}"
        table.add_row(text(one.agency), text(decision), text(_outcome(one)), text(_record(one)))
    screen.print(table)
    for asked in found.requests:
        screen.print(text(_asked(asked)))
        for fault in asked.faults:
            screen.print(text(f"  NOT IN ORDER: {fault}", "bold red"))
    for step in found.steps:
        when = step.at[:19].replace("T", " ")
        screen.print(text(f"{when}  {step.log} entry {step.entry}  {step.kind}"))


def _outcome(one: AtAgency) -> str:
    if not one.state:
        return "not ended"
    said = f"{one.state} ({one.reason})" if one.reason else one.state
    differs = one.own_state and one.own_state != one.state
    if one.erased_at:
        said = f"{said}; erased {one.erased_at[:10]}"
    return f"{said}; by its own log {one.own_state}" if differs else said


def _asked(one: Asked) -> str:
    reviews = ", ".join(str(index) for index in one.reviews) or "none"
    asked = "refused at once" if one.decided is not None else "not on the broker's log"
    if one.entry is not None:
        asked = f"entry {one.entry}"
    state = f"{one.state} ({one.reason})" if one.reason else one.state or "waiting"
    return (
        f"Details of {one.reference} at {one.agency}: reviews {reviews}; request {asked}; {state}"
    )


def _record(one: AtAgency) -> str:
    if one.recorded is Recorded.BEFORE:
        return f"{_WORDS[one.recorded]}: it had seen {one.covered} entries"
    return _WORDS[one.recorded]
