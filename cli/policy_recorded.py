"""``probegate policy simulate``: a broker's recorded decisions, made again.

Under a candidate bundle it shows what would have come out otherwise. Without one every decision is
made again under the very bundle it was made under, and any difference is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from cli.opened import at_the_end
from cli.output import EXIT_REFUSED, console, print_json, text
from policy.agreements import read_folder
from policy.bundle import load_bundle, open_bundle, unsigned_bundle_for_dry_run
from policy.decision import CompiledPolicy, compile_bundle
from policy.simulate import Kind, RecordedDecision, Simulation, rerun, simulate
from policy.yaml_source import read_file
from trust.clock import utc_now
from trust.directory import Directory, Role
from trust.errors import ProbegateError, Reason

_WORDS = {
    Kind.SAME: "the same",
    Kind.ALLOW_TO_DENY: "permitted, would be denied",
    Kind.DENY_TO_ALLOW: "denied, would be permitted",
    Kind.OTHER_AGREEMENT: "permitted under another agreement or version",
    Kind.OTHER_CLAUSES: "denied for other clauses",
    Kind.OTHER_BUNDLE: "its bundle was not kept",
}


def simulate_command(
    config: Annotated[Path, typer.Option(help="The broker's settings (TOML).")],
    bundle: Annotated[
        Path | None, typer.Option(help="A candidate bundle; signatures are not checked.")
    ] = None,
    agreements: Annotated[
        Path | None, typer.Option(help="A candidate folder of agreements.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="From when, UTC; from the beginning by default.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Until when, UTC, not included; now by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Make the decisions of a period again, under a candidate or under their own bundles.

    Exit status without a candidate: 1 if any decision comes out otherwise.
    """
    if bundle is not None and agreements is not None:
        raise ProbegateError(Reason.USAGE, "give one of --bundle and --agreements")
    from broker.decisions import KNOWN_OBLIGATIONS
    from broker.recorded import RecordedDecisions
    from broker.settings import BrokerSettings
    from broker.tables import open_engine
    from trust.config import load_settings

    settings = load_settings(BrokerSettings, config)
    directory = _directory(settings)
    engine = open_engine(settings.state_dir, settings.database_url)
    at_the_end(engine.dispose)
    records = RecordedDecisions(
        settings.logs_dir,
        engine,
        since=_utc(since),
        until=_utc(until),
    )
    candidate = _candidate(bundle, agreements, directory)
    with Progress(
        SpinnerColumn(), TextColumn("deciding again"), console=console(stderr=True), transient=True
    ) as progress:
        progress.add_task("deciding again", total=None)
        if candidate is None:
            kept = _kept(settings.state_dir, directory)
            result = rerun(records, kept, known=KNOWN_OBLIGATIONS)
        else:
            result = simulate(records, candidate, known=KNOWN_OBLIGATIONS)
    if as_json:
        print_json(result.as_json() | {"erased": records.erased})
    else:
        _show(result, records.erased, candidate is None)
    if candidate is None and result.differing:
        raise typer.Exit(EXIT_REFUSED)


def _directory(settings: Any) -> Directory:
    from trust.directory_store import DirectoryStore

    return DirectoryStore.of(settings).load(utc_now())


def _candidate(
    bundle: Path | None, agreements: Path | None, directory: Directory
) -> CompiledPolicy | None:
    """Return the candidate as if every force of the directory had signed it."""
    forces = [member.id for member in directory.members(Role.FORCE)]
    if bundle is not None:
        loaded = open_bundle(read_file(bundle)).agreements
    elif agreements is not None:
        loaded = read_folder(agreements)
    else:
        return None
    return compile_bundle(unsigned_bundle_for_dry_run(loaded, forces))


def _kept(
    state_dir: Path, directory: Directory
) -> Callable[[RecordedDecision], CompiledPolicy | None]:
    """Return what finds the bundle that a decision was made under."""
    from policy.store import BundleArchive

    archive = BundleArchive(state_dir)
    compiled: dict[bytes, CompiledPolicy] = {}

    def find(record: RecordedDecision) -> CompiledPolicy | None:
        try:
            raw = archive.bundle(record.policy_sha256, record.at)
        except ProbegateError:
            return None
        if raw not in compiled:
            compiled[raw] = compile_bundle(load_bundle(raw, directory, record.at))
        return compiled[raw]

    return find


def _show(result: Simulation, erased: int, own: bool) -> None:  # noqa: FBT001 - two ways to read it
    screen = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Agency", no_wrap=True, max_width=24)
    table.add_column("How it came out", overflow="fold")
    table.add_column("Decisions", justify="right")
    for agency, counts in result.by_agency.items():
        for kind, count in counts.items():
            if count:
                table.add_row(text(agency), _WORDS[kind], f"{count:,}")
    screen.print(table)
    for one in result.examples[:10]:
        again = one.decision
        clauses = sorted(set(again.failed if again else ()) ^ set(one.recorded.failed))
        what = f": {', '.join(clauses)}" if clauses else ""
        line = f"{one.recorded.search_id} at {one.recorded.agency}, {_WORDS[one.kind]}{what}"
        screen.print(text(line))
    screen.print(f"{result.total:,} decisions made again, {result.differing:,} otherwise.")
    if erased:
        screen.print(f"{erased:,} orders were left out: what they were decided on is erased.")
    if own and not result.differing:
        screen.print(text("Every decision comes out as it was recorded.", "green"))


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
