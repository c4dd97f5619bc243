"""Loading: what is unknown refuses the file, and the error says where."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.agreements import parse_agreement, read_folder
from policy.codes import load_registry
from policy.facts import ATTRIBUTES, Operator
from policy.schema import agreement_schema
from policy.settings import limits
from policy.yaml_source import parse_yaml, read_file
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "policy" / "examples"
COMPLETE = (ROOT / "tests" / "data" / "agreement.yaml").read_text()


def refusal(text: str | bytes) -> ProbegateError:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ProbegateError) as caught:
        parse_agreement(raw, "a.yaml")
    assert caught.value.reason is Reason.BUNDLE_INVALID
    assert caught.value.metadata["file"] == "a.yaml"
    return caught.value


def line_of(text: str, fragment: str) -> str:
    return str(next(n for n, line in enumerate(text.splitlines(), 1) if fragment in line))


@pytest.mark.parametrize(
    ("old", "new", "field", "fragment"),
    [
        ("review_date:", "surprise: 1\nreview_date:", "surprise", "surprise: 1"),
        ("operator: ge", "operator: matches", "clauses.1.operator", "operator: matches"),
        ("operator: ge", "operator: before", "clauses.1.operator", "operator: before"),
        ("value: recordable", "value: very_bad", "clauses.1.value", "value: very_bad"),
        ("value: recordable", "value: missing_at_risk", "clauses.1.value", "missing_at_risk"),
        ("value: recordable", "value: [recordable]", "clauses.1.value", "value: [recordable]"),
        ("value: recordable", "value: {a: b}", "clauses.1.value", "value: {a: b}"),
        ("value: 30", "value: yes", "clauses.4.value", "value: yes"),
        ("value: decided_at-7d", "value: yesterday", "clauses.2.value", "value: yesterday"),
        ("value: [live_camera]", "value: []", "clauses.3.value", "value: []"),
        ("id: one.purpose", "id: core.sealed", "clauses.0.id", "id: core.sealed"),
        ("id: one.fresh", "id: one.purpose", "clauses", "clauses:"),
        ("code: pace_s64a", "code: because", "gateways.0.code", "code: because"),
        ("purpose: prosecution", "purpose: crime_prevention", "gateways", "gateways:"),
        ("  max_candidates: 10", "  max_candidates: 1000", "obligations.max_candidates", "1000"),
        ("  reviewers: 2", "  reviewers: 1", "obligations.reviewers", "reviewers: 1"),
        ("  min_score: 0.42", "  min_score: .nan", "obligations.min_score", ".nan"),
        ("  min_score: 0.42", "  min_score: true", "obligations.min_score", "min_score: true"),
        ("hit_no_hit: false", "hit_no_hit: 'no'", "obligations.hit_no_hit", "'no'"),
        ("version: 1\n", "version: '1'\n", "version", "version: '1'"),
        ("expires: 2030-12-31", "expires: 4102444800", "documents.dpia.expires", "4102444800"),
        ("hit_no_hit: false", "hit_no_hit: true", "obligations", "obligations:"),
        ("  mode: investigation", "  mode: guess", "obligations.mode", "mode: guess"),
        ("to: 2030-12-31}", "to: 2025-12-31}", "in_force.to", "to: 2025-12-31"),
        ("expires: 2030-12-31", "expires: 2024-01-01", "documents.dpia.expires", "2024-01-01"),
        ("review_date: 2027-06-30", "review_date: 2027-02-30", "review_date", "2027-02-30"),
        ("id: complete\n", "", "id", "version: 1"),
        ("    operator: ge\n", "", "clauses.1.operator", "- id: one.seriousness"),
        ("version: 1\n", "version: 1\nversion: 2\n", "version", "version: 2"),
        # Quotas.
        ("per: officer", "per: person", "quotas.0.per", "per: person"),
        ("window: day", "window: week", "quotas.0.window", "window: week"),
        ("most: 3", "most: 0", "quotas.0.most", "most: 0"),
        ("most: 3", "most: '3'", "quotas.0.most", "most: '3'"),
        ("most: 3", "most: 10000001", "quotas.0.most", "most: 10000001"),
        ("most: 3", "most: 3.5", "quotas.0.most", "most: 3.5"),
        ("most: 100", "least: 100", "quotas.1.most", "- id: quota.force-month"),
        ("most: 100\n", "most: 100\n    grace: 1\n", "quotas.1.grace", "grace: 1"),
        ("id: quota.officer-day", "id: core.quota", "quotas.0.id", "id: core.quota"),
        ("id: quota.officer-day", "id: one.fresh", "quotas", "quotas:"),
        ("id: quota.force-month", "id: quota.officer-day", "quotas", "quotas:"),
        # Prior answers.
        ("within_days: 30", "within_days: 0", "answered_first.0.within_days", "within_days: 0"),
        ("within_days: 30", "within_days: 367", "answered_first.0.within_days", "within_days: 367"),
        ("agencies: [pnd, passport]", "agencies: []", "answered_first.0.agencies", "agencies: []"),
        ("[pnd, passport]", "[pnd, pnd]", "answered_first.0.agencies", "[pnd, pnd]"),
        ("[pnd, passport]", "[pnd, P N D]", "answered_first.0.agencies.1", "P N D"),
        ("id: first.police", "id: quota.officer-day", "answered_first", "answered_first:"),
        ("id: first.police", "id: core.first", "answered_first.0.id", "id: core.first"),
        ("within_days: 30", "since: 30", "answered_first.0.within_days", "- id: first.police"),
        # The urgent route.
        ("waives: [one.fresh", "waives: [one.stale", "urgent", "urgent:"),
        ("waives: [one.fresh", "waives: [core.sealed", "urgent", "urgent:"),
        ("[one.fresh, first.police, quota.officer-day]", "[]", "urgent.waives", "waives: []"),
        ("purposes: [crime_investigation]", "purposes: [missing_person]", "urgent", "urgent:"),
        (
            "purposes: [crime_investigation]",
            "purposes: [holiday]",
            "urgent.purposes.0",
            "purposes: [holiday]",
        ),
        ("purposes: [crime_investigation]", "purposes: []", "urgent.purposes", "purposes: []"),
        ("within_hours: 24", "within_hours: 169", "urgent.confirm_within_hours", "hours: 169"),
        ("within_hours: 24", "within_hours: 0", "urgent.confirm_within_hours", "hours: 0"),
        ("rank: superintendent", "rank: captain", "urgent.confirmer_rank", "rank: captain"),
        ("  confirmer_rank: superintendent\n", "", "urgent.confirmer_rank", "urgent:"),
        ("urgent:\n", "urgent:\n  anyone: true\n", "urgent.anyone", "anyone: true"),
        # The words and the reuse of reasons.
        ("attribute: necessity_words", "attribute: necessity", "clauses.5.operator", None),
        ("operator: le\n", "operator: before\n", "clauses.6.operator", "operator: before"),
        ("    value: 6", "    value: six", "clauses.5.value", "value: six"),
        ("    value: 6", "    value: [6]", "clauses.5.value", "value: [6]"),
        ("    value: 6", "    value: true", "clauses.5.value", "value: true"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_field(
    old: str, new: str, field: str, fragment: str | None
) -> None:
    assert old in COMPLETE
    text = COMPLETE.replace(old, new, 1)
    error = refusal(text)
    assert error.metadata["field"] == field
    if fragment is None:  # the fault is on another line of the clause than what was changed
        assert int(error.metadata["line"]) > 1
    else:
        assert error.metadata["line"] == line_of(text, fragment)


def test_the_agreement_that_is_changed_here_loads_unchanged_and_has_every_section() -> None:
    agreement = parse_agreement(COMPLETE.encode(), "a.yaml").agreement
    assert agreement.model_fields_set == set(type(agreement).model_fields)
    assert agreement.urgent is not None
    assert [quota.counter for quota in agreement.quotas] == ["officer.day", "force.month"]


@pytest.mark.parametrize("section", ["quotas", "answered_first", "urgent"])
@pytest.mark.parametrize(
    "value", ["1", "yes", "'x'", "[1]", "{a: 1}", "[{}]", "[[]]", "2026-01-01"]
)
def test_a_section_of_another_shape_is_named(section: str, value: str) -> None:
    kept = [line for line in COMPLETE.splitlines() if not line.startswith(f"{section}:")]
    start = COMPLETE.splitlines().index(f"{section}:")
    while start < len(kept) and kept[start].startswith(" "):
        del kept[start]
    text = "\n".join([*kept, f"{section}: {value}"])
    error = refusal(text)
    assert error.metadata["field"].split(".")[0] in {section, "urgent"}
    assert int(error.metadata["line"]) > 1


def test_an_unknown_attribute_is_named_even_though_operator_and_value_depend_on_it() -> None:
    text = COMPLETE.replace("attribute: offence_seriousness", "attribute: mood")
    assert refusal(text).metadata["field"] == "clauses.1.attribute"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b",
        "just words",
        "a: &x [1]\nb: *x",
        "a: !!python/object/apply:os.system [ls]",
        "? [1, 2]\n: b",
        "1: number",
        "a: [" + "[" * 5000,
        "a: " + "[" * 40 + "]" * 40,
        "a: b: c",
        "a: 2026-99-99",
        "a: " + "9" * 5000,
        "--- {a: 1}\n--- {b: 2}",
        b"\xff\xfe",
        b"a: \x00",
        "x" * (limits().max_file_bytes + 1),
        "a: [" + "1, " * (limits().max_yaml_nodes + 1) + "]",
    ],
)
def test_files_that_are_not_plain_yaml_are_refused(text: str | bytes) -> None:
    refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 060",
        "a: 0x1F",
        "a: 0b11",
        "a: 1:30",
        "a: 1_000",
        "a: .inf",
        "a: .nan",
        "a: 1.0e+400",
        "a: yes",
        "a: No",
        "a: on",
        "a: &x 5",
        "a: &x {b: c}",
        "a: !!null 0.001",
        "a: !!bool maybe",
        'a: !!bool "no"',
        'a: !!timestamp "foo"',
        'a: !!int ""',
        "a: !!str 5",
        "a: ! 5",
        "a: !!seq [1]",
        "a: =",
        "a: <<",
    ],
)
def test_what_yaml_reads_otherwise_than_it_seems_is_refused(text: str) -> None:
    with pytest.raises(ProbegateError) as caught:
        parse_yaml(text.encode(), "a.yaml")
    assert caught.value.reason is Reason.BUNDLE_INVALID
    assert caught.value.metadata["line"] == "1"


def test_what_is_written_plainly_is_read_as_it_seems() -> None:
    text = "[0, -60, 0.05, 1.5e-3, true, FALSE, Null, 2026-01-31, 'no', \"060\", a word, +5, .5]"
    numbers, day = [0, -60, 0.05, 1.5e-3], date(2026, 1, 31)
    read = parse_yaml(text.encode(), "a.yaml").data
    assert read == [*numbers, True, False, None, day, "no", "060", "a word", 5, 0.5]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=scaled(100, 5000), deadline=None)
def test_no_bytes_are_a_traceback(raw: bytes) -> None:
    refusal(raw)


@given(st.data())
@settings(max_examples=scaled(100, 3000), deadline=None)
def test_no_change_to_a_line_is_a_traceback(data: st.DataObject) -> None:
    lines = COMPLETE.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    lines[index] = lines[index].split(":")[0] + ": " + data.draw(st.text(max_size=30))
    changed = "\n".join(lines).encode()
    try:
        parse_agreement(changed, "a.yaml")
    except ProbegateError:
        assert int(refusal(changed).metadata["line"]) >= 1


@given(st.text(min_size=1, max_size=20).filter(lambda name: name.isidentifier()))
@settings(max_examples=scaled(30, 500), deadline=None)
def test_any_unknown_field_refuses_the_file(name: str) -> None:
    refusal(f"{COMPLETE}\nx_{name}: 1\n")


@pytest.mark.parametrize("hidden", ["\u202e", "\x9b", "\u2066"])
def test_text_that_reads_otherwise_than_it_is_signed_is_refused(hidden: str) -> None:
    refusal(COMPLETE.replace("title: Appropriate", f"title: {hidden}Appropriate"))


def test_an_error_is_one_printable_line_whatever_a_key_holds() -> None:
    error = refusal(COMPLETE + '"\\e[31m\\n\\u202Efield": 1\n')
    assert error.line().isprintable()
    assert error.metadata["field"] == "?[31m??field"


def test_nothing_personal_can_be_written_into_an_agreement() -> None:
    for attribute in ATTRIBUTES.values():
        if attribute.personal:
            assert attribute.operators == {Operator.PRESENT}


def test_an_id_used_twice_refuses_the_folder(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(COMPLETE)
    (tmp_path / "two.yaml").write_text(COMPLETE)
    with pytest.raises(ProbegateError, match=r"file=two.yaml, line=1, field=id"):
        read_folder(tmp_path)


def test_a_folder_that_is_empty_or_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ProbegateError, match="no agreements"):
        read_folder(tmp_path)
    with pytest.raises(ProbegateError) as caught:
        read_folder(tmp_path / "nowhere")
    assert caught.value.reason is Reason.FILE_MISSING


def test_the_registry_is_read_as_strictly(tmp_path: Path) -> None:
    path = tmp_path / "codes.yaml"
    path.write_text("purpose:\n  title: P\n  codes: {a: {title: A, colour: red}}\n")
    with pytest.raises(ProbegateError) as caught:
        load_registry(path)
    assert caught.value.metadata["field"] == "purpose.codes.a.colour"
    assert caught.value.metadata["line"] == "3"


def test_the_published_schema_is_fresh_and_accepts_the_examples() -> None:
    published = (ROOT / "docs" / "agreement.schema.json").read_text()
    assert published == agreement_schema()
    validator = jsonschema.Draft202012Validator(json.loads(published))
    for file in read_folder(EXAMPLES):
        plain = json.loads(json.dumps(parse_yaml(file.raw, file.name).data, default=str))
        validator.validate(plain)
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(plain | {"surprise": 1})


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as stream:
        stream.truncate(limits().max_bundle_bytes + 1)
    with pytest.raises(ProbegateError, match="larger than"):
        read_file(path)
