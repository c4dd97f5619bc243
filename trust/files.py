"""Reading and writing whole files so that a crash leaves the old content or the new, never a mix.

Writing goes to a temporary file in the same folder, is flushed to the disk, and takes its name by
one rename (or link, where an existing file must not be replaced); then the folder is flushed too.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from trust.errors import ProbegateError, Reason

PRIVATE_FILE_MODE: Final = 0o600
PUBLIC_FILE_MODE: Final = 0o644
PRIVATE_FOLDER_MODE: Final = 0o700
PUBLIC_FOLDER_MODE: Final = 0o755
_WRITE_BYTES: Final = 2**20
"""How much of a file is overwritten at once, bytes."""
_UNFINISHED: Final = ".new"
"""How the name of a file ends that has not got its own yet."""
OTHERS_MAY_READ: Final = 0o077
"""Permission bits that let anybody but the owner at a file."""


def read(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        ProbegateError: ``FILE_MISSING`` if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProbegateError(
            Reason.FILE_MISSING, f"{path}: {error.strerror}", file=path.name
        ) from None


def write_atomic(
    path: Path, data: bytes, *, mode: int = PUBLIC_FILE_MODE, replace: bool = True
) -> None:
    """Write a whole file durably, making its folder if needed.

    Args:
        path: where the file goes.
        data: all of its content.
        mode: its permission bits, set before any content is in it.
        replace: whether a file of that name may be replaced.

    Raises:
        ProbegateError: ``FILE_EXISTS``, ``DISK_FULL`` or ``FILE_UNWRITABLE``.
    """
    make_folder(path.parent)
    try:
        _write(path, data, mode, replace=replace)
    except FileExistsError:
        raise ProbegateError(Reason.FILE_EXISTS, str(path), file=path.name) from None
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        reason = Reason.DISK_FULL if full else Reason.FILE_UNWRITABLE
        raise ProbegateError(reason, f"{path}: {error.strerror}", file=path.name) from None


def sweep(path: Path) -> None:
    """Remove what writes of ``path`` left that a crash cut short; for who alone writes it.

    Raises:
        ProbegateError: ``FILE_UNWRITABLE``.
    """
    own = f".{path.name}."
    _remove(
        one
        for one in path.parent.glob(f"{glob.escape(own)}*{_UNFINISHED}")
        if "." not in one.name.removeprefix(own).removesuffix(_UNFINISHED)  # not another's
    )


def sweep_folder(folder: Path, before: datetime) -> int:
    """Remove what writes into a folder left that a crash cut short; return how many there were.

    Args:
        folder: where to look; it need not be there.
        before: what was written to since may be somebody's that is on its way, and stays.

    Raises:
        ProbegateError: ``FILE_UNWRITABLE``.
    """
    return _remove(folder.glob(f".*{_UNFINISHED}"), before.timestamp())


def older(folder: Path, pattern: str, before: datetime) -> tuple[Path, ...]:
    """Return the files of a folder that were written to last before an instant, by name."""
    limit = before.timestamp()
    found = []
    for path in sorted(folder.glob(pattern)):
        with suppress(FileNotFoundError):  # another process forgot it first
            if path.stat().st_mtime < limit:
                found.append(path)
    return tuple(found)


def _remove(left: Iterable[Path], before_s: float = math.inf) -> int:
    removed = 0
    for one in left:
        try:
            if one.stat().st_mtime < before_s:
                one.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # it has its own name by now
        except OSError as error:
            raise ProbegateError(
                Reason.FILE_UNWRITABLE, f"{one}: {error.strerror}", file=one.name
            ) from None
    return removed


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a file only its owner can read (0600), in a folder made 0700 if it is new."""
    make_folder(path.parent, mode=PRIVATE_FOLDER_MODE)
    write_atomic(path, data, mode=PRIVATE_FILE_MODE, replace=replace)


def require_writable(path: Path) -> None:
    """Refuse a place that a private file could not be written to, before what it is for is done.

    Raises:
        ProbegateError: ``FILE_UNWRITABLE`` or ``DISK_FULL``.
    """
    make_folder(path.parent, mode=PRIVATE_FOLDER_MODE)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        handle, name = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        reason = Reason.DISK_FULL if full else Reason.FILE_UNWRITABLE
        raise ProbegateError(reason, f"{path}: {error.strerror}", file=path.name) from None


def make_folder(path: Path, *, mode: int = PUBLIC_FOLDER_MODE) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        ProbegateError: ``FILE_UNWRITABLE``.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ProbegateError(
            Reason.FILE_UNWRITABLE, f"{path}: {error.strerror}", file=path.name
        ) from None


@contextmanager
def turn(lock: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same lock file, which is made if missing.

    Raises:
        ProbegateError: ``FILE_UNWRITABLE``.
    """
    make_folder(lock.parent)
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE)
    except OSError as error:
        raise ProbegateError(Reason.FILE_UNWRITABLE, f"{lock}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, data: bytes, mode: int, *, replace: bool) -> None:
    handle, name = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)  # made 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike rename, fails where the name is taken
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def overwrite(path: Path) -> None:
    """Overwrite a file with zeros, all of it, through to the disk; it stays where it is.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("r+b") as stream:
        left = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        while left:
            left -= stream.write(bytes(min(left, _WRITE_BYTES)))
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk.

    Raises:
        OSError: it cannot be.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
