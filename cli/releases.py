"""``probegate adapter releases``: requests for the details of a record.

::

    probegate adapter releases list --config adapter.toml
    probegate adapter releases show REQUEST --config adapter.toml
    probegate adapter releases release REQUEST --reviewer ID --reasons "…" --config adapter.toml
    probegate adapter releases refuse REQUEST --reviewer ID --reasons "…" --config adapter.toml
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.operators import adapter_operator
from cli.output import OneLineErrors, console, print_json, text
from cli.waiting import row, show_block

if TYPE_CHECKING:
    from agency_adapters.second_step.inbox import Done, ReleaseInbox, Wanted

Config = Annotated[
    Path | None,
    typer.Option(help="Settings as TOML; PROBEGATE_ADAPTER_* in the environment fill the rest."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST", help="The request's id, or its digest.")
]
ReviewerId = Annotated[
    str, typer.Option(metavar="ID", help="Who decides, as your agency knows them.")
]
Reasons = Annotated[
    str, typer.Option(metavar="TEXT", help="Why, in their words; kept beside the log.")
]

commands = typer.Typer(
    name="releases",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Read, release and refuse requests for the details of a record.",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the adapter's."""
    app.add_typer(commands)


@commands.command("list")
def list_(config: Config = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - typer's flag
    """List requests that wait for a person; the read is on the admin log first."""
    waiting = asyncio.run(_inbox(config).waiting())
    if as_json:
        print_json([_document(one) for one in waiting])
        return
    if not waiting:
        console().print("Nothing waits.")
    for one in waiting:
        _show(one)


@commands.command()
def show(
    request: RequestId,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer's flag
) -> None:
    """Show one request with the facts the force gave; the read is on the admin log first."""
    one = asyncio.run(_inbox(config).show(request))
    if as_json:
        print_json(_document(one) | {"facts": one.facts, "record": one.record_id})
        return
    _show(one)
    screen = console()
    screen.print(row("record", one.record_id))
    screen.print(text("facts", "bold"))
    screen.print(text(one.facts))


@commands.command()
def release(
    request: RequestId,
    *,
    reviewer: ReviewerId,
    reasons: Reasons,
    asked: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who was asked and agreed; once for each."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Release the details; where two must, the second release lets them go."""
    inbox = _inbox(config)
    done = asyncio.run(
        inbox.release(request, reviewer=reviewer, reasons=reasons, asked=asked or ())
    )
    _say(done, as_json=as_json)


@commands.command()
def refuse(
    request: RequestId,
    *,
    reviewer: ReviewerId,
    reasons: Reasons,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Refuse the details: the force is told that the owner refused, and nothing else."""
    done = asyncio.run(_inbox(config).refuse(request, reviewer=reviewer, reasons=reasons))
    _say(done, as_json=as_json)


def _document(one: Wanted) -> dict[str, Any]:
    return {
        "request_id": one.request_id,
        "request_sha256": one.request_sha256,
        "search_id": one.search_id,
        "reference": one.reference,
        "force": one.force,
        "requester": one.requester,
        "case_reference": one.case_reference,
        "purpose": one.purpose,
        "offence": one.offence,
        "seriousness": one.seriousness,
        "subject_category": one.subject_category,
        "fields": list(one.fields),
        "reviews": one.reviews,
        "received_at": one.received_at.isoformat(),
        "decide_by": one.decide_by.isoformat(),
        "overdue": one.overdue,
        "released_by": one.released_by,
        "needed": one.needed,
        "ask": list(one.ask),
        "switched_off": list(one.switched_off),
        "decided": one.decided.value if one.decided else None,
    }


def _show(one: Wanted) -> None:
    rows = (
        ("candidate", one.reference),
        ("force", f"{one.force}, case {one.case_reference}"),
        ("requester", one.requester),
        ("purpose", one.purpose),
        ("offence", f"{one.offence or '-'} ({one.seriousness or '-'})"),
        ("sought", one.subject_category or "-"),
        ("details", ", ".join(one.fields)),
        ("reviews", str(one.reviews)),
        ("since", f"{one.received_at:%Y-%m-%d %H:%M} UTC"),
    )
    decided = f"{one.decided.value}; the decision is still to be signed" if one.decided else ""
    show_block(one.request_id, rows, one, decided=decided)


def _say(done: Done, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "request_id": done.request_id,
                "entry": done.index,
                "decided": done.verdict.value if done.verdict else None,
                "released_by": done.released_by,
                "needed": done.needed,
                "state": done.state,
                "reason": done.reason,
            }
        )
        return
    where = f"(entry {done.index} of the admin log)"
    if done.verdict is None:
        said = f"Released by {done.released_by} of {done.needed}: it waits for another {where}."
    elif done.state:
        why = f", {done.reason}" if done.reason else ""
        said = f"{done.request_id} is {done.state}{why} {where}; the broker can fetch it."
    else:
        said = (
            f"{done.request_id} is {done.verdict.value} {where}; the adapter signs it once it can."
        )
    console().print(text(said))


def _inbox(config: Path | None) -> ReleaseInbox:
    from agency_adapters.second_step.inbox import ReleaseInbox

    return ReleaseInbox.of(adapter_operator(config))
