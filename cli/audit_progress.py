"""How far reading a long log is, on standard error and only where that is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from audit.reader import Told, untold
from cli.output import console, plain

TOLD_EVERY: Final = 256
"""Entries between two movements of a bar: a bundle."""


@contextmanager
def progress(*, shown: bool = True) -> Iterator[Told]:
    """Show a bar for each log that is read; none of them is left when it is done.

    Args:
        shown: false where a bar would stand among what a command prints.
    """
    screen = console(stderr=True)
    if not (shown and screen.is_terminal):
        yield untold
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        tasks = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(escape(plain(name)), total=total)
            if done % TOLD_EVERY == 0 or done == total:
                bar.update(tasks[name], completed=done)

        yield told
