r"""An agency's gallery in files, under ``probegate adapter``: import, enrol, erase, look, compact.

::

    probegate adapter import --kind custody --templates faces.npz --records records.csv \
        --model example-model-1 --out gallery
    probegate adapter enrol --gallery gallery --templates new.npy --records new.csv \
        --model example-model-1
    probegate adapter erase R-1042 --authority "Deletion request 2026/17" \
        --certificate r-1042.json --config adapter.toml
    probegate adapter check --gallery gallery
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from cli.operators import adapter_operator
from cli.output import console, indented, print_json, text

if TYPE_CHECKING:
    from agency_adapters.galleries.importing import ImportReport
    from agency_adapters.galleries.importing import Progress as Told
    from agency_adapters.galleries.rejecting import RejectedRow

GalleryFolder = Annotated[Path, typer.Option("--gallery", help="The gallery's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Templates = Annotated[
    Path, typer.Option(help="Templates, .npy, .npz or .parquet, one row a person.")
]
Records = Annotated[
    Path, typer.Option(help="Records, CSV, JSON Lines or Parquet, in the same order.")
]
Model = Annotated[str, typer.Option(help="The template model's id.")]


def register(app: typer.Typer) -> None:
    """Add these commands to ``probegate adapter``."""
    app.command("import")(import_)
    for command in (enrol, erase, stats, check, compact):
        app.command()(command)


def import_(
    kind: Annotated[str, typer.Option(help="What kind of agency: custody, pnd, passport, ...")],
    templates: Templates,
    records: Records,
    model: Model,
    out: Annotated[str, typer.Option(help="The gallery's folder, or an engine's address.")],
    drop_rejected: Annotated[  # noqa: FBT002
        bool, typer.Option("--drop-rejected", help="Let held records go whose new rows are bad.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Import a gallery; every row that is not enrolled is reported by number and reason."""
    from agency_adapters.galleries.engine_import import import_to
    from agency_adapters.galleries.rejecting import RowsRejectedError
    from agency_adapters.registry import kind_named
    from trust.clock import utc_now

    try:
        with _progress() as told:
            report = import_to(
                kind=kind_named(kind),
                templates=templates,
                records=records,
                model=model,
                out=out,
                now=utc_now(),
                drop_rejected=drop_rejected,
                progress=told,
            )
    except RowsRejectedError as error:
        if as_json:
            print_json({"rejected": [row.model_dump(mode="json") for row in error.rejected]})
        else:
            _show_rejected(error.rejected)
        raise
    _show(report, as_json=as_json)


def enrol(
    gallery: Annotated[
        str, typer.Option("--gallery", help="The gallery's folder, or an engine's address.")
    ],
    templates: Templates,
    records: Records,
    model: Model,
    update: Annotated[  # noqa: FBT002
        bool, typer.Option("--update", help="Replace records that are held already.")
    ] = False,
    kind: Annotated[str, typer.Option(help="What kind of agency; needed for an engine.")] = "",
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Enrol more records; a running adapter takes them up by itself."""
    from agency_adapters.galleries.engine_import import enrol_to
    from agency_adapters.registry import kind_named
    from trust.clock import utc_now

    with _progress() as told:
        report = enrol_to(
            kind=kind_named(kind) if kind else None,
            gallery=gallery,
            templates=templates,
            records=records,
            model=model,
            update=update,
            now=utc_now(),
            progress=told,
        )
    _show(report, as_json=as_json)


def erase(
    record_ids: Annotated[list[str], typer.Argument(metavar="RECORD...", help="Record ids.")],
    authority: Annotated[str, typer.Option(help="Your reference of the request or decision.")],
    certificate: Annotated[Path, typer.Option(help="Where the signed certificate goes.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings as TOML; PROBEGATE_ADAPTER_* in the environment fill the rest."
        ),
    ] = None,
) -> None:
    """Erase records, their templates overwritten, and certify it; it is on the admin log."""
    from agency_adapters.erasing import erase_records, handed_over
    from agency_adapters.second_step.recall_desk import RecallDesk
    from trust import files

    operator = adapter_operator(config)
    files.require_writable(certificate)
    made, envelope = asyncio.run(erase_records(operator, record_ids, authority))
    files.write_private(certificate, envelope.to_json(), replace=True)
    asyncio.run(handed_over(operator, record_ids, authority))
    typer.echo(f"erased: {len(made.erased)} records, generation {made.generation_after}")
    if made.not_held:
        typer.echo(f"not held: {', '.join(made.not_held)}")
    if made.images:
        typer.echo(f"images: {made.images} overwritten and unlinked")
    typer.echo(f"certificate: {certificate}")
    for record_id in RecallDesk.of(operator).due(record_ids):
        typer.echo(f"{record_id} was listed to somebody, and is not recalled: recall it with")
        typer.echo(f"  probegate adapter recall --record {record_id} --reason erased")


def stats(
    gallery: GalleryFolder,
    bar_unconvicted_minors: Annotated[  # noqa: FBT002
        bool, typer.Option("--bar-unconvicted-minors", help="Count as if this switch were on.")
    ] = False,
    bar_overdue_reviews: Annotated[  # noqa: FBT002
        bool, typer.Option("--bar-overdue-reviews", help="Count as if this switch were on.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Count the records, those that may be searched, and those each rule bars or would bar."""
    from agency_adapters.galleries.store import StoredGallery
    from trust.clock import utc_now

    switches = {
        name
        for name, on in (
            ("bar_unconvicted_minors", bar_unconvicted_minors),
            ("bar_overdue_reviews", bar_overdue_reviews),
        )
        if on
    }
    opened = StoredGallery.open(gallery)
    manifest = opened.manifest
    eligible = opened.eligibility(utc_now().date(), frozenset(switches))
    rules = [
        {
            "rule": rule.name,
            "citation": rule.citation,
            "records": eligible.met[rule.name],
            "bars": not rule.switch or rule.switch in switches,
        }
        for rule in opened.kind.eligibility
    ]
    change = manifest.change
    if as_json:
        facts = {
            "kind": manifest.kind,
            "model": manifest.model,
            "dims": manifest.dims,
            "generation": manifest.generation,
            "segments": len(manifest.segments),
            "records": manifest.count,
            "eligible": eligible.count,
            "rules": rules,
            "last_change": change.model_dump(mode="json"),
        }
        print_json(facts)
        return
    screen = console()
    screen.print(
        f"{manifest.count:,} records, {eligible.count:,} eligible; {manifest.kind}, "
        f"{manifest.model}, {manifest.dims} dimensions, generation {manifest.generation} "
        f"({change.what}, {change.at:%Y-%m-%d %H:%M} UTC), {len(manifest.segments):,} segments"
    )
    for row in rules:
        effect = "barred" if row["bars"] else "counted only"
        screen.print(text(str(row["rule"]), "bold"))
        screen.print(indented(f"{row['records']} records, {effect}; {row['citation']}"))


def check(gallery: GalleryFolder) -> None:
    """Read every byte of a gallery and compare it with its manifest."""
    from agency_adapters.galleries.store import Check, StoredGallery
    from trust.clock import utc_now

    opened = StoredGallery.open(gallery, check=Check.FULL)
    eligible = opened.eligibility(utc_now().date())
    typer.echo(
        f"sound: {opened.manifest.count} records, {eligible.count} eligible, "
        f"generation {opened.manifest.generation}"
    )


def compact(gallery: GalleryFolder) -> None:
    """Put sparse segments together, and write anew what older eligibility rules described."""
    from agency_adapters.galleries.editing import editing
    from trust.clock import utc_now

    with editing(gallery) as editor:
        fewer = editor.compact(utc_now())
        typer.echo(f"{fewer} segments fewer, generation {editor.generation}")


def _show(report: ImportReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    _show_rejected(report.rejected)
    console().print(report.summary)


def _show_rejected(rejected: Iterable[RejectedRow]) -> None:
    screen = console()
    for number, row in enumerate(rejected):
        if not number:
            screen.print("Rejected rows")
        reasons = "; ".join(row.reasons)  # of whoever wrote the file
        screen.print(indented(f"row {row.row}, record {row.record_id or '-'}: {reasons}"))


@contextmanager
def _progress() -> Iterator[Told]:
    columns = ("Checking rows", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("rows", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
