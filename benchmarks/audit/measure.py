"""Appending, growing and verifying, timed."""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.leaves import canonical
from audit.merkle import EMPTY_ROOT
from audit.notes import VerifierKey
from audit.verify import verify_folder
from audit.writer import LogWriter, NewEntry
from benchmarks.audit import floor
from benchmarks.audit.made import NAME, ORIGIN, make_log, open_engine, signer

FACTS: Final[dict[str, Any]] = {
    "v": 1,
    "type": "search.order",
    "search_id": "5f1c7f9e-8f3a-4f0c-9a52-1f1d5a8c7b11",
    "force": "northshire",
    "order_sha256": "ab" * 32,
    "policy_sha256": "cd" * 32,
    "decisions": [
        {"agency": agency, "permitted": True, "code": "PERMITTED", "failed": []}
        for agency in ("custody", "pnd", "passport", "asylum")
    ],
}
"""An entry much like a broker's, about 600 bytes."""
PROOFS: Final = 500


@dataclass(slots=True)
class Appends:
    """What some callers reached.

    Attributes:
        per_second: durable appends a second.
        p50_ms, p99_ms: latency.
        cpu_us: processor time of an append, its caller's and all threads', which other work on the
            machine disturbs least.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(slots=True)
class Compared:
    """The log and both floors in the same rounds; medians.

    Attributes:
        callers: how many at once.
        log: the log.
        floor: a bare group commit that waits the whole window for company.
        best_floor: one that gathers as the log does.
        ratio: appends of the log for one of the floor, the median of the rounds: what ran within
            the same few seconds met the same disk.
        best_floor_ratio: the same beside the other floor.
    """

    callers: int
    log: Appends
    floor: Appends
    best_floor: Appends
    ratio: float
    best_floor_ratio: float


@dataclass(slots=True)
class Grown:
    """A log of one size: times to append and to prove, and the memory of its process."""

    leaves: int
    open_s: float
    append_ms: float
    proof_us: float
    memory_mb: float


def compare(callers: int, entries: int, rounds: int) -> Compared:
    """Append with some callers at once, log and floors in turn.

    Who goes first, second and third rotates: what ran before leaves files to delete and a disk to
    settle, which would favour whoever always comes last.
    """
    log, fixed, best = list[Appends](), list[Appends](), list[Appends]()
    runs: list[tuple[list[Appends], Callable[[], Coroutine[Any, Any, Appends]]]] = [
        (log, lambda: _log(callers, entries)),
        (fixed, lambda: _floor(callers, entries, fixed=True)),
        (best, lambda: _floor(callers, entries, fixed=False)),
    ]
    for _ in range(rounds):
        for found, run in runs:
            found.append(asyncio.run(run()))
        runs.append(runs.pop(0))
    return Compared(
        callers=callers,
        log=_median(log),
        floor=_median(fixed),
        best_floor=_median(best),
        ratio=_ratio(log, fixed),
        best_floor_ratio=_ratio(log, best),
    )


async def _log(callers: int, entries: int) -> Appends:
    with tempfile.TemporaryDirectory(prefix="probegate-audit-") as folder:
        base = Path(folder)
        log = LogWriter.open(
            open_engine(base / "state.db"),
            name=NAME,
            origin=ORIGIN,
            signer=signer(),
            folder=base / "log",
        )

        async def append(number: int) -> None:
            await log.append(NewEntry({**FACTS, "n": number}))

        try:
            return await _timed(callers, entries, append)
        finally:
            await log.close()


async def _floor(callers: int, entries: int, *, fixed: bool) -> Appends:
    with tempfile.TemporaryDirectory(prefix="probegate-audit-") as folder:
        base = Path(folder)
        note = sign_checkpoint(Checkpoint(ORIGIN, 10**6, EMPTY_ROOT), signer()).note
        leaves = [canonical({**FACTS, "n": number}) for number in range(entries)]
        bare = floor.opened(base / "log", note, open_engine(base / "state.db"), fixed=fixed)

        async def append(number: int) -> None:
            await bare.append(leaves[number])

        try:
            return await _timed(callers, entries, append)
        finally:
            await bare.close()


async def _timed(callers: int, entries: int, append: Callable[[int], Awaitable[None]]) -> Appends:
    numbers = iter(range(entries))
    took: list[float] = []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await append(number)
            took.append(time.perf_counter() - began)

    began, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed, spent = time.perf_counter() - began, time.process_time() - spent
    took.sort()
    return Appends(
        per_second=entries / elapsed,
        p50_ms=1000 * took[len(took) // 2],
        p99_ms=1000 * took[int(len(took) * 0.99)],
        cpu_us=1e6 * spent / entries,
    )


def _ratio(log: list[Appends], floor: list[Appends]) -> float:
    pairs = zip(log, floor, strict=True)
    return statistics.median(one.per_second / other.per_second for one, other in pairs)


def _median(found: list[Appends]) -> Appends:
    return Appends(
        per_second=statistics.median(one.per_second for one in found),
        p50_ms=statistics.median(one.p50_ms for one in found),
        p99_ms=statistics.median(one.p99_ms for one in found),
        cpu_us=min(one.cpu_us for one in found),
    )


def grow(leaves: int, appends: int) -> tuple[Grown, Path, tempfile.TemporaryDirectory[str]]:
    """Append to, and prove from, a log of some size, in a process of its own."""
    kept = tempfile.TemporaryDirectory(prefix="probegate-audit-")
    base = Path(kept.name)
    folder = make_log(base, leaves)
    with mp.get_context("spawn").Pool(1) as pool:
        grown = pool.apply(_grown, (base, leaves, appends))
    return grown, folder, kept


def _grown(base: Path, leaves: int, appends: int) -> Grown:
    return asyncio.run(_grown_async(base, leaves, appends))


async def _grown_async(base: Path, leaves: int, appends: int) -> Grown:
    began = time.perf_counter()
    log = LogWriter.open(
        open_engine(base / "state.db"),
        name=NAME,
        origin=ORIGIN,
        signer=signer(),
        folder=base / "log",
    )
    open_s = time.perf_counter() - began
    took = []
    for number in range(appends):
        began = time.perf_counter()
        await log.append(NewEntry({**FACTS, "n": number}))
        took.append(time.perf_counter() - began)
    size = log.checkpoint.checkpoint.size
    picks = random.Random(leaves).sample(range(size), PROOFS)
    proofs = []
    for index in picks:
        began = time.perf_counter()
        log.inclusion(index, size)
        proofs.append(time.perf_counter() - began)
    memory = psutil.Process().memory_info().rss / 1e6
    await log.close()
    return Grown(
        leaves, open_s, 1000 * statistics.median(took), 1e6 * statistics.median(proofs), memory
    )


def verified(folder: Path) -> tuple[float, float, int]:
    """Verify a log in a process of its own; return seconds, resident memory (MB) and entries."""
    with mp.get_context("spawn").Pool(1) as pool:
        found: tuple[float, float, int] = pool.apply(_verified, (folder,))
    return found


def _verified(folder: Path) -> tuple[float, float, int]:
    began = time.perf_counter()
    report = verify_folder(folder, VerifierKey.of(signer()))
    if not report.ok:
        raise RuntimeError(report.problems)
    return (
        time.perf_counter() - began,
        psutil.Process().memory_info().rss / 1e6,
        report.entries,
    )
