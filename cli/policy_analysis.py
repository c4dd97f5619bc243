"""``probegate policy diff`` and ``coverage``: what agreements permit, without any request.

What would the new version permit that the old one did not? ::

    probegate policy diff agreements-2026 agreements-2027

Who may search which agency, and for what, as a page for the file::

    probegate policy coverage agreements --html coverage.html

Neither checks a signature: every party is taken to have signed, and both say so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console
from rich.table import Table

from cli.output import console, plain, print_json, text
from policy import diff_words, lint
from policy.agreements import AgreementFile, read_folder
from policy.bundle import open_bundle, unsigned_bundle_for_dry_run
from policy.coverage import Answer, CoverageCell, Extent, alike, as_csv, coverage
from policy.coverage_html import as_html
from policy.decision import CompiledPolicy, compile_bundle
from policy.diff import compare
from policy.diff_model import DutyChange, Flip, PolicyDiff
from policy.lint_regions import ANY_FORCE, forces_of
from policy.yaml_source import read_file
from trust import files
from trust.clock import utc_now

UNCHECKED: Final = "Signatures were not checked: every party is taken to have signed."

Source = Annotated[Path, typer.Argument(help="A folder of agreements or a bundle file.")]
Forces = Annotated[
    list[str] | None,
    typer.Option("--force", help="A force; those the agreements name by default; repeatable."),
]
At = Annotated[
    datetime | None,
    typer.Option("--at", help="The instant to decide at, UTC; now by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def diff_command(
    old: Source,
    new: Source,
    forces: Forces = None,
    at: At = None,
    requests: Annotated[
        Path | None,
        typer.Option(help="A folder to write every request to, for `explain --facts`."),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Say what NEW permits, denies or obliges to that OLD did not, each with a request."""
    before, after = (_agreements(source) for source in (old, new))
    parties = _forces([*before, *after], forces)
    found = compare(_compiled(before, parties), _compiled(after, parties), _instant(at))
    if requests is not None:
        _write_requests(requests, found)
    if as_json:
        print_json({"signatures_checked": False, **diff_words.as_json(found)})
        return
    lines = diff_words.lines(found)
    _print([UNCHECKED, *_stand_in(parties), "", *lines])


def _write_requests(folder: Path, found: PolicyDiff) -> None:
    shown: list[Flip | DutyChange] = [*found.flips, *found.duties]
    for place, one in enumerate(shown, 1):
        what = one.change.value if isinstance(one, Flip) else "obliged"
        raw = yaml.safe_dump(one.request, sort_keys=False, allow_unicode=True)
        files.write_atomic(folder / f"{place:03}-{one.agency}-{what}.yaml", raw.encode())


def coverage_command(
    source: Source,
    forces: Forces = None,
    at: At = None,
    csv: Annotated[Path | None, typer.Option(help="A file to write the matrix to, CSV.")] = None,
    html: Annotated[Path | None, typer.Option(help="A file to write the matrix to, HTML.")] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Show which force may search which agency for what, under the agreements of SOURCE."""
    loaded = _agreements(source)
    parties = _forces(loaded, forces)
    matrix = coverage(_compiled(loaded, parties), _instant(at), forces=parties)
    written = [(csv, as_csv), (html, as_html)]
    for path, render in written:
        if path is not None:
            files.write_atomic(path, render(matrix).encode())
    if as_json:
        print_json({"signatures_checked": False, **matrix.as_json()})
        return
    _print([UNCHECKED, *_stand_in(parties), f"As decided at {matrix.at.isoformat()}."])
    screen = console()
    for names, cells in alike(matrix):
        _show_matrix(screen, names, cells)
    for path, _ in written:
        if path is not None:
            _print([f"Wrote {path}."])


def _show_matrix(screen: Console, names: Sequence[str], cells: Iterable[CoverageCell]) -> None:
    _print(["", ", ".join(names)])
    shown = [cell for cell in cells if cell.answer is not Answer.NO_AGREEMENT]
    if shown:
        table = Table("Agency", "Purpose", "Answer", "Agreement")
        for cell in shown:
            table.add_row(*map(text, (cell.agency, cell.purpose, _answer(cell), _agreement(cell))))
        screen.print(table)
    _print([f"Every{'thing else' if shown else 'thing'} is denied: no agreement."])


def _answer(cell: CoverageCell) -> str:
    if cell.answer is Answer.UNSATISFIABLE:
        return f"denied: cannot satisfy {', '.join(cell.hindered_by)}"
    marks = [
        *_mark("hit/no-hit only", cell.hit_no_hit),
        *_mark("release by a human", cell.release_by_human),
        *(["urgent route"] if cell.urgent else []),
    ]
    return f"permitted{': ' if marks else ''}{'; '.join(marks)}"


def _mark(name: str, extent: Extent) -> list[str]:
    if extent is Extent.NEVER:
        return []
    return [name if extent is Extent.ALWAYS else f"{name} (sometimes)"]


def _agreement(cell: CoverageCell) -> str:
    return ", ".join(cell.agreements)


def lint_lines(loaded: Sequence[AgreementFile], found: Sequence[lint.Finding]) -> list[str]:
    """Return findings as plain text lines, file by file."""
    lines: list[str] = []
    for file in loaded:
        mine = [finding.text for finding in found if finding.file == file.name]
        lines += [f"{file.name}: {len(mine)} to look at", *(f"  {remark}" for remark in mine)]
    return lines


def lint_json(loaded: Sequence[AgreementFile], found: Sequence[lint.Finding]) -> dict[str, Any]:
    """Return findings as JSON values."""
    return {"agreements": len(loaded), "findings": [lint.as_json(finding) for finding in found]}


def _agreements(source: Path) -> tuple[AgreementFile, ...]:
    if source.is_dir():
        return read_folder(source)
    return open_bundle(read_file(source)).agreements


def _forces(loaded: Sequence[AgreementFile], asked: Sequence[str] | None) -> list[str]:
    return list(asked) if asked else forces_of(loaded)


def _compiled(loaded: Sequence[AgreementFile], forces: Iterable[str]) -> CompiledPolicy:
    return compile_bundle(unsigned_bundle_for_dry_run(loaded, forces))


def _stand_in(forces: Iterable[str]) -> list[str]:
    if ANY_FORCE not in forces:
        return []
    return [f"{ANY_FORCE} stands for every force that no agreement names."]


def _print(lines: Iterable[str]) -> None:
    """Print plain lines, wrapped under their own indent."""
    screen = console()
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        wrapped = textwrap.fill(
            plain(line),
            screen.width,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_on_hyphens=False,
        )
        screen.print(wrapped)


def _instant(at: datetime | None) -> datetime:
    return utc_now() if at is None else at.replace(tzinfo=UTC)
