"""``probegate list``: this force's searches, the newest first."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from cli import facts
from cli.output import console, plain, print_json, text
from force_client import AsyncForceClient, SearchSummary

app = typer.Typer(add_completion=False)


@app.command()
def listing(
    *,
    most: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, metavar="N", help="Most to list.")
    ] = 20,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """List this force's searches, the newest first.

    Of a search it says when it was made, where it stands and how many agencies it names; read one
    with `probegate get`.
    """
    found, more = asyncio.run(_listing(most, config))
    if as_json:
        print_json(
            {
                "searches": [
                    {
                        "search_id": one.search_id,
                        "request_id": one.request_id,
                        "state": one.state.value,
                        "created_at": one.created_at.isoformat(),
                        "agencies": one.agencies,
                    }
                    for one in found
                ],
                "more": more,
            }
        )
        return
    screen = console()
    if not found:
        screen.print("No search of this force is kept.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Search", overflow="fold")
    table.add_column("Made (UTC)", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Agencies", justify="right", no_wrap=True)
    for one in found:
        made = f"{one.created_at:%Y-%m-%d %H:%M}"
        table.add_row(text(one.search_id), made, plain(one.state.value), str(one.agencies))
    screen.print(table)
    if more:
        screen.print(f"There are more; these are the newest {len(found)} (--limit).")


async def _listing(most: int, config: Path | None) -> tuple[list[SearchSummary], bool]:
    """Return at most so many searches, and whether there are more."""
    found: list[SearchSummary] = []
    async with AsyncForceClient(facts.settings_from(config)) as client:
        async for one in client.list():
            found.append(one)
            if len(found) > most:
                break
    return list(islice(found, most)), len(found) > most
