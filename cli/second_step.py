"""What the commands of the second step share: options, the head of what they show, standings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.output import text
from cli.people import presented
from force_client import LEAD_ONLY, AsyncForceClient, Part, ReviewStatus
from trust.messages import Person
from trust.second_step import Opinion

SearchId = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's id.")]
RequestId = Annotated[str, typer.Argument(metavar="REQUEST", help="Your id of the request.")]
Agency = Annotated[str, typer.Option(metavar="ID", help="The agency whose candidate it is.")]
Reference = Annotated[str, typer.Option(metavar="REF", help="The candidate's reference.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Their token; the officers file's person without it."),
]
OPINIONS: Final = {
    Opinion.POTENTIAL_CANDIDATE: ("potential candidate", "bold green"),
    Opinion.NO_CANDIDATE: ("no candidate", ""),
    Opinion.INCONCLUSIVE: ("inconclusive", "yellow"),
}


def head(screen: Console) -> None:
    """Print what stands above everything that shows candidates or details."""
    screen.print(Text(LEAD_ONLY, "bold reverse"), justify="center")


def stop_use(marked: Iterable[tuple[str, str]]) -> list[str]:
    """Return what is said of recalled candidates, a line each, by agency and reference."""
    return [
        f"STOP USE: {agency} {reference} was recalled (`probegate recall list`)."
        for agency, reference in sorted(marked)
    ]


def person_and_tokens(
    client: AsyncForceClient, person_id: str, token_file: Path | None, part: Part
) -> tuple[Person, Callable[[], str]]:
    """Return a person, and what gets a token of theirs that is fresh."""
    person, _ = presented(client, person_id, token_file, part)
    return person, lambda: presented(client, person_id, token_file, part)[1]


def status_document(status: ReviewStatus) -> dict[str, Any]:
    """Return how reviews stand as one JSON value."""
    return {
        "notice": LEAD_ONLY,
        "search_id": status.search_id,
        "reviews": status.reviews,
        "needed": status.needed,
        "open": status.open,
        "disagreement": status.disagreement,
        "candidates": [
            {
                "agency": one.agency,
                "reference": one.reference,
                "opinion": one.opinion.value,
                "reviews": [digest.hex() for digest in one.review_sha256s],
            }
            for one in status.candidates
        ],
        "stop_use": [
            {"agency": agency, "reference": reference}
            for agency, reference in sorted(status.stop_use)
        ],
    }


def show_status(status: ReviewStatus, screen: Console) -> None:
    """Print how reviews stand; no opinion while any is needed."""
    screen.print(text(f"Reviews of {status.search_id}: {status.reviews} count"))
    for line in stop_use(status.stop_use):
        screen.print(text(line, "bold red"))
    if status.open:
        why = (
            "the reviewers disagree, so one more person must review"
            if status.disagreement
            else f"{status.needed} people must review, each alone"
        )
        screen.print(text(f"Open: {why}. No opinion is shown before.", "yellow"))
        return
    head(screen)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Agency", overflow="fold", max_width=16)
    table.add_column("Reference", overflow="fold")
    table.add_column("Reviewers found", no_wrap=True)
    for one in status.candidates:
        words, style = OPINIONS[one.opinion]
        table.add_row(text(one.agency), text(one.reference), Text(words, style))
    screen.print(table)
    if status.disagreement:
        screen.print("They disagreed; what most found counts, and inconclusive where none did.")
