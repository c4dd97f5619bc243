"""``probegate get``: read one search as it is now, and verify it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from cli import facts
from cli.following import finish, unbelieved_of
from force_client import AsyncForceClient, ProbegateError, SearchView

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
    belongs to: what is read then is a later revision. Recalls are read first; one
    that does not verify is told of once the search is shown.

    Exit status: 0; 1 when a recall does not verify; 3 when every agency was denied; 4 when it
    ended with less than was asked for.
    """
    view, unbelieved = asyncio.run(_get(search, config))
    finish(view, as_json=as_json, afterwards=unbelieved)


async def _get(search: str, config: Path | None) -> tuple[SearchView, ProbegateError | None]:
    async with AsyncForceClient(facts.settings_from(config)) as client:
        # What is shown says what must not be used any more.
        unbelieved = await unbelieved_of(client.take_recalls())
        return await client.get(search), unbelieved
