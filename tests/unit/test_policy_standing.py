"""What is on record decides too: quotas, prior answers, urgency, switches, reasons used before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from policy import explain, reasons
from policy.agreements import parse_agreement
from policy.bundle import unsigned_bundle_for_dry_run
from policy.cases import dry_run_facts
from policy.clauses import Verdict
from policy.decision import Decision, DecisionCode, compile_bundle, enforced
from policy.facts import Facts
from policy.standing import COUNTERS, Standing, assume_nothing_on_record
from tests.scale import scaled

FILE = parse_agreement(
    (Path(__file__).parents[1] / "data" / "agreement.yaml").read_bytes(), "agreement.yaml"
)
FORCE = "example-force"
AT = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
POLICY = compile_bundle(unsigned_bundle_for_dry_run([FILE], [FORCE]))
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
QUOTA, MONTHLY, FIRST, FRESH = (
    "quota.officer-day",
    "quota.force-month",
    "first.police",
    "one.fresh",
)
REASONS = "The person seen on this camera has not been named by any officer here."
LAWFUL: dict[str, Any] = {
    "force": FORCE,
    "purpose": "crime_investigation",
    "legal_basis": "pace_s64a",
    "schedule8_condition": "statutory_purposes",
    "aim": "identify_unknown",
    "subject_category": "suspect",
    "offence_seriousness": "serious_crime",
    "case_reference": "EX/2026/0001",
    "necessity": REASONS,
    "proportionality": REASONS,
    "officer_id": "officer-1",
    "officer_role": "facial_search_operator",
    "officer_rank": "constable",
    "officer_accreditation": "facial-search-2026",
    "officer_accreditation_expires": "2027-03-31",
    "authoriser_id": "authoriser-1",
    "authoriser_rank": "inspector",
    "tried_first": ["own_custody"],
    "probe_source": "cctv",
    "probe_quality": 72,
    "probe_edits": ["crop"],
    "probe_model": "model-1",
    "sealed": True,
    "authorised_at": AT - HOUR,
    "urgent": False,
}
ANSWERED = {"pnd": AT - HOUR, "passport": AT - DAY}


def decide(
    standing: Mapping[str, Any] | None = None, at: datetime = AT, **changes: Any
) -> Decision:
    """Decide on the lawful request, with both agencies' answers and ``standing`` on record."""
    record = {"answered": ANSWERED} | dict(standing or {})
    facts = dry_run_facts(LAWFUL | changes | {"standing": record}, ["custody"])
    return POLICY.decide(facts, "custody", at)


def verdict_of(decision: Decision, clause_id: str) -> tuple[Verdict, str | None, bool]:
    (clause,) = [c for c in decision.clauses if c.clause_id == clause_id]
    return clause.verdict, clause.actual, clause.waived


def counted(**counts: int) -> dict[str, Any]:
    named = {name.replace("_", "."): count for name, count in counts.items()}
    return {"earlier_searches": {"custody": named}}


def test_the_lawful_request_is_permitted_without_the_urgent_route() -> None:
    decision = decide()
    assert decision.failed == ()
    assert decision.permitted
    assert (decision.waived, decision.confirm_by, decision.confirmer_rank) == ((), None, "")


def test_without_a_record_nothing_is_permitted_and_each_clause_on_it_is_indeterminate() -> None:
    decision = POLICY.decide(Facts.model_validate(LAWFUL), "custody", AT)
    expected = {
        QUOTA,
        MONTHLY,
        FIRST,
        "one.reused",
        "core.not-switched-off",
        "core.urgent-confirmed",
    }
    assert set(decision.failed) == expected
    for clause_id in expected:
        assert verdict_of(decision, clause_id) == (Verdict.INDETERMINATE, None, False)


@pytest.mark.parametrize(
    ("count", "permitted"), [(0, True), (2, True), (3, False), (2**53 - 1, False)]
)
def test_a_quota_is_used_up_by_its_last_search(count: int, permitted: bool) -> None:  # noqa: FBT001 - a table's column
    decision = decide(counted(officer_day=count))
    assert decision.permitted is permitted
    assert decision.failed == (() if permitted else (QUOTA,))
    verdict = Verdict.SATISFIED if permitted else Verdict.VIOLATED
    assert verdict_of(decision, QUOTA) == (verdict, str(count), False)
    text = "\n".join(explain.lines(decision))
    assert f"earlier_searches.officer.day must be at most 2; it is {count}" in text


def test_each_quota_reads_its_own_counter_at_its_own_agency() -> None:
    for name in COUNTERS:
        failed = decide({"earlier_searches": {"custody": {name: 10_000}}}).failed
        assert failed == {"officer.day": (QUOTA,), "force.month": (MONTHLY,)}.get(name, ())
    assert decide({"earlier_searches": {"pnd": dict.fromkeys(COUNTERS, 10_000)}}).permitted


def test_a_counter_that_is_not_known_is_not_assumed_to_be_nought() -> None:
    standing = assume_nothing_on_record(["pnd"]).model_copy(update={"answered": ANSWERED})
    facts = Facts.model_validate(LAWFUL | {"standing": standing})
    decision = POLICY.decide(facts, "custody", AT)
    assert decision.failed == (QUOTA, MONTHLY)
    assert verdict_of(decision, QUOTA) == (Verdict.INDETERMINATE, None, False)


@pytest.mark.parametrize(
    ("pnd", "verdict"),
    [
        (AT - 30 * DAY, Verdict.SATISFIED),
        (AT - 30 * DAY - TICK, Verdict.VIOLATED),
        (AT, Verdict.SATISFIED),
        (AT + TICK, Verdict.VIOLATED),
        (None, Verdict.INDETERMINATE),
    ],
)
def test_a_prior_answer_counts_for_as_long_as_it_says(
    pnd: datetime | None, verdict: Verdict
) -> None:
    answered = {name: at for name, at in (ANSWERED | {"pnd": pnd}).items() if at is not None}
    decision = decide({"answered": answered})
    assert decision.permitted is (verdict is Verdict.SATISFIED)
    assert decision.failed == (() if decision.permitted else (FIRST,))
    found, actual, _ = verdict_of(decision, FIRST)
    assert found is verdict
    assert "passport at 2026-05-31T10:00:00+00:00" in str(actual)
    assert "[pnd, passport] within 30 days" in "\n".join(explain.lines(decision))


def test_the_requesters_word_that_it_was_tried_is_no_proof() -> None:
    decision = decide({"answered": {}}, tried_first=["own_custody", "pnd", "documents"])
    assert decision.failed == (FIRST,)
    assert verdict_of(decision, FIRST) == (Verdict.INDETERMINATE, None, False)
    assert decide({"answered": {"elsewhere": AT}}).failed == (FIRST,)


def test_the_urgent_route_shows_what_it_waived_and_by_when_to_confirm() -> None:
    stale = AT - 8 * DAY
    record = {"answered": {"pnd": AT - HOUR}} | counted(officer_day=3)
    decision = decide(record, urgent=True, authorised_at=stale)
    assert decision.permitted
    assert decision.failed == ()
    assert decision.waived == (FRESH, QUOTA, FIRST)
    assert decision.confirm_by == AT + 24 * HOUR
    assert decision.confirmer_rank == "superintendent"
    assert verdict_of(decision, FRESH)[::2] == (Verdict.VIOLATED, True)
    assert verdict_of(decision, FIRST)[::2] == (Verdict.INDETERMINATE, True)
    assert verdict_of(decision, MONTHLY)[::2] == (Verdict.SATISFIED, False)
    text = "\n".join(explain.lines(decision))
    assert f"waived: {FIRST}" in text
    assert "2026-06-02T10:00:00+00:00, by a superintendent or above" in text
    shown = explain.as_json(decision)
    assert shown["waived"] == [FRESH, QUOTA, FIRST]
    assert shown["confirm_by"] == "2026-06-02T10:00:00+00:00"
    # The same request that does not state urgency is denied for each of them.
    assert decide(record, authorised_at=stale).failed == (FRESH, QUOTA, FIRST)
    assert decide(record, authorised_at=stale, urgent=None).failed == (FRESH, QUOTA, FIRST)


def test_an_urgent_request_that_needs_no_waiver_needs_no_confirmation() -> None:
    decision = decide(urgent=True)
    assert decision.permitted
    assert (decision.waived, decision.confirm_by, decision.confirmer_rank) == ((), None, "")


def test_the_urgent_route_waives_nothing_else() -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"probe_quality": 10}, "one.quality"),
        ({"sealed": False}, "core.sealed"),
        ({"authoriser_id": "officer-1"}, "core.authoriser-independent"),
        ({"authorised_at": AT + HOUR}, "core.order-in-time"),
        (
            {"standing": {"answered": {}, "switched_off": ["agency:custody"]}},
            "core.not-switched-off",
        ),
        ({"standing": {"answered": {}} | counted(force_month=100)}, MONTHLY),
    )
    for changes, failed in cases:
        standing = changes.pop("standing", {"answered": {}})
        decision = decide(standing, urgent=True, **changes)
        assert decision.failed == (failed,), failed
        assert (decision.waived, decision.confirm_by) == ((), None)
        assert verdict_of(decision, FIRST)[2]  # still shown as what the route did not ask for


def test_urgency_without_a_route_changes_nothing() -> None:
    agreement = FILE.agreement.model_copy(update={"urgent": None})
    party = POLICY.bundle.agreements[0]
    file = type(FILE)(FILE.name, FILE.raw, agreement)
    bundle = unsigned_bundle_for_dry_run([file], party.forces)
    plain = compile_bundle(bundle)
    standings: tuple[dict[str, Any], ...] = ({}, {"answered": {}}, counted(officer_day=3))
    for standing in standings:
        record = {"answered": ANSWERED} | standing
        answers = []
        for urgent in (True, False, None):
            stated = LAWFUL | {"urgent": urgent, "standing": record}
            answers.append(plain.decide(dry_run_facts(stated, ["custody"]), "custody", AT))
        assert len({(one.verdict, one.failed, one.waived, one.confirm_by) for one in answers}) == 1
        assert not any(clause.waived for one in answers for clause in one.clauses)


def test_a_permission_turned_into_a_denial_awaits_no_confirmation() -> None:
    decision = decide({"answered": {}}, urgent=True)
    assert decision.confirm_by is not None
    denied = enforced(decision, frozenset())
    assert denied.code is DecisionCode.OBLIGATION_UNKNOWN
    assert (denied.waived, denied.confirm_by, denied.confirmer_rank) == ((), None, "")


def test_an_urgent_permission_at_the_end_of_the_calendar_has_a_deadline_too() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    endless = FILE.raw.replace(b"2030-12-31", b"9999-12-31")
    file = parse_agreement(endless, "endless.yaml")
    policy = compile_bundle(unsigned_bundle_for_dry_run([file], [FORCE]))
    stated = LAWFUL | {"authorised_at": last, "officer_accreditation_expires": "9999-12-31"}
    stated["urgent"] = True
    decision = policy.decide(dry_run_facts(stated, ["custody"]), "custody", last)
    assert decision.permitted
    assert decision.confirm_by == last


@pytest.mark.parametrize("count", [1, 7])
def test_an_urgent_search_past_its_deadline_bars_the_officer(count: int) -> None:
    for urgent in (True, False):
        decision = decide({"unconfirmed_urgent": count}, urgent=urgent)
        assert decision.failed == ("core.urgent-confirmed",)
        assert verdict_of(decision, "core.urgent-confirmed")[:2] == (Verdict.VIOLATED, str(count))
    assert decide({"unconfirmed_urgent": None}).failed == ("core.urgent-confirmed",)


@pytest.mark.parametrize(
    "switch",
    ["agency:custody", f"force:{FORCE}", "matcher:model-1", "purpose:crime_investigation"],
)
def test_a_kill_switch_of_each_kind_denies_and_is_named(switch: str) -> None:
    decision = decide({"switched_off": [switch, "purpose:prosecution", "agency:pnd"]})
    assert decision.failed == ("core.not-switched-off",)
    assert verdict_of(decision, "core.not-switched-off")[:2] == (Verdict.VIOLATED, f"off: {switch}")
    assert f"off: {switch}" in "\n".join(explain.lines(decision))


def test_a_switch_of_something_else_changes_nothing_and_one_that_may_apply_denies() -> None:
    elsewhere = ["agency:pnd", "force:other", "matcher:model-2", "purpose:prosecution"]
    assert decide({"switched_off": elsewhere}).permitted
    # The matcher is not known: the switch of another model might be of this one.
    unknown = decide({"switched_off": ["matcher:model-2"]}, probe_model=None)
    assert unknown.failed == ("core.not-switched-off",)
    assert verdict_of(unknown, "core.not-switched-off")[0] is Verdict.INDETERMINATE
    assert decide({"switched_off": ["agency:pnd"]}, probe_model=None).permitted
    assert decide({"switched_off": None}).failed == ("core.not-switched-off",)


def test_reasons_that_are_short_or_were_used_before_are_decided_and_shown() -> None:
    short = decide(necessity="Needed. Needed, needed!")
    assert short.failed == ("one.necessity",)
    assert verdict_of(short, "one.necessity")[:2] == (Verdict.VIOLATED, "1")
    assert "Warnings: necessity.short" in explain.lines(short)
    assert short.facts.warnings == ("necessity.short",)

    used = decide({"reasons_reused": 2})
    assert used.failed == ("one.reused",)
    assert explain.as_json(used)["warnings"] == ["reasons.repeated"]

    # A warning alone denies nothing: this agreement asks only for a necessity of six words.
    warned = decide(proportionality="Short but stated.", necessity="one two three four five six")
    assert warned.permitted
    assert warned.facts.warnings == ("necessity.short", "proportionality.short")
    assert decide({"reasons_reused": None}).failed == ("one.reused",)
    assert set(decide(necessity=None).failed) == {"one.necessity", "core.strictly-necessary"}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (None, None),
        ("", 0),
        ("12 34 -- !", 0),
        ("The the THE tHe", 1),
        ("officer's officer\u2019s", 2),
        ("Caf\u00e9 cafe\u0301", 1),
        ("\uff37\uff4f\uff52\uff44 word", 1),
        ("one_two", 2),
    ],
)
def test_words_are_counted_once_each(text: str | None, count: int | None) -> None:
    assert reasons.distinct_words(text) == count


def test_a_template_filled_in_anew_has_the_same_form_and_other_reasons_do_not() -> None:
    one = "The suspect Smith was seen at Leeds on 3 May. No other means is left."
    for same in (
        "The suspect Jones was seen at York on 14 June. No other means is left.",
        "the   suspect was seen at, on; No other means is left",
    ):
        assert reasons.normal_form(same) == reasons.normal_form(one)
    assert reasons.normal_form("The victim was seen.") != reasons.normal_form(one)


@given(st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=scaled(200, 5000), deadline=None)
def test_any_text_is_counted_and_formed(one: str, other: str) -> None:
    count = reasons.distinct_words(one)
    assert count is not None
    assert reasons.distinct_words(f"{one} {one}") == count
    assert count <= (reasons.distinct_words(f"{one} {other}") or 0)
    reasons.normal_form(one)


@pytest.mark.parametrize(
    "record",
    [
        {"earlier_searches": {"custody": {"officer.week": 1}}},
        {"earlier_searches": {"custody": {"officer.day": -1}}},
        {"earlier_searches": {"Not A Member": {}}},
        {"answered": {"pnd": "2026-06-01T10:00:00"}},
        {"answered": {"pnd": None}},
        {"unconfirmed_urgent": -1},
        {"switched_off": ["custody"]},
        {"switched_off": ["gallery:custody"]},
        {"reasons_reused": -1},
    ],
)
def test_a_record_of_another_form_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Standing.model_validate(record)
