"""The example agreements answer as their case tables say, and people can read why."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.policy import app
from policy import explain, lint
from policy.agreements import Agreement, read_folder
from policy.bundle import unsigned_bundle_for_dry_run
from policy.cases import CaseResult, dry_run_facts, run_folder
from policy.clauses import Verdict
from policy.core_clauses import BUNDLE_CURRENT, core_clauses
from policy.decision import CompiledPolicy, DecisionCode, compile_bundle
from policy.facts import ATTRIBUTES
from policy.reasons import NECESSITY_SHORT, PROPORTIONALITY_SHORT, REASONS_REPEATED
from policy.yaml_source import parse_yaml
from trust.errors import ProbegateError

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "policy" / "examples"
TEMPLATES = sorted(EXAMPLES.glob("*/agreement.yaml.template"))
AT = datetime(2026, 6, 1, 10, tzinfo=UTC)

POLICE = {"custody", "pnd"}
CIVIL = {"passport", "asylum"}
OWNERS = {"nhs", "dwp"}
NOBODY = {"education", "local-authority"}
MISUSES = {
    "accreditation-lapsed",
    "agency-switched-off",
    "curiosity",
    "immigration-enforcement-victim",
    "journalists-source",
    "live-camera",
    "parking-fine",
    "protest",
    "self-authorised",
    "unconfirmed-urgent",
}
"""Misuse that every table tries and every answer denies."""
PERSONAL = {"officer_id", "authoriser_id", "case_reference", "necessity", "proportionality"}

RESULTS = run_folder(EXAMPLES)
FILES = read_folder(EXAMPLES)
BY_NAME = {(result.decision.agency, result.case.id): result for result in RESULTS}
AGREEMENTS = {file.agreement.agency: file.agreement for file in FILES}
RUN = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def name_of(result: CaseResult) -> str:
    return f"{result.decision.agency}-{result.case.id}"


def of_agency(agency: str) -> list[CaseResult]:
    return [result for result in RESULTS if result.decision.agency == agency]


def own_clauses(agreement: Agreement) -> list[str]:
    parts = (agreement.clauses, agreement.quotas, agreement.answered_first)
    return [one.id for part in parts for one in part]


def built_in(agreement: Agreement) -> list[str]:
    return [clause.id for clause in core_clauses(agreement, AT, AT)]


# Case tables


@pytest.mark.parametrize("result", RESULTS, ids=name_of)
def test_case(result: CaseResult) -> None:
    assert result.passed, result.difference


def test_six_agencies_have_an_agreement_and_eight_a_table_without_a_case_named_twice() -> None:
    assert [file.agreement.id for file in FILES] == [
        f"example-{agency}" for agency in sorted(POLICE | CIVIL | OWNERS)
    ]
    assert {result.decision.agency for result in RESULTS} == POLICE | CIVIL | OWNERS | NOBODY
    assert len(BY_NAME) == len(RESULTS)


@pytest.mark.parametrize("agency", sorted(POLICE | CIVIL | OWNERS | NOBODY))
def test_every_table_tries_misuse_and_no_misuse_is_permitted(agency: str) -> None:
    for misuse in MISUSES:
        assert not BY_NAME[agency, misuse].decision.permitted, misuse
    if agency in POLICE | CIVIL:
        for exhausted in ("officer-quota-used", "force-quota-used"):
            assert not BY_NAME[agency, exhausted].decision.permitted


@pytest.mark.parametrize("agency", sorted(AGREEMENTS))
def test_every_clause_quota_and_prior_answer_is_why_some_case_is_denied(agency: str) -> None:
    denied_for = {clause for result in of_agency(agency) for clause in result.case.failed}
    assert set(own_clauses(AGREEMENTS[agency])) - denied_for == set()


def test_every_built_in_clause_is_why_some_case_is_denied() -> None:
    denied_for = {clause for result in RESULTS for clause in result.case.failed}
    for agreement in AGREEMENTS.values():
        # A case table has no bundle, so no window that could have passed.
        assert set(built_in(agreement)) - denied_for == {BUNDLE_CURRENT}


@pytest.mark.parametrize("agency", sorted(POLICE | CIVIL))
def test_every_purpose_with_a_gateway_is_permitted_in_some_case_and_no_other(agency: str) -> None:
    permitted = {
        result.decision.facts.purpose for result in of_agency(agency) if result.decision.permitted
    }
    assert permitted == {gateway.purpose for gateway in AGREEMENTS[agency].gateways}


@pytest.mark.parametrize("agency", sorted(OWNERS))
def test_health_and_benefits_never_permit_and_would_say_hit_or_no_hit_only(agency: str) -> None:
    for result in of_agency(agency):
        assert f"{agency}.owner-decision" in result.decision.failed
    duties = AGREEMENTS[agency].obligations
    assert (duties.hit_no_hit, duties.fields, duties.release_by_human) == (True, (), True)
    assert AGREEMENTS[agency].urgent is None


@pytest.mark.parametrize("agency", sorted(NOBODY))
def test_schools_and_councils_are_denied_because_nobody_agreed(agency: str) -> None:
    for result in of_agency(agency):
        assert result.decision.code is DecisionCode.NO_AGREEMENT
        assert result.decision.clauses == ()


def test_asylum_photographs_go_to_no_other_country_and_no_immigration_purpose() -> None:
    asylum = AGREEMENTS["asylum"]
    assert asylum.obligations.onward_transfer == "prohibited"
    assert "immigration_enforcement" not in {gateway.purpose for gateway in asylum.gateways}
    for result in of_agency("asylum"):
        facts = result.decision.facts
        if facts.purpose == "immigration_enforcement" or facts.subject_category in {
            "victim",
            "witness",
        }:
            assert not result.decision.permitted


def test_every_example_is_marked_as_one_and_cites_something_for_every_clause() -> None:
    for agreement in AGREEMENTS.values():
        assert "EXAMPLE ONLY" in agreement.notice
        assert "not legal advice" in agreement.notice
        parts = (agreement.clauses, agreement.quotas, agreement.answered_first)
        assert all(one.citation for part in parts for one in part)


def test_law_that_was_only_reported_is_marked_wherever_it_is_cited() -> None:
    for path in EXAMPLES.rglob("*.yaml*"):
        for line in path.read_text().splitlines():
            if "Home Office staff guidance" in line:
                assert "not verified" in line, f"{path.name}: {line}"


# The urgent route


@pytest.mark.parametrize("agency", sorted(CIVIL))
def test_the_urgent_route_waives_the_order_of_galleries_and_nothing_else(agency: str) -> None:
    order = (f"{agency}.own-galleries-first", f"{agency}.police-galleries-answered")
    route = AGREEMENTS[agency].urgent
    assert route is not None
    assert route.waives == order

    decision = BY_NAME[agency, "urgent-life-at-risk"].decision
    assert decision.waived == order
    assert decision.confirm_by == decision.decided_at + timedelta(hours=24)
    assert decision.confirmer_rank == "superintendent"
    complete = BY_NAME[agency, "urgent-and-complete"].decision
    assert (complete.permitted, complete.waived, complete.confirm_by) == (True, (), None)

    for result in of_agency(agency):
        assert set(result.decision.waived) <= set(order)
        if result.decision.facts.urgent is False:
            assert not result.decision.waived


def test_boilerplate_is_a_warning_at_police_galleries_and_a_denial_elsewhere() -> None:
    for agency in POLICE:
        decision = BY_NAME[agency, "boilerplate-reasons"].decision
        assert decision.permitted
        signs = (NECESSITY_SHORT, PROPORTIONALITY_SHORT, REASONS_REPEATED)
        assert decision.facts.warnings == signs
    for agency in CIVIL | OWNERS:
        failed = BY_NAME[agency, "boilerplate-reasons"].decision.failed
        assert {f"{agency}.necessity-stated", f"{agency}.proportionality-stated"} <= set(failed)
    for agency in CIVIL:
        decision = BY_NAME[agency, "reasons-reused"].decision
        assert (decision.permitted, decision.facts.warnings) == (True, (REASONS_REPEATED,))


# Templates


def uncommented(template: Path) -> str:
    return "\n".join(line.removeprefix("#") for line in template.read_text().splitlines())


def test_templates_are_comments_throughout_and_load_nothing() -> None:
    assert [path.parent.name for path in TEMPLATES] == ["education", "local_authority"]
    for template in TEMPLATES:
        lines = [line for line in template.read_text().splitlines() if line]
        assert all(line.startswith("#") for line in lines)
        assert sum(line.startswith("##") for line in lines) * 4 > len(lines)
        with pytest.raises(ProbegateError, match="no agreements in this folder"):
            read_folder(template.parent)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.parent.name)
def test_a_template_without_its_marks_loads_and_denies_for_the_owner_alone(
    template: Path, tmp_path: Path
) -> None:
    (tmp_path / "agreement.yaml").write_text(uncommented(template))
    (file,) = read_folder(tmp_path)
    agreement = file.agreement
    assert agreement.agency in NOBODY
    assert "EXAMPLE ONLY" in agreement.notice
    assert agreement.urgent is None
    policy = compile_bundle(unsigned_bundle_for_dry_run([file], ["example-force"]))
    base = parse_yaml((template.parent / "cases.yaml").read_bytes(), "base").data["base"]
    tried = {"tried_first": ["own_custody", "pnd", "relatives"]}
    answered = dict.fromkeys(("custody", "pnd"), "2026-05-30T10:00:00Z")
    best: dict[str, Any] = {**base, **tried, "standing": {"answered": answered}}
    decision = policy.decide(dry_run_facts(best, (agreement.agency,)), agreement.agency, AT)
    assert decision.failed == (f"{agreement.agency}.owner-decision",)
    waiting = policy.decide(dry_run_facts(base, (agreement.agency,)), agreement.agency, AT)
    assert f"{agreement.agency}.police-galleries-answered" in waiting.failed


# Explanations


def test_what_is_personal_is_what_these_tests_look_for() -> None:
    assert {attribute.name for attribute in ATTRIBUTES.values() if attribute.personal} == PERSONAL


def assert_nothing_personal(result: CaseResult, text: str) -> None:
    facts = result.decision.facts
    for name in PERSONAL:
        value = getattr(facts, name)
        assert value is None or value.casefold() not in text.casefold(), name


@pytest.mark.parametrize("result", RESULTS, ids=name_of)
def test_every_answer_lists_every_clause_with_required_and_actual(result: CaseResult) -> None:
    answer = explain.as_json(result.decision)
    if result.decision.code is DecisionCode.NO_AGREEMENT:
        assert (answer["considered"], answer["clauses"]) == ([], [])
    else:
        agreement = AGREEMENTS[result.decision.agency]
        assert answer["considered"] == [agreement.id]
        listed = [(clause["agreement_id"], clause["clause_id"]) for clause in answer["clauses"]]
        expected = [*built_in(agreement), *own_clauses(agreement)]
        assert listed == [(agreement.id, clause) for clause in expected]
    unmet = set()
    for clause in answer["clauses"]:
        assert clause["required"]
        assert clause["citation"]
        assert clause["actual"] is None or clause["actual"]
        if clause["verdict"] == Verdict.SATISFIED:
            assert clause["actual"] is not None
        elif not clause["waived"]:
            unmet.add(clause["clause_id"])
    assert unmet == set(answer["failed"]) == set(result.case.failed)
    assert_nothing_personal(result, json.dumps(answer, ensure_ascii=False))
    assert_nothing_personal(result, "\n".join(explain.lines(result.decision)))


@pytest.mark.parametrize("result", RESULTS, ids=name_of)
def test_the_command_explains_a_written_request_as_the_table_decides_it(
    result: CaseResult, tmp_path: Path
) -> None:
    options = options_of(result, tmp_path)
    shown = RUN.invoke(app, ["explain", *options, "--json"])
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.stdout)
    assert answer["signatures_checked"] is False
    assert answer["decisions"] == [json.loads(json.dumps(explain.as_json(result.decision)))]
    assert_nothing_personal(result, shown.stdout)


@pytest.mark.parametrize(
    "name",
    [
        ("asylum", "case-quota-used"),
        ("custody", "curiosity"),
        ("custody", "not-a-party"),
        ("dwp", "reasons-reused"),
        ("education", "everything-right"),
        ("nhs", "everything-right"),
        ("passport", "robbery-suspect"),
        ("passport", "urgent-life-at-risk"),
        ("pnd", "force-switched-off"),
    ],
    ids="-".join,
)
def test_the_command_explains_in_words_within_a_terminal(
    name: tuple[str, str], tmp_path: Path
) -> None:
    result = BY_NAME[name]
    in_words = RUN.invoke(app, ["explain", *options_of(result, tmp_path)])
    assert in_words.exit_code == 0, in_words.output
    assert max(map(len, in_words.stdout.splitlines())) <= 80
    assert_nothing_personal(result, " ".join(in_words.stdout.split()))


def options_of(result: CaseResult, folder: Path) -> list[str]:
    """Return the options that ask ``explain`` what the case asks."""
    path = folder / "request.json"
    path.write_text(result.decision.facts.model_dump_json())
    at = f"{result.decision.decided_at:%Y-%m-%dT%H:%M:%S}"
    asked = ["--facts", str(path), "--agency", result.decision.agency, "--at", at]
    return ["--agreements", str(EXAMPLES), *asked, "--signed-by", "example-force"]


def test_who_signed_is_not_stated_where_signatures_are_checked(
    request_file: Path, tmp_path: Path
) -> None:
    options = ["--bundle", "bundle.json", "--scheme", str(tmp_path), "--facts", str(request_file)]
    result = RUN.invoke(app, ["explain", *options, "--signed-by", "northshire"])
    assert result.exit_code != 0
    assert "--signed-by" in result.output


def test_a_force_that_is_said_not_to_have_signed_is_no_party(request_file: Path) -> None:
    options = ["--agreements", str(EXAMPLES), "--facts", str(request_file), "--agency", "custody"]
    result = RUN.invoke(app, ["explain", *options, "--signed-by", "another-force"])
    assert result.exit_code == 0, result.output
    assert "custody: DENY (NO_AGREEMENT)" in result.stdout
    assert "another-force" in result.stdout


@pytest.fixture
def request_file() -> Path:
    return ROOT / "docs" / "examples" / "request.yaml"


def test_the_request_of_the_documentation_is_explained_for_every_agency(
    request_file: Path,
) -> None:
    options = ["--agreements", str(EXAMPLES), "--facts", str(request_file)]
    result = RUN.invoke(app, ["explain", *options, "--at", "2026-06-01T10:00:00"])
    assert result.exit_code == 0, result.output
    for agency in POLICE | CIVIL:
        assert f"{agency}: PERMIT (PERMITTED)" in result.stdout
    for agency in OWNERS:
        assert f"{agency}: DENY (CLAUSES_FAILED)" in result.stdout
        assert f"INDETERMINATE: {agency}.owner-decision" in result.stdout
    assert "northshire-1041" not in result.stdout


# The agreements of the documentation, and other commands


@pytest.fixture
def worked_example(tmp_path: Path) -> CompiledPolicy:
    """The agreement that the guide works through."""
    page = (ROOT / "docs" / "agreements.md").read_text()
    (text,) = re.findall(r"```yaml\n(id: .*?)```", page, re.DOTALL)
    (tmp_path / "agreement.yaml").write_text(text)
    return compile_bundle(unsigned_bundle_for_dry_run(read_folder(tmp_path), ["northshire"]))


IN_JUNE = {"custody": "2026-06-01T09:40:00Z", "pnd": "2026-06-01T09:41:00Z"}
CHILD: dict[str, Any] = {
    "purpose": "protect_life",
    "schedule8_condition": "vital_interests",
    "subject_category": "missing_person",
    "offence_code": None,
    "offence_seriousness": "threat_to_life",
    "urgent": True,
    "standing": {},
}
NEW_YEAR = {
    "authorised_at": "2027-01-01T09:00:00Z",
    "standing": {"answered": IN_JUNE},
}
SIXTH = {
    "standing": {"answered": IN_JUNE, "earlier_searches": {"passport": {"officer.day": 5}}},
}


@pytest.mark.parametrize(
    ("change", "at", "failed"),
    [
        ({}, AT, []),
        ({"standing": {}}, AT, ["harbour.police-galleries-answered"]),
        (CHILD, AT, []),
        (
            {"purpose": "civil_penalty", "offence_seriousness": "none"},
            AT,
            ["core.gateway-for-purpose", "harbour.seriousness"],
        ),
        ({"authoriser_id": "northshire-1041"}, AT, ["core.authoriser-independent"]),
        (SIXTH, AT, ["harbour.quota"]),
        (
            NEW_YEAR,
            datetime(2027, 1, 1, 10, tzinfo=UTC),
            ["core.in-force", "core.documents-current", "harbour.police-galleries-answered"],
        ),
    ],
)
def test_the_worked_example_of_the_guide_answers_as_it_says(
    worked_example: CompiledPolicy,
    request_file: Path,
    change: dict[str, Any],
    at: datetime,
    failed: list[str],
) -> None:
    stated = parse_yaml(request_file.read_bytes(), request_file.name).data
    facts = dry_run_facts({**stated, **change}, ("passport",))
    decision = worked_example.decide(facts, "passport", at)
    assert list(decision.failed) == failed
    assert decision.permitted is not bool(failed)
    if change is CHILD:
        assert decision.waived == ("harbour.police-galleries-answered",)
        assert decision.confirm_by == AT + timedelta(days=1)
    if change is NEW_YEAR:
        assert decision.code is DecisionCode.AGREEMENT_EXPIRED


def test_the_own_gallery_of_the_documentation_loads() -> None:
    (file,) = read_folder(ROOT / "docs" / "examples" / "own-gallery")
    assert file.agreement.id == "harbour-custody"
    assert "EXAMPLE ONLY" in file.agreement.notice


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
