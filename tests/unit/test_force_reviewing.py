"""Review at the force: images believed of their agencies, findings proved to be recorded."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from force_client import AsyncForceClient, ForceClient, Part, SearchView
from force_client.second_step.sheet import Findings
from tests.unit.force_second_peer import (
    AUTHORISER,
    OFFICER,
    REVIEWERS,
    RunningSecondPeer,
    SecondPeer,
    person,
    png,
    reviewed,
    searched,
)
from tests.unit.second_kit import client, kept_files, refusal, running, second
from trust.errors import Reason
from trust.second_step import CandidateImage, Opinion, Review
from trust.wire import decode

__all__ = ["client", "running", "second"]
FIRST, SECOND, THIRD = REVIEWERS


def opened(client: AsyncForceClient, view: SearchView, running: RunningSecondPeer) -> Any:
    return client.review(
        view.search_id,
        reviewer=person(client, FIRST),
        reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
        probe_image=running.probe_image,
    )


# --- honest ------------------------------------------------------------------------------------


async def test_a_sitting_from_images_to_the_record(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        assert sitting.probe.content == running.probe_image.read_bytes()
        for one in sitting.candidates:
            picture = sitting.look(one)
            seat = next(s for s in sitting.seats if s.candidate == one)
            assert picture.content == png(shade=sum(seat.reference.encode()) % 200)
            sitting.record(one, Opinion.NO_CANDIDATE, reasons="The ears differ.")
        status = await sitting.submit()
    assert sitting.probe is None  # put away, with every image
    assert [one.picture for one in sitting.seats] == [None] * 4
    assert (status.reviews, status.needed, status.open) == (1, 2, True)
    assert status.candidates == ()
    assert [one.agency for one in second.image_requests] == ["custody", "pnd"]
    (recorded,) = second.sittings[view.search_id].values()
    assert list(recorded) == ["custody", "pnd"]
    for agency, (review, _) in recorded.items():
        report = next(o for o in view.outcomes if o.agency == agency).report
        assert report is not None
        assert {f.reference for f in review.findings} == {c.reference for c in report.candidates}
        assert all(f.side_by_side for f in review.findings)


async def test_two_reviewers_settle_what_they_agree_on(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    view = await searched(client)
    opinions = {"pnd-x": Opinion.NO_CANDIDATE, "pnd-y": Opinion.INCONCLUSIVE}
    first = await reviewed(client, view, FIRST, running.probe_image, opinions)
    assert first.standing("custody", "custody-a") is None
    status = await reviewed(client, view, SECOND, running.probe_image, opinions)
    assert not status.open
    assert not status.disagreement
    found = {one.reference: one.opinion for one in status.candidates}
    assert found == {
        "custody-a": Opinion.POTENTIAL_CANDIDATE,
        "custody-b": Opinion.POTENTIAL_CANDIDATE,
        **opinions,
    }
    assert await client.review_status(view.search_id) == status


async def test_disagreement_asks_for_a_third(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    view = await searched(client)
    await reviewed(client, view, FIRST, running.probe_image)
    other = {"custody-a": Opinion.NO_CANDIDATE}
    status = await reviewed(client, view, SECOND, running.probe_image, other)
    assert status.open
    assert status.disagreement
    assert status.candidates == ()
    status = await reviewed(client, view, THIRD, running.probe_image, other)
    assert not status.open
    standing = status.standing("custody", "custody-a")
    assert standing is not None
    assert standing.opinion is Opinion.NO_CANDIDATE


async def test_candidates_without_images_are_inconclusive_at_most(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    second.without_images = {"custody-b"}
    second.images_refused = {"pnd"}
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        shown = {s.reference: s.candidate for s in sitting.seats}
        assert [ref for ref, one in sorted(shown.items()) if one.has_image] == ["custody-a"]
        for reference in ("custody-b", "pnd-x"):
            assert sitting.look(shown[reference]) is None
            with refusal(Reason.REVIEW_INVALID, field="side_by_side"):
                sitting.record(shown[reference], Opinion.NO_CANDIDATE, reasons="Nothing to see.")
            sitting.record(shown[reference], Opinion.INCONCLUSIVE, reasons="No image.")


@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_the_probe_image_never_leaves(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, lost: int
) -> None:
    """Everything that is sent in both steps, and everything that a retry sends again."""
    probe = running.probe_image.read_bytes()
    view = await searched(client)
    second.failures = [grpc.StatusCode.UNAVAILABLE] * lost
    await reviewed(client, view, FIRST, running.probe_image)
    await reviewed(client, view, SECOND, running.probe_image)
    sent = [*running.peer.requests, *second.sent]
    assert len(second.sent) >= 2 + 2 + 2
    parts = [probe[start : start + 16] for start in range(8, len(probe) - 15, 16)]
    traces = [*parts, *map(b64encode, parts), sha256(probe).digest()]
    traces += [sha256(probe).hexdigest().encode(), running.probe_image.name.encode()]
    assert not [trace for trace in traces for one in sent if trace in one]


async def test_a_retry_sends_the_same_bytes(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        for one in sitting.candidates:
            sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
        before = len(second.sent)
        second.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
        await sitting.submit()
        assert len(second.sent) - before == 3
        assert len(set(second.sent[before:])) == 1
        await sitting.submit()  # and so does whoever calls again
        assert len(set(second.sent[before:])) == 1
    assert len(second.sittings[view.search_id]) == 1


async def test_an_old_token_is_replaced_and_signed_anew(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        for one in sitting.candidates:
            sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
        second.failures = [Reason.OFFICER_TOKEN_INVALID]
        with refusal(Reason.OFFICER_TOKEN_INVALID):
            await sitting.submit()
        status = await sitting.submit(client.issue_token(FIRST, Part.REVIEWER))
    assert status.reviews == 1


async def test_reasons_for_images_travel_under_the_forces_signature(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with client.review(
        view.search_id,
        reviewer=person(client, FIRST),
        reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
        reasons="Two candidates of one score.",
    ) as sitting:
        assert sitting.probe is None
    assert {one.reasons for one in second.image_requests} == {"Two candidates of one score."}


@pytest.mark.parametrize("someone", [OFFICER, AUTHORISER])
async def test_nobody_reviews_their_own_search(
    client: AsyncForceClient, second: SecondPeer, someone: str
) -> None:
    view = await searched(client)
    for spelt in (someone, someone.upper()):
        who = person(client, someone).model_copy(update={"id": spelt})
        with refusal(Reason.REVIEW_NOT_INDEPENDENT):
            async with client.review(view.search_id, reviewer=who, reviewer_token="not looked at"):
                pytest.fail("sat down")
    assert second.image_requests == []


async def test_a_search_without_candidates_is_not_reviewed(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    def nothing(scene: Any, order: Any, search_id: str) -> Any:
        from tests.unit.force_scene import silent

        answers = [silent(agency) for agency in order.order.agencies]
        return scene.ended(order, answers, search_id=search_id)

    running.peer.answering = nothing
    view = await searched(client)
    with refusal(Reason.REVIEW_INVALID, field="search_id"):
        async with opened(client, view, running):
            pytest.fail("sat down")


def test_the_blocking_client_reviews_too(
    running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    from tests.unit.force_scene import draft, probe

    with ForceClient(running.settings(state_dir=tmp_path / "state")) as blocking:
        view = blocking.search(
            draft(),
            probe(),
            officer_token=blocking.issue_token(OFFICER, Part.OFFICER),
            authoriser_token=blocking.issue_token(AUTHORISER, Part.AUTHORISER),
        )
        with blocking.review(
            view.search_id,
            reviewer=blocking.officers.person(FIRST, option="reviewer"),
            reviewer_token=blocking.issue_token(FIRST, Part.REVIEWER),
            probe_image=running.probe_image,
        ) as sitting:
            assert sitting.probe is not None
            for one in sitting.candidates:
                assert sitting.look(one) is not None
                sitting.record(one, Opinion.NO_CANDIDATE, reasons="The ears differ.")
            assert sitting.open == ()
            status = sitting.submit()
        assert status == blocking.review_status(view.search_id)
    assert list(second.sittings[view.search_id]) == [sitting.review_id]


# --- images that are not to be believed ----------------------------------------------------------


def changed(**changes: Any) -> Callable[[CandidateImage], CandidateImage]:
    return lambda image: image.model_copy(update=changes)


OTHER = {"custody-a": "custody-b", "custody-b": "custody-a", "pnd-x": "pnd-y", "pnd-y": "pnd-x"}


@pytest.mark.parametrize(
    ("thing", "spoilt", "check"),
    [
        ("image", lambda it: it.model_copy(update={"reference": OTHER[it.reference]}), "image"),
        ("image", changed(agency="passport"), "image"),
        ("image", changed(search_id="4fa3c1de-0000-4000-8000-000000000001"), "image"),
        ("image", changed(order_sha256=bytes(32)), "image"),
        ("image", changed(sent_at=datetime.now(UTC) - timedelta(days=1)), "image"),
        ("image", changed(sent_at=datetime.now(UTC) + timedelta(days=1)), "image"),
        ("image", changed(media_type="image/jpeg"), "image"),
        ("image", changed(image=b"<script>"), "image"),
        ("image.content", lambda _: b"not an envelope", "image"),
        ("images", lambda asked: asked[:1], "images"),
        ("images", lambda asked: (*asked, asked[0]), "images"),
        ("images", lambda asked: (*asked[1:], "another"), "images"),
        ("images", lambda _: [f"r{i}" for i in range(400)], "images"),
    ],
)
async def test_a_false_image_opens_no_sitting(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    thing: str,
    spoilt: Any,
    check: str,
) -> None:
    view = await searched(client)
    second.spoil[thing] = spoilt
    with refusal(Reason.RESULT_INVALID, check=check):
        async with opened(client, view, running):
            pytest.fail("sat down")


@pytest.mark.parametrize("signer", ["broker", "passport", "northshire"])
async def test_an_image_that_its_agency_did_not_sign_opens_no_sitting(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, signer: str
) -> None:
    view = await searched(client)
    second.signers["image"] = signer
    with refusal(Reason.RESULT_INVALID, check="image"):
        async with opened(client, view, running):
            pytest.fail("sat down")


async def test_an_unsigned_image_opens_no_sitting(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    from trust.wire import envelope_from_bytes, envelope_to_bytes

    view = await searched(client)
    second.spoil["image.content"] = lambda it: envelope_to_bytes(
        replace(envelope_from_bytes(it), signatures=())
    )
    with refusal(Reason.RESULT_INVALID, check="image"):
        async with opened(client, view, running):
            pytest.fail("sat down")


# --- answers that are not to be believed ---------------------------------------------------------


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda facts: {key: value for key, value in facts.items() if key != name}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"leaf": lambda it: it | {"type": "review.refused"}},
        {"leaf": lambda it: it | {"search_id": "4fa3c1de-0000-4000-8000-000000000001"}},
        {"leaf": lambda it: it | {"review_id": "4fa3c1de-0000-4000-8000-000000000001"}},
        {"leaf": lambda it: it | {"reviews": {"custody": "00" * 32}}},
        {"leaf": without("reviews")},
        {"leaf": without("order_sha256")},
        {"leaf": lambda it: it | {"v": 2}},
        {"log": lambda _: "log_admin"},
        {"proof": lambda _: b""},
        {"proof": lambda _: b"\xff\xfe"},
        {"proof": lambda it: it.replace(b"index 2", b"index 3")},
    ],
)
async def test_a_false_receipt_is_no_record(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    spoilt: dict[str, Any],
) -> None:
    view = await searched(client)
    second.spoil |= spoilt
    with refusal(Reason.RESULT_INVALID):
        await reviewed(client, view, FIRST, running.probe_image)


def told(**changes: Any) -> Callable[[Any], Any]:
    def change(status: Any) -> Any:
        for name, value in changes.items():
            setattr(status, name, value)
        return status

    return change


def counted(*digests: bytes) -> Callable[[Any], Any]:
    def change(status: Any) -> Any:
        for one in status.candidates:
            one.review_sha256s[:] = digests
        return status

    return change


def listed(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(status: Any) -> Any:
        change(status.candidates)
        return status

    return apply


def early(status: Any) -> Any:
    status.open = True
    return status


@pytest.mark.parametrize(
    "spoilt",
    [
        counted(),
        counted(b"\1" * 32),
        counted(b"\1" * 32, b"\1" * 32),
        counted(b"\1" * 32, b"\2" * 32, b"\3" * 32),
        counted(b"\1" * 32, b"short"),
        told(needed=1, reviews=1),
        told(needed=0, reviews=0),
        told(needed=3),
        told(reviews=0),
        told(reviews=7),
        told(disagreement=True),
        told(search_id="4fa3c1de-0000-4000-8000-000000000001"),
        early,
        listed(lambda them: them.pop()),
        listed(lambda them: them.append(them[0])),
        listed(lambda them: setattr(them[0], "reference", "another")),
        listed(lambda them: setattr(them[0], "opinion", 0)),
        listed(lambda them: setattr(them[0], "opinion", 99)),
        listed(lambda them: setattr(them[0], "opinion", 2)),  # the log counted otherwise
    ],
)
async def test_a_status_that_does_not_stand_on_reviews_is_refused(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, spoilt: Any
) -> None:
    view = await searched(client)
    for reviewer in (FIRST, SECOND):
        await reviewed(client, view, reviewer, running.probe_image)
    second.spoil["status"] = spoilt
    with refusal(Reason.RESULT_INVALID):
        await client.review_status(view.search_id)
    with refusal(Reason.RESULT_INVALID):
        await client.request_disclosure(
            view.search_id,
            "custody",
            "custody-a",
            requester=person(client, OFFICER),
            requester_token=client.issue_token(OFFICER, Part.OFFICER),
            facts="A robbery.",
            fields=("name",),
        )
    assert kept_files(client, "disclosures") == []


async def test_two_who_disagree_settle_nothing(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    """Not even if status and log say so with one voice."""
    view = await searched(client)
    for reviewer in (FIRST, SECOND):
        await reviewed(client, view, reviewer, running.probe_image)
    second.spoil["status"] = told(disagreement=True)
    second.spoil["leaf"] = lambda it: it | {"disagreement": True}
    with refusal(Reason.RESULT_INVALID, check="reviews"):
        await client.review_status(view.search_id)


async def test_a_settled_status_needs_the_logs_word(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    for reviewer in (FIRST, SECOND):
        await reviewed(client, view, reviewer, running.probe_image)
    for spoilt in (
        lambda it: it | {"counts": {"potential_candidate": 9}},
        lambda it: it | {"reviews": it["reviews"][:1]},
        lambda it: it | {"type": "review.recorded"},
        without("counts"),
    ):
        second.spoil["leaf"] = spoilt
        with refusal(Reason.RESULT_INVALID, check="receipt_leaf"):
            await client.review_status(view.search_id)


# --- revoking and corroborating -------------------------------------------------------------------


async def test_a_revoked_reviewer_counts_no_more(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    for reviewer in (FIRST, SECOND):
        await reviewed(client, view, reviewer, running.probe_image)
    gone = await client.revoke_reviewer(
        FIRST,
        since=datetime.now(UTC) - timedelta(hours=1),
        reasons="The accreditation was withdrawn.",
        person=person(client, AUTHORISER),
        person_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
    )
    assert gone == 1
    assert (await client.review_status(view.search_id)).open
    second.spoil["leaf"] = lambda it: it | {"force": "southmere"}
    with refusal(Reason.RESULT_INVALID, check="receipt_leaf"):
        await client.revoke_reviewer(
            FIRST,
            since=datetime.now(UTC),
            reasons="Again.",
            person=person(client, AUTHORISER),
            person_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
        )


# --- sheets ---------------------------------------------------------------------------------------


def written(sitting: Any, **changes: Any) -> Findings:
    """What the page saves."""
    made = [
        {
            "label": one.label,
            "opinion": "no_candidate",
            "reasons": "The ears differ.",
            "disconfirming": "",
            "seconds": 0,
            "looked": True,
        }
        for one in sitting.candidates
    ]
    values: dict[str, Any] = {
        "v": 1,
        "review_id": sitting.review_id,
        "search_id": sitting.search_id,
        "findings": made,
    }
    return Findings.model_validate(values | changes)


async def test_a_sheet_is_submitted_later(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
    (kept,) = kept_files(client, "sittings")
    assert kept.stat().st_mode & 0o777 == 0o600
    findings = written(sitting)
    with refusal(Reason.REVIEW_INVALID, field="reviewer"):
        await client.submit_findings(
            findings,
            reviewer=person(client, SECOND),
            reviewer_token=client.issue_token(SECOND, Part.REVIEWER),
        )
    assert second.sittings == {}
    status = await client.submit_findings(
        findings,
        reviewer=person(client, FIRST),
        reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
    )
    assert status.reviews == 1
    assert kept_files(client, "sittings") == []
    (reviews,) = second.sittings[view.search_id].values()
    shown = {
        (agency, f.reference): f.shown for agency, (r, _) in reviews.items() for f in r.findings
    }
    assert shown == {(s.agency, s.reference): s.candidate.shown for s in sitting.seats}
    with refusal(Reason.FILE_MISSING):
        await client.submit_findings(
            findings,
            reviewer=person(client, FIRST),
            reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
        )


async def submitted(client: AsyncForceClient, findings: Findings) -> Any:
    return await client.submit_findings(
        findings,
        reviewer=person(client, FIRST),
        reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
    )


async def test_findings_that_were_recorded_are_submitted_again_as_they_were(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    """The answer to the first time was lost, as where a process was killed."""
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
    findings = written(sitting)
    second.spoil["leaf"] = lambda it: it | {"review_id": "lost"}
    with refusal(Reason.RESULT_INVALID):
        await submitted(client, findings)
    (recorded,) = second.sittings[view.search_id].values()
    (kept,) = kept_files(client, "sittings")
    assert kept.stat().st_mode & 0o777 == 0o600
    second.spoil.clear()
    assert (await submitted(client, findings)).reviews == 1
    assert list(second.sittings[view.search_id].values()) == [recorded]
    assert kept_files(client, "sittings") == []


@pytest.mark.parametrize("reason", [Reason.OFFICER_TOKEN_INVALID, Reason.REVIEW_INVALID])
async def test_what_was_not_recorded_in_time_is_signed_anew(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, reason: Reason
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
    findings = written(sitting)
    second.fails["SubmitReviewRequest"] = [Reason.LOG_UNAVAILABLE, reason]
    with refusal(Reason.LOG_UNAVAILABLE):
        await submitted(client, findings)
    before = len(second.sent)
    assert (await submitted(client, findings)).reviews == 1
    again, anew = second.sent[before:]
    assert again != anew


async def test_whoever_finds_otherwise_before_it_is_recorded_submits_that(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
    findings = written(sitting)
    second.fails["SubmitReviewRequest"] = [Reason.LOG_UNAVAILABLE]
    with refusal(Reason.LOG_UNAVAILABLE):
        await submitted(client, findings)
    changed = tuple(
        one.model_copy(update={"reasons": "The nose differs."}) for one in findings.findings
    )
    await submitted(client, findings.model_copy(update={"findings": changed}))
    (recorded,) = second.sittings[view.search_id].values()
    said = {one.reasons for review, _ in recorded.values() for one in review.findings}
    assert said == {"The nose differs."}


@pytest.mark.parametrize("recorded", [True, False])
async def test_what_was_found_at_a_sitting_is_submitted_by_another_process(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, *, recorded: bool
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        for one in sitting.candidates:
            sitting.look(one)
            sitting.record(one, Opinion.NO_CANDIDATE, reasons="The ears differ.")
        await sitting.keep()
        if recorded:
            second.spoil["leaf"] = lambda it: it | {"review_id": "lost"}
        else:
            second.fails["SubmitReviewRequest"] = [Reason.LOG_UNAVAILABLE]
        with refusal(Reason.RESULT_INVALID if recorded else Reason.LOG_UNAVAILABLE):
            await sitting.submit()
    second.spoil.clear()
    async with AsyncForceClient(client.settings) as another:
        findings = await another.kept_findings(sitting.review_id)
        assert {one.reasons for one in findings.findings} == {"The ears differ."}
        assert (await submitted(another, findings)).reviews == 1
        with refusal(Reason.FILE_MISSING):
            await another.kept_findings(sitting.review_id)


async def test_a_sitting_that_is_recorded_is_kept_no_longer(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
        with refusal(Reason.FILE_MISSING, field="findings"):
            await client.kept_findings(sitting.review_id)
        for one in sitting.candidates:
            sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
        await sitting.submit()
    assert kept_files(client, "sittings") == []


async def test_a_sheet_with_a_letter_too_many_or_too_few_is_refused(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
    whole = written(sitting)
    fewer = whole.model_copy(update={"findings": whole.findings[1:]})
    strange = whole.findings[0].model_copy(update={"label": "ZZ"})
    more = whole.model_copy(update={"findings": (*whole.findings, strange)})
    for bad in (fewer, more):
        with refusal(Reason.REVIEW_INVALID, field="findings"):
            await client.submit_findings(
                bad,
                reviewer=person(client, FIRST),
                reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
            )
    assert second.sittings == {}


async def test_what_is_signed_is_the_forces_review(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    await reviewed(client, view, FIRST, running.probe_image)
    (recorded,) = second.sittings[view.search_id].values()
    for review, envelope in recorded.values():
        assert decode(Review, envelope.payload) == review
        assert review.force == client.force
        assert review.order_sha256 == view.order_sha256
