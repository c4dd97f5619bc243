"""``probegate audit export``, ``verify-export``: evidence about a case that stands on its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.audit_keys import read_vkey
from cli.audit_office import Config, Purpose, Side, open_office
from cli.output import console, print_json, text
from trust import files
from trust.errors import ProbegateError, Reason

_NOT_SHOWN = (
    "Not shown by this: that nothing was left out; that what is named as erased was (the admin log"
    " says so); who signed the documents (the directory has their keys)."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def export_command(
    out: Annotated[Path, typer.Argument(help="The file to write; it will hold personal data.")],
    *,
    config: Config,
    purpose: Purpose,
    case: Annotated[str, typer.Option(help="All searches of this case.")] = "",
    search: Annotated[str, typer.Option(help="This search.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write all that the broker has on a case: entries, proofs, values, signed documents.

    Denied agencies, non-answers and candidates nobody chose are in it. The export is on the admin
    log before anything is written.
    """
    from audit.exporting import EXPORTED, check_bundle, make_bundle
    from audit.opening import Wanted, checked_purpose, find, read_erasures
    from audit.organisation import ADMIN, SEARCH
    from audit.reader import LogReader
    from audit.tiles import VKEY_FILE
    from broker.exporting import documents_of

    if bool(case) == bool(search):
        raise ProbegateError(Reason.USAGE, "give --case or --search")
    purpose = checked_purpose(purpose)
    office = open_office(config, Side.BROKER)
    folder = office.logs_dir / SEARCH
    reader = LogReader(folder)
    erasures = read_erasures(office.logs_dir / ADMIN, SEARCH)
    with office.engine.connect() as connection:
        given = {"connection": connection, "log": SEARCH, "erasures": erasures}
        ids = {search}
        if case:
            ids = {
                str(one.said["search_id"])
                for one in find(reader, Wanted(case=case), **given)  # type: ignore[arg-type]
            }
        asyncio.run(office.log(EXPORTED, reader=office.id, searches=sorted(ids), purpose=purpose))
        of_them = Wanted(searches=frozenset(ids))
        wanted = list(find(reader, of_them, **given)) if ids else []  # type: ignore[arg-type]
        if not wanted:
            raise ProbegateError(Reason.NOT_FOUND, "no entry is of this case or search")
        bundle = make_bundle(
            folder, wanted, connection, SEARCH, documents_of(office.engine, sorted(ids))
        )
    raw = bundle.model_dump_json().encode()
    checked = check_bundle(raw, read_vkey(folder / VKEY_FILE))
    files.write_private(out, raw)
    if as_json:
        print_json(checked.model_dump(mode="json"))
    else:
        console().print(text(f"{out}: {_said(checked)}. It holds personal data."))


def verify_export_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `export` wrote.")],
    vkey: Annotated[Path, typer.Option(help="The log's public key, from the directory.")],
    as_json: AsJson = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Check a bundle of evidence with nothing but the log's public key."""
    from audit.exporting import check_bundle

    key = read_vkey(vkey)
    checked = check_bundle(files.read(bundle), key)
    if as_json:
        print_json(checked.model_dump(mode="json"))
    else:
        screen = console()
        screen.print(text(f"Everything verifies: {_said(checked)}, of {checked.origin}."))
        screen.print(text(_NOT_SHOWN))


def _said(checked: object) -> str:
    counts = {name: getattr(checked, name) for name in ("entries", "values", "erased", "documents")}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
