"""The process with the agencies: each on its own port, signing a real report for every call.

It keeps the last request each agency was sent, so that the bare fan-out can make the same calls
with the same bytes: what its peers do for it is then what they do for the broker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

import grpc

from tests.peers import SimulatedAgency, search_log_signer
from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory import Directory
from trust.directory_store import DirectoryStore
from trust.mtls import server_credentials


class Agencies:
    """The servers, kept for as long as somebody may ask, and what each of them saw."""

    def __init__(self) -> None:
        self._servers: list[grpc.aio.Server] = []
        self._agencies: dict[str, SimulatedAgency] = {}

    async def serve(self, agency: SimulatedAgency, folder: MemberFolder, known: Directory) -> None:
        """Start one agency's server on its port."""
        self._agencies[agency.agency] = agency
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_handlers(agency),))
        credentials = server_credentials(folder.tls_cert, folder.tls_key, known)
        server.add_secure_port(known.member(agency.agency).endpoint, credentials)
        await server.start()
        self._servers.append(server)

    async def handle(self, _command: object) -> dict[str, bytes]:
        """Return the last request that each agency was sent."""
        return {name: agency.requests[-1] for name, agency in self._agencies.items()}

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
        log = search_log_signer(folder)
        agency = SimulatedAgency(name, folder.signer(), other, requests=deque(maxlen=1), log=log)
        await agencies.serve(agency, folder, known)
    return agencies


def _handlers(agency: SimulatedAgency) -> grpc.GenericRpcHandler:
    methods = {
        name: grpc.unary_unary_rpc_method_handler(method)
        for name, method in (("Match", agency.match), ("Describe", agency.describe))
    }
    return grpc.method_handlers_generic_handler("probegate.agency.v1.MatchService", methods)
