r"""``probegate adapter``: an agency's gallery, its server, and what its own people do there.

::

    probegate adapter serve --config adapter.toml
    probegate adapter resolve --config adapter.toml --reference abcdefghijklmnopqrst
    probegate adapter switch off purpose:prosecution --reference 2026/17 --config adapter.toml
    probegate adapter inbox --config adapter.toml
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import gallery, inbox, recalls, releases, switching
from cli.calibrate import calibrate
from cli.operators import adapter_operator
from cli.output import OneLineErrors, console, print_json, text
from cli.waiting import row

if TYPE_CHECKING:
    from agency_adapters.models import FoundRecord

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
gallery.register(app)
app.command()(calibrate)
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


@app.command()
def serve(
    config: Config = None,
    listen: Annotated[str | None, typer.Option(help="Address to serve on, host:port.")] = None,
    place: Annotated[str | None, typer.Option("--gallery", help="Where the gallery is.")] = None,
    port_file: Annotated[Path | None, typer.Option(help="Where to write the port.")] = None,
) -> None:
    """Answer the broker until told to stop (SIGTERM or Ctrl-C)."""
    from agency_adapters.serve import run
    from agency_adapters.settings import AdapterSettings
    from trust import telemetry
    from trust.config import load_settings

    settings = load_settings(
        AdapterSettings, config, listen=listen, gallery=place, port_file=port_file
    )
    telemetry.configure_logging(f"probegate-adapter-{settings.id}")
    telemetry.setup(f"probegate-adapter-{settings.id}")
    try:
        import uvloop
    except ImportError:
        asyncio.run(run(settings))
    else:
        uvloop.run(run(settings))


@app.command()
def resolve(
    config: Config = None,
    reference: Annotated[str | None, typer.Option(help="One candidate's reference.")] = None,
    search: Annotated[str | None, typer.Option(help="A search's id: all its candidates.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show which records of ours references stand for; the read is on the admin log first."""
    found = asyncio.run(adapter_operator(config).resolve(search_id=search, reference=reference))
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
        print_json(rows)
        return
    show_resolved(found)


def show_resolved(found: Sequence[tuple[str, FoundRecord]]) -> None:
    """Print which records references stand for, as blocks that fit any width."""
    screen = console()
    for search_id, one in found:
        screen.print(text(one.reference, "bold"))
        screen.print(row("record", one.record_id))
        screen.print(row("search", search_id))
        screen.print(row("rank", f"{one.rank}, score {one.score:.4f}"))


@app.command()
def decide(
    request: Annotated[str, typer.Option(help="The request id the force announced.")],
    authority: Annotated[str, typer.Option(help="Such as caldicott, court_order.")],
    reference: Annotated[str, typer.Option(help="The agency's reference of the decision.")],
    force: Annotated[
        str, typer.Option(help="Whose order it is for; any force's if left out.")
    ] = "",
    config: Config = None,
) -> None:
    """Record the owner's decision on one order that is to come (NHS, DWP)."""
    asyncio.run(adapter_operator(config).decide(request, authority, reference, force=force))
    typer.echo(f"recorded: {authority} on {request}")


@app.command()
def withdraw(
    request: Annotated[str, typer.Option(help="The request id that was decided on.")],
    reference: Annotated[str, typer.Option(help="The agency's reference of the withdrawal.")],
    config: Config = None,
) -> None:
    """Withdraw the owner's decision on a request, unless it was used."""
    asyncio.run(adapter_operator(config).withdraw(request, reference))
    typer.echo(f"withdrawn: the decision on {request}")


@app.command()
def switch(
    turn: switching.Turn,
    name: switching.Name,
    reference: switching.Reference,
    config: Config = None,
) -> None:
    """Turn a kill switch off or on again; it is on the log and in force when this returns."""
    switching.turn_and_say(adapter_operator(config), turn, name, reference)


@app.command()
def switches(
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the kill switches that are off at this agency."""
    switching.show(adapter_operator(config), as_json=as_json)


inbox.add_to(app)
releases.add_to(app)
recalls.add_to(app)
