r"""``probegate adapter recall`` and ``recalls``: candidates that must be used no more.

::

    probegate adapter recall --record R-1042 --reason erased --notice "…" --person ID
    probegate adapter recall --reference abcdefghijklmnopqrst --reason wrong_match --notice "…" \
        --person ID
    probegate adapter recalls --config adapter.toml
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.operators import adapter_operator
from cli.output import console, print_json, text
from trust.second_step import RecallReason

if TYPE_CHECKING:
    from agency_adapters.second_step.recall_desk import RecallDesk
    from agency_adapters.second_step.recalling import OrderedRecall, ReportedMatch

Config = Annotated[
    Path | None,
    typer.Option(help="Settings as TOML; PROBEGATE_ADAPTER_* in the environment fill the rest."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the adapter's."""
    for command in (recall, recalls):
        app.command()(command)


def recall(
    *,
    reason: Annotated[RecallReason, typer.Option(help="Why.")],
    notice: Annotated[
        str, typer.Option(metavar="TEXT", help="What recipients must know. Name nobody.")
    ],
    person: Annotated[
        str, typer.Option(metavar="ID", help="Who orders it, as your agency knows them.")
    ],
    record: Annotated[str, typer.Option(metavar="ID", help="The record, in every search.")] = "",
    reference: Annotated[
        str,
        typer.Option(metavar="REF", help="A candidate; a wrong match is recalled there alone."),
    ] = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Recall a candidate wherever it was listed, and whatever was disclosed of it."""
    made = asyncio.run(
        _desk(config).order(
            record_id=record, reference=reference, reason=reason, notice=notice, person=person
        )
    )
    if as_json:
        print_json([_document(one) for one in made])
        return
    for one in made:
        _show(one)


def recalls(config: Config = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - typer's flag
    """List recalls, who has acted on them, and wrong matches that wait for a decision."""
    made, wrong = asyncio.run(_desk(config).all())
    if as_json:
        print_json(
            {
                "recalls": [_document(one) for one in made],
                "wrong_matches": [_reported(one) for one in wrong],
            }
        )
        return
    screen = console()
    if not made and not wrong:
        screen.print("Nothing is recalled, and no wrong match is reported.")
    for report in wrong:
        screen.print(text(f"WRONG MATCH reported by {report.force}", "bold red"))
        screen.print(text(f"  candidate: {report.reference}"))
        screen.print(text(f"  search:    {report.search_id}"))
        screen.print(text(f"  reported:  {report.reported_at:%Y-%m-%d %H:%M} UTC"))
        screen.print(text(f"  reasons:   {report.reasons}"))
    for one in made:
        _show(one)


def _document(one: OrderedRecall) -> dict[str, Any]:
    return {
        "recall_id": one.recall_id,
        "search_id": one.search_id,
        "reference": one.reference,
        "reason": one.reason.value,
        "notice": one.notice,
        "ordered_at": one.ordered_at.isoformat(),
        "issued": one.recall is not None,
        "number": one.number,
        "acknowledged": [
            {"force": ack.force, "action": ack.action, "at": ack.at.isoformat()}
            for ack in one.acknowledgements
        ],
    }


def _reported(one: ReportedMatch) -> dict[str, Any]:
    return {
        "report_id": one.report_id,
        "force": one.force,
        "search_id": one.search_id,
        "reference": one.reference,
        "reasons": one.reasons,
        "reported_at": one.reported_at.isoformat(),
    }


def _show(one: OrderedRecall) -> None:
    screen = console()
    screen.print(text(one.recall_id, "bold"))
    rows: Sequence[tuple[str, str]] = (
        ("candidate", one.reference),
        ("search", one.search_id),
        ("reason", one.reason.value),
        ("ordered", f"{one.ordered_at:%Y-%m-%d %H:%M} UTC"),
    )
    for label, value in rows:
        screen.print(text(f"  {label + ':':<11}{value}"))
    if one.recall is None:
        screen.print(text("  still to be signed by the adapter", "yellow"))
    elif not one.acknowledgements:
        screen.print(text("  not acknowledged yet", "yellow"))
    for ack in one.acknowledgements:
        screen.print(text(f"  acknowledged by {ack.force}, {ack.at:%Y-%m-%d %H:%M} UTC"))
        screen.print(text(f"    {ack.action}"))


def _desk(config: Path | None) -> RecallDesk:
    from agency_adapters.second_step.recall_desk import RecallDesk

    return RecallDesk.of(adapter_operator(config))
