"""``probegate get``: read one search as it is now, and verify it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from cli import facts
from cli.following import finish
from force_client import AsyncForceClient, SearchView

app = typer.Typer(add_completion=False)


@app.command()
def get(
    search: facts.SearchId,
    *,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Read one search as it is now, and verify the answer.

    An answer that an agency held, or that came late, completes the search it
    belongs to: what is read then is a later revision.

    Exit status: 0; 3 when every agency was denied; 4 when it ended with less than was asked for.
    """
    finish(asyncio.run(_get(search, config)), as_json=as_json)


async def _get(search: str, config: Path | None) -> SearchView:
    async with AsyncForceClient(facts.settings_from(config)) as client:
        await client.take_recalls()  # what is shown says what must not be used any more
        return await client.get(search)
