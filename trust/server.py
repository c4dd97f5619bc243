"""A gRPC server with mTLS, health and reflection, the same for the broker and every adapter."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from trust import telemetry
from trust.chores import keep_doing
from trust.errors import ProbegateError, Reason
from trust.rpc import to_status

STOP_GRACE_S: Final = 5.0
"""How long calls under way may finish when a server stops, seconds."""
HEALTH_POLL_S: Final = 1.0
"""How often a server looks whether it is well, seconds."""
MAX_CONNECTION_AGE_MS: Final = 30 * 60 * 1000
"""Longest life of a connection, so that a rotated certificate comes into use, milliseconds."""
MIN_PING_INTERVAL_MS: Final = 20_000
"""Shortest interval at which a quiet peer may ping, milliseconds."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server will take: message size in bytes, calls under way at once."""

    max_message_bytes: int
    max_concurrent: int


class GarbageRefused(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc has no types
    """Answers bytes that do not parse with ``MESSAGE_INVALID``.

    gRPC itself would say UNKNOWN, quote the parser, and log a traceback.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the method's handler with a parser that does not raise."""
        if details.method not in self._wrapped:
            handler = await continuation(details)
            if handler is None:  # unknown methods are as many as callers can think of: not kept
                return None
            self._wrapped[details.method] = _parsing_safely(handler)
        return self._wrapped[details.method]


def _parsing_safely(handler: Any) -> Any:
    if handler.request_streaming or handler.request_deserializer is None:
        return handler  # reflection, which is not ours
    parse = handler.request_deserializer

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return None

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _streaming(handler.unary_stream), parsed, handler.response_serializer
        )
    unary = handler.unary_unary

    async def answered(request: Any, context: Any) -> Any:
        if request is None:
            await _refuse(context)
        return await unary(request, context)

    return grpc.unary_unary_rpc_method_handler(answered, parsed, handler.response_serializer)


def _streaming(stream: Any) -> Any:
    """Return a stream's method that refuses what did not parse."""
    if inspect.iscoroutinefunction(stream):  # it writes by itself, as the health service does

        async def written(request: Any, context: Any) -> None:
            if request is None:
                await _refuse(context)
            await stream(request, context)

        return written

    async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
        if request is None:
            await _refuse(context)
        async for response in stream(request, context):
            yield response

    return streamed


async def _refuse(context: Any) -> None:
    await context.abort_with_status(to_status(ProbegateError(Reason.MESSAGE_INVALID)))


class RunningServer:
    """A server that is listening; ``port`` is the one the system gave if 0 was asked for."""

    def __init__(
        self,
        server: grpc.aio.Server,
        checker: health.aio.HealthServicer,
        services: Sequence[str],
        port: int,
    ) -> None:
        self._server = server
        self._health = checker
        self._names = ("", *services)
        self.port = port

    async def say(self, *, well: bool) -> None:
        """Tell whoever asks for the health of any service whether it serves."""
        said = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._health.set(name, said.SERVING if well else said.NOT_SERVING)

    def keep_saying(self, is_well: Callable[[], bool]) -> Coroutine[None, None, None]:
        """Return a chore that tells for ever whether it serves, as ``is_well`` says."""

        async def look() -> None:
            await self.say(well=is_well())

        return keep_doing((look,), HEALTH_POLL_S)

    async def stop(self, grace: float = STOP_GRACE_S) -> None:
        """Say NOT_SERVING, let calls finish for ``grace`` seconds, then stop."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


async def serve(
    *,
    listen: str,
    credentials: grpc.ServerCredentials,
    register: Callable[[grpc.aio.Server], None],
    services: Sequence[str],
    limits: ServerLimits,
) -> RunningServer:
    """Start a server.

    Args:
        listen: "host:port"; port 0 lets the system choose.
        credentials: from ``trust.mtls.server_credentials``.
        register: adds the servicers.
        services: full names of what is registered, for health and reflection.
        limits: sizes and concurrency.

    Raises:
        ProbegateError: ``PORT_IN_USE``.
    """
    server = grpc.aio.server(
        interceptors=(GarbageRefused(),),
        maximum_concurrent_rpcs=limits.max_concurrent,
        options=(
            ("grpc.max_receive_message_length", limits.max_message_bytes),
            ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
            ("grpc.so_reuseport", 0),
        ),
    )
    register(server)
    checker = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise ProbegateError(Reason.PORT_IN_USE, address=listen) from error
    if port == 0:
        raise ProbegateError(Reason.PORT_IN_USE, address=listen)
    await server.start()
    running = RunningServer(server, checker, services, port)
    await running.say(well=True)
    telemetry.log("listening", port=port)
    return running


async def until_stopped(server: RunningServer, *stopping: Callable[[], Any]) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully and run each of ``stopping``."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    waiting = asyncio.create_task(server.wait())
    asking = asyncio.create_task(asked.wait())
    await asyncio.wait({waiting, asking}, return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    await server.stop()
    for step in stopping:
        done = step()
        if asyncio.iscoroutine(done):
            await done
    telemetry.log("stopped")
    telemetry.shutdown()
