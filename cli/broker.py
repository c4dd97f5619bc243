"""``probegate broker``: run the broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run the broker.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Run the broker."""


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings as TOML; PROBEGATE_BROKER_* in the environment fill the rest."),
    ] = None,
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
