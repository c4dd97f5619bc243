"""Timing engines in turn, each in a process of its own, and what their answers are worth."""

from __future__ import annotations

import multiprocessing as mp
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from agency_adapters.galleries.store import StoredGallery
from benchmarks.matching.engines import CORES, ENGINES, READING

SETTLE_S = 0.5
"""Between two engines: threads of some libraries go on spinning after their work, seconds."""
TURN_S = 1.0
"""An engine's turn lasts as long after its first search, seconds; one search at least."""
LONG_S = 5.0
"""A search that takes longer is its engine's whole turn, seconds."""
START_S = 3600
"""Longest time an engine may take to load the gallery, seconds."""


@dataclass(slots=True)
class Figures:
    """What was measured of one engine.

    Attributes:
        engine: its name.
        load_s: how long it took to be ready, seconds.
        memory_kb: resident memory of its processes by records, kB, after it searched.
        seconds: probes at once to the median time of each turn's searches, seconds.
        after_idle: probes at once to the time of each turn's first search, seconds.
        recall: probes at once to the share of the true best that were returned.
    """

    engine: str
    load_s: float = 0.0
    memory_kb: float = 0.0
    seconds: dict[int, list[float]] = field(default_factory=dict)
    after_idle: dict[int, list[float]] = field(default_factory=dict)
    recall: dict[int, float] = field(default_factory=dict)

    def per_probe_ms(self, at_once: int) -> float:
        """The median time a probe, milliseconds."""
        return 1000 * statistics.median(self.seconds[at_once]) / at_once


class Child:
    """An engine in a process of its own."""

    def __init__(self, engine: str, gallery: Path) -> None:
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(engine, gallery, theirs), daemon=True)
        self._process.start()
        if not self._pipe.poll(START_S):
            raise TimeoutError(engine)
        self.load_s = self._answer()

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> tuple[float, Any]:
        """Return how long a search took and which rows it found."""
        self._pipe.send((probes, limit))
        seconds, rows = self._answer()
        return seconds, rows

    def memory(self) -> int:
        """Return the resident memory of the engine's processes, bytes, shared pages once."""
        parent = psutil.Process(self._process.pid)
        helpers = parent.children(recursive=True)
        own: int = parent.memory_info().rss
        return own + sum(helper.memory_full_info().pss for helper in helpers)

    def close(self) -> None:
        """Stop the process."""
        self._pipe.send(None)
        self._process.join(60)
        if self._process.is_alive():
            self._process.kill()

    def _answer(self) -> Any:
        kind, value = self._pipe.recv()
        if kind == "failed":
            raise RuntimeError(value)
        return value


def _serve(engine: str, gallery: Path, pipe: Connection) -> None:
    try:
        began = time.perf_counter()
        opened = ENGINES[engine](gallery)
        pipe.send(("ok", time.perf_counter() - began))
        while (request := pipe.recv()) is not None:
            began = time.perf_counter()
            rows = opened.search(*request)
            pipe.send(("ok", (time.perf_counter() - began, rows)))
    except Exception as error:  # noqa: BLE001 - the parent says so and stops
        pipe.send(("failed", f"{engine}: {error!r}"))


def compare(
    gallery: Path,
    engines: Sequence[str],
    at_once: Sequence[int],
    sought: npt.NDArray[np.float64],
    best: npt.NDArray[np.int64],
    *,
    limit: int,
    rounds: int,
    told: Any,
) -> list[Figures]:
    """Search with every engine in turn, round by round, so that all share the machine's moods.

    Args:
        gallery: the gallery's folder.
        engines: which engines.
        at_once: how many probes at once, for each of them.
        sought: the probes, float64, shape ``(most, dims)``.
        best: the true best rows of each, shape ``(most, limit)``.
        limit: how many records a probe asks for.
        rounds: how many turns each engine has.
        told: called with a word on what happens.
    """
    records = StoredGallery.open(gallery).manifest.count
    figures = [Figures(engine) for engine in engines]
    with _children(gallery, engines, told) as children:
        for one, child in zip(figures, children, strict=True):
            one.load_s = child.load_s
            child.search(sought[:1], limit)  # warm
        for count in at_once:
            for turn in range(rounds):
                told(f"{count} at once, round {turn + 1} of {rounds}")
                for one, child in zip(figures, children, strict=True):
                    time.sleep(SETTLE_S)
                    if one.engine == READING and count > 1:
                        continue
                    first, rows = child.search(sought[:count], limit)
                    one.after_idle.setdefault(count, []).append(first)
                    if one.engine != READING:
                        one.recall[count] = recall(rows, best[:count])
                    one.seconds.setdefault(count, []).append(
                        _turn(child, sought[:count], limit, first)
                    )
        for one, child in zip(figures, children, strict=True):
            one.memory_kb = child.memory() / 1000 / records
    return figures


def _turn(child: Child, sought: npt.NDArray[np.float64], limit: int, first: float) -> float:
    """Search for ``TURN_S`` and return the median time, seconds."""
    if first > LONG_S:
        return first
    times: list[float] = []
    while sum(times) < TURN_S:
        times.append(child.search(sought, limit)[0])
    return statistics.median(times)


@contextmanager
def _children(gallery: Path, engines: Sequence[str], told: Any) -> Iterator[list[Child]]:
    children: list[Child] = []
    try:
        for engine in engines:
            told(f"loading {engine}")
            children.append(Child(engine, gallery))
        yield children
    finally:
        for child in children:
            child.close()


def recall(rows: npt.NDArray[np.int64], best: npt.NDArray[np.int64]) -> float:
    """Return the share of the true best rows that were found, of all probes."""
    hits = sum(len(set(f.tolist()) & set(b.tolist())) for f, b in zip(rows, best, strict=True))
    return hits / best.size


def instructions() -> list[str]:
    """Return which vector instructions the kernels have here."""
    import numkong

    return sorted(name for name, on in numkong.get_capabilities().items() if on)


def machine() -> dict[str, Any]:
    """Describe the machine in general terms."""
    return {
        "cores": CORES,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "instructions": instructions(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
