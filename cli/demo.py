"""``probegate demo``: a whole federation on this machine, searched, checked and explained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich import box
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cli.output import EXIT_REFUSED, console, text
from trust.errors import ProbegateError, Reason

if TYPE_CHECKING:
    from deploy.local.comparing import Compared
    from deploy.local.demo import DemoResult, LogCheck
    from deploy.local.place import Place
    from deploy.local.processes import Processes
    from deploy.local.second_step import Step

DEFAULT_PLACE: Final = Path(".probegate/demo")
DEFAULT_ROWS: Final = 20_000

app = typer.Typer(help="Run a whole federation on this machine.", invoke_without_command=True)

PlaceOption = Annotated[Path, typer.Option("--place", help="Folder the federation lives in.")]
RowsOption = Annotated[int, typer.Option(min=100, help="Invented records in each gallery.")]


@app.callback()
def demo(
    context: typer.Context,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything as JSON to this file.")
    ] = None,
    place: PlaceOption = DEFAULT_PLACE,
    rows: RowsOption = DEFAULT_ROWS,
    fresh: Annotated[  # noqa: FBT002 - a command-line flag
        bool, typer.Option("--fresh", help="Make the federation anew.")
    ] = False,
    second_step: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--second-step",
            help="Instead of four searches one, and what follows: review, release, recall.",
        ),
    ] = False,
) -> None:
    """Make a federation if there is none, search it four times, verify everything.

    Two invented forces, six invented agencies, a broker: eight organisations with keys of their
    own, seven processes on loopback. What was up before stays up. PROBEGATE_DEMO_PORT names another
    first port than 47600.
    """
    if context.invoked_subcommand is not None:
        return
    from deploy.local import demo as script
    from deploy.local.processes import Processes

    screen = console()
    here = _prepared(place, rows, fresh=fresh)
    processes = Processes(here)
    mine = [member for member in processes.servers if not processes.running(member)]
    try:
        _say("starting the broker and the adapters")
        processes.start()
        run = _second_step(here, processes) if second_step else _four_searches(here, processes)
    finally:
        processes.stop(reversed(mine))
    logs = script.verify_logs(here)
    _show_logs(logs)
    document = run | script.logs_json(logs)
    good = bool(run["as_it_should_be"]) and all(check.ok for check in logs)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        document["as_it_should_be"] = good
        json_file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if not good:
        screen.print(text("Something is not as it should be: see above.", "bold red"))
        raise typer.Exit(EXIT_REFUSED)
    screen.print(text("Everything is as it should be.", "bold green"))
    _what_next(here)


@app.command()
def up(place: PlaceOption = DEFAULT_PLACE, rows: RowsOption = DEFAULT_ROWS) -> None:
    """Bring the federation up and leave it running."""
    from deploy.local.processes import Processes

    here = _prepared(place, rows, fresh=False)
    processes = Processes(here)
    _say("starting the broker and the adapters")
    processes.start()
    _show_status(here)
    _what_next(here)


@app.command()
def down(place: PlaceOption = DEFAULT_PLACE) -> None:
    """Stop the federation; what it recorded stays."""
    from deploy.local.processes import Processes

    here = _existing(place)
    Processes(here).stop()
    _say("the federation is down")


@app.command("add-agency")
def add_agency(
    agency: Annotated[str, typer.Argument(metavar="ID", help="The agency's member id.")],
    kind: Annotated[str, typer.Option(help="What kind of agency: custody, pnd, passport, ...")],
    gallery: Annotated[Path, typer.Option(help="Its gallery, made by `probegate adapter import`.")],
    agreement: Annotated[Path, typer.Option(help="Its data-sharing agreement, YAML.")],
    place: PlaceOption = DEFAULT_PLACE,
) -> None:
    """Let one more agency join: keys, certificate, directory, agreement, adapter.

    A federation that is up takes it in without a restart. The parties' signatures on the agreement
    are made with the keys of the invented members.
    """
    from deploy.local.joining import add_agency as join
    from deploy.local.processes import Processes

    here = _existing(place)
    join(
        here,
        Processes(here),
        agency,
        kind=kind,
        gallery=gallery,
        agreement=agreement,
        say=_say,
    )
    _show_status(here)


@app.command()
def compare(
    agency: Annotated[str, typer.Argument(metavar="ID", help="The agency to search.")],
    probes: Annotated[Path, typer.Option(help="Probes, .npy or .npz, one a row.")],
    truth: Annotated[Path, typer.Option(help="CSV: probe (its row), quality_band, mate.")],
    model: Annotated[str, typer.Option(help="The template model of the probes.")],
    place: PlaceOption = DEFAULT_PLACE,
) -> None:
    """Search an agency with every probe of a file, and compare with the known mates.

    Exit status: 0 when every mate came first and nobody came for a probe without one.
    """
    from deploy.local import comparing

    here = _existing(place)
    screen = console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("Searching", total=None)
        compared = comparing.compare(
            here,
            agency,
            probes=probes,
            truth=truth,
            model=model,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _show_compared(compared)
    if not all(one.as_it_should_be for one in compared):
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def status(place: PlaceOption = DEFAULT_PLACE) -> None:
    """Show which servers run, and where."""
    _show_status(_existing(place))


def _prepared(place: Path, rows: int, *, fresh: bool) -> Place:
    from deploy.local.place import Place
    from deploy.local.processes import Processes
    from deploy.local.setting_up import set_up

    here = Place(place)
    if fresh and here.scheme.exists():
        Processes(here).stop()
    if fresh or not here.ready.exists():
        _say(f"making a federation under {place}")
        set_up(here, rows=rows, say=lambda what: _say(f"  {what}"))
    return here


def _existing(place: Path) -> Place:
    from deploy.local.place import Place

    here = Place(place)
    if not here.ready.exists():
        raise ProbegateError(
            Reason.FILE_MISSING, "there is no federation here; `probegate demo up` makes one"
        )
    return here


def _say(what: str) -> None:
    console(stderr=True).print(what, style="dim")


def _four_searches(here: Place, processes: Processes) -> dict[str, Any]:
    from deploy.local import demo as script

    results = script.Demo(here, processes).run(_show)
    return script.as_json(results) | {"as_it_should_be": script.passed(results)}


def _second_step(here: Place, processes: Processes) -> dict[str, Any]:
    from deploy.local import second_step as script
    from force_client.second_step.exporting import BANNER

    screen = console()
    screen.rule(text("After a search: review, release, recall", "bold"), align="left")
    steps = script.SecondStep(here, processes, _show_step).run()
    screen.print(text(BANNER, "bold"))
    return {
        "steps": [step.document() for step in steps],
        "as_it_should_be": script.passed(steps),
    }


def _show_step(step: Step) -> None:
    screen = console()
    screen.print(Text(f"{step.title}: ").append(step.came, "bold"))
    if not step.as_it_should_be:
        screen.print(text(f"NOT as it should be: {step.expected}", "bold red"))


def _show(result: DemoResult) -> None:
    from cli import results

    screen = console()
    screen.rule(text(result.search.title, "bold"), align="left")
    results.show(result.view, screen)
    screen.print(_found(result))
    screen.print()


def _found(result: DemoResult) -> Text:
    """Say where the planted person was found, and where they should have been."""
    said = Text()
    for finding in result.findings:
        if finding.found:
            said.append(f"The planted person is {finding.agency}'s rank {finding.rank}.\n")
        if not finding.as_it_should_be:
            said.append(f"{finding.agency}: NOT as it should be.\n", "bold red")
    if not any(finding.found for finding in result.findings):
        said.append("The planted person was found nowhere, as it should be.\n")
    said.append(f"The whole search took {result.seconds * 1000:.0f} ms.", "dim")
    return said


def _show_logs(logs: Sequence[LogCheck]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Logs, verified offline")
    table.title_justify = "left"
    for column in ("Organisation", "Log", "Entries", "Verdict"):
        table.add_column(column, justify="right" if column == "Entries" else "left")
    for check in logs:
        verdict = Text("verifies", "green") if check.ok else Text("; ".join(check.problems), "red")
        table.add_row(check.member, check.log, str(check.entries), verdict)
    console().print(table)


def _show_compared(compared: Sequence[Compared]) -> None:
    """Sum up by band, and name every probe that did not come out as the truth has it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("Probes", "Searched", "As the truth has it", "Scores of the first"):
        table.add_column(column, justify="left" if column == "Probes" else "right")
    for band in dict.fromkeys(one.expected.band for one in compared):
        for mated, words in ((True, "with a mate"), (False, "without")):
            these = [
                one
                for one in compared
                if one.expected.band is band and bool(one.expected.mate) is mated
            ]
            if these:
                right = sum(one.as_it_should_be for one in these)
                scores = [one.found[0][1] for one in these if one.found]
                span = f"{min(scores):.3f} to {max(scores):.3f}" if scores else "none"
                table.add_row(f"{band}, {words}", str(len(these)), str(right), span)
    console().print(table)
    for one in compared:
        if not one.as_it_should_be:
            first = one.found[0][0] if one.found else f"{one.state} {one.reason}".strip()
            wanted = one.expected.mate or "nobody"
            console().print(text(f"probe {one.expected.row}: {wanted}, not {first}", "red"))


def _show_status(here: Place) -> None:
    from deploy.local.processes import Processes

    processes = Processes(here)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("Server", "Address", "State"):
        table.add_column(column)
    for member in processes.servers:
        running = processes.running(member)
        state = Text("running", "green") if running else Text("down", "yellow")
        table.add_row(member, processes.endpoints[member], state)
    console().print(table)


def _what_next(here: Place) -> None:
    root = here.root
    usual = root == DEFAULT_PLACE
    place = "" if usual else f" --place {root}"
    config = "" if usual else f" --config {root}/northshire.toml"
    log = f"{root}/logs/broker/search"
    console().print(
        f"""
What to try next:
  probegate demo up{place}
  probegate search --probe {root}/probes/suspect-poor.npy{config} \\
    --probe-source cctv --probe-quality 31 \\
    --purpose crime_investigation --legal-basis common_law_policing \\
    --schedule8 statutory_purposes --aim identify_unknown \\
    --subject-category suspect --offence theft-act-1968-s8 \\
    --seriousness serious_crime --case NS/2026/004413 \\
    --necessity "Nobody who saw the recording knew the person." \\
    --proportionality "One image, one robbery, own galleries first." \\
    --tried-first own_custody,pnd \\
    --officer northshire-1041 --authoriser northshire-3302 --agency all
  probegate audit verify {log} --vkey {root}/vkeys/broker-search
  probegate adapter stats --gallery {root}/galleries/custody
  probegate demo down{place}""",
        soft_wrap=True,
    )
