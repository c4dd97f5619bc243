"""``probegate adapter inbox``, ``release`` and ``refuse``: answers held for the agency.

::

    probegate adapter inbox --config adapter.toml
    probegate adapter release SEARCH --reviewer ID --reference 2026/17 --config adapter.toml
    probegate adapter refuse SEARCH --reviewer ID --reasons "…" --config adapter.toml
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.operators import adapter_operator
from cli.output import console, print_json, text
from cli.waiting import show_block

if TYPE_CHECKING:
    from agency_adapters.inbox import Inbox, Reviewed, Waiting

Config = Annotated[
    Path | None,
    typer.Option(help="Settings as TOML; PROBEGATE_ADAPTER_* in the environment fill the rest."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SearchId = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's id.")]
ReviewerId = Annotated[
    str, typer.Option(metavar="ID", help="Who decides, as your agency knows them.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the adapter's."""
    for command in (inbox, release, refuse):
        app.command()(command)


def inbox(config: Config = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - typer's flag
    """List answers that wait for a person; the read is on the admin log first."""
    waiting = asyncio.run(_inbox(config).waiting())
    if as_json:
        print_json([_document(one) for one in waiting])
        return
    if not waiting:
        console().print("Nothing waits.")
    for one in waiting:
        _show(one)


def release(
    search: SearchId,
    *,
    reviewer: ReviewerId,
    reference: Annotated[
        str, typer.Option(metavar="TEXT", help="Your reference; it is logged. Name nobody.")
    ],
    asked: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who was asked and agreed; once for each."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Release a held answer; where two must, the second release lets it go."""
    done = asyncio.run(
        _inbox(config).release(search, reviewer=reviewer, reference=reference, asked=asked or ())
    )
    _say(done, as_json=as_json)


def refuse(
    search: SearchId,
    *,
    reviewer: ReviewerId,
    reasons: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, in their words; kept beside the log.")
    ],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a held answer: the force is told that the owner denied it, and nothing else."""
    done = asyncio.run(_inbox(config).refuse(search, reviewer=reviewer, reasons=reasons))
    _say(done, as_json=as_json)


def _document(one: Waiting) -> dict[str, Any]:
    return {
        "search_id": one.search_id,
        "order_sha256": one.order_sha256,
        "force": one.force,
        "case_reference": one.case_reference,
        "purpose": one.purpose,
        "offence": one.offence.code,
        "seriousness": one.offence.seriousness,
        "necessity": one.necessity,
        "proportionality": one.proportionality,
        "candidates": one.candidates,
        "held_at": one.held_at.isoformat(),
        "decide_by": one.decide_by.isoformat(),
        "overdue": one.overdue,
        "released_by": one.released_by,
        "needed": one.needed,
        "ask": list(one.ask),
        "switched_off": list(one.switched_off),
        "decided": one.decided.value if one.decided else None,
    }


def _show(one: Waiting) -> None:
    rows = (
        ("force", f"{one.force}, case {one.case_reference}"),
        ("purpose", one.purpose),
        ("offence", f"{one.offence.code or '-'} ({one.offence.seriousness or '-'})"),
        ("necessity", one.necessity or "-"),
        ("candidates", str(one.candidates)),
        ("since", f"{one.held_at:%Y-%m-%d %H:%M} UTC"),
    )
    decided = f"{one.decided.value}; the report is still to be made" if one.decided else ""
    show_block(one.search_id, rows, one, overdue="; it stays held", decided=decided)


def _say(done: Reviewed, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "search_id": done.search_id,
                "entry": done.index,
                "decided": done.verdict.value if done.verdict else None,
                "released_by": done.released_by,
                "needed": done.needed,
                "reported": done.reported,
            }
        )
        return
    where = f"(entry {done.index} of the admin log)"
    if done.verdict is None:
        said = f"Released by {done.released_by} of {done.needed}: it waits for another {where}."
    elif done.reported:
        said = f"{done.search_id} is {done.verdict.value} {where}; the broker can collect it."
    else:
        said = (
            f"{done.search_id} is {done.verdict.value} {where}; the adapter reports it once it can."
        )
    console().print(text(said))


def _inbox(config: Path | None) -> Inbox:
    from agency_adapters.inbox import Inbox

    return Inbox.of(adapter_operator(config))
