"""No candidate's face stays on a force's disk: not after a closed terminal, not after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.viewing import PREFIX, viewing_folder
from tests.forces import ROOT
from trust.errors import ProbegateError, Reason

FACE = b"an invented face"
WATCHING = f"""
import sys, time
from pathlib import Path
from cli.viewing import viewing_folder
with viewing_folder(Path(sys.argv[1])) as folder:
    (folder / "A.png").write_bytes({FACE!r})
    print(folder, flush=True)
    time.sleep(60)
"""


@contextmanager
def somebody_compares(state: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    command = [sys.executable, "-c", WATCHING, str(state)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def folders(state: Path) -> list[Path]:
    return sorted(state.glob(f"{PREFIX}*"))


def test_the_folder_is_its_owners_and_gone_at_the_end(tmp_path: Path) -> None:
    with viewing_folder(tmp_path / "state") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "A.png").write_bytes(FACE)
    assert folders(tmp_path / "state") == []


def test_the_folder_is_gone_after_a_failure(tmp_path: Path) -> None:
    def compare() -> None:
        with viewing_folder(tmp_path) as folder:
            (folder / "A.png").write_bytes(FACE)
            raise KeyError

    with pytest.raises(KeyError):
        compare()
    assert folders(tmp_path) == []


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_takes_the_faces_with_it(tmp_path: Path, ending: signal.Signals) -> None:
    with somebody_compares(tmp_path) as (process, folder):
        assert (folder / "A.png").read_bytes() == FACE
        process.send_signal(ending)
        assert process.wait(20) == 128 + ending
    assert folders(tmp_path) == []


def test_what_a_killed_command_left_goes_with_the_next_and_nothing_in_use_does(
    tmp_path: Path,
) -> None:
    with somebody_compares(tmp_path) as (process, left):
        process.kill()
        process.wait(20)
    assert folders(tmp_path) == [left]
    with somebody_compares(tmp_path) as (_, theirs):
        assert folders(tmp_path) == [theirs]
        with viewing_folder(tmp_path) as ours:
            assert folders(tmp_path) == sorted([ours, theirs])
            assert (theirs / "A.png").read_bytes() == FACE


def test_signals_mean_again_what_they_meant(tmp_path: Path) -> None:
    def before(*_: Any) -> None: ...

    old = signal.signal(signal.SIGTERM, before)
    try:
        with viewing_folder(tmp_path):
            assert signal.getsignal(signal.SIGTERM) is not before
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, old)


def test_a_link_is_not_followed_and_a_place_that_cannot_be_written_is_said_so(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "case.txt").write_bytes(b"the case")
    state = tmp_path / "state"
    state.mkdir()
    (state / f"{PREFIX}link").symlink_to(kept)
    (state / f"{PREFIX}file").write_bytes(b"")
    with viewing_folder(state):
        pass
    assert (kept / "case.txt").read_bytes() == b"the case"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ProbegateError) as error, viewing_folder(tmp_path / "file" / "below"):
        pass
    assert error.value.reason is Reason.FILE_UNWRITABLE
