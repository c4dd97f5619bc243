"""``probegate disclose``: ask the owner of a potential candidate for details, and use them by rule.

::

    probegate disclose request SEARCH --agency custody --reference REF --requester ns-4411
        --facts-file facts.txt --field name --field date_of_birth
    probegate disclose status REQUEST
    probegate disclose list
    probegate disclose open REQUEST
    probegate disclose export REQUEST --out lead.html
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from cli import facts
from cli.following import unbelieved_of
from cli.output import OneLineErrors, console, indented, print_json, text
from cli.people import presented
from cli.second_step import Agency, Reference, RequestId, SearchId, TokenFile, head, stop_use
from force_client import (
    LEAD_ONLY,
    AsyncForceClient,
    DisclosureState,
    DisclosureSummary,
    DisclosureView,
    OpenedDisclosure,
    Part,
)
from force_client.second_step.exporting import labelled, terms_of
from trust import files
from trust.errors import ProbegateError, Reason
from trust.second_step import MAX_FACTS_CHARS

app = typer.Typer(
    name="disclose",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Ask the owner of a potential candidate for its details.",
)

_STYLES = {
    DisclosureState.RELEASED: "green",
    DisclosureState.REFUSED: "red",
    DisclosureState.LAPSED: "red",
}


@app.command()
def request(
    search: SearchId,
    *,
    agency: Agency,
    reference: Reference,
    requester: Annotated[str, typer.Option(metavar="ID", help="Who asks: none of the reviewers.")],
    fields: Annotated[
        list[str], typer.Option("--field", metavar="CODE", help="Which details; repeat or a,b.")
    ],
    facts_text: Annotated[
        str, typer.Option("--facts", metavar="TEXT", help="What happened, for the owner alone.")
    ] = "",
    facts_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, from a UTF-8 text file.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(metavar="UUID", help="Your own id; the same id asks once.")
    ] = None,
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Ask for details, once reviewers have settled on a potential candidate.

    The facts are sealed to the owner: the broker does not read them. Put them in a file rather
    than on the command line, which other people of this machine can see.
    """
    said = _facts(facts_text, facts_file)

    async def run() -> DisclosureView:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            who, token = presented(client, requester, token_file, Part.OFFICER)
            return await client.request_disclosure(
                search,
                agency,
                reference,
                requester=who,
                requester_token=token,
                facts=said,
                fields=facts.listed(fields),
                request_id=request_id,
            )

    _show(asyncio.run(run()), as_json=as_json)


@app.command()
def status(
    request: RequestId,
    *,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait as long for the owner's decision.")
    ] = 0.0,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Show how a request stands; nothing is opened.

    Recalls are read first; one that does not verify is told of afterwards.
    """

    async def run() -> tuple[DisclosureView, ProbegateError | None]:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            unbelieved = await unbelieved_of(client.take_recalls())
            view = await client.disclosure(request)
            if wait <= 0 or view.state.ended:
                return view, unbelieved
            async for view in client.await_disclosure(request, wait):
                if not as_json and not view.state.ended:
                    _say(view)
            unbelieved = await unbelieved_of(client.take_recalls())  # it may have taken days
            return await client.disclosure(request), unbelieved

    view, unbelieved = asyncio.run(run())
    _show(view, as_json=as_json)
    if unbelieved is not None:
        raise unbelieved


@app.command("list")
def list_requests(
    search: Annotated[str, typer.Option(metavar="SEARCH", help="Of this search alone.")] = "",
    config: facts.Config = None,
    as_json: facts.AsJson = False,  # noqa: FBT002 - typer's flag
) -> None:
    """List this force's requests, the newest first, as the broker tells them."""

    async def run() -> list[DisclosureSummary]:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            return [one async for one in client.disclosures(search)]

    found = asyncio.run(run())
    if as_json:
        print_json({"notice": LEAD_ONLY, "disclosures": [_summary(one) for one in found]})
        return
    screen = console()
    if not found:
        screen.print("There are none.")
        return
    head(screen)
    for one in found:
        screen.print(text(one.request_id, "bold"))
        about = f"{one.state.value} {one.reason}".strip()
        screen.print(Text("    ") + text(about, _STYLES.get(one.state, "yellow")))
        screen.print(indented(f"{one.agency} {one.reference}, asked {_when(one.created_at)}"))


@app.command("open")
def open_details(
    request: RequestId,
    config: facts.Config = None,
    as_json: facts.AsJson = False,  # noqa: FBT002 - typer's flag
) -> None:
    """Open released details and show them with their terms; recalls are read first."""

    async def run() -> OpenedDisclosure:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            return await client.open_disclosure(request)

    opened = asyncio.run(run())
    if as_json:
        print_json(_details(opened))
        return
    screen = console()
    head(screen)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column("What", overflow="fold", max_width=32)
    table.add_column("Value", overflow="fold")
    for one in opened.details.fields:
        label, value = labelled(one)
        table.add_row(text(label, "bold"), text(value))
    screen.print(table)
    screen.print(Text("Terms that travel with it", "bold"))
    for label, value in terms_of(opened):
        screen.print(indented(f"{label}: {value}"))


@app.command()
def export(
    request: RequestId,
    *,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to: .json, .txt or .html, by its name.")
    ],
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Write details with their terms to a file (0600); not without independent evidence.

    Record that evidence with `probegate corroborate`. What was recalled is never exported.
    """

    async def run() -> None:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            await client.export(request, out)

    asyncio.run(run())
    if as_json:
        print_json({"notice": LEAD_ONLY, "request_id": request, "file": str(out)})
        return
    console().print(text(f"Wrote {out}. {LEAD_ONLY}.", "green"))


def _facts(given: str, path: Path | None) -> str:
    if bool(given) == (path is not None):
        raise ProbegateError(Reason.USAGE, "give --facts or --facts-file", option="facts")
    if path is None:
        return given
    try:
        said = files.read(path).decode()
    except UnicodeDecodeError:
        raise ProbegateError(Reason.USAGE, "not UTF-8 text", option="facts-file") from None
    if len(said) > MAX_FACTS_CHARS:
        raise ProbegateError(
            Reason.USAGE, f"more than {MAX_FACTS_CHARS} characters", option="facts-file"
        )
    return said.strip()


def _show(view: DisclosureView, *, as_json: bool) -> None:
    if as_json:
        print_json(_standing(view))
    else:
        _say(view)


def _say(view: DisclosureView) -> None:
    screen, request = console(), view.request
    head(screen)
    screen.print(text(request.request_id, "bold"))
    about = f"{view.state.value} {view.reason}".strip()
    screen.print(Text("    ") + text(about, _STYLES.get(view.state, "yellow")))
    screen.print(indented(f"{request.agency} {request.reference}: {', '.join(request.fields)}"))
    if not view.state.ended and view.decide_by is not None:
        screen.print(indented(f"to be decided by {_when(view.decide_by)}"))
    if view.stop_use:
        for line in stop_use([(request.agency, request.reference)]):
            screen.print(indented(line, "bold red"))
    elif view.withheld:
        screen.print(indented("it cannot be opened now", "bold red"))
    elif view.decision is not None and view.decision.expires_at is not None:
        until = _when(view.decision.expires_at)
        screen.print(indented(f"open it by {until} with `probegate disclose open`"))
    if view.state is DisclosureState.LAPSED:
        screen.print(indented("the owner did not decide in time"))


def _standing(view: DisclosureView) -> dict[str, Any]:
    request, decision = view.request, view.decision
    opens = decision.expires_at if decision is not None and not view.withheld else None
    return {
        "notice": LEAD_ONLY,
        "request_id": request.request_id,
        "search_id": request.search_id,
        "agency": request.agency,
        "reference": request.reference,
        "fields": list(request.fields),
        "state": view.state.value,
        "reason": view.reason,
        "created_at": view.created_at.isoformat(),
        "decide_by": view.decide_by.isoformat() if view.decide_by else None,
        "decided_at": decision.decided_at.isoformat() if decision else None,
        "open_by": opens.isoformat() if opens else None,
        "stop_use": view.stop_use,
    }


def _summary(one: DisclosureSummary) -> dict[str, Any]:
    return {
        "request_id": one.request_id,
        "search_id": one.search_id,
        "agency": one.agency,
        "reference": one.reference,
        "state": one.state.value,
        "reason": one.reason,
        "created_at": one.created_at.isoformat(),
        "decide_by": one.decide_by.isoformat() if one.decide_by else None,
    }


def _details(opened: OpenedDisclosure) -> dict[str, Any]:
    details = opened.details
    return {
        "notice": LEAD_ONLY,
        "request_id": opened.request_id,
        "search_id": details.search_id,
        "agency": details.agency,
        "reference": details.reference,
        "subject_category": details.subject_category or None,
        "details": [
            {"name": one.name, "value": one.value, "nature": one.nature.value}
            for one in details.fields
        ],
        "caveats": list(details.caveats),
        "delete_by": details.delete_by.isoformat(),
        "onward_transfer": details.onward_transfer,
        "released_at": details.released_at.isoformat(),
    }


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
