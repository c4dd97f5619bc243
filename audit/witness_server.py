"""A witness over HTTP (c2sp.org/tlog-witness): ``add-checkpoint``, and what a monitor reads.

The rules, as numbered in the code:

1. ``POST /add-checkpoint`` is answered as ``audit.cosigner`` decides; a body that is no request is
   400, one past the limit 413. ``GET /<hex SHA-256 of the origin>/checkpoint`` returns the newest
   cosigned checkpoint, or 404. Any other path is 404, any other method 405.
2. Anybody may call: what counts is the signature on the checkpoint. Nothing that is sent reaches a
   log line but an origin that the policy lists.
3. A request has a size and a time, a silent connection an end; there are so many connections and
   no more, and so many requests in the database at once.
4. A reply is written only after the transaction that it tells of has been committed.
5. A refusal says its catalogued reason in one line, except a 409, whose body is the size alone.
6. Without TLS of its own, the witness listens for a proxy on the same machine.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import h11

from audit.add_checkpoint import PATH, SIZE_TYPE, parse_request
from audit.cosigner import Cosigner, Verdict
from audit.settings import WitnessServerSettings
from trust import telemetry
from trust.clock import Clock, utc_now
from trust.errors import ProbegateError, Reason
from trust.keys import require_private

TEXT: Final = "text/plain; charset=utf-8"
CLOSE_S: Final = 10.0
"""How long requests under way may take to end when the witness is stopped, seconds."""
LINGER_S: Final = 1.0
"""How long a caller who is hung up on may go on sending, seconds."""
_READ_BYTES: Final = 65_536
_HEAD_BYTES: Final = 16_384
_CHECKPOINT: Final = re.compile(rb"/([0-9a-f]{64})/checkpoint")
_REASONS: Final = {
    HTTPStatus.BAD_REQUEST: Reason.MESSAGE_INVALID,
    HTTPStatus.FORBIDDEN: Reason.KEY_UNKNOWN,
    HTTPStatus.NOT_FOUND: Reason.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: Reason.MESSAGE_INVALID,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Reason.MESSAGE_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: Reason.CHECKPOINT_INCONSISTENT,
    HTTPStatus.SERVICE_UNAVAILABLE: Reason.SERVER_BUSY,
}
_answered: Final = telemetry.meter().create_counter("probegate.witness.requests")


@dataclass(frozen=True, slots=True)
class _Reply:
    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


class WitnessServer:
    """A listener for logs and monitors.

    Args:
        cosigner: who decides.
        settings: address, TLS and limits.
        clock: what time cosignatures state.
    """

    def __init__(
        self, cosigner: Cosigner, settings: WitnessServerSettings, clock: Clock = utc_now
    ) -> None:
        self._cosigner = cosigner
        self._settings = settings
        self._clock = clock
        self._running = asyncio.Semaphore(settings.running_max)
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Start listening and return the port.

        Raises:
            ProbegateError: ``CONFIG_INVALID``, ``PORT_IN_USE``, or why the certificate is no use.
        """
        tls = _tls(self._settings)
        host, _, port = self._settings.listen.rpartition(":")
        if not host or not port.isdecimal():
            raise ProbegateError(Reason.CONFIG_INVALID, "not host:port", setting="listen")
        try:
            self._server = await asyncio.start_server(
                self._serve, host.strip("[]"), int(port), ssl=tls, limit=_READ_BYTES
            )
        except (OSError, OverflowError) as error:
            raise ProbegateError(Reason.PORT_IN_USE, str(error), setting="listen") from None
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and hang up; what is in the database ends there, unanswered."""
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving, timeout=CLOSE_S)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        try:
            if len(self._serving) > self._settings.connections_max:  # (3)
                await _send(connection, writer, _refused(HTTPStatus.SERVICE_UNAVAILABLE))
            else:
                await self._converse(connection, reader, writer)
            if connection.their_state in {h11.SEND_BODY, h11.ERROR}:
                await _linger(reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            pass  # whoever it was is not there any more, or does not speak HTTP
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request after the other until either side has enough."""
        talk = _Talk(connection, reader, writer)
        while True:
            async with asyncio.timeout(self._settings.idle_timeout_s):  # (3)
                await talk.wait()
            async with asyncio.timeout(self._settings.request_timeout_s):  # (3)
                ask = await self._read(talk)
            if ask is None:
                return
            reply = await self._answer(ask)
            _answered.add(1, {"state": str(int(reply.status))})
            await _send(connection, writer, reply)  # (4)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _read(self, talk: _Talk) -> Callable[[], _Reply] | None:
        """Read one request; return what answers it, None at the connection's end (1)."""
        try:
            request = await talk.next()
            if not isinstance(request, h11.Request):
                return None
            body = bytearray()
            while isinstance(event := await talk.next(), h11.Data):
                body += event.data
                if len(body) > self._settings.body_max_bytes:
                    return lambda: _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except h11.RemoteProtocolError:
            return lambda: _refused(HTTPStatus.BAD_REQUEST)
        return self._route(request, bytes(body))

    def _route(self, request: h11.Request, body: bytes) -> Callable[[], _Reply]:
        path = request.target.partition(b"?")[0]
        read = _CHECKPOINT.fullmatch(path)
        if read is None and path != PATH.encode():
            return lambda: _refused(HTTPStatus.NOT_FOUND)
        if request.method != (b"POST" if read is None else b"GET"):
            return lambda: _refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if read is not None:
            return lambda: self._newest(read[1].decode())
        return lambda: self._add(body)

    async def _answer(self, ask: Callable[[], _Reply]) -> _Reply:
        """Work in a thread, so many at a time (3)."""
        async with self._running:
            return await asyncio.shield(asyncio.to_thread(_guarded, ask))

    def _add(self, body: bytes) -> _Reply:
        try:
            request = parse_request(body)
        except ProbegateError:
            return _refused(HTTPStatus.BAD_REQUEST)
        return _reply(self._cosigner.add(request, self._clock()))

    def _newest(self, origin_sha256: str) -> _Reply:
        note = self._cosigner.newest(origin_sha256)
        return _refused(HTTPStatus.NOT_FOUND) if note is None else _Reply(HTTPStatus.OK, note)


@dataclass(frozen=True, slots=True)
class _Talk:
    """Events of one connection."""

    connection: h11.Connection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def wait(self) -> None:
        """Wait until the next request begins, or the connection ends."""
        if not self.connection.trailing_data[0]:
            self.connection.receive_data(await self.reader.read(_READ_BYTES))

    async def next(self) -> Any:
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            if self.connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self.writer.write(self.connection.send(go_on) or b"")
            self.connection.receive_data(await self.reader.read(_READ_BYTES))
        return event


def _guarded(ask: Callable[[], _Reply]) -> _Reply:
    """Answer; a failure of the storage is said to the operator, and 503 to the caller."""
    try:
        return ask()
    except ProbegateError as error:
        telemetry.log("a request was not answered", logging.ERROR, reason=error.reason.name)
        text = f"{error.reason.name}: {error.public_message}\n"
        return _Reply(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())


def _reply(verdict: Verdict) -> _Reply:
    if verdict.status is HTTPStatus.OK:
        return _Reply(verdict.status, verdict.lines)
    if verdict.status is HTTPStatus.CONFLICT:
        return _Reply(verdict.status, f"{verdict.size}\n".encode(), SIZE_TYPE)  # (5)
    return _refused(verdict.status)


def _refused(status: HTTPStatus) -> _Reply:
    reason = _REASONS[status]
    return _Reply(status, f"{reason.name}: {reason.entry.message}\n".encode())  # (5)


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, reply: _Reply) -> None:
    headers = [
        ("content-type", reply.content_type),
        ("content-length", str(len(reply.body))),
        ("cache-control", "no-store"),
    ]
    if connection.their_state is not h11.DONE:  # what is left of the request stays unread
        headers.append(("connection", "close"))
    head = h11.Response(status_code=int(reply.status), headers=headers)
    for event in (head, h11.Data(data=reply.body), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a moment: closing on unread bytes would take the reply away from its reader."""
    if writer.can_write_eof():
        writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await reader.read(_READ_BYTES):
                pass


def _tls(settings: WitnessServerSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None and settings.tls_key is None:
        return None  # (6)
    if settings.tls_cert is None or settings.tls_key is None:
        raise ProbegateError(Reason.CONFIG_INVALID, "tls_cert and tls_key go together")
    require_private(settings.tls_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError):
        raise ProbegateError(Reason.CONFIG_INVALID, "not a pair", setting="tls_cert") from None
    return context
