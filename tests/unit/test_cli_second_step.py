"""The second step on the command line: what a person types and what they are shown."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli import review
from cli.main import main
from force_client import LEAD_ONLY, AsyncForceClient, Part, SearchView
from tests.unit.force_second_peer import (
    NAME,
    OFFICER,
    REVIEWERS,
    RunningSecondPeer,
    SecondPeer,
    png,
    reviewed,
    searched,
)
from trust.errors import Reason
from trust.second_step import RecallAcknowledgement

WIDTH = 80
RECALL = "4fa3c1de-0000-4000-8000-000000000001"
FORGED = "4fa3c1de-0000-4000-8000-0000000000ff"
FACTS = "A robbery in the High Street, seen by two witnesses."


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSecondPeer]:
    peer = RunningSecondPeer(tmp_path_factory.mktemp("peer"))
    peer.write_toml()
    yield peer
    peer.stop()


@pytest.fixture(autouse=True)
def second(running: RunningSecondPeer, monkeypatch: pytest.MonkeyPatch) -> SecondPeer:
    running.begin_anew()
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("PROBEGATE_CONFIG", str(running.folder / "force.toml"))
    return running.second


@pytest.fixture
def view(running: RunningSecondPeer) -> SearchView:
    async def make() -> SearchView:
        async with AsyncForceClient(running.settings()) as client:
            return await searched(client)

    return asyncio.run(make())


@pytest.fixture
def settled(running: RunningSecondPeer, view: SearchView) -> SearchView:
    async def make() -> None:
        async with AsyncForceClient(running.settings()) as client:
            for reviewer in REVIEWERS[:2]:
                await reviewed(client, view, reviewer, running.probe_image)

    asyncio.run(make())
    return view


class Shell:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> str:
        self._capsys.readouterr()
        status = main([str(word) for word in words])
        said = self._capsys.readouterr()
        assert status == 0, said.err
        assert max(map(len, said.out.splitlines()), default=0) <= WIDTH, said.out
        return said.out

    def json(self, *words: object) -> Any:
        self._capsys.readouterr()
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(self._capsys.readouterr().out)

    def refused(self, *words: object) -> str:
        shown, line = self.failed(*words)
        assert shown == ""
        return line

    def failed(self, *words: object) -> tuple[str, str]:
        """Return what was shown before a command was refused, and the line that says why."""
        self._capsys.readouterr()
        assert main([str(word) for word in words]) in {1, 2}
        said = self._capsys.readouterr()
        assert max(map(len, said.out.splitlines()), default=0) <= WIDTH, said.out
        (line,) = said.err.splitlines()
        return said.out, line


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["review"],
        ["review", "sheet"],
        ["review", "submit"],
        ["review", "interactive"],
        ["review", "status"],
        ["review", "revoke"],
        ["corroborate"],
        ["disclose"],
        ["disclose", "request"],
        ["disclose", "status"],
        ["disclose", "list"],
        ["disclose", "open"],
        ["disclose", "export"],
        ["recall"],
        ["recall", "report"],
        ["recall", "list"],
        ["recall", "acknowledge"],
    ],
)
def test_help_fits_and_says_something(words: list[str], shell: Shell) -> None:
    shown = shell(*words, "--help")
    assert "Usage:" in shown
    assert "…" not in shown


# --- review --------------------------------------------------------------------------------------


def flat(shown: str) -> str:
    return " ".join(shown.split())


def fill_in(sheet: Path, out: Path) -> None:
    """Do what the page does when a reviewer saves."""
    page = sheet.read_text()
    labels = re.findall(r'<section id="c-([A-Z]+)"', page)
    (ids,) = re.findall(r'data-review="([^"]+)" data-search="([^"]+)"', page)
    made = [
        {
            "label": label,
            "opinion": "potential_candidate",
            "reasons": "The ears agree.",
            "disconfirming": "The hair.",
            "seconds": 0,
            "looked": True,
        }
        for label in labels
    ]
    out.write_text(json.dumps({"v": 1, "review_id": ids[0], "search_id": ids[1], "findings": made}))


def test_a_sheet_is_written_worked_on_and_submitted(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView, shell: Shell, tmp_path: Path
) -> None:
    for number, reviewer in enumerate(REVIEWERS[:2], 1):
        sheet, findings = tmp_path / f"{number}.html", tmp_path / f"{number}.json"
        who = ["--reviewer", reviewer]
        said = shell(
            *("review", "sheet", view.search_id, *who),
            *("--probe-image", running.probe_image, "--out", sheet),
        )
        assert "4 candidates" in " ".join(said.split())
        assert sheet.stat().st_mode & 0o777 == 0o600
        assert LEAD_ONLY in sheet.read_text()
        fill_in(sheet, findings)
        said = shell("review", "submit", view.search_id, *who, "--findings", findings)
        assert ("Open: 2 people must review" in said) == (number == 1)
        assert ("custody-a" in said) == (number == 2)
        assert ("potential candidate" in said) == (number == 2)
    status = shell.json("review", "status", view.search_id)
    assert status["notice"] == LEAD_ONLY
    assert status["open"] is False
    assert {one["opinion"] for one in status["candidates"]} == {"potential_candidate"}
    said = shell("review", "status", view.search_id)
    assert LEAD_ONLY in said


def test_a_sheet_in_json_and_one_that_is_there_already(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView, shell: Shell, tmp_path: Path
) -> None:
    second.without_images = {"custody-b"}
    sheet = tmp_path / "sheet.html"
    words = [
        *("review", "sheet", view.search_id, "--reviewer", REVIEWERS[0]),
        *("--probe-image", str(running.probe_image), "--out", str(sheet)),
    ]
    said = shell.json(*words)
    assert (said["candidates"], said["without_image"]) == (4, 1)
    assert said["notice"] == LEAD_ONLY
    assert shell.refused(*words).startswith("probegate: FILE_EXISTS")


def test_findings_of_another_search_are_refused(
    running: RunningSecondPeer, view: SearchView, shell: Shell, tmp_path: Path
) -> None:
    findings = tmp_path / "findings.json"
    finding = {"label": "A", "opinion": "inconclusive", "reasons": "x", "seconds": 0}
    made = {"v": 1, "review_id": RECALL, "search_id": RECALL}
    findings.write_text(json.dumps(made | {"findings": [finding | {"looked": False}]}))
    words = ("review", "submit", view.search_id, "--reviewer", REVIEWERS[0])
    line = shell.refused(*words, "--findings", findings)
    assert line.startswith("probegate: REVIEW_INVALID")


def interactively(
    running: RunningSecondPeer, view: SearchView, answers: list[str], *more: str
) -> Any:
    return CliRunner().invoke(
        review.app,
        [
            *("interactive", view.search_id, "--reviewer", REVIEWERS[0]),
            *("--probe-image", str(running.probe_image), *more),
        ],
        input="\n".join(answers) + "\n",
    )


def test_the_terminal_says_why_an_opinion_is_not_taken(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView
) -> None:
    answers: list[str] = []
    for _ in range(4):
        answers += ["n", "1", "They look alike.", "", "7", "3", "Not compared.", "Nothing."]
    ended = interactively(running, view, answers)
    assert ended.exit_code == 0, ended.output
    assert ended.stderr.count("Without both images on view only 3") == 4
    assert ended.stderr.count("Answer 1, 2 or 3.") == 4
    assert LEAD_ONLY in ended.stderr
    assert "Open: 2 people must review" in ended.stdout
    (recorded,) = second.sittings[view.search_id].values()
    for made, _ in recorded.values():
        assert {f.opinion.value for f in made.findings} == {"inconclusive"}
        assert {f.disconfirming for f in made.findings} == {"Nothing."}
        assert not any(f.side_by_side for f in made.findings)
    assert list(running.folder.glob("state/viewing-*")) == []


def test_both_on_view_in_the_terminal(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView
) -> None:
    answers = ["y", "2", "The ears differ.", ""] * 4
    ended = interactively(running, view, answers, "--json")
    assert ended.exit_code == 0, ended.output
    # The runner repeats what is typed on standard output; a terminal does not.
    assert json.loads(ended.stdout[ended.stdout.index("{") :])["reviews"] == 1
    (recorded,) = second.sittings[view.search_id].values()
    findings = [f for made, _ in recorded.values() for f in made.findings]
    assert {f.opinion.value for f in findings} == {"no_candidate"}
    assert all(f.side_by_side for f in findings)


def kept_command(said: str) -> list[str]:
    """The command that a failed submission says, as words."""
    (line,) = (one for one in said.splitlines() if one.startswith("probegate review submit"))
    return line.split()[1:]


def test_what_was_found_in_the_terminal_is_submitted_later(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView, shell: Shell
) -> None:
    second.fails["SubmitReviewRequest"] = [Reason.LOG_UNAVAILABLE]
    ended = interactively(running, view, ["y", "2", "The ears differ.", ""] * 4)
    assert ended.exit_code == 1
    assert "LOG_UNAVAILABLE" in ended.stderr
    assert second.sittings == {}
    words = kept_command(ended.stderr)
    assert "Open: 2 people must review" in shell(*words)
    (recorded,) = second.sittings[view.search_id].values()
    findings = [f for made, _ in recorded.values() for f in made.findings]
    assert {f.reasons for f in findings} == {"The ears differ."}
    assert all(f.side_by_side for f in findings)
    assert shell.refused(*words).startswith("probegate: FILE_MISSING")
    assert shell.refused(*words[:-2]).startswith("probegate: USAGE")


def test_an_old_token_is_asked_for_once_more_in_the_terminal(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView, tmp_path: Path
) -> None:
    second.fails["SubmitReviewRequest"] = [Reason.OFFICER_TOKEN_INVALID]
    fresh = tmp_path / "fresh.jwt"

    async def issue() -> None:
        async with AsyncForceClient(running.settings()) as client:
            fresh.write_text(client.issue_token(REVIEWERS[0], Part.REVIEWER))

    asyncio.run(issue())
    before = set(running.folder.glob("state/sittings/*"))
    ended = interactively(running, view, [*(["y", "2", "The ears differ.", ""] * 4), str(fresh)])
    assert ended.exit_code == 0, ended.output
    assert "OFFICER_TOKEN_INVALID" in ended.stderr
    assert "Open: 2 people must review" in ended.stdout
    assert len(second.sittings[view.search_id]) == 1
    assert set(running.folder.glob("state/sittings/*")) == before


def test_who_has_no_fresh_token_loses_no_finding(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView, shell: Shell
) -> None:
    second.fails["SubmitReviewRequest"] = [Reason.OFFICER_TOKEN_INVALID]
    ended = interactively(running, view, [*(["y", "2", "The ears differ.", ""] * 4), ""])
    assert ended.exit_code == 1
    assert ended.stderr.splitlines()[-1].startswith("probegate: OFFICER_TOKEN_INVALID")
    assert "Open: 2 people must review" in shell(*kept_command(ended.stderr))


def test_a_reviewer_is_revoked(settled: SearchView, shell: Shell) -> None:
    words = ("review", "revoke", REVIEWERS[0], "--person", "ns-2087", "--reasons", "Withdrawn.")
    assert "1 reviews of ns-3310 count no more" in shell(*words, "--since", "2026-01-01")
    assert "Open: 2 people" in shell("review", "status", settled.search_id)
    assert shell.json(*words, "--since", "2026-01-01")["reviews"] == 0
    assert shell.refused(*words, "--since", "soon").startswith("probegate: USAGE")


def test_nobody_reviews_their_own_search(
    running: RunningSecondPeer, view: SearchView, shell: Shell
) -> None:
    words = ("review", "sheet", view.search_id, "--probe-image", running.probe_image)
    line = shell.refused(*words, "--reviewer", OFFICER)
    assert line.startswith("probegate: REVIEW_NOT_INDEPENDENT")


# --- details -------------------------------------------------------------------------------------


def ask(shell: Shell, view: SearchView, tmp_path: Path) -> str:
    path = tmp_path / "facts.txt"
    path.write_text(FACTS)
    made = shell.json(*request(view), "--facts-file", path)
    assert made["state"] == "waiting"
    assert FACTS not in json.dumps(made)
    return str(made["request_id"])


def request(view: SearchView) -> list[str]:
    return [
        *("disclose", "request", view.search_id, "--agency", "custody"),
        *("--reference", "custody-a", "--requester", OFFICER),
        *("--field", "name,date_of_birth", "--field", "warning"),
    ]


def corroborate(view: SearchView) -> list[str]:
    return [
        *("corroborate", view.search_id, "--agency", "custody", "--reference", "custody-a"),
        *("--kind", "witness", "--case-material", "statement 12", "--person", OFFICER),
    ]


def test_details_from_the_request_to_the_export(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    request_id = ask(shell, settled, tmp_path)
    (held,) = second.asked.values()
    assert held.facts.facts == FACTS
    assert "waiting" in shell("disclose", "status", request_id)
    second.release(request_id)
    assert "released" in shell("disclose", "status", request_id, "--wait", "1")
    listed = shell("disclose", "list")
    assert LEAD_ONLY in listed
    assert request_id in listed
    shown = shell("disclose", "open", request_id)
    first, *_ = [line for line in shown.splitlines() if line.strip()]
    assert LEAD_ONLY in first
    for words in (NAME, "name (fact)", "warning (assessment)", "Held under PACE", "Delete by"):
        assert words in shown
    opened = shell.json("disclose", "open", request_id)
    assert opened["notice"] == LEAD_ONLY
    assert {one["name"]: one["nature"] for one in opened["details"]}["warning"] == "assessment"
    out = tmp_path / "lead.html"
    line = shell.refused("disclose", "export", request_id, "--out", out)
    assert line.startswith("probegate: CORROBORATION_MISSING")
    assert "Recorded: witness" in shell(*corroborate(settled))
    assert LEAD_ONLY in " ".join(shell("disclose", "export", request_id, "--out", out).split())
    assert NAME in out.read_text()
    said = shell.json("disclose", "export", request_id, "--out", tmp_path / "lead.json")
    assert said["notice"] == LEAD_ONLY
    assert shell.json(*corroborate(settled))["kind"] == "witness"


def test_a_wait_that_runs_out_says_nothing_of_searches(
    settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    request_id = ask(shell, settled, tmp_path)
    shown, line = shell.failed("disclose", "status", request_id, "--wait", "0.1")
    assert "waiting" in shown
    assert line.startswith("probegate: DEADLINE_PASSED")
    assert "search" not in line


def test_a_refusal_is_shown_with_its_reason(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    request_id = ask(shell, settled, tmp_path)
    second.refuse(request_id)
    assert "refused DISCLOSURE_DENIED" in shell("disclose", "status", request_id)
    listed = shell.json("disclose", "list", "--search", settled.search_id)
    assert [one["state"] for one in listed["disclosures"]] == ["refused"]
    assert shell.json("disclose", "list", "--search", RECALL)["disclosures"] == []
    assert shell("disclose", "list", "--search", RECALL) == "There are none.\n"


@pytest.mark.parametrize("more", [[], ["--facts", "x", "--facts-file", "y"]])
def test_facts_are_given_once(settled: SearchView, shell: Shell, more: list[str]) -> None:
    assert shell.refused(*request(settled), *more).startswith("probegate: USAGE")


def test_what_comes_from_afar_cannot_repaint_the_terminal(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    request_id = ask(shell, settled, tmp_path)

    def repainting(details: Any) -> Any:
        first = details.fields[0].model_copy(update={"value": "\x1b[2J\x1b]0;x\x07 \u202e"})
        return details.model_copy(update={"fields": (first, *details.fields[1:])})

    second.spoil["details"] = repainting
    second.release(request_id)
    shown = shell("disclose", "open", request_id)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


# --- recalls -------------------------------------------------------------------------------------


def test_a_recall_is_shown_everywhere_and_acknowledged(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    assert "Nothing was recalled." in shell("recall", "list")
    request_id = ask(shell, settled, tmp_path)
    second.release(request_id)
    shell(*corroborate(settled))
    shell("disclose", "open", request_id)
    second.recall(settled, "custody", "custody-a", RECALL)
    # Nobody has listed recalls: whoever opens or exports is stopped all the same.
    assert shell.refused("disclose", "open", request_id).startswith("probegate: STOP_USE")
    out = tmp_path / "lead.txt"
    line = shell.refused("disclose", "export", request_id, "--out", out)
    assert line.startswith("probegate: STOP_USE")
    assert not out.exists()
    said = shell("recall", "list")
    assert "STOP USE: custody custody-a" in said
    assert shell.json("recall", "list")["recalls"][0]["recall_id"] == RECALL
    words = ("recall", "acknowledge", RECALL, "--person", OFFICER, "--action", "Destroyed.")
    assert "Acknowledged" in shell(*words)
    assert shell.json(*words) == {"recall_id": RECALL, "acknowledged": True}


def test_whoever_looks_how_things_stand_is_told_what_was_recalled(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    """Nobody has listed recalls."""
    request_id = ask(shell, settled, tmp_path)
    second.release(request_id)
    assert "probegate disclose open" in shell("disclose", "status", request_id)
    second.recall(settled, "custody", "custody-a", RECALL)
    said = "STOP USE: custody custody-a was recalled"
    shown = shell("disclose", "status", request_id)
    assert said in flat(shown)
    assert "probegate disclose open" not in shown
    stands = shell.json("disclose", "status", request_id)
    assert (stands["stop_use"], stands["open_by"]) == (True, None)
    assert said in flat(shell("review", "status", settled.search_id))
    status = shell.json("review", "status", settled.search_id)
    assert status["stop_use"] == [{"agency": "custody", "reference": "custody-a"}]


def test_whoever_ends_a_search_that_has_ended_is_told_what_was_recalled(
    second: SecondPeer, view: SearchView, shell: Shell
) -> None:
    second.recall(view, "custody", "custody-a", RECALL)
    said = flat(shell("cancel", view.search_id))
    assert "STOP USE: custody custody-a was recalled" in said


def test_a_search_is_ended_where_recalls_cannot_be_heard_of(
    second: SecondPeer, view: SearchView, shell: Shell
) -> None:
    second.fails["ListRecallsRequest"] = [Reason.LOG_UNAVAILABLE]
    shown, line = shell.failed("cancel", view.search_id)
    assert "custody" in shown
    assert line.startswith("probegate: LOG_UNAVAILABLE")


@pytest.mark.parametrize("reason", ["REVIEWER_REVOKED", "RELEASE_SWITCHED_OFF", "STOP_USE"])
def test_nobody_is_told_to_open_what_is_withheld(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path, reason: str
) -> None:
    request_id = ask(shell, settled, tmp_path)
    second.release(request_id)
    second.asked[request_id].reason = reason
    shown = shell("disclose", "status", request_id)
    assert f"released {reason}" in shown
    assert "probegate disclose open" not in shown
    assert "it cannot be opened now" in shown


def test_whatever_names_a_candidate_says_that_it_is_a_lead_only(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    request_id = ask(shell, settled, tmp_path)
    assert LEAD_ONLY in shell("disclose", "status", request_id)
    assert LEAD_ONLY not in shell("recall", "list")
    second.recall(settled, "custody", "custody-a", RECALL)
    assert LEAD_ONLY in shell("recall", "list")


def test_a_request_that_is_waited_for_is_shown_once_when_it_is_decided(
    second: SecondPeer, settled: SearchView, shell: Shell, tmp_path: Path
) -> None:
    request_id = ask(shell, settled, tmp_path)
    later = threading.Timer(0.5, second.release, [request_id])
    later.start()
    shown = shell("disclose", "status", request_id, "--wait", "30")
    later.join()
    assert shown.count("waiting") <= 1
    assert shown.count("released") == 1


def test_a_forged_recall_hides_no_other_and_is_told_of(
    second: SecondPeer, view: SearchView, shell: Shell
) -> None:
    second.signers["recall"] = "broker"
    second.recall(view, "custody", "custody-b", FORGED)
    del second.signers["recall"]
    second.recall(view, "custody", "custody-a", RECALL)
    shown, line = shell.failed("recall", "list")
    assert "STOP USE: custody custody-a" in shown
    assert FORGED not in shown
    assert line.startswith("probegate: RESULT_INVALID")
    shown, line = shell.failed("recall", "list", "--json")
    assert [one["recall_id"] for one in json.loads(shown)["recalls"]] == [RECALL]
    words = ("recall", "acknowledge", RECALL, "--person", OFFICER, "--action", "Destroyed.")
    shown, line = shell.failed(*words)
    assert "Acknowledged" in shown
    assert line.startswith("probegate: RESULT_INVALID")
    (acknowledged,) = second.notices
    assert isinstance(acknowledged, RecallAcknowledgement)
    forged = ("recall", "acknowledge", FORGED, "--person", OFFICER, "--action", "Destroyed.")
    assert shell.refused(*forged).startswith("probegate: NOTICE_INVALID")


def test_a_wrong_match_is_reported(second: SecondPeer, view: SearchView, shell: Shell) -> None:
    words = (
        *("recall", "report", view.search_id, "--agency", "custody", "--reference", "custody-a"),
        *("--reporter", OFFICER, "--reasons", "He was in prison on the day."),
    )
    assert "Reported" in shell(*words)
    assert shell.json(*words)["report_id"]
    assert len(second.notices) == 2


@pytest.mark.parametrize("command", ["get", "watch"])
def test_whoever_reads_a_search_is_told_what_was_recalled_of_it(
    second: SecondPeer, view: SearchView, shell: Shell, command: str
) -> None:
    """Nobody has listed recalls."""
    second.recall(view, "custody", "custody-a", RECALL)
    said = " ".join(shell(command, view.search_id).split())
    assert "STOP USE: custody custody-a was recalled" in said


@pytest.mark.parametrize("command", ["get", "watch"])
def test_a_recall_that_does_not_verify_hides_no_search(
    second: SecondPeer, view: SearchView, shell: Shell, command: str
) -> None:
    second.signers["recall"] = "broker"
    second.recall(view, "custody", "custody-b", FORGED)
    shown, line = shell.failed(command, view.search_id)
    assert LEAD_ONLY in shown
    assert "STOP USE" not in shown
    assert line.startswith("probegate: RESULT_INVALID")


def test_a_recalled_candidate_is_marked_on_its_search(
    running: RunningSecondPeer, second: SecondPeer, view: SearchView, shell: Shell
) -> None:
    from rich.console import Console

    from cli import results

    second.recall(view, "custody", "custody-a", RECALL)
    shell("recall", "list")

    async def read() -> SearchView:
        async with AsyncForceClient(running.settings()) as client:
            return await client.get(view.search_id)

    marked = asyncio.run(read())
    stopped = [{"agency": "custody", "reference": "custody-a"}]
    assert results.document(marked)["stop_use"] == stopped
    screen = Console(width=WIDTH, record=True, file=None, quiet=False)
    with screen.capture() as said:
        results.show(marked, screen)
    assert "STOP USE: custody custody-a was recalled" in " ".join(said.get().split())


def test_a_viewer_gets_the_very_image(
    running: RunningSecondPeer,
    second: SecondPeer,
    view: SearchView,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bytes] = []

    def looking(text: str, **_: Any) -> bool:
        (folder,) = running.folder.glob("state/viewing-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        seen.extend(path.read_bytes() for path in folder.iterdir())
        return "both" in text

    monkeypatch.setattr(typer, "confirm", looking)
    ended = interactively(running, view, ["3", "Blurred.", ""] * 4)
    assert ended.exit_code == 0, ended.output
    expected = {png(shade=sum(ref.encode()) % 200) for ref in ("custody-a", "pnd-y")}
    assert expected <= set(seen)
