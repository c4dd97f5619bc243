"""``probegate confirm``: confirm in writing a search that was made on the urgent route."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli import facts
from cli.output import console, print_json, text
from cli.people import presented
from force_client import AsyncForceClient, Part, ProbegateError, Reason

app = typer.Typer(add_completion=False)


@app.command()
def confirm(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="The search's id.")],
    *,
    confirmer: Annotated[
        str, typer.Option(metavar="ID", help="Who confirms: not the officer who searched.")
    ],
    reasons: Annotated[
        str, typer.Option(metavar="TEXT", help="Why the urgent route was right, in their words.")
    ],
    confirmer_token: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The confirmer's token.")
    ] = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Confirm in writing a search that was made on the urgent route.

    Until its deadline a search on the urgent route needs no more than that; past it, the officer's
    later searches are denied until it is confirmed.
    """
    confirmed_at = asyncio.run(_confirm(search, confirmer, reasons, confirmer_token, config))
    if as_json:
        print_json({"search_id": search, "confirmed_at": confirmed_at.isoformat()})
        return
    when = f"{confirmed_at:%Y-%m-%d %H:%M:%S} UTC"
    console().print(text(f"Confirmed: {search} at {when}.", "green"))


async def _confirm(
    search: str, confirmer: str, reasons: str, token: Path | None, config: Path | None
) -> datetime:
    async with AsyncForceClient(facts.settings_from(config)) as client:
        person, shown = presented(client, confirmer, token, Part.AUTHORISER)
        view = await client.confirm_urgent(search, person, confirmer_token=shown, reasons=reasons)
    if view.received.confirmed_at is None:
        raise ProbegateError(Reason.UNEXPECTED, "confirmed at no time")
    return view.received.confirmed_at
