"""Requests for disclosure and their owners: handed over, asked about, believed or not, ended."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from probegate.broker.v1 import disclosure_service_pb2 as pb
from sqlalchemy import select, update

from broker.second_step import tables
from broker.tables import searches
from tests.release_peers import SEALED, Owner, SimulatedOwner, recall_of
from tests.second_steps import ONE, THREE, Case, Office, opened, refused, searched
from tests.world import World
from trust.chores import beside
from trust.errors import Reason
from trust.second_step import ReleaseDecision, ReleaseState
from trust.wire import decode

LIES = (
    Owner.FORGED,
    Owner.REPLAYED,
    Owner.WRONG_DIGEST,
    Owner.NOTHING_SEALED,
    Owner.REFUSED_WITH_DETAILS,
    Owner.OTHERS_KEY,
    Owner.ENDED,
    Owner.FROM_BEFORE,
    Owner.FROM_THE_FUTURE,
    Owner.OTHER_REFERENCE,
    Owner.OTHER_SEARCH,
    Owner.NOT_A_DECISION,
)
FAILURES = (Owner.GARBAGE, Owner.OVERSIZED)


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await (await searched(office)).settled()


@pytest.fixture
def owner(office: Office) -> SimulatedOwner:
    return office.owners["custody"]


async def state(case: Case, record: pb.DisclosureRecord) -> str:
    found = (await case.read(record.request_id)).state
    return pb.DisclosureState.Name(found).removeprefix("DISCLOSURE_STATE_").lower()


async def test_a_request_is_handed_over_with_everything_needed_to_refuse_it(
    case: Case, owner: SimulatedOwner
) -> None:
    office, said = case.office, await case.disclosure()
    owner.knobs.decide_by = case.now + timedelta(hours=48)
    await case.revoke(THREE)
    record = await case.ask(said)
    await office.work()
    assert await state(case, record) == "waiting"
    ((request,),) = owner.taken.values()
    assert [r.review.payload for r in request.reviews] == [
        payload
        for digest in said.review_sha256s
        for payload in [r.review.payload for r in request.reviews]
        if hashlib.sha256(payload).digest() == digest
    ]
    assert all(r.reviewer_token.count(".") == 2 for r in request.reviews)
    assert len(request.revocations) == 1
    assert request.requester_token.count(".") == 2
    assert request.order.payload
    read = await case.read(record.request_id)
    assert read.decide_by.ToDatetime(UTC) == owner.knobs.decide_by
    assert not read.sealed_disclosure


async def test_details_that_are_released_go_to_the_force_and_the_first_time_is_on_the_log(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    assert (await state(case, record), owner.asked) == ("waiting", 1)
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=11)
    await office.work()
    assert office.entries("disclosure.delivered") == []
    read = await case.read(record.request_id)
    assert (read.state, read.sealed_disclosure) == (pb.DISCLOSURE_STATE_RELEASED, SEALED)
    decided = decode(ReleaseDecision, read.decision.payload)
    assert decided.state is ReleaseState.RELEASED
    entry = office.proved(read.decision_receipt)
    assert (entry["type"], entry["state"]) == ("disclosure.decided", "released")
    assert entry["decision_sha256"] == hashlib.sha256(read.decision.payload).hexdigest()
    assert len(office.entries("disclosure.delivered")) == 1
    again = await case.read(record.request_id)
    assert again.sealed_disclosure == SEALED
    assert len(office.entries("disclosure.delivered")) == 1
    asked = owner.asked
    office.ahead(hours=1)
    await office.work()
    assert owner.asked == asked  # nothing is left to ask
    with office.broker.engine.connect() as connection:
        row = connection.execute(select(tables.disclosures)).one()
    assert (row.sealed_facts, row.token, row.next_us) == (b"", "", None)


@pytest.mark.parametrize(
    "switch", ["agency:custody", "force:northshire", "purpose:crime_investigation"]
)
async def test_details_that_are_released_wait_while_a_kill_switch_is_off(
    case: Case, switch: str
) -> None:
    office, request_id = case.office, await case.released()
    for times in (1, 2):
        office.broker.ledger.switched(switch, off=True)
        for _ in range(2):
            read = await case.read(request_id)
            assert (read.sealed_disclosure, read.reason) == (b"", "RELEASE_SWITCHED_OFF")
        assert read.state == pb.DISCLOSURE_STATE_RELEASED
        told = office.entries("disclosure.withheld")
        assert [one["reason"] for one in told] == ["RELEASE_SWITCHED_OFF"] * times
        assert len(office.entries("disclosure.delivered")) == times - 1
        office.broker.ledger.switched(switch, off=False)
        read = await case.read(request_id)
        assert (read.sealed_disclosure, read.reason) == (SEALED, "")
        assert len(office.entries("disclosure.delivered")) == 1
    (asked,) = office.entries("disclosure.requested")
    assert told[0]["request_sha256"] == asked["request_sha256"]


async def test_a_kill_switch_is_told_of_past_the_time_to_fetch_them_as_well(case: Case) -> None:
    """A force may hold them by then, and asks at every use."""
    office, request_id = case.office, await case.released()
    office.ahead(days=8)
    assert (await case.read(request_id)).reason == "RELEASE_EXPIRED"
    office.broker.ledger.switched("agency:custody", off=True)
    assert (await case.read(request_id)).reason == "RELEASE_SWITCHED_OFF"
    office.broker.ledger.switched("agency:custody", off=False)
    assert (await case.read(request_id)).reason == "RELEASE_EXPIRED"


async def test_details_that_stand_on_a_revoked_reviewers_review_are_handed_out_no_more(
    case: Case,
) -> None:
    request_id = await case.released()
    await case.revoke(ONE)
    read = await case.read(request_id)
    assert (read.sealed_disclosure, read.reason) == (b"", "REVIEWER_REVOKED")
    assert read.decision.payload  # the owner's decision stays
    assert case.office.entries("disclosure.delivered") == []


async def test_details_of_a_recalled_candidate_are_handed_out_no_more(
    case: Case, owner: SimulatedOwner
) -> None:
    request_id = await case.released()
    owner.recall(recall_of(case.search_id, case.view.record.order_sha256, "custody", "ref-1"))
    await case.office.work()
    read = await case.read(request_id)
    assert (read.sealed_disclosure, read.reason) == (b"", "STOP_USE")


async def test_sealed_details_are_erased_past_their_end_and_the_decision_stays(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.owner, owner.knobs.keeps_for = Owner.RELEASES, timedelta(hours=2)
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    assert (await case.read(record.request_id)).sealed_disclosure == SEALED
    office.ahead(hours=2)
    read = await case.read(record.request_id)  # before anything was erased
    assert (read.sealed_disclosure, read.state) == (b"", pb.DISCLOSURE_STATE_RELEASED)
    await office.work()
    with office.broker.engine.connect() as connection:
        assert connection.execute(select(tables.disclosures.c.sealed)).scalar_one() is None
    read = await case.read(record.request_id)
    assert read.HasField("decision")
    assert office.proved(read.decision_receipt)["type"] == "disclosure.decided"


async def test_an_owners_refusal_is_its_signed_word(case: Case, owner: SimulatedOwner) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.owner = Owner.REFUSES
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    read = await case.read(record.request_id)
    assert (read.state, read.reason) == (pb.DISCLOSURE_STATE_REFUSED, "")
    assert decode(ReleaseDecision, read.decision.payload).reason == "OWNER_REFUSED"
    (entry,) = office.entries("disclosure.decided")
    assert (entry["state"], entry["reason"]) == ("refused", "OWNER_REFUSED")


@pytest.mark.parametrize("reason", [Reason.REVIEW_MISSING, Reason.DISCLOSURE_DENIED])
async def test_an_agency_that_turns_a_request_away_ends_it(
    case: Case, owner: SimulatedOwner, reason: Reason
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.rejects = reason
    await office.work()
    read = await case.read(record.request_id)
    assert (read.state, read.reason) == (pb.DISCLOSURE_STATE_REFUSED, reason.name)
    (entry,) = office.entries("disclosure.refused")
    assert (entry["reason"], entry["decided_by"]) == (reason.name, "agency")
    calls = owner.calls
    office.ahead(hours=1)
    await office.work()
    assert owner.calls == calls


@pytest.mark.parametrize(
    "knobs",
    [
        {"resets": True},
        {"silent": True},
        {"rejects": Reason.SERVER_BUSY},
        {"rejects": Reason.LOG_UNAVAILABLE},
        {"rejects": Reason.METHOD_LATER},
        {"rejects": Reason.CHECKPOINT_UNRECONCILED},
    ],
)
async def test_a_failure_that_says_nothing_of_the_request_is_tried_again_with_the_same_bytes(
    case: Case, owner: SimulatedOwner, knobs: dict[str, Any]
) -> None:
    office, said = case.office, await case.disclosure()
    record = await case.ask(said)
    for name, value in knobs.items():
        setattr(owner.knobs, name, value)
    await office.work()
    assert await state(case, record) == "recorded"
    calls = owner.calls
    await office.work()
    assert owner.calls == calls  # not at once
    for name in knobs:
        setattr(owner.knobs, name, False if name in {"resets", "silent"} else None)
    office.ahead(seconds=11)
    await office.work()
    assert await state(case, record) == "waiting"
    assert len(office.entries("disclosure.requested")) == 1
    ((request,),) = owner.taken.values()
    payload = request.request.payload
    assert hashlib.sha256(payload).hexdigest() in {
        one["request_sha256"] for one in office.entries("disclosure.requested")
    }


@pytest.mark.parametrize("lie", LIES)
async def test_a_decision_that_does_not_verify_is_on_the_log_and_not_believed(
    case: Case, owner: SimulatedOwner, lie: Owner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.owner = lie
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    assert owner.asked == 1
    read = await case.read(record.request_id)
    assert (read.state, read.sealed_disclosure) == (pb.DISCLOSURE_STATE_WAITING, b"")
    assert not read.HasField("decision")
    (entry,) = office.entries("disclosure.disbelieved")
    assert entry["agency"] == "custody"
    assert entry["reason"] in Reason.__members__
    assert office.entries("disclosure.decided") == []
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=11)
    await office.work()
    assert await state(case, record) == "released"


@pytest.mark.parametrize("lie", FAILURES)
async def test_what_is_no_answer_at_all_is_asked_for_again(
    case: Case, owner: SimulatedOwner, lie: Owner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.owner = lie
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    assert await state(case, record) == "waiting"
    owner.knobs.owner = Owner.REFUSES
    office.ahead(seconds=11)
    await office.work()
    assert await state(case, record) == "refused"


async def test_the_decision_on_one_request_is_not_that_on_another(
    case: Case, owner: SimulatedOwner
) -> None:
    office = case.office
    first = await case.ask()
    second = await case.ask(await case.disclosure(reference="ref-2"))
    await office.work()
    ours, other = owner.taken
    owner.taken[ours] = owner.taken[other]  # answers the first as if it were the second
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=6)
    await office.work()
    assert {await state(case, first), await state(case, second)} == {"waiting", "released"}
    assert len(office.entries("disclosure.disbelieved")) == 1


async def test_an_agency_that_forgot_a_request_is_handed_it_again(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    await office.work()
    ((before,),) = owner.taken.values()
    owner.taken.clear()
    office.ahead(seconds=6)
    await office.work()
    assert await state(case, record) == "recorded"
    office.ahead(seconds=30)
    await office.work()
    assert await state(case, record) == "waiting"
    ((again,),) = owner.taken.values()
    assert again.request == before.request
    assert again.sealed_facts == before.sealed_facts


async def test_a_reviewer_revoked_before_the_release_ends_the_request(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    other = await case.ask(await case.disclosure("pnd"))
    await office.work()
    await case.revoke(ONE)
    for one in (record, other):
        read = await case.read(one.request_id)
        assert (read.state, read.reason) == (pb.DISCLOSURE_STATE_REFUSED, "REVIEWER_REVOKED")
    said = office.entries("disclosure.refused")
    assert [(one["reason"], one["decided_by"]) for one in said] == [
        ("REVIEWER_REVOKED", "broker")
    ] * 2
    await office.work()
    for each in office.owners.values():
        assert len(each.notices) == 1  # and either has proved that it is on our log
    owner.knobs.owner = Owner.RELEASES
    office.ahead(hours=1)
    await office.work()
    assert (await case.read(record.request_id)).sealed_disclosure == b""


async def test_a_revocation_that_comes_while_details_are_on_their_way_keeps_them_out(
    case: Case, owner: SimulatedOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    office, record = case.office, await case.ask()
    await office.work()
    handing = office.broker.second_step.handing

    async def not_yet(*_: Any) -> bool:
        return False

    # The revocation is recorded just after the check and before the decision is: the write that
    # keeps the decision finds it.
    async def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(type(handing), "refuse_revoked", nothing)
    await case.revoke(ONE)
    real = type(handing)._refused_if_revoked
    monkeypatch.setattr(type(handing), "_refused_if_revoked", not_yet)
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=6)
    await office.work()
    monkeypatch.setattr(type(handing), "_refused_if_revoked", real)
    read = await case.read(record.request_id)
    assert (read.state, read.reason, read.sealed_disclosure) == (
        pb.DISCLOSURE_STATE_REFUSED,
        "REVIEWER_REVOKED",
        b"",
    )
    assert office.entries("disclosure.decided") == []


async def test_a_revocation_of_somebody_else_changes_nothing(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    await office.work()
    await case.revoke(THREE)
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=6)
    await office.work()
    assert await state(case, record) == "released"


async def test_what_was_released_stays_released_whoever_is_revoked_later(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.owner = Owner.RELEASES
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    await case.revoke(ONE)
    assert await state(case, record) == "released"


async def test_a_recalled_candidates_details_go_out_no_more(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.owner = Owner.RELEASES
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    assert (await case.read(record.request_id)).sealed_disclosure == SEALED
    order = case.view.record.order_sha256
    owner.recall(recall_of(case.search_id, order, "custody", "ref-1"))
    await office.work()
    assert (await case.read(record.request_id)).sealed_disclosure == b""


async def test_what_a_kill_switch_turned_off_is_left_alone_while_it_is(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    office.broker.ledger.switched("agency:custody", off=True)
    await office.work()
    assert (owner.calls, await state(case, record)) == (0, "recorded")
    office.broker.ledger.switched("agency:custody", off=False)
    office.ahead(seconds=30)
    await office.work()
    office.broker.ledger.switched("force:northshire", off=True)
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=30)
    await office.work()
    assert (owner.asked, await state(case, record)) == (0, "waiting")
    office.broker.ledger.switched("force:northshire", off=False)
    office.ahead(seconds=60)
    await office.work()
    assert await state(case, record) == "released"


async def test_an_owner_who_does_not_decide_lets_a_request_lapse(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.decide_by = case.now + timedelta(hours=48)
    await office.work()
    gaps, last = [], case.now
    for _ in range(60):
        office.ahead(seconds=5)
        before = owner.asked
        await office.broker.second_step.handing.work()
        if owner.asked > before:
            gaps.append(round((case.now - last).total_seconds()))
            last = case.now
    assert gaps[:5] == [5, 10, 20, 40, 80]
    office.ahead(hours=71)
    await office.work()
    assert await state(case, record) == "waiting"
    office.ahead(hours=2)
    await office.work()
    assert await state(case, record) == "lapsed"
    (entry,) = office.entries("disclosure.lapsed")
    assert entry["request_sha256"] == office.proved(record.receipt)["request_sha256"]
    asked = owner.asked
    owner.knobs.owner = Owner.RELEASES
    office.ahead(hours=2)
    await office.work()
    assert owner.asked == asked


async def test_a_decision_after_the_time_and_within_the_margin_counts(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.decide_by = case.now + timedelta(hours=48)
    await office.work()
    owner.knobs.owner, owner.knobs.keeps_for = Owner.RELEASES, timedelta(days=90)
    office.ahead(hours=60)
    await office.work()
    assert await state(case, record) == "released"


async def test_an_agency_that_forgets_a_request_again_and_again_lets_it_lapse(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.asks = Reason.NOT_FOUND
    states = []
    for _ in range(35):
        await office.work()
        states.append(await state(case, record))
        office.ahead(days=1)
    assert states[:33] == ["waiting", "recorded"] * 16 + ["waiting"]
    assert states[-1] == "lapsed"
    assert len(office.entries("disclosure.lapsed")) == 1
    handed, asked = sum(map(len, owner.taken.values())), owner.asked
    office.ahead(hours=2)
    await office.work()
    assert (sum(map(len, owner.taken.values())), owner.asked) == (handed, asked)


async def test_an_agency_that_is_gone_lets_a_request_lapse(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.resets = True
    office.ahead(hours=23)
    await office.work()
    assert await state(case, record) == "recorded"
    office.ahead(hours=2)
    await office.work()
    assert await state(case, record) == "lapsed"
    assert len(office.entries("disclosure.lapsed")) == 1


@pytest.mark.parametrize(
    "decide_by", [datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None]
)
async def test_an_agencys_time_at_the_end_of_the_calendar_does_no_harm(
    case: Case, owner: SimulatedOwner, decide_by: datetime | None
) -> None:
    office, record = case.office, await case.ask()
    owner.knobs.decide_by = decide_by
    await office.work()
    assert await state(case, record) == "waiting"
    office.ahead(days=34)
    await office.work()
    assert await state(case, record) == "lapsed"


async def test_a_restart_between_every_step_loses_nothing_and_repeats_nothing(
    case: Case, owner: SimulatedOwner
) -> None:
    office, said = case.office, await case.disclosure()
    request = case.asking(said)
    await office.call("RequestDisclosure", request)
    await office.restart()
    again = (await office.call("RequestDisclosure", request)).disclosure
    assert again.state == pb.DISCLOSURE_STATE_RECORDED
    await office.work()
    await office.restart()
    office.ahead(seconds=6)
    await office.work()
    assert (len(owner.taken), owner.asked) == (1, 1)
    await office.restart()
    owner.knobs.owner = Owner.RELEASES
    office.ahead(seconds=30)
    await office.work()
    await office.restart()
    read = await case.read(said.request_id)
    assert (read.state, read.sealed_disclosure) == (pb.DISCLOSURE_STATE_RELEASED, SEALED)
    await office.restart()
    assert (await case.read(said.request_id)).sealed_disclosure == SEALED
    await office.work()
    for kind in ("requested", "decided", "delivered"):
        assert len(office.entries(f"disclosure.{kind}")) == 1
    ((taken,),) = owner.taken.values()
    assert taken.request.payload == request.request.payload


@pytest.mark.parametrize("dies_in", ["waits", "decided"])
async def test_a_death_between_the_agencys_answer_and_its_keeping_repeats_the_same_bytes(
    case: Case, owner: SimulatedOwner, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    office, record = case.office, await case.ask()
    store = type(office.broker.second_step.handing.disclosures)
    owner.knobs.owner = Owner.RELEASES

    def dies(*_: Any, **__: Any) -> Any:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(store, dies_in, dies)
        await office.work()
        office.ahead(seconds=6)
        await office.work()
    await office.restart()
    for _ in range(3):
        await office.work()
        office.ahead(seconds=30)
    assert await state(case, record) == "released"
    sent = [one for taken in owner.taken.values() for one in taken]
    assert len({(one.request.payload, one.sealed_facts) for one in sent}) == 1
    assert len(owner.taken) == 1
    assert len(office.entries("disclosure.decided")) == 1


async def test_the_chores_do_all_of_it_by_themselves(world: World) -> None:
    async with opened(world, release_poll_s=0.05, release_first_s=0.05) as office:
        case = await (await searched(office)).settled()
        owner = office.owners["custody"]
        owner.knobs.owner = Owner.RELEASES
        async with beside(office.broker.chores()):
            record = await case.ask()
            async with asyncio.timeout(60):
                while await state(case, record) != "released":  # noqa: ASYNC110 - across the wire
                    await asyncio.sleep(0.05)
        assert (await case.read(record.request_id)).sealed_disclosure == SEALED


async def test_an_order_that_was_erased_ends_what_stands_on_it(
    case: Case, owner: SimulatedOwner
) -> None:
    office, record = case.office, await case.ask()
    with office.broker.engine.begin() as connection:
        connection.execute(update(searches).values(order_envelope=b""))
    await office.work()
    read = await case.read(record.request_id)
    assert (read.state, read.reason) == (pb.DISCLOSURE_STATE_REFUSED, "ERASED")
    assert owner.calls == 0
    assert (await refused(case.images())).reason is Reason.NOT_FOUND
