"""The force believes nobody: every lie a broker with all its own keys could tell is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from force_client.evidence import save_evidence, verify_evidence
from force_client.models import ReceivedAnswer, ReceivedSearch, SearchState
from force_client.orders import SignedOrder
from force_client.verify import verify_search
from tests.scale import scaled
from tests.unit.force_scene import (
    BROKER,
    Scene,
    answer_of,
    calibrated,
    draft,
    make_scene,
    silent,
)
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import (
    Candidate,
    ExpectedFalse,
    Lane,
    OutcomeState,
    RankedCandidate,
    SearchLimits,
    SearchResult,
)
from trust.wire import decode_result


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


def test_an_honest_search_verifies(scene: Scene, order: SignedOrder) -> None:
    view = verify_search(scene.ended(order), scene.witness(order))
    assert view.verified
    assert not view.complete
    assert view.missing == ("passport",)
    assert [one.state for one in view.outcomes] == [
        OutcomeState.CANDIDATES,
        OutcomeState.NO_CANDIDATE,
        OutcomeState.TIMED_OUT,
    ]
    assert [(c.agency, c.reference, c.rank, c.lane) for c in view.candidates] == [
        ("custody", "custody-a", 1, "custody"),
        ("custody", "custody-b", 2, "custody"),
    ]
    assert view.receipt.startswith("c2sp.org/tlog-proof@v1\n")


def test_uncalibrated_agencies_are_each_in_a_lane_of_their_own(
    scene: Scene, order: SignedOrder
) -> None:
    sid = "00000000-0000-4000-8000-000000000001"
    answers = [answer_of(scene.report(order, sid, agency)) for agency in order.order.agencies]
    view = verify_search(scene.ended(order, answers, search_id=sid), scene.witness(order))
    assert view.complete
    assert view.ranking == ()
    assert [lane.agency for lane in view.lanes] == sorted(order.order.agencies)
    assert all(one.lane == lane.agency for lane in view.lanes for one in lane.candidates)


def test_calibrated_agencies_share_one_ranking(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000002"
    answers = [
        answer_of(scene.report(order, sid, "custody", **calibrated(scene, 2.0, 1.0))),
        answer_of(scene.report(order, sid, "pnd", **calibrated(scene, 3.0, 1.5))),
        answer_of(scene.report(order, sid, "passport")),
    ]
    view = verify_search(scene.ended(order, answers, search_id=sid), scene.witness(order))
    assert [(one.agency, one.log10_lr, one.lane) for one in view.ranking] == [
        ("pnd", 3.0, ""),
        ("custody", 2.0, ""),
        ("pnd", 1.5, ""),
        ("custody", 1.0, ""),
    ]
    (alone,) = view.lanes
    assert (alone.agency, alone.matcher) == ("passport", "exact 1.0")
    assert len(view.candidates) == 6


def test_a_calibration_that_had_expired_ranks_nothing(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000003"
    stale = calibrated(scene, 9.0, 8.0, expires_in=timedelta(0))
    answers = [
        answer_of(scene.report(order, sid, "custody", **stale)),
        answer_of(scene.report(order, sid, "pnd", **calibrated(scene, 1.0, 0.5))),
        silent("passport"),
    ]
    received = scene.ended(order, answers, search_id=sid)
    view = verify_search(received, scene.witness(order))
    assert {one.agency for one in view.ranking} == {"pnd"}
    (lane,) = view.lanes
    assert lane.agency == "custody"
    assert all(one.log10_lr is None for one in lane.candidates)


def test_between_making_and_receipt_the_brokers_clock_is_believed(
    scene: Scene, order: SignedOrder
) -> None:
    """Nobody but the broker knows when a report came; before and after that nothing is open."""
    sid = "00000000-0000-4000-8000-000000000012"
    soon = calibrated(scene, 2.0, 1.0, expires_in=timedelta(milliseconds=500))
    answers = [
        answer_of(scene.report(order, sid, "custody", **soon)),
        silent("pnd"),
        silent("passport"),
    ]
    made = scene.ended(order, answers, search_id=sid)
    assert verify_search(made, scene.witness(order)).ranking
    later = {"finished_at": scene.now + timedelta(seconds=1)}
    assert verify_search(
        scene.ended(order, answers, search_id=sid, result=later), scene.witness(order)
    ).ranking


RANKED_FALSELY: dict[str, Callable[[SearchResult], dict[str, object]]] = {
    "the other way round": lambda r: {"ranking": r.ranking[::-1]},
    "without the strongest": lambda r: {"ranking": r.ranking[1:]},
    "one of them twice": lambda r: {"ranking": (*r.ranking, r.ranking[-1])},
    "with a stronger number": lambda r: {
        "ranking": (r.ranking[0].model_copy(update={"log10_lr": 9.0}), *r.ranking[1:])
    },
    "with fewer expected false": lambda r: {
        "ranking": (
            r.ranking[0].model_copy(
                update={"expected_false": ExpectedFalse(expected=0, low=0, high=0)}
            ),
            *r.ranking[1:],
        )
    },
    "a raw score among them": lambda r: {
        "ranking": (
            RankedCandidate(
                agency="passport",
                reference="passport-a",
                log10_lr=9.0,
                expected_false=ExpectedFalse(expected=0, low=0, high=0),
            ),
            *r.ranking,
        )
    },
    "no lane": lambda _: {"lanes": ()},
    "a lane with another score": lambda r: {
        "lanes": (
            r.lanes[0].model_copy(
                update={
                    "candidates": (
                        r.lanes[0].candidates[0].model_copy(update={"score": 0.99}),
                        *r.lanes[0].candidates[1:],
                    )
                }
            ),
        )
    },
    "everything in lanes": lambda _: {"ranking": ()},
    "a group of one": lambda r: {"ranking": grouped(r, 1)},
    "groups that begin with two": lambda r: {"ranking": grouped(r, 2, 2)},
    "groups out of turn": lambda r: {"ranking": grouped(r, 2, 1, 1, 2)},
}


def grouped(result: SearchResult, *groups: int) -> tuple[RankedCandidate, ...]:
    marks = (*groups, *([0] * (len(result.ranking) - len(groups))))
    return tuple(
        one.model_copy(update={"group": group})
        for one, group in zip(result.ranking, marks, strict=True)
    )


def two_ranked(scene: Scene, order: SignedOrder, sid: str) -> list[ReceivedAnswer]:
    return [
        answer_of(scene.report(order, sid, "custody", **calibrated(scene, 2.0, 1.0))),
        answer_of(scene.report(order, sid, "pnd", **calibrated(scene, 3.0, 1.5))),
        answer_of(scene.report(order, sid, "passport")),
    ]


@pytest.mark.parametrize("lie", RANKED_FALSELY)
def test_a_result_that_ranks_falsely_is_refused(scene: Scene, order: SignedOrder, lie: str) -> None:
    sid = "00000000-0000-4000-8000-000000000013"
    answers = two_ranked(scene, order, sid)
    honest = scene.ended(order, answers, search_id=sid)
    assert honest.result is not None
    change = RANKED_FALSELY[lie](decode_result(honest.result.payload))
    made = scene.ended(order, answers, search_id=sid, result=change)
    assert refused(scene, order, made)["check"] in {"ranking", "lanes", "group"}


def test_groups_are_the_brokers_word_and_show(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000014"
    answers = two_ranked(scene, order, sid)
    honest = scene.ended(order, answers, search_id=sid)
    assert honest.result is not None
    stated = decode_result(honest.result.payload)
    marks = {"ranking": grouped(stated, 1, 1, 2, 0), "lanes": (in_group(stated.lanes[0], 2),)}
    made = scene.ended(order, answers, search_id=sid, result=marks)
    view = verify_search(made, scene.witness(order))
    first, second = view.groups
    assert (first.log10_lr, {one.agency for one in first.candidates}) == (3.0, {"pnd", "custody"})
    assert (second.log10_lr, len(second.candidates)) == (1.5, 3)


def in_group(lane: Lane, group: int) -> Lane:
    marked = tuple(one.model_copy(update={"group": group}) for one in lane.candidates)
    return lane.model_copy(update={"candidates": marked})


def test_a_running_search_is_never_verified(scene: Scene, order: SignedOrder) -> None:
    ended = scene.ended(order)
    running = replace(
        ended, state=SearchState.RUNNING, result=None, receipt=b"", answers=ended.answers[:1]
    )
    view = verify_search(running, scene.witness(order))
    assert not view.verified
    assert not view.complete
    assert view.missing == ("pnd", "passport")


def test_a_running_search_with_a_false_report_is_refused(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000004"
    lie = answer_of(scene.report(order, sid, "custody"), state=OutcomeState.NO_CANDIDATE)
    running = replace(scene.ended(order, search_id=sid), state=SearchState.RUNNING, answers=(lie,))
    assert refused(scene, order, running)["check"] == "state"


# --- promise 5: silence is never "no match" ---------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        OutcomeState.NO_CANDIDATE,
        OutcomeState.CANDIDATES,
        OutcomeState.HELD,
        OutcomeState.REJECTED,
    ],
)
def test_what_only_an_agency_can_say_needs_its_report(
    scene: Scene, order: SignedOrder, state: OutcomeState
) -> None:
    sid = "00000000-0000-4000-8000-000000000005"
    answers = [*scene.honest_answers(order, sid)[:2], silent("passport", state, "")]
    metadata = refused(scene, order, scene.ended(order, answers, search_id=sid))
    assert metadata == {"check": "report", "agency": "passport"}


def test_a_report_held_back_behind_a_time_out_is_refused(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000006"
    answers = scene.honest_answers(order, sid)
    hidden = ReceivedAnswer(silent("custody").outcome, answers[0].report)
    assert refused(scene, order, scene.ended(order, [hidden, *answers[1:]], search_id=sid)) == {
        "check": "report",
        "agency": "custody",
    }


def test_an_agency_denial_needs_the_agencys_word(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000007"
    denied = silent("passport", OutcomeState.DENIED, "CLAUSES_FAILED", decided_by="agency")
    answers = [*scene.honest_answers(order, sid)[:2], denied]
    assert refused(scene, order, scene.ended(order, answers, search_id=sid))["check"] == "report"


def test_a_broker_denial_is_shown_with_its_clauses(scene: Scene, order: SignedOrder) -> None:
    sid = "00000000-0000-4000-8000-000000000008"
    denied = silent(
        "passport",
        OutcomeState.DENIED,
        "CLAUSES_FAILED",
        decided_by="broker",
        failed_clauses=("rank.inspector",),
    )
    answers = [*scene.honest_answers(order, sid)[:2], denied]
    received = scene.ended(order, answers, search_id=sid)
    view = verify_search(received, scene.witness(order))
    assert view.complete
    assert view.outcomes[2].failed_clauses == ("rank.inspector",)
    permitted = tuple(replace(one, permitted=True) for one in received.decisions)
    assert refused(scene, order, replace(received, decisions=permitted))["check"] == "decisions"


# --- lies, one by one -------------------------------------------------------------------------

SID = "00000000-0000-4000-8000-0000000000aa"
Lie = Callable[[Scene, SignedOrder], ReceivedSearch]


def missing_outcome(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, scene.honest_answers(order, SID)[:2], search_id=SID)


def outcomes_in_another_sequence(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, scene.honest_answers(order, SID)[::-1], search_id=SID)


def an_agency_nobody_asked(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    answers = [*scene.honest_answers(order, SID), silent("dwp")]
    return scene.ended(order, answers, search_id=SID)


def swapped_reports(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    one, two, three = scene.honest_answers(order, SID)
    answers = [
        replace(one, report=two.report),
        replace(two, report=one.report),
        three,
    ]
    return scene.ended(order, answers, search_id=SID)


def another_agencys_signature(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    report = honest[0].report
    assert report is not None
    pnd = honest[1].report
    assert pnd is not None
    forged = replace(report, signatures=pnd.signatures)
    return scene.ended(order, [replace(honest[0], report=forged), *honest[1:]], search_id=SID)


def a_report_of_another_agency(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    report = scene.report(order, SID, "custody", agency="pnd")
    answer = answer_of(report, agency="custody")
    return scene.ended(order, [answer, *honest[1:]], search_id=SID)


def a_report_of_another_search(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    other = answer_of(scene.report(order, SID[:-2] + "bb", "custody"))
    return scene.ended(order, [other, *honest[1:]], search_id=SID)


def a_report_of_another_order(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    other = answer_of(scene.report(order, SID, "custody", order_sha256=bytes(32)))
    return scene.ended(order, [other, *honest[1:]], search_id=SID)


def a_report_from_before_the_order(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    early = scene.report(order, SID, "custody", reported_at=scene.now - timedelta(hours=1))
    return scene.ended(order, [answer_of(early), *honest[1:]], search_id=SID)


def reports_under_two_grants(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    other = scene.report(order, SID, "custody", grant_sha256=bytes(32))
    return scene.ended(order, [answer_of(other), *honest[1:]], search_id=SID)


def a_candidate_struck_out(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    report = honest[0].report
    assert report is not None
    one = (Candidate(reference="custody-a", score=0.81, rank=1),)
    short = scene.report(order, SID, "pnd", agency="custody", candidates=one)
    forged = replace(short, signatures=report.signatures)
    digest = sha256(short.payload).digest()
    outcome = honest[0].outcome.model_copy(update={"report_sha256": digest})
    return scene.ended(order, [ReceivedAnswer(outcome, forged), *honest[1:]], search_id=SID)


def an_older_report_than_stated(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    honest = scene.honest_answers(order, SID)
    other = scene.report(order, SID, "custody", threshold=0.1)
    return scene.ended(order, [replace(honest[0], report=other), *honest[1:]], search_id=SID)


def still_pending(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    answers = [*scene.honest_answers(order, SID)[:2], silent("passport", OutcomeState.PENDING, "")]
    return scene.ended(order, answers, search_id=SID)


def called_complete(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, result={"complete": True, "missing": ()})


def of_another_order(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, result={"order_sha256": bytes(32)})


def of_another_search(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, result={"search_id": SID})


def finished_before_it_began(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, result={"finished_at": scene.now - timedelta(days=1)})


def signed_by_an_agency(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, signed_by="custody")


def without_a_result(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return replace(scene.ended(order), result=None)


def another_requests(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return replace(scene.ended(order), request_id=SID)


def without_a_receipt(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return replace(scene.ended(order), receipt=b"")


def a_receipt_that_is_no_text(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return replace(scene.ended(order), receipt=b"\xff")


def a_receipt_of_another_entry(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return replace(scene.ended(order), receipt=scene.receipt(b"something else").encode())


def a_receipt_of_another_search(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    other = scene.ended(order)
    return replace(scene.ended(order), receipt=other.receipt, receipt_leaf=other.receipt_leaf)


def a_receipt_of_the_admin_log(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, log="log_admin")


def logged_as_something_else(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, leaf={"type": "search.order"})


def logged_with_another_result(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, leaf={"result_sha256": "00" * 32})


def logged_with_other_outcomes(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, leaf={"outcomes": []})


def logged_without_outcomes(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return scene.ended(order, leaf={"outcomes": "none"})


def a_decision_left_out(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    received = scene.ended(order)
    return replace(received, decisions=received.decisions[1:])


def two_answers_of_one_agency(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    received = scene.ended(order)
    return replace(received, answers=(*received.answers, received.answers[0]))


def reports_left_out(scene: Scene, order: SignedOrder) -> ReceivedSearch:
    return replace(scene.ended(order), answers=())


LIES: list[Lie] = [
    missing_outcome,
    outcomes_in_another_sequence,
    an_agency_nobody_asked,
    swapped_reports,
    another_agencys_signature,
    a_report_of_another_agency,
    a_report_of_another_search,
    a_report_of_another_order,
    a_report_from_before_the_order,
    reports_under_two_grants,
    a_candidate_struck_out,
    an_older_report_than_stated,
    still_pending,
    called_complete,
    of_another_order,
    of_another_search,
    finished_before_it_began,
    signed_by_an_agency,
    without_a_result,
    another_requests,
    without_a_receipt,
    a_receipt_that_is_no_text,
    a_receipt_of_another_entry,
    a_receipt_of_another_search,
    a_receipt_of_the_admin_log,
    logged_as_something_else,
    logged_with_another_result,
    logged_with_other_outcomes,
    logged_without_outcomes,
    a_decision_left_out,
    two_answers_of_one_agency,
    reports_left_out,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_is_refused(scene: Scene, order: SignedOrder, lie: Lie) -> None:
    assert refused(scene, order, lie(scene, order))["check"]


def test_more_than_was_asked_for_is_refused(scene: Scene) -> None:
    one = scene.prepare(draft(("custody",), SearchLimits(max_candidates=1))).order
    assert refused(scene, one, scene.ended(one))["check"] == "candidates"
    low = scene.prepare(draft(("custody",), SearchLimits(min_score=0.6))).order
    assert refused(scene, low, scene.ended(low))["check"] == "candidates"


def test_an_order_signed_by_another_is_not_ours(scene: Scene, order: SignedOrder) -> None:
    custody = scene.ended(order).answers[0].report
    assert custody is not None
    forged = replace(order, envelope=replace(order.envelope, signatures=custody.signatures))
    with pytest.raises(ProbegateError) as caught:
        verify_search(scene.ended(order), scene.witness(forged))
    assert caught.value.metadata["check"] == "order"


def test_a_key_revoked_before_the_order_is_refused(tmp_path: Path) -> None:
    made = make_scene(tmp_path / "s")
    made.scheme.revoke_key(BROKER, made.signer(BROKER).kid, made.now - timedelta(minutes=1))
    scene = replace(made, directory=made.scheme.publish_directory())
    order = scene.prepare().order
    assert refused(scene, order, scene.ended(order))["check"] == "result"


def test_a_result_outlives_the_revocation_of_its_key(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "s")
    order = scene.prepare().order
    received = scene.ended(order)
    later = scene.now + timedelta(hours=1)
    scene.scheme.revoke_key(BROKER, scene.signer(BROKER).kid, later)
    after = replace(scene, directory=scene.scheme.publish_directory(), now=later)
    assert verify_search(received, after.witness(order)).verified


# --- any bit, anywhere ------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    index, bit = divmod(place % (8 * len(data)), 8)
    return data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :]


def flip_envelope(envelope: Envelope, place: int) -> Envelope:
    size = 8 * len(envelope.payload)
    if place % 2:
        return replace(envelope, payload=flipped(envelope.payload, place % size))
    signature = replace(envelope.signatures[0], sig=flipped(envelope.signatures[0].sig, place))
    return replace(envelope, signatures=(signature,))


@settings(max_examples=scaled(80, 20_000), deadline=None)
@given(where=st.sampled_from(["result", "report", "receipt", "leaf"]), place=st.integers(0, 10**6))
def test_no_bit_can_be_changed(scene: Scene, order: SignedOrder, where: str, place: int) -> None:
    received = scene.ended(order, search_id=SID)
    assert received.result is not None
    report = received.answers[0].report
    assert report is not None
    match where:
        case "result":
            changed = replace(received, result=flip_envelope(received.result, place))
        case "report":
            forged = replace(received.answers[0], report=flip_envelope(report, place))
            changed = replace(received, answers=(forged, *received.answers[1:]))
        case "receipt":
            changed = replace(received, receipt=flipped(received.receipt, place))
        case _:
            changed = replace(received, receipt_leaf=flipped(received.receipt_leaf, place))
    assert refused(scene, order, changed)["check"]


# --- evidence on disk -------------------------------------------------------------------------


def test_saved_evidence_verifies_offline_and_no_other(scene: Scene, tmp_path: Path) -> None:
    prepared = scene.prepare()
    view = verify_search(scene.ended(prepared.order), scene.witness(prepared.order))
    folder = tmp_path / "evidence"
    save_evidence(folder, view, prepared.order)
    later = scene.now + timedelta(days=20)
    again = verify_evidence(folder, scene.directory, BROKER, later)
    assert again.outcomes == view.outcomes
    assert again.verified
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    for path in sorted(folder.iterdir()):
        kept = path.read_bytes()
        path.write_bytes(_another_of(path.name, kept))
        with pytest.raises(ProbegateError) as caught:
            verify_evidence(folder, scene.directory, BROKER, later)
        assert caught.value.reason is Reason.RESULT_INVALID, path.name
        path.write_bytes(kept)
    with pytest.raises(ProbegateError) as caught:
        save_evidence(folder, view, prepared.order)
    assert caught.value.reason is Reason.FILE_EXISTS


def _another_of(name: str, content: bytes) -> bytes:
    """The same kind of file with one thing in it changed."""
    if name.endswith(".dsse.json"):
        envelope = json.loads(content)
        signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        signature[5] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
        return json.dumps(envelope).encode()
    if name == "search.json":
        return content.replace(b'"permitted":true', b'"permitted":false', 1)
    return content.replace(b"index 2", b"index 1").replace(b'"v":1', b'"v":2')


def test_a_search_that_runs_leaves_no_evidence(scene: Scene, tmp_path: Path) -> None:
    order = scene.prepare().order
    running = replace(scene.ended(order), state=SearchState.RUNNING, result=None)
    view = verify_search(running, scene.witness(order))
    with pytest.raises(ProbegateError):
        save_evidence(tmp_path / "e", view, order)
