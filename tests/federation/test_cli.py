"""The command line as its people use it, over the running federation, at 80 columns."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import ROLES, main
from cli.output import EXIT_ALL_DENIED
from deploy.local.demo import LOGS
from deploy.local.place import AGENCIES, BROKER, Place
from deploy.local.processes import Processes
from tests.forces import ROOT, Ended, facts_options, probegate

COLUMNS = 80
BANNER = "INVESTIGATIVE LEAD ONLY"
FACTS = """\
force: northshire
purpose: crime_investigation
legal_basis: common_law_policing
offence_code: theft-act-1968-s8
case_reference: NS/2026/004411
probe_source: cctv
probe_quality: 57
"""


def require_done(ended: Ended, status: int = 0) -> Ended:
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def commands() -> list[tuple[str, ...]]:
    """Every command there is, found by walking the program."""
    found: list[tuple[str, ...]] = [()]
    for role in ROLES:
        group = get_command(importlib.import_module(f"cli.{role.name}").app)
        found.append((role.name,))
        found += [(role.name, name) for name in getattr(group, "commands", {})]
    return found


def test_every_command_explains_itself_within_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In this process: forty interpreters would only show forty times that Python starts.
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", COLUMNS)
    walked = commands()
    assert len(walked) > 25
    for words in walked:
        assert main([*words, "--help"]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert "Usage: probegate" in said.out
        long = [line for line in said.out.splitlines() if len(line.rstrip()) > COLUMNS]
        assert not long, (words, long)


def test_help_and_version_from_a_shell() -> None:
    assert "--version" in require_done(probegate("--help")).stdout
    assert require_done(probegate("--version")).stdout.startswith("probegate ")


# --- for a force ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(place: Place, federation: Processes) -> dict[str, Any]:
    """The document of one search, made once."""
    federation.start()
    probe = place.probes / "suspect-good.npy"
    ended = require_done(probegate("search", "--probe", probe, *facts_options(place), "--json"))
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def test_a_search_gives_one_verified_document(searched: dict[str, Any]) -> None:
    assert searched.keys() == {
        "search_id",
        "request_id",
        "order_sha256",
        "state",
        "complete",
        "missing",
        "completeness",
        "sufficient",
        "revision",
        "warnings",
        "confirm_by",
        "outcomes",
        "ranking",
        "lanes",
        "groups",
        "candidates",
        "notice",
        "stop_use",
        "receipt",
        "verified",
    }
    assert searched["verified"] is True
    assert searched["state"] == "finished"
    assert searched["notice"].startswith(BANNER)
    assert searched["receipt"].startswith("c2sp.org/tlog-proof@v1\n")
    assert [one["agency"] for one in searched["outcomes"]] == sorted(AGENCIES)
    states = {one["agency"]: one["state"] for one in searched["outcomes"]}
    assert states["custody"] == "candidates"
    assert states["asylum"] == "held"
    assert states["nhs"] == states["dwp"] == "denied"
    assert all(one["failed_clauses"] for one in searched["outcomes"] if one["state"] == "denied")
    assert searched["complete"] is False  # asylum holds its answer
    assert searched["missing"] == ["asylum"]
    for one in searched["candidates"]:
        assert one.keys() >= {"agency", "reference", "score", "rank", "lane"}


def test_the_planted_person_is_found_where_they_are_held(
    searched: dict[str, Any], place: Place
) -> None:
    truth = json.loads(place.truth.read_text())["suspect-good"]
    for agency in ("custody", "passport"):
        config = place.config(agency)
        by_search = probegate(
            "adapter", "resolve", "--config", config, "--search", searched["search_id"], "--json"
        )
        rows = json.loads(require_done(by_search).stdout)
        assert rows[0]["record_id"] in truth[agency]
        assert rows[0]["rank"] == 1
        first = next(one for one in searched["candidates"] if one["agency"] == agency)
        assert first["reference"] == rows[0]["reference"]
        assert first["score"] == pytest.approx(rows[0]["score"])
    reference = next(
        one["reference"] for one in searched["candidates"] if one["agency"] == "custody"
    )
    one = require_done(
        probegate(
            "adapter", "resolve", "--config", place.config("custody"), "--reference", reference
        )
    )
    assert reference[:8] in one.stdout


def test_a_search_is_shown_within_80_columns_under_its_banner(
    place: Place, federation: Processes, tmp_path: Path
) -> None:
    probe = place.probes / "suspect-fair.npy"
    saved = tmp_path / "evidence"
    ended = require_done(
        probegate("search", "--probe", probe, *facts_options(place), "--save", saved)
    )
    assert BANNER in ended.stdout
    assert "Verified: signatures, outcomes and receipt" in ended.stdout
    assert "That is never a 'no match'" in ended.stdout
    for agency in AGENCIES:
        assert agency in ended.stdout
    assert max(len(line.rstrip()) for line in ended.stdout.splitlines()) <= COLUMNS
    assert (saved / "receipt.tlog-proof").exists()


def test_a_search_denied_everywhere_has_a_status_of_its_own(
    place: Place, federation: Processes
) -> None:
    probe = place.probes / "suspect-good.npy"
    facts = facts_options(place, purpose="civil_penalty", offence="parking", seriousness="none")
    ended = probegate("search", "--probe", probe, *facts, "--json")
    require_done(ended, EXIT_ALL_DENIED)
    document = json.loads(ended.stdout)
    assert document["verified"] is True
    assert {one["state"] for one in document["outcomes"]} == {"denied"}
    assert document["candidates"] == []


def test_a_preview_says_what_would_be_decided_and_asks_nobody(
    place: Place, federation: Processes
) -> None:
    ended = require_done(probegate("preview", *facts_options(place), "--json"))
    decisions = {one["agency"]: one for one in json.loads(ended.stdout)["decisions"]}
    assert list(decisions) == sorted(AGENCIES)
    assert decisions["custody"]["permitted"]
    assert not decisions["nhs"]["permitted"]
    assert decisions["nhs"]["failed_clauses"]
    shown = require_done(probegate("preview", *facts_options(place)))
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= COLUMNS
    denied = facts_options(place, purpose="civil_penalty", offence="parking", seriousness="none")
    require_done(probegate("preview", *denied), EXIT_ALL_DENIED)


def test_a_policy_explains_itself_clause_by_clause(place: Place, tmp_path: Path) -> None:
    facts = tmp_path / "request.yaml"
    facts.write_text(FACTS)
    words = ("policy", "explain", "--facts", facts)
    shown = require_done(probegate(*words, "--agreements", place.agreements, "--agency", "nhs"))
    assert "nhs" in shown.stdout
    assert "nhs: DENY (CLAUSES_FAILED)" in shown.stdout
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= COLUMNS
    signed = probegate(*words, "--bundle", place.bundle, "--scheme", place.scheme, "--json")
    document = json.loads(require_done(signed).stdout)
    assert document["signatures_checked"] is True
    assert len(document["decisions"]) == len(AGENCIES)


# --- for an auditor -------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [BROKER, *AGENCIES])
def test_every_log_verifies_for_us_and_for_a_stranger(
    searched: dict[str, Any], place: Place, member: str
) -> None:
    for log in LOGS:
        folder = place.logs(member) / log
        ours = require_done(
            probegate("audit", "verify", folder, "--vkey", folder / "vkey", "--json")
        )
        report = json.loads(ours.stdout)
        assert report["ok"]
        assert report["pinned"]
        said = strangers_word("verify_log", folder, folder / "vkey")
        assert said.startswith(f"OK {report['origin']} size {report['size']} root ")


def test_a_stranger_holds_the_agencies_logs_to_what_the_brokers_embeds(
    searched: dict[str, Any], place: Place
) -> None:
    brokers = place.logs(BROKER) / "search"
    for one in searched["outcomes"]:
        folder = place.logs(one["agency"]) / "search"
        said = strangers_word("verify_embedded", folder, folder / "vkey", brokers)
        held = int(said.removeprefix("OK ").split(" continues ")[1].split()[0])
        assert held or one["state"] == "denied"


def strangers_word(script: str, *words: Path) -> str:
    """Return what a script of ``docs/verify`` prints; it must be content."""
    command = [sys.executable, str(ROOT / "docs" / "verify" / f"{script}.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_log_is_read_entry_by_entry(searched: dict[str, Any], place: Place) -> None:
    folder = place.logs(BROKER) / "search"
    shown = require_done(probegate("audit", "show", folder, "--last", "4"))
    assert "search." in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= COLUMNS
    listed = require_done(probegate("audit", "show", folder, "--kind", "search.order", "--json"))
    entries = [json.loads(line) for line in listed.stdout.splitlines()]
    assert searched["search_id"] in {one["entry"]["search_id"] for one in entries}
    index = str(entries[-1]["index"])
    assert (
        "search.order" in require_done(probegate("audit", "show", folder, "--index", index)).stdout
    )
    missing = probegate("audit", "show", folder, "--index", "999999")
    require_done(missing, 1)
    assert missing.stderr.startswith("probegate: NOT_FOUND: ")


# --- for an operator ------------------------------------------------------------------------------


def test_a_gallery_counts_itself(place: Place) -> None:
    gallery = ("--gallery", place.gallery("custody"))
    document = json.loads(require_done(probegate("adapter", "stats", *gallery, "--json")).stdout)
    assert document["kind"] == "custody"
    assert 0 < document["eligible"] <= document["records"]
    shown = require_done(probegate("adapter", "stats", *gallery))
    assert f"{document['records']:,} records" in shown.stdout
    assert "sound" in require_done(probegate("adapter", "check", *gallery)).stdout


def test_the_federation_says_who_runs(place: Place, federation: Processes) -> None:
    ended = require_done(probegate("demo", "status", "--place", place.root))
    for member in (BROKER, *AGENCIES):
        assert member in ended.stdout
    assert ended.stdout.count("running") == 1 + len(AGENCIES)
