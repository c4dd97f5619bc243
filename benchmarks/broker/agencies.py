"""The process with the agencies: each on its own port, signing real reports or sending canned ones.

The canned method takes any bytes and answers with as many as a real report had, so that the bare
fan-out moves what the broker moves and finds its peers' work out of the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from tests.peers import SimulatedAgency
from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory import Directory
from trust.directory_store import DirectoryStore
from trust.mtls import server_credentials

CANNED_METHOD: Final = "/probegate.benchmark.v1.Bare/Canned"
_CANNED_SERVICE, _CANNED_NAME = CANNED_METHOD.strip("/").split("/")


@dataclass(slots=True)
class Sizes:
    """Mean bytes of one agency's request and reply."""

    request: int = 0
    reply: int = 0


@dataclass(slots=True)
class Tally:
    """What one agency saw since it was last asked, and what it sends when canned."""

    calls: int = 0
    received: int = 0
    sent: int = 0
    canned: bytes = field(default=b"", repr=False)

    def mean(self) -> Sizes:
        """Return the mean sizes since the last time, and start anew."""
        calls = max(self.calls, 1)
        sizes = Sizes(self.received // calls, self.sent // calls)
        self.calls = self.received = self.sent = 0
        return sizes


class Agencies:
    """The servers, kept for as long as somebody may ask, and what each of them saw."""

    def __init__(self) -> None:
        self._servers: list[grpc.aio.Server] = []
        self._tallies: dict[str, Tally] = {}

    async def serve(self, agency: SimulatedAgency, folder: MemberFolder, known: Directory) -> None:
        """Start one agency's server on its port."""
        self._tallies[agency.agency] = tally = Tally()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(_handlers(agency, tally))
        credentials = server_credentials(folder.tls_cert, folder.tls_key, known)
        server.add_secure_port(known.member(agency.agency).endpoint, credentials)
        await server.start()
        self._servers.append(server)

    async def handle(self, _command: object) -> dict[str, Sizes]:
        """Return the mean sizes since the last time, and make canned replies of that size."""
        sizes = {name: tally.mean() for name, tally in self._tallies.items()}
        for name, tally in self._tallies.items():
            tally.canned = b"\x00" * sizes[name].reply
        return sizes

    async def close(self) -> None:
        """Stop every server."""
        for server in self._servers:
            await server.stop(None)


async def start(
    directory: Path, scheme_key: Path, state: Path, folders: Mapping[str, Path], broker: Path
) -> Agencies:
    """Serve every agency of ``folders``; any command is ``Agencies.handle``."""
    known = DirectoryStore(directory, scheme_key, state).load(utc_now())
    other = MemberFolder(broker).signer()
    agencies = Agencies()
    for name, path in folders.items():
        folder = MemberFolder(path)
        agency = SimulatedAgency(name, folder.signer(), other, keep_requests=False)
        await agencies.serve(agency, folder, known)
    return agencies


def _handlers(agency: SimulatedAgency, tally: Tally) -> tuple[grpc.GenericRpcHandler, ...]:
    async def match(request: bytes, context: Any) -> bytes:
        reply = await agency.match(request, context)
        tally.calls += 1
        tally.received += len(request)
        tally.sent += len(reply)
        return reply

    async def canned(_request: bytes, _context: Any) -> bytes:
        return tally.canned

    def unary(method: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(method)

    return (
        grpc.method_handlers_generic_handler(
            "probegate.agency.v1.MatchService",
            {"Match": unary(match), "Describe": unary(agency.describe)},
        ),
        grpc.method_handlers_generic_handler(_CANNED_SERVICE, {_CANNED_NAME: unary(canned)}),
    )
