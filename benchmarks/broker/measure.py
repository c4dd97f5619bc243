"""Alternating rounds of the fan-outs and the broker, and what they come to."""

from __future__ import annotations

import contextlib
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from audit.organisation import SEARCH
from benchmarks.broker import agencies, bare, load, proved
from benchmarks.broker.load import Burst, Sent
from benchmarks.broker.processes import BrokerProcess, Child, cpu_seconds
from benchmarks.broker.scheme import FORCE, Orders, failures_in
from tests.world import World

CREATE_METHOD: Final = "/probegate.broker.v1.SearchService/CreateSearch"
SETTLE_S: Final = 0.5
"""Pause after a burst in which the log's files are written, so that their cost is counted."""
MEMORY_PARTS: Final = 10
"""How often memory is looked at in a long run."""
MOST_FAILED: Final = 0.01
"""Share of a long run's searches that may end otherwise, as on a machine that stands still."""
MEMORY_BURST: Final = 200
"""Searches signed and sealed at once in a long run, which keeps this process small."""
FAN_OUTS: Final = ("bare", "proved")
"""What the broker is compared with."""
WARM_UP: Final = 100
"""Searches before anything is measured; the requests the bare fan-out sends come from them."""


@dataclass(frozen=True, slots=True)
class Round:
    """One burst at one target, measured."""

    cpu_ms: float
    """CPU milliseconds a search of the process under test, user and system."""
    agencies_cpu_ms: float
    """CPU milliseconds a search of the agencies' process."""
    per_second: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All targets at one number of callers: the median over the rounds of each figure."""

    agencies: int
    callers: int
    bare: Round
    proved: Round
    ours: Round

    @property
    def proved_cpu_ratio(self) -> float:
        """Bare CPU by that of the proofs alone: what a broker with all else free would reach."""
        return self.bare.cpu_ms / self.proved.cpu_ms

    @property
    def cpu_ratio(self) -> float:
        """Bare CPU by our CPU a search: 1 would mean that everything else is free."""
        return self.bare.cpu_ms / self.ours.cpu_ms

    @property
    def throughput_ratio(self) -> float:
        """Our searches a second by the bare fan-outs a second."""
        return self.ours.per_second / self.bare.per_second

    @property
    def added_latency(self) -> float:
        """What a search adds to the median latency, in bare fan-outs."""
        return (self.ours.p50_ms - self.bare.p50_ms) / self.bare.p50_ms


@dataclass(frozen=True, slots=True)
class Footprint:
    """The broker's resident memory over a long run of searches.

    Attributes:
        searches: how many were made.
        failed: how many of them did not end as they should, as on a machine that stands still.
        agencies: how many agencies each asked.
        samples_mib: resident memory before the run and after each of its parts, MiB.
        kib_per_1000: how much it grew for each 1,000 searches in the second half, KiB: what is
            filled once (caches, pools, the database's own) is filled by then.
    """

    searches: int
    failed: int
    agencies: int
    samples_mib: tuple[float, ...]
    kib_per_1000: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    searches: int
    callers: tuple[int, ...]
    rounds: int
    searches_per_token: int


class Bench:
    """Everything running, ready to be measured."""

    def __init__(
        self, world: World, plan: Plan, broker: BrokerProcess, children: dict[str, Child]
    ) -> None:
        self._world = world
        self._plan = plan
        self._children = children
        self._meters = {name: children[name].meter for name in FAN_OUTS} | {"ours": broker.meter}
        self._orders = Orders(world, plan.searches_per_token)

    def compare(self, callers: int) -> Comparison:
        """Measure all targets in turn at one number of callers."""
        sent = self._burst("ours", callers, WARM_UP)
        requests = self._children["agencies"].ask("requests")
        mean = statistics.mean(len(answer) for answer in sent.answers)
        self._children["bare"].ask((requests, int(mean)))
        log = self._world.broker_settings().logs_dir / SEARCH
        self._children["proved"].ask((requests, int(mean), log))
        for target in FAN_OUTS:
            self._burst(target, callers, WARM_UP)
        rounds: dict[str, list[Round]] = {target: [] for target in (*FAN_OUTS, "ours")}
        for _ in range(self._plan.rounds):
            for target, done in rounds.items():
                done.append(self._measured(target, callers))
        agencies = len(self._world.agencies)
        return Comparison(agencies, callers, **{name: _median(rounds[name]) for name in rounds})

    def footprint(self, searches: int, callers: int) -> Footprint:
        """Make so many searches in equal parts, and watch the broker's memory."""
        self._burst("ours", callers, WARM_UP)
        meter = self._meters["ours"]
        samples = [_mib(meter)]
        part, failed = max(searches // MEMORY_PARTS, 1), 0
        agencies = len(self._world.agencies)
        for _ in range(MEMORY_PARTS):
            for done in range(0, part, MEMORY_BURST):
                requests = self._orders.make(min(MEMORY_BURST, part - done))
                sent: Sent = self._children["load"].ask(Burst("ours", requests, callers))
                failed += failures_in(sent.answers, agencies)
                if failed > MOST_FAILED * searches:
                    raise RuntimeError(f"{failed} searches did not end as they should")
            samples.append(_mib(meter))
        late = samples[MEMORY_PARTS // 2 :]
        grown = 1024 * (late[-1] - late[0]) / ((len(late) - 1) * part)
        made = part * MEMORY_PARTS
        return Footprint(made, failed, agencies, tuple(samples), 1000 * grown)

    def _burst(self, target: str, callers: int, count: int) -> Sent:
        burst = Burst(target, self._orders.make(count), callers)
        sent: Sent = self._children["load"].ask(burst)
        if target == "ours":
            failed = failures_in(sent.answers, len(self._world.agencies))
            if failed:
                raise RuntimeError(f"{failed} of {count} searches did not end as they should")
        return sent

    def _measured(self, target: str, callers: int) -> Round:
        count = self._plan.searches
        requests = self._orders.make(count)
        meters = (self._meters[target], self._children["agencies"].meter)
        before = [cpu_seconds(meter) for meter in meters]
        sent: Sent = self._children["load"].ask(Burst(target, requests, callers))
        time.sleep(SETTLE_S)
        used, agencies_used = (
            1000 * (cpu_seconds(meter) - earlier) / count
            for meter, earlier in zip(meters, before, strict=True)
        )
        if target == "ours" and failures_in(sent.answers, len(self._world.agencies)):
            raise RuntimeError("searches did not end as they should")
        latencies = sorted(sent.latencies_s)
        return Round(
            cpu_ms=used,
            agencies_cpu_ms=agencies_used,
            per_second=count / sent.elapsed_s,
            p50_ms=1000 * statistics.median(latencies),
            p95_ms=1000 * latencies[int(0.95 * (len(latencies) - 1))],
        )


def _mib(meter: psutil.Process) -> float:
    return float(meter.memory_info().rss) / 2**20


def _median(rounds: list[Round]) -> Round:
    def middle(name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in rounds))

    return Round(
        cpu_ms=middle("cpu_ms"),
        agencies_cpu_ms=middle("agencies_cpu_ms"),
        per_second=middle("per_second"),
        p50_ms=middle("p50_ms"),
        p95_ms=middle("p95_ms"),
    )


@contextlib.contextmanager
def running(root: Path, world: World, plan: Plan) -> Iterator[Bench]:
    """Start every process and stop them again."""
    scheme = world.scheme
    trusted = (scheme.directory_path, scheme.pinned_path)
    config = root / "broker.toml"
    port_file = root / "broker.port"
    config.write_text(_toml(world, port_file))
    states = (root / f"directory-{name}.json" for name in ("agencies", *FAN_OUTS, "load"))
    folders = {name: world.folder(name).path for name in world.agencies}
    broker_folder = world.folder("broker").path
    with contextlib.ExitStack() as stack:

        def child(start: object, *arguments: object) -> Child:
            return stack.enter_context(Child(start, *trusted, next(states), *arguments))  # type: ignore[arg-type] # each module's start differs in its arguments

        children = {
            "agencies": child(agencies.start, folders, broker_folder),
            "bare": child(bare.start, broker_folder, tuple(world.agencies)),
            "proved": child(proved.start, broker_folder, tuple(world.agencies), root / "proved"),
        }
        broker = stack.enter_context(BrokerProcess(config, port_file))
        targets = {
            "bare": (children["bare"].ask(None), bare.BARE_METHOD),
            "proved": (children["proved"].ask(None), proved.METHOD),
            "ours": (int(port_file.read_text()), CREATE_METHOD),
        }
        children["load"] = child(load.start, world.folder(FORCE).path, targets)
        yield Bench(world, plan, broker, children)


def _toml(world: World, port_file: Path) -> str:
    settings = world.broker_settings(port_file=port_file, listen="127.0.0.1:0")
    given = settings.model_dump(mode="json", exclude_unset=True)
    return "".join(f"{name} = {value!r}\n" for name, value in given.items())


def machine() -> dict[str, str | int]:
    """Describe the machine in general terms."""
    return {
        "cores": psutil.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": platform.system(),
    }
