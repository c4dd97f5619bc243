"""Rounds of every engine in turn, over requests that none of them has seen before."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.policy.engines import Engine, engines
from benchmarks.policy.world import AGENCIES, AT, bundle_of, requests, side_by_side, spread_out
from policy.decision import compile_bundle

CHECKED: Final = 60
"""Requests on which all engines must give the same answer before anything is measured."""
SLOW: Final = {"cedarpy": 0.05, "regopy": 0.01}
"""Share of the requests that an engine is given, where all would take minutes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one engine takes for one request to six agencies: the median over the rounds."""

    engine: str
    micros: float
    ratio: float
    """By how much that is more than ours."""


@dataclass(frozen=True, slots=True)
class Grown:
    """What a decision takes in a bundle of some size, and what making the bundle ready took."""

    agreements: int
    micros: float
    compile_ms: float


def compare(each: int, count: int, rounds: int) -> list[Cost]:
    """Return every engine's cost over six agencies with ``each`` agreements."""
    found = engines(bundle_of(side_by_side(each)))
    _agree(found)
    taken: dict[str, list[float]] = {one.name: [] for one in found}
    for number in range(rounds):
        for one in found:
            share = max(5, int(count * SLOW.get(one.name, 1)))
            prepared = [one.prepare(facts) for facts in requests(share, seed=number)]
            taken[one.name].append(_micros(one.decide, prepared))
    middle = {name: statistics.median(each_round) for name, each_round in taken.items()}
    ours = middle[found[0].name]
    return [Cost(name, micros, micros / ours) for name, micros in middle.items()]


def _agree(found: Sequence[Engine]) -> None:
    permitted = 0
    for facts in requests(CHECKED, seed=-1):
        answers = [one.read(one.decide(one.prepare(facts))) for one in found]
        for one, answer in zip(found, answers, strict=True):
            if answer != answers[0]:
                raise RuntimeError(f"{one.name} decides otherwise than {found[0].name}")
        permitted += sum(allowed for allowed, _ in answers[0].values())
    if not 0 < permitted < CHECKED * len(AGENCIES):
        raise RuntimeError("the requests are all permitted or all denied")


def grow(count: int, asked: int, rounds: int) -> Grown:
    """Return what a decision takes in a bundle of ``count`` agreements."""
    bundle = bundle_of(spread_out(count))
    started = time.process_time()
    policy = compile_bundle(bundle)
    compile_ms = 1e3 * (time.process_time() - started)
    taken = [
        _micros(lambda facts: policy.decide_each(facts, AGENCIES, AT), requests(asked, seed=number))
        for number in range(rounds)
    ]
    return Grown(len(bundle.agreements), statistics.median(taken), compile_ms)


def _micros(decide: Callable[[Any], Any], asked: Sequence[Any]) -> float:
    """Return CPU microseconds a request; CPU, for other work may share the machine."""
    gc.collect()
    started = time.process_time()
    for one in asked:
        decide(one)
    return 1e6 * (time.process_time() - started) / len(asked)
