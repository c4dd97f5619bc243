"""Recalls and notices at the broker: heard, believed or not, told on, and acted on by the force."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from probegate.broker.v1 import disclosure_service_pb2 as pb
from sqlalchemy import select

from broker.second_step import tables
from tests.release_peers import SimulatedOwner, recall_of
from tests.second_steps import (
    REQUESTER,
    Case,
    Office,
    opened,
    reason,
    refused,
    searched,
)
from tests.world import World
from trust import dsse
from trust.errors import Reason
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import Recall
from trust.tokens import Part
from trust.wire import decode, encode

ID = "6f0c7a52-28d1-4c92-9b56-0d7a4b5f3c11"


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await searched(office)


@pytest.fixture
def owner(office: Office) -> SimulatedOwner:
    return office.owners["custody"]


def recall(case: Case, agency: str = "custody", **changes: Any) -> Recall:
    values = {"recall_id": str(uuid.uuid4())} | changes
    order = values.pop("order_sha256", case.view.record.order_sha256)
    search_id = values.pop("search_id", case.search_id)
    reference = values.pop("reference", "ref-1")
    return recall_of(search_id, order, agency, reference, **values)


async def test_a_recall_is_heard_recorded_and_kept_for_its_force(
    case: Case, owner: SimulatedOwner
) -> None:
    office = case.office
    owner.recall(recall(case, recall_id=ID))
    await office.work()
    (record,) = await case.recalls()
    assert record.number == 1
    said = decode(Recall, record.recall.payload)
    assert (said.recall_id, said.reference) == (ID, "ref-1")
    entry = office.proved(record.receipt)
    assert (entry["type"], entry["recall_id"], entry["reason"]) == (
        "recall.received",
        ID,
        "wrong_record",
    )
    assert b"another" not in record.receipt.leaf
    assert not record.HasField("acknowledged_at")
    assert await case.recalls(force="southmere") == []
    for after in (1, 2**63 - 1, 2**64 - 1):
        assert await case.recalls(after) == []
    await office.work()
    assert len(await case.recalls()) == 1
    assert len(office.entries("recall.received")) == 1


async def test_recalls_of_several_agencies_are_numbered_for_the_force(case: Case) -> None:
    for place in range(3):
        for agency in ("custody", "pnd"):
            case.office.owners[agency].recall(
                recall(case, agency, reference=f"ref-{place % 2 + 1}")
            )
        await case.office.work()
    assert [one.number for one in await case.recalls()] == [1, 2, 3, 4, 5, 6]
    assert [one.number for one in await case.recalls(4)] == [5, 6]


LIES: dict[str, dict[str, Any]] = {
    "of a foreign search": {"search_id": str(uuid.UUID(int=9))},
    "of another order": {"order_sha256": bytes(32)},
    "of a reference it never listed": {"reference": "nobody"},
    "by another agency": {"agency": "pnd"},
    "in the future": {"ahead": True},
}


@pytest.mark.parametrize("lie", [*LIES, "forged", "garbage", "another type"])
async def test_a_recall_that_is_not_believed_is_on_the_log_and_passed_over(
    case: Case, owner: SimulatedOwner, lie: str
) -> None:
    office = case.office
    changes = dict(LIES.get(lie, {}))
    if changes.pop("ahead", False):
        changes["recalled_at"] = office.clock() + timedelta(hours=1)
    said = recall(case, **changes)
    if lie == "garbage":
        owner.recalls.append((1, dsse.sign(PayloadType.RECALL, b"\xff garbage", owner.signer)))
    elif lie == "another type":
        owner.recalls.append((1, dsse.sign(PayloadType.WRONG_MATCH, encode(said), owner.signer)))
    else:
        owner.recall(said, forged=lie == "forged")
    owner.recall(recall(case))
    await office.work()
    assert await case.recalls() == []
    (entry,) = office.entries("recall.disbelieved")
    assert (entry["agency"], entry["number"]) == ("custody", 1)
    assert entry["reason"] in Reason.__members__
    listed = owner.listed
    await office.work()
    assert owner.listed == listed  # left alone for a while
    office.ahead(seconds=30)
    await office.work()
    assert len(await case.recalls()) == 1  # the next one is heard all the same
    assert len(office.entries("recall.disbelieved")) == 1


async def test_an_agency_cannot_fill_the_log_with_nonsense(
    case: Case, owner: SimulatedOwner
) -> None:
    office = case.office
    for _ in range(50):
        owner.recall(recall(case, reference="nobody"))
    for _ in range(30):
        await office.work()
        office.ahead(seconds=5)
    assert len(office.entries("recall.disbelieved")) <= 5


@pytest.mark.parametrize("number", [0, 2**53, 2**64 - 1])
async def test_a_number_out_of_turn_is_not_heard(
    case: Case, owner: SimulatedOwner, number: int
) -> None:
    envelope = dsse.sign(PayloadType.RECALL, encode(recall(case)), owner.signer)
    owner.recalls += [(number or 1, envelope), (number or 1, envelope)]
    await case.office.work()
    assert len(await case.recalls()) == (1 if number == 0 else 0)
    assert case.office.entries("recall.disbelieved") == []


async def test_a_recall_that_is_known_changes_nothing(case: Case, owner: SimulatedOwner) -> None:
    owner.recall(recall(case, recall_id=ID))
    await case.office.work()
    owner.recall(recall(case, recall_id=ID))
    owner.recall(recall(case))
    await case.office.work()
    assert len(await case.recalls()) == 2
    assert len(case.office.entries("recall.received")) == 2


async def test_an_agency_that_is_out_keeps_no_other_waiting_and_is_not_held_to_it(
    world: World,
) -> None:
    async with opened(world, backoff_after_failures=1) as office:
        case = await searched(office)
        office.owners["custody"].knobs.resets = True
        office.owners["pnd"].recall(recall(case, "pnd"))
        await office.work()
        assert len(await case.recalls()) == 1
        office.owners["custody"].knobs.resets = False
        office.owners["custody"].recall(recall(case))
        await office.work()
        assert len(await case.recalls()) == 2


async def test_a_restart_hears_on_from_where_it_was(case: Case, owner: SimulatedOwner) -> None:
    office = case.office
    owner.recall(recall(case))
    await office.work()
    await office.restart()
    assert len(await case.recalls()) == 1
    owner.recall(recall(case))
    await office.work()
    await office.restart()
    await office.work()
    assert [one.number for one in await case.recalls()] == [1, 2]
    assert len(office.entries("recall.received")) == 2


async def test_an_acknowledgement_is_recorded_once_and_told(
    case: Case, owner: SimulatedOwner
) -> None:
    office = case.office
    owner.recall(recall(case, recall_id=ID))
    await office.work()
    (record,) = await case.recalls()
    at = office.clock()
    receipt = await case.acknowledge(record, recall_id=ID, acknowledged_at=at)
    entry = office.proved(receipt)
    assert (entry["type"], entry["recall_id"]) == ("recall.acknowledged", ID)
    assert b"file" not in receipt.leaf
    assert office.proved(await case.acknowledge(record, recall_id=ID, acknowledged_at=at)) == entry
    error = await refused(case.acknowledge(record, recall_id=ID, action="Something else."))
    assert reason(error) == (Reason.NOTICE_INVALID, "recall_id")
    (read,) = await case.recalls()
    assert read.HasField("acknowledged_at")
    await office.work()
    (notice,) = owner.notices
    assert notice.notice.payload_type == PayloadType.RECALL_ACKNOWLEDGEMENT
    assert len(office.entries("recall.acknowledged")) == 1


async def test_who_acknowledges_is_an_officer_of_the_force_it_concerns(
    case: Case, owner: SimulatedOwner
) -> None:
    office = case.office
    owner.recall(recall(case, recall_id=ID))
    await office.work()
    (record,) = await case.recalls()
    impostor = Person(id="officer-9", role="investigating_officer", rank="sergeant")
    wrong = record.recall.payload
    cases: list[tuple[dict[str, Any], tuple[Reason, str]]] = [
        ({"token": office.token(impostor, Part.OFFICER)}, (Reason.OFFICER_TOKEN_INVALID, "")),
        ({"token": office.token(REQUESTER, Part.REVIEWER)}, (Reason.OFFICER_TOKEN_INVALID, "")),
        ({"force": "southmere"}, (Reason.NOT_FOUND, "")),
        ({"recall_sha256": bytes(32)}, (Reason.NOT_FOUND, "")),
        ({"recall_id": str(uuid.UUID(int=3))}, (Reason.NOT_FOUND, "")),
        (
            {"acknowledged_at": office.clock() - timedelta(hours=1)},
            (Reason.NOTICE_INVALID, "acknowledged_at"),
        ),
    ]
    for changes, why in cases:
        assert (
            reason(await refused(case.acknowledge(record, **({"recall_id": ID} | changes)))) == why
        )
    assert wrong
    assert len(office.entries("request.refused")) == len(cases)
    assert office.entries("recall.acknowledged") == []
    await office.work()
    assert owner.notices == []


async def test_a_wrong_match_is_recorded_once_and_the_owner_is_told(
    case: Case, owner: SimulatedOwner
) -> None:
    office, said = case.office, case.wrong_match()
    receipt = await case.report(said)
    entry = office.proved(receipt)
    assert (entry["type"], entry["agency"], entry["reference"]) == (
        "match.wrong",
        "custody",
        "ref-1",
    )
    assert b"elsewhere" not in receipt.leaf
    assert office.proved(await case.report(said)) == entry
    await office.work()
    await office.work()
    (notice,) = owner.notices
    assert notice.notice.payload == encode(said)
    assert office.owners["pnd"].notices == []
    for changes, why in (
        ({"reference": "nobody"}, (Reason.NOTICE_INVALID, "reference")),
        ({"order_sha256": bytes(32)}, (Reason.NOT_FOUND, "")),
        ({"report_id": said.report_id}, (Reason.NOTICE_INVALID, "id")),
        ({"reported_at": case.now + timedelta(hours=1)}, (Reason.NOTICE_INVALID, "reported_at")),
    ):
        assert reason(await refused(case.report(case.wrong_match(**changes)))) == why


@pytest.mark.parametrize(
    "knobs", [{"resets": True}, {"silent": True}, {"notify": Reason.KEY_UNKNOWN}]
)
async def test_an_agency_is_told_until_it_has_acknowledged(
    case: Case, owner: SimulatedOwner, knobs: dict[str, Any]
) -> None:
    office = case.office
    await case.report()
    for name, value in knobs.items():
        setattr(owner.knobs, name, value)
    await office.broker.second_step.notifying.work()
    assert owner.notices == []
    await office.restart()
    for name in knobs:
        setattr(owner.knobs, name, None if name == "notify" else False)
    await office.broker.second_step.notifying.work()
    assert owner.notices == []  # not at once
    office.ahead(seconds=6)
    await office.broker.second_step.notifying.work()
    assert len(owner.notices) == 1
    office.ahead(hours=1)
    await office.broker.second_step.notifying.work()
    assert len(owner.notices) == 1


async def test_what_an_agency_never_acknowledged_is_on_the_log(
    case: Case, owner: SimulatedOwner
) -> None:
    office = case.office
    await case.report()
    owner.knobs.notify = Reason.NOTICE_INVALID
    await office.work()
    office.ahead(days=31)
    await office.work()
    (entry,) = office.entries("notice.lapsed")
    assert (entry["agency"], entry["reason"]) == ("custody", "NOTICE_INVALID")
    with office.broker.engine.connect() as connection:
        row = connection.execute(select(tables.notices)).one()
    assert (row.next_us, row.outcome) == (None, "NOTICE_INVALID")


async def test_a_death_after_the_agency_heard_tells_it_the_same_again(
    case: Case, owner: SimulatedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = case.office
    await case.report()
    store = type(office.broker.second_step.notifying.notices)

    def dies(*_: Any) -> Any:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "done", dies)
        await office.broker.second_step.notifying.work()
    await office.restart()
    await office.broker.second_step.notifying.work()
    assert len({notice.notice.payload for notice in owner.notices}) == 1
    assert len(owner.notices) == 2
    await office.broker.second_step.notifying.work()
    assert len(owner.notices) == 2


async def test_recalls_are_read_by_forces_alone(case: Case) -> None:
    request = pb.ListRecallsRequest()
    error = await refused(case.office.call("ListRecalls", request, "custody"))
    assert error.reason is Reason.CHANNEL_ROLE
