"""``probegate audit reconcile``: do the broker's log and each agency's log agree?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from audit.reconciliation import Reconciliation
from audit.reconciling import reconcile
from audit.reconciling_releases import StepFinding, reconcile_releases
from cli.audit_progress import progress
from cli.output import EXIT_REFUSED, console, print_json, text
from trust.errors import ProbegateError, Reason


def reconcile_command(
    broker: Annotated[Path, typer.Argument(help="Folder of the broker's search log.")],
    agency: Annotated[
        list[str],
        typer.Option(metavar="ID=FOLDER", help="An agency's search log; once for each."),
    ],
    patience: Annotated[int, typer.Option(min=0, help="Minutes a search may be under way.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Lay the broker's log and the agencies' side by side.

    Copy the agencies' folders after the broker's, and verify each of them as well. Exit status 1 if
    anything disagrees.
    """
    folders, within = given_folders(agency), timedelta(minutes=patience)
    with progress() as told:
        found = reconcile(broker, folders, patience=within, told=told)
        followed = reconcile_releases(broker, folders, within)
    agreed = found.ok and not followed
    if as_json:
        document = found.model_dump(mode="json") | {
            "ok": agreed,
            "followed": [one.model_dump(mode="json") for one in followed],
        }
        print_json(document)
    else:
        _show(found)
        _show_followed(followed)
        if agreed:
            console().print(text("The logs agree.", "green"))
    if not agreed:
        raise typer.Exit(EXIT_REFUSED)


def given_folders(agencies: Sequence[str]) -> dict[str, Path]:
    """Return the folders of ``--agency ID=FOLDER``.

    Raises:
        ProbegateError: ``USAGE``.
    """
    folders = {}
    for one in agencies:
        name, equals, folder = one.partition("=")
        if not (name and equals and folder):
            raise ProbegateError(Reason.USAGE, "give --agency ID=FOLDER")
        folders[name] = Path(folder)
    return folders


def _show(found: Reconciliation) -> None:
    screen = console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in (
        ("searches in the broker's log", found.searches),
        ("agencies' reports that agree", found.agreed),
        ("permitted agencies that failed, as recorded", found.failed),
        ("of these, answered too late", found.late),
        ("still under way", found.under_way),
        ("checkpoints in one log that the other keeps to", found.held),
    ):
        table.add_row(name, f"{count:,}")
    screen.print(table)
    if found.not_compared:
        screen.print(text(f"Asked, but no log was given: {', '.join(found.not_compared)}"))
    if found.ok:
        return
    faults = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    faults.add_column("Agency", no_wrap=True, max_width=16)
    faults.add_column("Search", no_wrap=True, max_width=9)
    faults.add_column("Entries", no_wrap=True)
    faults.add_column("What disagrees", overflow="fold")
    for one in found.findings[:50]:
        places = [
            f"{where} {entry}"
            for where, entry in (("broker", one.broker_entry), ("agency", one.agency_entry))
            if entry is not None
        ]
        faults.add_row(text(one.agency), text(one.search_id[:8]), "\n".join(places), text(one.what))
    screen.print(faults)
    total = sum(found.counts.values())
    screen.print(text(f"{total:,} disagreements.", "bold red"))


def _show_followed(followed: Sequence[StepFinding]) -> None:
    """Show what disagrees of images, requests for details, decisions and recalls."""
    for one in followed[:50]:
        where = [
            f"{log} entry {entry}"
            for log, entry in (("broker", one.broker_entry), (one.agency, one.agency_entry))
            if entry is not None
        ]
        what = one.fault.value.replace("_", " ")
        console().print(text(f"{one.agency}, search {one.search_id[:8]}: {what}", "bold red"))
        console().print(text(f"  {', '.join(where)}"))
    if followed:
        console().print(text(f"{len(followed):,} disagreements after searches.", "bold red"))
