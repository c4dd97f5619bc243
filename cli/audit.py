"""``probegate audit``: verify and read a log's folder, offline."""

from __future__ import annotations

import sys
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from audit.leaves import JsonValue
from audit.notes import VerifierKey
from audit.reader import LogReader, Told
from audit.verify import VerifyReport, verify_folder
from cli import witness
from cli.audit_anchor import Anchors, TsaCert, anchor_command
from cli.audit_export import export_command, verify_export_command
from cli.audit_keys import read_vkey
from cli.audit_mirror import mirror_command
from cli.audit_progress import progress
from cli.audit_reconcile import reconcile_command
from cli.audit_search import search_command
from cli.audit_stats import stats
from cli.audit_subject import subject_command
from cli.audit_trace import trace_command
from cli.audit_values import erase_command, hold_command, verify_values_command
from cli.audit_watch import watch_command
from cli.output import OneLineErrors, print_json
from trust.errors import ProbegateError, Reason

app = typer.Typer(
    cls=OneLineErrors,
    name="audit",
    help="Verify and read audit logs, offline.",
    no_args_is_help=True,
)
app.add_typer(witness.app)

app.command("anchor")(anchor_command)
app.command("mirror")(mirror_command)
app.command("search")(search_command)
app.command("trace")(trace_command)
app.command("reconcile")(reconcile_command)
app.command("subject")(subject_command)
app.command("export")(export_command)
app.command("verify-export")(verify_export_command)
app.command("erase")(erase_command)
app.command("hold")(hold_command)
app.command("verify-values")(verify_values_command)
app.command("stats")(stats)
app.command("watch")(watch_command)

_WIDTH = 80
_HANG = " " * 8
_SAID_ALREADY = frozenset({"at", "search_id", "type", "v"})

Folder = Annotated[Path, typer.Argument(help="The log's folder (checkpoint, tile/…, vkey).")]
Vkey = Annotated[
    Path | None,
    typer.Option(help="File with the log's public key, from the scheme's directory."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def verify(
    folder: Folder,
    vkey: Vkey = None,
    policy: witness.PolicyOption = None,
    tsa_cert: TsaCert = None,
    as_json: Json = False,  # noqa: FBT002 - an option's default
) -> None:
    """Check every signature, tile and entry of a log against its signed checkpoint."""
    key = witness.pinned_key(folder, policy, _read_key(vkey))
    with progress() as told:
        report = verify_folder(folder, key, told=told)
    quorum = witness.Quorum.of(folder, policy if report.ok else None, report.key)
    anchors = Anchors.of(folder, report.key, tsa_cert) if report.ok else Anchors()
    if as_json:
        facts = report.model_dump(mode="json") | quorum.as_json() | anchors.as_json()
        print_json(facts)
    else:
        _print_report(report)
        quorum.print()
        anchors.print()
    if not report.ok:
        count = f"{report.problem_count} problems"
        raise ProbegateError(Reason.LOG_CORRUPT, detail=count)
    quorum.require()
    anchors.require()


@app.command()
def show(
    folder: Folder,
    vkey: Vkey = None,
    index: Annotated[int | None, typer.Option(help="Only this entry, in full.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the newest N entries.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only entries of this type.")] = None,
    as_json: Json = False,  # noqa: FBT002 - an option's default
) -> None:
    """Print entries of a log, one a line, as they are read; reading does not verify."""
    reader = LogReader(folder, _read_key(vkey))
    start, stop = 0, reader.size
    if index is not None:
        reader.leaf(index)  # NOT_FOUND rather than nothing
        start, stop = index, index + 1
    elif last is not None and kind is None:
        start = max(0, stop - last)
    # Lines that are printed as they come would run through a bar on the same terminal.
    with progress(shown=last is not None or not sys.stdout.isatty()) as told:
        chosen = _chosen(reader, start, stop, kind, told)
        if last is not None:
            chosen = iter(deque(chosen, maxlen=last))
        if as_json:
            for at, fact in chosen:
                print_json({"index": at, "entry": fact}, on_one_line=True)
        elif index is not None:
            for at, fact in chosen:
                typer.echo(f"entry {at} of {reader.size}")
                print_json(fact)
        else:
            _print_entries(chosen)


_Facts = dict[str, JsonValue]


def _chosen(
    reader: LogReader, start: int, stop: int, kind: str | None, told: Told
) -> Iterator[tuple[int, _Facts]]:
    """Yield entries of a type, or all; none but one bundle of them is in memory."""
    for at, fact in reader.facts(start, stop):
        told(reader.checkpoint.checkpoint.origin, at - start + 1, stop - start)
        if kind is None or fact.get("type") == kind:
            yield at, fact


def _print_report(report: VerifyReport) -> None:
    console = _console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    verdict = "[green]everything verifies[/]" if report.ok else "[red]DOES NOT VERIFY[/]"
    rows = {
        "log": report.origin,
        "size": f"{report.size} entries",
        "root": report.root,
        "read": f"{report.entries} entries in {report.files} files",
        "verdict": verdict,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for problem in report.problems:
        at = "" if problem.entry is None else f", entry {problem.entry}"
        console.print(f"[red]wrong[/] {problem.file}{at}: {problem.what}", highlight=False)
    if report.problem_count > len(report.problems):
        console.print(f"… and {report.problem_count - len(report.problems)} more")
    if not report.pinned:
        console.print(
            "[bold yellow]WARNING[/] The key came from the folder itself, so this shows only that "
            "the folder is whole, not whose it is. Pin the key from the scheme's directory: "
            "--vkey FILE."
        )


def _print_entries(chosen: Iterable[tuple[int, _Facts]]) -> None:
    console = _console()
    for at, fact in chosen:
        when = str(fact.get("at", ""))[:19].replace("T", " ")
        search = str(fact.get("search_id", ""))[:8]
        line = _plain(f"{at:>7} {when:<19} {fact.get('type', '')!s} {search} {_gist(fact)}")
        for part in textwrap.wrap(line, console.width, subsequent_indent=_HANG):
            console.print(part.rstrip(), markup=False, highlight=False)


def _gist(fact: Mapping[str, JsonValue]) -> str:
    """Say in a few words what an entry states; digests and commitments are for ``--json``."""
    match fact:
        case {"decisions": [*decisions]}:
            said = [
                f"{one.get('agency')} {'permitted' if one.get('permitted') else 'denied'}"
                for one in decisions
                if isinstance(one, Mapping)
            ]
            return f"by {fact.get('force')}: " + ", ".join(said)
        case {"outcomes": [*outcomes]}:
            said = [
                f"{one.get('agency')} {one.get('state')}"
                for one in outcomes
                if isinstance(one, Mapping)
            ]
            return ", ".join(said)
        case _:
            return " ".join(
                f"{key}={value}"
                for key, value in fact.items()
                if key not in _SAID_ALREADY
                and isinstance(value, str | int)
                and value != ""
                and not key.endswith("sha256")
            )


def _plain(text: str) -> str:
    """Keep a log's text from reaching the terminal as commands."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _read_key(path: Path | None) -> VerifierKey | None:
    return None if path is None else read_vkey(path)
