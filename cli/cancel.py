"""``probegate cancel``: end a search now, with what there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from cli import facts
from cli.following import finish
from force_client import AsyncForceClient, SearchView

app = typer.Typer(add_completion=False)


@app.command()
def cancel(
    search: facts.SearchId,
    *,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """End a search now, with what there is.

    Agencies that have not answered are not waited for, and are not asked again:
    their outcome says so. A search that has ended stays as it is.

    Exit status: 0; 3 when every agency was denied; 4 when it ended with less than was asked for.
    """
    finish(asyncio.run(_cancel(search, config)), as_json=as_json)


async def _cancel(search: str, config: Path | None) -> SearchView:
    async with AsyncForceClient(facts.settings_from(config)) as client:
        return await client.cancel(search)
