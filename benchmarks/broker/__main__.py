"""``python -m benchmarks.broker``: what a search costs beside a bare gRPC fan-out."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.broker.measure import Comparison, Plan, Round, machine, running
from benchmarks.broker.scheme import make_world


def main(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the figures.")
    ] = None,
    searches: Annotated[int, typer.Option(min=10, help="Searches in one round.")] = 400,
    callers: Annotated[str, typer.Option(help="Numbers of callers at once.")] = "1,32",
    agencies: Annotated[int, typer.Option(min=1, max=6, help="Agencies each search asks.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each target.")] = 3,
    searches_per_token: Annotated[
        int, typer.Option(min=1, help="Searches one pair of officer's tokens serves.")
    ] = 1,
) -> None:
    """Measure the broker and a bare fan-out in turn, on this machine, over loopback."""
    plan = Plan(searches, tuple(int(one) for one in callers.split(",")), rounds, searches_per_token)
    with tempfile.TemporaryDirectory(prefix="probegate-bench-") as folder:
        root = Path(folder)
        world = make_world(root, agencies)
        with running(root, world, plan) as bench:
            compared = [bench.compare(number) for number in plan.callers]
    Console().print(_table(compared))
    if json_file is not None:
        report = _report(plan, agencies, compared)
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def _table(compared: list[Comparison]) -> Table:
    table = Table(title="One search, beside a bare fan-out of the same calls")
    for name in ("callers", "target", "CPU ms", "searches/s", "p50 ms", "p95 ms", "ratios"):
        table.add_column(name, justify="left" if name in {"target", "ratios"} else "right")
    for one in compared:
        table.add_row(str(one.callers), "bare", *_figures(one.bare), "")
        ratios = (
            f"CPU {one.cpu_ratio:.2f}, throughput {one.throughput_ratio:.2f}, "
            f"added latency {one.added_latency:+.2f}"
        )
        table.add_row("", "broker", *_figures(one.ours), ratios, end_section=True)
    return table


def _figures(one: Round) -> tuple[str, ...]:
    return (
        f"{one.cpu_ms:.2f}",
        f"{one.per_second:.0f}",
        f"{one.p50_ms:.2f}",
        f"{one.p95_ms:.2f}",
    )


def _report(plan: Plan, agencies: int, compared: list[Comparison]) -> dict[str, Any]:
    return {
        "benchmark": "broker",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "plan": asdict(plan) | {"agencies": agencies},
        "results": [
            _rounded(asdict(one))
            | {
                "cpu_ratio": round(one.cpu_ratio, 3),
                "throughput_ratio": round(one.throughput_ratio, 3),
                "added_latency_in_fan_outs": round(one.added_latency, 3),
            }
            for one in compared
        ],
    }


def _rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {name: _rounded(value) for name, value in figures.items()}
    return round(figures, 3) if isinstance(figures, float) else figures


if __name__ == "__main__":
    typer.run(main)
