"""What came after the end of a search, and whether what came is enough: as a force checks it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from audit.leaves import parse_leaf
from force_client.models import ReceivedSearch, SearchState
from force_client.orders import SignedOrder
from force_client.verify import verify_search
from tests.unit.force_scene import Scene, answer_of, draft, make_scene, silent
from trust.errors import ProbegateError, Reason
from trust.messages import Completeness, OutcomeState, SearchLimits


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scheme") / "s")


@pytest.fixture(scope="module")
def order(scene: Scene) -> SignedOrder:
    return scene.prepare().order


def refused(scene: Scene, order: SignedOrder, received: ReceivedSearch) -> dict[str, str]:
    with pytest.raises(ProbegateError) as caught:
        verify_search(received, scene.witness(order))
    assert caught.value.reason is Reason.RESULT_INVALID
    return caught.value.metadata


# --- answers that came after the end ------------------------------------------------------------

FOLLOWS: dict[str, object] = {"held_report_sha256": b"\2" * 32}
HELD: dict[str, object] = {
    "state": OutcomeState.HELD,
    "reason": "TO_BE_RELEASED",
    "candidates": (),
}
ENTRY: dict[str, object] = {"revision": 1, "replaces_sha256": (b"\1" * 32).hex()}
NOW, BEFORE = 0, -5
"""When something was, seconds from when the scene's results are made."""


def revised(
    scene: Scene,
    order: SignedOrder,
    report: dict[str, object],
    late: int | None,
    result: dict[str, object],
    leaf: dict[str, object],
) -> ReceivedSearch:
    """A search in which custody's report is changed and marked, and the end says and logs these."""
    sid = "00000000-0000-4000-8000-000000000009"
    answers = scene.honest_answers(order, sid)
    marked = {} if late is None else {"late_at": scene.now + timedelta(seconds=late)}
    answers[0] = answer_of(scene.report(order, sid, "custody", **report), **marked)
    first = result.pop("first", None)
    if isinstance(first, int):
        result |= {"first_finished_at": scene.now + timedelta(seconds=first)}
    return scene.ended(order, answers, search_id=sid, result=result, leaf=leaf)


def again(**changes: object) -> dict[str, object]:
    """What a first revision says, changed."""
    return {"revision": 1, "replaces_sha256": b"\1" * 32, "first": BEFORE} | changes


@pytest.mark.parametrize(("report", "released"), [(FOLLOWS, True), ({}, False), (HELD, False)])
def test_a_later_end_with_an_answer_that_came_since_is_believed(
    scene: Scene, order: SignedOrder, report: dict[str, object], *, released: bool
) -> None:
    received = revised(scene, order, report, NOW, again(), ENTRY)
    view = verify_search(received, scene.witness(order))
    assert view.revision == 1
    assert [one.released for one in view.outcomes] == [released, False, False]
    assert [one.late_at for one in view.outcomes] == [scene.now, None, None]


@pytest.mark.parametrize(
    ("report", "late", "result", "leaf", "check"),
    [
        pytest.param({}, None, again(), ENTRY, "revision", id="nothing came"),
        pytest.param(FOLLOWS, None, again(), ENTRY, "state", id="released and not late"),
        pytest.param(FOLLOWS, NOW, {}, {}, "late_at", id="it came and nothing was revised"),
        pytest.param({}, NOW, {}, {}, "late_at", id="late in a first end"),
        pytest.param({}, BEFORE, again(), ENTRY, "revision", id="nothing new came"),
        pytest.param({}, BEFORE - 1, again(), ENTRY, "late_at", id="late before the end"),
        pytest.param({}, 1, again(), ENTRY, "late_at", id="late after this very end"),
        pytest.param({}, NOW, again(replaces_sha256=b""), ENTRY, "revision", id="replaces nothing"),
        pytest.param({}, NOW, again(first=None), ENTRY, "revision", id="no word of the first end"),
        pytest.param(
            {}, NOW, again(first=-7200), ENTRY, "finished_at", id="ended before it was ordered"
        ),
        pytest.param(
            {}, NOW, again(revision=0), ENTRY, "revision", id="replaces, and is the first"
        ),
        pytest.param(
            {}, NOW, again(revision=2), ENTRY, "revision", id="revised oftener than it came"
        ),
        pytest.param(
            FOLLOWS, NOW, again(revision=3), ENTRY, "revision", id="oftener than late and released"
        ),
        pytest.param(FOLLOWS | HELD, NOW, again(), ENTRY, "state", id="held again"),
        pytest.param(FOLLOWS, NOW, again(), {}, "receipt_leaf", id="the entry is of a first end"),
        pytest.param(
            FOLLOWS,
            NOW,
            again(),
            ENTRY | {"replaces_sha256": "00" * 32},
            "receipt_leaf",
            id="the entry replaces another",
        ),
        pytest.param(
            FOLLOWS,
            NOW,
            again(),
            ENTRY | {"outcomes": "unmarked"},
            "receipt_leaf",
            id="the entry does not say that it was late",
        ),
    ],
)
def test_an_end_that_does_not_follow_from_what_came_is_refused(
    scene: Scene,
    order: SignedOrder,
    report: dict[str, object],
    late: int | None,
    result: dict[str, object],
    leaf: dict[str, object],
    check: str,
) -> None:
    if leaf.get("outcomes") == "unmarked":
        said = parse_leaf(revised(scene, order, report, late, dict(result), {}).receipt_leaf)
        outcomes: Any = said["outcomes"]
        unmarked = [
            {name: value for name, value in one.items() if name != "late_at"} for one in outcomes
        ]
        leaf = leaf | {"outcomes": unmarked}
    received = revised(scene, order, report, late, dict(result), leaf)
    assert refused(scene, order, received)["check"] == check


def test_two_answers_that_came_at_once_are_two_revisions_or_more(
    scene: Scene, order: SignedOrder
) -> None:
    """At two instants, there were two; what came at one may have been told in one or in two."""
    sid = "00000000-0000-4000-8000-000000000009"
    marks = [scene.now + timedelta(seconds=BEFORE + 1), scene.now]
    reports = [
        scene.report(order, sid, "custody"),
        scene.report(order, sid, "pnd", state=OutcomeState.NO_CANDIDATE, candidates=()),
    ]
    answers = [
        *(answer_of(report, late_at=at) for report, at in zip(reports, marks, strict=True)),
        silent("passport"),
    ]
    for revision, believed in ((1, False), (2, True), (3, False)):
        result = again(revision=revision, first_finished_at=scene.now + timedelta(seconds=BEFORE))
        del result["first"]
        entry = ENTRY | {"revision": revision}
        received = scene.ended(order, answers, search_id=sid, result=result, leaf=entry)
        if believed:
            assert verify_search(received, scene.witness(order)).revision == revision
        else:
            assert refused(scene, order, received)["check"] == "revision"


def test_nothing_is_late_that_did_not_come_or_in_a_search_that_runs(
    scene: Scene, order: SignedOrder
) -> None:
    sid = "00000000-0000-4000-8000-000000000009"
    answers = scene.honest_answers(order, sid)
    answers[2] = silent("passport", late_at=scene.now)
    result = again(first_finished_at=scene.now + timedelta(seconds=BEFORE))
    del result["first"]
    received = scene.ended(order, answers, search_id=sid, result=result, leaf=ENTRY)
    assert refused(scene, order, received)["check"] == "late_at"
    answers[2] = silent("passport")
    answers[0] = answer_of(scene.report(order, sid, "custody"), late_at=scene.now)
    running = replace(
        scene.ended(order, answers, search_id=sid), state=SearchState.RUNNING, result=None
    )
    assert refused(scene, order, running)["check"] == "late_at"


# --- whether it is enough -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "enough"),
    [
        (SearchLimits(), True),
        (SearchLimits(completeness=Completeness.ALL), False),
        (SearchLimits(completeness=Completeness.MIN_N, min_answers=2), True),
        (SearchLimits(completeness=Completeness.MIN_N, min_answers=3), False),
    ],
)
def test_whether_it_is_enough_follows_from_the_order_and_the_outcomes(
    scene: Scene, limits: SearchLimits, *, enough: bool
) -> None:
    order = scene.prepare(draft(limits=limits)).order
    view = verify_search(scene.ended(order), scene.witness(order))
    assert (view.sufficient, view.complete, view.missing) == (enough, False, ("passport",))
    assert view.limits == limits
    lie = scene.ended(order, result={"sufficient": not enough})
    assert refused(scene, order, lie)["check"] == "sufficient"
    running = replace(scene.ended(order), state=SearchState.RUNNING, result=None)
    assert not verify_search(running, scene.witness(order)).sufficient
