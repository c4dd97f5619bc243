"""``probegate broker``: run the broker, and turn its kill switches."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli import switching
from cli.operators import broker_operator
from cli.output import OneLineErrors

app = typer.Typer(
    cls=OneLineErrors, help="Run the broker, and its kill switches.", no_args_is_help=True
)

Config = Annotated[
    Path | None,
    typer.Option(help="Settings as TOML; PROBEGATE_BROKER_* in the environment fill the rest."),
]


@app.command()
def serve(
    config: Config = None,
    listen: Annotated[str | None, typer.Option(help="Address to serve on, host:port.")] = None,
) -> None:
    """Serve forces and ask agencies until told to stop (SIGTERM or Ctrl-C)."""
    from broker.service import run
    from broker.settings import BrokerSettings
    from trust import telemetry
    from trust.config import load_settings

    settings = load_settings(BrokerSettings, config, listen=listen)
    telemetry.configure_logging("probegate-broker")
    telemetry.setup("probegate-broker")
    try:
        import uvloop

        uvloop.run(run(settings))
    except ImportError:
        asyncio.run(run(settings))


@app.command()
def switch(
    turn: switching.Turn,
    name: switching.Name,
    reference: switching.Reference,
    config: Config = None,
) -> None:
    """Turn a kill switch off or on again; it is on the log and in force when this returns."""
    switching.turn_and_say(broker_operator(config), turn, name, reference)


@app.command()
def switches(config: Config = None, as_json: switching.AsJson = False) -> None:  # noqa: FBT002 - typer's way to declare a flag
    """List the kill switches that are off at the broker."""
    switching.show(broker_operator(config), as_json=as_json)
