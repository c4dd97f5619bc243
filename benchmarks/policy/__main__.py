"""``python -m benchmarks.policy``: what a decision costs, beside Cedar and Rego."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.broker.measure import machine
from benchmarks.policy.engines import VERSIONS
from benchmarks.policy.measure import Cost, Grown, compare, grow


def main(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the figures.")
    ] = None,
    requests: Annotated[int, typer.Option(min=100, help="Requests in one round.")] = 1_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each engine, in turn.")] = 7,
    each: Annotated[str, typer.Option(help="Agreements each of six agencies has.")] = "1,10",
    sizes: Annotated[str, typer.Option(help="Agreements in a bundle.")] = "6,60,600,6000",
) -> None:
    """Measure a decision for six agencies: four engines, then ours as the bundle grows."""
    compared = {int(one): compare(int(one), requests, rounds) for one in each.split(",")}
    grown = [grow(int(one), requests, rounds) for one in sizes.split(",")]
    console = Console()
    console.print(_engines_table(compared))
    console.print(_growth_table(grown))
    if json_file is not None:
        plan = {"requests": requests, "rounds": rounds}
        json_file.write_text(json.dumps(_report(plan, compared, grown), indent=2) + "\n")


def _engines_table(compared: dict[int, list[Cost]]) -> Table:
    table = Table(title="One request to six agencies, CPU")
    for name in ("agreements", "engine", "microseconds", "ratio"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for each, costs in compared.items():
        for one in costs:
            ratio = f"{one.ratio:.1f}"
            table.add_row(str(6 * each), one.engine, f"{one.micros:.0f}", ratio)
        table.add_section()
    return table


def _growth_table(grown: list[Grown]) -> Table:
    table = Table(title="The same request as the bundle grows, CPU")
    for name in ("agreements", "microseconds", "ms to compile"):
        table.add_column(name, justify="right")
    for one in grown:
        table.add_row(str(one.agreements), f"{one.micros:.0f}", f"{one.compile_ms:.0f}")
    return table


def _report(
    plan: dict[str, int], compared: dict[int, list[Cost]], grown: list[Grown]
) -> dict[str, Any]:
    return {
        "benchmark": "policy",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {name: version(name) for name in VERSIONS},
        "plan": plan,
        "engines": [
            {
                "agreements": 6 * each,
                "engine": one.engine,
                "cpu_micros": round(one.micros, 1),
                "ratio": round(one.ratio, 2),
            }
            for each, costs in compared.items()
            for one in costs
        ],
        "growth": [{name: round(value, 1) for name, value in asdict(one).items()} for one in grown],
    }


if __name__ == "__main__":
    typer.run(main)
