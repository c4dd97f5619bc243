"""The process that calls: a force with so many callers, each sending its next request at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc

from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory_store import DirectoryStore
from trust.mtls import channel_credentials

TIMEOUT_S = 30.0
"""Deadline of one call, seconds."""


@dataclass(frozen=True, slots=True)
class Burst:
    """What to send: encoded requests, to which target, by how many callers at once."""

    target: str
    requests: list[bytes] = field(repr=False)
    callers: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a burst: seconds in all, seconds of each call, and the answers."""

    elapsed_s: float
    latencies_s: list[float] = field(repr=False)
    answers: list[bytes] = field(repr=False)


class Callers:
    """A force's connection to every target, and any number of callers on it."""

    def __init__(self, channels: list[grpc.aio.Channel], calls: Mapping[str, Any]) -> None:
        self._channels = channels
        self._calls = calls

    async def handle(self, burst: Burst) -> Sent:
        """Send a burst; each caller takes the next request when it has its answer."""
        call = self._calls[burst.target]
        waiting = iter(burst.requests)
        latencies: list[float] = []
        answers: list[bytes] = []

        async def caller() -> None:
            for request in waiting:
                began = perf_counter()
                answer = await call(request, timeout=TIMEOUT_S)
                latencies.append(perf_counter() - began)
                answers.append(answer)

        began = perf_counter()
        async with asyncio.TaskGroup() as callers:
            for _ in range(burst.callers):
                callers.create_task(caller())
        return Sent(perf_counter() - began, latencies, answers)

    async def close(self) -> None:
        """Hang up."""
        for channel in self._channels:
            await channel.close()


async def start(
    directory: Path,
    scheme_key: Path,
    state: Path,
    force: Path,
    targets: Mapping[str, tuple[int, str]],
) -> Callers:
    """Connect to every target: name to (port, method). Each command is a ``Burst``."""
    known = DirectoryStore(directory, scheme_key, state).load(utc_now())
    folder = MemberFolder(force)
    server_name = known.member("broker").server_name
    channels, calls = [], {}
    for name, (port, method) in targets.items():
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{port}",
            channel_credentials(folder.tls_cert, folder.tls_key, known.ca_pem),
            options=(("grpc.ssl_target_name_override", server_name),),
        )
        channels.append(channel)
        calls[name] = channel.unary_unary(method)
    return Callers(channels, calls)
