"""The folder in which candidates' images lie for a viewer, while they are compared.

1. It is its owner's alone (0700), and gone at the end: also when the terminal is closed (SIGHUP) or
   the command is told to stop (SIGTERM), which would otherwise end it without a word.
2. What a command left that was killed, or whose machine lost power, is removed by the next one. Who
   compares holds a lock on their folder; one that nobody holds is left over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from trust import files
from trust.errors import ProbegateError, Reason

PREFIX: Final = "viewing-"
_LOCK: Final = "viewing.lock"
_ENDING: Final = (signal.SIGHUP, signal.SIGTERM)
_SIGNALLED: Final = 128
"""A shell's exit code for a command that a signal ended, less the signal's number."""


@contextmanager
def viewing_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for images, and remove it with them.

    Raises:
        ProbegateError: ``FILE_UNWRITABLE``.
        SystemExit: a signal ended the command (1).
    """
    files.make_folder(parent, mode=files.PRIVATE_FOLDER_MODE)
    before = {one: signal.signal(one, _end) for one in _ENDING}  # (1)
    try:
        folder, held = _made(parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _made(parent: Path) -> tuple[Path, int]:
    """Return a new folder and the lock on it, with what was left over gone (2)."""
    try:
        with files.turn(parent / _LOCK):  # so that no folder is seen before it is locked
            for left in parent.glob(f"{PREFIX}*"):
                _remove_if_left(left)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # 0700 (1)
            return folder, _locked(folder)
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise ProbegateError(Reason.FILE_UNWRITABLE, detail, file=parent.name) from None


def _remove_if_left(folder: Path) -> None:
    try:
        held = _locked(folder)
    except (BlockingIOError, NotADirectoryError):
        return  # somebody is comparing
    try:
        shutil.rmtree(folder)
    finally:
        os.close(held)


def _locked(folder: Path) -> int:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise
    return held


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(_SIGNALLED + number)
