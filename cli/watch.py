"""``probegate watch``: follow a search that was made before, and verify its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from cli import facts
from cli.following import finish, follow, unbelieved_of
from cli.output import console
from force_client import AsyncForceClient, ProbegateError, SearchView

app = typer.Typer(add_completion=False)


@app.command()
def watch(
    search: facts.SearchId,
    *,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Follow a search to its end, and verify the answer.

    Each agency's answer is shown as it comes, those that are there first. A search
    that has ended is shown at once. Recalls are read first; one that does not verify
    is told of once the search is shown.

    Exit status: 0; 1 when a recall does not verify; 3 when every agency was denied; 4 when it
    ended with less than was asked for.
    """
    view, unbelieved = asyncio.run(_watch(search, config, as_json=as_json))
    finish(view, as_json=as_json, afterwards=unbelieved)


async def _watch(
    search: str, config: Path | None, *, as_json: bool
) -> tuple[SearchView, ProbegateError | None]:
    async with AsyncForceClient(facts.settings_from(config)) as client:
        # What is shown says what must not be used any more.
        unbelieved = await unbelieved_of(client.take_recalls())
        return await follow(client, search, console(stderr=as_json)), unbelieved
