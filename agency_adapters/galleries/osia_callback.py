"""Taking a matcher's answers by callback (OSIA ABIS 1.6, asynchronous processing).

OSIA has no way to poll for a result: with a callback the matcher posts it to an address of ours.

1. Each search has an address of its own that cannot be guessed, and it exists as long as the search
   waits. Anything else is answered 403 and not looked at, and what is no address 400.
2. An answer must name the search's transaction. Its task is compared with the one that the matcher
   announced by whoever waits, for an answer may come before its announcement.
3. The first answer counts; a second one to the same address is answered 204 and ignored.
4. A request has a size, a time and a method; a connection carries one request; there are so many
   connections and no more.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import h11

from agency_adapters.galleries.engines import config_invalid

PATH_BYTES: Final = 24
"""Random bytes in the address of one search."""
READ_S: Final = 10.0
"""Longest a matcher may take to send its answer, seconds."""
MAX_CONNECTIONS: Final = 64
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a matcher posted: the task it says it is of, whether it is an error, and the body."""

    task: str
    failed: bool
    body: bytes


@dataclass(slots=True)
class Waiting:
    """One search that waits: its address and what will be posted to it."""

    path: str
    transaction: str
    delivery: asyncio.Future[Delivery]


class Callbacks:
    """A listener for matchers' answers.

    Args:
        listen: ``host:port``; port 0 lets the system choose.
        url: the address as the matcher sees it, without a path; empty for the listener's own.
        most_bytes: the largest answer taken, bytes.
        tls: the listener's TLS, or None for plain HTTP behind a proxy of the agency's own.
    """

    def __init__(
        self, listen: str, url: str, most_bytes: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._listen = listen
        self._url = url.rstrip("/")
        self._most_bytes = most_bytes
        self._tls = tls
        self._waiting: dict[str, Waiting] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start listening.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` if that cannot be done.
        """
        host, _, port = self._listen.rpartition(":")
        try:
            self._server = await asyncio.start_server(self._serve, host, int(port), ssl=self._tls)
        except (OSError, ValueError):
            raise config_invalid("cannot listen there", "osia_callback_listen") from None
        if not self._url:
            bound = self._server.sockets[0].getsockname()
            self._url = f"http{'s' if self._tls else ''}://{bound[0]}:{bound[1]}"

    def expect(self, transaction: str) -> Waiting:
        """Open an address for one search (1)."""
        path = f"/{secrets.token_urlsafe(PATH_BYTES)}"
        future: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._waiting[path] = Waiting(path, transaction, future)
        return self._waiting[path]

    def address(self, waiting: Waiting) -> str:
        """Return the address that the matcher is told."""
        return self._url + waiting.path

    def forget(self, waiting: Waiting) -> None:
        """Close a search's address (1)."""
        self._waiting.pop(waiting.path, None)

    async def close(self) -> None:
        """Stop listening, and let go of whoever is still connected."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await asyncio.sleep(0)  # so that whoever was just taken has begun, and ends
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES)
        try:
            status = 503
            if len(self._serving) <= MAX_CONNECTIONS:  # (4)
                async with asyncio.timeout(READ_S):
                    status = await self._answered(connection, reader)
            headers = [("content-length", "0"), ("connection", "close")]
            response = h11.Response(status_code=status, headers=headers)
            writer.write(connection.send(response) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # whoever it was is not there any more, or does not speak HTTP
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answered(self, connection: h11.Connection, reader: asyncio.StreamReader) -> int:
        """Read one request and return its status."""
        request = await _next(connection, reader)
        if not isinstance(request, h11.Request) or request.method != b"POST":
            return 405
        try:
            target = urlsplit(request.target.decode("ascii", "replace"))
            asked = parse_qs(target.query)
        except ValueError:  # (1)
            return 400
        waiting = self._waiting.get(target.path)
        if waiting is None or asked.get("transactionId") != [waiting.transaction]:  # (1) (2)
            return 403
        body = bytearray()
        while isinstance(event := await _next(connection, reader), h11.Data):
            body += event.data
            if len(body) > self._most_bytes:
                return 413
        kinds = [v for name, v in request.headers if name == b"content-type"]
        if not waiting.delivery.done():  # (3)
            failed = any(kind.startswith(b"application/error+json") for kind in kinds)
            task = asked.get("taskId", [""])[0]
            waiting.delivery.set_result(Delivery(task, failed, bytes(body)))
        return 204


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(_READ_BYTES))
    return event
