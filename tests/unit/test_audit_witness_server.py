"""The witness over HTTP: every status, races, crashes, equivocation, and a log that watches it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle
from audit.add_checkpoint import AddCheckpoint, format_request, parse_request
from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.cosigner import Cosigner
from audit.cosigner_memory import open_memory
from audit.notes import NoteSigner, SignatureType, VerifierKey, note_signer, sign_note
from audit.policy_file import parse_policy
from audit.settings import WitnessServerSettings
from audit.witness_server import WitnessServer
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"
ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FORK_AT = 7
MONITOR = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def signer(name: str, kind: SignatureType) -> NoteSigner:
    return note_signer(
        name, private(name).sign, private(name).public_key().public_bytes_raw(), kind
    )


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
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as running:
        yield running


# ------------------------------------------------------------------ statuses


def test_a_growing_log_is_cosigned_and_shown_to_monitors(server: Server) -> None:
    assert server.ask("GET", MONITOR)[0] == 404
    for old, new in ((0, 0), (0, 5), (5, 5), (5, 6), (6, 40), (40, 41)):
        status, line, kind = server.add(body("a", old, new))
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        assert cosigned(line, text_of(note("a", new))) == int(NOON.timestamp())
        status, shown, kind = server.ask("GET", MONITOR)
        assert (status, shown, kind) == (200, note("a", new) + line, "text/plain; charset=utf-8")


def test_an_unknown_origin_is_404(server: Server) -> None:
    other = signer("other.example", SignatureType.ED25519)
    there = sign_checkpoint(Checkpoint("other.example", 5, root("a", 5)), other).note
    assert server.add(format_request(0, (), there))[0] == 404
    elsewhere = sha256(b"other.example").hexdigest()
    assert server.ask("GET", f"/{elsewhere}/checkpoint")[0] == 404


def test_a_checkpoint_no_trusted_key_signed_is_403(server: Server) -> None:
    fake = private("somebody")
    stranger = note_signer(ORIGIN, fake.sign, fake.public_key().public_bytes_raw())
    text = Checkpoint(ORIGIN, 5, root("a", 5)).text()
    assert server.add(format_request(0, (), sign_note(text, [stranger])))[0] == 403
    forged = note("a", 6).replace(text_of(note("a", 6)), text_of(note("b", 8)))
    assert server.add(format_request(0, (), forged))[0] == 403
    assert server.add(format_request(9, (), sign_note(text, [stranger])))[0] == 403  # before 400
    both = sign_note(text, [stranger, LOG])  # signatures by unknown keys are ignored, and not kept
    status, line, _ = server.add(format_request(0, (), both))
    assert status == 200
    assert server.ask("GET", MONITOR)[1] == note("a", 5) + line


def test_an_old_size_past_the_checkpoint_is_400(server: Server) -> None:
    assert server.add(format_request(6, (), note("a", 5)))[0] == 400


GOOD = body("a", 0, 5)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"old 0",
        b"old 0\n\n",
        b"old 00\n" + GOOD[6:],
        b"old -1\n" + GOOD[6:],
        b"old  0\n" + GOOD[6:],
        b"old 0 \n" + GOOD[6:],
        b"old \xd9\xa3\n" + GOOD[6:],
        b"old 9007199254740992\n" + GOOD[6:],
        b"old " + b"9" * 5000 + b"\n" + GOOD[6:],
        b"Old 0\n" + GOOD[6:],
        b"old 0\r\n" + GOOD[6:],
        b"old 0\nAAAA\n" + GOOD[6:],
        b"old 0\n!\n" + GOOD[6:],
        b"old 0\n" + b"A" * 42 + b"B=\n" + GOOD[6:],
        b"old 0\n" + base64.b64encode(b"h" * 32) * 2 + b"\n" + GOOD[6:],
        b"old 0\n" + (base64.b64encode(b"h" * 32) + b"\n") * 64 + GOOD[6:],
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.replace(b"\n5\n", b"\n05\n"),
        GOOD.replace(b"\n5\n", b"\n5\nmore\n"),
        GOOD.replace(b"\n5\n", b"\n5\n\n"),
        GOOD.replace(b"\n5\n", b"\n0\nmore\n"),
        GOOD.replace(b"broker", b"bro\x00ker"),
        GOOD.replace(b"broker", b"bro\xffker"),
        GOOD.partition(b"\n\n")[0] + b"\n\n\xe2\x80\x94 x AAAAAAAA\n",
    ],
)
def test_what_is_no_request_is_400(tmp_path: Path, sent: bytes) -> None:
    with pytest.raises(ProbegateError) as error:
        parse_request(sent)
    assert error.value.reason is Reason.MESSAGE_INVALID
    with Server(tmp_path / "state") as server:
        status, said, _ = server.add(sent)
    assert (status, said.split(b":")[0]) == (400, b"MESSAGE_INVALID")


def test_sixty_three_hashes_are_read() -> None:
    hashes_ = tuple(sha256(bytes([n])).digest() for n in range(63))
    assert parse_request(format_request(3, hashes_, note("a", 5))) == AddCheckpoint(
        3, hashes_, note("a", 5), Checkpoint(ORIGIN, 5, root("a", 5))
    )


def test_another_old_size_is_409_with_the_size(server: Server) -> None:
    for old, new, remembered in ((3, 5, 0), (0, 5, 0), (0, 6, 5), (4, 6, 5), (6, 6, 5)):
        status, said, kind = server.add(body("a", old, new))
        if (old, new) == (0, 5):
            assert status == 200
            continue
        assert (status, said, kind) == (409, b"%d\n" % remembered, "text/x.tlog.size")


def test_a_proof_that_does_not_lead_there_is_422(server: Server) -> None:
    some = (sha256(b"x").digest(),)
    assert server.add(format_request(0, some, note("a", 5)))[0] == 422
    wrong = sign_note(f"{ORIGIN}\n0\n{base64.b64encode(b'r' * 32).decode()}\n", [LOG])
    assert server.add(format_request(0, (), wrong))[0] == 422
    assert server.add(body("a", 0, 10))[0] == 200
    for sent in (
        format_request(10, (), note("a", 12)),
        format_request(10, some, note("a", 12)),
        body("b", 10, 12),
        format_request(10, some, note("a", 10)),
    ):
        assert server.add(sent)[0] == 422
    assert server.ask("GET", MONITOR)[1].startswith(note("a", 10))


def test_paths_methods_and_sizes(tmp_path: Path) -> None:
    with Server(tmp_path / "state", body_max_bytes=2000) as server:
        for method, path, status in (
            ("GET", "/", 404),
            ("POST", "/", 404),
            ("GET", "/add-checkpoint", 405),
            ("PUT", "/add-checkpoint", 405),
            ("POST", MONITOR, 405),
            ("GET", MONITOR.upper(), 404),
            ("GET", "/../checkpoint", 404),
        ):
            assert server.ask(method, path)[0] == status
        assert server.add(b"x" * 2001)[0] == 413
        assert server.add(b"x" * 2000)[0] == 400
        assert server.add(body("a", 0, 5))[0] == 200


def test_a_connection_carries_many_requests(server: Server) -> None:
    connection = server.connect()
    for old, new in ((0, 5), (5, 6), (6, 9)):
        connection.request("POST", "/add-checkpoint", body("a", old, new))
        reply = connection.getresponse()
        assert (reply.status, len(reply.read().splitlines())) == (200, 1)
    connection.close()


def spoken(server: Server, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        plain.sendall(sent)
        got = b""
        while part := plain.recv(65_536):
            got += part
        return got


def test_what_is_not_http_is_refused_or_hung_up_on(tmp_path: Path) -> None:
    with Server(tmp_path / "state", request_timeout_s=0.2, idle_timeout_s=0.2) as server:
        assert spoken(server, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert spoken(server, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000).startswith(b"HTTP/1.1 4")
        assert spoken(server, b"") == b""
        assert spoken(server, b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n") == b""
        waiting = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 9\r\n"
        assert spoken(server, waiting + b"Expect: 100-continue\r\n\r\n").startswith(b"HTTP/1.1 100")
        assert server.add(body("a", 0, 5))[0] == 200


def test_too_many_connections_are_told_so(tmp_path: Path) -> None:
    with Server(tmp_path / "state", connections_max=1) as server:
        first = server.connect()
        first.request("GET", MONITOR)
        assert first.getresponse().status == 404
        assert spoken(server, b"").startswith(b"HTTP/1.1 503")
        first.close()


def test_storage_that_fails_is_503_and_cosigns_nothing(tmp_path: Path) -> None:
    with Server(tmp_path / "state") as server:
        engine = open_memory(tmp_path / "state")
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE witness_history RENAME TO elsewhere")
        status, said, _ = server.add(body("a", 0, 5))
        assert (status, said.split(b":")[0]) == (503, b"STATE_UNAVAILABLE")
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO witness_history")
        engine.dispose()
        assert server.add(body("a", 0, 5))[0] == 200
