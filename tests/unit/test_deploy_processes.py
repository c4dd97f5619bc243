"""The servers of a local federation: which run, and what is said of one that does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.place import Place
from deploy.local.processes import Processes
from tests.world import World
from trust.errors import ProbegateError, Reason


@pytest.fixture
def servers(world: World, tmp_path: Path) -> Iterator[Processes]:
    place = Place(tmp_path / "place")
    place.scheme.parent.mkdir(parents=True, exist_ok=True)
    place.scheme.symlink_to(world.scheme.folder)
    made = Processes(place)
    yield made
    made.kill("custody")


def begun(servers: Processes, program: str) -> subprocess.Popen[bytes]:
    """Have a process of ours run as custody's server."""
    child = subprocess.Popen([sys.executable, "-c", program])
    servers._children["custody"] = child
    pid = servers._place.pid("custody")
    pid.parent.mkdir(parents=True, exist_ok=True)
    pid.write_text(f"{child.pid}\n")
    return child


def test_a_process_of_ours_runs_before_the_system_shows_what_it_was_started_with(
    servers: Processes,
) -> None:
    """For a moment after the start there is nothing to read its settings file's name from."""
    child = begun(servers, "import time; time.sleep(60)")
    assert servers.running("custody")
    assert servers.pid("custody") == child.pid
    servers.kill("custody")
    assert not servers.running("custody")


def test_another_process_with_its_number_is_not_the_server(servers: Processes) -> None:
    begun(servers, "import time; time.sleep(60)")
    child = servers._children.pop("custody")
    try:
        assert not servers.running("custody")
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGBUS)})", "it was ended by SIGBUS"),
    ],
)
def test_how_a_server_ended_is_said(servers: Processes, program: str, words: str) -> None:
    begun(servers, program).wait()
    with pytest.raises(ProbegateError) as raised:
        servers._await("custody")
    assert raised.value.reason is Reason.SERVICE_UNREACHABLE
    assert words in str(raised.value)
