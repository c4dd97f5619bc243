"""Published statistics as one page: no scripts, nothing fetched, fit to print.

1. It shows a ``Publication``, in which small numbers are hidden already.
2. Names in a log are another's text: everything is escaped.
3. The page may fetch nothing, which its content security policy says as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from audit.publication import Publication, by_first_word
from audit.statistics_plots import HATCH, Bar, columns, legend, stacked
from audit.suppression import HIDDEN, Numbers, Published

_STYLE: Final = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1b1f23;
  background: #fff; margin: 2rem auto; padding: 0 1.5rem; max-width: 62rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .4rem 0; }
.lead { color: #4a5158; }
.sum { font-size: 2.2rem; font-weight: 650; line-height: 1.1; margin: 1.2rem 0 0; }
.sum small { font-size: 1rem; font-weight: 400; color: #4a5158; }
svg.plot { display: block; width: 100%; height: auto; margin: .75rem 0; }
svg text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
svg text.on-hatch { paint-order: stroke; stroke: #fff; stroke-width: 5px; }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .75rem;
  padding: 0; font-size: .85rem; }
.key { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem;
  vertical-align: -.08rem; border: 1px solid #8b949e; }
.key.hidden { background: repeating-linear-gradient(45deg, #fff 0 3px, #8b949e 3px 5px); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #d5dae0; padding: .3rem .7rem; text-align: right;
  vertical-align: bottom; }
th:first-child { text-align: left; white-space: nowrap; padding-left: 0; }
thead th { border-bottom: 2px solid #8b949e; max-width: 9rem; overflow-wrap: break-word; }
tbody th { font-weight: 400; }
tr.all > * { border-top: 2px solid #8b949e; font-weight: 600; }
td.total { font-weight: 600; }
td.nought, td.hidden { color: #6a737d; }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid #d5dae0; color: #4a5158;
  font-size: .85rem; }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 10pt; }
  .wide { overflow: visible; }
  h2 { break-after: avoid; }
  tr, svg, ul.legend { break-inside: avoid; }
  svg rect, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  @page { size: A4; margin: 14mm; }
}
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: Publication) -> str:
    """Return the page."""
    return "\n".join(_page(found)) + "\n"


def _page(found: Publication) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en-GB"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'  # (3)
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Searches and what became of them</title><style>{_STYLE}</style></head><body>"
    yield HATCH
    yield "<h1>Searches and what became of them</h1>"
    yield f'<p class="lead">{escape(found.period)}</p>'
    searches = found.table("searches")
    if searches is not None:
        yield f'<p class="sum">{_number(searches.total)} <small>searches</small></p>'
    for note in found.notes:
        yield f"<p>{escape(note)}</p>"
    for table in found.tables:
        yield f"<section><h2>{escape(table.title)}</h2>"
        yield from _plots(table)
        yield from _table(table)
        yield "</section>"
    logs = ", ".join(found.logs)
    yield f"<footer>Counted from {escape(logs)}. Times are UTC; months are calendar months."
    yield "Each count can be made again by anybody who holds the logs.</footer></body></html>"


def _plots(table: Published) -> Iterator[str]:
    match table.name:
        case "searches":
            values = [(line.label, line.total) for line in table.lines]
            yield columns(f"{table.title}: the totals", values)
        case "answers" | "reports":
            yield from _bars(by_first_word(table))
        case "routes":
            yield from _bars(table)
        case _:
            return


def _bars(table: Published) -> Iterator[str]:
    bars = [Bar(line.label, line.cells, line.total) for line in table.lines]
    yield stacked(table.title, bars)
    yield legend(table.columns)


def _table(table: Published) -> Iterator[str]:
    heads = [table.rows_are.capitalize(), *table.columns, *(["total"] if table.summed else [])]
    head = "".join(f'<th scope="col">{_breakable(one)}</th>' for one in heads)
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>'
    for line in table.lines:
        yield _row(line.label, line.cells, line.total, summed=table.summed)
    if table.summed and len(table.lines) > 1:
        sums, total = table.column_totals, table.total
        yield _row("all", sums, total, summed=True, kind=' class="all"')
    yield "</tbody></table></div>"


def _row(label: str, cells: Numbers, total: int | None, *, summed: bool, kind: str = "") -> str:
    said = "".join(_cell(number) for number in cells)
    if summed:
        said += _cell(total, "total")
    return f'<tr{kind}><th scope="row">{escape(label)}</th>{said}</tr>'


def _cell(number: int | None, kind: str = "") -> str:
    kind = "hidden" if number is None else kind or ("" if number else "nought")
    return f'<td class="{kind}">{_number(number)}</td>' if kind else f"<td>{_number(number)}</td>"


def _breakable(name: str) -> str:
    """Escape a name, which may break after its parts rather than within a word."""
    return re.sub(r"([._-])", r"\1<wbr>", escape(name))


def _number(number: int | None) -> str:
    return HIDDEN if number is None else f"{number:,}"
