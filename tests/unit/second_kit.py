"""Fixtures of the second step's tests at the force: a peer that listens, and an open client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from force_client import AsyncForceClient
from tests.unit.force_second_peer import RunningSecondPeer, SecondPeer
from trust.errors import ProbegateError, Reason


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSecondPeer]:
    peer = RunningSecondPeer(tmp_path_factory.mktemp("peer"))
    yield peer
    peer.stop()


@pytest.fixture
def second(running: RunningSecondPeer) -> SecondPeer:
    running.begin_anew()
    return running.second


@pytest_asyncio.fixture
async def client(
    running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> AsyncIterator[AsyncForceClient]:
    async with AsyncForceClient(running.settings(state_dir=tmp_path / "state")) as opened:
        yield opened


@contextmanager
def refusal(reason: Reason, **metadata: str) -> Iterator[None]:
    """Assert that a block is refused, and with what."""
    with pytest.raises(ProbegateError) as refused:
        yield
    assert refused.value.reason is reason, refused.value
    assert metadata.items() <= refused.value.metadata.items(), refused.value


async def until(met: Callable[[], bool]) -> None:
    """Wait for what a client does by itself, a while."""
    for _ in range(1000):
        if met():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def kept_files(client: AsyncForceClient, folder: str) -> list[Path]:
    """The files of one folder of a client's state."""
    return sorted((client.settings.state_dir / folder).glob("*"))
