"""The matrix of ``policy.coverage`` as one page: no scripts, nothing fetched, fit to print.

Forces that are answered alike share a table. What a cell says is in its words; colour only repeats
it. Everything an agreement named is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final

from policy.codes import REGISTRY
from policy.coverage import PURPOSES, Answer, Coverage, CoverageCell, Extent, alike

MAX_ACROSS: Final = 8
"""Most agencies of one table; more would not fit a printed page."""

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1b1f23;
  background: #fff; margin: 2rem auto; padding: 0 1.5rem; max-width: 76rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
p { max-width: 48rem; margin: .5rem 0; }
code { font: .88em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; min-width: 56rem;
  margin: .75rem 0; font-size: .875rem; }
caption { text-align: left; padding-bottom: .4rem; color: #4a5158; }
th, td { border: 1px solid #b6bdc4; padding: .45rem .6rem; text-align: left;
  vertical-align: top; }
thead th { background: #eef1f4; }
thead th:first-child { width: 13rem; }
tbody th { background: #f7f8fa; font-weight: 600; }
tbody th code { display: block; font-weight: 400; color: #4a5158; }
td.permitted { background: #e3f2e6; border-left: 4px solid #1d6b34; }
td.unsatisfiable { background: #fdf1d7; border-left: 4px solid #8a5a00; }
td.none { color: #4a5158; }
td strong { display: block; }
td ul { list-style: none; margin: .25rem 0 0; padding: 0; }
td li { margin: .1rem 0; }
dl.legend { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .3rem 1rem;
  max-width: 56rem; margin: .75rem 0; }
dl.legend dt { font-weight: 600; }
dl.legend dd { margin: 0; }
.key { display: inline-block; width: .9rem; height: .9rem; margin-right: .5rem;
  vertical-align: -.1rem; border: 1px solid #b6bdc4; }
.key.permitted { background: #e3f2e6; border-left: 4px solid #1d6b34; }
.key.unsatisfiable { background: #fdf1d7; border-left: 4px solid #8a5a00; }
footer { margin-top: 2.5rem; color: #4a5158; font-size: .875rem; }
@media (max-width: 40rem) {
  dl.legend { display: block; }
  dl.legend dd { margin: 0 0 .6rem; }
}
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 10pt; }
  table { font-size: 8.5pt; min-width: 0; width: 99.8%; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  section.forces, .wide + .wide { break-before: page; }
  section.forces h2 { margin-top: 0; }
  .wide { overflow: visible; }
  p, dl.legend { max-width: none; }
  td, th, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  @page { size: A4 landscape; margin: 12mm; }
}
"""

_LEGEND: Final = (
    ("permitted", "Permitted", "There are requests for this purpose that an agreement permits."),
    (
        "unsatisfiable",
        "Denied despite agreement",
        "An agreement names the purpose, but no request can satisfy it now, for the clauses given.",
    ),
    ("none", "Denied", "No agreement of the two names the purpose. Everything else is denied too."),
    ("", "Hit or no hit", "The answer says whether there is a match, and discloses no record."),
    ("", "Released by a person", "Somebody at the agency looks before anything is disclosed."),
    (
        "",
        "Urgent route",
        "An urgent request may go without some clauses, and must be confirmed in writing.",
    ),
    ("", "Sometimes", "It holds for some of the permitted requests and not for others."),
)


def as_html(matrix: Coverage) -> str:
    """Return the matrix as one self-contained page."""
    return "\n".join(_page(matrix)) + "\n"


def _page(matrix: Coverage) -> Iterator[str]:
    at = escape(matrix.at.strftime("%d %B %Y, %H:%M %Z").lstrip("0"))
    permitted = sum(cell.answer is Answer.PERMITTED for cell in matrix.cells)
    yield '<!DOCTYPE html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Who may search what, {at}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield "<header>\n<h1>Who may search which agency, and for what</h1>"
    yield f"<p>As decided at {at}. Of {len(matrix.cells)} combinations of a force, an agency and a"
    yield f"purpose, {permitted} can be permitted; every other is denied.</p>\n</header>"
    yield "<main>\n<section>\n<h2>How to read it</h2>"
    yield from _legend()
    yield "</section>"
    for forces, cells in alike(matrix):
        yield from _section(matrix.agencies, forces, cells)
    yield "</main>\n<footer>"
    yield "<p>A permitted cell does not mean that every such request is permitted: each is decided"
    yield "by itself, clause by clause. Kill switches and what is on record of a force or an"
    yield "officer are not looked at here.</p>"
    yield f"<p>Agreements <code>{matrix.policy_sha256.hex()}</code></p>"
    yield "</footer>\n</body>\n</html>"


def _legend() -> Iterator[str]:
    yield '<dl class="legend">'
    for style, name, meaning in _LEGEND:
        key = f'<span class="key {style}" aria-hidden="true"></span>' if style else ""
        yield f"<dt>{key}{escape(name)}</dt><dd>{escape(meaning)}</dd>"
    yield "</dl>"


def _section(
    agencies: Sequence[str], forces: Sequence[str], cells: Iterable[CoverageCell]
) -> Iterator[str]:
    found = {(cell.agency, cell.purpose): cell for cell in cells}
    name = ", ".join(map(escape, forces))
    count = "" if len(forces) == 1 else f" ({len(forces)} forces, answered alike)"
    nothing = all(cell.answer is Answer.NO_AGREEMENT for cell in found.values())
    style = "nothing" if nothing else "forces"
    yield f'<section class="{style}">\n<h2>{name}{count}</h2>'
    if nothing:
        yield "<p>Denied everything: no agreement.</p>"
    else:
        for start in range(0, len(agencies), MAX_ACROSS):
            yield from _table(agencies[start : start + MAX_ACROSS], found)
    yield "</section>"


def _table(agencies: Sequence[str], found: Mapping[tuple[str, str], CoverageCell]) -> Iterator[str]:
    yield '<div class="wide">\n<table>'
    yield "<caption>Agencies across, purposes down</caption>"
    heads = "".join(f'<th scope="col">{escape(agency)}</th>' for agency in agencies)
    yield f'<thead><tr><th scope="col">Purpose</th>{heads}</tr></thead>\n<tbody>'
    for purpose in PURPOSES:
        title = escape(REGISTRY["purpose"].codes[purpose].title)
        yield f'<tr><th scope="row">{title} <code>{escape(purpose)}</code></th>'
        for agency in agencies:
            yield from _cell(found[agency, purpose])
        yield "</tr>"
    yield "</tbody>\n</table>\n</div>"


def _cell(cell: CoverageCell) -> Iterator[str]:
    match cell.answer:
        case Answer.NO_AGREEMENT:
            yield '<td class="none">Denied</td>'
        case Answer.UNSATISFIABLE:
            yield '<td class="unsatisfiable"><strong>Denied despite agreement</strong>'
            yield f"{_codes(cell.agreements)} cannot be satisfied: {_codes(cell.hindered_by)}</td>"
        case Answer.PERMITTED:
            marks = [
                *_mark("Hit or no hit", cell.hit_no_hit),
                *_mark("Released by a person", cell.release_by_human),
                *(["Urgent route"] if cell.urgent else []),
            ]
            listed = "".join(f"<li>{mark}</li>" for mark in marks)
            yield '<td class="permitted"><strong>Permitted</strong>'
            yield f"{_codes(cell.agreements)}{f'<ul>{listed}</ul>' if listed else ''}</td>"


def _mark(name: str, extent: Extent) -> Iterator[str]:
    if extent is not Extent.NEVER:
        yield name if extent is Extent.ALWAYS else f"{name}, sometimes"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in names)
