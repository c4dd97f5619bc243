"""``probegate recall``: wrong matches, and what agencies take back.

::

    probegate recall report SEARCH --agency custody --reference REF --reporter ns-4411
        --reasons "..."
    probegate recall list
    probegate recall acknowledge RECALL --person ns-4411 --action "..."
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import facts
from cli.following import unbelieved_of
from cli.output import OneLineErrors, console, indented, print_json, text
from cli.people import presented
from cli.second_step import Agency, Reference, SearchId, TokenFile, head
from force_client import LEAD_ONLY, AsyncForceClient, Part, RecallView
from trust.errors import ProbegateError

app = typer.Typer(
    name="recall",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Report wrong matches, and stop using what agencies take back.",
)


@app.command()
def report(
    search: SearchId,
    *,
    agency: Agency,
    reference: Reference,
    reporter: Annotated[str, typer.Option(metavar="ID", help="Who reports.")],
    reasons: Annotated[
        str, typer.Option(metavar="TEXT", help="How it came to light; name nobody.")
    ],
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Report that a candidate is not the person sought."""

    async def run() -> str:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            who, token = presented(client, reporter, token_file, Part.OFFICER)
            return await client.report_wrong_match(
                search, agency, reference, reporter=who, reporter_token=token, reasons=reasons
            )

    report_id = asyncio.run(run())
    if as_json:
        print_json({"report_id": report_id, "search_id": search, "agency": agency})
        return
    console().print(text(f"Reported: {report_id}. {agency} is told.", "green"))


@app.command("list")
def list_recalls(
    config: facts.Config = None,
    as_json: facts.AsJson = False,  # noqa: FBT002 - typer's flag
) -> None:
    """List what agencies recalled, verified; each is marked here and used no more.

    One that does not verify is told of after all the others.
    """
    found: list[RecallView] = []

    async def listed(client: AsyncForceClient) -> None:
        async for one in client.recalls():
            found.append(one)  # noqa: PERF401 - what came before a refusal is shown as well

    async def run() -> ProbegateError | None:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            return await unbelieved_of(listed(client))

    unbelieved = asyncio.run(run())
    _show(found, as_json=as_json, whole=unbelieved is None)
    if unbelieved is not None:
        raise unbelieved


def _show(found: Sequence[RecallView], *, as_json: bool, whole: bool) -> None:
    if as_json:
        recalls = [
            {
                "recall_id": one.recall.recall_id,
                "search_id": one.recall.search_id,
                "agency": one.recall.agency,
                "reference": one.recall.reference,
                "reason": one.recall.reason.value,
                "notice": one.recall.notice,
                "recalled_at": one.recall.recalled_at.isoformat(),
                "acknowledged_at": (
                    one.acknowledged_at.isoformat() if one.acknowledged_at else None
                ),
            }
            for one in found
        ]
        print_json({"notice": LEAD_ONLY, "recalls": recalls})
        return
    screen = console()
    if not found and whole:
        screen.print("Nothing was recalled.")
    if found:
        head(screen)
    for one in found:
        recall = one.recall
        screen.print(text(recall.recall_id, "bold"))
        reason = recall.reason.value.replace("_", " ")
        screen.print(text(f"    STOP USE: {recall.agency} {recall.reference}", "bold red"))
        screen.print(indented(f"{reason}. {recall.notice}"))
        screen.print(indented(f"search {recall.search_id}"))
        if one.acknowledged_at is None:
            screen.print(indented("to be acknowledged: `probegate recall acknowledge`", "yellow"))


@app.command()
def acknowledge(
    recall: Annotated[str, typer.Argument(metavar="RECALL", help="The recall's id.")],
    *,
    person: Annotated[str, typer.Option(metavar="ID", help="Who says so.")],
    action: Annotated[
        str, typer.Option(metavar="TEXT", help="What was done about all that was made of it.")
    ],
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Say that a recalled candidate is no longer used; recalls are read and marked first.

    One that does not verify keeps no other from being acknowledged, and is told of afterwards.
    """

    async def run() -> ProbegateError | None:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            unbelieved = await unbelieved_of(client.take_recalls())
            who, token = presented(client, person, token_file, Part.OFFICER)
            await client.acknowledge_recall(recall, person=who, person_token=token, action=action)
        return unbelieved

    unbelieved = asyncio.run(run())
    if as_json:
        print_json({"recall_id": recall, "acknowledged": True})
    else:
        console().print(text(f"Acknowledged: {recall}. It stays out of use here.", "green"))
    if unbelieved is not None:
        raise unbelieved
