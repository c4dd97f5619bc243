"""Orders, requests and evidence are kept for their time at a force, and then they are gone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from force_client import AsyncForceClient
from force_client.orderbook import OrderBook
from tests.killed import killed_writing
from tests.unit.force_scene import Scene, make_scene
from tests.unit.force_second_peer import RunningSecondPeer, SecondPeer, asked, searched
from tests.unit.second_kit import client, kept_files, refusal, running, second
from tests.unit.test_force_disclosing import corroborated, opened_files
from trust.errors import Reason

__all__ = ["client", "running", "second"]

KEPT = timedelta(days=2_190)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scheme") / "s")


def aged(path: Path, at: datetime) -> None:
    """Have a file written to last at an instant."""
    os.utime(path, (at.timestamp(),) * 2)


def test_an_order_is_forgotten_when_its_time_is_over(scene: Scene, tmp_path: Path) -> None:
    book = OrderBook(tmp_path / "orders")
    old, new = scene.prepare().order, scene.prepare(seed=1).order
    for order in (old, new):
        book.keep(order)
    kept = {one.name.partition(".")[0]: one for one in (tmp_path / "orders").iterdir()}
    after = old.order.created_at + HOUR
    aged(kept[old.order.request_id], old.order.created_at)
    assert book.forget(old.order.created_at - HOUR) == 0
    aged(kept[new.order.request_id], after + HOUR)
    assert book.forget(after) == 1
    assert book.find(new.order.request_id) == new
    for reader in (book, OrderBook(tmp_path / "orders")):  # from memory, too
        with refusal(Reason.FILE_MISSING):
            reader.find(old.order.request_id)
    assert book.forget(after) == 0


def test_what_the_order_says_counts_and_not_the_time_of_its_file(
    scene: Scene, tmp_path: Path
) -> None:
    book, order = OrderBook(tmp_path / "orders"), scene.prepare().order
    book.keep(order)
    (path,) = (tmp_path / "orders").iterdir()
    before = order.order.created_at - HOUR
    aged(path, before - HOUR)
    assert book.forget(before) == 0
    assert book.find(order.order.request_id) == order


def test_what_is_damaged_or_was_only_begun_goes_by_the_time_of_its_file(
    scene: Scene, tmp_path: Path
) -> None:
    folder = tmp_path / "orders"
    book, order = OrderBook(folder), scene.prepare().order
    book.keep(order)
    (path,) = folder.iterdir()
    path.write_bytes(b"{")
    killed_writing(folder / "5f1c7f9e-8f3a-4f0c-9a52-1f1d5a8c7b11.dsse.json")
    now = datetime.now(UTC)
    assert book.forget(now - HOUR) == 0
    for one in folder.iterdir():
        aged(one, now - 2 * HOUR)
    assert book.forget(now - HOUR) == 2
    assert list(folder.iterdir()) == []


def test_nothing_is_kept_and_nothing_is_forgotten(scene: Scene, tmp_path: Path) -> None:
    later = scene.now + timedelta(days=9_999)
    in_memory = OrderBook(None)
    in_memory.keep(scene.prepare().order)
    assert in_memory.forget(later) == 0
    assert OrderBook(tmp_path / "none").forget(later) == 0


async def test_requests_and_evidence_stay_while_details_stand_on_them(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await asked(client, running)
    second.release(view.request_id)
    await client.open_disclosure(view.request_id)
    await corroborated(client, view)
    other = await asked(client, running, view=await searched(client))
    await corroborated(client, other)
    state = client.settings.state_dir
    files = [one for one in state.rglob("*.json") if one.parent.name != "sittings"]
    now = datetime.now(UTC)
    for path in files:
        aged(path, now)
    client._clock = lambda: now + KEPT - HOUR
    (details,) = opened_files(client)
    kept = details.read_bytes()
    await client.forget_expired()
    assert opened_files(client) == []
    assert len(kept_files(client, "corroborations")) == 2
    assert len(kept_files(client, "orders")) == 2
    details.write_bytes(kept.replace(b'"delete_by":"20', b'"delete_by":"21'))  # kept for longer
    client._clock = lambda: now + KEPT + HOUR
    await client.forget_expired()
    (request,) = (one for one in kept_files(client, "disclosures") if ".request." in one.name)
    assert request.name.startswith(view.request_id)
    assert len(kept_files(client, "corroborations")) == 1
    assert kept_files(client, "orders") == []
    details.unlink()
    await client.forget_expired()
    assert kept_files(client, "corroborations") == []
    assert kept_files(client, "disclosures") == []


async def test_marks_of_recalls_stay(client: AsyncForceClient, second: SecondPeer) -> None:
    view = await searched(client)
    second.recall(view, "custody", "custody-a", "4fa3c1de-0000-4000-8000-000000000001")
    await client.take_recalls()
    now = datetime.now(UTC)
    for path in kept_files(client, "stop-use"):
        aged(path, now - 2 * KEPT)
    client._clock = lambda: now + 9 * KEPT
    await client.forget_expired()
    assert len(kept_files(client, "stop-use")) == 1
