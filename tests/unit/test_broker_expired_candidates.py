"""What follows a search of which one agency's candidates are erased, and others' are not."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from broker.tables import searches
from tests.release_peers import Owner, recall_of
from tests.second_steps import (
    ONE,
    PRESENT,
    THREE,
    TWO,
    Case,
    Office,
    opened,
    refused,
    searched,
)
from tests.world import World, copied_examples, edit_agreement
from trust.errors import Reason
from trust.second_step import Recall
from trust.wire import decode

ASKED = ("custody", "pnd")


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """Custody's agreement lets nobody keep anything for longer than a day."""
    agreements = copied_examples(tmp_path / "agreements")
    edit_agreement(
        agreements / "custody" / "custody.yaml",
        lambda agreement: agreement["obligations"].update(retention_days=1),
    )
    world = World.make(tmp_path, agreements=agreements)
    async with opened(world) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await searched(office, ASKED)


async def erased(case: Case) -> None:
    """Let the time of custody's candidates pass, and read the search again."""
    case.office.ahead(days=1, minutes=1)
    await case.office.broker.expiring.erase()
    case.view = await case.office.broker.reading.get("northshire", case.search_id)
    (gone,) = [one for one in case.view.record.answers if one.outcome.erased_at]
    assert gone.outcome.agency == "custody"


def recall(case: Case, agency: str, reference: str = "ref-1") -> Recall:
    order = case.view.record.order_sha256
    return recall_of(case.search_id, order, agency, reference, recall_id=str(uuid.uuid4()))


async def test_a_recall_of_what_is_gone_reaches_its_force(case: Case) -> None:
    await erased(case)
    case.office.owners["custody"].recall(recall(case, "custody"))
    await case.office.work()
    (record,) = await case.recalls()
    assert decode(Recall, record.recall.payload).agency == "custody"
    assert case.office.entries("recall.disbelieved") == []


async def test_a_recall_of_what_was_never_listed_is_not_believed_of_who_is_still_there(
    case: Case,
) -> None:
    await erased(case)
    case.office.owners["pnd"].recall(recall(case, "pnd", "ref-9"))
    await case.office.work()
    assert await case.recalls() == []
    (entry,) = case.office.entries("recall.disbelieved")
    assert (entry["agency"], entry["reason"]) == ("pnd", "NOTICE_INVALID")


async def test_nothing_more_is_asked_of_it_and_of_the_others_it_is(case: Case) -> None:
    await case.settled()
    said = await case.disclosure("custody")
    await erased(case)
    late = said.model_copy(
        update={"created_at": case.now, "expires_at": case.now + timedelta(minutes=5)}
    )
    for step in (
        lambda: case.ask(late),
        lambda: case.images(THREE, "custody"),
        case.report,
        case.corroborate,
    ):
        error = await refused(step())
        assert (error.reason, error.metadata.get("agency")) == (Reason.RESULT_GONE, "custody")
    assert {one.agency for one in (await case.status()).candidates} == {"pnd"}
    assert (await case.ask(await case.disclosure("pnd"))).request_id


async def test_a_request_that_was_made_before_is_decided_and_what_is_released_stays_in_use(
    case: Case,
) -> None:
    await case.settled()
    record = await case.ask()
    await case.office.work()
    await erased(case)
    case.office.owners["custody"].knobs.owner = Owner.RELEASES
    case.office.ahead(minutes=16)
    await case.office.work()
    assert (await case.read(record.request_id)).sealed_disclosure
    for receipt in (await case.corroborate(), await case.report()):
        assert case.office.proved(receipt)["agency"] == "custody"
    assert (await refused(case.corroborate(case.corroboration(reference="ref-2")))).reason is (
        Reason.RESULT_GONE
    )


async def test_reviews_count_on_for_what_is_left(case: Case) -> None:
    await case.review(ONE)
    await erased(case)
    response = await case.review(TWO)
    assert not response.status.open
    counted = {(one.agency, one.reference) for one in response.status.candidates}
    assert counted == {("pnd", "ref-1"), ("pnd", "ref-2")}
    (settled,) = case.office.entries("review.settled")
    assert settled["counts"][PRESENT.value] == len(counted)


async def test_a_search_of_which_nothing_is_left_is_not_reviewed(office: Office) -> None:
    case = await searched(office, ("custody",))
    pages = case.sitting(ONE)
    with office.broker.engine.begin() as connection:
        connection.execute(update(searches).values(erase_us=2**60))
    await erased(case)
    assert (await refused(case.status())).reason is Reason.RESULT_GONE
    moment = {"started_at": case.now, "finished_at": case.now}
    late = [one.model_copy(update=moment) for one in pages]
    error = await refused(office.call("SubmitReview", case.request_of(late)))
    assert error.reason is Reason.RESULT_GONE
