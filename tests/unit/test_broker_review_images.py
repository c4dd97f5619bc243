"""Candidates' images through the broker: who may have them, on the record, passed on unopened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from probegate.agency.v1 import release_service_pb2 as agency_pb

from audit.merkle import leaf_hash
from broker.second_step.releasing import MAX_SEALED_IMAGE_BYTES
from tests.release_peers import SEALED
from tests.second_steps import (
    ONE,
    TWO,
    Case,
    Office,
    opened,
    reason,
    refused,
    reviewer,
    searched,
)
from tests.world import OFFICER, World, edit_agreement
from trust.errors import Reason
from trust.tokens import Part


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world, ("custody", "pnd", "asylum")) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await searched(office, ("custody", "asylum"))


def image(reference: str, sealed: bytes = SEALED, kid: str = "k") -> agency_pb.GetImagesResponse:
    return agency_pb.GetImagesResponse(reference=reference, sealed_key_id=kid, sealed_image=sealed)


async def test_images_are_on_the_log_before_the_agency_is_asked_and_go_on_as_they_are(
    case: Case,
) -> None:
    office, owner = case.office, case.office.owners["custody"]
    sent = await case.images()
    assert [(one.reference, one.sealed_image) for one in sent] == [
        ("ref-1", SEALED),
        ("ref-2", SEALED),
    ]
    (said,) = office.entries("images.requested")
    assert (said["agency"], said["references"]) == ("custody", ["ref-1", "ref-2"])
    assert "reviewer" in said["commitments"]
    assert len(owner.image_requests) == 1
    assert owner.image_requests[0].recorded.entry.leaf  # which it has proved
    assert office.entries("images.refused") == []


async def test_where_they_are_sent_on_request_reasons_are_given(case: Case) -> None:
    office = case.office
    error = await refused(case.images(agency="asylum"))
    assert reason(error) == (Reason.IMAGES_NOT_AGREED, "reasons")
    error = await refused(case.images(agency="asylum", reasons="  "))
    assert reason(error) == (Reason.IMAGES_NOT_AGREED, "reasons")
    assert office.owners["asylum"].image_requests == []
    assert len(await case.images(agency="asylum", reasons="The scores alone say little.")) == 2
    said = office.entries("images.refused")
    assert [(one["reason"], one["decided_by"]) for one in said] == [
        ("IMAGES_NOT_AGREED", "broker")
    ] * 2


async def test_where_no_agreement_sends_them_none_are_sent(world: World) -> None:
    path = world.root / "agreements" / "custody" / "custody.yaml"
    edit_agreement(path, lambda agreement: agreement["obligations"].update(images="never"))
    world.sign_bundle(world.root / "agreements", version=2)
    async with opened(world) as office:
        case = await searched(office)
        error = await refused(case.images())
        assert error.reason is Reason.IMAGES_NOT_AGREED
        assert office.owners["custody"].calls == 0
        assert len(await case.images(agency="pnd")) == 2


async def test_an_agreement_that_is_gone_sends_none(case: Case) -> None:
    world = case.office.world
    path = world.root / "agreements" / "custody" / "custody.yaml"

    def other(agreement: dict[str, Any]) -> None:
        agreement["id"] = "another"

    edit_agreement(path, other)
    world.sign_bundle(world.root / "agreements", version=2)
    await case.office.broker.refresh()
    assert (await refused(case.images())).reason is Reason.IMAGES_NOT_AGREED


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"references": ("ref-1", "nobody")}, (Reason.REVIEW_INVALID, "references")),
        ({"agency": "dwp"}, (Reason.REVIEW_INVALID, "references")),
        ({"order_sha256": bytes(32)}, (Reason.NOT_FOUND, "")),
        ({"search_id": "00000000-0000-4000-8000-000000000000"}, (Reason.NOT_FOUND, "")),
        ({"person": OFFICER}, (Reason.REVIEW_NOT_INDEPENDENT, "reviewer")),
        (
            {"person": reviewer(1, accreditation="")},
            (Reason.REVIEWER_NOT_ACCREDITED, "reviewer.accreditation"),
        ),
        ({"force": "southmere"}, (Reason.NOT_FOUND, "")),
    ],
)
async def test_nobody_else_has_them(
    case: Case, changes: dict[str, Any], why: tuple[Reason, str]
) -> None:
    assert reason(await refused(case.images(**changes))) == why
    assert case.office.owners["custody"].calls == 0
    (said,) = case.office.entries("images.refused")
    assert said["reason"] == why[0].name


async def test_a_request_is_of_this_moment_and_the_reviewers_own(case: Case) -> None:
    office = case.office
    for at in (office.clock() - timedelta(minutes=11), office.clock() + timedelta(minutes=2)):
        error = await refused(case.images(created_at=at))
        assert reason(error) == (Reason.REVIEW_INVALID, "created_at")
    error = await refused(case.images(token=office.token(TWO, Part.REVIEWER)))
    assert error.reason is Reason.OFFICER_TOKEN_INVALID
    error = await refused(case.images(token=office.token(ONE, Part.OFFICER)))
    assert error.reason is Reason.OFFICER_TOKEN_INVALID
    await case.revoke(ONE)
    assert (await refused(case.images())).reason is Reason.REVIEWER_REVOKED
    assert office.owners["custody"].calls == 0


async def test_what_a_kill_switch_turned_off_sends_none(case: Case) -> None:
    ledger = case.office.broker.ledger
    for name in ("agency:custody", "force:northshire", "purpose:crime_investigation"):
        ledger.switched(name, off=True)
        assert (await refused(case.images())).reason is Reason.RELEASE_SWITCHED_OFF
        ledger.switched(name, off=False)
    assert len(await case.images()) == 2


async def test_an_agencys_refusal_is_passed_on_and_recorded_as_its_own(case: Case) -> None:
    case.office.owners["custody"].knobs.images_refused = Reason.IMAGES_NOT_AGREED
    assert (await refused(case.images())).reason is Reason.IMAGES_NOT_AGREED
    (said,) = case.office.entries("images.refused")
    assert (said["decided_by"], said["reason"]) == ("agency", "IMAGES_NOT_AGREED")


LIES: dict[str, tuple[dict[str, Any], Reason]] = {
    "of another reference": ({"images": lambda _: image("nobody")}, Reason.OUTCOME_INVALID),
    "twice": ({"images": lambda _: image("ref-1")}, Reason.OUTCOME_INVALID),
    "one too many": ({"more_images": 1}, Reason.OUTCOME_INVALID),
    "one too few": ({"fewer_images": 1}, Reason.OUTCOME_INVALID),
    "sealed to no key": ({"images": lambda r: image(r, kid="")}, Reason.OUTCOME_INVALID),
    "a key for nothing": ({"images": lambda r: image(r, b"")}, Reason.OUTCOME_INVALID),
    "garbage": ({"images": lambda _: b"\xff\xfe garbage"}, Reason.OUTCOME_INVALID),
    "too large": (
        {"images": lambda r: image(r, bytes(MAX_SEALED_IMAGE_BYTES + 1))},
        Reason.MESSAGE_TOO_LARGE,
    ),
    "far too large": ({"images": lambda r: image(r, bytes(1 << 20))}, Reason.MESSAGE_TOO_LARGE),
    "silence": ({"silent": True}, Reason.DEADLINE_PASSED),
    "a lost connection": ({"resets": True}, Reason.SERVICE_UNREACHABLE),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_peer_that_misbehaves_is_an_error_of_the_catalogue(world: World, lie: str) -> None:
    knobs, why = LIES[lie]
    async with opened(world, images_timeout_s=2.0) as office:
        case = await searched(office)
        for name, value in knobs.items():
            setattr(office.owners["custody"].knobs, name, value)
        assert (await refused(case.images())).reason is why
        assert len(office.entries("images.requested")) == 1
        assert len(await case.images(agency="pnd")) == 2


async def test_a_large_image_gets_through_and_an_agency_without_one_says_so(case: Case) -> None:
    large = bytes(512 * 1024)
    owner = case.office.owners["custody"]
    owner.knobs.images = lambda r: image(r, large) if r == "ref-1" else image(r, b"", "")
    first, second = await case.images()
    assert first.sealed_image == large
    assert (second.reference, second.sealed_key_id, second.sealed_image) == ("ref-2", "", b"")


async def test_an_agency_that_lost_its_memory_of_the_log_is_asked_what_it_has(case: Case) -> None:
    office, owner = case.office, case.office.owners["custody"]
    await case.images()
    # It knows the log at its first entry alone, and no proof from there was expected.
    office.rig.peers["custody"].newest_size = owner.size = 1
    owner.root = leaf_hash(office.broker.logs.search.leaf(0))
    assert len(await case.images()) == 2


async def test_who_goes_away_does_no_harm(case: Case) -> None:
    case.office.owners["custody"].knobs.silent = True
    asking = asyncio.create_task(case.images())
    while not case.office.owners["custody"].calls:  # noqa: ASYNC110 - across the wire
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    case.office.owners["custody"].knobs.silent = False
    assert len(await case.images()) == 2
