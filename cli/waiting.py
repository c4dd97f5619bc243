"""What waits for an agency's own people, printed as blocks that fit any width."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rich.text import Text

from cli.output import console, text


class Waits(Protocol):
    """What every matter that waits has."""

    @property
    def decide_by(self) -> datetime:
        """By when people are to decide."""

    @property
    def overdue(self) -> bool:
        """Whether that has passed."""

    @property
    def released_by(self) -> int:
        """How many have released it."""

    @property
    def needed(self) -> int:
        """How many must."""

    @property
    def ask(self) -> tuple[str, ...]:
        """Who must be asked first."""

    @property
    def switched_off(self) -> tuple[str, ...]:
        """The kill switches that are off and forbid its release."""


def show_block(
    title: str, rows: Sequence[tuple[str, str]], one: Waits, *, overdue: str = "", decided: str = ""
) -> None:
    """Print one matter: its rows, how it stands, and by when it is to be decided.

    Args:
        title: what names it.
        rows: labels and values; what has no value is left out.
        one: how it stands.
        overdue: what is said besides where it is late.
        decided: what was decided and is still to be carried out, if anything is.
    """
    screen = console()
    screen.print(text(title, "bold"))
    standing = (
        ("released by", f"{one.released_by} of {one.needed}"),
        ("ask", ", ".join(one.ask)),
    )
    for label, value in (*rows, *standing):
        if value:
            screen.print(row(label, value))
    due = f"{one.decide_by:%Y-%m-%d %H:%M} UTC"
    if one.overdue:
        screen.print(text(f"OVERDUE: to be decided by {due}{overdue}", "bold red"))
    else:
        screen.print(row("decide by", due))
    if one.switched_off:
        names = ", ".join(one.switched_off)
        screen.print(text(f"switched off: {names}; it cannot be released now", "bold red"))
    if decided:
        screen.print(text(decided, "yellow"))
    screen.print()


def row(label: str, value: str) -> Text:
    """Return one line of a block."""
    return Text(f"{label + ':':<13}") + text(value)
