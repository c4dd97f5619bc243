"""Fixtures that several kinds of test share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.local.demo import OWN_GALLERIES
from deploy.local.place import Place
from deploy.local.processes import Processes
from deploy.local.setting_up import PORT_VARIABLE, PREFERRED_PORT, set_up
from force_client import ForceClient
from tests.forces import search, settings_of
from tests.world import World, copied_examples, forget

TRIES: Final = 3
FEDERATION_ROWS = 1500
"""Invented records in each gallery of the tests' federation."""


TEMPROOT: Final = "PYTEST_DEBUG_TEMPROOT"
"""Where pytest makes its temporary folders, if it is said."""
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
ROOM_BYTES: Final = 4 * 2**30
"""Free memory that the tests' files want, bytes: a quarter of it is used at most."""

# Processes that share the tests each have ports of their own, so that none takes another's.
_PROCESS: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ[PORT_VARIABLE] = str(PREFERRED_PORT + 500 * _PROCESS)


def pytest_configure(config: pytest.Config) -> None:
    """Put the tests' files into memory where there is room: on a disk half their time is waiting.

    What kills processes while they write loses nothing by it: the kernel keeps what they wrote.
    """
    wanted = config.option.basetemp or os.environ.get(TEMPROOT)
    if not wanted and MEMORY.is_dir() and has_room(MEMORY):
        os.environ[TEMPROOT] = str(MEMORY)


def has_room(folder: Path) -> bool:
    """Whether the tests' files fit in a folder, and what they build there may be run."""
    runs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    return runs and shutil.disk_usage(folder).free > ROOM_BYTES


def pytest_sessionfinish() -> None:
    """Leave nothing behind: a process that shares the tests ends without doing so by itself."""
    forget()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A scheme of its own for one test, under the shipped example agreements."""
    return World.make(tmp_path, agreements=copied_examples(tmp_path / "agreements"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the tests' federation lies, set up and not running."""
    place = Place(tmp_path_factory.mktemp("federation") / "demo")
    set_up(place, rows=FEDERATION_ROWS, say=lambda _what: None)
    return place


@pytest.fixture(scope="session")
def federation(place: Place) -> Iterator[Processes]:
    """The tests' federation, up: a broker and six adapters as processes with mTLS on loopback.

    The police's own galleries have been asked about the robbery's probes, which is what passports
    and asylum want to see on the log before they answer.
    """
    processes = Processes(place)
    processes.start()
    with ForceClient(settings_of(place)) as client:
        for probe in ("suspect-good", "suspect-fair", "suspect-poor"):
            # Once is enough, unless the machine is too busy for both to answer in time.
            asked = (search(client, place, probe, agencies=OWN_GALLERIES) for _ in range(TRIES))
            assert any(one.view.complete for one in asked), probe
    yield processes
    processes.stop()


@pytest.fixture
def up(federation: Processes) -> Iterator[Processes]:
    """The federation for a test that may stop or kill servers; all are up again afterwards."""
    federation.start()
    yield federation
    federation.start()
