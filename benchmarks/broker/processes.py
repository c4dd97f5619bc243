"""Processes of the benchmark: each has one event loop and takes one command at a time."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, Self

import psutil
import uvloop

START_TIMEOUT_S = 30.0
"""How long a process may take to start, seconds."""
ANSWER_TIMEOUT_S = 180.0
"""How long one command may take, seconds: the benchmark stops by itself whatever happens."""
STOP_TIMEOUT_S = 10.0


class Servant(Protocol):
    """What a process does: answers commands one at a time, and lets go of what it holds."""

    async def handle(self, command: Any) -> Any:
        """Answer one command."""

    async def close(self) -> None:
        """Stop serving."""


Start = Callable[..., Awaitable[Servant]]


class Child:
    """A process that runs ``start(*arguments)`` and answers commands with what that returned."""

    def __init__(self, start: Start, *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, start, arguments), daemon=True, name=start.__module__
        )
        self._process.start()
        theirs.close()
        self._answer(START_TIMEOUT_S)
        self.meter = psutil.Process(self._process.pid)

    def ask(self, command: object) -> Any:
        """Send a command and wait for its answer."""
        self._pipe.send(command)
        return self._answer(ANSWER_TIMEOUT_S)

    def _answer(self, timeout_s: float) -> Any:
        if not self._pipe.poll(timeout_s):
            raise TimeoutError(f"{self._process.name} does not answer")
        return self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()


def _main(pipe: Connection, start: Start, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's Ctrl-C closes the pipe instead
    uvloop.run(_serve(pipe, start, arguments))


async def _serve(pipe: Connection, start: Start, arguments: tuple[object, ...]) -> None:
    servant = await start(*arguments)
    pipe.send("ready")
    with suppress(EOFError):  # the parent has closed its end
        while True:
            pipe.send(await servant.handle(await asyncio.to_thread(pipe.recv)))
    await servant.close()


class BrokerProcess:
    """The broker as it runs in production: ``probegate broker serve --config …``.

    Args:
        config: its settings, TOML.
        port_file: where it writes the port it serves on.
    """

    def __init__(self, config: Path, port_file: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "broker", "serve", "--config", str(config)],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("the broker did not start")
            time.sleep(0.05)
        self.meter = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()


def cpu_seconds(meter: psutil.Process) -> float:
    """Return the CPU seconds (user and system) a process has used, by the system's accounting."""
    times = meter.cpu_times()
    return float(times.user + times.system)
