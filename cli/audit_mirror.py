"""``probegate audit mirror``: a log at an address, copied into a folder and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.mirroring import mirror
from audit.verify import verify_folder
from cli.audit_keys import read_vkey
from cli.audit_progress import progress
from cli.output import console, print_json, text
from trust.errors import ProbegateError, Reason


def mirror_command(
    url: Annotated[str, typer.Argument(help="The log's address, http or https.")],
    folder: Annotated[Path, typer.Argument(help="Where the copy is, or will be.")],
    vkey: Annotated[Path, typer.Option(help="The log's public key, from the directory.")],
    ca_file: Annotated[
        Path | None, typer.Option(help="Authorities to trust instead of the system's (PEM).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Bring a copy of a log up to date, and verify all of it.

    A log that does not continue the copy is refused, and both signed notes are kept as proof.
    """
    key = read_vkey(vkey)
    done = mirror(url, folder, key, ca_file=ca_file)
    with progress() as told:
        report = verify_folder(folder, key, told=told)
    if as_json:
        print_json(
            {
                "origin": done.origin,
                "before": done.before,
                "size": done.size,
                "files": done.files,
                "verified": report.ok,
            }
        )
    else:
        said = f"{done.origin}: {done.size:,} entries, {done.size - done.before:,} of them new"
        console().print(text(f"{said}; {done.files:,} files fetched."))
    if not report.ok:
        raise ProbegateError(Reason.LOG_CORRUPT, f"{report.problem_count} problems")
