"""A real adapter served on a port, and a broker that can lie to it over real mTLS.

The papers, honest or forged, are made by ``tests.unit.adapters_kit``; what this adds is the wire:
every call goes through gRPC, certificates and the servicer, as a stranger's would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from probegate.agency.v1 import match_service_pb2 as pb

from agency_adapters.galleries.files import FileGallery
from agency_adapters.galleries.gallery import Found, Query
from agency_adapters.models import MatchParams
from agency_adapters.operators import Operator
from agency_adapters.serve import Adapter
from audit.evidence import LoggedEntry
from tests.brokers import CALLER_S, TurnedClock, channel_to
from tests.unit.adapters_kit import BrokerSide, Papers, adapter_settings, entries, make_world
from tests.world import Request, World
from trust.errors import ProbegateError, Reason
from trust.rpc import error_of
from trust.server import RunningServer
from trust.wire import decode_report, envelope_from_wire, envelope_to_wire

__all__ = ["BrokerSide", "Papers", "Scans", "Scene", "entries", "make_world", "scene"]

MATCH = "/probegate.agency.v1.MatchService/Match"
COLLECT = "/probegate.agency.v1.MatchService/Collect"


@dataclass(slots=True)
class Scans:
    """Counts how often a gallery was really searched."""

    count: int = 0

    @classmethod
    def watched(cls, patch: pytest.MonkeyPatch) -> Scans:
        """Count from now on; the search itself is done as ever."""
        scans, real = cls(), FileGallery.search

        async def counted(gallery: FileGallery, query: Query) -> Found:
            scans.count += 1
            return await real(gallery, query)

        patch.setattr(FileGallery, "search", counted)
        return scans


def encoded(params: MatchParams) -> bytes:
    """Encode a request to match."""
    return pb.MatchRequest(
        dossier=params.dossier,
        sealed_key_id=params.sealed_key_id,
        sealed_probe=params.sealed_probe,
        consistency=[
            pb.ConsistencyProof(old_size=p.old_size, new_size=p.new_size, hashes=p.hashes)
            for p in params.consistency
        ],
        earlier_searches=[
            pb.EarlierSearch(
                order=_logged(one.order),
                statements=[envelope_to_wire(envelope) for envelope in one.statements],
            )
            for one in params.evidence.earlier
        ],
        confirmations=[
            pb.ConfirmedSearch(
                entry=_logged(one.entry), confirmation=envelope_to_wire(one.confirmation)
            )
            for one in params.evidence.confirmed
        ],
    ).SerializeToString()


def _logged(entry: LoggedEntry) -> pb.LoggedEntry:
    return pb.LoggedEntry(leaf=entry.leaf, leaf_index=entry.index, inclusion=entry.inclusion)


@dataclass(slots=True)
class Scene:
    """The custody adapter, served, and the broker's side with its real keys and log."""

    world: World
    root: Path
    adapter: Adapter
    server: RunningServer
    broker: BrokerSide
    scans: Scans
    stack: AsyncExitStack
    clock: TurnedClock
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def send(
        self, request: bytes, member: str = "broker", method: str = MATCH
    ) -> pb.MatchResponse:
        """Send bytes with a member's certificate; a refusal is raised as the peer reads it."""
        return pb.MatchResponse.FromString(await self._reply(request, member, method))

    async def collect(
        self,
        order_sha256: bytes,
        grant_sha256: bytes,
        member: str = "broker",
        order: bytes = b"",
    ) -> pb.CollectResponse:
        """Ask what became of a held answer; with the order, for the answer itself."""
        asked = pb.CollectRequest(order_sha256=order_sha256, grant_sha256=grant_sha256, order=order)
        reply = await self._reply(asked.SerializeToString(), member, COLLECT)
        return pb.CollectResponse.FromString(reply)

    async def _reply(self, request: bytes, member: str, method: str) -> bytes:
        if member not in self.channels:
            self.channels[member] = await self.stack.enter_async_context(
                channel_to(self.world, member, "custody", self.server.port)
            )
        try:
            call = self.channels[member].unary_unary(method)
            reply: bytes = await call(request, timeout=CALLER_S)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error
        return reply

    async def ask(self, params: MatchParams, member: str = "broker") -> pb.MatchResponse:
        """Send one request to match."""
        return await self.send(encoded(params), member)

    async def papers(self, request: Request | None = None, **lies: Any) -> Papers:
        """Make papers for a request, honest but for ``lies``."""
        return await self.papers_of(self.broker, request, **lies)

    async def papers_of(
        self, side: BrokerSide, request: Request | None = None, **lies: Any
    ) -> Papers:
        """Make papers from one of the liar's logs, dated by the scene's clock."""
        now = self.clock()
        lies["grant_changes"] = {
            "issued_at": now,
            "expires_at": now + timedelta(seconds=60),
            **lies.get("grant_changes", {}),
        }
        return await side.papers(self.adapter, request or Request(self.world, now=now), **lies)

    async def honest(self, request: Request | None = None, **more: Any) -> Any:
        """Search honestly and return the report."""
        reply = await self.ask((await self.papers(request, **more)).params())
        return decode_report(envelope_from_wire(reply.report).payload)

    async def refused(self, params: MatchParams, *reasons: Reason, recorded: bool = True) -> Reason:
        """Assert a refusal: its reason, nothing searched, and the entry on the agency's own log."""
        before, scans = len(entries(self.adapter)), self.scans.count
        with pytest.raises(ProbegateError) as raised:
            await self.ask(params)
        reason = raised.value.reason
        assert reason in reasons
        assert self.scans.count == scans
        added = entries(self.adapter)[before:]
        said = [(entry["type"], entry["reason"]) for entry in added]
        assert said == ([("match.refused", reason.name)] if recorded else [])
        return reason

    async def restart(self) -> None:
        """Stop the adapter and open it again on the same state."""
        await self.server.stop(0)
        await self.adapter.close()
        self.adapter = await Adapter.open(adapter_settings(self.world, self.root), self.clock)
        self.server = await self.adapter.listen()
        self.channels.clear()

    async def another_broker(self, name: str) -> BrokerSide:
        """Open a second log under the same keys: what only a liar has."""
        side = BrokerSide.open(self.world, self.root / name)
        self.stack.push_async_callback(side.logs.close)
        return side


@asynccontextmanager
async def scene(
    world: World,
    root: Path,
    patch: pytest.MonkeyPatch,
    **settings: object,
) -> AsyncIterator[Scene]:
    """Serve an adapter with state of its own under ``root``."""
    clock = TurnedClock()
    adapter = await Adapter.open(adapter_settings(world, root, **settings), clock)
    server = await adapter.listen()
    async with AsyncExitStack() as stack:
        broker = BrokerSide.open(world, root / "broker")
        stack.push_async_callback(broker.logs.close)
        made = Scene(world, root, adapter, server, broker, Scans.watched(patch), stack, clock)
        try:
            yield made
        finally:
            await made.server.stop(0)
            await made.adapter.close()


@asynccontextmanager
async def the_operator(here: Scene) -> AsyncIterator[Operator]:
    """The agency's own people, while the adapter runs."""
    async with AsyncExitStack() as stack:
        desk = asyncio.create_task(here.adapter.serve_desk())
        stack.callback(desk.cancel)
        operator = Operator.open(here.adapter.settings)
        stack.callback(operator.close)
        yield operator
