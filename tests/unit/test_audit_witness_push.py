"""A log has its checkpoint cosigned, keeps what it got, and catches a witness that forgets."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from audit import merkle
from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.folder import LogFolder
from audit.log_source import call, log_source, node_reader
from audit.notes import SignatureType, VerifierKey, cosign
from audit.policy_file import KnownWitness, parse_policy
from audit.quorum import witnessed
from audit.settings import LogSettings
from audit.witness_push import WitnessedStore, push
from audit.writer import LogWriter, NewEntry
from cli.main import main
from tests.unit.witness_kit import (
    LOG,
    LOG_KEY,
    MONITOR,
    ORIGIN,
    WITNESS,
    WITNESS_KEY,
    Server,
    cosigned,
    policy,
    signer,
    text_of,
)
from trust.errors import ProbegateError, Reason

ROOT = Path(__file__).parents[2]


def grow(base: Path, count: int) -> Path:
    """Append to a real log and return its folder."""

    async def append() -> None:
        log = LogWriter.open(
            create_engine(f"sqlite:///{base / 'log.db'}"),
            name="search",
            origin=ORIGIN,
            signer=LOG,
            folder=base / "log",
            settings=LogSettings(batch_window_s=0),
        )
        await asyncio.gather(*(log.append(NewEntry({"n": n})) for n in range(count)))
        await log.close()

    base.mkdir(exist_ok=True)
    asyncio.run(append())
    return base / "log"


def refused(reason: Reason) -> Any:
    return pytest.raises(ProbegateError, match=f"^{reason.name}:")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as running:
        yield running


def pushed(server: Server, folder: Path, store: Path | None = None) -> int:
    witness = KnownWitness("w", WITNESS_KEY, server.url)
    kept = WitnessedStore(store or folder / "witnessed")
    return push(log_source(str(folder)), [LOG_KEY], witness, kept).checkpoint.size


def test_a_log_is_pushed_as_it_grows(server: Server, tmp_path: Path) -> None:
    size = 0
    for more in (3, 1, 0, 296, 700):
        folder = grow(tmp_path, more)
        size += more
        assert pushed(server, folder) == size
        kept = (folder / "witnessed" / "checkpoint").read_bytes()
        assert kept == server.ask("GET", MONITOR)[1]
        line = b"\xe2\x80\x94 " + kept.rpartition(b"\xe2\x80\x94 ")[2]
        assert cosigned(line, text_of(LogFolder(folder).checkpoint()))
        found = witnessed(folder, parse_policy(policy()), LOG_KEY)
        assert (found.holds, found.checkpoint.size) == (True, size)


def test_a_log_is_pushed_from_its_address(server: Server, tmp_path: Path, capsys: Any) -> None:
    folder = grow(tmp_path, 300)
    file = tmp_path / "scheme.policy"
    file.write_text(policy(server.url))
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever).start()
        url = f"http://127.0.0.1:{web.server_port}"
        arguments = ["audit", "witness", "push", url, "--policy", str(file)]
        assert main(arguments) == 1
        assert "CONFIG_INVALID" in capsys.readouterr().err
        for size in (300, 700):
            store = str(tmp_path / "kept")
            assert main([*arguments, "--store", store]) == 0
            assert f"w cosigned size {size} at 2026-11-23" in capsys.readouterr().out
            grow(tmp_path, 400)
        with refused(Reason.FILE_MISSING):
            log_source(url).hashes(0, 9, 1)
        (folder / "checkpoint").write_bytes(b"x" * 70_000)
        with refused(Reason.MESSAGE_TOO_LARGE):
            log_source(url).checkpoint()
        web.shutdown()
    with refused(Reason.SERVICE_UNREACHABLE):
        log_source(url).checkpoint()
    for bad in ("ftp://x", "http://", "http://x:y/", "http://[/"):
        with refused(Reason.CONFIG_INVALID):
            call("GET", bad, most=1)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_a_log_far_away_gives_the_proofs_of_its_folder(tmp_path: Path) -> None:
    folder = grow(tmp_path, 300)
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever).start()
        far = log_source(f"http://127.0.0.1:{web.server_port}")
        near = log_source(str(folder))
        for old, new in ((1, 300), (200, 300), (256, 300), (255, 257), (100, 199)):
            proof = merkle.consistency_proof(node_reader(near, 300), old, new)
            assert merkle.consistency_proof(node_reader(far, 300), old, new) == proof
            before, after = (merkle.range_hash(node_reader(far, 300), 0, at) for at in (old, new))
            merkle.verify_consistency(old, new, before, after, proof)
        # A partial tile that is gone is the beginning of the full one.
        assert far.hashes(0, 0, 9) == near.hashes(0, 0, 9) == near.hashes(0, 0, 256)[:9]
        web.shutdown()


def test_a_witness_that_was_rolled_back_is_found_out(server: Server, tmp_path: Path) -> None:
    folder = grow(tmp_path, 5)
    assert pushed(server, folder) == 5
    server.stop()
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    server.start()
    grow(tmp_path, 4)
    assert pushed(server, folder) == 9
    server.stop()
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    server.start()
    for more in (0, 3):
        grow(tmp_path, more)
        with refused(Reason.WITNESS_ROLLED_BACK):
            pushed(server, folder)
    assert server.ask("GET", MONITOR)[1].startswith(f"{ORIGIN}\n5\n".encode())  # nothing was sent
    shutil.rmtree(tmp_path / "state")
    server.stop()
    server.start()  # and one that forgot everything
    with refused(Reason.WITNESS_ROLLED_BACK):
        pushed(server, folder)


def test_a_witness_that_knows_more_is_proved_to_from_there(server: Server, tmp_path: Path) -> None:
    folder = grow(tmp_path, 5)
    assert pushed(server, folder, tmp_path / "one") == 5
    grow(tmp_path, 4)
    assert pushed(server, folder, tmp_path / "two") == 9
    grow(tmp_path, 1)
    assert pushed(server, folder, tmp_path / "one") == 10


def test_a_log_that_was_rolled_back_is_not_pushed(server: Server, tmp_path: Path) -> None:
    folder = grow(tmp_path, 5)
    shutil.copytree(folder, tmp_path / "copy")
    grow(tmp_path, 4)
    assert pushed(server, folder) == 9
    for store in (folder / "witnessed", tmp_path / "other"):
        with refused(Reason.CHECKPOINT_INCONSISTENT):
            pushed(server, tmp_path / "copy", store)


def test_a_rewritten_log_is_caught_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    folder = grow(tmp_path, 5)
    assert pushed(server, folder) == 5
    other = grow(tmp_path / "other", 9)
    shutil.copytree(folder / "witnessed", other / "witnessed")
    rewrite(other, 9)
    with refused(Reason.CHECKPOINT_INCONSISTENT):
        pushed(server, other)
    with refused(Reason.CHECKPOINT_INCONSISTENT):  # and the witness says no by itself
        pushed(server, other, tmp_path / "new")
    with refused(Reason.CHECKPOINT_INCONSISTENT):
        witnessed(other, parse_policy(policy()), LOG_KEY)


def rewrite(folder: Path, size: int) -> None:
    """Give a small log other entries, under the same key."""
    leaves = [merkle.leaf_hash(b"%d" % n) for n in range(size)]
    (folder / "tile" / "0" / f"000.p/{size}").write_bytes(b"".join(leaves))
    signed = sign_checkpoint(Checkpoint(ORIGIN, size, merkle.root_of(leaves)), LOG)
    (folder / "checkpoint").write_bytes(signed.note)


def test_a_witness_that_does_not_keep_to_the_protocol(tmp_path: Path) -> None:
    folder = grow(tmp_path, 5)
    note = LogFolder(folder).checkpoint()
    stranger = signer("witness.example", SignatureType.COSIGNATURE_V1, "a stranger")
    other = cosign(sign_checkpoint(Checkpoint(ORIGIN, 1, b"r" * 32), LOG).note, WITNESS, 5)
    for status, said, reason in (
        (200, b"", Reason.CHECKPOINT_INVALID),
        (200, b"nonsense", Reason.CHECKPOINT_INVALID),
        (200, cosign(note, stranger, 5), Reason.CHECKPOINT_INVALID),
        (200, other, Reason.CHECKPOINT_INVALID),
        (200, over_the_whole_note(note), Reason.CHECKPOINT_INVALID),
        (409, b"", Reason.SERVICE_UNREACHABLE),
        (409, b"-1\n", Reason.SERVICE_UNREACHABLE),
        (409, b"\xff\n", Reason.SERVICE_UNREACHABLE),
        (409, b"3\n", Reason.SERVER_BUSY),
        (409, b"6\n", Reason.CHECKPOINT_INCONSISTENT),
        (403, b"", Reason.KEY_UNKNOWN),
        (404, b"x" * 100_000, Reason.KEY_UNKNOWN),
        (422, b"", Reason.CHECKPOINT_INCONSISTENT),
        (500, b"", Reason.SERVICE_UNREACHABLE),
    ):
        with saying(status, said) as url, refused(reason):
            push(
                log_source(str(folder)),
                [LOG_KEY],
                KnownWitness("w", WITNESS_KEY, url),
                WitnessedStore(tmp_path / "kept"),
            )
    assert not (tmp_path / "kept").exists()


def over_the_whole_note(note: bytes) -> bytes:
    """A good signature over the note with its own signature lines, as if they were its text."""
    cosigned_again = cosign(note + b"\n" + note.rpartition(b"\n\n")[2], WITNESS, 5)
    return b"\n" + cosigned_again


@contextmanager
def saying(status: int, said: bytes) -> Iterator[str]:
    class Fixed(Quiet):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    with ThreadingHTTPServer(("127.0.0.1", 0), Fixed) as web:
        threading.Thread(target=web.serve_forever).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


# ------------------------------------------------------------------ the command line


def test_a_log_verifies_with_a_quorum_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    """Two witnesses run as processes; one of them is down at first."""
    folder = grow(tmp_path, 5)
    vkeys = []
    for name in ("one", "two"):
        key = str(tmp_path / f"{name}.key")
        assert main(["audit", "witness", "key", key, "--name", f"{name}.example"]) == 0
        vkeys.append(capsys.readouterr().out.strip())
    logs = tmp_path / "logs.policy"
    logs.write_text(f"log {LOG_KEY}\nquorum none\n")
    file = tmp_path / "scheme.policy"
    verify = ["audit", "verify", str(folder), "--policy", str(file)]
    with running(tmp_path, "one", logs) as one:
        file.write_text(scheme(vkeys, [one, "http://127.0.0.1:9"]))
        assert main(verify) == 1
        assert capsys.readouterr().err.startswith("probegate: QUORUM_MISSING")
        assert main(["audit", "witness", "push", str(folder), "--policy", str(file)]) == 1
        said = capsys.readouterr()
        assert "one cosigned size 5" in said.out
        assert "two: SERVICE_UNREACHABLE" in " ".join(said.err.split())
        assert main(verify) == 1
        said = capsys.readouterr()
        assert "missing two" in said.out
        grow(tmp_path, 2)
        with running(tmp_path, "two", logs) as two:
            file.write_text(scheme(vkeys, [one, two]))
            assert main(["audit", "witness", "push", str(folder), "--policy", str(file)]) == 0
            nobody = ["--witness", "three"]
            assert main(["audit", "witness", "push", str(folder), "--policy", str(file), *nobody])
    grow(tmp_path, 1)
    capsys.readouterr()
    assert main(verify) == 0
    said = capsys.readouterr().out
    assert "the quorum holds at size 7" in said
    assert "WARNING" not in said  # the key is the policy's
    assert main([*verify, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["size"], told["quorum"]["size"]) == (True, 8, 7)
    assert set(told["quorum"]["signed"]) == {"one", "two"}
    file.write_text(scheme(vkeys, [one, two]).replace(str(LOG_KEY), str(stranger_key())))
    assert main(verify) == 1
    assert "CHECKPOINT_INVALID" in capsys.readouterr().err


def stranger_key() -> VerifierKey:
    return VerifierKey.of(signer(ORIGIN, SignatureType.ED25519, "a stranger"))


def scheme(vkeys: list[str], urls: list[str]) -> str:
    named = zip(("one", "two"), vkeys, urls, strict=True)
    witnesses = "".join(f"witness {name} {vkey} {url}\n" for name, vkey, url in named)
    return f"log {LOG_KEY}\n{witnesses}group both all one two\nquorum both\n"


@contextmanager
def running(base: Path, name: str, logs: Path) -> Iterator[str]:
    port_file = base / f"{name}.port"
    options = {
        "--name": f"{name}.example",
        "--policy": str(logs),
        "--key": str(base / f"{name}.key"),
        "--listen": "127.0.0.1:0",
        "--state": str(base / f"{name}.state"),
        "--port-file": str(port_file),
    }
    arguments = [part for pair in options.items() for part in pair]
    child = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "audit", "witness", "serve", *arguments],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(6000):
            if port_file.exists():
                break
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{int(port_file.read_text())}"
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
