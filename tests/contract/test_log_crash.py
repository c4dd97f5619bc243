"""Kill -9 at every step of a commit and of publishing it, on every database.

The child kills itself just before or just after the n-th call of one step; what it had acknowledged
is there when the log is opened again, under one history, and its receipts still verify.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, create_engine

from audit import merkle, publisher, writer
from audit.notes import NoteSigner, VerifierKey, note_signer
from audit.proofs import format_proof, verify_receipt
from audit.settings import LogSettings
from audit.tables import Session
from audit.verify import verify_folder
from audit.writer import LogWriter, NewEntry
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"
ROOT = Path(__file__).parents[2]
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
RARE = "drop the stage"
"""A step of every 256th entry; the others are of every commit."""
RARE_CALLS = 5
"""How often a child surely comes to it, with 1,800 entries."""
STEPS: dict[str, tuple[Any, str]] = {
    "begin": (Session, "begin"),
    "stage": (Session, "stage"),
    "keep": (Session, "keep"),
    "swap": (Session, "advance"),
    RARE: (Session, "delete_below"),
    "commit": (Session, "commit"),
    "deliver": (writer, "deliver"),
    "write files": (publisher, "write_files"),
    "sync a folder": (publisher, "_sync_folder"),
}
OPEN_S = 20.0
"""How long a database may take to notice that its client is dead, seconds."""


def signer() -> NoteSigner:
    return note_signer(ORIGIN, KEY.sign, KEY.public_key().public_bytes_raw())


def open_log(url: str, folder: Path) -> LogWriter:
    return LogWriter.open(
        create_engine(url),
        name="search",
        origin=ORIGIN,
        signer=signer(),
        folder=folder,
        settings=LogSettings(publish_interval_s=0.01),
    )


def kill_at(step: str, call: int, *, after: bool) -> None:
    """Arm the child: it dies at the n-th call of a step."""
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == call
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = original(*arguments, **named)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, name, counted)


async def child(url: str, folder: Path, step: str, call: int, *, after: bool) -> None:
    """Append until dead; one line with the receipt's parts for each acknowledgement."""
    log = open_log(url, folder)
    kill_at(step, call, after=after)

    async def caller(who: int) -> None:
        for n in range(600):
            one = await log.append(
                NewEntry({"v": 1, "type": "t", "who": who, "n": n}, private={"name": f"{who} {n}"})
            )
            receipt = format_proof(one.index, one.proof, one.checkpoint.note)
            os.write(1, f"{one.leaf.hex()} {receipt.encode().hex()}\n".encode())

    await asyncio.gather(*map(caller, range(3)))


def killed(url: str, folder: Path, step: str, call: int, *, after: bool) -> list[tuple[bytes, str]]:
    """Run the child until it has killed itself; return leaves and receipts it acknowledged."""
    code = (
        "import asyncio, pathlib; from tests.contract.test_log_crash import child; "
        f"asyncio.run(child({url!r}, pathlib.Path({str(folder)!r}), {step!r}, {call}, "
        f"after={after}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    assert run.returncode == -signal.SIGKILL, "the step was never reached"
    whole = [line for line in run.stdout.decode().splitlines(keepends=True) if line.endswith("\n")]
    pairs = [line.split() for line in whole]
    return [(bytes.fromhex(leaf), bytes.fromhex(receipt).decode()) for leaf, receipt in pairs]


def opened_again(url: str, folder: Path) -> LogWriter:
    until = time.monotonic() + OPEN_S
    while True:
        try:
            return open_log(url, folder)
        except ProbegateError as error:
            if error.reason is not Reason.LOG_UNAVAILABLE or time.monotonic() > until:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_kill_at_a_step_loses_nothing_and_never_makes_two_histories(
    engine: Engine,
    tmp_path: Path,
    step: str,
    after: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    folder = tmp_path / "log"
    receipts: list[tuple[bytes, str]] = []
    for call in range(1, scaled(2, 12) + 1):
        at = 1 + (call - 1) % RARE_CALLS if step == RARE else 7 * call
        receipts += await asyncio.to_thread(killed, url, folder, step, at, after=after)
        log = await asyncio.to_thread(opened_again, url, folder)
        now = log.checkpoint.checkpoint
        for leaf, receipt in receipts:
            shown = verify_receipt(receipt, [VerifierKey.of(signer())], leaf).checkpoint
            merkle.verify_consistency(
                shown.size, now.size, shown.root, now.root, log.consistency(shown.size, now.size)
            )
        await log.close()
        assert verify_folder(folder, VerifierKey.of(signer())).ok
    assert receipts or step in {"begin", "stage", "keep", "swap"}
