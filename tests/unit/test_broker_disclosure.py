"""Requests for disclosure at the broker: what is asked for, by whom, and on whose reviews."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from probegate.broker.v1 import disclosure_service_pb2 as pb

from tests.release_peers import Owner, recall_of
from tests.second_steps import (
    ABSENT,
    FIELDS,
    FORCE,
    ONE,
    REQUESTER,
    THREE,
    TWO,
    Case,
    Office,
    opened,
    reason,
    refused,
    reviewer,
    searched,
)
from tests.world import World, edit_agreement
from trust.errors import Reason
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import Opinion
from trust.tokens import Part
from trust.wire import envelope_to_wire


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await (await searched(office)).settled()


async def test_a_request_is_recorded_with_what_it_stands_on(case: Case) -> None:
    office = case.office
    said = await case.disclosure()
    record = await case.ask(said)
    assert (record.state, record.reason) == (pb.DISCLOSURE_STATE_RECORDED, "")
    entry = office.proved(record.receipt)
    assert entry["type"] == "disclosure.requested"
    assert entry["reviews"] == [one.hex() for one in said.review_sha256s]
    assert entry["fields"] == list(FIELDS)
    assert set(entry["commitments"]) == {"requester", "offence", "subject_category"}
    assert b"officer-2200" not in record.receipt.leaf
    assert not record.HasField("decision_receipt")
    assert not record.HasField("decide_by")


async def test_the_same_bytes_are_the_same_request_whatever_the_time(case: Case) -> None:
    office, said = case.office, await case.disclosure()
    request = case.asking(said)
    first = await office.call("RequestDisclosure", request)
    office.ahead(hours=2)
    again = await office.call("RequestDisclosure", request)
    assert first.disclosure.created_at == again.disclosure.created_at
    assert len(office.entries("disclosure.requested")) == 1
    other = said.model_copy(update={"fields": ("reference",)})
    error = await refused(office.call("RequestDisclosure", case.asking(other)))
    assert error.reason is Reason.DISCLOSURE_REPLAYED
    many = await asyncio.gather(*(office.call("RequestDisclosure", request) for _ in range(5)))
    assert {one.disclosure.receipt.leaf for one in many} == {first.disclosure.receipt.leaf}


async def test_many_of_the_same_at_once_are_one(case: Case) -> None:
    request = case.asking(await case.disclosure())
    many = await asyncio.gather(*(case.office.call("RequestDisclosure", request) for _ in range(6)))
    assert len({one.disclosure.receipt.leaf for one in many}) == 1
    assert len(case.office.entries("disclosure.requested")) == 1
    assert case.office.entries("disclosure.refused") == []


async def test_one_review_is_not_enough(office: Office) -> None:
    case = await searched(office)
    first = await case.review(ONE)
    digests = tuple(
        bytes.fromhex(digest)
        for entry in [office.proved(first.receipt)]
        for digest in entry["reviews"].values()
    )
    error = await refused(case.ask(await case.disclosure(review_sha256s=digests)))
    assert error.reason is Reason.REVIEW_MISSING
    (said,) = office.entries("disclosure.refused")
    assert (said["reason"], said["decided_by"], said["reference"]) == (
        "REVIEW_MISSING",
        "broker",
        "ref-1",
    )
    assert office.owners["custody"].calls == 0


async def test_what_people_found_not_to_be_the_person_is_not_asked_for(office: Office) -> None:
    case = await searched(office)
    await case.review(ONE, ABSENT)
    await case.review(TWO, ABSENT)
    error = await refused(case.ask())
    assert error.reason is Reason.REVIEW_MISSING


async def test_an_inconclusive_candidate_is_not_asked_for(office: Office) -> None:
    case = await searched(office)
    await case.review(ONE)
    await case.review(TWO, ABSENT)
    digests = (bytes(32), bytes(31) + b"\1")
    error = await refused(case.ask(await case.disclosure(review_sha256s=digests)))
    assert error.reason is Reason.REVIEW_MISSING  # nothing is settled
    await case.review(THREE, Opinion.INCONCLUSIVE)
    assert (await refused(case.ask())).reason is Reason.REVIEW_MISSING


async def test_it_names_the_reviews_that_count_and_no_others(case: Case) -> None:
    counted, others = await case.counted("custody"), await case.counted("pnd")
    for named in (
        others,
        (counted[0], others[0]),
        (*counted, others[0]),
        (counted[0], bytes(32)),
    ):
        error = await refused(case.ask(await case.disclosure(review_sha256s=named)))
        assert reason(error) == (Reason.REVIEW_MISSING, "review_sha256s")
    turned = await case.disclosure(review_sha256s=counted[::-1])
    assert (await case.ask(turned)).state == pb.DISCLOSURE_STATE_RECORDED


async def test_after_a_disagreement_the_one_who_dissented_is_named_too(office: Office) -> None:
    case = await searched(office)
    await case.review(ONE)
    await case.review(TWO, ABSENT)
    await case.review(THREE)
    counted = await case.counted("custody")
    assert len(counted) == 3
    fewer = await case.disclosure(review_sha256s=counted[:2])
    assert (await refused(case.ask(fewer))).reason is Reason.REVIEW_MISSING
    assert (await case.ask()).state == pb.DISCLOSURE_STATE_RECORDED


async def test_a_revoked_reviewers_review_is_nothing_to_stand_on(case: Case) -> None:
    said = await case.disclosure()
    await case.revoke(ONE)
    assert (await refused(case.ask(said))).reason is Reason.REVIEWER_REVOKED


async def test_who_reviewed_does_not_ask(case: Case) -> None:
    one = reviewer(1, id="REVIEWER-0001")
    error = await refused(case.ask(await case.disclosure(requester=one)))
    assert reason(error) == (Reason.REVIEW_NOT_INDEPENDENT, "requester")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reference": "nobody"}, (Reason.DISCLOSURE_INVALID, "reference")),
        ({"report_sha256": bytes(32)}, (Reason.DISCLOSURE_INVALID, "report_sha256")),
        ({"order_sha256": bytes(32)}, (Reason.NOT_FOUND, "")),
        ({"search_id": "00000000-0000-4000-8000-000000000000"}, (Reason.NOT_FOUND, "")),
        ({"force": "southmere"}, (Reason.CHANNEL_ROLE, "force")),
        ({"fields": ("national_insurance_number",)}, (Reason.DISCLOSURE_DENIED, "fields")),
        (
            {"fields": ("family_name", "responsible_authority")},
            (Reason.DISCLOSURE_DENIED, "fields"),
        ),
    ],
)
async def test_a_request_fits_the_search_and_the_agreement(
    case: Case, changes: dict[str, Any], why: tuple[Reason, str]
) -> None:
    counted = await case.counted("custody")
    said = await case.disclosure(**({"review_sha256s": counted} | changes))
    assert reason(await refused(case.ask(said))) == why
    assert case.office.entries("disclosure.requested") == []
    assert len(case.office.entries("disclosure.refused", "request.refused")) == 1


async def test_a_request_is_fresh(case: Case) -> None:
    now = case.now
    old: dict[str, Any] = {
        "created_at": now - timedelta(minutes=6),
        "expires_at": now - timedelta(minutes=1),
    }
    error = await refused(case.ask(await case.disclosure(**old)))
    assert reason(error) == (Reason.DISCLOSURE_INVALID, "expires_at")
    early: dict[str, Any] = {
        "created_at": now + timedelta(minutes=2),
        "expires_at": now + timedelta(minutes=4),
    }
    error = await refused(case.ask(await case.disclosure(**early)))
    assert reason(error) == (Reason.DISCLOSURE_INVALID, "created_at")


async def test_the_token_is_the_requesters_own(case: Case) -> None:
    office, said = case.office, await case.disclosure()
    impostor = Person(id="officer-9", role="investigating_officer", rank="sergeant")
    for token in (
        office.token(impostor, Part.OFFICER),
        office.token(REQUESTER, Part.REVIEWER),
        office.token(REQUESTER, Part.OFFICER, "southmere"),
        "",
    ):
        error = await refused(case.ask(said, requester_token=token))
        assert error.reason is Reason.OFFICER_TOKEN_INVALID
    assert len(office.entries("disclosure.refused")) == 4


async def test_the_facts_are_sealed_to_the_agency(case: Case) -> None:
    for changes in (
        {"sealed_facts": b""},
        {"sealed_facts": bytes(64 * 1024)},
        {"sealed_key_id": "nobody"},
        {"sealed_key_id": "x" * 4000},
    ):
        error = await refused(case.ask(await case.disclosure(), **changes))
        assert reason(error) == (Reason.SEAL_INVALID, "sealed_facts")


@pytest.mark.parametrize(
    "duties",
    [
        {"fields": ["reference"]},
        {"hit_no_hit": True, "fields": [], "images": "never"},
        {"reviewers": 3},
    ],
)
async def test_the_agreement_as_it_is_now_decides(case: Case, duties: dict[str, Any]) -> None:
    world = case.office.world
    said = await case.disclosure()
    path = world.root / "agreements" / "custody" / "custody.yaml"
    edit_agreement(path, lambda agreement: agreement["obligations"].update(duties))
    world.sign_bundle(world.root / "agreements", version=2)
    await case.office.broker.refresh()
    error = await refused(case.ask(said))
    assert error.reason in {Reason.DISCLOSURE_DENIED, Reason.REVIEW_MISSING}


@pytest.mark.parametrize("how", ["lapsed", "gone", "another purpose"])
async def test_without_an_agreement_nothing_is_asked_for(case: Case, how: str) -> None:
    world = case.office.world
    said = await case.disclosure()

    def change(agreement: dict[str, Any]) -> None:
        today = case.now.date()
        if how == "lapsed":
            agreement["in_force"]["from"] = today - timedelta(days=9)
            agreement["in_force"]["to"] = today - timedelta(days=1)
        elif how == "gone":
            agreement["id"] = "another"
        else:
            agreement["gateways"] = [
                one for one in agreement["gateways"] if one["purpose"] != "crime_investigation"
            ]

    edit_agreement(world.root / "agreements" / "custody" / "custody.yaml", change)
    world.sign_bundle(world.root / "agreements", version=2)
    await case.office.broker.refresh()
    assert case.office.broker.policies.current.bundle.version == 2
    assert (await refused(case.ask(said))).reason is Reason.DISCLOSURE_DENIED


async def test_what_a_kill_switch_turned_off_is_not_asked_for(case: Case) -> None:
    case.office.broker.ledger.switched("agency:custody", off=True)
    assert (await refused(case.ask())).reason is Reason.RELEASE_SWITCHED_OFF
    case.office.broker.ledger.switched("agency:custody", off=False)
    assert (await case.ask()).state == pb.DISCLOSURE_STATE_RECORDED


async def test_a_recalled_candidate_is_not_asked_for(case: Case) -> None:
    office = case.office
    order = case.view.record.order_sha256
    office.owners["custody"].recall(recall_of(case.search_id, order, "custody", "ref-1"))
    await office.work()
    assert (await refused(case.ask())).reason is Reason.STOP_USE
    other = await case.disclosure(reference="ref-2")
    assert (await case.ask(other)).state == pb.DISCLOSURE_STATE_RECORDED


async def test_another_forces_requests_do_not_exist(case: Case) -> None:
    record = await case.ask()
    for request_id in (record.request_id, "x", "", "\x00", "é" * 500):
        error = await refused(case.read(request_id, "southmere"))
        assert reason(error) == (Reason.NOT_FOUND, "")
    listed = await case.office.call("ListDisclosures", pb.ListDisclosuresRequest(), "southmere")
    assert list(listed.disclosures) == []


async def test_pages_are_newest_first_and_hold_everything_once(case: Case) -> None:
    office, made = case.office, []
    for place in range(5):
        office.ahead(seconds=1)
        said = await case.disclosure("custody" if place % 2 else "pnd", reference="ref-2")
        made.append((await case.ask(said)).request_id)
    found, token = [], ""
    for _ in range(4):
        page = await office.call(
            "ListDisclosures", pb.ListDisclosuresRequest(page_size=2, page_token=token)
        )
        found += [one.request_id for one in page.disclosures]
        assert all(not one.HasField("receipt") for one in page.disclosures)
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]
    mine = pb.ListDisclosuresRequest(search_id=case.search_id)
    assert len((await office.call("ListDisclosures", mine)).disclosures) == 5
    for search_id in ("nobody", "\x00"):
        other = pb.ListDisclosuresRequest(search_id=search_id)
        assert len((await office.call("ListDisclosures", other)).disclosures) == 0
    for request in (
        pb.ListDisclosuresRequest(page_size=-1),
        pb.ListDisclosuresRequest(page_token="nonsense"),
        pb.ListDisclosuresRequest(page_token="LTUuMDA="),
    ):
        error = await refused(office.call("ListDisclosures", request))
        assert error.reason is Reason.PAGE_INVALID


async def test_what_is_not_signed_by_the_force_leaves_no_trace_of_what_it_says(case: Case) -> None:
    office, said = case.office, await case.disclosure()
    request = case.asking(said)
    request.request.CopyFrom(
        envelope_to_wire(office.sign(said, PayloadType.DISCLOSURE_REQUEST, "southmere"))
    )
    assert (await refused(office.call("RequestDisclosure", request))).reason is Reason.KEY_UNKNOWN
    (entry,) = office.entries("request.refused")
    assert (entry["force"], entry["kind"], entry["sha256"]) == (FORCE, "disclosure-request", "")
    assert office.entries("disclosure.refused") == []
    office.owners["custody"].knobs.owner = Owner.RELEASES
    await office.work()
    assert office.owners["custody"].calls == 0
