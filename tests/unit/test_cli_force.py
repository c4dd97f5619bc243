from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli import main as program
from cli.main import ROLES, main
from cli.output import plain, print_json
from force_client import Part, verify_evidence
from force_client.models import ReceivedSearch
from force_client.orders import SignedOrder
from tests.unit.force_peer import RunningPeer
from tests.unit.force_scene import (
    AGENCIES,
    BROKER,
    FORCE,
    Scene,
    answer_of,
    calibrated,
    silent,
    template,
)
from trust.errors import Reason
from trust.messages import OutcomeState
from trust.wire import decode_result

WIDTH = 80


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


def facts(running: RunningPeer, *more: str, agency: str = "all") -> list[str]:
    return [
        *("--purpose", "crime_investigation", "--legal-basis", "pace_s64a"),
        *("--case", "NS/2026/1", "--officer", "ns-4411", "--authoriser", "ns-2087"),
        *("--agency", agency, "--config", str(running.folder / "force.toml")),
        *("--probe-source", "cctv", "--probe-quality", "72"),
        *more,
    ]


def search(running: RunningPeer, *more: str, agency: str = "all") -> list[str]:
    probe = str(running.folder / "face.npy")
    return ["search", "--probe", probe, *facts(running, *more, agency=agency)]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"COLUMNS": str(WIDTH)} | environment,
    )


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("probegate: ")
    return lines[0]


# --- the program ------------------------------------------------------------------------------


def test_help_fits_and_lists_every_role_in_order() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert max(map(len, shown.stdout.splitlines())) <= WIDTH
    places = [shown.stdout.index(f"│ {role.name} ") for role in ROLES]
    assert places == sorted(places)


@pytest.mark.parametrize("role", ["search", "preview", "watch", "get", "cancel"])
def test_a_roles_help_fits(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([role, "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "…" not in shown
    assert "Exit status" in shown


def test_help_loads_no_role() -> None:
    code = (
        "import sys; from cli.main import main; main(['--help']);"
        "loaded = {'grpc', 'numpy', 'force_client', 'cli.search'} & set(sys.modules);"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("probegate ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serach"], "Did you mean 'search'?"),
        (["search", "--nonsense"], "--nonsense"),
        (["search"], "--probe"),
        (["search", "--row", "x"], "--row"),
    ],
)
def test_what_is_not_understood_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    line = one_line(capsys.readouterr().err)
    assert words in line
    assert "--help" in line


def test_without_arguments_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage" in "".join(capsys.readouterr())


def test_a_refusal_is_one_line_in_a_real_process(tmp_path: Path) -> None:
    arguments = "--purpose a --legal-basis b --case c --officer d --authoriser e --agency f"
    done = run("preview", *arguments.split(), "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert one_line(done.stderr).startswith("probegate: FILE_MISSING: ")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (RuntimeError("secret detail"), 70, "probegate: UNEXPECTED"),
    ],
)
def test_whatever_happens_there_is_no_traceback(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(_: str) -> None:
        raise error

    monkeypatch.setattr(program, "_load", fails)
    monkeypatch.setattr(program, "_silence", lambda: None)
    assert main(["search"]) == status
    shown = capsys.readouterr().err
    assert shown.startswith(said)
    assert "secret detail" not in shown
    assert "Traceback" not in shown


def test_debugging_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(program, "_load", fails)
    monkeypatch.setenv("PROBEGATE_DEBUG", "1")
    assert main(["search"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_text_from_afar_cannot_repaint_the_terminal() -> None:
    assert plain("a\x1b[2Jb\r\nc\u202ed") == "a [2Jb c d"


def test_json_cannot_repaint_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "a\x1b[2J\x7f\x9b31m\u202e\u2066\U000e0041é\n\tz"
    print_json({odd: [odd]})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {odd: [odd]}
    assert "é" in shown
    assert {c for c in shown if unicodedata.category(c) in {"Cc", "Cf"}} == {"\n"}


# --- search -----------------------------------------------------------------------------------


def test_a_search_reads_well(running: RunningPeer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(search(running)) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    for words in (
        "is on the record; 3 agencies named",
        "custody: 2 candidates",
        "no candidate",
        "timed out",
        "DEADLINE_PASSED",
        "INVESTIGATIVE LEAD ONLY: not identification, not evidence",
        "custody-a",
        "0.8100",
        "raw scores of exact 1.0",
        "nothing final from passport",
        "(entry 2 of",
    ):
        assert words in shown, words


def ranking(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
    """Two calibrated agencies that hold one person between them, and one that has raw scores."""
    changes = {"custody": calibrated(scene, 4.212, -0.4), "pnd": calibrated(scene, 6.5)}
    answers = [
        answer_of(scene.report(order, search_id, agency, **changes.get(agency, {})))
        for agency in order.order.agencies
    ]
    honest = scene.ended(order, answers, search_id=search_id)
    assert honest.result is not None
    made = decode_result(honest.result.payload).ranking
    marked = tuple(
        one.model_copy(update={"group": group}) for one, group in zip(made, (1, 1, 0), strict=True)
    )
    return scene.ended(order, answers, search_id=search_id, result={"ranking": marked})


def test_a_ranking_reads_well(running: RunningPeer, capsys: pytest.CaptureFixture[str]) -> None:
    running.peer.answering = ranking
    assert main(search(running)) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    ranked, apart = shown.split("passport: raw scores of exact 1.0, in no ranking")
    for words in ("6.50 extremely", "4.21 very strong", "-0.40 weak against", "0.3 (0.1-0.9)"):
        assert words in ranked, words
    assert ranked.index("6.50") < ranked.index("4.21") < ranked.index("-0.40")
    assert ranked.count("#1") == 2
    for words in ("general knowledge", "INVESTIGATIVE LEAD ONLY"):
        assert words in ranked
    assert "passport-a" in apart
    assert "passport-a" not in ranked
    assert "Of a group the strongest line counts" in apart
    assert apart.index("passport-a") < apart.index("Outcome")


def test_a_ranking_as_json(running: RunningPeer, capsys: pytest.CaptureFixture[str]) -> None:
    running.peer.answering = ranking
    assert main(search(running, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(one["place"], one["agency"], one["log10_lr"]) for one in document["ranking"]] == [
        (1, "pnd", 6.5),
        (2, "custody", 4.212),
        (3, "custody", -0.4),
    ]
    assert document["ranking"][0]["expected_false"] == {"expected": 0.3, "low": 0.1, "high": 0.9}
    assert document["ranking"][1]["support"] == "very strong"
    assert document["groups"] == [
        {
            "group": 1,
            "log10_lr": 6.5,
            "agencies": ["custody", "pnd"],
            "references": ["ref-1", "ref-1"],
        }
    ]
    (lane,) = document["lanes"]
    assert (lane["agency"], lane["matcher"], len(lane["candidates"])) == (
        "passport",
        "exact 1.0",
        2,
    )
    assert len(document["candidates"]) == 5


def test_a_search_as_json(running: RunningPeer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(search(running, "--json", agency="custody,pnd")) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert "custody: 2 candidates" in err
    assert document["verified"] is True
    assert document["complete"] is True
    assert document["missing"] == []
    assert [one["state"] for one in document["outcomes"]] == ["candidates", "no_candidate"]
    assert document["outcomes"][0]["candidates"][0] == {
        "reference": "custody-a",
        "score": 0.81,
        "rank": 1,
        "log10_lr": None,
        "expected_false": None,
    }
    assert document["candidates"][1]["agency"] == "custody"
    assert document["receipt"].startswith("c2sp.org/tlog-proof@v1")


def test_saved_evidence_verifies(
    running: RunningPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence"
    assert main(search(running, "--save", str(folder))) == 0
    capsys.readouterr()
    scene = running.scene
    assert verify_evidence(folder, scene.directory, BROKER, scene.now).verified


@pytest.mark.parametrize("place", ["saved", "a-file", "a-file/evidence"])
def test_no_search_is_made_that_could_not_be_saved(
    running: RunningPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "search.json").write_text("another search's")
    (tmp_path / "a-file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(search(running, "--save", str(tmp_path / place))) == 1
    said = capsys.readouterr()
    assert one_line(said.err).startswith("probegate: FILE_")
    assert said.out == ""
    assert running.peer.requests == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_search_that_cannot_be_saved_is_shown_all_the_same(
    running: RunningPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence"

    def meanwhile(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
        folder.mkdir()
        (folder / "search.json").write_text("another search's")
        return scene.ended(order, search_id=search_id)

    running.peer.answering = meanwhile
    assert main(search(running, "--save", str(folder))) == 1
    said = capsys.readouterr()
    assert "custody-a" in said.out
    assert one_line(said.err).startswith("probegate: FILE_EXISTS")


def test_every_agency_denied_is_status_three(
    running: RunningPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    clauses = tuple(f"clause-{number:02}.with-a-long-name" for number in range(12))

    def denying(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
        answers = [
            silent(
                agency,
                OutcomeState.DENIED,
                "CLAUSES_FAILED",
                decided_by="broker",
                failed_clauses=clauses,
            )
            for agency in order.order.agencies
        ]
        return scene.ended(order, answers, search_id=search_id)

    running.peer.answering = denying
    assert main(search(running)) == 3
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert shown.count("clause-11.with-a-long-name") == len(AGENCIES)
    assert "(by the broker)" in shown


def test_a_lie_shows_no_result(running: RunningPeer, capsys: pytest.CaptureFixture[str]) -> None:
    def lying(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
        return scene.ended(order, search_id=search_id, leaf={"outcomes": []})

    running.peer.answering = lying
    assert main(search(running, "--json")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "RESULT_INVALID" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "agency", "reason"),
    [
        (("--row", "1"), "all", "PROBE_INVALID"),
        (("--captured-at", "yesterday"), "all", "USAGE"),
        (("--timeout", "1e9"), "all", "ORDER_INVALID"),
        (("--purpose", "Not A Code"), "all", "ORDER_INVALID"),
        (("--authoriser", "ns-4411"), "all", "ORDER_INVALID"),
        (("--officer", "nobody"), "all", "ORDER_INVALID"),
        ((), "dwp", "AGENCY_UNKNOWN"),
        ((), "pnd,pnd", "ORDER_INVALID"),
        (("--officer-token", "missing"), "all", "FILE_MISSING"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(
    running: RunningPeer,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    agency: str,
    reason: str,
) -> None:
    assert main(search(running, *more, agency=agency)) == 1
    assert one_line(capsys.readouterr().err).startswith(f"probegate: {reason}: ")
    assert running.peer.requests == []


def test_a_reason_of_the_broker_is_one_line(
    running: RunningPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    running.peer.failures = [Reason.LOG_UNAVAILABLE]
    assert main(search(running)) == 1
    assert "LOG_UNAVAILABLE" in one_line(capsys.readouterr().err)


def test_tokens_come_from_files(
    running: RunningPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running.scene.scheme.member_folder(FORCE)
    arguments = []
    for part, rank in ((Part.OFFICER, "sergeant"), (Part.AUTHORISER, "inspector")):
        token = folder.issue_token(
            officer=f"{part}-1", part=part, rank=rank, role="r", now=running.scene.now
        )
        path = tmp_path / part
        path.write_text(token + "\n")
        arguments += [f"--{part}-token", str(path), f"--{part}", f"{part}-1"]
    assert main(search(running, *arguments)) == 0
    assert b"sergeant" in running.peer.requests[0]
    assert main(search(running, *arguments, "--officer", "somebody-else")) == 1
    assert "OFFICER_TOKEN_INVALID" in capsys.readouterr().err


# --- preview ----------------------------------------------------------------------------------


def test_a_preview_says_what_it_would_take(
    running: RunningPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", *facts(running)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "permitted" in shown
    assert "authoriser_rank at_least" in " ".join(shown.split())
    said = " ".join(shown.split())
    assert "of all permitted agencies together: 1.2 (0.5-3)." in said
    assert "Not counted, because they state none: asylum." in said


def test_a_preview_as_json(running: RunningPeer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "--json", *facts(running, agency="pnd")]) == 3
    document = json.loads(capsys.readouterr().out)
    (decision,) = document["decisions"]
    assert document["expected_false"] is decision["expected_false"] is None
    assert decision["failed_clauses"] == ["rank.inspector"]
    assert decision["clauses"][0]["required"] == "chief_inspector"
    assert main(["preview", "--json", *facts(running, agency="custody")]) == 0
    document = json.loads(capsys.readouterr().out)
    stated = {"expected": 1.25, "low": 0.5, "high": 3.0}
    assert document["expected_false"] == document["decisions"][0]["expected_false"] == stated
    assert document["without_expectation"] == ["asylum"]
