"""A log with two histories, and a real witness on loopback."""

from __future__ import annotations

import asyncio
import base64
import http.client
import ssl
import threading
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle
from audit.add_checkpoint import format_request
from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.cosigner import Cosigner
from audit.cosigner_memory import open_memory
from audit.notes import NoteSigner, SignatureType, VerifierKey, note_signer
from audit.policy_file import parse_policy
from audit.settings import WitnessServerSettings
from audit.witness_server import WitnessServer

ORIGIN = "broker.example/search"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FORK_AT = 7
MONITOR = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def signer(name: str, kind: SignatureType, seed: str = "") -> NoteSigner:
    key = private(seed or name)
    return note_signer(name, key.sign, key.public_key().public_bytes_raw(), kind)


LOG = signer(ORIGIN, SignatureType.ED25519)
WITNESS = signer("witness.example", SignatureType.COSIGNATURE_V1)
LOG_KEY, WITNESS_KEY = VerifierKey.of(LOG), VerifierKey.of(WITNESS)


def policy(url: str = "") -> str:
    return f"log {LOG_KEY}\nwitness w {WITNESS_KEY} {url}\nquorum w\n"


@cache
def leaf(history: str, index: int) -> bytes:
    """Histories share their first seven entries."""
    return merkle.leaf_hash(f"{history if index >= FORK_AT else 'shared'} {index}".encode())


@cache
def root(history: str, size: int) -> bytes:
    return merkle.root_of(leaf(history, at) for at in range(size))


@cache
def note(history: str, size: int) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root(history, size)), LOG).note


@cache
def body(history: str, old: int, new: int) -> bytes:
    def read(level: int, index: int) -> bytes:
        return merkle.root_of(leaf(history, at) for at in range(index << level, index + 1 << level))

    return format_request(old, merkle.consistency_proof(read, old, new), note(history, new))


def cosigned(line: bytes, text: bytes) -> int:
    """Verify a cosignature with plain cryptography, as c2sp.org/tlog-cosignature has it."""
    dash, name, encoded = line.decode().removesuffix("\n").split(" ")
    raw = base64.b64decode(encoded)
    public = private("witness.example").public_key()
    named = b"witness.example\n\x04" + public.public_bytes_raw()
    assert (dash, name, raw[:4]) == ("\u2014", "witness.example", sha256(named).digest()[:4])
    stated = int.from_bytes(raw[4:12], "big")
    public.verify(raw[12:], b"cosignature/v1\ntime %d\n%s" % (stated, text))
    return stated


def text_of(signed: bytes) -> bytes:
    return signed.rpartition(b"\n\n")[0] + b"\n"


class Server:
    """A real witness on loopback, in a thread with a loop of its own."""

    def __init__(self, state: Path, **settings: Any) -> None:
        self._state = state
        self._settings = WitnessServerSettings(
            name="witness.example",
            policy=state / "policy",
            key=state / "key",
            state_dir=state,
            listen="127.0.0.1:0",
            **settings,
        )
        self.tls: ssl.SSLContext | None = None
        self.port = 0

    def start(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        engine = open_memory(self._state)
        cosigner = Cosigner.open(engine, parse_policy(policy()), WITNESS)
        server = WitnessServer(cosigner, self._settings, lambda: NOON)
        self.port = await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.close()
        engine.dispose()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, sent: bytes = b"") -> tuple[int, bytes, str]:
        connection = self.connect()
        try:
            connection.request(method, path, sent or None)
            got = connection.getresponse()
            return got.status, got.read(), got.headers["Content-Type"]
        finally:
            connection.close()

    def add(self, sent: bytes) -> tuple[int, bytes, str]:
        return self.ask("POST", "/add-checkpoint", sent)
