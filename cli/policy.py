"""``probegate policy``: read, check, explain, test and sign data-sharing agreements.

Could this officer search passports for this? ::

    probegate policy explain --agreements policy/examples --facts request.yaml --agency passport

A bundle, signed by both parties::

    probegate policy sign agreements --out draft.json --version 7 --signer demo/members/custody
    probegate policy sign draft.json --out bundle.json --signer demo/members/northshire
    probegate policy activate bundle.json --config broker.toml
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.output import OneLineErrors, print_json
from cli.policy_analysis import coverage_command, diff_command, lint_json, lint_lines
from cli.policy_bundles import activate, show, sign
from cli.policy_recorded import simulate_command
from policy import cases, explain, lint, schema
from policy.agreements import AgreementFile, read_folder
from policy.bundle import (
    load_bundle,
    open_bundle,
    unsigned_bundle_for_dry_run,
)
from policy.clauses import Verdict
from policy.decision import CompiledPolicy, Decision, compile_bundle
from policy.facts import Facts
from policy.yaml_source import parse_yaml, read_file
from trust import files
from trust.ceremony import Scheme
from trust.clock import utc_now
from trust.directory import verify_directory
from trust.directory_store import PinnedScheme
from trust.errors import ProbegateError, Reason

app = typer.Typer(
    name="policy",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Read, check, explain, test and sign data-sharing agreements.",
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of agreements.")]
At = Annotated[
    datetime | None,
    typer.Option("--at", help="The instant to decide at, UTC; now by default."),
]


@app.command("explain")
def explain_command(
    facts: Annotated[Path, typer.Option(help="The request's facts, YAML or JSON.")],
    bundle: Annotated[Path | None, typer.Option(help="A bundle file.")] = None,
    agreements: Annotated[Path | None, typer.Option(help="A folder of agreements.")] = None,
    scheme: Annotated[
        Path | None, typer.Option(help="The scheme's folder, to check the bundle's signatures.")
    ] = None,
    agency: Annotated[
        list[str] | None, typer.Option(help="An agency to ask; all by default; repeatable.")
    ] = None,
    signed_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORCE",
            help="A force taken to have signed; by default the one that asks; repeatable.",
        ),
    ] = None,
    at: At = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Say whether a request would be permitted, clause by clause."""
    instant = _instant(at)
    document = parse_yaml(read_file(facts), facts.name)
    stated = document.validated(Facts)
    policy, checked = _policy(bundle, agreements, scheme, signed_by, stated, instant)
    agencies = agency or sorted({file.file.agreement.agency for file in policy.bundle.agreements})
    asked = cases.dry_run_facts(document.data, agencies)
    decisions = [policy.decide(asked, one, instant) for one in agencies]
    if as_json:
        shown = [explain.as_json(decision) for decision in decisions]
        said = {"signatures_checked": checked, "records_read": False, "decisions": shown}
        print_json(said)
        return
    console = Console(highlight=False)
    if not checked:
        who = f"the agencies and {', '.join(signed_by)}" if signed_by else "every party"
        _print(console, [f"Signatures were not checked; taken to have signed: {who}.", ""])
    _print(
        console, ["No records were read: only what the facts' `standing` says is on record.", ""]
    )
    for decision in decisions:
        _print_decision(console, decision)


def _policy(
    bundle: Path | None,
    agreements: Path | None,
    scheme: Path | None,
    signed_by: Sequence[str] | None,
    asked: Facts,
    at: datetime,
) -> tuple[CompiledPolicy, bool]:
    """Return the agreements to decide on, and whether their signatures were checked."""
    if (bundle is None) == (agreements is None):
        raise ProbegateError(Reason.USAGE, "give one of --bundle and --agreements")
    if bundle is not None and scheme is not None:
        if signed_by:
            raise ProbegateError(Reason.USAGE, "--signed-by is for unchecked signatures only")
        opened = Scheme.open(scheme)
        directory = verify_directory(
            files.read(opened.directory_path),
            PinnedScheme.load(opened.pinned_path).by_kid(),
            at,
        )
        return compile_bundle(load_bundle(read_file(bundle), directory, at)), True
    loaded: Sequence[AgreementFile] = (
        open_bundle(read_file(bundle)).agreements
        if bundle is not None
        else read_folder(agreements or Path())
    )
    forces = signed_by or ([asked.force] if asked.force else [])
    return compile_bundle(unsigned_bundle_for_dry_run(loaded, forces)), False


def _print_decision(console: Console, decision: Decision) -> None:
    first, *rest = explain.lines(decision)
    _print(console, [first], style="bold green" if decision.permitted else "bold red")
    _print(console, [*rest, ""])


def _print(console: Console, lines: Iterable[str], style: str | None = None) -> None:
    """Print plain lines, wrapped under their own indent."""
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        wrapped = textwrap.fill(
            line.strip(),
            console.width,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_on_hyphens=False,
        )
        failed = line.strip().startswith((Verdict.VIOLATED.upper(), Verdict.INDETERMINATE.upper()))
        console.print(wrapped, style=style or ("red" if failed else None), markup=False)


@app.command("lint")
def lint_command(
    folder: Folder,
    at: At = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - as above
) -> None:
    """Load every agreement under DIR and say what wants a second look."""
    loaded = read_folder(folder)
    found = lint.findings_together(loaded, _instant(at).date())
    if as_json:
        print_json(lint_json(loaded, found))
        return
    _print(Console(highlight=False), lint_lines(loaded, found))
    typer.echo(f"{len(loaded)} agreements load.")


app.command("diff")(diff_command)
app.command("coverage")(coverage_command)


@app.command("test")
def test_command(folder: Folder) -> None:
    """Run the case tables under DIR against the agreements beside them."""
    results = cases.run_folder(folder)
    table = Table("Table", "Case", "Expected", "Result")
    for result in results:
        outcome = "as expected" if result.passed else result.difference
        table.add_row(
            result.table,
            result.case.id,
            result.case.expect.value,
            outcome,
            style=None if result.passed else "red",
        )
    Console(highlight=False).print(table)
    failed = sum(not result.passed for result in results)
    typer.echo(f"{len(results)} cases, {failed} not as expected.")
    if failed or not results:
        raise typer.Exit(1)


app.command("sign")(sign)
app.command("show")(show)
app.command("activate")(activate)
app.command("simulate")(simulate_command)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of an agreement."""
    typer.echo(schema.agreement_schema(), nl=False)


def _instant(at: datetime | None) -> datetime:
    return utc_now() if at is None else at.replace(tzinfo=UTC)
