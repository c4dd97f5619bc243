"""``probegate corroborate``: record evidence that does not come from comparing faces."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cli import facts
from cli.output import console, print_json, text
from cli.people import presented
from cli.second_step import Agency, Reference, SearchId, TokenFile
from force_client import AsyncForceClient, Part, RecordedCorroboration
from trust.second_step import CorroborationKind

app = typer.Typer(add_completion=False)


@app.command()
def corroborate(
    search: SearchId,
    *,
    agency: Agency,
    reference: Reference,
    kind: Annotated[CorroborationKind, typer.Option(help="What kind of evidence it is.")],
    case_material: Annotated[str, typer.Option(metavar="TEXT", help="Where the case file has it.")],
    person: Annotated[str, typer.Option(metavar="ID", help="Who records it.")],
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Record evidence that does not come from comparing faces.

    A candidate without any is never exported: two faces that look alike are no evidence.
    """

    async def run() -> RecordedCorroboration:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            who, token = presented(client, person, token_file, Part.OFFICER)
            return await client.corroborate(
                search,
                agency,
                reference,
                kind=kind,
                case_material=case_material,
                person=who,
                person_token=token,
            )

    said = asyncio.run(run()).corroboration
    if as_json:
        print_json(
            {
                "corroboration_id": said.corroboration_id,
                "search_id": said.search_id,
                "agency": said.agency,
                "reference": said.reference,
                "kind": said.kind.value,
                "recorded_at": said.recorded_at.isoformat(),
            }
        )
        return
    console().print(text(f"Recorded: {said.kind.value}, {said.corroboration_id}.", "green"))
