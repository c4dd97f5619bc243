"""``probegate``: the entry point, and everything that can go wrong turned into one line.

Each role's module is loaded when its command is run and not before: an auditor's machine needs none
of the adapter's libraries, and ``--help`` is quick.

Exit status: 0 done; 1 refused, with a catalogued reason (``USAGE`` among them, for options that do
not fit together); 2 a command line that cannot be read; 3 every agency denied the search; 4 ended
with less than was asked for; 70 unexpected; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cli.output import (
    DEBUG_VARIABLE,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    PROGRAM,
    debugging,
    fail,
    fail_with,
)
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class Role:
    """One command: where it lives and what the first page of help says of it."""

    name: str
    help: str
    panel: str


ROLES: Final = (
    Role("demo", "Run a whole federation on this machine.", "To try it"),
    Role("search", "Search with one probe, follow it, and verify the answer.", "For a force"),
    Role("preview", "See what each agency's agreement says, without searching.", "For a force"),
    Role("watch", "Follow a search to its end, and verify the answer.", "For a force"),
    Role("get", "Read one search as it is now, and verify the answer.", "For a force"),
    Role("list", "List this force's searches, the newest first.", "For a force"),
    Role("cancel", "End a search now, with what there is.", "For a force"),
    Role("confirm", "Confirm an urgent search in writing.", "For a force"),
    Role("review", "Compare faces, alone and blind, and have it recorded.", "For a force"),
    Role("corroborate", "Record evidence other than a comparison of faces.", "For a force"),
    Role("disclose", "Ask the owner of a reviewed candidate for details.", "For a force"),
    Role("recall", "Report wrong matches; stop using what is taken back.", "For a force"),
    Role("audit", "Verify, read and report on the logs, offline.", "For an auditor"),
    Role("policy", "Write, check, sign and explain data-sharing agreements.", "For an auditor"),
    Role("adapter", "Import a gallery and serve it for an agency.", "For an operator"),
    Role("broker", "Serve the broker.", "For an operator"),
    Role("keys", "Make keys, certificates and the directory of members.", "For an operator"),
)
_COMPLETION: Final = frozenset({"install_completion", "show_completion"})


class LazyRoles(TyperGroup):
    """Lists the roles from the table above and loads the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for role in ROLES:
            self.commands[role.name] = TyperCommand(
                name=role.name, help=role.help, rich_help_panel=role.panel
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command and load its module."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(str(name)), rest


def _load(name: str) -> Any:
    try:
        module = importlib.import_module(f"cli.{name}")
    except ModuleNotFoundError as error:
        raise ProbegateError(
            Reason.CONFIG_INVALID,
            f"`{PROGRAM} {name}` needs {error.name}, which is not installed; "
            f"install the extra of this role",
        ) from error
    command = get_command(module.app)
    command.name = name
    # Only the program as a whole offers shell completion.
    command.params = [one for one in command.params if one.name not in _COMPLETION]
    return command


app = typer.Typer(
    cls=LazyRoles,
    name=PROGRAM,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the value
    if wanted:
        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


@app.callback()
def probegate(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    """Ask several agencies, lawfully and provably: is this face among your records?

    A search is one probe, decided by people and on the record. It names nobody by itself.
    """


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit status; never raises."""
    try:
        status = get_command(app).main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as error:
        status = error.code
    except UnicodeEncodeError as error:
        if all(map(_is_text, arguments)):
            return _unexpected(error)
        fail(f"USAGE: An argument is not UTF-8 text. See `{PROGRAM} --help`.")
        return EXIT_USAGE
    except BaseException as error:  # noqa: BLE001 - the last line of defence: one line, no traceback
        return _status_of(error)
    return status if isinstance(status, int) else 0


def _is_text(argument: str) -> bool:
    """Whether an argument is text; a file's name need not be, what is sent must."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _status_of(error: BaseException) -> int:
    match error:
        case ProbegateError():
            fail_with(error)
            return EXIT_REFUSED
        case typer.TyperException():
            return _misunderstood(error)
        case KeyboardInterrupt() | typer.Abort():
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            _silence()
            return EXIT_REFUSED
        case _:
            return _unexpected(error)


def _unexpected(error: BaseException) -> int:
    if debugging():
        traceback.print_exception(error)
    fail(
        f"{ProbegateError(Reason.UNEXPECTED, type(error).__name__).line()} "
        f"(set {DEBUG_VARIABLE}=1 to see where)"
    )
    return EXIT_UNEXPECTED


def run() -> None:
    """Run the command line of this process."""
    # gRPC's core writes lines of its own to standard error; every fault reaches us as an exception.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main(sys.argv[1:]))


def _misunderstood(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message = error.format_message()
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        return EXIT_USAGE  # the help was shown instead
    fail(f"USAGE: {message} See `{path} --help`.")
    return EXIT_USAGE


def _silence() -> None:
    """Keep the interpreter from flushing into the closed pipe once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run()
