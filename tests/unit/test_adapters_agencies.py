"""What bars a record and what bars an order at each kind of agency."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from agency_adapters.agency import EligibilityRule, OrderRule, OwnerDecision, age_on
from agency_adapters.registry import KINDS, kind_named
from policy.codes import REGISTRY
from trust.errors import ProbegateError, Reason
from trust.messages import Justification, Person, ProbeManifest, SearchOrder

TODAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CALDICOTT = OwnerDecision("caldicott", "CG/1")
CONTROLLER = OwnerDecision("data_controller", "DC/1")

RECORDS: dict[str, dict[str, Any]] = {
    "custody": {"disposal": "convicted", "image_source": "custody_photo"},
    "pnd": {
        "contributor": "northshire",
        "contributor_reference": "N/1",
        "handling": "open",
        "image_source": "custody",
        "retain_until": "2030-01-01",
    },
    "passport": {"passport_number": "123456789", "state": "valid", "image": "current"},
    "asylum": {"application_reference": "A/1", "standing": "applicant", "status": "pending"},
    "nhs": {"nhs_number": "9434765919"},
    "dwp": {"national_insurance_number": "AB123456C"},
}


def barred(kind: str, **changes: str) -> set[str]:
    agency = kind_named(kind)
    values = {"record_id": "R1", "captured_on": "2020-01-01"} | RECORDS[kind]
    if "date_of_birth" in agency.record.model_fields:
        values["date_of_birth"] = "1980-01-01"
    record = agency.record.model_validate(values | changes)
    assert record.incoherence(TODAY) is None
    return {rule.name for rule in agency.eligibility if rule.barred(record).hold(TODAY)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_ordinary_record_is_not_barred(kind: str) -> None:
    assert barred(kind) == set()


@pytest.mark.parametrize(
    ("kind", "changes", "rule"),
    [
        ("custody", {"deletion": "requested"}, "custody.deletion-requested"),
        (
            "custody",
            {"date_of_birth": "2002-01-02", "disposal": "no_further_action"},
            "custody.unconvicted-minor",
        ),
        ("custody", {"review_due": "2026-11-22"}, "custody.review-overdue"),
        ("pnd", {"withdrawn": "yes"}, "pnd.withdrawn"),
        ("pnd", {"handling": "contributor_only"}, "pnd.contributor-only"),
        ("pnd", {"image_source": "victim_or_witness"}, "pnd.victim-or-witness"),
        ("pnd", {"retain_until": "2026-11-22"}, "pnd.retention-ended"),
        ("passport", {"date_of_birth": "2008-11-24"}, "passport.child"),
        ("passport", {"state": "issued_in_error"}, "passport.issued-in-error"),
        ("asylum", {"protected": "yes"}, "asylum.protected"),
        ("nhs", {"date_of_birth": "2010-01-01"}, "nhs.child"),
        ("nhs", {"restricted": "1"}, "nhs.restricted"),
        ("dwp", {"specially_protected": "true"}, "dwp.specially-protected"),
    ],
)
def test_each_rule_bars_its_record(kind: str, changes: dict[str, str], rule: str) -> None:
    assert barred(kind, **changes) == {rule}


def order(**why: Any) -> SearchOrder:
    values: dict[str, Any] = {
        "purpose": "crime_investigation",
        "legal_basis": "common_law_policing",
        "case_reference": "C/1",
        "aim": "identify_unknown",
        "subject_category": "suspect",
    }
    return SearchOrder(
        request_id=str(uuid.uuid4()),
        force="northshire",
        officer=Person(id="a"),
        authoriser=Person(id="b"),
        authorised_at=NOW,
        justification=Justification.model_validate(values | why),
        probe=ProbeManifest(source="cctv", quality=50, model="m", dims=4, commitment=b"\0" * 32),
        agencies=("custody",),
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
    )


@pytest.mark.parametrize(
    ("kind", "why", "decision", "failed"),
    [
        ("custody", {}, None, ()),
        ("pnd", {}, None, ()),
        ("passport", {}, None, ("passport.own-galleries-first",)),
        ("passport", {"tried_first": ("pnd",)}, None, ()),
        ("passport", {"urgent": True}, None, ()),
        ("asylum", {}, None, ()),
        ("asylum", {"purpose": "immigration_enforcement"}, CALDICOTT, ("asylum.purpose-lock",)),
        ("asylum", {"subject_category": "witness"}, None, ("asylum.people-at-risk",)),
        ("asylum", {"subject_category": "victim", "purpose": "protect_life"}, None, ()),
        ("nhs", {}, None, ("nhs.caldicott-decision",)),
        ("nhs", {}, CONTROLLER, ("nhs.caldicott-decision",)),
        ("nhs", {}, CALDICOTT, ()),
        ("nhs", {"purpose": "missing_person"}, None, ("nhs.caldicott-decision",)),
        (
            "nhs",
            {"purpose": "missing_person", "schedule8_condition": "vital_interests"},
            None,
            (),
        ),
        ("dwp", {}, CONTROLLER, ("dwp.named-person-only",)),
        ("dwp", {}, None, ("dwp.named-person-only", "dwp.controller-decision")),
        ("dwp", {"aim": "more_on_known"}, None, ("dwp.controller-decision",)),
        ("dwp", {"aim": "more_on_known"}, CONTROLLER, ()),
    ],
)
def test_each_rule_bars_its_orders(
    kind: str, why: dict[str, Any], decision: OwnerDecision | None, failed: tuple[str, ...]
) -> None:
    assert kind_named(kind).failed_rules(order(**why), decision) == failed


def test_the_words_the_rules_use_exist() -> None:
    used = {
        "purpose": {
            "immigration_enforcement",
            "public_order_intelligence",
            "civil_penalty",
            "missing_person",
            "unidentified_remains",
            "protect_life",
            "safeguarding",
        },
        "aim": {"more_on_known"},
        "schedule8_condition": {"vital_interests"},
        "tried_first": {"own_custody", "pnd"},
        "subject_category": {"victim", "witness", "missing_person"},
    }
    for vocabulary, words in used.items():
        assert words <= set(REGISTRY[vocabulary].codes)


def test_no_two_kinds_hold_the_same() -> None:
    fields = {name: frozenset(KINDS[name].record.model_fields) for name in KINDS}
    assert len(set(fields.values())) == len(fields)
    rules: list[EligibilityRule | OrderRule] = []
    for kind in KINDS.values():
        rules += [*kind.eligibility, *kind.orders]
    names = [rule.name for rule in rules]
    assert len(set(names)) == len(names)
    assert all(rule.citation for rule in rules)
    assert all(set(k.disclosure_fields) <= set(k.record.model_fields) for k in KINDS.values())


def test_ages_and_check_digits() -> None:
    assert age_on(date(2000, 2, 29), date(2018, 2, 28)) == 17
    assert age_on(date(2000, 2, 29), date(2018, 3, 1)) == 18
    nhs = KINDS["nhs"].record.model_validate(
        RECORDS["nhs"]
        | {"record_id": "R", "captured_on": "2020-01-01", "date_of_birth": "1980-01-01"}
        | {"nhs_number": "9434765918"}
    )
    assert nhs.incoherence(TODAY) == "nhs_number: check digit is wrong"
    with pytest.raises(ProbegateError) as raised:
        kind_named("library")
    assert raised.value.reason is Reason.CONFIG_INVALID
