"""The commands that follow, read, list and end searches, and what they say of completeness."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from cli.main import main
from force_client import LEAD_ONLY
from force_client.models import ReceivedSearch, SearchState
from force_client.orders import SignedOrder
from tests.unit.force_peer import RunningPeer
from tests.unit.force_scene import Scene, answer_of, expired, template
from tests.unit.test_cli_force import WIDTH, one_line, search
from trust.errors import Reason
from trust.messages import HIT_ONLY, OutcomeState

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    peer = RunningPeer(tmp_path_factory.mktemp("peer"))
    np.save(peer.folder / "face.npy", template())
    peer.write_toml()
    yield peer
    peer.stop()


@pytest.fixture(autouse=True)
def _fresh(running: RunningPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    running.peer.__init__(running.scene)  # type: ignore[misc]
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def config(running: RunningPeer) -> list[str]:
    return ["--config", str(running.folder / "force.toml")]


def made(running: RunningPeer, capsys: Capture, *more: str) -> str:
    """Make a search and return its id."""
    main(search(running, *more, "--json"))
    found: str = json.loads(capsys.readouterr().out)["search_id"]
    return found


def revised(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
    """A search that ended anew when custody's answer came late and PND's was released."""
    first = scene.now - timedelta(seconds=5)
    late = {"late_at": scene.now}
    released = scene.report(order, search_id, "pnd", held_report_sha256=b"\2" * 32)
    came = {
        "custody": answer_of(scene.report(order, search_id, "custody"), **late),
        "pnd": answer_of(released, **late),
    }
    honest = scene.honest_answers(order, search_id)
    answers = [came.get(one.outcome.agency, one) for one in honest]
    result = {"revision": 2, "replaces_sha256": b"\1" * 32, "first_finished_at": first}
    entry = {"revision": 2, "replaces_sha256": (b"\1" * 32).hex()}
    return scene.ended(order, answers, search_id=search_id, result=result, leaf=entry)


def lapsed(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
    """A search of which what custody found was erased."""
    honest = scene.honest_answers(order, search_id)
    answers = [
        expired(one, scene.now) if one.outcome.agency == "custody" else one for one in honest
    ]
    first = {"first_finished_at": scene.now - timedelta(seconds=5)}
    result = first | {"revision": 1, "replaces_sha256": b"\1" * 32}
    entry = {"revision": 1, "replaces_sha256": (b"\1" * 32).hex()}
    return scene.ended(order, answers, search_id=search_id, result=result, leaf=entry)


def flat(shown: str) -> str:
    return " ".join(shown.split())


@pytest.mark.parametrize("command", ["watch", "get", "cancel"])
def test_a_search_is_shown_again_verified(
    running: RunningPeer, capsys: Capture, command: str
) -> None:
    search_id = made(running, capsys)
    assert main([command, search_id, *config(running)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "nothing final from passport" in shown
    assert "Verified: signatures, outcomes and receipt" in shown
    assert main([command, search_id, "--json", *config(running)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["search_id"], document["verified"]) == (search_id, True)
    assert (document["complete"], document["missing"]) == (False, ["passport"])
    assert (document["completeness"], document["sufficient"]) == ("best-effort", True)
    assert document["state"] == ("cancelled" if command == "cancel" else "finished")


def test_a_search_that_runs_is_shown_as_nothing_final(
    running: RunningPeer, capsys: Capture
) -> None:
    search_id = made(running, capsys, "--completeness", "all")
    ended = running.peer.searches[search_id]
    running.peer.searches[search_id] = replace(
        ended, state=SearchState.RUNNING, result=None, receipt=b"", receipt_leaf=b""
    )
    assert main(["get", search_id, *config(running)]) == 0
    shown = capsys.readouterr().out
    assert "Still running: 1 to come. Nothing of this is final." in shown
    assert "enough" not in shown
    assert main(["get", search_id, "--json", *config(running)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verified"], document["complete"], document["sufficient"]) == (False,) * 3


@pytest.mark.parametrize("command", ["watch", "get", "cancel"])
def test_what_is_not_there_is_one_line(running: RunningPeer, capsys: Capture, command: str) -> None:
    running.peer.searches["00000000-0000-4000-8000-000000000000"] = replace(
        running.scene.ended(running.scene.prepare().order),
        search_id="00000000-0000-4000-8000-000000000000",
    )
    assert main([command, "00000000-0000-4000-8000-000000000000", *config(running)]) == 1
    assert "FILE_MISSING" in one_line(capsys.readouterr().err)  # the order is not kept here


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ("best-effort", 0, ""),
        ("min:2", 0, "Asked for agencies that searched, at least 2, got 2: enough."),
        ("min:3", 4, "Asked for agencies that searched, at least 3, got 2: not enough."),
        ("all", 4, "Asked for an answer of every agency: not enough."),
    ],
)
def test_whether_it_is_enough_is_said_plainly(
    running: RunningPeer, capsys: Capture, asked: str, status: int, said: str
) -> None:
    assert main(search(running, "--completeness", asked)) == status
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "Not complete: nothing final from passport" in shown
    assert ("enough" in shown) is bool(said)
    assert said in flat(shown)
    assert main(search(running, "--completeness", asked, "--json")) == status
    document = json.loads(capsys.readouterr().out)
    assert document["completeness"] == asked
    assert document["sufficient"] is (status == 0)
    assert (document["complete"], document["missing"]) == (False, ["passport"])


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("", "USAGE"),
        ("most", "USAGE"),
        ("min", "USAGE"),
        ("min:", "USAGE"),
        ("min:0", "USAGE"),
        ("min:-1", "USAGE"),
        ("min:x", "USAGE"),
        ("all:2", "USAGE"),
        ("min:4", "ORDER_INVALID"),  # of three agencies
        ("min:65", "ORDER_INVALID"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    running: RunningPeer, capsys: Capture, asked: str, reason: str
) -> None:
    assert main(search(running, "--completeness", asked)) == 1
    assert one_line(capsys.readouterr().err).startswith(f"probegate: {reason}: ")
    assert running.peer.requests == []


def test_what_came_late_or_was_released_says_so(running: RunningPeer, capsys: Capture) -> None:
    running.peer.answering = revised
    assert main(search(running)) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    at = f"{running.scene.now:%Y-%m-%d %H:%M} UTC"
    for words in (f"came late, {at}", f"released, {at}", "revision 2"):
        assert words in flat(shown), words
    assert main(search(running, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    when = running.scene.now.isoformat()
    assert document["revision"] == 2
    said = {one["agency"]: (one["late_at"], one["released"]) for one in document["outcomes"]}
    assert said == {"custody": (when, False), "pnd": (when, True), "passport": (None, False)}


def test_what_was_erased_says_so_and_is_not_called_nothing(
    running: RunningPeer, capsys: Capture
) -> None:
    running.peer.answering = lapsed
    assert main(search(running)) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    lines = [one for one in shown.splitlines() if one.startswith(" custody")]
    at = f"{running.scene.now:%Y-%m-%d %H:%M} UTC"
    assert [flat(line) for line in lines] == [
        f"custody candidates erased {at}: its time is over 12"
    ]
    assert main(search(running, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    said = {one["agency"]: (one["erased_at"], one["candidates"]) for one in document["outcomes"]}
    assert said["custody"] == (running.scene.now.isoformat(), [])
    assert said["pnd"][0] is None


def test_searches_are_listed(running: RunningPeer, capsys: Capture) -> None:
    assert main(["list", *config(running)]) == 0
    assert "No search of this force is kept." in capsys.readouterr().out
    ids = [made(running, capsys) for _ in range(3)]
    assert main(["list", *config(running)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert all(one in shown for one in ids)
    assert "There are more" not in shown
    assert main(["list", "--limit", "2", *config(running)]) == 0
    assert "There are more; these are the newest 2" in capsys.readouterr().out
    assert main(["list", "--limit", "2", "--json", *config(running)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["search_id"] for one in document["searches"]] == ids[:2]
    assert document["more"] is True
    assert {one["agencies"] for one in document["searches"]} == {3}


@pytest.mark.parametrize("command", ["watch", "get", "list", "cancel"])
def test_a_reason_of_the_broker_is_one_line(
    running: RunningPeer, capsys: Capture, command: str
) -> None:
    running.peer.failures = [Reason.STATE_UNAVAILABLE]
    named = [] if command == "list" else ["00000000-0000-4000-8000-000000000000"]
    assert main([command, *named, *config(running)]) == 1
    assert "STATE_UNAVAILABLE" in one_line(capsys.readouterr().err)


def test_a_search_is_said_to_be_confirmed_only_when_it_is(
    running: RunningPeer, capsys: Capture
) -> None:
    search_id = made(running, capsys)
    words = ["confirm", search_id, "--confirmer", "ns-2087", "--reasons", "A life was at risk."]
    assert main([*words, *config(running)]) == 0
    assert f"Confirmed: {search_id} at " in flat(capsys.readouterr().out)
    running.peer.confirming = lambda _: None
    for more in ([], ["--json"]):
        assert main([*words, *config(running), *more]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert one_line(said.err).startswith("probegate: RESULT_INVALID")


def test_something_is_held_is_a_lead_as_well(running: RunningPeer, capsys: Capture) -> None:
    def hit(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
        held = {"reason": HIT_ONLY, "candidates": ()}
        answers = [
            answer_of(scene.report(order, search_id, "custody", **held))
            if one.outcome.agency == "custody"
            else one
            for one in scene.honest_answers(order, search_id)
        ]
        return scene.ended(order, answers, search_id=search_id)

    running.peer.answering = hit
    assert main(search(running)) == 0
    shown = capsys.readouterr().out
    assert "something is held" in shown
    assert LEAD_ONLY in shown
    running.peer.answering = nothing
    assert main(search(running)) == 0
    assert LEAD_ONLY not in capsys.readouterr().out


def nothing(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
    """A search that finds nobody."""
    none = {"state": OutcomeState.NO_CANDIDATE, "candidates": ()}
    answers = [
        answer_of(scene.report(order, search_id, one, **none)) for one in order.order.agencies
    ]
    return scene.ended(order, answers, search_id=search_id)


@pytest.mark.parametrize("command", ["get", "watch", "cancel"])
def test_an_id_that_is_no_text_is_not_understood(
    running: RunningPeer, capsys: Capture, command: str
) -> None:
    """What a shell passes on that is not UTF-8."""
    assert main([command, "\udcff", *config(running)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert one_line(said.err).startswith("probegate: USAGE: ")
