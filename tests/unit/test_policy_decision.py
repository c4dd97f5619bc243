"""The decision: default deny, three-valued, total, and never helped by leaving a fact out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import explain
from policy.agreements import read_folder
from policy.bundle import unsigned_bundle_for_dry_run
from policy.clause_model import Clause
from policy.clauses import REDACTED, Verdict, compile_clause
from policy.codes import REGISTRY
from policy.decision import (
    CompiledPolicy,
    Decision,
    DecisionCode,
    Outcome,
    PartyAgreement,
    compile_bundle,
    enforceable,
    enforced,
    unknown_obligations,
)
from policy.facts import ATTRIBUTES, Attribute, Facts, Kind, Operator, facts_of_order
from policy.standing import assume_nothing_on_record
from policy.yaml_source import parse_yaml
from tests.scale import scaled
from trust import messages

EXAMPLES = Path(__file__).parents[2] / "policy" / "examples"
FORCE = "example-force"
AT = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
AGENCIES = ("custody", "pnd", "passport", "asylum", "nhs", "dwp")
BASE: dict[str, Any] = parse_yaml((EXAMPLES / "custody/cases.yaml").read_bytes(), "base").data[
    "base"
]
FILES = read_folder(EXAMPLES)
POLICY = compile_bundle(unsigned_bundle_for_dry_run(FILES, [FORCE]))
ON_RECORD = assume_nothing_on_record(AGENCIES).model_copy(
    update={"answered": {name: AT - timedelta(hours=1) for name in ("custody", "pnd")}}
)
"""The police's own galleries answered before; nothing else is on record."""
BASE["standing"] = ON_RECORD


def facts(**changes: Any) -> Facts:
    return Facts.model_validate(BASE | changes)


def decide(agency: str = "custody", at: datetime = AT, **changes: Any) -> Decision:
    return POLICY.decide(facts(**changes), agency, at)


def values_of(attribute: Attribute) -> st.SearchStrategy[Any]:
    """Values a request might state, known words and unknown ones alike."""
    if attribute.name == "force":
        return st.sampled_from([None, FORCE, "stranger"])
    words = (
        st.sampled_from([*attribute.vocabulary.codes, "never-heard-of"])
        if attribute.vocabulary
        else st.nothing()
    )
    instants = st.datetimes(timezones=st.just(UTC))
    kinds: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.CODE: words,
        Kind.CODES: st.frozensets(words, max_size=4) if attribute.vocabulary else st.nothing(),
        Kind.TEXT: st.sampled_from(["a", "officer-1@example-force", FORCE]),
        Kind.BOOLEAN: st.booleans(),
        Kind.NUMBER: st.integers(0, 100),
        Kind.DATE: st.dates(),
        Kind.INSTANT: st.one_of(instants, st.just(AT - timedelta(minutes=5))),
    }
    return st.none() | kinds[attribute.kind]


STATED = {n: a for n, a in ATTRIBUTES.items() if n in Facts.model_fields}
ANY_FACTS = st.fixed_dictionaries(
    {n: values_of(a) for n, a in STATED.items()} | {"standing": st.sampled_from([None, ON_RECORD])}
)


@st.composite
def nearly_lawful(draw: st.DrawFn) -> dict[str, Any]:
    """The lawful request with a few facts changed, so that permits are common too."""
    changed = draw(st.lists(st.sampled_from(sorted(STATED)), max_size=3, unique=True))
    return BASE | {name: draw(values_of(STATED[name])) for name in changed}


def test_the_lawful_request_is_permitted_with_every_clause_shown() -> None:
    decision = decide("passport")
    assert decision.waived == ()
    assert (decision.verdict, decision.code) == (Outcome.PERMIT, DecisionCode.PERMITTED)
    assert decision.failed == ()
    assert {clause.verdict for clause in decision.clauses} == {Verdict.SATISFIED}
    assert decision.agreement_id == "example-passport"
    assert decision.agreement_sha256 == next(
        f.sha256 for f in FILES if f.agreement.agency == "passport"
    )
    assert decision.bundle_sha256 == POLICY.bundle.sha256
    assert decision.obligations is not None
    passport = next(f.agreement for f in FILES if f.agreement.agency == "passport")
    assert decision.obligations.for_grant.max_candidates == passport.obligations.max_candidates


@given(nearly_lawful(), st.sampled_from(AGENCIES))
@settings(max_examples=scaled(150, 5000), deadline=None)
def test_removing_a_fact_never_turns_a_denial_into_a_permit(
    stated: dict[str, Any], agency: str
) -> None:
    before = POLICY.decide(Facts.model_validate(stated), agency, AT)
    for name in STATED:
        without = POLICY.decide(Facts.model_validate(stated | {name: None}), agency, AT)
        assert before.permitted or not without.permitted, name


@pytest.mark.parametrize("name", sorted(Facts.model_fields))
@pytest.mark.parametrize("agency", ["custody", "asylum"])
def test_a_fact_that_a_clause_reads_is_never_assumed(name: str, agency: str) -> None:
    (compiled,) = POLICY.agreements(agency, FORCE)
    read = {clause.attribute.removesuffix("_words") for clause in compiled.clauses}
    optional = {"offence_code", "probe_captured_at", "probe_model", "urgent"} - read
    decision = POLICY.decide(facts(**{name: None}), agency, AT)
    assert decision.permitted == (name in optional)


@given(ANY_FACTS, st.sampled_from([*AGENCIES, "nobody"]), st.datetimes(timezones=st.timezones()))
@settings(max_examples=scaled(150, 5000), deadline=None)
def test_the_decision_and_its_explanation_are_total(
    stated: dict[str, Any], agency: str, at: datetime
) -> None:
    decision = POLICY.decide(Facts.model_validate(stated), agency, at)
    assert decision.permitted == (decision.code is DecisionCode.PERMITTED)
    assert bool(decision.failed) == (
        decision.code in {DecisionCode.CLAUSES_FAILED, DecisionCode.AGREEMENT_EXPIRED}
    )
    assert explain.lines(decision)
    assert explain.as_json(decision)["failed"] == list(decision.failed)


@pytest.mark.parametrize("at", [datetime.min, datetime.max])  # noqa: DTZ901 - zoned below
@pytest.mark.parametrize("hours", [-14, 0, 14])
def test_the_ends_of_the_calendar_are_decided_too(at: datetime, hours: int) -> None:
    there = at.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert decide(at=there).code is DecisionCode.AGREEMENT_EXPIRED


def test_an_instant_without_a_zone_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="time zone"):
        decide(at=AT.replace(tzinfo=None))


@given(nearly_lawful(), st.sampled_from(AGENCIES))
@settings(max_examples=scaled(50, 1000), deadline=None)
def test_the_same_question_has_the_same_answer_whatever_the_order_of_the_files(
    stated: dict[str, Any], agency: str
) -> None:
    again = compile_bundle(
        replace(POLICY.bundle, agreements=tuple(reversed(POLICY.bundle.agreements)))
    )
    asked = Facts.model_validate(stated)
    one, other = POLICY.decide(asked, agency, AT), again.decide(asked, agency, AT)
    assert one == other
    assert one.clauses == other.clauses
    assert explain.lines(one) == explain.lines(other)


def test_without_an_agreement_nothing_is_permitted() -> None:
    for changed in ({"force": "stranger"}, {"force": None}):
        decision = POLICY.decide(facts(**changed), "custody", AT)
        assert decision.code is DecisionCode.NO_AGREEMENT
        assert decision.considered == decision.failed == ()
    assert decide("education").code is DecisionCode.NO_AGREEMENT


def test_two_people_are_required_and_nobody_can_assert_that_they_are_two() -> None:
    for authoriser in ("officer-1@example-force", " OFFICER-1@example-force "):
        assert decide(authoriser_id=authoriser).failed == ("core.authoriser-independent",)
    with pytest.raises(ValueError, match="authoriser_independent"):
        facts(authoriser_independent=True)


def test_a_copy_with_a_fact_replaced_is_decided_on_the_new_facts() -> None:
    lawful = facts()
    assert POLICY.decide(lawful, "custody", AT).permitted
    changed = lawful.model_copy(update={"purpose": "civil_penalty"})
    assert not POLICY.decide(changed, "custody", AT).permitted


def test_an_unknown_word_in_any_coded_fact_is_a_denial_that_names_the_fact() -> None:
    for name, attribute in STATED.items():
        if attribute.vocabulary is None:
            continue
        word: Any = ["crop", "made-up"] if attribute.kind is Kind.CODES else "made-up"
        decision = decide(**{name: word})
        assert "core.known-codes" in decision.failed
        verdict = next(c for c in decision.clauses if c.clause_id == "core.known-codes")
        assert verdict.actual == f"unknown: {name}"


def test_personal_values_are_redacted_everywhere() -> None:
    secret = "Zebedee-Personal"
    personal = {name: secret for name, a in STATED.items() if a.personal}
    assert len(personal) >= 5
    decision = POLICY.decide(facts(**personal), "custody", AT)
    shown = repr(decision) + str(explain.as_json(decision)) + "".join(explain.lines(decision))
    assert secret not in shown
    assert any(c.actual == REDACTED for c in decision.clauses)
    assert secret not in repr(facts(**personal))


def amended(agency: str, agreement_id: str, **obligations: Any) -> PartyAgreement:
    file = next(f for f in FILES if f.agreement.agency == agency)
    duties = file.agreement.obligations.model_copy(update=obligations)
    agreement = file.agreement.model_copy(update={"id": agreement_id, "obligations": duties})
    return PartyAgreement(replace(file, agreement=agreement), frozenset({FORCE}))


def policy_of(*agreements: PartyAgreement) -> CompiledPolicy:
    return compile_bundle(replace(POLICY.bundle, agreements=agreements))


def test_of_several_that_permit_the_one_that_discloses_least_is_chosen() -> None:
    generous = amended("custody", "a", max_candidates=20)
    modest = amended("custody", "b", max_candidates=2)
    fewer_fields = amended("custody", "d", max_candidates=2, fields=("reference",))
    hit = amended("custody", "c", max_candidates=50, hit_no_hit=True, fields=())
    asked = facts()
    for offered, expected in (
        ((generous, modest), "b"),
        ((generous, modest, fewer_fields), "d"),
        ((generous, modest, fewer_fields, hit), "c"),
        ((amended("custody", "y"), amended("custody", "x")), "x"),
    ):
        decision = policy_of(*offered).decide(asked, "custody", AT)
        assert decision.agreement_id == expected
        assert set(decision.considered) == {party.file.agreement.id for party in offered}


def test_a_failing_agreement_does_not_veto_one_that_permits() -> None:
    stricter = amended("custody", "stricter")
    clause = Clause(
        id="x.never", citation="x", attribute="offence_code", operator=Operator.IN, value=("none",)
    )
    agreement = stricter.file.agreement.model_copy(update={"clauses": (clause,), "urgent": None})
    never = replace(stricter, file=replace(stricter.file, agreement=agreement))
    decision = policy_of(never, amended("custody", "z")).decide(facts(), "custody", AT)
    assert decision.agreement_id == "z"
    assert {c.verdict for c in decision.clauses if c.clause_id == "x.never"} == {Verdict.VIOLATED}
    assert policy_of(never).decide(facts(), "custody", AT).failed == ("x.never",)


def test_a_lapsed_bundle_puts_nothing_in_force() -> None:
    lapsed = replace(POLICY.bundle, not_after=AT - timedelta(seconds=1))
    decision = compile_bundle(lapsed).decide(facts(), "custody", AT)
    assert decision.code is DecisionCode.AGREEMENT_EXPIRED
    assert decision.failed == ("core.bundle-current",)


def test_an_obligation_the_enforcer_does_not_know_is_a_denial() -> None:
    decision = decide("passport")
    assert decision.obligations is not None
    every = frozenset(type(decision.obligations).model_fields)
    assert enforceable(decision.obligations, every)
    assert enforced(decision, every) is decision
    denied = enforced(decision, every - {"onward_transfer", "hit_no_hit"})
    assert (denied.permitted, denied.code) == (False, DecisionCode.OBLIGATION_UNKNOWN)
    # hit_no_hit is false here, so it binds nobody.
    assert denied.unknown_obligations == ("onward_transfer",)
    assert denied.obligations is None
    assert "onward_transfer" in explain.headline(denied)
    assert unknown_obligations(decision.obligations, every - {"fields"}) == ("fields",)


OPERATOR_CASES = [
    ("purpose", "in", ("prosecution",), "prosecution", True),
    ("purpose", "in", ("prosecution",), "protect_life", False),
    ("purpose", "not_in", ("prosecution",), "protect_life", True),
    ("purpose", "not_in", ("prosecution",), "prosecution", False),
    ("purpose", "not_in", ("prosecution",), "made-up", False),
    ("authoriser_rank", "ge", "inspector", "inspector", True),
    ("authoriser_rank", "ge", "inspector", "sergeant", False),
    ("authoriser_rank", "le", "inspector", "constable", True),
    ("authoriser_rank", "between", ("sergeant", "inspector"), "chief_inspector", False),
    ("authoriser_rank", "ge", "police_staff", "made-up", False),
    ("offence_seriousness", "ge", "none", "missing_at_risk", False),
    ("probe_quality", "ge", 40, 40, True),
    ("probe_quality", "le", 40, 41, False),
    ("probe_quality", "between", (10, 20), 20, True),
    ("probe_edits", "subset", ("crop", "rotate"), [], True),
    ("probe_edits", "subset", ("crop", "rotate"), ["crop", "sketch"], False),
    ("probe_edits", "not_in", ("sketch",), ["crop"], True),
    ("probe_edits", "not_in", ("sketch",), ["crop", "sketch"], False),
    ("probe_edits", "not_in", ("sketch",), ["made-up"], False),
    ("tried_first", "present", ("pnd",), ["pnd", "dna"], True),
    ("tried_first", "present", ("pnd", "dna"), ["pnd"], False),
    ("tried_first", "present", True, [], True),
    ("urgent", "in", (False,), True, False),
    ("urgent", "present", True, False, True),
    ("offence_code", "not_in", ("x",), "y", True),
    ("authorised_at", "after", "decided_at-1h", AT - timedelta(minutes=59), True),
    ("authorised_at", "after", "decided_at-1h", AT - timedelta(hours=1), False),
    ("authorised_at", "before", "decided_at", AT, False),
    ("authorised_at", "between", ("decided_at-1d", "decided_at"), AT, True),
    ("authorised_at", "before", date(2026, 6, 1), AT, False),
    ("authorised_at", "after", "2026-06-01", AT, False),
    ("authorised_at", "between", (date(2026, 6, 1), date(2026, 6, 1)), AT, True),
    ("officer_accreditation_expires", "after", "decided_at", date(2026, 6, 1), False),
    ("officer_accreditation_expires", "after", "decided_at+30d", date(2026, 7, 2), True),
    ("officer_accreditation_expires", "before", date(2027, 1, 1), date(2026, 12, 31), True),
]


@pytest.mark.parametrize(("attribute", "operator", "value", "actual", "holds"), OPERATOR_CASES)
def test_each_operator_means_what_it_says(
    attribute: str, operator: str, value: Any, actual: Any, *, holds: bool
) -> None:
    clause = Clause(
        id="c", citation="c", attribute=attribute, operator=Operator(operator), value=value
    )
    test = compile_clause(clause).test
    expected = Verdict.SATISFIED if holds else Verdict.VIOLATED
    assert test(Facts.model_validate({attribute: actual}), AT) is expected
    assert test(Facts(), AT) is Verdict.INDETERMINATE


def test_every_operator_of_every_attribute_is_tried_above_or_by_the_examples() -> None:
    tried = {(ATTRIBUTES[a].kind, Operator(o)) for a, o, *_ in OPERATOR_CASES}
    assert {operator for _, operator in tried} == set(Operator)
    assert {kind for kind, _ in tried} == set(Kind)


def test_a_signed_order_becomes_facts_with_blanks_missing() -> None:
    order = messages.SearchOrder(
        request_id="12345678-1234-1234-1234-123456789abc",
        force=FORCE,
        officer=messages.Person(id="o", rank="constable"),
        authoriser=messages.Person(id="a", rank="inspector"),
        authorised_at=AT,
        justification=messages.Justification(
            purpose="protect_life", legal_basis="common_law_policing", case_reference="C1"
        ),
        probe=messages.ProbeManifest(
            source="cctv", quality=50, model="m", dims=4, commitment=b"c" * 32
        ),
        agencies=("custody",),
        created_at=AT,
        expires_at=AT + timedelta(minutes=1),
    )
    stated = facts_of_order(order, sealed=True)
    assert stated.officer_role is None
    assert stated.necessity is None
    assert stated.offence_code is None
    assert stated.tried_first == frozenset()
    assert stated.authoriser_independent is True
    assert stated.sealed is True


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        REGISTRY["purpose"] = REGISTRY["aim"]  # type: ignore[index]
    with pytest.raises(TypeError):
        REGISTRY["purpose"].codes["new"] = REGISTRY["aim"].codes["more_on_known"]  # type: ignore[index]
