"""What every command shows: one line for an error, plain text for anything that came from afar."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from typing import Any, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from typer.core import TyperGroup

from cli.opened import closed_at_the_end
from trust.errors import ProbegateError

PROGRAM: Final = "probegate"
INDENT: Final = 4
"""Columns by which what belongs to a line above is indented."""
EXIT_REFUSED: Final = 1
"""A catalogued error."""
EXIT_USAGE: Final = 2
"""The command line could not be read."""
EXIT_ALL_DENIED: Final = 3
"""The search or preview worked, and every agency was denied."""
EXIT_NOT_ENOUGH: Final = 4
"""The search worked, and ended with less than its order asked for."""
EXIT_UNEXPECTED: Final = 70
"""An error that is not in the catalogue (``EX_SOFTWARE`` of sysexits.h)."""
EXIT_INTERRUPTED: Final = 130
"""Stopped with Ctrl-C."""
_UNSEEN: Final = frozenset({"Cc", "Cf"})
"""The Unicode categories of characters that do something and are not seen."""
DEBUG_VARIABLE: Final = "PROBEGATE_DEBUG"
"""Set to 1, an unexpected error shows its traceback."""


def plain(text: str) -> str:
    """Return text on one line without control characters, which could repaint a terminal."""
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(kept.split())


def fail(line: str) -> None:
    """Print one line on standard error."""
    print(f"{PROGRAM}: {plain(line)}", file=sys.stderr)  # noqa: T201 - this is the terminal


def fail_with(error: ProbegateError) -> None:
    """Print a catalogued error as one line: what is wrong and what to do."""
    fail(error.line())


class OneLineErrors(TyperGroup):
    """A role's commands, which turn a catalogued error into one line and exit status 1.

    What one of them opens (``cli.opened``) is closed when it ends.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and close what it opened."""
        try:
            with closed_at_the_end():
                return super().invoke(ctx)
        except ProbegateError as error:
            fail_with(error)
            raise typer.Exit(EXIT_REFUSED) from None


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get(DEBUG_VARIABLE) == "1"


def print_json(document: Any, *, on_one_line: bool = False) -> None:
    """Print one JSON document on standard output, with no character that could repaint it.

    JSON itself escapes the controls of ASCII alone: others (C1), and what turns writing round, are
    escaped here. They stand in texts only, so the value is the same.
    """
    written = json.dumps(document, indent=None if on_one_line else 2, ensure_ascii=False)
    unseen = {c for c in set(written) - {"\n"} if unicodedata.category(c) in _UNSEEN}
    sys.stdout.write(written.translate({ord(c): json.dumps(c)[1:-1] for c in unseen}) + "\n")


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: no markup, no highlighting of numbers."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def indented(content: str, style: str = "") -> Padding:
    """Return text from afar, made plain, as a block that is indented where it wraps too."""
    return Padding(text(content, style), (0, 0, 0, INDENT))


def text(content: str, style: str = "") -> Text:
    """Return text from afar, made plain, in a style of ours."""
    return Text(plain(content), style=style)
