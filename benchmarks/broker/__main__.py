"""``python -m benchmarks.broker``: what a search costs beside bare gRPC calls and bare proofs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.broker.measure import (
    Bench,
    Comparison,
    Footprint,
    Plan,
    Round,
    machine,
    running,
)
from benchmarks.broker.scheme import make_world
from trust.messages import MAX_AGENCIES


def main(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the figures.")
    ] = None,
    searches: Annotated[int, typer.Option(min=10, help="Searches in one round.")] = 400,
    callers: Annotated[str, typer.Option(help="Numbers of callers at once.")] = "1,32",
    agencies: Annotated[str, typer.Option(help="Numbers of agencies a search asks.")] = "6,45",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each target.")] = 3,
    searches_per_token: Annotated[
        int, typer.Option(min=1, help="Searches one pair of officer's tokens serves.")
    ] = 1,
    memory_searches: Annotated[
        int, typer.Option(min=0, help="Searches over which memory is watched; 0 for none.")
    ] = 3000,
) -> None:
    """Measure a bare fan-out, one with a search's proofs, and the broker in turn, over loopback.

    First the comparisons, for each number of agencies and of callers; then the broker's memory
    over a long run, with the fewest agencies and the most callers.
    """
    plan = Plan(searches, _numbers(callers), rounds, searches_per_token)
    widths = _numbers(agencies)
    if not all(0 < one <= MAX_AGENCIES for one in widths):
        raise typer.BadParameter(f"1 to {MAX_AGENCIES} agencies")
    compared: list[Comparison] = []
    footprint: Footprint | None = None
    for width in widths:
        with _bench(plan, width) as bench:
            compared += [bench.compare(number) for number in plan.callers]
    if memory_searches:
        with _bench(plan, min(widths)) as bench:
            footprint = bench.footprint(memory_searches, max(plan.callers))
    Console().print(_table(compared))
    if footprint is not None:
        Console().print(_memory(footprint))
    if json_file is not None:
        report = _report(plan, compared, footprint)
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))


@contextmanager
def _bench(plan: Plan, agencies: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="probegate-bench-") as folder:
        root = Path(folder)
        with running(root, make_world(root, agencies), plan) as bench:
            yield bench


_COLUMNS: Final = (
    ("agencies", "agen-\ncies"),
    ("callers", "call-\ners"),
    ("target", ""),
    ("cpu", "CPU\nms"),
    ("rate", "per\nsecond"),
    ("p50", "p50\nms"),
    ("p95", "p95\nms"),
    ("cpu ratio", "CPU\nratio"),
    ("throughput", "through-\nput"),
    ("latency", "added\nlatency"),
)


def _table(compared: list[Comparison]) -> Table:
    table = Table(title="One search, beside a bare fan-out of the same calls", padding=(0, 1, 0, 0))
    for name, heading in _COLUMNS:
        table.add_column(heading, justify="left" if name == "target" else "right", no_wrap=True)
    for one in compared:
        table.add_row(str(one.agencies), str(one.callers), "bare", *_figures(one.bare))
        table.add_row("", "", "proofs", *_figures(one.proved), f"{one.proved_cpu_ratio:.2f}")
        table.add_row(
            *("", "", "broker", *_figures(one.ours)),
            f"{one.cpu_ratio:.2f}",
            f"{one.throughput_ratio:.2f}",
            f"{one.added_latency:+.2f}",
            end_section=True,
        )
    return table


def _memory(footprint: Footprint) -> str:
    samples = footprint.samples_mib
    return (
        f"Memory of the broker over {footprint.searches:,} searches of {footprint.agencies} "
        f"agencies ({footprint.failed} failed): {samples[0]:.0f} MiB before, "
        f"{samples[-1]:.0f} MiB after, "
        f"{max(samples):.0f} MiB at most; {footprint.kib_per_1000:+.0f} KiB for each 1,000 in the "
        f"second half."
    )


def _figures(one: Round) -> tuple[str, ...]:
    return (
        f"{one.cpu_ms:.2f}",
        f"{one.per_second:.0f}",
        f"{one.p50_ms:.1f}",
        f"{one.p95_ms:.1f}",
    )


def _report(plan: Plan, compared: list[Comparison], footprint: Footprint | None) -> dict[str, Any]:
    return {
        "benchmark": "broker",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "plan": asdict(plan),
        "results": [
            _rounded(asdict(one))
            | {
                "proved_cpu_ratio": round(one.proved_cpu_ratio, 3),
                "cpu_ratio": round(one.cpu_ratio, 3),
                "throughput_ratio": round(one.throughput_ratio, 3),
                "added_latency_in_fan_outs": round(one.added_latency, 3),
            }
            for one in compared
        ],
        "memory": _rounded(asdict(footprint)) if footprint is not None else None,
    }


def _rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {name: _rounded(value) for name, value in figures.items()}
    if isinstance(figures, tuple):
        return [_rounded(value) for value in figures]
    return round(figures, 3) if isinstance(figures, float) else figures


if __name__ == "__main__":
    typer.run(main)
