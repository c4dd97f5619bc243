"""Promise 8: nothing accepted is lost, and doubt stops it.

A broker in a process of its own is killed at many points of a search, its disk is filled, and it is
stopped gently. Its agencies are simulated in this process, where they keep every request they ever
received. Real adapters are killed too, in the middle of a match.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb
from probegate.common.v1 import search_pb2

from agency_adapters.state import AdapterState
from agency_adapters.tables import open_engine
from audit.checkpoints import Checkpoint
from audit.merkle import leaf_hash, root_of
from audit.notes import split_note
from audit.proofs import parse_proof
from audit.reader import LogReader
from audit.verify import verify_folder
from deploy.local.demo import LOGS
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from force_client import (
    AsyncForceClient,
    ForceClient,
    ForceSettings,
    OrderDraft,
    ProbeFacts,
    SearchView,
    load_probe,
)
from force_client.models import SearchState
from force_client.orders import PreparedSearch
from tests.brokers import PERMITTED, simulated
from tests.forces import ROOT, probe_of, robbery, settings_of, strangers_verifier, tokens
from tests.peers import SimulatedAgency, serve_simulated
from tests.scale import scaled
from tests.world import AUTHORISER, MODEL, OFFICER, Request, World, template
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState
from trust.tokens import Part

ROUNDS = scaled(12, 300)
"""How often the broker is killed."""
AT_ONCE = 4
"""Searches under way when it is."""
KILL_WITHIN_S = 0.06
TIMES_ASKED_AGAIN = 20
"""How often an agency that is up again is asked at most, a second apart."""
ASKED = (*PERMITTED, "nhs")
"""Four agencies that are permitted and one that the broker denies."""
START_S = 30.0
TMPFS_BYTES = 2 * 2**20


@dataclass(slots=True)
class BrokerProcess:
    """The broker of a world as a process of its own."""

    world: World
    state_dir: Path
    process: subprocess.Popen[bytes] | None = None
    output: Path = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.world.root / "broker.log"
        settings = self.world.broker_settings(
            state_dir=self.state_dir, backoff_after_failures=100, port_file=self.port_file
        )
        lines = [
            f'{name} = "{value}"' if isinstance(value, str | Path) else f"{name} = {value}"
            for name, value in settings.model_dump(exclude_unset=True).items()
        ]
        self.config.write_text("\n".join(lines))

    @property
    def config(self) -> Path:
        return self.world.root / "broker.toml"

    @property
    def port_file(self) -> Path:
        return self.world.root / "broker.port"

    @property
    def logs(self) -> Path:
        return self.world.root / "logs" / "broker"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        command = [sys.executable, "-m", "cli.main", "broker", "serve", "--config", self.config]
        self.port_file.unlink(missing_ok=True)
        with self.output.open("ab") as stream:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                list(map(str, command)), cwd=ROOT, stdout=stream, stderr=stream
            )
        async with asyncio.timeout(START_S):
            # A port takes connections before its server does, which closes those.
            while not self.port_file.exists():
                assert self.process.poll() is None, self.output.read_text()
                await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, START_S)


@dataclass(slots=True)
class Scene:
    """A broker process, simulated agencies in this process, and a force."""

    world: World
    broker: BrokerProcess
    peers: dict[str, SimulatedAgency]
    force: ForceSettings
    client: AsyncForceClient
    """One that tries again until the broker is back."""

    def prepare(self, seed: int) -> PreparedSearch:
        """Return an ordinary search, with a probe of its own."""
        order = Request(self.world, agencies=ASKED).order()
        draft = OrderDraft(
            officer=OFFICER,
            authoriser=AUTHORISER,
            authorised_at=order.authorised_at,
            justification=order.justification,
            probe=ProbeFacts(source="cctv", quality=72, captured_at=order.probe.captured_at),
            agencies=ASKED,
        )
        return self.client.prepare(draft, load_probe(template(seed), model=MODEL))

    async def create(
        self,
        prepared: PreparedSearch,
        wait: float = 0.0,
        client: AsyncForceClient | None = None,
    ) -> SearchView:
        """Send a search, under fresh tokens."""
        request = Request(self.world, now=datetime.now(UTC))
        return await (client or self.client).create(
            prepared,
            officer_token=request.token(OFFICER, Part.OFFICER),
            authoriser_token=request.token(AUTHORISER, Part.AUTHORISER),
            wait=wait,
        )

    def dossiers(self) -> Iterator[agency_pb.Dossier]:
        """Yield everything any agency was ever sent."""
        for peer in self.peers.values():
            for request in peer.requests:
                yield agency_pb.Dossier.FromString(
                    agency_pb.MatchRequest.FromString(request).dossier
                )

    @property
    def calls(self) -> int:
        return sum(peer.calls for peer in self.peers.values())


@asynccontextmanager
async def opened(world: World, state_dir: Path | None = None) -> AsyncIterator[Scene]:
    """Start the agencies, the broker and the force's client; end them all afterwards."""
    peers = {agency: simulated(agency, world) for agency in PERMITTED}
    folders = {agency: world.folder(agency) for agency in PERMITTED}
    servers = await serve_simulated(peers, folders, dict(world.ports), lambda: world.directory)
    broker = BrokerProcess(world, state_dir or world.root / "state" / "broker")
    await broker.start()
    force = ForceSettings(
        member_folder=world.folder("northshire").path,
        directory=world.scheme.directory_path,
        scheme_key=world.scheme.pinned_path,
        state_dir=world.root / "state" / "northshire",
        retry_first_s=0.05,
        call_attempts=10,
    )
    try:
        async with AsyncForceClient(force) as client:
            yield Scene(world, broker, peers, force, client)
    finally:
        await broker.end(signal.SIGKILL)
        for server in servers:
            await server.stop(0)


def require_whole(scene: Scene, views: Sequence[SearchView]) -> None:
    """Hold everything that was ever sent or said against a stopped broker's published log."""
    folder = scene.broker.logs / "search"
    vkey = (folder / "vkey").read_text()
    _, size, _ = strangers_verifier().verify(folder, vkey)
    assert verify_folder(folder).ok
    reader = LogReader(folder)
    leaves = [leaf for _, leaf in reader.leaves()]
    assert len(leaves) == size == reader.size
    hashes = [leaf_hash(leaf) for leaf in leaves]

    known = set(hashes)
    for dossier in scene.dossiers():  # every grant that any agency ever received
        grant = search_pb2.SearchGrant.FromString(dossier.grant.payload)
        assert leaf_hash(dossier.leaf) in known
        assert leaves[dossier.leaf_index] == dossier.leaf
        assert grant.search_id.encode() in dossier.leaf
        _require_prefix(dossier.checkpoint, hashes)
    for view in views:  # every receipt ever given, under the log as it is now
        proof = parse_proof(view.receipt)
        assert leaves[proof.index] == view.receipt_leaf
        _require_prefix(proof.note, hashes)


def _require_prefix(note: bytes, hashes: Sequence[bytes]) -> None:
    """Hold an older checkpoint against the log: its root is that of the log's own beginning."""
    checkpoint = Checkpoint.parse(split_note(note)[0])
    assert root_of(hashes[: checkpoint.size]) == checkpoint.root


async def test_a_broker_killed_at_any_moment_loses_nothing_it_was_told_or_had_said(
    world: World,
) -> None:
    moments = random.Random(20261123)
    acknowledged: dict[str, str] = {}
    finished: dict[str, SearchView] = {}
    sent: list[PreparedSearch] = []
    async with opened(world) as scene:
        for number in range(ROUNDS):
            batch = [scene.prepare(number * AT_ONCE + one) for one in range(AT_ONCE)]
            sent += batch
            for peer in scene.peers.values():
                peer.knobs.delay_s = moments.choice((0.0, 0.0, 0.02))
            for view in await _cut_short(scene, batch, moments.uniform(0, KILL_WITHIN_S)):
                acknowledged[view.request_id] = view.search_id
                if view.state.ended:
                    finished[view.search_id] = view
            await scene.broker.start()
            for prepared in batch:  # the identical request again, whatever came of the first
                again = await scene.create(prepared, wait=10)
                request_id = prepared.order.order.request_id
                assert again.search_id == acknowledged.setdefault(request_id, again.search_id)
                _require_ended(again)

        assert len(set(acknowledged.values())) == len(sent) == ROUNDS * AT_ONCE
        views = [await scene.client.get(search_id) for search_id in acknowledged.values()]
        for view in views:
            _require_ended(view)
            if view.search_id in finished:  # what was said once is said for ever
                assert view.received.result == finished[view.search_id].received.result
        assert {one async for one in _listed(scene)} == set(acknowledged.values())
        assert await scene.broker.end(signal.SIGTERM) == 0
        require_whole(scene, [*views, *finished.values()])
        granted = {
            search_pb2.SearchGrant.FromString(one.grant.payload).search_id
            for one in scene.dossiers()
        }
        assert granted <= set(acknowledged.values())


async def _cut_short(
    scene: Scene, batch: Sequence[PreparedSearch], after_s: float
) -> list[SearchView]:
    """Send searches, kill the broker, and return those that were acknowledged before it died."""
    heard: list[SearchView] = []
    impatient = scene.force.model_copy(update={"call_attempts": 1})
    async with AsyncForceClient(impatient) as client:
        async for _ in client.list():  # the connection is up before the clock runs
            break
        waits = (0.0, *[5.0] * (len(batch) - 1))  # one wants to know that it is recorded, no more
        calls = [
            asyncio.create_task(scene.create(one, wait, client))
            for one, wait in zip(batch, waits, strict=True)
        ]
        await asyncio.sleep(after_s)
        await scene.broker.end(signal.SIGKILL)
        for call in calls:
            try:
                heard.append(await call)
            except ProbegateError as error:
                if error.reason is not Reason.SERVICE_UNREACHABLE:
                    raise
    return heard


async def _listed(scene: Scene) -> AsyncIterator[str]:
    async for one in scene.client.list(page_size=7):
        yield one.search_id


def _require_ended(view: SearchView) -> None:
    assert view.state is SearchState.FINISHED
    assert view.verified
    assert [one.agency for one in view.outcomes] == list(ASKED)
    for outcome in view.outcomes:
        assert outcome.state is not OutcomeState.NO_CANDIDATE  # these agencies never said so
        assert outcome.state is OutcomeState.CANDIDATES or outcome.reason
    assert view.outcomes[-1].state is OutcomeState.DENIED


async def test_a_broker_told_to_stop_lets_its_searches_end(world: World) -> None:
    async with opened(world) as scene:
        for peer in scene.peers.values():
            peer.knobs.delay_s = 0.5
        waiting = asyncio.create_task(scene.create(scene.prepare(1), wait=10))
        unattended = await scene.create(scene.prepare(2))
        while scene.calls < 2 * len(PERMITTED):  # noqa: ASYNC110 - the peers have no event for it
            await asyncio.sleep(0.01)
        assert await scene.broker.end(signal.SIGTERM) == 0
        view = await waiting
        _require_ended(view)
        assert {one.state for one in view.outcomes[:-1]} == {OutcomeState.CANDIDATES}
        calls = scene.calls
        await scene.broker.start()
        ended = await scene.client.get(unattended.search_id)
        _require_ended(ended)
        assert {one.state for one in ended.outcomes[:-1]} == {OutcomeState.CANDIDATES}
        assert scene.calls == calls  # nobody had to be asked again
        require_whole(scene, [view, ended])


class FullDisk(Protocol):
    """A disk that can be filled and emptied."""

    def fill(self) -> None:
        """Leave no room."""

    def empty(self) -> None:
        """Make room again."""


@dataclass(frozen=True, slots=True)
class FileSizeLimit:
    """The kernel lets the broker write nothing more; works for every user."""

    broker: BrokerProcess

    def fill(self) -> None:
        self._limit(1)

    def empty(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, length: int) -> None:
        limits = (length, resource.RLIM_INFINITY)
        resource.prlimit(self.broker.pid, resource.RLIMIT_FSIZE, limits)


@dataclass(frozen=True, slots=True)
class TinyDisk:
    """A file system of two megabytes, where the kernel lets us mount one."""

    folder: Path

    def mount(self) -> bool:
        self.folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={TMPFS_BYTES}"]
        command = ["mount", *options, "probegate-test", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def fill(self) -> None:
        with suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"\0" * 4096):
                pass

    def empty(self) -> None:
        (self.folder / "ballast").unlink()


async def _search_on_a_full_disk(scene: Scene, disk: FullDisk) -> None:
    before = await scene.create(scene.prepare(1), wait=10)
    _require_ended(before)
    calls = scene.calls
    disk.fill()
    refused = scene.prepare(2)
    for _ in range(3):
        with pytest.raises(ProbegateError) as caught:
            await scene.create(refused, wait=10)
        assert caught.value.reason in {
            Reason.DISK_FULL,
            Reason.LOG_UNAVAILABLE,
            Reason.STATE_UNAVAILABLE,
        }
    assert scene.calls == calls  # nobody was asked
    disk.empty()
    await scene.broker.end(signal.SIGTERM)
    await scene.broker.start()
    after = await scene.create(refused, wait=10)
    _require_ended(after)
    assert (await scene.client.get(before.search_id)).received.result == before.received.result
    assert await scene.broker.end(signal.SIGTERM) == 0
    require_whole(scene, [before, after])


async def test_a_broker_that_may_write_nothing_more_asks_nobody(world: World) -> None:
    async with opened(world) as scene:
        await _search_on_a_full_disk(scene, FileSizeLimit(scene.broker))


async def test_a_broker_whose_disk_is_full_asks_nobody(world: World, tmp_path: Path) -> None:
    disk = TinyDisk(tmp_path / "disk")
    if not disk.mount():  # not root: the test above is what can be done
        return
    try:
        async with opened(world, disk.folder / "state") as scene:
            await _search_on_a_full_disk(scene, disk)
    finally:
        disk.unmount()


def test_an_adapter_killed_in_the_middle_of_a_match_remembers_what_it_answered(
    place: Place, up: Processes
) -> None:
    moments = random.Random(20261123)
    probe, facts = probe_of(place)
    views: list[SearchView] = []
    agencies = ("custody", "passport", "asylum")
    with ForceClient(settings_of(place)) as client:
        for _ in range(scaled(3, 40)):
            prepared = client.prepare(robbery(client, facts, agencies=agencies), probe)
            first = client.create(prepared, **tokens(client))
            time.sleep(moments.uniform(0, KILL_WITHIN_S))
            up.kill("custody")
            view = client.create(prepared, **tokens(client), wait=20)
            assert view.search_id == first.search_id
            assert view.verified
            assert [one.agency for one in view.outcomes] == list(agencies)
            assert view.outcomes[0].state in {OutcomeState.CANDIDATES, OutcomeState.UNAVAILABLE}
            assert view.outcomes[1].state is OutcomeState.CANDIDATES  # the others never noticed
            views.append(view)
            up.start(["custody"])
        for _ in range(TIMES_ASKED_AGAIN):  # until the broker calls custody again (``backoff``)
            again = client.create(
                client.prepare(robbery(client, facts, agencies=agencies), probe),
                **tokens(client),
                wait=20,
            )
            views.append(again)
            if again.outcomes[0].state is OutcomeState.CANDIDATES:
                break
            time.sleep(1)
    assert again.outcomes[0].state is OutcomeState.CANDIDATES
    up.stop(["custody", BROKER])  # a log's files follow its commits, and are all there at its end
    _require_remembered(place, views)
    for log in LOGS:
        assert verify_folder(place.logs("custody") / log).ok
        assert verify_folder(place.logs(BROKER) / log).ok


def _require_remembered(place: Place, views: Sequence[SearchView]) -> None:
    """Every report the broker has from the agency is in the agency's memory and log."""
    facts = [fact for _, fact in LogReader(place.logs("custody") / "search").facts()]
    logged = {fact.get("report_sha256") for fact in facts}
    state = AdapterState(open_engine(place.state("custody")))
    try:
        for view in views:
            outcome = view.outcomes[0]
            if outcome.state is OutcomeState.CANDIDATES:
                kept = state.answered(view.order_sha256)
                assert kept is not None
                assert kept.report == view.received.answers[0].report
                assert view.received.answers[0].outcome.report_sha256.hex() in logged
    finally:
        state.engine.dispose()
