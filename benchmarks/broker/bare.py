"""The bare fan-out: one mTLS call in, one mTLS call to each agency, and nothing else at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc

from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory import Directory
from trust.directory_store import DirectoryStore
from trust.mtls import channel_credentials, server_credentials

MATCH_METHOD: Final = "/probegate.agency.v1.MatchService/Match"
BARE_METHOD: Final = "/probegate.benchmark.v1.Bare/FanOut"
TIMEOUT_S: Final = 20.0
_SERVICE, _NAME = BARE_METHOD.strip("/").split("/")


class FanOut:
    """Sends each agency what the broker sent it, and answers with as many bytes as the broker."""

    def __init__(self, server: grpc.aio.Server, port: int, calls: Mapping[str, Any]) -> None:
        self._server = server
        self._port = port
        self._calls = calls
        self._requests: list[tuple[Any, bytes]] = []
        self._answer = b""
        method = grpc.unary_unary_rpc_method_handler(self.fan_out)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {_NAME: method}),)
        )

    async def fan_out(self, _request: bytes, _context: Any) -> bytes:
        """Make all calls at once and answer when all have come back."""
        await asyncio.gather(
            *[call(request, timeout=TIMEOUT_S) for call, request in self._requests]
        )
        return self._answer

    async def handle(self, command: tuple[Mapping[str, bytes], int] | None) -> int:
        """Take up the requests that the broker was seen to send, if any; return the port."""
        if command is not None:
            requests, answer_bytes = command
            self._requests = [(call, requests[name]) for name, call in self._calls.items()]
            self._answer = b"\x00" * answer_bytes
        return self._port

    async def close(self) -> None:
        """Stop serving."""
        await self._server.stop(None)


async def start(
    directory: Path, scheme_key: Path, state: Path, broker: Path, agencies: tuple[str, ...]
) -> FanOut:
    """Serve the fan-out with the broker's certificate; commands are ``FanOut.handle``."""
    known = DirectoryStore(directory, scheme_key, state).load(utc_now())
    folder = MemberFolder(broker)
    server, port = secure_server(folder, known)
    proxy = FanOut(server, port, calls_to(agencies, folder, known))
    await server.start()
    return proxy


def secure_server(folder: MemberFolder, known: Directory) -> tuple[grpc.aio.Server, int]:
    """Return a server with a member's certificate, not started, and its port."""
    server = grpc.aio.server()
    credentials = server_credentials(folder.tls_cert, folder.tls_key, known)
    return server, server.add_secure_port("127.0.0.1:0", credentials)


def calls_to(agencies: tuple[str, ...], folder: MemberFolder, known: Directory) -> dict[str, Any]:
    """Return the call of each agency's ``Match``, made with a member's certificate."""
    calls = {}
    for name in agencies:
        agency = known.member(name)
        channel = grpc.aio.secure_channel(
            agency.endpoint,
            channel_credentials(folder.tls_cert, folder.tls_key, known.ca_pem),
            options=(("grpc.ssl_target_name_override", agency.server_name),),
        )
        calls[name] = channel.unary_unary(MATCH_METHOD)
    return calls
