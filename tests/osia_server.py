"""A vendor's matcher that speaks OSIA ABIS 1.6 over real sockets, with knobs to misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11
import httpx
import numpy as np

TOKEN = "a-token-of-the-vendor"


@dataclass(slots=True)
class Knobs:
    """How the matcher behaves; honest by default."""

    status: int | None = None
    """Answer with this status instead."""
    body: bytes | None = None
    """Answer with this body instead."""
    delay_s: float = 0.0
    task: str = "task-1"
    """The task that is announced; the callback says ``task-1``."""
    callbacks: int = 1
    """How many times the answer is posted."""
    callback_error: bool = False
    callback_delay_s: float = 0.0


@dataclass(slots=True)
class Matcher:
    """A gallery of templates behind an OSIA server."""

    people: dict[str, np.ndarray]
    knobs: Knobs = field(default_factory=Knobs)
    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Every request: its query and body."""
    posted: list[int] = field(default_factory=list)
    """The statuses that our callbacks were answered with."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def identify(self, asked: dict[str, list[str]], body: dict[str, Any]) -> list[dict[str, Any]]:
        """Compare the probe with everybody."""
        (one,) = body["biometricData"]
        assert one["biometricType"] == "FACE"
        probe = np.frombuffer(base64.b64decode(one["template"]), "<f4").astype(float)
        scores = {name: float(np.dot(probe, row)) for name, row in self.people.items()}
        threshold = float(asked["threshold"][0])
        best = sorted((-s, name) for name, s in scores.items() if s >= threshold)
        return [
            {"personId": name, "rank": rank, "score": -score}
            for rank, (score, name) in enumerate(best[: int(asked["maxNbCand"][0])], start=1)
        ]

    async def answered(
        self, method: bytes, target: str, headers: dict[bytes, bytes], data: bytes
    ) -> tuple[int, bytes]:
        """Answer one request as the knobs say."""
        where, asked = urlsplit(target), parse_qs(urlsplit(target).query)
        self.seen.append({"asked": asked, "data": data})
        await asyncio.sleep(self.knobs.delay_s)
        if self.knobs.status is not None:
            return self.knobs.status, self.knobs.body or b""
        if headers.get(b"authorization") != f"Bearer {TOKEN}".encode():
            return 403, b""
        if method != b"POST" or where.path != "/v1/identify/national":
            return 404, b""
        found = json.dumps(self.identify(asked, json.loads(data))).encode()
        found = found if self.knobs.body is None else self.knobs.body
        if "callback" not in asked:
            return 200, found
        task = asyncio.create_task(self.call_back(asked, found))
        self.tasks.add(task)
        return 202, json.dumps({"taskId": self.knobs.task}).encode()

    async def call_back(self, asked: dict[str, list[str]], found: bytes) -> None:
        """Post the answer to the address that was given."""
        await asyncio.sleep(self.knobs.callback_delay_s)
        kind = "application/error+json" if self.knobs.callback_error else "application/json"
        params = {"transactionId": asked["transactionId"][0], "taskId": "task-1"}
        async with httpx.AsyncClient() as client:
            for _ in range(self.knobs.callbacks):
                reply = await client.post(
                    asked["callback"][0],
                    params=params,
                    content=found,
                    headers={"content-type": kind},
                )
                self.posted.append(reply.status_code)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request on one connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.answer_one(reader, writer)
        except OSError:
            pass  # the other side had heard enough
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it."""
        connection = h11.Connection(h11.SERVER)
        request, data = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                data += event.data
            else:
                break
        if request is not None:
            headers = dict(request.headers)
            target = request.target.decode()
            status, body = await self.answered(request.method, target, headers, data)
            fields = [("content-length", str(len(body))), ("connection", "close")]
            writer.write(connection.send(h11.Response(status_code=status, headers=fields)) or b"")
            writer.write(connection.send(h11.Data(data=body)) or b"")
            await writer.drain()


@asynccontextmanager
async def matcher(people: dict[str, np.ndarray], **knobs: Any) -> AsyncIterator[Matcher]:
    """Serve a matcher on loopback."""
    made = Matcher(people, Knobs(**knobs))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.sleep(0)
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
