"""The example agreements answer as their case tables say, and people can read why."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.policy import app
from policy import lint
from policy.agreements import read_folder
from policy.cases import CaseResult, run_folder
from policy.decision import DecisionCode
from policy.yaml_source import parse_yaml

EXAMPLES = Path(__file__).parents[2] / "policy" / "examples"
AGENCIES = {"asylum", "custody", "dwp", "nhs", "passport", "pnd"}
MISUSES = {"curiosity", "parking-fine", "protest"}
RESULTS = run_folder(EXAMPLES)
FILES = read_folder(EXAMPLES)
RUN = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: f"{r.decision.agency}-{r.case.id}")
def test_case(result: CaseResult) -> None:
    assert result.passed, result.difference


def test_every_agency_has_an_agreement_and_a_table_that_tries_misuse() -> None:
    assert {file.agreement.agency for file in FILES} == AGENCIES
    for agency in AGENCIES:
        mine = [result for result in RESULTS if result.decision.agency == agency]
        assert {result.case.id for result in mine} >= MISUSES
        denied = {result.case.id for result in mine if not result.decision.permitted}
        assert denied >= MISUSES


def test_health_and_benefits_never_permit() -> None:
    for result in RESULTS:
        if result.decision.agency in {"nhs", "dwp"}:
            assert f"{result.decision.agency}.owner-decision" in result.decision.failed


def test_every_example_is_marked_as_one_and_cites_something_for_every_clause() -> None:
    for file in FILES:
        assert "EXAMPLE ONLY" in file.agreement.notice
        assert "not legal advice" in file.agreement.notice
        assert all(clause.citation for clause in file.agreement.clauses)


def test_every_clause_of_every_example_is_failed_by_some_case_or_shared_with_another() -> None:
    failed = {clause for result in RESULTS for clause in result.case.failed}
    for file in FILES:
        if file.agreement.agency not in {"custody", "pnd"}:
            continue
        untried = {clause.id for clause in file.agreement.clauses} - failed
        assert untried <= {f"{file.agreement.agency}.{n}" for n in ("offence", "officer-role")}


def test_lint_names_lapsed_dates_unverified_law_and_facts_nobody_carries() -> None:
    nhs = next(file for file in FILES if file.agreement.agency == "nhs")
    texts = " ".join(finding.text for finding in lint.findings(nhs, date(2031, 1, 1)))
    for expected in (
        "lapsed on 2030-12-31",
        "review was due on 2027-06-30",
        "dpia expired on 2030-12-31",
        "pace_sch1_order",
        "owner_decision, which no request carries",
    ):
        assert expected in texts
    assert "not in force until" in " ".join(
        finding.text for finding in lint.findings(nhs, date(2025, 1, 1))
    )


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    base = parse_yaml((EXAMPLES / "custody/cases.yaml").read_bytes(), "base").data["base"]
    path = tmp_path / "request.json"
    path.write_text(json.dumps(base, default=str))
    return path


def test_explain_answers_for_every_agency_with_every_clause(request_file: Path) -> None:
    options = ["--agreements", str(EXAMPLES), "--facts", str(request_file)]
    at = ["--at", "2026-06-01T10:00:00"]
    result = RUN.invoke(app, ["explain", *options, *at])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "passport: PERMIT (PERMITTED)" in result.stdout
    assert "INDETERMINATE: nhs.owner-decision" in result.stdout
    assert "officer-1" not in result.stdout

    result = RUN.invoke(app, ["explain", *options, *at, "--agency", "nhs", "--json"])
    answer = json.loads(result.stdout)
    (decision,) = answer["decisions"]
    assert answer["signatures_checked"] is False
    assert decision["code"] == DecisionCode.CLAUSES_FAILED
    assert "nhs.owner-decision" in decision["failed"]
    assert len(decision["clauses"]) >= 20


def test_lint_and_test_commands() -> None:
    linted = RUN.invoke(app, ["lint", str(EXAMPLES), "--at", "2026-06-01"])
    assert linted.exit_code == 0
    assert "6 agreements load." in linted.stdout
    tested = RUN.invoke(app, ["test", str(EXAMPLES)])
    assert tested.exit_code == 0
    assert f"{len(RESULTS)} cases, 0 not as expected." in tested.stdout


def test_the_test_command_fails_when_an_answer_changes(tmp_path: Path) -> None:
    for name in ("custody.yaml", "cases.yaml"):
        text = (EXAMPLES / "custody" / name).read_text()
        (tmp_path / name).write_text(text.replace("value: recordable", "value: none"))
    result = RUN.invoke(app, ["test", str(tmp_path)])
    assert result.exit_code == 1
    assert "did not fail" in result.stdout


def test_errors_are_one_line_on_standard_error(tmp_path: Path, request_file: Path) -> None:
    (tmp_path / "bad.yaml").write_text("id: x\nsurprise: 1\n")
    result = RUN.invoke(app, ["lint", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith("probegate: BUNDLE_INVALID: ")
    assert len(result.stderr.splitlines()) == 1
    result = RUN.invoke(app, ["explain", "--facts", str(request_file)])
    assert (result.exit_code, result.stderr[:16]) == (1, "probegate: USAGE")
