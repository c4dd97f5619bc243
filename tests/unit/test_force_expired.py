"""What was erased of a search because its time was over: as a force checks it, and what follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from audit.leaves import parse_leaf
from force_client import AsyncForceClient, Part
from force_client.models import ReceivedAnswer, ReceivedSearch, SearchState
from force_client.orders import SignedOrder
from force_client.verify import verify_search
from tests.unit.force_scene import Scene, answer_of, expired, make_scene, silent
from tests.unit.force_second_peer import (
    OFFICER,
    REVIEWERS,
    RunningSecondPeer,
    SecondPeer,
    asked,
    person,
    reviewed,
    searched,
)
from tests.unit.second_kit import FIRST as RECALL
from tests.unit.second_kit import client, kept_files, refusal, reported, running, second
from tests.unit.test_force_disclosing import corroborated
from tests.unit.test_force_late import ENTRY, refused
from tests.unit.test_force_reviewing import FIRST, SECOND, opened, written
from trust.errors import Reason
from trust.messages import OutcomeState
from trust.second_step import Opinion
from trust.wire import decode_result

__all__ = ["client", "running", "second"]

SEARCH = "00000000-0000-4000-8000-000000000009"
EMPTY: dict[str, object] = {"state": OutcomeState.NO_CANDIDATE, "candidates": ()}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scheme") / "s")


@pytest.fixture(scope="module")
def order(scene: Scene) -> SignedOrder:
    return scene.prepare().order


def stated(
    scene: Scene,
    order: SignedOrder,
    answers: list[ReceivedAnswer],
    revision: int = 1,
    *,
    first: datetime | None,
    leaf: dict[str, object] | None = None,
) -> ReceivedSearch:
    """A search stated anew with these answers."""
    replaces = {"revision": revision, "replaces_sha256": b"\1" * 32 if revision else b""}
    entry = ENTRY | {"revision": revision} if revision else {}
    return scene.ended(
        order,
        answers,
        search_id=SEARCH,
        result=replaces | {"first_finished_at": first},
        leaf=entry | (leaf or {}),
    )


def honest(scene: Scene, order: SignedOrder) -> list[ReceivedAnswer]:
    """Custody and pnd found somebody, passport was silent."""
    return [
        answer_of(scene.report(order, SEARCH, "custody")),
        answer_of(scene.report(order, SEARCH, "pnd")),
        silent("passport"),
    ]


def ago(scene: Scene, seconds: float) -> datetime:
    return scene.now - timedelta(seconds=seconds)


def test_what_was_erased_is_shown_as_that_and_the_rest_as_it_is(
    scene: Scene, order: SignedOrder
) -> None:
    answers = honest(scene, order)
    answers[0] = expired(answers[0], scene.now)
    view = verify_search(stated(scene, order, answers, first=ago(scene, 5)), scene.witness(order))
    custody, pnd, _ = view.outcomes
    assert (custody.state, custody.candidates) == (OutcomeState.CANDIDATES, ())
    assert (custody.erased_at, custody.report) == (scene.now, None)
    assert len(pnd.candidates) == 2
    assert {one.agency for one in view.candidates} == {"pnd"}
    assert (view.revision, view.complete, view.missing) == (1, False, ("passport",))


def test_one_after_another_and_late_ones_too(scene: Scene, order: SignedOrder) -> None:
    answers = honest(scene, order)
    came = answers[0].outcome.model_copy(update={"late_at": ago(scene, 4)})
    answers[0] = expired(ReceivedAnswer(came), ago(scene, 2))
    answers[1] = expired(answers[1], scene.now)
    for revision, believed in ((2, False), (3, True), (4, True), (5, False)):
        received = stated(scene, order, answers, revision, first=ago(scene, 5))
        if believed:
            assert verify_search(received, scene.witness(order)).revision == revision
        else:
            assert refused(scene, order, received)["check"] == "revision"


def kept_and_erased(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    answer = honest(scene, order)[0]
    return replace(expired(answer, scene.now), report=answer.report)


def no_digest(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    outcome = expired(honest(scene, order)[0], scene.now).outcome
    return ReceivedAnswer(outcome.model_copy(update={"report_sha256": b""}))


def nothing_found(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    return expired(answer_of(scene.report(order, SEARCH, "custody", **EMPTY)), scene.now)


def nothing_came(scene: Scene, _order: SignedOrder) -> ReceivedAnswer:
    return silent("custody", erased_at=scene.now)


def before_the_end(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    return expired(honest(scene, order)[0], ago(scene, 6))


def after_this_end(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    return expired(honest(scene, order)[0], ago(scene, -1))


def before_it_came(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    outcome = honest(scene, order)[0].outcome.model_copy(update={"late_at": scene.now})
    return expired(ReceivedAnswer(outcome), ago(scene, 1))


def nothing_new(scene: Scene, order: SignedOrder) -> ReceivedAnswer:
    return expired(honest(scene, order)[0], ago(scene, 1))


@pytest.mark.parametrize(
    ("lie", "check"),
    [
        (kept_and_erased, "erased_at"),
        (no_digest, "erased_at"),
        (nothing_found, "erased_at"),
        (nothing_came, "erased_at"),
        (before_the_end, "erased_at"),
        (after_this_end, "erased_at"),
        (before_it_came, "erased_at"),
        (nothing_new, "revision"),
    ],
)
def test_nothing_is_erased_that_could_not_have_been(
    scene: Scene, order: SignedOrder, lie: Any, check: str
) -> None:
    answers = [lie(scene, order), *honest(scene, order)[1:]]
    received = stated(scene, order, answers, first=ago(scene, 5))
    assert refused(scene, order, received)["check"] == check


def test_nothing_is_erased_at_first_or_while_it_runs(scene: Scene, order: SignedOrder) -> None:
    answers = honest(scene, order)
    answers[0] = expired(answers[0], scene.now)
    first = stated(scene, order, answers, 0, first=None)
    assert refused(scene, order, first)["check"] == "erased_at"
    running = replace(first, state=SearchState.RUNNING, result=None)
    assert refused(scene, order, running)["check"] == "erased_at"


def test_a_candidate_of_what_was_erased_is_in_no_ranking(scene: Scene, order: SignedOrder) -> None:
    whole = honest(scene, order)
    said = scene.ended(order, whole, search_id=SEARCH).result
    assert said is not None
    answers = [expired(whole[0], scene.now), *whole[1:]]
    changes = {"revision": 1, "replaces_sha256": b"\1" * 32, "first_finished_at": ago(scene, 5)}
    for lanes, check in (({}, None), ({"lanes": decode_result(said.payload).lanes}, "lanes")):
        received = scene.ended(order, answers, search_id=SEARCH, result=changes | lanes, leaf=ENTRY)
        if check is None:
            assert verify_search(received, scene.witness(order)).verified
        else:
            assert refused(scene, order, received)["check"] == check


def test_the_log_must_say_that_it_was_erased(scene: Scene, order: SignedOrder) -> None:
    answers = honest(scene, order)
    answers[0] = expired(answers[0], scene.now)
    whole = stated(scene, order, answers, first=ago(scene, 5))
    outcomes: Any = parse_leaf(whole.receipt_leaf)["outcomes"]
    silence = [{k: v for k, v in one.items() if k != "erased_at"} for one in outcomes]
    received = stated(scene, order, answers, first=ago(scene, 5), leaf={"outcomes": silence})
    assert refused(scene, order, received)["check"] == "receipt_leaf"


# --- what follows -------------------------------------------------------------------------------


async def test_a_recall_of_what_was_erased_is_heard(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    second.expire(view, "custody")
    second.recall(view, "custody", "custody-a", RECALL)
    assert [one.recall.recall_id async for one in client.recalls()] == [RECALL]
    assert len(kept_files(client, "stop-use")) == 1


async def test_a_recall_of_what_another_agency_never_listed_is_not(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    second.expire(view, "custody")
    second.recall(view, "pnd", "pnd-z", RECALL)
    with refusal(Reason.RESULT_INVALID, check="recall"):
        [one async for one in client.recalls()]


async def test_of_what_was_released_evidence_and_wrong_matches_still_go(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched(client)
    view = await asked(client, running, view=search)
    second.release(view.request_id)
    second.expire(search, "custody")
    await corroborated(client, view)
    assert await reported(client, search.search_id, "custody-a")
    with refusal(Reason.RESULT_GONE, agency="custody"):
        await reported(client, search.search_id, "custody-b")


async def test_nothing_more_is_asked_of_it(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched(client)
    for reviewer in REVIEWERS[:2]:
        await reviewed(client, search, reviewer, running.probe_image)
    second.expire(search, "custody")
    with refusal(Reason.RESULT_GONE, agency="custody"):
        await client.request_disclosure(
            search.search_id,
            "custody",
            "custody-a",
            requester=person(client, OFFICER),
            requester_token=client.issue_token(OFFICER, Part.OFFICER),
            facts="A robbery in the High Street.",
            fields=("name",),
        )


async def test_a_sheet_that_was_begun_before_counts_for_what_is_left(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    async with opened(client, view, running) as sitting:
        await sitting.keep()
    findings = written(sitting)
    second.expire(view, "custody")
    await client.submit_findings(
        findings,
        reviewer=person(client, FIRST),
        reviewer_token=client.issue_token(FIRST, Part.REVIEWER),
    )
    (reviews,) = second.sittings[view.search_id].values()
    assert set(reviews) == {"pnd"}
    shown = {f.reference: f.shown for f in reviews["pnd"][0].findings}
    places = {s.reference: s.candidate.shown for s in sitting.seats if s.agency == "pnd"}
    assert shown == places
    absent = dict.fromkeys(("pnd-x", "pnd-y"), Opinion.NO_CANDIDATE)
    await reviewed(client, view, SECOND, running.probe_image, absent)
    status = await client.review_status(view.search_id)
    assert {(one.agency, one.reference) for one in status.candidates} == {
        ("pnd", "pnd-x"),
        ("pnd", "pnd-y"),
    }


async def test_a_search_of_which_nothing_is_left_is_not_reviewed(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await searched(client)
    second.expire(view, "custody")
    second.expire(await client.get(view.search_id), "pnd")
    with refusal(Reason.RESULT_GONE):
        async with opened(client, view, running):
            pass
