r"""``probegate adapter``: an agency's gallery, its server, and what its own people do there.

::

    probegate adapter import --kind custody --templates faces.npz --records records.csv \
        --model example-model-1 --out gallery
    probegate adapter check --gallery gallery
    probegate adapter serve --config adapter.toml
    probegate adapter resolve --config adapter.toml --reference abcdefghijklmnopqrst
    probegate adapter switch off purpose:prosecution --reference 2026/17 --config adapter.toml
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from cli import switching
from cli.output import OneLineErrors

if TYPE_CHECKING:
    from agency_adapters.operators import Operator

app = typer.Typer(
    name="adapter",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Import a gallery, serve it, and answer for it.",
)

Config = Annotated[
    Path | None,
    typer.Option(help="Settings as TOML; PROBEGATE_ADAPTER_* in the environment fill the rest."),
]
GalleryFolder = Annotated[Path, typer.Option("--gallery", help="The gallery's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


@app.command()
def serve(
    config: Config = None,
    listen: Annotated[str | None, typer.Option(help="Address to serve on, host:port.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Where the gallery is.")] = None,
    port_file: Annotated[Path | None, typer.Option(help="Where to write the port.")] = None,
) -> None:
    """Answer the broker until told to stop (SIGTERM or Ctrl-C)."""
    from agency_adapters.serve import run
    from agency_adapters.settings import AdapterSettings
    from trust import telemetry
    from trust.config import load_settings

    settings = load_settings(
        AdapterSettings, config, listen=listen, gallery=gallery, port_file=port_file
    )
    telemetry.configure_logging(f"probegate-adapter-{settings.id}")
    telemetry.setup(f"probegate-adapter-{settings.id}")
    try:
        import uvloop
    except ImportError:
        asyncio.run(run(settings))
    else:
        uvloop.run(run(settings))


@app.command("import")
def import_(
    kind: Annotated[str, typer.Option(help="What kind of agency: custody, pnd, passport, ...")],
    templates: Annotated[Path, typer.Option(help="Templates, .npy or .npz, one row a person.")],
    records: Annotated[Path, typer.Option(help="Records, CSV or JSON Lines, in the same order.")],
    model: Annotated[str, typer.Option(help="The template model's id.")],
    out: Annotated[str, typer.Option(help="The gallery's folder, or an engine's address.")],
    as_json: AsJson = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Import a gallery; every row that is not enrolled is reported by number and reason."""
    from agency_adapters.galleries.engine_import import import_to
    from agency_adapters.registry import kind_named
    from trust.clock import utc_now

    columns = ("Checking rows", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("import", total=None)
        report = import_to(
            kind=kind_named(kind),
            templates=templates,
            records=records,
            model=model,
            out=out,
            now=utc_now(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        Console().print(report.rendered())


@app.command()
def stats(
    gallery: GalleryFolder,
    bar_unconvicted_minors: Annotated[  # noqa: FBT002
        bool, typer.Option("--bar-unconvicted-minors", help="Count as if this switch were on.")
    ] = False,
    bar_overdue_reviews: Annotated[  # noqa: FBT002
        bool, typer.Option("--bar-overdue-reviews", help="Count as if this switch were on.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Count the records, those that may be searched, and those each rule bars or would bar."""
    from agency_adapters.galleries.store import Gallery
    from trust.clock import utc_now

    switches = {
        name
        for name, on in (
            ("bar_unconvicted_minors", bar_unconvicted_minors),
            ("bar_overdue_reviews", bar_overdue_reviews),
        )
        if on
    }
    opened = Gallery.open(gallery)
    manifest = opened.manifest
    eligible = opened.eligibility(utc_now().date(), switches)
    rules = [
        {
            "rule": rule.name,
            "citation": rule.citation,
            "records": eligible.met[rule.name],
            "bars": not rule.switch or rule.switch in switches,
        }
        for rule in opened.kind.eligibility
    ]
    opened.close()
    if as_json:
        facts = {
            "kind": manifest.kind,
            "model": manifest.model,
            "dims": manifest.dims,
            "generation": manifest.generation,
            "records": manifest.count,
            "eligible": eligible.count,
            "rules": rules,
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    console = Console()
    console.print(
        f"{manifest.count:,} records, {eligible.count:,} eligible; {manifest.kind}, "
        f"{manifest.model}, {manifest.dims} dimensions, generation {manifest.generation}"
    )
    table = Table("Rule", "Records", "Effect", "Stands on")
    for row in rules:
        effect = "barred" if row["bars"] else "counted only"
        table.add_row(str(row["rule"]), str(row["records"]), effect, str(row["citation"]))
    console.print(table)


@app.command()
def check(gallery: GalleryFolder) -> None:
    """Read every byte of a gallery and compare it with its manifest."""
    from agency_adapters.galleries.store import Check, Gallery
    from trust.clock import utc_now

    opened = Gallery.open(gallery, check=Check.FULL)
    eligible = opened.eligibility(utc_now().date())
    opened.close()
    typer.echo(
        f"sound: {opened.manifest.count} records, {eligible.count} eligible, "
        f"generation {opened.manifest.generation}"
    )


@app.command()
def resolve(
    config: Config = None,
    reference: Annotated[str | None, typer.Option(help="One candidate's reference.")] = None,
    search: Annotated[str | None, typer.Option(help="A search's id: all its candidates.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show which records of ours references stand for; the read is on the admin log first."""
    found = asyncio.run(_operator(config).resolve(search_id=search, reference=reference))
    rows = [
        {
            "search_id": search_id,
            "reference": one.reference,
            "record_id": one.record_id,
            "rank": one.rank,
            "score": one.score,
        }
        for search_id, one in found
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("Search", "Rank", "Score", "Reference", "Record")
    for search_id, one in found:
        table.add_row(search_id, str(one.rank), f"{one.score:.4f}", one.reference, one.record_id)
    Console().print(table)


@app.command()
def decide(
    request: Annotated[str, typer.Option(help="The request id the force announced.")],
    authority: Annotated[str, typer.Option(help="Such as caldicott, court_order.")],
    reference: Annotated[str, typer.Option(help="The agency's reference of the decision.")],
    config: Config = None,
) -> None:
    """Record the owner's decision on a request that is to come (NHS, DWP)."""
    asyncio.run(_operator(config).decide(request, authority, reference))
    typer.echo(f"recorded: {authority} on {request}")


@app.command()
def switch(
    turn: switching.Turn,
    name: switching.Name,
    reference: switching.Reference,
    config: Config = None,
) -> None:
    """Turn a kill switch off or on again; it is on the log and in force when this returns."""
    switching.turn_and_say(_operator(config), turn, name, reference)


@app.command()
def switches(
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the kill switches that are off at this agency."""
    switching.show(_operator(config), as_json=as_json)


def _operator(config: Path | None) -> Operator:
    from agency_adapters.operators import Operator
    from agency_adapters.settings import AdapterSettings
    from trust.config import load_settings

    return Operator.open(load_settings(AdapterSettings, config))
