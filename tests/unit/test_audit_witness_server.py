"""The witness over HTTP: every status, races, crashes, equivocation, and a log that watches it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from audit import cosigner_memory
from audit.add_checkpoint import AddCheckpoint, format_request, parse_request
from audit.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from audit.cosigner import Cosigner, Verdict
from audit.cosigner_memory import open_memory
from audit.notes import NoteSigner, SignatureType, note_signer, sign_note
from audit.policy_file import parse_policy
from audit.settings import WitnessServerSettings
from audit.witness_server import WitnessServer
from cli.main import main
from tests.scale import scaled
from tests.unit.witness_kit import (
    FORK_AT,
    LOG,
    LOG_KEY,
    MONITOR,
    NOON,
    ORIGIN,
    WITNESS,
    Server,
    body,
    cosigned,
    note,
    policy,
    private,
    root,
    signer,
    text_of,
)
from trust.errors import ProbegateError, Reason

ROOT = Path(__file__).parents[2]


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


def test_over_tls(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    with Server(tmp_path / "state", tls_cert=cert, tls_key=key) as server:
        server.tls = ssl.create_default_context(cafile=cert)
        server.tls.check_hostname = False
        assert server.add(body("a", 0, 5))[0] == 200
    key.chmod(0o644)
    for settings_, reason in (
        ({"tls_cert": cert}, Reason.CONFIG_INVALID),
        ({"tls_cert": cert, "tls_key": key}, Reason.KEY_FILE_INVALID),
        ({"listen": "nowhere"}, Reason.CONFIG_INVALID),
        ({"listen": "127.0.0.1:99999"}, Reason.PORT_IN_USE),
    ):
        with pytest.raises(ProbegateError) as error:
            asyncio.run(started(tmp_path, settings_))
        assert error.value.reason is reason


async def started(folder: Path, given_: dict[str, Any]) -> None:
    places = {"policy": folder, "key": folder, "state_dir": folder}
    settings = WitnessServerSettings(name="w", **places | given_)
    with opened(folder) as cosigner:
        await WitnessServer(cosigner, settings).start()


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = private("tls")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "witness")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOON - timedelta(days=3650))
        .not_valid_after(NOON + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem", folder / "key.pem"


# ------------------------------------------------------------------ one history, whatever happens


@contextmanager
def opened(state: Path, signed_by: NoteSigner = WITNESS, **limits: int) -> Iterator[Cosigner]:
    engine = open_memory(state)
    try:
        yield Cosigner.open(engine, parse_policy(policy()), signed_by, **limits)
    finally:
        engine.dispose()


def test_of_two_racing_requests_one_wins(server: Server) -> None:
    assert server.add(body("a", 0, FORK_AT))[0] == 200
    for round_ in range(scaled(10, 100)):
        old = FORK_AT + round_
        if round_:
            winners = "a"
            sent = [body("a", old, old + 1), body("a", old, old + 2)]
        else:  # the two forks, racing from their last common size
            winners = "ab"
            sent = [body("a", old, old + 1), body("b", old, old + 2)]
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(server.add, sent * 4))
        won = {line for status, line, _ in replies if status == 200}
        assert {status for status, _, _ in replies} <= {200, 409, 422}
        assert won
        shown = server.ask("GET", MONITOR)[1]
        assert any(
            shown.startswith(note(one, size)) for one in winners for size in (old + 1, old + 2)
        )
        if not shown.startswith(note("a", old + 1)):
            break  # the next round starts from there


def test_two_processes_on_one_database_cosign_one_history(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        assert one.add(parse_request(body("a", 0, FORK_AT)), NOON).status == 200
        asks = [(who, body(h, FORK_AT, 20)) for who in (one, two) for h in "ab"] * 4
        with ThreadPoolExecutor(16) as pool:
            verdicts = list(
                pool.map(lambda ask: (ask[1], ask[0].add(parse_request(ask[1]), NOON)), asks)
            )
        won = {sent for sent, verdict in verdicts if verdict.status == 200}
        assert len(won) == 1


def die_when_signing(state: Path, history: str, size: int, *, after: bool) -> None:
    """The child: adds a checkpoint and is killed before its commit, or after it."""

    def sign(message: bytes) -> bytes:
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
        return private("witness.example").sign(message)

    public = private("witness.example").public_key().public_bytes_raw()
    mortal = note_signer("witness.example", sign, public, SignatureType.COSIGNATURE_V1)
    with opened(state, mortal) as cosigner:
        cosigner.add(parse_request(body(history, FORK_AT, size)), NOON)
        os.kill(os.getpid(), signal.SIGKILL)  # committed, and nothing was replied


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_check_and_reply_it_still_knows_one_history(
    tmp_path: Path,
    after: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    with opened(tmp_path) as cosigner:
        assert cosigner.add(parse_request(body("a", 0, FORK_AT)), NOON).status == 200
    code = (
        "import pathlib; from tests.unit.test_audit_witness_server import die_when_signing; "
        f"die_when_signing(pathlib.Path({str(tmp_path)!r}), 'a', 12, after={after})"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    with opened(tmp_path) as cosigner:
        fork = cosigner.add(parse_request(body("b", FORK_AT, 14)), NOON)
        if after:  # the other history was committed to, and can be had again
            assert fork == Verdict(HTTPStatus.CONFLICT, size=12)
            assert cosigner.add(parse_request(body("b", 12, 14)), NOON).status == 422
            again = cosigner.add(parse_request(body("a", 12, 12)), NOON)
            assert cosigned(again.lines, text_of(note("a", 12)))
        else:  # nothing was signed, so either may be
            assert fork.status == 200
            assert cosigner.add(parse_request(body("a", FORK_AT, 12)), NOON).status == 409
            assert cosigner.add(parse_request(body("a", 14, 15)), NOON).status == 422


def serve_for_ever(state: Path, port_file: Path) -> None:
    """The child: a whole witness."""
    server = Server(state)
    with server:
        port_file.write_text(str(server.port))
        threading.Event().wait()


def test_killed_at_any_moment_it_never_cosigns_two_histories(tmp_path: Path) -> None:
    """Both histories are pushed by two callers while the witness is killed again and again.

    One has even sizes only and the other odd ones, or the contradiction would stop the log at once.
    """
    got: dict[int, set[bytes]] = {}
    for round_ in range(scaled(4, 60)):
        port_file = tmp_path / f"port{round_}"
        code = (
            "import pathlib; from tests.unit.test_audit_witness_server import serve_for_ever; "
            f"serve_for_ever(pathlib.Path({str(tmp_path / 'state')!r}), "
            f"pathlib.Path({str(port_file)!r}))"
        )
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        until(written, port_file)
        server = Server(tmp_path / "state")
        server.port = int(port_file.read_text())
        seen = threading.Semaphore(0)

        def caller(history: str, server: Server = server, seen: Any = seen) -> None:
            old = 0
            for _ in range(200):
                new = max(old, FORK_AT) + 1
                new += new % 2 != "ab".index(history)
                try:
                    status, said, _ = server.add(body(history, old, new))
                except (OSError, http.client.HTTPException):
                    return
                if status == 200:
                    cosigned(said, text_of(note(history, new)))
                    got.setdefault(new, set()).add(root(history, new))
                    old = new
                    seen.release()
                elif status == 409:
                    old = int(said)
                else:
                    return

        callers = [threading.Thread(target=caller, args=(one,)) for one in "ab"]
        for one in callers:
            one.start()
        for _ in range(1 + round_ % 5):
            assert seen.acquire(timeout=60)
        child.kill()
        child.wait()
        for one in callers:
            one.join()
    assert got
    histories = {one for size, roots in got.items() for one in "ab" if root(one, size) in roots}
    assert len(histories) == 1


def written(file: Path) -> bool:
    return file.exists() and file.read_text() != ""


def until(met: Callable[[Path], bool], file: Path) -> None:
    for _ in range(6000):
        if met(file):
            return
        threading.Event().wait(0.01)
    pytest.fail("it never came to be")


# ------------------------------------------------------------------ equivocation


def test_two_roots_of_one_size_are_kept_shown_and_stop_the_log(
    server: Server, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    state = str(tmp_path / "state")
    assert server.add(body("a", 0, 10))[0] == 200
    assert server.add(body("a", 10, 12))[0] == 200
    assert main(["audit", "witness", "show", "--state", state]) == 0
    assert "EVIDENCE" not in capsys.readouterr().out
    for old, size, status in ((12, 12, 422), (0, 10, 409), (12, 12, 422)):
        assert server.add(format_request(old, (), note("b", size)))[0] == status
    loud = [one for one in caplog.records if one.message.startswith("EQUIVOCATION")]
    assert [one.levelname for one in loud] == ["CRITICAL"] * 2  # once for each pair
    assert server.add(body("a", 12, 13))[0] == 403
    assert server.ask("GET", MONITOR)[1].startswith(note("a", 12))
    assert main(["audit", "witness", "show", "--state", state]) == 0
    shown = capsys.readouterr().out
    assert shown.count("EVIDENCE") == shown.count("STANDS") == 2
    for history in "ab":
        for size in (10, 12):
            assert base64.b64encode(root(history, size)).decode() in shown
    assert main(["audit", "witness", "show", "--state", state, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["origin"], told["size"], len(told["evidence"])) == (ORIGIN, 12, 2)
    pair = [one.encode() for one in told["evidence"][0]["notes"]]
    checked = [open_checkpoint(one, [LOG_KEY]).checkpoint for one in pair]
    assert checked[0].size == checked[1].size
    assert checked[0].root != checked[1].root
    assert main(["audit", "witness", "resolve", ORIGIN, "--state", state]) == 0
    assert server.add(body("a", 12, 13))[0] == 200
    assert main(["audit", "witness", "show", "--state", state]) == 0
    assert capsys.readouterr().out.count("dealt with") == 2


def test_what_is_remembered_and_kept_is_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, history_max=2, evidence_max=1) as cosigner:
        for old, new in ((0, 8), (8, 9), (9, 10)):
            assert cosigner.add(parse_request(body("a", old, new)), NOON).status == 200
        for size in (8, 9, 10):  # 8 is forgotten, 9 is kept, there is no room for 10
            cosigner.add(parse_request(format_request(0, (), note("b", size))), NOON)
    engine = open_memory(tmp_path)
    (log,) = cosigner_memory.survey(engine)
    engine.dispose()
    assert [b"\n9\n" in one.notes[1] for one in log.evidence] == [True]


def test_a_witness_needs_a_log_and_show_a_witness(tmp_path: Path, capsys: Any) -> None:
    engine = open_memory(tmp_path)
    with pytest.raises(ProbegateError, match=r"^CONFIG_INVALID"):
        Cosigner.open(engine, parse_policy("quorum none"), WITNESS)
    engine.dispose()
    assert main(["audit", "witness", "show", "--state", str(tmp_path / "no")]) == 1
    assert "FILE_MISSING" in capsys.readouterr().err
