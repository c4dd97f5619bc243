"""Following a search to its end, and how a command that shows one finishes."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import nullcontext

import typer
from rich.console import Console

from cli import results
from cli.output import EXIT_ALL_DENIED, EXIT_NOT_ENOUGH, console, print_json
from force_client import AsyncForceClient, SearchView
from trust.errors import ProbegateError, Reason


async def follow(client: AsyncForceClient, search_id: str, screen: Console) -> SearchView:
    """Show each outcome as it comes, and return the ended search."""
    with screen.status("waiting") if screen.is_terminal else nullcontext():
        async for event in client.watch(search_id):
            if isinstance(event, SearchView):
                return event
            screen.print(results.progress(event))
    raise ProbegateError(Reason.UNEXPECTED, "the search did not end")


async def unbelieved_of(hearing: Awaitable[object]) -> ProbegateError | None:
    """Hear recalls, and return the refusal if one of them does not verify."""
    try:
        await hearing
    except ProbegateError as error:
        if error.reason is not Reason.RESULT_INVALID:
            raise
        return error
    return None


def finish(view: SearchView, *, as_json: bool, afterwards: ProbegateError | None = None) -> None:
    """Show a search, and exit with what scripts want to know of an ended one.

    Args:
        view: the search.
        as_json: whether a program reads it.
        afterwards: what is told once the search is shown, such as that a recall does not verify,
            which may be of another search.

    Raises:
        ProbegateError: ``afterwards``, once the search is shown.
        typer.Exit: every agency denied it, or it ended with less than was asked for.
    """
    if as_json:
        print_json(results.document(view))
    else:
        results.show(view, console())
    if afterwards is not None:
        raise afterwards
    if view.all_denied:
        raise typer.Exit(EXIT_ALL_DENIED)
    if view.state.ended and not view.sufficient:
        raise typer.Exit(EXIT_NOT_ENOUGH)
