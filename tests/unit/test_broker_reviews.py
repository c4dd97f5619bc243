"""Reviews at the broker, over real mTLS: who may, of what, how they count, and what shows."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from probegate.broker.v1 import review_service_pb2 as review_pb
from probegate.common.v1 import second_step_pb2

from audit.values import read_values
from tests.peers import Behaviour
from tests.second_steps import (
    ABSENT,
    FORCE,
    ONE,
    PRESENT,
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
from tests.world import AUTHORISER, OFFICER, Request, World, edit_agreement
from trust.errors import Reason
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import Opinion
from trust.tokens import Part
from trust.wire import envelope_to_wire

POTENTIAL = second_step_pb2.OPINION_POTENTIAL_CANDIDATE
INCONCLUSIVE = second_step_pb2.OPINION_INCONCLUSIVE


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await searched(office)


def split(agency: str, reference: str) -> Opinion:
    return ABSENT if (agency, reference) == ("custody", "ref-2") else PRESENT


def no_opinion_of_pnd(agency: str, reference: str) -> Opinion:
    return Opinion.INCONCLUSIVE if agency == "pnd" else PRESENT


async def test_two_people_settle_a_search_and_every_step_is_on_the_log(case: Case) -> None:
    office = case.office
    first = await case.review(ONE)
    assert (first.status.reviews, first.status.needed, first.status.open) == (1, 2, True)
    said = office.proved(first.receipt)
    assert (said["type"], said["number"], said["search_id"]) == (
        "review.recorded",
        1,
        case.search_id,
    )
    assert set(said["reviews"]) == {"custody", "pnd"}
    second = await case.review(TWO)
    assert not second.status.open
    assert {(one.agency, one.reference) for one in second.status.candidates} == {
        (agency, f"ref-{rank}") for agency in ("custody", "pnd") for rank in (1, 2)
    }
    assert {one.opinion for one in second.status.candidates} == {POTENTIAL}
    (settled,) = office.entries("review.settled")
    assert settled["counts"] == {
        "potential_candidate": 4,
        "no_candidate": 0,
        "inconclusive": 0,
    }
    assert len(settled["reviews"]) == 2
    request = review_pb.GetReviewStatusRequest(search_id=case.search_id)
    again = await office.call("GetReviewStatus", request)
    assert office.proved(again.receipt) == settled
    assert len(office.entries("review.settled")) == 1
    for one in again.status.candidates:
        digests = {entry["reviews"][one.agency] for entry in office.entries("review.recorded")}
        assert {digest.hex() for digest in one.review_sha256s} == digests


async def test_nobody_sees_an_opinion_before_all_is_settled(case: Case) -> None:
    office = case.office
    words = ("potential_candidate", "no_candidate", "inconclusive", "Ears", "reviewer-0001")
    await case.review(ONE, ABSENT)
    status = await case.status()
    assert (status.open, list(status.candidates), status.disagreement) == (True, [], False)
    (recorded,) = office.entries("review.recorded")
    log = office.broker.logs.search
    published = b"".join(log.leaf(at) for at in range(log.checkpoint.checkpoint.size))
    for word in words:
        assert word.encode() not in published
    assert set(recorded["commitments"]) == {"reviewer", "findings"}
    index = next(
        at
        for at in range(log.checkpoint.checkpoint.size)
        if json.loads(log.leaf(at))["type"] == "review.recorded"
    )
    with office.broker.engine.connect() as connection:
        kept = read_values(connection, "search", index)
    assert json.loads(kept["reviewer"].value)["id"] == "reviewer-0001"
    found = json.loads(kept["findings"].value)["custody"]
    assert {one["opinion"] for one in found} == {"no_candidate"}
    # A disagreement shows that there is one, and not about what.
    await case.review(TWO, split)
    status = await case.status()
    assert (status.open, list(status.candidates), status.disagreement) == (True, [], True)
    assert office.entries("review.settled") == []


async def test_a_third_settles_a_disagreement(case: Case) -> None:
    await case.review(ONE)
    await case.review(TWO, split)
    done = await case.review(THREE, no_opinion_of_pnd)
    assert (done.status.open, done.status.disagreement, done.status.reviews) == (False, True, 3)
    by_candidate = {(one.agency, one.reference): one for one in done.status.candidates}
    assert by_candidate["custody", "ref-2"].opinion == POTENTIAL
    assert by_candidate["pnd", "ref-1"].opinion == POTENTIAL
    assert len(by_candidate["pnd", "ref-1"].review_sha256s) == 3


async def test_where_no_two_agree_it_is_inconclusive(case: Case) -> None:
    await case.review(ONE)
    await case.review(TWO, ABSENT)
    done = await case.review(THREE, Opinion.INCONCLUSIVE)
    assert {one.opinion for one in done.status.candidates} == {INCONCLUSIVE}


async def test_nobody_reviews_what_is_settled(case: Case) -> None:
    await case.settled()
    error = await refused(case.review(THREE))
    assert error.reason is Reason.REVIEW_NOT_NEEDED
    (said,) = case.office.entries("review.refused")
    assert (said["search_id"], said["reason"], said["force"]) == (
        case.search_id,
        "REVIEW_NOT_NEEDED",
        FORCE,
    )


async def test_the_same_bytes_are_one_sitting_whatever_the_time(case: Case) -> None:
    request = case.request_of(case.sitting(ONE))
    first = await case.office.call("SubmitReview", request)
    case.office.ahead(hours=3)
    again = await case.office.call("SubmitReview", request)
    assert case.office.proved(first.receipt) == case.office.proved(again.receipt)
    assert len(case.office.entries("review.recorded")) == 1
    other = case.sitting(
        ONE, ABSENT, review_id=case.office.entries("review.recorded")[0]["review_id"]
    )
    error = await refused(case.office.call("SubmitReview", case.request_of(other)))
    assert reason(error) == (Reason.REVIEW_INVALID, "review_id")


PARTS = {
    "the officer": OFFICER,
    "the officer, otherwise spelt": OFFICER.model_copy(update={"id": "OFFICER-1041"}),
    "the authoriser": AUTHORISER.model_copy(
        update={"accreditation": "facial-review-2026", "accreditation_expires": date(2031, 1, 1)}
    ),
}


@pytest.mark.parametrize("who", PARTS)
async def test_who_has_another_part_does_not_review(case: Case, who: str) -> None:
    error = await refused(case.review(PARTS[who]))
    assert reason(error) == (Reason.REVIEW_NOT_INDEPENDENT, "reviewer")


@pytest.mark.parametrize("again", ["reviewer-0001", "REVIEWER-0001", "Reviewer-0001"])
async def test_nobody_reviews_twice(case: Case, again: str) -> None:
    await case.review(ONE)
    error = await refused(case.review(reviewer(1, id=again)))
    assert reason(error) == (Reason.REVIEW_NOT_INDEPENDENT, "reviewer")
    assert (await case.status()).reviews == 1


YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()


@pytest.mark.parametrize(
    "changes",
    [
        {"accreditation": ""},
        {"accreditation_expires": None},
        {"accreditation_expires": YESTERDAY},
    ],
)
async def test_a_reviewer_is_accredited_on_the_day(case: Case, changes: dict[str, Any]) -> None:
    error = await refused(case.review(reviewer(1, **changes)))
    assert error.reason is Reason.REVIEWER_NOT_ACCREDITED


def _drop(values: dict[str, Any]) -> None:
    if values["agency"] == "custody":
        values["findings"] = values["findings"][:1]


def _foreign(values: dict[str, Any]) -> None:
    one, *rest = values["findings"]
    values["findings"] = (one.model_copy(update={"reference": "nobody"}), *rest)


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], Reason, str]] = {
    "a candidate left out": (_drop, Reason.REVIEW_INVALID, "findings.reference"),
    "a foreign reference": (_foreign, Reason.REVIEW_INVALID, "findings.reference"),
    "another report": (
        lambda v: v.update(report_sha256=bytes(32)),
        Reason.REVIEW_INVALID,
        "report_sha256",
    ),
    "another order": (lambda v: v.update(order_sha256=bytes(32)), Reason.NOT_FOUND, ""),
    "another search": (
        lambda v: v.update(search_id="00000000-0000-4000-8000-000000000000"),
        Reason.NOT_FOUND,
        "",
    ),
    "another force": (lambda v: v.update(force="southmere"), Reason.CHANNEL_ROLE, "force"),
    "begun before the search": (
        lambda v: v.update(started_at=v["started_at"] - timedelta(hours=2)),
        Reason.REVIEW_INVALID,
        "started_at",
    ),
    "another agency": (lambda v: v.update(agency="dwp"), Reason.REVIEW_INVALID, "agency"),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_sitting_is_of_every_candidate_of_this_search_and_no_other(
    case: Case, how: str
) -> None:
    change, why, field = SPOILT[how]
    sitting = case.sitting(ONE, change=change)
    error = await refused(case.office.call("SubmitReview", case.request_of(sitting)))
    assert reason(error) == (why, field)
    assert (await case.status()).reviews == 0
    assert len(case.office.entries("review.refused", "request.refused")) == 1


async def test_a_sitting_is_one_persons_and_whole(case: Case) -> None:
    office = case.office
    mine, theirs = case.sitting(ONE), case.sitting(TWO)
    mixed = await refused(office.call("SubmitReview", case.request_of([mine[0], theirs[1]])))
    assert mixed.reason is Reason.REVIEW_INVALID
    half = await refused(office.call("SubmitReview", case.request_of(mine[:1])))
    assert reason(half) == (Reason.REVIEW_INVALID, "agency")
    turned = await refused(office.call("SubmitReview", case.request_of(mine[::-1])))
    assert reason(turned) == (Reason.REVIEW_INVALID, "agency")
    twice = await refused(office.call("SubmitReview", case.request_of([mine[0], mine[0]])))
    assert reason(twice) == (Reason.REVIEW_INVALID, "agency")
    none = await refused(office.call("SubmitReview", review_pb.SubmitReviewRequest()))
    assert reason(none) == (Reason.REVIEW_INVALID, "reviews")
    assert office.entries("review.recorded") == []


async def test_a_token_is_the_reviewers_own_and_for_that_part(case: Case) -> None:
    office, sitting = case.office, case.sitting(ONE)
    tokens = {
        "another's": office.token(TWO, Part.REVIEWER),
        "of an officer": office.token(ONE, Part.OFFICER),
        "of another rank": office.token(reviewer(1, rank="inspector"), Part.REVIEWER),
        "of another force": office.token(ONE, Part.REVIEWER, "southmere"),
        "old": office.token(ONE, Part.REVIEWER, now=office.clock() - timedelta(minutes=9)),
        "long": "a" * 9000,
        "none": "x",
    }
    for token in tokens.values():
        error = await refused(office.call("SubmitReview", case.request_of(sitting, token)))
        assert error.reason is Reason.OFFICER_TOKEN_INVALID
    assert office.entries("review.recorded") == []
    assert len(office.entries("review.refused")) == len(tokens)


async def test_a_token_that_an_agency_could_not_accept_later_is_refused_now(case: Case) -> None:
    def earlier(values: dict[str, Any]) -> None:
        values["finished_at"] -= timedelta(minutes=8)
        values["started_at"] = values["finished_at"]

    office = case.office
    office.ahead(minutes=9)  # the search was then
    sitting = case.sitting(ONE, change=earlier)
    error = await refused(office.call("SubmitReview", case.request_of(sitting)))
    assert error.reason is Reason.OFFICER_TOKEN_INVALID


async def test_what_is_not_signed_by_the_force_is_refused_and_recorded(case: Case) -> None:
    office, sitting = case.office, case.sitting(ONE)
    request = case.request_of(sitting, force="southmere")
    error = await refused(office.call("SubmitReview", request))
    assert error.reason is Reason.KEY_UNKNOWN
    request = case.request_of(sitting)
    request.reviews[0].payload += b"\x00"
    error = await refused(office.call("SubmitReview", request))
    assert error.reason is Reason.ENVELOPE_TAMPERED
    wrong = office.sign(sitting[0], PayloadType.WRONG_MATCH)
    request = review_pb.SubmitReviewRequest(reviews=[envelope_to_wire(wrong)])
    error = await refused(office.call("SubmitReview", request))
    assert error.reason is Reason.ENVELOPE_INVALID
    said = office.entries("request.refused")
    assert [(one["kind"], one["reason"], one["search_id"]) for one in said] == [
        ("review", "KEY_UNKNOWN", ""),
        ("review", "ENVELOPE_TAMPERED", ""),
        ("review", "ENVELOPE_INVALID", ""),
    ]


async def test_another_forces_search_does_not_exist(case: Case) -> None:
    office = case.office
    error = await refused(case.status("southmere"))
    nothing = await refused(
        office.call("GetReviewStatus", review_pb.GetReviewStatusRequest(search_id="x"))
    )
    assert reason(error) == reason(nothing) == (Reason.NOT_FOUND, "")

    def theirs(values: dict[str, Any]) -> None:
        values["force"] = "southmere"

    request = case.request_of(case.sitting(ONE, change=theirs), force="southmere")
    error = await refused(office.call("SubmitReview", request, "southmere"))
    assert reason(error) == (Reason.NOT_FOUND, "")
    (said,) = office.entries("review.refused")
    assert (said["force"], said["search_id"]) == ("southmere", "")


async def test_only_forces_call(case: Case) -> None:
    request = review_pb.GetReviewStatusRequest(search_id=case.search_id)
    error = await refused(case.office.call("GetReviewStatus", request, "custody"))
    assert error.reason is Reason.CHANNEL_ROLE


async def test_a_search_that_runs_is_not_reviewed(office: Office) -> None:
    office.rig.peers["custody"].knobs.behaviour = Behaviour.HANGS
    office.rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
    running = await office.rig.create(
        Request(office.world, agencies=("custody",), now=office.clock()), wait_s=0
    )
    request = review_pb.GetReviewStatusRequest(search_id=running.record.search_id)
    error = await refused(office.call("GetReviewStatus", request))
    assert reason(error) == (Reason.REVIEW_INVALID, "search_id")


async def test_a_search_without_candidates_needs_no_review(office: Office) -> None:
    for peer in office.rig.peers.values():
        peer.knobs.behaviour = Behaviour.EMPTY
    case = await searched(office)
    status = await case.status()
    assert (status.open, list(status.candidates)) == (False, [])


async def test_two_thirds_at_once_are_one_too_many(case: Case) -> None:
    await case.review(ONE)
    await case.review(TWO, ABSENT)
    both = await asyncio.gather(
        case.review(THREE), case.review(reviewer(4)), return_exceptions=True
    )
    lost = [one for one in both if isinstance(one, Exception)]
    assert len(lost) == 1
    assert getattr(lost[0], "reason", None) is Reason.REVIEW_NOT_NEEDED
    numbers = [one["number"] for one in case.office.entries("review.recorded")]
    assert numbers == [1, 2, 3]


async def test_an_agreement_that_asks_for_three_gets_three(world: World) -> None:
    path = world.root / "agreements" / "pnd" / "pnd.yaml"
    edit_agreement(path, lambda agreement: agreement["obligations"].update(reviewers=3))
    world.sign_bundle(world.root / "agreements", version=2)
    async with opened(world) as office:
        case = await (await searched(office)).settled()
        status = await case.status()
        assert (status.needed, status.reviews, status.open) == (3, 2, True)
        await case.review(THREE)
        assert not (await case.status()).open


async def test_a_revoked_reviewers_reviews_no_longer_count(case: Case) -> None:
    office = case.office
    await case.settled()
    done = await case.revoke(reviewer(1, id="Reviewer-0001"))
    said = office.proved(done.receipt)
    assert (said["type"], said["reviews"], done.reviews) == ("reviewer.revoked", 1, 1)
    assert "reviewer" not in {*said} - {"commitments"}
    assert b"eviewer-0001" not in done.receipt.leaf
    status = await case.status()
    assert (status.open, status.reviews, list(status.candidates)) == (True, 1, [])
    error = await refused(case.review(reviewer(1)))
    assert error.reason is Reason.REVIEWER_REVOKED
    await case.review(THREE)
    assert not (await case.status()).open
    assert len(office.entries("review.settled")) == 2


async def test_what_ended_before_a_revocation_counts_and_nobody_reviews_after_it(
    case: Case,
) -> None:
    await case.review(ONE)
    done = await case.revoke(ONE, ago=timedelta(seconds=-20))
    assert done.reviews == 0
    assert (await case.status()).reviews == 1
    await case.revoke(TWO)
    error = await refused(case.review(TWO))
    assert error.reason is Reason.REVIEWER_REVOKED
    await case.review(THREE)
    assert not (await case.status()).open


async def test_a_revocation_is_made_by_an_authoriser_and_once(case: Case) -> None:
    await case.review(ONE)
    fixed: dict[str, Any] = {"since": case.now - timedelta(hours=1), "revoked_at": case.now}
    first = await case.revoke(ONE, **fixed)
    again = await case.revoke(ONE, **fixed)
    assert case.office.proved(first.receipt) == case.office.proved(again.receipt)
    assert (first.reviews, again.reviews) == (1, 1)
    more = await case.revoke(ONE)
    assert more.reviews == 0
    for changes, why in (
        ({"person": REQUESTER}, (Reason.OFFICER_TOKEN_INVALID, "")),
        ({"revoked_at": case.now - timedelta(hours=1)}, (Reason.NOTICE_INVALID, "revoked_at")),
        ({"reviewer": "é"}, (Reason.NOTICE_INVALID, "reviewer")),
        ({"reviewer": "a\x00b"}, (Reason.NOTICE_INVALID, "reviewer")),
        ({"force": "southmere"}, (Reason.CHANNEL_ROLE, "force")),
    ):
        assert reason(await refused(case.revoke(ONE, **changes))) == why
    assert len(case.office.entries("reviewer.revoked")) == 2
    assert len(case.office.entries("request.refused")) == 5


async def test_a_restart_between_every_step_of_a_review_changes_nothing(case: Case) -> None:
    office = case.office
    await case.review(ONE)
    await office.restart()
    assert (await case.status()).reviews == 1
    await case.review(TWO, split)
    await office.restart()
    status = await case.status()
    assert (status.reviews, status.disagreement) == (2, True)
    await case.review(THREE)
    await office.restart()
    assert not (await case.status()).open
    await case.revoke(ONE)
    await office.restart()
    assert (await case.status()).open
    assert len(office.entries("review.recorded")) == 3


async def test_a_death_before_the_settlement_was_logged_leaves_it_to_who_looks_next(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = case.office
    await case.review(ONE)
    request = case.request_of(case.sitting(TWO))
    real = type(office.broker.second_step.submit.standings).view

    async def dies(*_: Any) -> Any:
        raise OSError("killed")

    monkeypatch.setattr(type(office.broker.second_step.submit.standings), "view", dies)
    await refused(office.call("SubmitReview", request))
    monkeypatch.setattr(type(office.broker.second_step.submit.standings), "view", real)
    assert office.entries("review.settled") == []
    await office.restart()
    assert not (await case.status()).open
    assert len(office.entries("review.settled")) == 1


async def test_candidates_that_were_held_open_a_settled_search_again(world: World) -> None:
    async with opened(world) as office:
        office.rig.peers["pnd"].knobs.behaviour = Behaviour.HOLDS
        case = await (await searched(office)).settled()
        assert {one.agency for one in (await case.status()).candidates} == {"custody"}
        office.rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
        office.ahead(seconds=6)
        await office.broker.held.collect()
        status = await case.status()
        assert (status.open, status.reviews) == (True, 0)
        case.view = await office.broker.reading.get(FORCE, case.search_id)
        error = await refused(case.review(ONE))
        assert error.reason is Reason.REVIEW_NOT_INDEPENDENT
        await case.review(THREE)
        await case.review(reviewer(4))
        done = await case.status()
        assert {one.agency for one in done.candidates} == {"custody", "pnd"}


async def test_evidence_of_another_kind_is_recorded_once(case: Case) -> None:
    office, said = case.office, case.corroboration()
    receipt = await case.corroborate(said)
    entry = office.proved(receipt)
    assert (entry["type"], entry["kind"], entry["agency"], entry["reference"]) == (
        "corroboration.recorded",
        "fingerprints",
        "custody",
        "ref-1",
    )
    assert b"EXHIBIT" not in receipt.leaf
    assert office.proved(await case.corroborate(said)) == entry
    other = said.model_copy(update={"case_material": "EXHIBIT/8"})
    assert reason(await refused(case.corroborate(other))) == (Reason.NOTICE_INVALID, "id")
    for changes, why in (
        ({"reference": "nobody"}, (Reason.NOTICE_INVALID, "reference")),
        ({"agency": "dwp"}, (Reason.NOTICE_INVALID, "reference")),
        ({"order_sha256": bytes(32)}, (Reason.NOT_FOUND, "")),
        ({"search_id": str(uuid.UUID(int=7))}, (Reason.NOT_FOUND, "")),
        (
            {"recorded_at": case.now - timedelta(hours=1)},
            (Reason.NOTICE_INVALID, "recorded_at"),
        ),
        ({"force": "southmere"}, (Reason.CHANNEL_ROLE, "force")),
    ):
        assert reason(await refused(case.corroborate(case.corroboration(**changes)))) == why
    assert len(office.entries("corroboration.recorded")) == 1


async def test_a_persons_token_goes_with_what_they_state(case: Case) -> None:
    impostor = Person(id="officer-9", role="investigating_officer", rank="sergeant")
    said = case.corroboration(person=impostor)
    request = review_pb.RecordCorroborationRequest(
        corroboration=envelope_to_wire(case.office.sign(said, PayloadType.CORROBORATION)),
        person_token=case.office.token(REQUESTER, Part.OFFICER),
    )
    error = await refused(case.office.call("RecordCorroboration", request))
    assert error.reason is Reason.OFFICER_TOKEN_INVALID
