"""A force's details and recalls once the results they came of are gone, or were another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from force_client import AsyncForceClient
from tests.unit.force_second_peer import RunningSecondPeer, SecondPeer, asked, searched
from tests.unit.second_kit import (
    FIRST,
    LATER,
    client,
    forge_recall,
    kept_files,
    refusal,
    reported,
    running,
    second,
)
from tests.unit.test_force_disclosing import corroborated
from trust.errors import Reason
from trust.second_step import WrongMatch

__all__ = ["client", "running", "second"]


@pytest.fixture
def gone(second: SecondPeer) -> set[str]:
    """The searches whose results the broker has erased."""
    return second.peer.gone


async def heard(client: AsyncForceClient) -> list[str]:
    return [one.recall.recall_id async for one in client.recalls()]


async def test_a_recall_is_heard_and_keeps_no_other_waiting(
    client: AsyncForceClient, second: SecondPeer, gone: set[str]
) -> None:
    old, new = await searched(client), await searched(client)
    second.recall(old, "custody", "custody-a", FIRST)
    second.recall(new, "custody", "custody-b", LATER)
    gone.add(old.search_id)
    assert await heard(client) == [FIRST, LATER]
    assert len(kept_files(client, "stop-use")) == 2
    assert (await client.get(new.search_id)).stop_use == {("custody", "custody-b")}


async def test_a_recall_of_a_search_that_another_client_of_the_force_made_is_heard(
    client: AsyncForceClient, second: SecondPeer, tmp_path: Path
) -> None:
    view = await searched(client)
    second.recall(view, "custody", "custody-a", FIRST)
    settings = client.settings.model_copy(update={"state_dir": tmp_path / "another"})
    async with AsyncForceClient(settings) as another:
        assert await heard(another) == [FIRST]
        assert len(kept_files(another, "stop-use")) == 1


@pytest.mark.parametrize(
    ("spoil", "signers"),
    [
        ({}, {"recall": "broker"}),
        ({}, {"recall": "northshire"}),
        ({"recall": lambda it: it.model_copy(update={"agency": "northshire"})}, {}),
        ({"recall": lambda it: it.model_copy(update={"agency": "pnd"})}, {}),
        ({"leaf": lambda it: it | {"recall_sha256": "00" * 32}}, {}),
        ({"leaf": lambda it: it | {"reference": "custody-b"}}, {}),
        ({"leaf": lambda it: it | {"at": "yesterday"}}, {}),
        ({"leaf": lambda it: it | {"at": 5}}, {}),
        ({"log": lambda _: "log_admin"}, {}),
    ],
)
async def test_a_forged_recall_is_refused_all_the_same(
    client: AsyncForceClient,
    second: SecondPeer,
    gone: set[str],
    spoil: dict[str, Any],
    signers: dict[str, str],
) -> None:
    view = await searched(client)
    forge_recall(second, view, spoil, signers)
    gone.add(view.search_id)
    with refusal(Reason.RESULT_INVALID):
        await heard(client)
    assert kept_files(client, "stop-use") == []


async def test_details_are_used_until_their_own_end_and_not_once_they_are_recalled(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    gone: set[str],
    tmp_path: Path,
) -> None:
    search = await searched(client)
    view = await asked(client, running, view=search)
    second.release(view.request_id)
    gone.add(search.search_id)
    opened = await client.open_disclosure(view.request_id)
    assert await client.open_disclosure(view.request_id) == opened
    await corroborated(client, view)
    await client.export(view.request_id, tmp_path / "out.json")
    second.recall(search, "custody", "custody-a", FIRST)
    with refusal(Reason.STOP_USE):
        await client.open_disclosure(view.request_id)
    with refusal(Reason.STOP_USE):
        await client.export(view.request_id, tmp_path / "again.json")


async def test_a_wrong_match_of_what_was_released_is_reported(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, gone: set[str]
) -> None:
    search = await searched(client)
    view = await asked(client, running, view=search)
    second.release(view.request_id)
    gone.add(search.search_id)
    report_id = await reported(client, search.search_id, "custody-a")
    (notice,) = second.notices
    assert isinstance(notice, WrongMatch)
    assert (notice.report_id, notice.order_sha256) == (report_id, search.order_sha256)
    with refusal(Reason.RESULT_GONE):
        await reported(client, search.search_id, "custody-b")


async def test_what_is_known_is_not_verified_again_and_what_is_new_is(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    second.recall(view, "custody", "custody-a", FIRST)
    assert await client.take_recalls() == 1
    running.peer.failures = [Reason.LOG_UNAVAILABLE]
    assert await client.take_recalls() == 1
    assert running.peer.failures  # the search was not asked for
    second.recall(view, "custody", "custody-b", LATER)
    with refusal(Reason.LOG_UNAVAILABLE):
        await client.take_recalls()
    assert await client.take_recalls() == 2
    assert len(kept_files(client, "stop-use")) == 2


async def test_a_recall_that_does_not_verify_hides_no_other(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    second.signers["recall"] = "broker"
    second.recall(view, "custody", "custody-a", FIRST)
    del second.signers["recall"]
    second.recall(view, "custody", "custody-b", LATER)
    heard_of = []
    with refusal(Reason.RESULT_INVALID, check="recall"):
        async for one in client.recalls():
            heard_of.append(one.recall.recall_id)  # noqa: PERF401 - and then it is refused
    assert heard_of == [LATER]
    with refusal(Reason.RESULT_INVALID, check="recall"):
        await client.take_recalls()
    assert (await client.get(view.search_id)).stop_use == {("custody", "custody-b")}


async def test_a_recall_under_a_known_number_that_says_something_else_is_verified(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    second.recall(view, "custody", "custody-a", FIRST)
    await client.take_recalls()
    second.recalled.clear()
    second.signers["recall"] = "broker"
    second.recall(view, "custody", "custody-b", LATER)
    with refusal(Reason.RESULT_INVALID):
        await client.take_recalls()
    del second.signers["recall"]
    second.recalled.clear()
    second.recall(view, "custody", "custody-b", LATER)
    await client.take_recalls()
    assert len(kept_files(client, "stop-use")) == 2
