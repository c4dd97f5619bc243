"""A force remembers which result of a search it was shown: no older one comes after it."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from force_client import AsyncForceClient, SearchView
from force_client.models import ReceivedSearch
from tests.unit.force_second_peer import RunningSecondPeer, SecondPeer, searched
from tests.unit.second_kit import client, kept_files, refusal, running, second
from trust.errors import Reason

__all__ = ["client", "running", "second"]
KEPT = timedelta(days=2_190)
HOUR = timedelta(hours=1)


def shown(running: RunningSecondPeer, view: SearchView) -> ReceivedSearch:
    return running.peer.searches[view.search_id]


async def test_an_older_result_is_refused_after_a_newer_one(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    older = shown(running, view)
    second.expire(view, "custody")
    assert (await client.get(view.search_id)).revision == 1
    running.peer.searches[view.search_id] = older
    with refusal(Reason.RESULT_INVALID, check="revision"):
        await client.get(view.search_id)
    async with AsyncForceClient(client.settings) as another:  # it is on the disk
        with refusal(Reason.RESULT_INVALID, check="revision"):
            await another.get(view.search_id)
        with refusal(Reason.RESULT_INVALID, check="revision"):
            [event async for event in another.watch(view.search_id)]


async def test_another_result_of_the_same_revision_is_refused(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    view = await searched(client)
    before = shown(running, view)
    order = running.peer.order_of(before)
    fewer = running.scene.honest_answers(order, view.search_id)
    other = running.scene.ended(order, fewer, search_id=view.search_id)
    assert other.result != before.result
    running.peer.searches[view.search_id] = other
    with refusal(Reason.RESULT_INVALID, check="revision"):
        await client.get(view.search_id)
    running.peer.searches[view.search_id] = before
    assert (await client.get(view.search_id)).verified


async def test_what_does_not_verify_is_not_remembered(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    second.expire(view, "custody")
    later = shown(running, view)
    running.peer.searches[view.search_id] = replace(later, receipt_leaf=b"{}")
    with refusal(Reason.RESULT_INVALID):
        await client.get(view.search_id)
    assert (await searched(client)).revision == 0
    (mine,) = (
        one for one in kept_files(client, "revisions") if one.name.startswith(view.search_id)
    )
    assert b'"revision":0' in mine.read_bytes()
    assert mine.stat().st_mode & 0o777 == 0o600


async def test_where_nothing_is_kept_an_open_client_remembers(
    running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    settings = running.settings(state_dir=tmp_path / "state", keep_orders=False)
    async with AsyncForceClient(settings) as client:
        view = await searched(client)
        older = shown(running, view)
        second.expire(view, "custody")
        await client.get(view.search_id)
        running.peer.searches[view.search_id] = older
        with refusal(Reason.RESULT_INVALID, check="revision"):
            await client.get(view.search_id)
    assert not (tmp_path / "state" / "revisions").exists()


async def test_what_is_damaged_is_said(client: AsyncForceClient) -> None:
    view = await searched(client)
    (kept,) = kept_files(client, "revisions")
    kept.write_bytes(b"{")
    with refusal(Reason.STATE_UNAVAILABLE, file=kept.name):
        await client.get(view.search_id)


async def test_it_is_forgotten_with_the_searchs_other_records(client: AsyncForceClient) -> None:
    await searched(client)
    now = datetime.now(UTC)
    (kept,) = kept_files(client, "revisions")
    for age, there in ((KEPT - HOUR, True), (KEPT + HOUR, False)):
        os.utime(kept, (now.timestamp(),) * 2)
        client._clock = lambda age=age: now + age  # type: ignore[misc]
        await client.forget_expired()
        assert kept.exists() == there
