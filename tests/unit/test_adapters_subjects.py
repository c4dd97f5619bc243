"""A person's question to the agency: which searches returned my record, and who saw it?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agency_adapters.inbox import Inbox
from agency_adapters.operators import Operator
from agency_adapters.second_step.inbox import ReleaseInbox
from agency_adapters.second_step.recall_desk import RecallDesk
from agency_adapters.subjects import Returned, searches_of
from tests.adapters import Scene, make_world, scene
from tests.unit.adapters_kit import MATE, make_gallery
from tests.unit.retention_kit import published
from tests.unit.second_step_kit import Step, at_work, searched, three_candidates
from tests.unit.test_adapters_held import held
from tests.unit.test_adapters_images import PNG
from tests.world import World
from trust.second_step import RecallReason


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), three_candidates)


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    make_gallery(tmp_path / "gallery")
    images = tmp_path / "images"
    images.mkdir()
    (images / f"{MATE}.png").write_bytes(PNG)
    places = {"gallery": str(tmp_path / "gallery"), "images_dir": images}
    async with scene(world, tmp_path, monkeypatch, **places) as made:
        yield made


async def answered(here: Scene, operator: Operator, record_id: str) -> list[Returned]:
    await published(here)
    return list(await searches_of(operator, record_id, "lawfulness"))


def types(entries: Any) -> list[str]:
    return [entry["type"] for entry in entries]


async def test_who_was_sent_an_image_or_details_and_who_looked_is_told(here: Scene) -> None:
    step = await searched(here)
    await step.images(await step.image_request(references=step.references[:1]))
    async with at_work(here) as operator:
        await details(step, operator)
        await RecallDesk.of(operator).all()
        await RecallDesk.of(operator).order(
            record_id=MATE, reason=RecallReason.WRONG_RECORD, notice="Not he.", person="P-1"
        )
        await RecallDesk.of(operator).all()
        (told,) = await answered(here, operator, MATE)
        other = await answered(here, operator, second(step))
    assert types(told.reports) == ["match.report"]
    assert types(told.followed) == [
        "images.sent",
        "release.requested",
        "release.decided",
        "recall.issued",
    ]
    decided = told.followed[2]
    assert (decided["state"], decided["fields"]) == ("released", ["reference", "disposal"])
    assert types(told.seen) == [
        "release.listed",
        "release.released",
        "recall.ordered",
        "recall.listed",
    ]
    assert told.document()["followed"] == list(told.followed)
    # Of another candidate of the very same search nobody was told or shown any of that.
    assert [(types(one.reports), types(one.followed), types(one.seen)) for one in other] == [
        (["match.report"], [], [])
    ]


async def test_who_looked_at_a_held_answer_is_told(here: Scene) -> None:
    waits = await held(here)
    async with at_work(here) as operator:
        people = Inbox.of(operator)
        await people.waiting()
        await people.release(waits.papers.search_id, reviewer="R-1", reference="2026/1")
        await operator.resolve(search_id=waits.papers.search_id)
        (told,) = await answered(here, operator, MATE)
    assert types(told.seen) == ["held.listed", "held.released", "candidates.resolved"]
    assert [one["state"] for one in told.reports] == ["held", "candidates"]


async def details(step: Step, operator: Operator) -> None:
    asking = await step.asking(fields=("reference", "disposal"))
    await step.ask(asking)
    people = ReleaseInbox.of(operator)
    await people.waiting()
    await people.release(asking.said.request_id, reviewer="R-1", reasons="Needed.")


def second(step: Step) -> str:
    """Return the record behind the second candidate of a search."""
    ((_, found),) = step.here.adapter.state.resolve(reference=step.references[1])
    return found.record_id
