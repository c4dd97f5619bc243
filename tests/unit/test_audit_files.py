"""A log's folder: any altered byte is found, by both verifiers, and the commands say where."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import pty
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from typer.testing import CliRunner

from audit.notes import NoteSigner, VerifierKey, note_signer
from audit.publisher import LOCK_FILE
from audit.settings import LogSettings
from audit.verify import verify_folder
from audit.writer import LogWriter, NewEntry
from benchmarks.audit.made import make_log as make_published
from benchmarks.audit.made import signer as published_signer
from cli.audit import app
from tests.forces import ROOT, strangers_verifier
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"
ENTRIES = 600
stranger = strangers_verifier()
STRANGER_MAX_LINES = 150
"""What somebody can read in one sitting before trusting it."""


def test_the_stand_alone_verifier_stays_short_enough_to_be_read() -> None:
    script = ROOT / "docs" / "verify" / "verify_log.py"
    assert len(script.read_text().splitlines()) <= STRANGER_MAX_LINES


def make_log(base: Path, signer: NoteSigner, entries: int, batch: int = 97) -> Path:
    async def fill() -> None:
        writer = LogWriter.open(
            create_engine(f"sqlite:///{base / 'state.db'}"),
            name="search",
            origin=ORIGIN,
            signer=signer,
            folder=base / "log",
            settings=LogSettings(publish_interval_s=0.01),
        )
        for start in range(0, entries, batch):
            await asyncio.gather(
                *(
                    writer.append(NewEntry({"type": ["even", "odd"][n % 2], "n": n}, {"x": n}))
                    for n in range(start, min(start + batch, entries))
                )
            )
        await writer.close()

    asyncio.run(fill())
    return base / "log"


@pytest.fixture(scope="module")
def signer() -> NoteSigner:
    key = Ed25519PrivateKey.generate()
    return note_signer(ORIGIN, key.sign, key.public_key().public_bytes_raw())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, signer: NoteSigner) -> Path:
    return make_log(tmp_path_factory.mktemp("log"), signer, ENTRIES)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512])
def test_logs_of_every_shape_verify(tmp_path: Path, signer: NoteSigner, size: int) -> None:
    folder = make_log(tmp_path, signer, size)
    report = verify_folder(folder, VerifierKey.of(signer))
    assert (report.ok, report.size, report.entries, report.pinned) == (True, size, size, True)
    assert stranger.verify(folder, str(VerifierKey.of(signer)))[:2] == (ORIGIN, size)


def test_a_third_level_of_tiles_verifies(tmp_path: Path, signer: NoteSigner) -> None:
    size = 65_536 + 256 + 3
    folder = make_log(tmp_path, signer, size, batch=8192)
    assert (folder / "tile/2/000.p/1").exists()
    assert verify_folder(folder, VerifierKey.of(signer)).ok
    assert stranger.verify(folder, str(VerifierKey.of(signer)))[1] == size


def damaged(folder: Path, key: VerifierKey) -> list[str]:
    """Where our verifier sees damage."""
    try:
        report = verify_folder(folder, key)
    except ProbegateError as error:
        expected = error.reason in {Reason.CHECKPOINT_INVALID, Reason.FILE_MISSING}
        return ["checkpoint"] if expected else []
    assert report.ok == (not report.problems)
    return [one.file for one in report.problems]


@settings(
    max_examples=scaled(60, 2000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_every_flipped_bit_is_found_and_named(
    log: Path, signer: NoteSigner, data: st.DataObject
) -> None:
    key = VerifierKey.of(signer)
    files = sorted(one for one in log.rglob("*") if one.is_file() and one.name != LOCK_FILE)
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    altered = bytearray(whole)
    altered[at] ^= 1 << bit
    try:
        path.write_bytes(altered)
        found = damaged(log, key)
    finally:
        path.write_bytes(whole)
    assert str(path.relative_to(log)) in found


@pytest.mark.parametrize(
    "name",
    ["checkpoint", "tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001"],
)
def test_every_missing_or_shortened_file_is_found(log: Path, signer: NoteSigner, name: str) -> None:
    key, path = VerifierKey.of(signer), log / name
    whole = path.read_bytes()
    try:
        for left in (whole[:-1], whole + b"\x00", whole[: len(whole) // 2], b""):
            path.write_bytes(left)
            assert name in damaged(log, key)
            with pytest.raises((stranger.Wrong, ValueError)):
                stranger.verify(log, str(key))
        path.unlink()
        assert name in damaged(log, key)
        with pytest.raises((stranger.Wrong, OSError)):
            stranger.verify(log, str(key))
    finally:
        path.write_bytes(whole)
    assert damaged(log, key) == []


def test_the_report_names_the_entry(log: Path, signer: NoteSigner, tmp_path: Path) -> None:
    copy = shutil.copytree(log, tmp_path / "copy")
    bundle = copy / "tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b'"n":300', b'"n":301', 1))
    report = verify_folder(copy, VerifierKey.of(signer))
    assert [(one.file, one.entry) for one in report.problems] == [("tile/entries/001", 300)]
    assert report.entries == ENTRIES - 1
    with pytest.raises(stranger.Wrong, match="entry 300"):
        stranger.verify(copy, str(VerifierKey.of(signer)))


def test_a_log_swapped_for_anothers_needs_the_pinned_key(
    log: Path, signer: NoteSigner, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    other = note_signer(ORIGIN, key.sign, key.public_key().public_bytes_raw())
    folder = make_log(tmp_path, other, 3)
    assert verify_folder(folder).ok
    assert not verify_folder(folder).pinned
    with pytest.raises(ProbegateError, match="CHECKPOINT_INVALID"):
        verify_folder(folder, VerifierKey.of(signer))


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_the_verify_command(log: Path, signer: NoteSigner, tmp_path: Path) -> None:
    code, out, err = run("verify", str(log))
    assert (code, err) == (0, "")
    assert "everything verifies" in out
    assert "WARNING" in out
    assert max(map(len, out.splitlines())) <= 80
    pin = tmp_path / "pin"
    pin.write_text(f"{VerifierKey.of(signer)}\n")
    code, out, _ = run("verify", str(log), "--vkey", str(pin), "--json")
    assert (code, json.loads(out)["size"], json.loads(out)["pinned"]) == (0, ENTRIES, True)
    assert "WARNING" not in run("verify", str(log), "--vkey", str(pin))[1]
    copy = shutil.copytree(log, tmp_path / "copy")
    (copy / "tile/entries/000").unlink()
    code, out, err = run("verify", str(copy), "--vkey", str(pin))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("probegate: LOG_CORRUPT:")
    assert "tile/entries/000: is missing" in out
    code, _, err = run("verify", str(tmp_path / "nowhere"))
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("probegate: FILE_MISSING:")


def test_the_show_command(log: Path) -> None:
    code, out, _ = run("show", str(log), "--last", "3", "--kind", "odd")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["595", "597", "599"]
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run("show", str(log), "--index", "257")
    assert (code, '"n": 257' in out) == (0, True)
    code, out, _ = run("show", str(log), "--last", "2", "--json")
    assert [json.loads(line)["index"] for line in out.splitlines()] == [598, 599]
    code, _, err = run("show", str(log), "--index", "600")
    assert (code, err.count("\n"), err[:21]) == (1, 1, "probegate: NOT_FOUND:")


def test_show_prints_entries_as_it_reads_them(log: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(log, tmp_path / "copy")
    (copy / "tile/entries/001").unlink()
    code, out, err = run("show", str(copy), "--json")
    assert (code, err[:24]) == (1, "probegate: FILE_MISSING:")
    assert [json.loads(line)["index"] for line in out.splitlines()] == list(range(256))


def on_a_terminal(*arguments: str) -> tuple[str, str]:
    """Run a command whose standard error is a terminal; return what either shows."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-c", "from cli.main import app; app()", "audit", *arguments]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs, env=environment) as child:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert child.stdout is not None
        printed = child.stdout.read()
    assert child.returncode == 0, shown
    return printed.decode(), shown.decode()


@pytest.mark.parametrize(
    "command", [("verify",), ("show",), ("show", "--last", "1", "--kind", "odd")]
)
def test_a_bar_shows_how_far_it_is_on_a_terminal_only(log: Path, command: tuple[str, ...]) -> None:
    printed, shown = on_a_terminal(command[0], str(log), *command[1:])
    assert f"{ENTRIES}/{ENTRIES}" in shown
    assert ORIGIN in shown
    assert f"{ENTRIES}/{ENTRIES}" not in printed
    assert run(command[0], str(log), *command[1:])[2] == ""


def test_verifying_a_longer_log_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for size in (2_000, 20_000):
        folder = make_published(tmp_path / str(size), size)
        runs = []
        for _ in range(2):  # other tests' garbage may be collected during one
            gc.collect()
            tracemalloc.start()
            report = verify_folder(folder, VerifierKey.of(published_signer()))
            runs.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert (report.ok, report.entries) == (False, size)  # it has no vkey file
        peaks.append(min(runs))
    assert peaks[1] < 1.5 * peaks[0]


def test_the_strangers_command(
    log: Path,
    signer: NoteSigner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["verify_log.py", str(log), str(VerifierKey.of(signer))])
    assert stranger.main() == 0
    assert capsys.readouterr().out.startswith(f"OK {ORIGIN} size {ENTRIES} root ")
    monkeypatch.setattr("sys.argv", ["verify_log.py", str(log), str(log / "checkpoint")])
    assert stranger.main() == 1
    assert capsys.readouterr().out.startswith("WRONG ")
