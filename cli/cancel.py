"""``probegate cancel``: end a search now, with what there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from cli import facts
from cli.following import finish
from force_client import AsyncForceClient, ProbegateError, SearchView

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

    Exit status: 0; 1 when it ended and recalls could not be heard; 3 when every agency was denied;
    4 when it ended with less than was asked for.
    """
    view, unheard = asyncio.run(_cancel(search, config))
    finish(view, as_json=as_json, afterwards=unheard)


async def _cancel(search: str, config: Path | None) -> tuple[SearchView, ProbegateError | None]:
    """Return the search, and why recalls could not be heard of: that keeps no search running."""
    async with AsyncForceClient(facts.settings_from(config)) as client:
        view = await client.cancel(search)  # first: an agency may be asked at this moment
        try:
            await client.take_recalls()
            return await client.get(search), None  # with what must not be used any more
        except ProbegateError as error:
            return view, error
