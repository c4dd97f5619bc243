"""Fixtures of the second step's tests at the force: a peer that listens, and an open client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from force_client import AsyncForceClient, Part, SearchView
from tests.unit.force_second_peer import OFFICER, RunningSecondPeer, SecondPeer, person
from trust.errors import ProbegateError, Reason

FIRST: Final = "4fa3c1de-0000-4000-8000-000000000001"
LATER: Final = "4fa3c1de-0000-4000-8000-000000000002"
"""Ids of recalls."""


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


async def reported(client: AsyncForceClient, search_id: str, reference: str) -> str:
    """Report that one of custody's candidates is a wrong match; return the report's id."""
    return await client.report_wrong_match(
        search_id,
        "custody",
        reference,
        reporter=person(client, OFFICER),
        reporter_token=client.issue_token(OFFICER, Part.OFFICER),
        reasons="He was in prison on the day.",
    )


def forge_recall(
    second: SecondPeer, view: SearchView, spoil: dict[str, Any], signers: dict[str, str]
) -> None:
    """Have custody's first candidate recalled, with parts spoilt or signed by another."""
    second.spoil |= spoil
    second.signers |= signers
    second.recall(view, "custody", "custody-a", FIRST)
    if "leaf" in spoil:
        honest = spoil["leaf"]
        second.spoil["leaf"] = lambda it: honest(it) if it["type"].startswith("recall") else it


def kept_files(client: AsyncForceClient, folder: str) -> list[Path]:
    """The files of one folder of a client's state."""
    return sorted((client.settings.state_dir / folder).glob("*"))
