"""What follows a search whose results are gone by then: recalls, and candidates still in use."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from tests.release_peers import recall_of
from tests.second_steps import Case, Office, opened, refused, searched
from tests.world import World
from trust.errors import Reason
from trust.second_step import Recall
from trust.wire import decode


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world, results_retain_days=1) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await (await searched(office)).settled()


async def erased(office: Office) -> None:
    """Let the time of every search's results pass."""
    office.ahead(days=1, minutes=1)
    await office.broker.retention.erase()


def recall(case: Case, agency: str = "custody", reference: str = "ref-1") -> Recall:
    order = case.view.record.order_sha256
    recall_id = str(uuid.uuid4())
    return recall_of(case.search_id, order, agency, reference, recall_id=recall_id)


async def delivered(case: Case) -> str:
    """Have custody's details released and read; return the request's id."""
    request_id = await case.released()
    assert (await case.read(request_id)).sealed_disclosure
    return request_id


async def test_a_recall_still_reaches_its_force(case: Case) -> None:
    """Details are kept for longer than the results they came of."""
    await erased(case.office)
    case.office.owners["custody"].recall(recall(case))
    await case.office.work()
    (record,) = await case.recalls()
    said = decode(Recall, record.recall.payload)
    assert (said.search_id, said.reference) == (case.search_id, "ref-1")
    assert case.office.proved(record.receipt)["type"] == "recall.received"
    assert case.office.entries("recall.disbelieved") == []


async def test_old_recalls_do_not_hold_up_a_new_one(case: Case) -> None:
    owner = case.office.owners["custody"]
    await erased(case.office)
    case.office.ahead(days=-1, minutes=-1)  # the agencies' clocks are not turned
    fresh = await searched(case.office)
    for number in range(3):
        owner.recall(recall(case, reference=f"ref-{number}"))
    owner.recall(recall(fresh))
    await case.office.work()
    heard = [decode(Recall, one.recall.payload).search_id for one in await case.recalls()]
    assert heard == [case.search_id] * 3 + [fresh.search_id]


async def test_an_agency_that_was_not_asked_recalls_nothing_of_it(office: Office) -> None:
    case = await searched(office, ("custody",))
    await erased(office)
    office.owners["pnd"].recall(recall(case, "pnd"))
    await office.work()
    assert await case.recalls() == []
    (entry,) = office.entries("recall.disbelieved")
    assert (entry["agency"], entry["reason"]) == ("pnd", "NOTICE_INVALID")


async def test_of_what_was_released_evidence_and_wrong_matches_are_still_recorded(
    case: Case,
) -> None:
    await delivered(case)
    await erased(case.office)
    receipt = await case.corroborate()
    assert case.office.proved(receipt)["type"] == "corroboration.recorded"
    receipt = await case.report()
    assert case.office.proved(receipt)["type"] == "match.wrong"
    await case.office.work()
    (notice,) = case.office.owners["custody"].notices
    assert notice.recorded.entry.leaf == receipt.leaf
    for other in (
        case.corroboration(reference="ref-2"),
        case.corroboration(agency="pnd"),
        case.corroboration(order_sha256=bytes(32)),
    ):
        error = await refused(case.corroborate(other))
        expected = Reason.RESULT_GONE if any(other.order_sha256) else Reason.NOT_FOUND
        assert error.reason is expected


@pytest.mark.parametrize("switch", ["agency:custody", "force:northshire"])
async def test_a_kill_switch_holds_back_details_all_the_same(case: Case, switch: str) -> None:
    request_id = await delivered(case)
    await erased(case.office)
    case.office.broker.ledger.switched(switch, off=True)
    assert (await case.read(request_id)).reason == "RELEASE_SWITCHED_OFF"
    case.office.broker.ledger.switched(switch, off=False)
    assert (await case.read(request_id)).sealed_disclosure


async def test_of_what_was_not_released_nothing_more_is_recorded(case: Case) -> None:
    await case.ask()
    await erased(case.office)
    for statement in (case.corroborate(), case.report()):
        assert (await refused(statement)).reason is Reason.RESULT_GONE
