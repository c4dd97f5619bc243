"""Notices and recalls at the agency: every rule attacked, and what its people order."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from probegate.agency.v1 import release_service_pb2 as pb
from typer.testing import CliRunner

from agency_adapters.erasing import erase_records
from agency_adapters.galleries.editing import editing
from agency_adapters.operators import Operator
from agency_adapters.second_step.recall_desk import RecallDesk
from agency_adapters.serve import Adapter
from cli.adapter import app
from tests.adapters import Scene, entries, make_world, scene
from tests.unit.adapters_kit import MATE, make_gallery
from tests.unit.second_step_kit import (
    FACTS,
    Step,
    admin,
    at_work,
    inbox,
    reviewer,
    searched,
    three_candidates,
)
from tests.world import OFFICER, World
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType
from trust.second_step import Recall, RecallAcknowledgement, RecallReason
from trust.wire import decode, envelope_from_wire, envelope_to_wire

PERSON = "records-officer-7"
NOTICE = "The record was of somebody else; do not rely on it."


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), three_candidates)


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    make_gallery(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=str(tmp_path / "gallery")) as made:
        yield made


@pytest.fixture
async def step(here: Scene) -> Step:
    return await searched(here)


async def refused(step: Step, reason: Reason, request: pb.NotifyRequest, field: str = "") -> None:
    """Assert that a notice is refused for a reason, which is on the agency's log."""
    before = len(entries(step.here.adapter))
    with pytest.raises(ProbegateError) as raised:
        await step.send("Notify", request)
    assert raised.value.reason is reason
    if field:
        assert raised.value.metadata["field"] == field
    added = entries(step.here.adapter)[before:]
    assert [(one["type"], one["reason"]) for one in added] == [("notice.refused", reason.name)]


async def recalls_of(step: Step, after: int = 0) -> list[tuple[int, Recall]]:
    """List recalls as the broker does, each signature checked."""
    reply = await step.send("ListRecalls", pb.ListRecallsRequest(after=after))
    found = []
    for one in reply.recalls:
        envelope = envelope_from_wire(one.recall)
        keys = step.here.world.directory.resolver("custody", KeyUse.SIGN, step.now)
        dsse.verify(envelope, PayloadType.RECALL, keys)
        found.append((one.number, decode(Recall, envelope.payload)))
    return found


async def order(step: Step, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "reason": RecallReason.WRONG_RECORD,
        "notice": NOTICE,
        "person": PERSON,
    }
    async with at_work(step.here) as operator:
        return await RecallDesk.of(operator).order(**(values | changes))


# --- notices ----------------------------------------------------------------------------------


async def test_a_wrong_match_is_recorded_once_and_waits_for_a_decision(step: Step) -> None:
    notice = await step.notice(step.wrong_match())
    for _ in range(2):
        await step.send("Notify", notice)
    (entry,) = [e for e in entries(step.here.adapter) if e["type"] == "match.wrong"]
    assert entry["wrong_match_sha256"] == sha256(notice.notice.payload).hexdigest()
    assert entry["reference"] == step.reference
    async with at_work(step.here) as operator:
        desk = RecallDesk.of(operator)
        recalls, (wrong,) = await desk.all()
        assert (recalls, wrong.reference, wrong.force) == ((), step.reference, "northshire")
        (made,) = await desk.order(
            reference=step.reference,
            reason=RecallReason.WRONG_MATCH,
            notice=NOTICE,
            person=PERSON,
        )
        assert made.recall is not None
        assert (await desk.all())[1] == ()
    assert [one["type"] for one in admin(step.here, "recall.")] == [
        "recall.listed",
        "recall.ordered",
        "recall.listed",
    ]
    assert "elsewhere" not in str(entries(step.here.adapter))


async def test_many_times_at_once_it_is_recorded_once(step: Step) -> None:
    notice = await step.notice(step.wrong_match())
    await asyncio.gather(*(step.send("Notify", notice) for _ in range(5)))
    assert sum(e["type"] == "match.wrong" for e in entries(step.here.adapter)) == 1


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"force": "southmere"}, Reason.KEY_UNKNOWN, ""),
        ({"search_id": str(uuid.uuid4())}, Reason.NOTICE_INVALID, "search_id"),
        ({"order_sha256": bytes(32)}, Reason.NOT_FOUND, ""),
        ({"agency": "pnd"}, Reason.NOTICE_INVALID, "agency"),
        ({"reference": "a" * 20}, Reason.NOTICE_INVALID, "reference"),
    ],
)
async def test_a_wrong_match_that_does_not_fit(
    step: Step, changes: dict[str, Any], reason: Reason, field: str
) -> None:
    await refused(step, reason, await step.notice(step.wrong_match(**changes)), field)


async def test_another_forces_word_about_our_candidate(step: Step) -> None:
    theirs = await step.notice(step.wrong_match(force="southmere"), by="southmere")
    await refused(step, Reason.NOTICE_INVALID, theirs, "force")
    forged = await step.notice(step.wrong_match(), by="southmere")
    await refused(step, Reason.KEY_UNKNOWN, forged)
    nobody = step.wrong_match(force="nowhere")
    await refused(step, Reason.NOT_FOUND, await step.notice(nobody))


async def test_a_notice_that_is_not_proved_to_be_on_the_log(step: Step) -> None:
    for changed in (
        {"wrong_match_sha256": "00" * 32},
        {"reference": "another"},
        {"type": "recall.acknowledged"},
    ):
        notice = await step.notice(step.wrong_match(), said_in_log=changed)
        await refused(step, Reason.LOG_PROOF_INVALID, notice)
    notice = await step.notice(step.wrong_match())
    notice.recorded.entry.leaf_index += 1
    await refused(step, Reason.LOG_PROOF_INVALID, notice)


async def test_a_notice_of_the_future_and_one_that_comes_late(step: Step) -> None:
    ahead = step.wrong_match(reported_at=step.now + timedelta(minutes=5))
    await refused(step, Reason.NOTICE_INVALID, await step.notice(ahead))
    late = step.wrong_match(reported_at=step.now - timedelta(days=40))
    await step.send("Notify", await step.notice(late))


async def test_something_else_that_the_force_signed_is_no_notice(step: Step) -> None:
    notice = await step.notice(step.wrong_match())
    notice.notice.CopyFrom(envelope_to_wire(step.order))
    await refused(step, Reason.NOTICE_INVALID, notice, "payload_type")
    garbage = replace(envelope_from_wire(notice.notice), payload_type=PayloadType.WRONG_MATCH.value)
    notice.notice.CopyFrom(envelope_to_wire(garbage))
    await refused(step, Reason.NOTICE_INVALID, notice)


async def test_nobody_but_a_broker_brings_notices_or_lists_recalls(step: Step) -> None:
    notice = await step.notice(step.wrong_match())
    for member in ("northshire", "custody", "inspectorate"):
        for method, request in (("Notify", notice), ("ListRecalls", pb.ListRecallsRequest())):
            with pytest.raises(ProbegateError) as raised:
                await step.send(method, request, member)
            assert raised.value.reason is Reason.CHANNEL_ROLE


async def test_a_revocation_is_recorded_once(step: Step) -> None:
    notice = await step.notice(step.revocation(reviewer(1)))
    for _ in range(2):
        await step.send("Notify", notice)
    (entry,) = [e for e in entries(step.here.adapter) if e["type"] == "reviewer.revoked"]
    assert entry["force"] == "northshire"
    assert "reviewer-1" not in str(entries(step.here.adapter))
    forged = await step.notice(step.revocation(reviewer(2)), by="southmere")
    await refused(step, Reason.KEY_UNKNOWN, forged)
    theirs = await step.notice(step.revocation(reviewer(1), force="southmere"), by="southmere")
    await step.send("Notify", theirs)
    asking = await step.asking()
    await step.refused(asking, Reason.REVIEWER_REVOKED)


async def test_another_forces_reviewer_of_the_same_id_is_not_revoked(step: Step) -> None:
    theirs = await step.notice(step.revocation(reviewer(1), force="southmere"), by="southmere")
    await step.send("Notify", theirs)
    assert (await step.ask(await step.asking())).HasField("decide_by")


# --- recalls ----------------------------------------------------------------------------------


async def test_a_record_is_recalled_in_every_search_that_listed_it(here: Scene) -> None:
    first, second = await searched(here), await searched(here)
    made = await order(first, record_id=MATE)
    assert {one.search_id for one in made} == {first.report.search_id, second.report.search_id}
    listed = await recalls_of(first)
    assert [number for number, _ in listed] == [1, 2]
    assert {one.reference for _, one in listed} == {first.reference, second.reference}
    assert {one.reason for _, one in listed} == {RecallReason.WRONG_RECORD}
    assert {one.notice for _, one in listed} == {NOTICE}
    assert [number for number, _ in await recalls_of(first, after=1)] == [2]
    assert await recalls_of(first, after=2) == []
    issued = [e for e in entries(here.adapter) if e["type"] == "recall.issued"]
    assert {e["recall_id"] for e in issued} == {one.recall_id for _, one in listed}
    (ordered,) = admin(here, "recall.ordered")
    assert set(ordered["commitments"]) == {"person", "record", "notice"}
    assert MATE not in str(ordered)


async def test_a_wrong_match_by_reference_is_recalled_in_that_search_alone(here: Scene) -> None:
    first, _second = await searched(here), await searched(here)
    made = await order(first, reference=first.reference, reason=RecallReason.WRONG_MATCH)
    assert [one.search_id for one in made] == [first.report.search_id]
    whole = await order(first, reference=first.reference, reason=RecallReason.UNLAWFUL)
    assert len(whole) == 2


async def test_nothing_is_recalled_twice_for_one_reason(step: Step) -> None:
    await order(step, record_id=MATE)
    with pytest.raises(ProbegateError) as raised:
        await order(step, record_id=MATE)
    assert raised.value.reason is Reason.NOTICE_INVALID
    assert len(await order(step, record_id=MATE, reason=RecallReason.ERASED)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.USAGE),
        ({"record_id": MATE, "reference": "a"}, Reason.USAGE),
        ({"record_id": "R00099"}, Reason.NOT_FOUND),
        ({"reference": "a" * 20}, Reason.NOT_FOUND),
        ({"record_id": MATE, "notice": " "}, Reason.TEXT_INVALID),
        ({"record_id": MATE, "notice": "\0"}, Reason.TEXT_INVALID),
        ({"record_id": MATE, "person": ""}, Reason.TEXT_INVALID),
    ],
)
async def test_an_order_that_cannot_be(step: Step, changes: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(ProbegateError) as raised:
        await order(step, **changes)
    assert raised.value.reason is reason
    assert admin(step.here, "recall.ordered") == []


async def test_what_was_withheld_is_recalled_from_nobody(here: Scene) -> None:
    step = await searched(here, obligations={"release_by_human": True})
    with pytest.raises(ProbegateError) as raised:
        await order(step, record_id=MATE)
    assert raised.value.reason is Reason.NOT_FOUND


async def test_an_erased_record_can_still_be_recalled(step: Step, tmp_path: Path) -> None:
    with editing(tmp_path / "gallery") as editor:
        editor.erase([MATE], step.now)
    await step.here.adapter.refresh_gallery()
    async with at_work(step.here) as operator:
        desk = RecallDesk.of(operator)
        assert desk.due([MATE, "R00099"]) == (MATE,)
        await desk.order(record_id=MATE, reason=RecallReason.ERASED, notice=NOTICE, person=PERSON)
        assert desk.due([MATE]) == ()


async def test_an_acknowledgement_is_recorded_once(step: Step) -> None:
    await order(step, record_id=MATE)
    said = acknowledgement(step, await envelope_of_recall(step))
    notice = await step.notice(said)
    for _ in range(2):
        await step.send("Notify", notice)
    (entry,) = [e for e in entries(step.here.adapter) if e["type"] == "recall.acknowledged"]
    assert entry["recall_id"] == said.recall_id
    async with at_work(step.here) as operator:
        (recall,), _ = await RecallDesk.of(operator).all()
        assert [one.force for one in recall.acknowledgements] == ["northshire"]


async def envelope_of_recall(step: Step) -> dsse.Envelope:
    reply = await step.send("ListRecalls", pb.ListRecallsRequest())
    return envelope_from_wire(reply.recalls[0].recall)


def acknowledgement(step: Step, recall: dsse.Envelope, **changes: Any) -> RecallAcknowledgement:
    values: dict[str, Any] = {
        "recall_id": decode(Recall, recall.payload).recall_id,
        "recall_sha256": sha256(recall.payload).digest(),
        "force": "northshire",
        "person": OFFICER,
        "action": "The details were deleted, and the officer in the case was told.",
        "acknowledged_at": step.now,
    }
    return RecallAcknowledgement(**(values | changes))


async def test_an_acknowledgement_that_does_not_fit(step: Step) -> None:
    await order(step, record_id=MATE)
    recall = await envelope_of_recall(step)
    for changes, by, reason, field in (
        ({"recall_id": str(uuid.uuid4())}, "", Reason.NOT_FOUND, ""),
        ({"recall_sha256": bytes(32)}, "", Reason.NOTICE_INVALID, "recall_sha256"),
        ({"force": "southmere"}, "southmere", Reason.NOTICE_INVALID, "force"),
        ({}, "southmere", Reason.KEY_UNKNOWN, ""),
    ):
        said = acknowledgement(step, recall, **changes)
        await refused(step, reason, await step.notice(said, by=by), field)


# --- what a recall stops ----------------------------------------------------------------------


async def test_a_recalled_candidate_is_neither_asked_about_nor_released(step: Step) -> None:
    waiting = await step.asking()
    await step.ask(waiting)
    await order(step, record_id=MATE)
    await step.refused(await step.asking(), Reason.STOP_USE)
    async with inbox(step.here) as people:
        done = await people.release(waiting.said.request_id, reviewer="R-1", reasons="r")
    assert (done.state, done.reason) == ("refused", "STOP_USE")


async def test_details_of_a_recalled_candidate_are_handed_over_no_more(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    async with inbox(step.here) as people:
        await people.release(asking.said.request_id, reviewer="R-1", reasons="r")
    assert (await step.became(asking)).sealed_disclosure
    await order(step, record_id=MATE)
    assert not (await step.became(asking)).sealed_disclosure
    await step.here.adapter.second_step.deciding.erase_expired()
    kept = step.here.adapter.second_step.asking.releases.of(asking.digest)
    assert kept is not None
    assert kept.sealed == b""


async def test_details_of_an_erased_record_are_erased_with_it(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    async with inbox(step.here) as people:
        await people.release(asking.said.request_id, reviewer="R-1", reasons="r")
    async with at_work(step.here) as operator:
        await erase_records(operator, [MATE], "Request 2026/17")
    assert not (await step.became(asking)).sealed_disclosure


# --- crashes ----------------------------------------------------------------------------------


async def test_a_crash_between_an_order_and_its_recall(step: Step) -> None:
    await step.here.server.stop(0)
    await step.here.adapter.close()
    operator = replace(Operator.open(step.here.adapter.settings), clock=step.here.clock)
    (made,) = await RecallDesk.of(operator).order(
        record_id=MATE, reason=RecallReason.UNLAWFUL, notice=NOTICE, person=PERSON
    )
    assert made.recall is None
    operator.close()
    step.here.adapter = await Adapter.open(step.here.adapter.settings, step.here.clock)
    step.here.server = await step.here.adapter.listen()
    step.here.channels.clear()
    assert await recalls_of(step) == []
    for _ in range(2):
        await step.here.adapter.second_step.recalling.settle()
    ((number, recall),) = await recalls_of(step)
    assert (number, recall.recall_id) == (1, made.recall_id)
    assert sum(e["type"] == "recall.issued" for e in entries(step.here.adapter)) == 1


# --- the commands -----------------------------------------------------------------------------


async def test_the_commands_show_and_say_what_was_done(step: Step, tmp_path: Path) -> None:
    asking = await step.asking()
    await step.ask(asking)
    await step.send("Notify", await step.notice(step.wrong_match()))
    config = tmp_path / "adapter.toml"
    values = step.here.adapter.settings.model_dump(mode="json", exclude_none=True)
    config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
    request = asking.said.request_id

    async def run(*command: str) -> str:
        arguments = [*command, "--config", str(config)]
        told = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert told.exit_code == 0, told.output
        assert all(len(line) <= 80 for line in told.output.splitlines())
        return told.output

    async with at_work(step.here):
        listed = await run("releases", "list")
        assert request in listed
        assert FACTS[:30] not in listed
        (document,) = json.loads(await run_json(config, "releases", "list"))
        assert document["fields"] == ["reference", "date_of_birth", "disposal"]
        assert "facts" not in document
        shown = await run("releases", "show", request)
        assert FACTS[:30] in shown
        assert MATE in shown
        done = await run(
            "releases", "release", request, "--reviewer", "R-1", "--reasons", "Needed."
        )
        assert "released" in done
        assert "WRONG MATCH" in await run("recalls")
        made = await run(
            *("recall", "--reference", step.reference, "--reason", "wrong_match"),
            *("--notice", NOTICE, "--person", PERSON),
        )
        assert "not acknowledged yet" in made
        whole = json.loads(await run_json(config, "recalls"))
        assert whole["wrong_matches"] == []
        assert [one["issued"] for one in whole["recalls"]] == [True]


async def run_json(config: Path, *command: str) -> str:
    arguments = [*command, "--json", "--config", str(config)]
    told = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert told.exit_code == 0, told.output
    return told.stdout


async def test_of_two_people_who_recall_at_once_the_second_is_told_that_it_was_recalled(
    step: Step,
) -> None:
    async with at_work(step.here) as operator:
        desk = RecallDesk.of(operator)
        done = await asyncio.gather(
            *(
                desk.order(
                    record_id=MATE, reason=RecallReason.WRONG_RECORD, notice=NOTICE, person=person
                )
                for person in ("P-1", "P-2")
            ),
            return_exceptions=True,
        )
    made = [one for one in done if not isinstance(one, BaseException)]
    (late,) = [one for one in done if isinstance(one, ProbegateError)]
    assert [len(one) for one in made] == [1]
    assert (late.reason, late.metadata) == (Reason.NOTICE_INVALID, {"field": "reference"})
