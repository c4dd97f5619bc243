"""The channel to the broker: mTLS, the name in its certificate, and a new one when keys rotate.

gRPC gives a channel one client certificate for life, so the channel is built again when the
certificate files, the scheme's authorities or the broker's address change. Calls under way on the
old one may finish.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import grpc

from force_client.settings import ForceSettings
from force_client.wire import BrokerStubs
from trust import mtls
from trust.directory import Directory, Member, Role
from trust.errors import ProbegateError, Reason
from trust.member_folder import MemberFolder

RETIRE_GRACE_S: Final = 120.0
"""How long calls under way may finish on a channel that was replaced, seconds."""
RECONNECT_FIRST_MS: Final = 100
"""First pause before a lost connection is made again, milliseconds."""
RECONNECT_LONGEST_MS: Final = 2_000
"""Longest such pause, milliseconds."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Everything a channel is built from; a different one is a different channel."""

    endpoint: str
    server_name: str
    ca_pem: bytes
    certificate_sha256: bytes


class Connection:
    """The one channel to the broker, as the directory and the certificate say now.

    Use it inside a running event loop.
    """

    def __init__(self, settings: ForceSettings, folder: MemberFolder) -> None:
        self._settings = settings
        self._folder = folder
        self._way: _Way | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stubs: BrokerStubs | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def stubs(self) -> BrokerStubs:
        """The broker's methods on the current channel.

        Raises:
            ProbegateError: ``SERVICE_UNREACHABLE`` if ``refresh`` was not called yet.
        """
        if self._stubs is None:
            raise ProbegateError(Reason.SERVICE_UNREACHABLE, "the client is not open")
        return self._stubs

    def refresh(self, directory: Directory, broker: Member) -> None:
        """Build the channel if there is none or what it stands on changed.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` if the directory does not say where the broker is;
                ``FILE_MISSING``, ``KEY_FILE_INVALID`` or ``CERTIFICATE_INVALID``.
        """
        if broker.endpoint is None or broker.server_name is None:
            raise ProbegateError(
                Reason.CONFIG_INVALID, "the directory gives no address for it", field="broker"
            )
        way = _Way(
            broker.endpoint,
            broker.server_name,
            directory.ca_pem,
            self._folder.certificate_sha256(),
        )
        if way == self._way:
            return
        credentials = mtls.channel_credentials(
            self._folder.tls_cert, self._folder.tls_key, way.ca_pem
        )
        replaced, self._channel = self._channel, self._dial(way, credentials)
        self._stubs, self._way = BrokerStubs(self._channel), way
        if replaced is not None:
            task = asyncio.get_running_loop().create_task(replaced.close(RETIRE_GRACE_S))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Let go of the broker."""
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._stubs = self._way = None

    def _dial(self, way: _Way, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(
            way.endpoint,
            credentials,
            options=(
                ("grpc.ssl_target_name_override", way.server_name),
                ("grpc.max_receive_message_length", self._settings.max_message_bytes),
                ("grpc.keepalive_time_ms", self._settings.keepalive_ms),
                ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
                ("grpc.min_reconnect_backoff_ms", RECONNECT_FIRST_MS),
                ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
                ("grpc.use_local_subchannel_pool", 1),  # never another client's certificate
            ),
        )


def broker_of(directory: Directory, broker_id: str) -> Member:
    """Return the broker with an id, or the only one where none is given.

    Raises:
        ProbegateError: ``NOT_FOUND``, or ``CONFIG_INVALID`` if it must be said which.
    """
    if broker_id:
        return directory.member(broker_id, Role.BROKER)
    brokers = directory.members(Role.BROKER)
    if len(brokers) != 1:
        raise ProbegateError(
            Reason.CONFIG_INVALID, f"the directory lists {len(brokers)} brokers", field="broker"
        )
    return brokers[0]
