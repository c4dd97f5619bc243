"""The whole adapter over gRPC: mTLS, papers, signatures, the log; beside the scan by itself.

A real adapter process serves the gallery. The broker's side is the tests' own: orders are signed,
recorded and proved before the clock starts, so that callers do not measure themselves. A bare call
that only scans is measured between them: what no adapter could exceed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from agency_adapters.galleries.files import FileGallery, ScanLimits
from agency_adapters.serve import Adapter
from benchmarks.broker.processes import Child
from benchmarks.matching import bare
from benchmarks.matching.data import probes
from benchmarks.matching.engines import CORES
from tests.adapters import MATCH, encoded
from tests.brokers import channel_to
from tests.unit.adapters_kit import BrokerSide, adapter_settings, make_world
from tests.world import Request, World
from trust.wire import decode_report

CALLERS: Final = 32
SEARCHES: Final = 320
"""Searches of one round; their grants live a minute."""
ROUNDS: Final = 3
SENT_SIZES: Final = 40
"""From how many of the sizes last sent a checkpoint is proved; callers overtake one another."""
WAITING: Final = 4 * CALLERS
"""How many probes may wait."""
CALL_S: Final = 50.0
"""Longest wait for one answer, seconds."""
START_S: Final = 120.0
"""Longest wait for the adapter to serve, seconds."""


@dataclass(frozen=True, slots=True)
class OverTheWire:
    """What the adapter reached.

    Attributes:
        callers: how many callers at once.
        per_second: searches a second over gRPC, the best round.
        bare: the same of a call that only scans: no papers, no signatures, no log.
        in_process: searches a second of the same gallery without the wire, the best round.
    """

    callers: int
    per_second: float
    bare: float
    in_process: float

    @property
    def ratio(self) -> float:
        """Over the wire by in process."""
        return self.per_second / self.in_process

    @property
    def bare_ratio(self) -> float:
        """The bare call by in process."""
        return self.bare / self.in_process

    def report(self) -> dict[str, Any]:
        """Return the figures."""
        return {name: round(value, 1) for name, value in asdict(self).items()} | {
            "ratio": round(self.ratio, 2),
            "bare_ratio": round(self.bare_ratio, 2),
        }


def over_the_wire(gallery: Path, told: Callable[[str], None]) -> OverTheWire:
    """Measure the adapter, then the scan alone, in turn."""
    return asyncio.run(_measured(gallery, told))


async def _measured(gallery: Path, told: Callable[[str], None]) -> OverTheWire:
    sought = probes(gallery, SEARCHES)
    with tempfile.TemporaryDirectory(prefix="probegate-adapter-") as folder:
        root = Path(folder)
        world = make_world(root / "world")
        config, port_file = _config(world, root, gallery)
        told("starting the adapter")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "adapter", "serve", "--config", str(config)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(port_file)
            side = BrokerSide.open(world, root / "broker")
            # The same agreements, read by an adapter that is opened for nothing else.
            settings = adapter_settings(world, root / "reading", gallery=str(gallery))
            reading = await Adapter.open(settings)
            wire, without, alone = [], [], []
            with Child(bare.start, settings, gallery, WAITING) as child:
                for turn in range(ROUNDS):
                    told(f"{SEARCHES} searches by {CALLERS} callers, round {turn + 1} of {ROUNDS}")
                    requests = await _papers(world, side, reading, sought)
                    rate, answer_bytes = await _calls(world, port, requests)
                    wire.append(rate)
                    bare_port = child.ask(answer_bytes)
                    without.append(await _bare_calls(world, bare_port, requests, sought))
                    alone.append(await _in_process(gallery, sought))
            await reading.close()
            await side.logs.close()
        finally:
            process.terminate()
            await process.wait()
    return OverTheWire(CALLERS, max(wire), max(without), max(alone))


def _config(world: World, root: Path, gallery: Path) -> tuple[Path, Path]:
    port_file = root / "port"
    settings = adapter_settings(
        world,
        root / "served",
        gallery=str(gallery),
        port_file=port_file,
        max_waiting_probes=WAITING,
    )
    given = settings.model_dump(mode="json", exclude_unset=True)
    config = root / "adapter.toml"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in given.items()))
    return config, port_file


async def _port(port_file: Path) -> int:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if port_file.exists():  # noqa: ASYNC240 - a look at a folder in memory
            return int(port_file.read_text())  # noqa: ASYNC240
        await asyncio.sleep(0.05)
    raise TimeoutError("the adapter does not serve")


async def _papers(
    world: World, side: BrokerSide, reading: Adapter, sought: np.ndarray
) -> list[bytes]:
    now = datetime.now(UTC)
    made = await asyncio.gather(
        *(
            side.papers(
                reading,
                Request(
                    world,
                    probe=probe.astype("<f4"),
                    now=now,
                    justification={"case_reference": f"CASE/{number}/{now:%H%M%S}"},
                ),
                obligations={"release_by_human": False},
            )
            for number, probe in enumerate(sought)
        )
    )
    # As a broker does: from the sizes last sent, not from every size there ever was.
    return [
        encoded(replace(papers, consistency=papers.consistency[-SENT_SIZES:]).params())
        for papers in made
    ]


async def _calls(world: World, port: int, requests: list[bytes]) -> tuple[float, int]:
    """Return searches a second, and how long an answer is."""
    rate, replies = await _timed(world, port, MATCH, requests)
    # Only now: reading them is not what is measured.
    from probegate.agency.v1 import match_service_pb2

    states = [
        decode_report(match_service_pb2.MatchResponse.FromString(reply).report.payload).state
        for reply in replies
    ]
    searched = [state for state in states if state.searched]
    if len(searched) != len(requests):
        raise RuntimeError(f"{len(requests) - len(searched)} searches were not made: {set(states)}")
    return rate, len(replies[0])


async def _bare_calls(world: World, port: int, requests: list[bytes], sought: np.ndarray) -> float:
    """Ask the bare gallery with as many bytes, which end in the probe itself."""
    probes_ = [probe.astype("<f4").tobytes() for probe in sought]
    padded = [
        request[: -len(probe)] + probe for request, probe in zip(requests, probes_, strict=True)
    ]
    rate, _ = await _timed(world, port, bare.METHOD, padded)
    return rate


async def _timed(
    world: World, port: int, method: str, requests: list[bytes]
) -> tuple[float, list[bytes]]:
    waiting = iter(requests)
    replies: list[bytes] = []
    async with channel_to(world, "broker", "custody", port) as channel:
        call = channel.unary_unary(method)

        async def caller() -> None:
            for request in waiting:
                reply = await call(request, timeout=CALL_S)
                replies.append(reply)

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        elapsed = time.perf_counter() - began
    return len(requests) / elapsed, replies


async def _in_process(gallery: Path, sought: np.ndarray) -> float:
    opened = await FileGallery.open(gallery, ScanLimits(threads=CORES))
    queries = [bare.asked(probe) for probe in sought]
    await opened.eligible(queries[0].day, frozenset())
    opened.search_all(queries[:CALLERS])
    began = time.perf_counter()
    for start in range(0, len(queries), CALLERS):
        opened.search_all(queries[start : start + CALLERS])
    elapsed = time.perf_counter() - began
    await opened.close()
    return len(queries) / elapsed
