"""Analysis without requests: regions, differences, lint, coverage, and decisions made again."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.policy import app
from policy import lint
from policy.agreements import AgreementFile, parse_agreement, read_folder
from policy.boxes import is_empty, meet
from policy.bundle import build_bundle, unsigned_bundle_for_dry_run
from policy.cases import dry_run_facts
from policy.cells import facts_of
from policy.clauses import Verdict
from policy.codes import REGISTRY
from policy.coverage import PURPOSES, Answer, Extent, as_csv, coverage
from policy.coverage_html import as_html
from policy.decision import CompiledPolicy, compile_bundle
from policy.diff import compare, duties_of
from policy.diff_model import Change, PolicyDiff
from policy.diff_words import as_json, lines
from policy.facts import ATTRIBUTES, Attribute, Facts, Kind
from policy.regions import Space
from policy.simulate import Kind as Came
from policy.simulate import RecordedDecision, faults, redecide, rerun, simulate
from policy.standing import COUNTERS
from policy.yaml_source import parse_yaml
from tests.scale import scaled

EXAMPLES = read_folder(Path(__file__).parents[2] / "policy" / "examples")
AT = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
TODAY = AT.date()
FORCES = ("northshire", "southshire")
RUN = CliRunner(env={"COLUMNS": "80"})

PLAIN: dict[str, Any] = {
    "id": "plain",
    "version": 1,
    "title": "An agreement of this test",
    "notice": "Invented.",
    "agency": "custody",
    "forces": "all",
    "in_force": {"from": date(2026, 1, 1), "to": date(2026, 12, 31)},
    "review_date": date(2026, 12, 1),
    "documents": {
        name: {"title": name, "date": date(2026, 1, 1), "expires": date(2026, 12, 31)}
        for name in ("dpia", "appropriate_policy_document")
    },
    "gateways": [
        {"purpose": "crime_investigation", "code": "pace_s64a", "citation": "PACE s.64A"},
        {
            "purpose": "protect_life",
            "code": "court_order",
            "citation": "The order",
            "requester_bases": ["common_law_policing"],
        },
    ],
    "schedule8_conditions": ["statutory_purposes", "vital_interests"],
    "strictly_necessary": "Invented.",
    "clauses": [
        {"attribute": "probe_quality", "operator": "ge", "value": 40},
        {"attribute": "authoriser_rank", "operator": "ge", "value": "inspector"},
        {"attribute": "tried_first", "operator": "present", "value": ["own_custody", "pnd"]},
        {"attribute": "probe_edits", "operator": "subset", "value": ["crop", "rotate", "scale"]},
        {"attribute": "subject_category", "operator": "not_in", "value": ["victim", "witness"]},
        {"attribute": "authorised_at", "operator": "after", "value": "decided_at-24h"},
        {"attribute": "necessity_words", "operator": "ge", "value": 8},
        {"attribute": "probe_model", "operator": "in", "value": ["model-1", "model-2"]},
        {"attribute": "probe_captured_at", "operator": "after", "value": date(2026, 1, 31)},
    ],
    "quotas": [{"id": "quota", "per": "officer", "window": "day", "most": 20}],
    "answered_first": [{"id": "answered", "agencies": ["pnd"], "within_days": 30}],
    "urgent": {
        "citation": "Urgency",
        "purposes": ["crime_investigation", "protect_life"],
        "waives": ["answered"],
        "confirm_within_hours": 24,
        "confirmer_rank": "superintendent",
    },
    "obligations": {
        "max_candidates": 10,
        "min_score": 0.4,
        "mode": "investigation",
        "hit_no_hit": False,
        "release_by_human": False,
        "reviewers": 2,
        "fields": ["reference"],
        "retention_days": 14,
        "onward_transfer": "prohibited",
        "caveats": ["Not evidence."],
    },
}


def agreement(**changes: Any) -> AgreementFile:
    """The plain agreement with parts replaced (``None`` leaves one out); clauses get ids."""
    data = deepcopy(PLAIN) | changes
    data = {name: value for name, value in data.items() if value is not None}
    for part in ("clauses", "quotas", "answered_first"):
        data[part] = [
            {"id": f"own.{clause.get('attribute', part)}-{n}", "citation": "A test"} | clause
            for n, clause in enumerate(data.get(part, []))
        ]
    return reread(data)


class Unaliased(yaml.SafeDumper):
    def ignore_aliases(self, _data: Any) -> bool:
        return True


def reread(data: dict[str, Any], name: str = "") -> AgreementFile:
    raw = yaml.dump(data, Dumper=Unaliased).encode()
    return parse_agreement(raw, name or f"{data['id']}.yaml")


def clause(attribute: str, operator: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator, "value": value} | more


def policy(*files: AgreementFile, forces: Sequence[str] = FORCES) -> CompiledPolicy:
    return compile_bundle(unsigned_bundle_for_dry_run(files, forces))


FILES = (*EXAMPLES, agreement(), agreement(id="other-plain", agency="pnd", urgent=None))


def edit(draw: st.DrawFn, data: dict[str, Any]) -> None:
    """Change one thing, as somebody revising an agreement would."""
    clauses, quotas = data["clauses"], data.get("quotas", [])
    kinds = ["value", "value", "drop", "gateway", "duty", "force", "quota", "urgent", "lapse"]
    match draw(st.sampled_from(kinds)):
        case "value":
            edit_value(draw, draw(st.sampled_from(clauses)))
        case "drop" if len(clauses) > 1:
            clauses.pop(draw(st.integers(0, len(clauses) - 1)))
        case "gateway":
            gateways = data["gateways"]
            gateways[0]["code"] = draw(st.sampled_from([*REGISTRY["legal_basis"].codes]))
            data["gateways"] = gateways[: draw(st.integers(1, len(gateways)))]
        case "duty":
            data["obligations"]["retention_days"] += draw(st.integers(1, 9))
            data["obligations"]["max_candidates"] = draw(st.integers(1, 20))
        case "force":
            data["forces"] = [draw(st.sampled_from(FORCES))]
        case "quota" if quotas:
            quota = draw(st.sampled_from(quotas))
            quota["most"] = max(1, quota["most"] + draw(st.sampled_from([-1, 1, 5])))
        case "urgent" if "urgent" in data:
            data["urgent"]["purposes"] = data["urgent"]["purposes"][1:]
        case "lapse":
            data["in_force"]["to"] = draw(st.sampled_from([TODAY - timedelta(1), TODAY]))
        case _:
            data["schedule8_conditions"] = data["schedule8_conditions"][:1]


def mend_route(data: dict[str, Any]) -> None:
    """Take from the urgent route what is no longer there, and the route if nothing is left."""
    route = data.get("urgent", {"purposes": (), "waives": ()})
    named = {gateway["purpose"] for gateway in data["gateways"]}
    parts = ("clauses", "quotas", "answered_first")
    ids = {clause["id"] for part in parts for clause in data.get(part, ())}
    route["purposes"] = [purpose for purpose in route["purposes"] if purpose in named]
    route["waives"] = [waived for waived in route["waives"] if waived in ids]
    if not (route["purposes"] and route["waives"]):
        data.pop("urgent", None)


def edit_value(draw: st.DrawFn, one: dict[str, Any]) -> None:
    attribute = ATTRIBUTES[one["attribute"]]
    match one["value"]:
        case bool():
            pass
        case int() | float() as number:
            one["value"] = max(0, number + draw(st.sampled_from([-7, -1, 1, 7])))
        case [*words] if attribute.vocabulary is not None:
            every = [*attribute.vocabulary.codes]
            one["value"] = draw(
                st.sampled_from([words[:1], every[:5], [*dict.fromkeys([*words, every[-1]])]])
            )
        case str() if attribute.vocabulary is not None:
            one["value"] = draw(st.sampled_from([*attribute.vocabulary.scale]))
        case _ if attribute.kind is Kind.INSTANT and one["operator"] == "after":
            one["value"] = draw(st.sampled_from(["decided_at-12h", "decided_at-7d", TODAY]))


@st.composite
def revisions(draw: st.DrawFn) -> tuple[CompiledPolicy, CompiledPolicy]:
    """Some agreements, and the same with one or two things changed."""
    names = draw(st.lists(st.sampled_from(range(len(FILES))), min_size=1, max_size=3, unique=True))
    old = [FILES[n] for n in names]
    new = list(old)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(new) - 1))
        data = yaml.safe_load(new[place].raw)
        edit(draw, data)
        mend_route(data)
        new[place] = reread(data, new[place].name)
    if len(new) > 1 and draw(st.integers(0, 4)) == 0:
        new = new[1:]
    return policy(*old), policy(*new)


def reasons_of(found: PolicyDiff, agency: str, force: str) -> set[Change]:
    return {one.change for one in found.flips if (one.agency, one.force) == (agency, force)}


def restated(request: dict[str, Any], agency: str) -> Facts:
    """The request, written to a file and read as ``explain`` reads it."""
    document = parse_yaml(yaml.safe_dump(request).encode(), "request.yaml")
    return dry_run_facts(document.data, [agency])


@given(revisions())
@settings(max_examples=scaled(20, 1000), deadline=None)
def test_every_request_of_a_difference_is_answered_differently(
    pair: tuple[CompiledPolicy, CompiledPolicy],
) -> None:
    old, new = pair
    found = compare(old, new, AT)
    assert all(
        "not shown" in note for note in found.incomplete
    )  # too many reasons, all of them true
    for one in found.flips:
        facts = restated(one.request, one.agency)
        assert facts == one.facts
        answers = [version.decide(facts, one.agency, AT) for version in pair]
        denial, permit = answers if one.change is Change.PERMITTED else reversed(answers)
        assert permit.permitted
        assert permit.agreement_id == one.agreement_id
        assert not denial.permitted
        assert denial.failed == one.failed
        assert one.reasons
    for duty in found.duties:
        facts = restated(duty.request, duty.agency)
        before, after = (duties_of(v.decide(facts, duty.agency, AT)) for v in pair)
        for name, was, is_now in duty.fields:
            assert (before[name], after[name]) == (was, is_now)
            assert was != is_now
    shown = "\n".join(lines(found))
    assert "officer-1" not in shown
    assert json.loads(json.dumps(as_json(found)))["same"] == found.same


def value_near(rng: random.Random, attribute: Attribute) -> Any:
    """A value by chance, and not by the cells under test."""
    value: Any = None
    words = [*attribute.vocabulary.codes] if attribute.vocabulary else []
    match attribute.kind:
        case Kind.CODES:
            value = rng.sample(words, rng.randrange(len(words)))
        case Kind.CODE:
            value = rng.choice([*words, "no-such-word"])
        case Kind.NUMBER:
            value = rng.randrange(101)
        case Kind.BOOLEAN:
            value = rng.choice([True, False, None])
        case Kind.INSTANT:
            minutes = rng.choice([0, 1, 719, 720, 1439, 1440, 1441, 9000, 99999])
            value = str(AT - timedelta(minutes=minutes, seconds=rng.choice([-1, 0, 1])))
        case Kind.DATE:
            value = str(TODAY + timedelta(rng.choice([-400, -1, 0, 1, 400])))
        case Kind.TEXT:
            text = " ".join(f"word{chr(97 + n)}" for n in range(rng.randrange(15)))
            value = rng.choice([None, "model-1", "officer-1", text])
    return value


def near(rng: random.Random, start: dict[str, Any], agency: str) -> dict[str, Any]:
    """A request with a few facts changed."""
    changed = deepcopy(start)
    standing = changed["standing"]
    stated = [a for name, a in ATTRIBUTES.items() if name in Facts.model_fields and name != "force"]
    for attribute in rng.sample([*stated, *[None] * 6], rng.choice([1, 1, 2, 3])):
        if attribute is not None:
            changed[attribute.name] = value_near(rng, attribute)
            continue
        counters = standing["earlier_searches"][agency]
        counters[rng.choice(COUNTERS)] = rng.choice([*range(30), 199, 500, 5000, 10**6])
        back = timedelta(days=rng.choice([0, 1, 29, 30, 31, 90]), minutes=rng.choice([-1, 0, 1]))
        standing["answered"] = dict.fromkeys(standing["answered"], str(AT - back))
        standing["reasons_reused"] = rng.choice([0, 1, 3])
    return changed


def requests_near(
    rng: random.Random, pair: Sequence[CompiledPolicy], agency: str, force: str
) -> Iterator[Facts]:
    """Requests near what either version permits, without end; none if neither permits any."""
    every = [one for version in pair for one in version.agreements(agency, force)]
    space = Space(every, agency, [force], AT)
    permitted = [part.box for one in every for part in space.parts(one)]
    asked = [meet(box, space.for_purpose(purpose)) for box in permitted for purpose in PURPOSES]
    boxes = [box for box in asked if not is_empty(box)]
    starts = [space.facts(space.plainest(box)).model_dump(mode="json") for box in boxes]
    while starts:
        yield Facts.model_validate(near(rng, rng.choice(starts), agency))


@given(revisions(), st.integers(0, 2**32))
@settings(max_examples=scaled(12, 300), deadline=None)
def test_what_trying_finds_a_comparison_has_found(
    pair: tuple[CompiledPolicy, CompiledPolicy], seed: int
) -> None:
    found, rng = compare(*pair, AT), random.Random(seed)
    for agency, force in sorted(pair[0].parties | pair[1].parties):
        reported = reasons_of(found, agency, force)
        obliged = any((one.agency, one.force) == (agency, force) for one in found.duties)
        for facts in islice(requests_near(rng, pair, agency, force), scaled(90, 1000)):
            before, after = (version.decide(facts, agency, AT) for version in pair)
            if before.permitted != after.permitted:
                change = Change.PERMITTED if after.permitted else Change.DENIED
                assert change in reported, facts
            elif before.permitted and duties_of(before) != duties_of(after):
                assert obliged, facts


@given(revisions())
@settings(max_examples=scaled(10, 400), deadline=None)
def test_a_version_does_not_differ_from_itself(
    pair: tuple[CompiledPolicy, CompiledPolicy],
) -> None:
    found = compare(pair[1], pair[1], AT)
    assert found.same
    assert (found.flips, found.duties, found.agreements, found.parties) == ((), (), (), ())
    assert "No request is answered otherwise" in "\n".join(lines(found))


def test_a_region_is_what_the_decision_permits() -> None:
    rng = random.Random(7)
    for agency in sorted({file.agreement.agency for file in FILES}):
        version = policy(*FILES)
        agreements = version.agreements(agency, FORCES[0])
        space = Space(agreements, agency, FORCES, AT)
        boxes = [part.box for one in agreements for part in space.parts(one)]
        for _ in range(scaled(250, 5000)):
            lawful = rng.choice(boxes)
            choice = tuple(
                rng.choice([n for n in range(len(d.cells)) if mask >> n & 1 or rng.random() < 0.02])
                for d, mask in zip(
                    space.dimensions,
                    [mask or every for mask, every in zip(lawful, space.everything, strict=True)],
                    strict=True,
                )
            )
            facts = space.facts(choice)
            inside = any(
                all(mask >> n & 1 for mask, n in zip(box, choice, strict=True)) for box in boxes
            )
            assert version.decide(facts, agency, AT).permitted == inside


MOMENTS = ["decided_at", "decided_at-1h", "decided_at-1m", "decided_at+2d", TODAY, date(2026, 5, 1)]
VALUES: dict[str, tuple[dict[str, st.SearchStrategy[Any]], st.SearchStrategy[Any]]] = {
    # What clauses may ask by operator, and what a request may state.
    "probe_quality": (
        {
            "ge": st.integers(-1, 102) | st.floats(0, 100),
            "between": st.tuples(st.integers(0, 100), st.integers(0, 100)),
        },
        st.integers(0, 100),
    ),
    "authorised_at": (
        dict.fromkeys(["before", "after"], st.sampled_from(MOMENTS))
        | {"between": st.tuples(*[st.sampled_from(MOMENTS)] * 2)},
        st.datetimes(AT.replace(tzinfo=None) - timedelta(40), timezones=st.just(UTC))
        | st.integers(-200, 200).map(lambda minutes: AT + timedelta(minutes=minutes)),
    ),
    "officer_accreditation_expires": (
        dict.fromkeys(["before", "after"], st.sampled_from(MOMENTS)),
        st.dates(TODAY - timedelta(40), TODAY + timedelta(5)),
    ),
    "probe_edits": (
        dict.fromkeys(
            ["subset", "not_in", "present"],
            st.lists(st.sampled_from([*REGISTRY["probe_edits"].codes]), min_size=1, max_size=5),
        ),
        st.frozensets(st.sampled_from([*REGISTRY["probe_edits"].codes])),
    ),
    "probe_model": (
        dict.fromkeys(["in", "not_in"], st.lists(st.sampled_from("abc"), min_size=1, max_size=2)),
        st.sampled_from("abcd"),
    ),
}


@pytest.mark.parametrize("name", VALUES)
@given(st.data())
@settings(max_examples=scaled(40, 1000), deadline=None)
def test_whatever_a_request_states_some_cell_has_the_same_answers(
    name: str, data: st.DataObject
) -> None:
    operators, stated = VALUES[name]
    asked = [
        clause(name, operator, data.draw(operators[operator]))
        for operator in data.draw(st.lists(st.sampled_from([*operators]), min_size=1, max_size=3))
    ]
    version = policy(agreement(clauses=asked), forces=FORCES[:1])
    agreements = version.agreements("custody", FORCES[0])
    clauses = [one for one in agreements[0].clauses if one.attribute == name]
    space = Space(agreements, "custody", FORCES[:1], AT)
    (dimension,) = [one for one in space.dimensions if one.name == name]

    def answers(facts: Facts) -> list[Verdict]:
        return [one.test(facts, AT) for one in clauses]

    wanted = answers(Facts.model_validate({name: data.draw(stated)}))
    assert wanted in [answers(facts_of([cell])) for cell in dimension.cells]


@pytest.mark.parametrize("at", [datetime.min, datetime.max])  # noqa: DTZ901 - zoned below
def test_the_ends_of_the_calendar_are_compared_too(at: datetime) -> None:
    there = at.replace(tzinfo=UTC)
    assert compare(policy(*FILES), policy(*FILES), there).same
    with pytest.raises(ValueError, match="time zone"):
        compare(policy(*FILES), policy(*FILES), at)


def only(found: PolicyDiff, force: str = FORCES[0]) -> list[tuple[str, str]]:
    return [
        (f.change.value, reason) for f in found.flips if f.force == force for reason in f.reasons
    ]


def test_a_difference_is_told_in_the_words_of_the_clause() -> None:
    stricter = deepcopy(PLAIN["clauses"])
    stricter[0]["value"] = 55
    found = compare(policy(agreement()), policy(agreement(version=2, clauses=stricter)), AT)
    assert only(found) == [("denied", "probe_quality must be at least 55; it is 54")]
    text = "\n".join(lines(found))
    assert "Newly denied, northshire, southshire: crime_investigation, pace_s64a" in text
    assert "The new version denied it: probe_quality must be at least 55; it is 54." in text
    assert "custody: agreement plain goes from version 1 to 2." in text


def test_each_reason_has_a_request_of_its_own() -> None:
    laxer = [
        one for one in PLAIN["clauses"] if one["attribute"] not in {"tried_first", "probe_model"}
    ]
    found = compare(policy(agreement()), policy(agreement(clauses=laxer, urgent=None)), AT)
    permitted = [one.failed for one in found.flips if one.change is Change.PERMITTED]
    assert permitted.count(("own.tried_first-2",)) == permitted.count(("own.probe_model-7",)) == 2
    denied = [one for one in found.flips if one.change is Change.DENIED]
    assert {one.failed for one in denied} == {("answered",)}
    assert all(one.request["urgent"] for one in denied)


def test_obligations_and_parties_that_change_are_differences() -> None:
    duties = PLAIN["obligations"] | {"retention_days": 30, "caveats": []}
    found = compare(policy(agreement()), policy(agreement(obligations=duties)), AT)
    assert not found.flips
    for duty in found.duties:
        assert duty.fields == (("retention_days", 14, 30), ("caveats", ["Not evidence."], []))
    assert [duty.force for duty in found.duties] == list(FORCES)
    slower = PLAIN["urgent"] | {"confirm_within_hours": 48}
    found = compare(policy(agreement()), policy(agreement(urgent=slower)), AT)
    assert {one.fields for one in found.duties} == {(("confirm_within_hours", 24, 48),)}

    named = agreement(id="new", agency="pnd", forces=["northshire"])
    found = compare(policy(agreement()), policy(named), AT)
    appeared = [(p.agency, p.force) for p in found.parties if p.change is Change.APPEARED]
    assert appeared == [("pnd", "northshire")]
    assert [(a.change.value, a.agreement_id) for a in found.agreements] == [
        ("appeared", "new"),
        ("vanished", "plain"),
    ]
    assert ("denied", "no agreement binds this force and custody") in only(found)


def texts(found: Sequence[lint.Finding], about: lint.About) -> list[str]:
    return [finding.text for finding in found if finding.about is about]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"clauses": [clause("probe_quality", "ge", 60), clause("probe_quality", "le", 50)]},
            "probe_quality: own.probe_quality-0 (ge 60) and own.probe_quality-1 (le 50) exclude",
        ),
        (
            {"clauses": [clause("probe_quality", "ge", 101)]},
            "probe_quality: nothing satisfies own.probe_quality-0 (ge 101)",
        ),
        (
            {"clauses": [clause("authorised_at", "after", "decided_at")]},
            "core.order-in-time (before decided_at, or at that instant) and own.authorised_at-0",
        ),
        (
            {
                "clauses": [
                    clause("probe_edits", "present", ["sketch"]),
                    clause("probe_edits", "subset", ["crop"]),
                ]
            },
            "own.probe_edits-0 (present [sketch]) and own.probe_edits-1 (subset [crop]) exclude",
        ),
        (
            {"clauses": [clause("purpose", "in", ["protect_life"])]},
            "has a gateway for crime_investigation, but own.purpose-0 permits none",
        ),
        (
            {"clauses": [clause("urgent", "in", [True]), clause("urgent", "in", [False])]},
            "urgent: own.urgent-0 (in [true]) and own.urgent-1 (in [false]) exclude each other",
        ),
    ],
)
def test_lint_names_clauses_that_exclude_each_other(changes: Any, expected: str) -> None:
    (text,) = texts(lint.findings(agreement(**changes), TODAY), lint.About.UNSATISFIABLE)
    assert expected in text


def test_lint_finds_nothing_unsatisfiable_in_what_can_be_satisfied() -> None:
    assert texts(lint.findings(agreement(), TODAY), lint.About.UNSATISFIABLE) == []
    unborn = agreement(clauses=[clause("owner_decision", "present", True)], urgent=None)
    found = lint.findings(unborn, TODAY)
    assert texts(found, lint.About.UNSATISFIABLE) == []
    assert "which no request carries" in texts(found, lint.About.CLAUSE)[0]
    answered = PLAIN["clauses"] + [clause("urgent", "in", [True], id="hurry")]
    assert texts(lint.findings(agreement(clauses=answered), TODAY), lint.About.UNSATISFIABLE) == []


def test_lint_looks_at_dates_duties_and_the_urgent_route() -> None:
    documents = deepcopy(PLAIN["documents"])
    documents["dpia"]["expires"] = date(2026, 7, 1)
    found = lint.findings(
        agreement(
            documents=documents,
            clauses=[*PLAIN["clauses"], clause("probe_source", "in", ["cctv"], id="source")],
            urgent=PLAIN["urgent"] | {"waives": ["quota", "source"]},
            obligations=PLAIN["obligations"] | {"target_fpir": 0.01},
        ),
        TODAY,
    )
    assert texts(found, lint.About.URGENT) == [
        "its urgent route waives the quota quota, so nothing bounds its use",
        "its urgent route waives source, a safeguard: probe_source",
    ]
    assert "target_fpir" in texts(found, lint.About.OBLIGATION)[0]
    assert "its documents expire on 2026-07-01" in texts(found, lint.About.DATES)[0]
    late = texts(
        lint.findings(agreement(documents=documents), date(2026, 12, 15)), lint.About.DATES
    )
    assert "its review was due on 2026-12-01" in late
    assert "dpia expired on 2026-07-01, so every request is denied" in late


def test_lint_finds_agreements_that_are_never_chosen_or_add_nothing() -> None:
    narrow = [*PLAIN["clauses"], clause("probe_quality", "ge", 60)]
    fewer = PLAIN["obligations"] | {"max_candidates": 3}
    pair = [agreement(obligations=fewer), agreement(id="shadow", clauses=narrow)]
    found = lint.findings_together(pair, TODAY)
    (shadowed,) = [finding for finding in found if finding.about is lint.About.SHADOWED]
    assert shadowed.agreement_id == "shadow"
    assert "plain comes first" in shadowed.text

    pair = [agreement(id="z"), agreement(id="a", clauses=narrow)]
    (text,) = texts(lint.findings_together(pair, TODAY), lint.About.SHADOWED)
    assert text == "adds nothing: z permits as much with the same duties"
    # One that is not in force today shadows nothing, nor one for other forces.
    lapsed = {"from": date(2026, 1, 1), "to": date(2026, 2, 1)}
    pair = [agreement(obligations=fewer, in_force=lapsed), agreement(id="b", clauses=narrow)]
    assert texts(lint.findings_together(pair, TODAY), lint.About.SHADOWED) == []
    pair = [agreement(obligations=fewer, forces=["northshire"]), agreement(id="b")]
    assert texts(lint.findings_together(pair, TODAY), lint.About.SHADOWED) == []


def test_lint_shows_a_conflict_by_a_request_that_both_permit() -> None:
    other = PLAIN["obligations"] | {"retention_days": 90}
    pair = [agreement(), agreement(id="q", obligations=other)]
    found = lint.findings_together(pair, TODAY)
    (conflict,) = [finding for finding in found if finding.about is lint.About.CONFLICT]
    assert "q permits with other duties (retention_days); plain is chosen" in conflict.text
    assert conflict.request is not None
    facts = restated(dict(conflict.request), "custody")
    at = datetime(2026, 6, 1, 12, tzinfo=UTC)
    for file in pair:
        assert policy(file, forces=["any-force"]).decide(facts, "custody", at).permitted
    apart = (
        [clause("purpose", "in", ["protect_life"])],
        [clause("purpose", "not_in", ["protect_life"])],
    )
    pair = [agreement(clauses=apart[0]), agreement(id="q", obligations=other, clauses=apart[1])]
    assert texts(lint.findings_together(pair, TODAY), lint.About.CONFLICT) == []


@pytest.fixture(scope="module")
def matrix_policy() -> CompiledPolicy:
    checked = PLAIN["obligations"] | {"hit_no_hit": True, "fields": [], "release_by_human": True}
    only_life = [
        *PLAIN["clauses"],
        clause("purpose", "in", ["protect_life"]),
        clause("probe_quality", "ge", 60),
    ]
    return policy(
        *EXAMPLES[:3],
        agreement(agency="pnd", id="first"),
        agreement(agency="pnd", id="second", obligations=checked, clauses=only_life),
        agreement(agency="nowhere", clauses=[clause("owner_decision", "present", True)]),
        agreement(agency="elsewhere", id="named", forces=["northshire"]),
    )


def test_the_matrix_agrees_with_searches(matrix_policy: CompiledPolicy) -> None:
    matrix = coverage(matrix_policy, AT, forces=["strangers"])
    cells = {(cell.force, cell.agency, cell.purpose): cell for cell in matrix.cells}
    assert len(cells) == 3 * len(matrix.agencies) * len(PURPOSES)
    rng, permitted = random.Random(11), set()
    for force, agency in [(f, a) for f in matrix.forces for a in matrix.agencies]:
        near_ones = requests_near(rng, [matrix_policy], agency, force)
        for facts in islice(near_ones, scaled(500, 10_000)):
            decision = matrix_policy.decide(facts, agency, AT)
            if not decision.permitted or decision.obligations is None:
                continue
            cell = cells[force, agency, facts.purpose or ""]
            permitted.add((force, agency, facts.purpose))
            assert cell.answer is Answer.PERMITTED
            assert decision.agreement_id in cell.agreements
            for extent, holds in (
                (cell.hit_no_hit, decision.obligations.hit_no_hit),
                (cell.release_by_human, decision.obligations.release_by_human),
            ):
                assert extent is not (Extent.NEVER if holds else Extent.ALWAYS)
            assert cell.urgent or not decision.waived
    mine = {key for key, cell in cells.items() if cell.answer is Answer.PERMITTED}
    assert permitted == mine


def test_the_matrix_says_why_it_is_denied_and_what_is_owed(matrix_policy: CompiledPolicy) -> None:
    matrix = coverage(matrix_policy, AT, forces=["strangers"])
    cells = {(cell.force, cell.agency, cell.purpose): cell for cell in matrix.cells}
    life = cells["northshire", "pnd", "protect_life"]
    assert (life.agreements, life.urgent) == (("second", "first"), True)
    assert life.hit_no_hit is life.release_by_human is Extent.SOMETIMES
    assert cells["northshire", "pnd", "crime_investigation"].agreements == ("first",)
    nowhere = cells["northshire", "nowhere", "protect_life"]
    assert (nowhere.answer, nowhere.hindered_by) == (
        Answer.UNSATISFIABLE,
        ("own.owner_decision-0",),
    )
    assert cells["southshire", "elsewhere", "protect_life"].answer is Answer.NO_AGREEMENT
    assert cells["strangers", "pnd", "protect_life"].answer is Answer.NO_AGREEMENT
    later = coverage(matrix_policy, datetime(2031, 6, 1, tzinfo=UTC)).cells
    assert {cell.answer for cell in later} == {Answer.NO_AGREEMENT, Answer.UNSATISFIABLE}
    assert (
        "core.in-force" in next(c for c in later if c.agency == "pnd" and c.agreements).hindered_by
    )

    rows = list(csv.DictReader(io.StringIO(as_csv(matrix))))
    assert len(rows) == len(matrix.cells)
    page = as_html(matrix)
    assert page.startswith("<!DOCTYPE html>")
    assert 'lang="en-GB"' in page
    assert "<script" not in page
    assert "http" not in page
    assert page.count("<td") == 2 * len(matrix.agencies) * len(PURPOSES)  # strangers have a line


def recorded(version: CompiledPolicy, facts: Facts, agency: str, n: int) -> RecordedDecision:
    decision = version.decide(facts, agency, AT)
    return RecordedDecision(
        search_id=f"search-{n}",
        agency=agency,
        facts=facts,
        at=AT,
        permitted=decision.permitted,
        code=decision.code.value,
        failed=decision.failed,
        agreement_sha256=decision.agreement_sha256,
        policy_sha256=decision.bundle_sha256,
    )


def test_a_rerun_finds_no_fault_but_in_what_was_altered() -> None:
    old = policy(agreement())
    near_ones = requests_near(random.Random(3), [old], "custody", "northshire")
    records = [recorded(old, f, "custody", n) for n, f in enumerate(islice(near_ones, 200))]
    bundles = {old.bundle.sha256: old}

    def kept(record: RecordedDecision) -> CompiledPolicy | None:
        return bundles.get(record.policy_sha256)

    clean = rerun(records, kept)
    assert (clean.total, clean.differing, faults(clean)) == (200, 0, 0)
    denied = next(record for record in records if not record.permitted)
    allowed = next(record for record in records if record.permitted)
    altered = [
        replace(denied, permitted=True, code="PERMITTED", failed=()),
        replace(denied, failed=(*denied.failed, "quota")),
        replace(allowed, agreement_sha256=b"other"),
        replace(allowed, policy_sha256=b"other"),
    ]
    found = rerun(altered, kept)
    assert [one.kind for one in found.examples] == [
        Came.ALLOW_TO_DENY,
        Came.OTHER_CLAUSES,
        Came.OTHER_AGREEMENT,
    ]
    assert (faults(found), found.counts[Came.OTHER_BUNDLE]) == (3, 1)
    # An enforcer that cannot carry out an obligation denied what the agreement permits.
    assert rerun([allowed], kept, known=frozenset()).counts[Came.ALLOW_TO_DENY] == 1


def test_a_simulation_counts_what_a_candidate_would_change_and_streams() -> None:
    old = policy(agreement())
    (flip, *_) = compare(old, policy(agreement(urgent=None)), AT).flips
    record = recorded(old, flip.facts, "custody", 1)
    candidate = policy(agreement(urgent=None))
    result = simulate([record] * 5, candidate, keep=2)
    assert result.counts[Came.ALLOW_TO_DENY] == result.by_agency["custody"][Came.ALLOW_TO_DENY] == 5
    assert len(result.examples) == 2
    shown = json.dumps(result.as_json())
    assert "officer-1" not in shown
    back = simulate([recorded(candidate, flip.facts, "custody", 1)], old)
    assert back.counts[Came.DENY_TO_ALLOW] == 1
    endless = redecide(repeat(record), candidate)  # read one by one, or this would not return
    assert [one.kind for one in islice(endless, 3)] == [Came.ALLOW_TO_DENY] * 3


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    stricter = deepcopy(PLAIN["clauses"])
    stricter[0]["value"] = 55
    versions = {
        "old": agreement(),
        "new": agreement(version=2, clauses=stricter, forces=["northshire"]),
    }
    for name, file in versions.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "plain.yaml").write_bytes(file.raw)
    return tmp_path / "old", tmp_path / "new"


def run(*arguments: object) -> str:
    result = RUN.invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_diff_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    at = ["--at", "2026-06-01T10:00:00"]
    shown = run("diff", *folders, *at, "--requests", tmp_path / "requests")
    assert max(map(len, shown.splitlines())) <= 80
    assert "Signatures were not checked" in shown
    assert "any-force stands for every force that no agreement names." in shown
    written = sorted((tmp_path / "requests").iterdir())
    document = json.loads(run("diff", *folders, *at, "--json"))
    assert document["signatures_checked"] is False
    assert len(written) == len(document["requests"]) + len(document["obligations"]) >= 2
    permitted = [
        json.loads(run("explain", "--agreements", folder, "--facts", written[0], *at, "--json"))[
            "decisions"
        ][0]["verdict"]
        for folder in folders
    ]
    assert permitted == ["permit", "deny"]

    bundle = tmp_path / "bundle.json"
    window = {"not_before": AT, "not_after": AT + timedelta(days=1)}
    bundle.write_bytes(build_bundle(folders[1], set_id="scheme", version=2, **window))
    assert "No request is answered otherwise" in run("diff", bundle, folders[1], *at)


def test_coverage_and_lint_commands(folders: tuple[Path, Path], tmp_path: Path) -> None:
    at = ["--at", "2026-06-01T10:00:00"]
    files = [tmp_path / "out" / name for name in ("matrix.csv", "matrix.html")]
    shown = run("coverage", folders[0], *at, "--csv", files[0], "--html", files[1])
    assert "permitted: urgent route" in shown
    assert max(len(line) for line in shown.splitlines() if "Wrote" not in line) <= 80
    assert all(file.read_text() for file in files)
    document = json.loads(run("coverage", folders[0], *at, "--force", "northshire", "--json"))
    assert document["forces"] == ["northshire"]
    assert len(document["cells"]) == len(PURPOSES)
    findings = json.loads(run("lint", folders[0], *at, "--json"))
    assert findings["agreements"] == 1
    assert "1 agreements load." in run("lint", folders[0], *at)
