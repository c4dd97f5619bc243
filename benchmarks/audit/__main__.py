"""``python -m benchmarks.audit``: durable appends beside a bare group commit, and how logs grow."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.audit.measure import Compared, Grown, compare, grow, verified
from benchmarks.broker.measure import machine
from trust.garbage import spare_the_collector

ENTRIES_A_CALLER = {1: 2000, 16: 8000, 256: 24_000}
"""Entries of a round, by callers; others get two thousand a caller, at most the largest."""


def main(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the figures.")
    ] = None,
    callers: Annotated[str, typer.Option(help="Callers at once.")] = "1,16,256",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each, in turn.")] = 31,
    sizes: Annotated[
        str, typer.Option(help="Entries of logs that are appended to.")
    ] = "10000,100000,1000000,10000000",
    verify: Annotated[int, typer.Option(help="The size that is verified.")] = 1_000_000,
) -> None:
    """Measure the log."""
    compared = []
    spare_the_collector()  # as the servers do
    for count in map(int, callers.split(",")):
        _told(f"{count} callers")
        entries = ENTRIES_A_CALLER.get(count, min(2000 * count, max(ENTRIES_A_CALLER.values())))
        compared.append(compare(count, entries, rounds))
    grown, checked = [], None
    for size in map(int, filter(None, sizes.split(","))):
        _told(f"a log of {size:,} entries")
        one, folder, kept = grow(size, 300)
        grown.append(one)
        if size == verify:
            _told("verifying it")
            checked = verified(folder)
        kept.cleanup()
    console = Console()
    console.print(_appends(compared))
    if grown:
        console.print(_growth(grown))
    if checked is not None:
        console.print(
            f"{checked[2]:,} entries verified in {checked[0]:.1f} s with {checked[1]:.0f} MB."
        )
    if json_file is not None:
        json_file.write_text(json.dumps(_report(compared, grown, checked, rounds), indent=2) + "\n")


def _told(word: str) -> None:
    print(f"... {word}", file=sys.stderr, flush=True)


def _appends(compared: list[Compared]) -> Table:
    table = Table(title="Durable appends: medians of the rounds")
    names = ("callers", "", "a second", "p50 ms", "p99 ms", "CPU us", "log : it")
    for name in names:
        table.add_column(name, justify="right")
    for one in compared:
        for name, figures, ratio in (
            ("log", one.log, ""),
            ("floor", one.floor, f"{one.ratio:.2f}"),
            ("alike", one.best_floor, f"{one.best_floor_ratio:.2f}"),
        ):
            table.add_row(
                str(one.callers),
                name,
                f"{figures.per_second:,.0f}",
                f"{figures.p50_ms:.2f}",
                f"{figures.p99_ms:.2f}",
                f"{figures.cpu_us:.0f}",
                ratio,
            )
        table.add_section()
    return table


def _growth(grown: list[Grown]) -> Table:
    table = Table(title="As a log grows")
    for name in ("entries", "open s", "append ms", "proof microseconds", "memory MB"):
        table.add_column(name, justify="right")
    for one in grown:
        table.add_row(
            f"{one.leaves:,}",
            f"{one.open_s:.2f}",
            f"{one.append_ms:.2f}",
            f"{one.proof_us:.0f}",
            f"{one.memory_mb:.0f}",
        )
    return table


def _report(
    compared: list[Compared],
    grown: list[Grown],
    checked: tuple[float, float, int] | None,
    rounds: int,
) -> dict[str, Any]:
    return {
        "benchmark": "audit",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": rounds,
        "appends": [asdict(one) for one in compared],
        "growth": [asdict(one) for one in grown],
        "verification": None
        if checked is None
        else {"seconds": checked[0], "memory_mb": checked[1], "entries": checked[2]},
    }


if __name__ == "__main__":
    typer.run(main)
