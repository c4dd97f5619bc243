"""A broker in this process with simulated agencies around it, on real mTLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from probegate.broker.v1 import search_service_pb2

from broker.models import SearchView
from broker.service import Broker
from broker.wire import search_message
from force_client import SearchView as ForcesView
from force_client import wire
from force_client.orders import SignedOrder
from force_client.verify import Witness, verify_search
from tests.peers import SimulatedAgency, search_log_signer, serve_simulated
from tests.world import Request, World
from trust import dsse
from trust.clock import Clock, utc_now
from trust.directory import KeyUse
from trust.messages import Outcome, SearchResult
from trust.mtls import PeerIdentity, channel_credentials
from trust.payload_types import PayloadType
from trust.wire import decode_result

PERMITTED = ("custody", "pnd", "passport", "asylum")
"""Agencies that the example agreements let an ordinary robbery search go to."""
CALLER_S = 20.0
"""How long a caller waits, seconds; no test gets near it."""
Peers = Callable[[str, World], SimulatedAgency]


@dataclass(slots=True)
class TurnedClock:
    """The time, turned forward by hand."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def simulated(agency: str, world: World) -> SimulatedAgency:
    """Return an honest simulated agency."""
    folder = world.folder(agency)
    return SimulatedAgency(
        agency, folder.signer(), world.folder("broker").signer(), log=search_log_signer(folder)
    )


@dataclass(slots=True)
class Rig:
    """A broker and who it talks to."""

    world: World
    broker: Broker
    peers: Mapping[str, SimulatedAgency]
    clock: Clock
    settings: Mapping[str, object]
    servers: list[grpc.aio.Server] = field(default_factory=list)

    def identity(self, force: str = "northshire") -> PeerIdentity:
        """Return a force as its channel shows it."""
        member = self.world.directory.member(force)
        return PeerIdentity(member, member.spiffe_id, self.world.folder(force).certificate_sha256())

    async def create(self, request: Request, wait_s: float = CALLER_S, **params: Any) -> SearchView:
        """Create a search and wait for its end."""
        given = request.params(wait_s=wait_s, **params)
        directory = self.broker.directories.current
        return await self.broker.create.execute(
            given, self.identity(request.force), directory, CALLER_S + 1
        )

    async def search(self, agencies: Sequence[str] = PERMITTED, **changes: Any) -> SearchView:
        """Create an ordinary search."""
        now = changes.pop("now", self.clock())
        return await self.create(Request(self.world, agencies=agencies, now=now, **changes))

    def result(self, view: SearchView) -> SearchResult:
        """Return a search's result, verified with the broker's key."""
        assert view.record.result is not None
        keys = self.world.directory.resolver("broker", KeyUse.SIGN, datetime.now(UTC))
        dsse.verify(view.record.result, PayloadType.SEARCH_RESULT, keys)
        return decode_result(view.record.result.payload)

    def calls(self) -> int:
        """Return how often any agency was asked to match."""
        return sum(peer.calls for peer in self.peers.values())

    async def called(self, agency: str) -> None:
        """Return once an agency was asked to match."""
        while not self.peers[agency].calls:  # noqa: ASYNC110 - what is counted is across the wire
            await asyncio.sleep(0.005)

    async def crash(self) -> None:
        """End the broker without letting searches end."""
        await self.broker.searches.close(0)
        await self.broker.close()

    async def reopen(self, clock: Clock | None = None) -> None:
        """Open the broker again on the same state."""
        self.clock = clock or self.clock
        self.broker = await Broker.open(self.world.broker_settings(**self.settings), self.clock)


def verified(rig: Rig, request: Request, view: SearchView) -> ForcesView:
    """Return a search as its force reads and verifies it."""
    sent = search_service_pb2.GetSearchResponse(search=search_message(view))
    return verify_search(wire.read_search(sent), witness(rig, request))


def witness(rig: Rig, request: Request) -> Witness:
    """Return what a force checks a broker's word against."""
    order = SignedOrder(request.order(), request.envelope())
    return Witness(order, rig.world.directory, "broker", rig.clock())


def outcomes(view: SearchView) -> dict[str, Outcome]:
    """Return a search's outcomes by agency."""
    return {answer.outcome.agency: answer.outcome for answer in view.record.answers}


@asynccontextmanager
async def rigged(
    world: World,
    *,
    serving: Sequence[str] = PERMITTED,
    peer: Peers = simulated,
    clock: Clock = utc_now,
    **settings: object,
) -> AsyncIterator[Rig]:
    """Open a broker with simulated agencies, and close all of it afterwards."""
    peers = {agency: peer(agency, world) for agency in serving}
    folders = {agency: world.folder(agency) for agency in serving}
    servers = await serve_simulated(peers, folders, dict(world.ports), lambda: world.directory)
    broker = await Broker.open(world.broker_settings(**settings), clock)
    rig = Rig(world, broker, peers, clock, settings, servers)
    try:
        yield rig
    finally:
        for server in servers:
            await server.stop(0)
        await rig.broker.searches.close(0)
        await rig.broker.close()


@asynccontextmanager
async def channel_to(
    world: World, member: str, target: str, port: int
) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to ``target`` with a member's certificate."""
    folder = world.folder(member)
    credentials = channel_credentials(folder.tls_cert, folder.tls_key, world.directory.ca_pem)
    name = world.directory.member(target).server_name
    options = (
        ("grpc.ssl_target_name_override", name),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    )
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield channel
