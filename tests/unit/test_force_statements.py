"""An agency's key is judged at the time that the log proves and at the one that is stated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from audit.leaves import stamp
from force_client import AsyncForceClient, Part
from tests.unit.force_second_peer import (
    REVIEWERS,
    RunningSecondPeer,
    SecondPeer,
    asked,
    person,
    searched,
)
from tests.unit.second_kit import FIRST, kept_files, refusal
from trust.clock import utc_now
from trust.directory import KeyUse
from trust.errors import Reason

HOUR = timedelta(hours=1)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningSecondPeer]:
    """A peer of each test's own: its scheme's keys change."""
    peer = RunningSecondPeer(tmp_path)
    yield peer
    peer.stop()


@pytest_asyncio.fixture
async def client(running: RunningSecondPeer) -> AsyncIterator[AsyncForceClient]:
    async with AsyncForceClient(running.settings(reload_interval_s=1e-9)) as opened:
        yield opened


@pytest.fixture
def second(running: RunningSecondPeer) -> SecondPeer:
    return running.second


def later(client: AsyncForceClient, hours: float) -> None:
    """Let the force's clock be ahead."""
    client._clock = lambda: utc_now() + hours * HOUR


def custody_revoked(running: RunningSecondPeer, at: datetime) -> None:
    """Revoke the key that custody signs with."""
    scheme = running.scene.scheme
    scheme.revoke_key("custody", running.scene.signer("custody").kid, at)
    scheme.publish_directory()


def custody_rotated(running: RunningSecondPeer, at: datetime) -> None:
    """Give custody a key that is valid from an instant on."""
    running.scene.scheme.rotate_key("custody", KeyUse.SIGN, at)
    running.scene.scheme.publish_directory()


def dated(second: SecondPeer, at: datetime, logged: datetime, *kinds: str) -> None:
    """Have what custody signs say one time, and the log's entry of it another."""
    fields = {
        "recall": ("recalled_at",),
        "decision": ("decided_at",),
        "details": ("released_at",),
        "image": ("sent_at",),
    }
    for kind in kinds:
        changes = dict.fromkeys(fields[kind], at)
        second.spoil[kind] = lambda it, changes=changes: it.model_copy(update=changes)  # type: ignore[misc]
    entries = ("recall.received", "disclosure.decided")
    second.spoil["leaf"] = lambda it: it | {"at": stamp(logged)} if it["type"] in entries else it


async def test_a_recall_stands_after_the_key_that_signed_it_was_revoked(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    """The key was made after the order, so it was valid neither then nor is it now."""
    view, now = await searched(client), utc_now()
    custody_rotated(running, now + HOUR)
    dated(second, now + 2 * HOUR, now + 2 * HOUR, "recall")
    second.recall(view, "custody", "custody-a", FIRST)
    custody_revoked(running, now + 3 * HOUR)
    later(client, 4)
    assert await client.take_recalls() == 1
    assert len(kept_files(client, "stop-use")) == 1
    assert (await client.get(view.search_id)).stop_use == {("custody", "custody-a")}


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (2.0, 2.0),  # dates itself after the revocation
        (0.5, 2.0),  # is dated back, and was not on the log before
        (2.0, 0.5),  # the two contradict each other
        (0.5, -1.0),  # on the log before there was a search
        (0.5, 9.0),  # on the log of a time to come
    ],
)
async def test_a_recall_with_a_key_that_was_revoked_before_is_not_believed(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    said: float,
    logged: float,
) -> None:
    view, now = await searched(client), utc_now()
    dated(second, now + said * HOUR, now + logged * HOUR, "recall")
    second.recall(view, "custody", "custody-a", FIRST)
    custody_revoked(running, now + HOUR)
    later(client, 4)
    with refusal(Reason.RESULT_INVALID, check="recall"):
        await client.take_recalls()
    assert kept_files(client, "stop-use") == []


async def test_a_recall_is_believed_no_earlier_than_it_says_it_was_made(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view, now = await searched(client), utc_now()
    dated(second, now + 2 * HOUR, now + HOUR, "recall")
    second.recall(view, "custody", "custody-a", FIRST)
    later(client, 4)
    with refusal(Reason.RESULT_INVALID, check="recall"):
        await client.take_recalls()


async def test_a_recall_of_a_search_that_is_gone_is_judged_by_its_own_time_as_well(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view, now = await searched(client), utc_now()
    running.peer.gone.add(view.search_id)
    dated(second, now + 2 * HOUR, now + HOUR / 2, "recall")
    second.recall(view, "custody", "custody-a", FIRST)
    custody_revoked(running, now + HOUR)
    later(client, 4)
    with refusal(Reason.RESULT_INVALID, check="recall"):
        await client.take_recalls()
    assert kept_files(client, "stop-use") == []


async def test_released_details_stand_after_the_key_that_signed_them_was_revoked(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view, now = await asked(client, running), utc_now()
    custody_rotated(running, now + HOUR)
    dated(second, now + 2 * HOUR, now + 2 * HOUR, "decision", "details")
    second.release(view.request_id, opens_for=9 * HOUR)
    custody_revoked(running, now + 3 * HOUR)
    later(client, 4)
    opened = await client.open_disclosure(view.request_id)
    assert opened.details.fields


@pytest.mark.parametrize(
    ("kinds", "logged", "check"),
    [
        (("decision",), 2.0, "decision"),
        (("decision",), 0.5, "decision"),
        (("details",), 0.5, "details"),
    ],
)
async def test_no_release_is_believed_that_dates_itself_after_its_keys_revocation(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    kinds: tuple[str, ...],
    logged: float,
    check: str,
) -> None:
    view, now = await asked(client, running), utc_now()
    dated(second, now + 2 * HOUR, now + logged * HOUR, *kinds)
    second.release(view.request_id, opens_for=9 * HOUR)
    custody_revoked(running, now + HOUR)
    later(client, 4)
    with refusal(Reason.RESULT_INVALID, check=check):
        await client.open_disclosure(view.request_id)


async def test_no_image_is_shown_that_came_after_its_keys_revocation(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    """Images have no entry of their own: they are sent when they are asked for, so now counts."""
    view = await searched(client)
    custody_revoked(running, utc_now() + HOUR)
    later(client, 2)
    with refusal(Reason.RESULT_INVALID, check="image"):
        async with sitting(client, view.search_id, running):
            pass


def sitting(client: AsyncForceClient, search_id: str, running: RunningSecondPeer) -> Any:
    return client.review(
        search_id,
        reviewer=person(client, REVIEWERS[0]),
        reviewer_token=lambda: client.issue_token(REVIEWERS[0], Part.REVIEWER),
        probe_image=running.probe_image,
    )
