"""Candidates' images: the agency's store, every rule of sending them attacked, and erasing them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agency_adapters.erasing import erase_records
from agency_adapters.galleries.editing import editing
from agency_adapters.images import ImageStore
from agency_adapters.serve import Adapter
from cli.adapter import app
from tests.adapters import Scene, entries, make_world, scene, the_operator
from tests.unit.adapters_kit import MATE, make_gallery
from tests.unit.second_step_kit import Step, at_work, searched, three_candidates
from tests.world import Request, World, edit_agreement
from trust import dsse
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType
from trust.second_step import MAX_IMAGE_BYTES
from trust.wire import envelope_to_wire

PNG = b"\x89PNG\r\n\x1a\n" + b"the picture of an invented face"
_ANY = st.characters(codec="ascii", exclude_characters="\0")
JPEG = b"\xff\xd8\xff\xe0" + b"the picture of another one"


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


@pytest.fixture
async def step(here: Scene) -> Step:
    return await searched(here)


async def refused(step: Step, reason: Reason, request: Any, field: str = "") -> None:
    """Assert that images are refused for a reason, which is on the agency's log."""
    before = len(entries(step.here.adapter))
    with pytest.raises(ProbegateError) as raised:
        await step.images(request)
    assert raised.value.reason is reason
    if field:
        assert raised.value.metadata["field"] == field
    added = entries(step.here.adapter)[before:]
    assert [(one["type"], one["reason"]) for one in added] == [("images.refused", reason.name)]


# --- the store --------------------------------------------------------------------------------


def test_what_a_file_is_follows_from_its_bytes(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    (tmp_path / "a.png").write_bytes(JPEG)
    (tmp_path / "b.jpg").write_bytes(PNG)
    (tmp_path / "c.png").write_bytes(b"GIF89a")
    (tmp_path / "d.png").write_bytes(b"")
    (tmp_path / "e.png").write_bytes(PNG + bytes(MAX_IMAGE_BYTES - len(PNG)))
    (tmp_path / "f.png").write_bytes(PNG + bytes(MAX_IMAGE_BYTES))
    found = {name: store.find(name) for name in "abcdefg"}
    kinds = {name: one.media_type if one is not None else None for name, one in found.items()}
    assert kinds == {
        "a": "image/jpeg",
        "b": "image/png",
        "c": None,
        "d": None,
        "e": "image/png",
        "f": None,
        "g": None,
    }
    assert ImageStore(None).find("a") is None
    assert "picture" not in repr(store.find("a"))


@given(st.text(alphabet=_ANY, min_size=1, max_size=64))
def test_no_id_names_a_file_elsewhere(record_id: str) -> None:
    name = quote(record_id, safe="")
    assert "/" not in name
    assert Path("images", f"{name}.png").parent == Path("images")


def test_erasing_overwrites_what_others_still_hold(tmp_path: Path) -> None:
    path = tmp_path / "R%2F1.png"
    path.write_bytes(PNG)
    os.link(path, tmp_path / "held")
    assert ImageStore(tmp_path).erase(["R/1", "R/2"]) == 1
    assert not path.exists()
    assert (tmp_path / "held").read_bytes() == bytes(len(PNG))


# --- the honest way ---------------------------------------------------------------------------


async def test_images_are_sealed_to_the_force_and_recorded_before_they_leave(step: Step) -> None:
    request = await step.image_request()
    images = await step.images(request)
    assert [one.reference for one in images] == list(step.references)
    with_image = [one for one in images if one.sealed_key_id]
    (one,) = with_image
    opened = step.opened_image(one)
    assert (opened.image, opened.media_type) == (PNG, "image/png")
    assert opened.reference == one.reference
    assert PNG not in one.sealed_image
    (sent,) = [e for e in entries(step.here.adapter) if e["type"] == "images.sent"]
    assert sent["references"] == [one.reference]
    assert sent["without"] == [other for other in step.references if other != one.reference]
    assert sent["broker_checkpoint"]["size"] == step.side.logs.search.checkpoint.checkpoint.size


async def test_reasons_are_not_asked_for_where_images_come_with_the_answer(step: Step) -> None:
    assert len(await step.images(await step.image_request(reasons=""))) == 3


async def test_an_agency_without_a_store_has_no_images(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(world, tmp_path, monkeypatch) as here:
        step = await searched(here)
        images = await step.images(await step.image_request())
        assert [(one.reference, one.sealed_key_id) for one in images] == [
            (one, "") for one in step.references
        ]


# --- every rule attacked ----------------------------------------------------------------------


async def test_nobody_but_a_broker_may_ask(step: Step) -> None:
    request = await step.image_request()
    for member in ("northshire", "custody", "inspectorate"):
        with pytest.raises(ProbegateError) as raised:
            await step.images(request, member)
        assert raised.value.reason is Reason.CHANNEL_ROLE


async def test_an_order_that_was_never_answered_or_is_anothers(step: Step) -> None:
    request = await step.image_request()
    other = Request(step.here.world, now=step.now)
    request.order.CopyFrom(envelope_to_wire(other.envelope()))
    await refused(step, Reason.NOT_FOUND, request)
    signer = step.here.world.folder("southmere").signer()
    forged = dsse.sign(PayloadType.SEARCH_ORDER, step.order.payload, signer)
    request.order.CopyFrom(envelope_to_wire(forged))
    await refused(step, Reason.ORDER_INVALID, request)


async def test_a_request_that_another_force_signed(step: Step) -> None:
    await refused(step, Reason.KEY_UNKNOWN, await step.image_request(by="southmere"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("search_id", "00000000-0000-4000-8000-000000000000"),
        ("order_sha256", bytes(32)),
        ("force", "southmere"),
        ("agency", "pnd"),
    ],
)
async def test_a_request_about_something_else(step: Step, field: str, value: Any) -> None:
    request = await step.image_request(**{field: value})
    await refused(step, Reason.REVIEW_INVALID, request, field)


async def test_what_is_not_proved_to_be_on_the_log(step: Step) -> None:
    lies: tuple[dict[str, Any], ...] = (
        {"request_sha256": "00" * 32},
        {"references": []},
        {"agency": "pnd"},
        {"type": "review.recorded"},
    )
    for changed in lies:
        request = await step.image_request(said_in_log=changed)
        await refused(step, Reason.LOG_PROOF_INVALID, request)
    request = await step.image_request()
    del request.recorded.entry.inclusion[:]
    await refused(step, Reason.LOG_PROOF_INVALID, request)
    request.recorded.checkpoint = b""
    await refused(step, Reason.CHECKPOINT_INVALID, request)


async def test_a_stale_request_and_one_of_the_future(step: Step) -> None:
    for offset in (timedelta(minutes=-11), timedelta(minutes=2)):
        request = await step.image_request(created_at=step.now + offset)
        await refused(step, Reason.REVIEW_INVALID, request, "created_at")


async def test_references_of_another_search_and_of_nobody(step: Step) -> None:
    other = await searched(step.here)
    for references in ((other.reference,), (*step.references, "a" * 20)):
        request = await step.image_request(references=references)
        await refused(step, Reason.REVIEW_INVALID, request, "references")


async def test_what_is_still_held_is_not_sent(here: Scene) -> None:
    step = await searched(here, obligations={"release_by_human": True})
    found = here.adapter.state.resolve(search_id=step.report.search_id)
    references = tuple(one.reference for _, one in found)
    await refused(step, Reason.NOT_FOUND, await step.image_request(references=references))


async def test_what_is_switched_off(step: Step) -> None:
    async with at_work(step.here) as operator:
        await operator.switch("agency:custody", off=True, reference="2026/17")
    await refused(step, Reason.RELEASE_SWITCHED_OFF, await step.image_request())


async def test_a_record_that_was_erased_since_has_no_image(step: Step, tmp_path: Path) -> None:
    with editing(tmp_path / "gallery") as editor:
        editor.erase([MATE], step.now)
    await step.here.adapter.refresh_gallery()
    images = await step.images(await step.image_request())
    assert not any(one.sealed_key_id for one in images)


@pytest.mark.parametrize(
    ("images", "reasons", "sent"),
    [
        ("never", "r", False),
        ("on_request", "", False),
        ("on_request", " ", False),
        ("on_request", "r", True),
        ("with", "", True),
    ],
)
async def test_what_the_agreement_in_force_says_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str, reasons: str, *, sent: bool
) -> None:
    def change(agreement: dict[str, Any]) -> None:
        three_candidates(agreement)
        agreement["obligations"]["images"] = images

    world = make_world(tmp_path / "world", change)
    async with scene(world, tmp_path, monkeypatch) as here:
        step = await searched(here)
        request = await step.image_request(reasons=reasons)
        if sent:
            assert len(await step.images(request)) == 3
        else:
            await refused(step, Reason.IMAGES_NOT_AGREED, request)


async def test_an_agreement_that_is_no_longer_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path / "world", three_candidates)
    async with scene(world, tmp_path, monkeypatch) as here:
        step = await searched(here)
        agreements = tmp_path / "world" / "agreements"

        def ended(agreement: dict[str, Any]) -> None:
            agreement["version"] += 1
            agreement["in_force"]["to"] = (step.now - timedelta(days=1)).date()

        edit_agreement(agreements / "custody" / "custody.yaml", ended)
        world.sign_bundle(agreements, version=2)
        await here.adapter.refresh_bundle()
        await refused(step, Reason.IMAGES_NOT_AGREED, await step.image_request())
        asking = await step.asking()
        await step.refused(asking, Reason.DISCLOSURE_DENIED)


# --- erasing ----------------------------------------------------------------------------------


async def test_erasing_a_record_erases_its_image_and_says_that_a_recall_is_due(
    step: Step, tmp_path: Path
) -> None:
    path = tmp_path / "images" / f"{MATE}.png"
    os.link(path, tmp_path / "held")
    async with the_operator(step.here) as operator:
        made, envelope = await erase_records(operator, [MATE], "Request 2026/17")
    assert made.images == 1
    assert json.loads(envelope.payload)["images"] == 1
    assert not path.exists()
    assert (tmp_path / "held").read_bytes() == bytes(len(PNG))


async def test_the_command_says_that_a_recall_is_due(step: Step, tmp_path: Path) -> None:
    settings = step.here.adapter.settings
    await step.here.server.stop(0)
    await step.here.adapter.close()
    config = tmp_path / "adapter.toml"
    values = settings.model_dump(mode="json", exclude_none=True)
    config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
    command = ["erase", MATE, "--authority", "Request 2026/17"]
    command += ["--certificate", str(tmp_path / "c.json"), "--config", str(config)]
    told = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert told.exit_code == 0, told.output
    assert "images: 1 overwritten" in told.output
    assert f"probegate adapter recall --record {MATE} --reason erased" in told.output
    assert all(len(line) <= 80 for line in told.output.splitlines() if str(tmp_path) not in line)
    step.here.adapter = await Adapter.open(settings, step.here.clock)
    step.here.server = await step.here.adapter.listen()
