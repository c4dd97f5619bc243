"""``probegate audit subject``: which searches returned this record, and who saw it?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from audit.opening import checked_purpose
from cli.audit_office import Purpose
from cli.operators import adapter_operator
from cli.output import console, indented, print_json, text


def subject_command(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The record's id at the agency.")],
    config: Annotated[Path, typer.Option(help="The adapter's settings (TOML).")],
    purpose: Purpose,
    broker: Annotated[
        Path | None, typer.Option(help="Folder of the broker's search log, to name forces.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Answer a subject access request at the agency that holds the record.

    The read is on the agency's admin log before anything is shown.
    """
    from agency_adapters.subjects import searches_of

    operator = adapter_operator(config)
    found = asyncio.run(searches_of(operator, record, checked_purpose(purpose), broker))
    if as_json:
        print_json([one.document() for one in found])
        return
    screen = console()
    if not found:
        screen.print("No answer that is still kept lists this record.")
    for one in found:
        by = f" by {one.force}" if one.force else ""
        screen.print(text(f"{one.search_id}{by}", "bold"))
        screen.print(indented(f"rank {one.rank}, score {one.score:.4f}, as {one.reference}"))
        for step in one.reports:
            screen.print(indented(f"{_when(step)} {step.get('state')} (entry {step['entry']})"))
        for step in one.followed:
            fields = ", ".join(step.get("fields", ()))
            became = " ".join(filter(None, (str(step.get("state", "")), fields)))
            said = f"{_when(step)} {step['type']} {became}".rstrip() + f" (entry {step['entry']})"
            screen.print(indented(said))
        for step in one.seen:
            said = f"{_when(step)} {step['type']} (entry {step['entry']} of the admin log)"
            screen.print(indented(said))


def _when(step: object) -> str:
    at = step.get("at") if isinstance(step, dict) else ""
    return str(at)[:19].replace("T", " ")
