"""Nothing acknowledged is lost: kill -9 at any moment, and storage that stops taking bytes."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine

from audit import merkle
from audit.checkpoints import Checkpoint, open_checkpoint
from audit.folder import LogFolder
from audit.notes import NoteSigner, VerifierKey, note_signer
from audit.settings import LogSettings
from audit.verify import verify_folder
from audit.writer import LogWriter, NewEntry
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"
ROOT = Path(__file__).parents[2]
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def signer() -> NoteSigner:
    return note_signer(ORIGIN, KEY.sign, KEY.public_key().public_bytes_raw())


def open_log(base: Path, interval_s: float = 0.01) -> LogWriter:
    return LogWriter.open(
        create_engine(f"sqlite:///{base / 'state.db'}"),
        name="search",
        origin=ORIGIN,
        signer=signer(),
        folder=base / "log",
        settings=LogSettings(publish_interval_s=interval_s),
    )


async def append_for_ever(base: Path) -> None:
    """The child: eight callers, and one line for each acknowledgement."""
    writer = open_log(base)

    async def caller(who: int) -> None:
        n = 0
        while True:
            one = await writer.append(NewEntry({"who": who, "n": n, "pad": "x" * 50 * who}))
            size = one.checkpoint.checkpoint.size
            root = one.checkpoint.checkpoint.root.hex()
            os.write(1, f"{one.index} {one.leaf_hash.hex()} {size} {root}\n".encode())
            n += 1

    await asyncio.gather(*map(caller, range(8)))


def child(base: Path) -> subprocess.Popen[bytes]:
    code = (
        "import asyncio, pathlib; from tests.unit.test_audit_crash import append_for_ever; "
        f"asyncio.run(append_for_ever(pathlib.Path({str(base)!r})))"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)


def watch(folder: Path, done: threading.Event, seen: list[Checkpoint]) -> None:
    """A reader of the folder: every checkpoint it sees has its tiles, and none is smaller."""
    key = VerifierKey.of(signer())
    while not done.is_set():
        if (folder / "checkpoint").exists():
            now = open_checkpoint(LogFolder(folder).checkpoint(), [key], ORIGIN).checkpoint
            if not seen or now != seen[-1]:
                report = verify_folder(folder, key)
                assert report.ok, report.problems
                seen.append(now)
        time.sleep(0.005)


async def test_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    acknowledged: dict[int, tuple[str, int, str]] = {}
    seen: list[Checkpoint] = []
    for _ in range(scaled(12, 300)):
        done = threading.Event()
        watching = asyncio.create_task(asyncio.to_thread(watch, tmp_path / "log", done, seen))
        process = child(tmp_path)
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it is up
        await asyncio.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        done.set()
        await watching
        for line in lines:
            if line.endswith(b"\n"):
                words = line.decode().split()
                assert int(words[0]) not in acknowledged
                acknowledged[int(words[0])] = (words[1], int(words[2]), words[3])

        writer = open_log(tmp_path)
        now = writer.checkpoint.checkpoint
        for at, (leaf_hash, size, _) in acknowledged.items():
            assert merkle.leaf_hash(writer.leaf(at)).hex() == leaf_hash
            assert size <= now.size
        for at in chance.sample(sorted(acknowledged), min(20, len(acknowledged))):
            leaf_hash, size, root = acknowledged[at]
            proof = writer.inclusion(at, now.size)
            merkle.verify_inclusion(at, now.size, bytes.fromhex(leaf_hash), proof, now.root)
            merkle.verify_consistency(
                size, now.size, bytes.fromhex(root), now.root, writer.consistency(size, now.size)
            )
        await writer.close()
        assert verify_folder(tmp_path / "log", VerifierKey.of(signer())).ok
    assert [one.size for one in seen] == sorted({one.size for one in seen})
    assert len(acknowledged) > 50


async def fill_until_refused(base: Path, limit: int) -> None:
    """The child: no file may grow past ``limit`` bytes."""
    writer = open_log(base)
    await writer.append(NewEntry({"n": -1}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    last = -1
    try:
        for n in range(100_000):
            one = await writer.append(NewEntry({"n": n, "pad": "x" * 4000}))
            last = one.index
    except ProbegateError as error:
        reasons = [error.reason.name]
    try:
        await writer.append(NewEntry({"n": "again"}))
    except ProbegateError as error:
        reasons.append(error.reason.name)
    print(last, *reasons)  # noqa: T201 - the child's answer
    await writer.close()


@pytest.mark.parametrize("limit", [400_000, 1_500_000])
def test_storage_that_is_full_refuses_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    code = (
        "import asyncio, pathlib; from tests.unit.test_audit_crash import fill_until_refused; "
        f"asyncio.run(fill_until_refused(pathlib.Path({str(tmp_path)!r}), {limit}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    last, first, second = result.stdout.split()
    storage = {Reason.DISK_FULL.name, Reason.LOG_UNAVAILABLE.name}
    assert {first, second} <= storage

    async def go_on() -> None:
        writer = open_log(tmp_path)  # there is room again
        assert writer.checkpoint.checkpoint.size > int(last) > 0
        one = await writer.append(NewEntry({"n": "on we go"}))
        assert one.index == writer.checkpoint.checkpoint.size - 1
        await writer.close()

    asyncio.run(go_on())
    assert verify_folder(tmp_path / "log", VerifierKey.of(signer())).ok


async def test_files_that_cannot_be_written_delay_nothing_until_too_many_wait(
    tmp_path: Path,
) -> None:
    writer = LogWriter.open(
        create_engine(f"sqlite:///{tmp_path / 'state.db'}"),
        name="search",
        origin=ORIGIN,
        signer=signer(),
        folder=tmp_path / "log",
        settings=LogSettings(publish_interval_s=0.01, unpublished_max_entries=512),
    )
    blocker = tmp_path / "log" / "tile"
    blocker.write_bytes(b"")  # a file where a folder has to be
    accepted = 0

    async def append_for_ever() -> None:
        nonlocal accepted
        while True:
            await asyncio.gather(*(writer.append(NewEntry({"n": n})) for n in range(100)))
            accepted += 100

    with pytest.raises(ProbegateError) as refused:
        await append_for_ever()
    assert refused.value.reason is Reason.LOG_UNAVAILABLE
    assert accepted >= 500
    blocker.unlink()
    await writer.close()
    report = verify_folder(tmp_path / "log", VerifierKey.of(signer()))
    assert report.ok
    assert report.size >= accepted
