"""The bare fan-out: one mTLS call in, one mTLS call to each agency, and nothing else at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc

from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory_store import DirectoryStore
from trust.mtls import channel_credentials, server_credentials

from benchmarks.broker.agencies import CANNED_METHOD, Sizes
from benchmarks.broker.processes import Handle

BARE_METHOD: Final = "/probegate.benchmark.v1.Bare/FanOut"
TIMEOUT_S: Final = 20.0
_SERVICE, _NAME = BARE_METHOD.strip("/").split("/")


class FanOut:
    """Sends each agency as many bytes as the broker does, and answers with as many."""

    def __init__(self, calls: Mapping[str, Any]) -> None:
        self._calls = calls
        self._requests: list[tuple[Any, bytes]] = []
        self._answer = b""

    def resize(self, sizes: Mapping[str, Sizes], answer_bytes: int) -> None:
        """Take up the sizes that the broker was seen to send."""
        self._requests = [
            (call, b"\x00" * sizes[name].request) for name, call in self._calls.items()
        ]
        self._answer = b"\x00" * answer_bytes

    async def fan_out(self, _request: bytes, _context: Any) -> bytes:
        """Make all calls at once and answer when all have come back."""
        await asyncio.gather(
            *[call(request, timeout=TIMEOUT_S) for call, request in self._requests]
        )
        return self._answer


async def start(
    directory: Path, scheme_key: Path, state: Path, broker: Path, agencies: tuple[str, ...]
) -> Handle:
    """Serve the fan-out with the broker's certificate.

    The command ``None`` returns the port; ``(sizes, answer_bytes)`` takes up new sizes.
    """
    known = DirectoryStore(directory, scheme_key, state).load(utc_now())
    folder = MemberFolder(broker)
    calls = {}
    for name in agencies:
        agency = known.member(name)
        channel = grpc.aio.secure_channel(
            agency.endpoint,
            channel_credentials(folder.tls_cert, folder.tls_key, known.ca_pem),
            options=(("grpc.ssl_target_name_override", agency.server_name),),
        )
        calls[name] = channel.unary_unary(CANNED_METHOD)
    proxy = FanOut(calls)
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(proxy.fan_out)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {_NAME: method}),)
    )
    port = server.add_secure_port(
        "127.0.0.1:0", server_credentials(folder.tls_cert, folder.tls_key, known)
    )
    await server.start()

    async def handle(command: tuple[Mapping[str, Sizes], int] | None) -> int:
        if command is not None:
            proxy.resize(*command)
        assert server is not None  # noqa: S101 - kept alive for as long as commands come
        return port

    return handle
