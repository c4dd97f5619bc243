"""A sitting in the terminal. It talks on standard error, so that standard output can be JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from cli.output import PROGRAM, console, text
from cli.second_step import OPINIONS, head
from cli.viewing import viewing_folder
from force_client import (
    BlindCandidate,
    Opinion,
    ProbegateError,
    Reason,
    ReviewStatus,
    Sitting,
)
from trust import files

_ENDS: Final = {"image/jpeg": ".jpg", "image/png": ".png"}
_TOKEN_REASONS: Final = frozenset({Reason.FILE_MISSING, Reason.OFFICER_TOKEN_INVALID})
"""What a fresh token may mend."""
_KEYS: Final = {
    "1": Opinion.POTENTIAL_CANDIDATE,
    "2": Opinion.NO_CANDIDATE,
    "3": Opinion.INCONCLUSIVE,
}


def converse(sitting: Sitting, probe_image: Path, folder: Path) -> None:
    """Ask a reviewer about every candidate.

    The images are files in a folder that is its owner's alone and does not outlive the sitting.

    Args:
        sitting: the sitting.
        probe_image: the probe's image file.
        folder: where the folder of images is made.

    Raises:
        ProbegateError: what cannot be written.
    """
    screen = console(stderr=True)
    head(screen)
    screen.print(f"{len(sitting.candidates)} candidates in a random sequence. Work alone.")
    with viewing_folder(folder) as viewing:
        for one in sitting.candidates:
            _ask(sitting, one, probe_image, viewing, screen)


async def submit(sitting: Sitting, fresh_token: Callable[[Path], str]) -> ReviewStatus:
    """Submit what was found; where that fails it is kept, and what submits it is said.

    A sitting may outlast the reviewer's token: then a fresh one is asked for, once.

    Args:
        sitting: the sitting, with a finding for every candidate.
        fresh_token: reads a token's file.

    Raises:
        ProbegateError: what ``Sitting.submit`` raises, or a token's file that cannot be read.
    """
    await sitting.keep()  # before anything is sent: what was found is an hour's work
    status = None
    try:
        try:
            status = await sitting.submit()
        except ProbegateError as error:
            path = _token_file(error) if error.reason in _TOKEN_REASONS else None
            if path is None:
                raise
            status = await sitting.submit(fresh_token(path))
    finally:
        if status is None:
            _say_kept(sitting)
    return status


def _token_file(error: ProbegateError) -> Path | None:
    """Ask for the file of a fresh token; None where nobody answers, or it is to be later."""
    console(stderr=True).print(text(error.line(), "yellow"))
    try:
        answer = typer.prompt(
            "File of a fresh token (nothing: submit later)",
            default="",
            show_default=False,
            err=True,
        )
    except typer.Abort:
        return None
    return Path(answer.strip()) if answer.strip() else None


def _say_kept(sitting: Sitting) -> None:
    screen = console(stderr=True)
    screen.print(text("Not submitted. The findings are kept here for 30 days; submit them with"))
    screen.print(
        text(
            f"{PROGRAM} review submit {sitting.search_id} --reviewer {sitting.reviewer.id} "
            f"--sitting {sitting.review_id}"
        ),
        soft_wrap=True,
    )


def _ask(
    sitting: Sitting, one: BlindCandidate, probe_image: Path, viewing: Path, screen: Console
) -> None:
    screen.print()
    screen.print(f"Candidate {one.label} ({one.shown} of {len(sitting.candidates)})", style="bold")
    _show_image(sitting, one, probe_image, viewing, screen)
    while True:
        opinion = _opinion(screen)
        reasons = typer.prompt("Reasons (name nobody)", err=True).strip()
        against = typer.prompt("What speaks against it", default="", show_default=False, err=True)
        try:
            sitting.record(one, opinion, reasons=reasons, disconfirming=against.strip())
        except ProbegateError as error:
            if error.reason is not Reason.REVIEW_INVALID:
                raise
            field = error.metadata.get("field", "")
            screen.print(_WHY.get(field, f"Not taken: {field}."), style="yellow")
        else:
            return


_WHY: Final = {
    "side_by_side": "Without both images on view only 3, inconclusive, can be recorded.",
    "reasons": "Give reasons, in at most 2000 characters.",
}


def _show_image(
    sitting: Sitting, one: BlindCandidate, probe_image: Path, viewing: Path, screen: Console
) -> None:
    """Write the image for a viewer; time begins once the reviewer says that both are on view."""
    seat = next(seat for seat in sitting.seats if seat.candidate == one)
    if seat.picture is None:
        screen.print("There is no image of this candidate.", style="yellow")
        return
    path = viewing / f"{one.label}{_ENDS[seat.picture.media_type]}"
    files.write_private(path, seat.picture.content)
    screen.print(f"Probe:     {probe_image}", soft_wrap=True)
    screen.print(f"Candidate: {path}", soft_wrap=True)
    if typer.confirm("Open both side by side. Are both on view?", default=False, err=True):
        sitting.look(one)


def _opinion(screen: Console) -> Opinion:
    offered = ", ".join(f"{key} {OPINIONS[one][0]}" for key, one in _KEYS.items())
    while True:
        answer = typer.prompt(f"Opinion ({offered})", err=True).strip()
        if answer in _KEYS:
            return _KEYS[answer]
        screen.print("Answer 1, 2 or 3.", style="yellow")
