"""How an agency is reached. Dispatch sees an ``AgencyLink`` and cannot tell one kind from another.

Today an agency is dialled; an adapter behind a closed firewall could attach itself over a stream of
its own and be the same to everybody else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from broker import wire
from broker.models import Acknowledged
from trust import telemetry
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason
from trust.mtls import channel_credentials

KEEPALIVE_MS: Final = 60_000
"""How often a quiet connection is tried, milliseconds; longer than a server's shortest interval."""
REMEMBERED_SIZES: Final = 256
"""Most acknowledged log sizes remembered of an agency."""
REMEMBERED_DEBTS: Final = 256
"""Most debts taken from an agency's word: more than its witness allows would only keep us busy."""
SENT_SIZES: Final = 4
"""How many of the newest sizes sent to an agency later checkpoints are proved from as well."""
MAX_REPLY_BYTES: Final = 256 * 1024
"""Largest answer taken from an agency, bytes; a candidate's image may be larger."""
MAX_IMAGE_REPLY_BYTES: Final = 544 * 1024
"""Largest sealed image with what it comes in, bytes."""
RECONNECT_FIRST_MS: Final = 200
"""First pause before a lost connection is made again, milliseconds."""
RECONNECT_LONGEST_MS: Final = 1_000
"""Longest such pause, milliseconds: calls fail at once within it, whoever is there again."""


class AgencyLink(Protocol):
    """A way to one agency."""

    async def match(self, request: bytes, timeout_s: float) -> bytes:
        """Send one encoded match request and return the encoded answer."""

    async def collect(self, request: bytes, timeout_s: float) -> bytes:
        """Ask with one encoded request for a held answer and return what became of it, encoded."""

    async def describe(self, timeout_s: float) -> bytes:
        """Return the agency's encoded description."""

    async def call(self, method: str, request: bytes, timeout_s: float) -> bytes:
        """Send one encoded request to a method, by its full name, and return what is answered."""

    def stream(self, method: str, request: bytes, timeout_s: float) -> AsyncIterator[bytes]:
        """Send one encoded request to a method that streams, and yield what is answered."""

    async def close(self) -> None:
        """Let go of the agency."""


class DialledLink:
    """An agency that is dialled over gRPC with mTLS.

    The channel is built again when the certificate files or the directory's entry change, because
    gRPC cannot rotate a client's certificate in place; calls under way finish on the old one.

    Args:
        tls: the broker's certificate and key files.
        agency_id: whom to dial.
        directory: the directory as it is now.
    """

    def __init__(
        self, tls: tuple[Path, Path], agency_id: str, directory: Callable[[], Directory]
    ) -> None:
        self._tls = tls
        self._agency_id = agency_id
        self._directory = directory
        self._channel: Any = None
        self._built_for: object = None
        self._match: Any = None
        self._collect: Any = None
        self._describe: Any = None
        self._retired: set[asyncio.Task[None]] = set()

    async def match(self, request: bytes, timeout_s: float) -> bytes:
        """Send one encoded match request and return the encoded answer."""
        if self._channel is None:
            self.refresh()
        reply: bytes = await self._match(request, timeout=timeout_s, metadata=telemetry.inject())
        return _bounded(reply)

    async def collect(self, request: bytes, timeout_s: float) -> bytes:
        """Ask with one encoded request for a held answer and return what became of it, encoded."""
        if self._channel is None:
            self.refresh()
        reply: bytes = await self._collect(request, timeout=timeout_s)
        return _bounded(reply)

    async def describe(self, timeout_s: float) -> bytes:
        """Return the agency's encoded description."""
        if self._channel is None:
            self.refresh()
        reply: bytes = await self._describe(wire.DESCRIBE_REQUEST, timeout=timeout_s)
        return _bounded(reply)

    async def call(self, method: str, request: bytes, timeout_s: float) -> bytes:
        """Send one encoded request to a method, by its full name, and return what is answered."""
        if self._channel is None:
            self.refresh()
        # Made anew for each call: these are rare beside matching, and so is a channel's end.
        reply: bytes = await self._channel.unary_unary(method)(
            request, timeout=timeout_s, metadata=telemetry.inject()
        )
        return _bounded(reply)

    async def stream(self, method: str, request: bytes, timeout_s: float) -> AsyncIterator[bytes]:
        """Send one encoded request to a method that streams, and yield what is answered."""
        if self._channel is None:
            self.refresh()
        answers = self._channel.unary_stream(method)(
            request, timeout=timeout_s, metadata=telemetry.inject()
        )
        try:
            async for one in answers:
                yield one
        finally:
            answers.cancel()

    def refresh(self) -> None:
        """Build the channel, or build it anew if what it rests on has changed."""
        directory = self._directory()
        agency = directory.member(self._agency_id)
        stamp = tuple(path.stat().st_mtime_ns for path in self._tls)
        wanted = (agency.endpoint, agency.server_name, directory.ca_pem, stamp)
        if wanted == self._built_for:
            return
        old = self._channel
        self._channel = self._dial(agency, directory)
        # Bytes in, bytes out: the request was encoded once for all agencies.
        self._match = self._channel.unary_unary(wire.MATCH_METHOD)
        self._collect = self._channel.unary_unary(wire.COLLECT_METHOD)
        self._describe = self._channel.unary_unary(wire.DESCRIBE_METHOD)
        self._built_for = wanted
        if old is not None:
            closing = asyncio.get_running_loop().create_task(old.close(KEEPALIVE_MS / 1000))
            self._retired.add(closing)
            closing.add_done_callback(self._retired.discard)

    def _dial(self, agency: Member, directory: Directory) -> Any:
        if not agency.endpoint or not agency.server_name:
            raise ProbegateError(Reason.SERVICE_UNREACHABLE, "no endpoint", agency=agency.id)
        return grpc.aio.secure_channel(
            agency.endpoint,
            channel_credentials(*self._tls, directory.ca_pem),
            options=(
                ("grpc.ssl_target_name_override", agency.server_name),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.enable_retries", 0),
                ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
                ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
                ("grpc.max_receive_message_length", MAX_IMAGE_REPLY_BYTES),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


def _bounded(reply: bytes) -> bytes:
    if len(reply) > MAX_REPLY_BYTES:
        raise ProbegateError(Reason.MESSAGE_TOO_LARGE)
    return reply


class LogMemory:
    """What one adapter has acknowledged of the broker's log, as far as the broker knows.

    Adapters keep their recent roots, so a proof from any size they acknowledged will do; the newest
    one below the checkpoint makes the shortest proof. Sizes still on their way, and sizes the
    adapter took out of turn (its debts), are proved on too, so that grants may overtake each other.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._debts: frozenset[int] = frozenset()
        self._sent: deque[int] = deque(maxlen=SENT_SIZES)
        self.known = False

    def sent(self, size: int) -> None:
        """Note that a checkpoint of ``size`` is on its way there."""
        if size not in self._sent:
            self._sent.append(size)

    def learn(self, acknowledged: Acknowledged) -> None:
        """Take in what an adapter last said it remembers."""
        self.known = True
        self._debts = frozenset(acknowledged.debts[:REMEMBERED_DEBTS])
        size = acknowledged.newest_size
        if size and size not in self._sizes[-8:]:
            insort(self._sizes, size)
            del self._sizes[:-REMEMBERED_SIZES]

    def forget(self) -> None:
        """Ask the adapter again before the next search: what we believed was wrong."""
        self._sizes.clear()
        self._debts = frozenset()
        self._sent.clear()
        self.known = False

    def bases(self, size: int) -> tuple[int, ...]:
        """Return the older sizes from which a checkpoint of ``size`` is to be proved."""
        position = bisect_right(self._sizes, size)
        newest = (self._sizes[position - 1],) if position else ()
        # A size below the last acknowledged one has arrived (and is a debt, if it is wanted) or is
        # lost; only those above it may still be on their way.
        heard = self._sizes[-1] if self._sizes else 0
        wanted = {*newest, *self._debts, *(one for one in self._sent if one > heard)}
        return tuple(sorted(base for base in wanted if 0 < base < size))
