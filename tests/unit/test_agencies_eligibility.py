"""Each kind of agency in tables: which record is barred on which day, and why, in words of the law.

The seventh is the example of ``docs/new-agency.md``; it is held to all that the six are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import pytest

from agency_adapters.agency import (
    AgencyKind,
    DutyRule,
    EligibilityRule,
    OrderRule,
    OwnerDecision,
    ReleaseRule,
)
from agency_adapters.registry import KINDS
from docs.examples.driving_licences import DRIVING_LICENCES
from policy.agreements import Obligations
from policy.codes import REGISTRY
from trust.messages import Justification, Offence, Person, ProbeManifest, SearchOrder

DAY: Final = date(2026, 11, 23)
NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALL: Final[Mapping[str, AgencyKind]] = MappingProxyType(
    {**KINDS, DRIVING_LICENCES.name: DRIVING_LICENCES}
)
ORDINARY: Final[dict[str, dict[str, Any]]] = {
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
    "driving_licences": {"licence_number": "MORGA657054", "registry": "mainland"},
}


@dataclass(frozen=True)
class Row:
    """A record, as it differs from an ordinary one, and the rules that bar it on a day."""

    why: str
    changes: dict[str, str] = field(default_factory=dict)
    barred: tuple[str, ...] = ()
    day: date = DAY


YOUNG: Final = {"date_of_birth": "2004-06-01"}
"""Fifteen when captured, of age now."""

TABLES: Final[dict[str, tuple[Row, ...]]] = {
    "custody": (
        Row("s.64A(4): a convicted person's photograph may be used to detect crime"),
        Row(
            "s.47: while a deletion request is decided the image is not used",
            {"deletion": "requested"},
            ("custody.deletion-requested",),
        ),
        Row(
            "a request counts for a convicted person as for anybody",
            {"deletion": "requested", "disposal": "convicted"},
            ("custody.deletion-requested",),
        ),
        Row(
            "RMC and FJ: a minor against whom no action was taken",
            YOUNG | {"disposal": "no_further_action"},
            ("custody.unconvicted-minor",),
        ),
        Row(
            "RMC and FJ: a minor who was acquitted",
            YOUNG | {"disposal": "acquitted"},
            ("custody.unconvicted-minor",),
        ),
        Row("the Review presumes deletion of the unconvicted only", YOUNG),
        Row("a pending matter is no acquittal, a minor's neither", YOUNG | {"disposal": "pending"}),
        Row(
            "an unconvicted adult may ask; until then the image is held", {"disposal": "acquitted"}
        ),
        Row(
            "18 on the day of capture is of age",
            {"date_of_birth": "2002-01-01", "disposal": "acquitted"},
        ),
        Row(
            "a day short of 18 is not",
            {"date_of_birth": "2002-01-02", "disposal": "acquitted"},
            ("custody.unconvicted-minor",),
        ),
        Row(
            "s.39(2): the review was due yesterday",
            {"review_due": "2026-11-22"},
            ("custody.review-overdue",),
        ),
        Row("a review that is due today is not overdue", {"review_due": "2026-11-23"}),
        Row("nor is one that is due in ten years", {"review_due": "2036-11-23"}),
        Row(
            "every reason is counted, not the first",
            YOUNG | {"disposal": "acquitted", "deletion": "requested", "review_due": "2021-01-01"},
            (
                "custody.deletion-requested",
                "custody.unconvicted-minor",
                "custody.review-overdue",
            ),
        ),
    ),
    "pnd": (
        Row("PND Code: contributed for others to search, openly"),
        Row("PND Code: what its contributor withdrew", {"withdrawn": "yes"}, ("pnd.withdrawn",)),
        Row(
            "PND Code: the contributor keeps it to itself",
            {"handling": "contributor_only"},
            ("pnd.contributor-only",),
        ),
        Row(
            "the contributor is to be asked before release, not before searching",
            {"handling": "ask_contributor"},
        ),
        Row(
            "s.38(3): a victim or witness is not filed with suspects",
            {"image_source": "victim_or_witness"},
            ("pnd.victim-or-witness",),
        ),
        Row("an intelligence image is searched", {"image_source": "intelligence"}),
        Row("s.39: kept until today", {"retain_until": "2026-11-23"}),
        Row("s.39: kept until yesterday", {"retain_until": "2026-11-22"}, ("pnd.retention-ended",)),
        Row("a date of birth that is not known bars nobody", {"date_of_birth": ""}),
    ),
    "passport": (
        Row("a valid passport of an adult"),
        Row("s.35(5): 17 today", {"date_of_birth": "2008-11-24"}, ("passport.child",)),
        Row("18 today", {"date_of_birth": "2008-11-23"}),
        Row(
            "18 tomorrow, searched tomorrow",
            {"date_of_birth": "2008-11-24"},
            day=date(2026, 11, 24),
        ),
        Row(
            "born on 29 February: of age on 1 March",
            {"date_of_birth": "2008-02-29"},
            ("passport.child",),
            date(2026, 2, 28),
        ),
        Row("and on 1 March", {"date_of_birth": "2008-02-29"}, day=date(2026, 3, 1)),
        Row(
            "s.38(1): the image is another's than the name says",
            {"state": "issued_in_error"},
            ("passport.issued-in-error",),
        ),
        Row("a lost passport is still its holder's image", {"state": "lost"}),
        Row("and a stolen one", {"state": "stolen"}),
        Row("and an expired or cancelled one", {"state": "cancelled"}),
        Row("historic images are held to be searched", {"image": "historic"}),
    ),
    "asylum": (
        Row("an applicant's image"),
        Row("Art 3: a protected applicant", {"protected": "yes"}, ("asylum.protected",)),
        Row(
            "protection covers dependants",
            {"protected": "1", "standing": "dependant"},
            ("asylum.protected",),
        ),
        Row("a dependant is searched as an applicant is", {"standing": "dependant"}),
        Row("how the application stands says nothing of crime", {"status": "refused"}),
        Row("a claimed date of birth may be unknown", {"claimed_date_of_birth": ""}),
    ),
    "nhs": (
        Row("an adult patient"),
        Row(
            "the guidance does not cover children", {"date_of_birth": "2010-01-01"}, ("nhs.child",)
        ),
        Row("18 today", {"date_of_birth": "2008-11-23"}),
        Row("confidence: whose whereabouts are hidden", {"restricted": "1"}, ("nhs.restricted",)),
        Row(
            "a hidden child is barred twice",
            {"restricted": "1", "date_of_birth": "2010-01-01"},
            ("nhs.child", "nhs.restricted"),
        ),
    ),
    "dwp": (
        Row("an ordinary customer"),
        Row(
            "s.123, Art 2: an account protected because its owner is at risk",
            {"specially_protected": "true"},
            ("dwp.specially-protected",),
        ),
        Row("age bars nobody here: the person is named", {"date_of_birth": "2010-01-01"}),
    ),
    "driving_licences": (
        Row("an ordinary licence"),
        Row(
            "reg. 7: surrendered a year and a day ago",
            {"surrendered_on": "2025-11-22"},
            ("driving_licences.surrendered",),
        ),
        Row("reg. 7: surrendered a year ago", {"surrendered_on": "2025-11-23"}),
        Row(
            "s.35(5): a provisional licence at 17",
            {"date_of_birth": "2009-06-01"},
            ("driving_licences.under-18",),
        ),
        Row("s.47: an objection stands", {"objection": "yes"}, ("driving_licences.objection",)),
        Row("the island registry is asked before release only", {"registry": "island"}),
    ),
}


def record_of(kind: AgencyKind, changes: Mapping[str, str]) -> Any:
    values = {"record_id": "R1", "captured_on": "2020-01-01"} | ORDINARY[kind.name]
    if "date_of_birth" in kind.record.model_fields:
        values["date_of_birth"] = "1980-01-01"
    record = kind.record.model_validate(values | dict(changes))
    assert record.incoherence(DAY) is None
    return record


def barred(kind: AgencyKind, row: Row) -> tuple[str, ...]:
    record = record_of(kind, row.changes)
    return tuple(rule.name for rule in kind.eligibility if rule.barred(record).hold(row.day))


ROWS: Final = [(name, row) for name, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda one: getattr(one, "why", one))
def test_a_record_is_barred_by_these_rules_and_no_others(name: str, row: Row) -> None:
    assert barred(ALL[name], row) == row.barred


@pytest.mark.parametrize("name", ALL)
def test_the_table_meets_every_rule_both_ways(name: str) -> None:
    kind = ALL[name]
    met = [barred(kind, row) for row in TABLES[name]]
    for rule in kind.eligibility:
        assert any(rule.name in one for one in met), rule.name
        assert any(rule.name not in one for one in met), rule.name
    assert () in met


@pytest.mark.parametrize("name", ALL)
def test_with_every_switch_on_the_kind_bars_what_its_rules_bar(name: str) -> None:
    kind = ALL[name]
    switches = frozenset(rule.switch for rule in kind.eligibility if rule.switch)
    always = {rule.name for rule in kind.eligibility if not rule.switch}
    for row in TABLES[name]:
        record = record_of(kind, row.changes)
        assert kind.bars(record, row.day, switches) is bool(row.barred)
        assert kind.bars(record, row.day, frozenset()) is bool(always & set(row.barred))


# --- orders ------------------------------------------------------------------------------------

CALDICOTT: Final = OwnerDecision("caldicott", "CG/1")
COURT: Final = OwnerDecision("court_order", "CO/1")
CONTROLLER: Final = OwnerDecision("data_controller", "DC/1")
SERIOUS: Final = {"offence": Offence(code="theft-act-1968-s8", seriousness="serious_crime")}
PETTY: Final = {"offence": Offence(code="theft-act-1968-s1", seriousness="recordable")}
PND_FIRST: Final = {"tried_first": ("pnd",)}
VITAL: Final = {"schedule8_condition": "vital_interests"}
NAMED: Final = {"aim": "more_on_known"}


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
        justification=Justification.model_validate(values | SERIOUS | why),
        probe=ProbeManifest(source="cctv", quality=50, model="m", dims=4, commitment=b"\0" * 32),
        agencies=("custody",),
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
    )


@dataclass(frozen=True)
class Ask:
    """An order, as it differs from an ordinary one, and the rules that bar it."""

    why: str
    changes: dict[str, Any] = field(default_factory=dict)
    decision: OwnerDecision | None = None
    failed: tuple[str, ...] = ()


def purpose(word: str, **more: Any) -> dict[str, Any]:
    return {"purpose": word, **more}


ASKS: Final[dict[str, tuple[Ask, ...]]] = {
    "custody": (
        Ask("s.64A(4): to investigate an offence"),
        Ask("s.64A(4): to conduct a prosecution", purpose("prosecution")),
        Ask(
            "a parking fine is no offence",
            purpose("civil_penalty"),
            None,
            ("custody.related-to-crime",),
        ),
        Ask(
            "nor is immigration control",
            purpose("immigration_enforcement"),
            None,
            ("custody.related-to-crime",),
        ),
        Ask(
            "nor who was at a demonstration",
            purpose("public_order_intelligence"),
            None,
            ("custody.related-to-crime",),
        ),
    ),
    "pnd": (
        Ask("PND Code: a policing purpose"),
        Ask("safeguarding is one", purpose("safeguarding")),
        Ask("a civil penalty is none", purpose("civil_penalty"), None, ("pnd.policing-purpose",)),
        Ask(
            "immigration control is none",
            purpose("immigration_enforcement"),
            None,
            ("pnd.policing-purpose",),
        ),
    ),
    "passport": (
        Ask("serious crime, and the PND was tried", PND_FIRST),
        Ask("the force's own custody images were tried", {"tried_first": ("own_custody",)}),
        Ask("nothing was tried", {}, None, ("passport.own-galleries-first",)),
        Ask(
            "fingerprints alone do not do",
            {"tried_first": ("fingerprints",)},
            None,
            ("passport.own-galleries-first",),
        ),
        Ask("urgent only if absolutely necessary: then without", {"urgent": True}),
        Ask("a petty theft", PND_FIRST | PETTY, None, ("passport.grave",)),
        Ask("a life at risk needs no offence", PND_FIRST | PETTY | purpose("protect_life")),
        Ask("nor does national security", PND_FIRST | PETTY | purpose("national_security")),
        Ask(
            "urgency does not make a petty theft grave",
            PETTY | {"urgent": True},
            None,
            ("passport.grave",),
        ),
    ),
    "asylum": (
        Ask("s.21: police purposes"),
        Ask(
            "s.21 is no way to enforce immigration control",
            purpose("immigration_enforcement"),
            CALDICOTT,
            ("asylum.purpose-lock",),
        ),
        Ask(
            "nor to gather intelligence",
            purpose("public_order_intelligence"),
            None,
            ("asylum.purpose-lock",),
        ),
        Ask("nor to fine anybody", purpose("civil_penalty"), None, ("asylum.purpose-lock",)),
        Ask(
            "Art 3: a witness is not looked up here",
            {"subject_category": "witness"},
            None,
            ("asylum.people-at-risk",),
        ),
        Ask(
            "Art 2: a victim is, to save a life", purpose("protect_life", subject_category="victim")
        ),
        Ask(
            "a missing person is, to be found",
            purpose("missing_person", subject_category="missing_person"),
        ),
        Ask(
            "both rules at once",
            purpose("immigration_enforcement", subject_category="victim"),
            None,
            ("asylum.purpose-lock", "asylum.people-at-risk"),
        ),
    ),
    "nhs": (
        Ask("confidence: nobody has decided", {}, None, ("nhs.caldicott-decision",)),
        Ask("the Caldicott Guardian has", {}, CALDICOTT),
        Ask("Sch 1: a judge has", {}, COURT),
        Ask("another agency's decision is none here", {}, CONTROLLER, ("nhs.caldicott-decision",)),
        Ask(
            "Sch 8 para 3: a missing person, on that condition", purpose("missing_person", **VITAL)
        ),
        Ask("or remains", purpose("unidentified_remains", **VITAL)),
        Ask(
            "the purpose alone is not the condition",
            purpose("missing_person"),
            None,
            ("nhs.caldicott-decision",),
        ),
        Ask("the condition alone is not the purpose", VITAL, None, ("nhs.caldicott-decision",)),
    ),
    "dwp": (
        Ask("a named person, and the controller has decided", NAMED, CONTROLLER),
        Ask("s.123: nobody has decided", NAMED, None, ("dwp.controller-decision",)),
        Ask(
            "another agency's decision is none here", NAMED, CALDICOTT, ("dwp.controller-decision",)
        ),
        Ask("an unknown face, decision or not", {}, CONTROLLER, ("dwp.named-person-only",)),
        Ask(
            "an unknown face and no decision",
            {},
            None,
            ("dwp.named-person-only", "dwp.controller-decision"),
        ),
    ),
    "driving_licences": (
        Ask("reg. 4: serious crime"),
        Ask("reg. 4: a life at risk", PETTY | purpose("protect_life")),
        Ask("reg. 4: a petty theft", PETTY, None, ("driving_licences.grave",)),
    ),
}
ASKED: Final = [(name, ask) for name, asks in ASKS.items() for ask in asks]


@pytest.mark.parametrize(("name", "ask"), ASKED, ids=lambda one: getattr(one, "why", one))
def test_an_order_is_barred_by_these_rules_and_no_others(name: str, ask: Ask) -> None:
    assert ALL[name].failed_rules(order(**ask.changes), ask.decision) == ask.failed


@pytest.mark.parametrize("name", ALL)
def test_the_orders_meet_every_rule_both_ways(name: str) -> None:
    for rule in ALL[name].orders:
        assert any(rule.name in ask.failed for ask in ASKS[name]), rule.name
        assert any(rule.name not in ask.failed for ask in ASKS[name]), rule.name
    assert any(not ask.failed for ask in ASKS[name])


# --- agreements, releases, defaults ------------------------------------------------------------


def obligations(onward: str) -> Obligations:
    return Obligations.model_validate(
        {
            "max_candidates": 5,
            "min_score": 0.5,
            "mode": "investigation",
            "hit_no_hit": False,
            "release_by_human": False,
            "reviewers": 2,
            "fields": (),
            "retention_days": 1,
            "onward_transfer": onward,
            "caveats": (),
        }
    )


ONWARD: Final[dict[str, tuple[dict[str, tuple[str, ...]], str]]] = {
    "custody": ({}, "s.64A(4) lets a photograph go to a prosecution"),
    "pnd": ({}, "as contributed images do"),
    "passport": ({}, "the agreement says how far"),
    "asylum": (
        {"within_prosecution": ("asylum.no-third-country",)},
        "Art 3: nothing goes on unasked, lest it reach those the applicant fled",
    ),
    "nhs": (
        {
            "within_prosecution": ("nhs.no-onward",),
            "with_owner_consent": ("nhs.no-onward",),
        },
        "what was said in confidence is passed on to nobody",
    ),
    "dwp": (
        {"within_prosecution": ("dwp.onward-consent",)},
        "NCA Act 2013 Sch 7 para 3: no onward disclosure without consent",
    ),
    "driving_licences": (
        {"within_prosecution": ("driving_licences.onward-consent",)},
        "reg. 9: with the authority's consent",
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_an_agreement_that_lets_answers_go_too_far_is_not_answered_under(name: str) -> None:
    unmet, _why = ONWARD[name]
    for word in REGISTRY["onward_transfer"].codes:
        assert ALL[name].unmet_duties(obligations(word)) == unmet.get(word, ())
    assert {rule.name for rule in ALL[name].duties} == {
        n for names in unmet.values() for n in names
    }


RELEASES: Final[dict[str, tuple[bool, int, str]]] = {
    "custody": (False, 1, "a police force's own images are answered about at once"),
    "pnd": (False, 1, "but for what a contributor must be asked about"),
    "passport": (False, 2, "guidance, September 2025: two of the owner's staff review"),
    "asylum": (True, 1, "Art 3: to be in this gallery is dangerous to disclose"),
    "nhs": (True, 1, "case by case, by a human being"),
    "dwp": (True, 1, "s.123: lawful authority for each disclosure"),
    "driving_licences": (False, 1, "but for what the island registry must be asked about"),
}


@pytest.mark.parametrize("name", ALL)
def test_who_must_release_what_an_agency_of_this_kind_answers(name: str) -> None:
    by_human, reviewers, _why = RELEASES[name]
    defaults = ALL[name].defaults
    assert (defaults.release_by_human, defaults.owner_reviewers) == (by_human, reviewers)


TO_ASK: Final[tuple[tuple[str, dict[str, str], tuple[str, ...], str], ...]] = (
    ("pnd", {}, (), "PND Code: open to all"),
    ("pnd", {"handling": "ask_contributor"}, ("northshire",), "PND Code: its contributor's to say"),
    ("driving_licences", {}, (), "the authority's own"),
    ("driving_licences", {"registry": "island"}, ("island-registry",), "handbook 3.2"),
)


@pytest.mark.parametrize(("name", "changes", "names", "why"), TO_ASK)
def test_whom_a_release_must_have_asked(
    name: str, changes: dict[str, str], names: tuple[str, ...], why: str
) -> None:
    assert ALL[name].to_ask(record_of(ALL[name], changes)) == names


def test_no_other_kind_asks_anybody() -> None:
    asking = {name for name, kind in ALL.items() if kind.release}
    assert asking == {name for name, *_ in TO_ASK}


def test_what_is_hidden_is_hidden_by_default() -> None:
    assert {name for name, kind in ALL.items() if kind.defaults.hit_no_hit} == {"nhs"}
    assert ALL["nhs"].details == ()


# --- what holds for every kind -----------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_rule_is_named_for_its_kind_and_cites_what_it_stands_on(name: str) -> None:
    kind = ALL[name]
    rules: list[EligibilityRule | OrderRule | DutyRule | ReleaseRule] = []
    rules += [*kind.eligibility, *kind.orders, *kind.duties, *kind.release]
    assert rules
    for rule in rules:
        assert rule.name.startswith(f"{name}.")
        assert rule.citation
    assert len({rule.name for rule in rules}) == len(rules)
    codes = [one.code for one in kind.details]
    assert len(set(codes)) == len(codes)
    assert set(codes) <= set(REGISTRY["disclosure_field"].codes) - {"image"}


def test_no_two_kinds_hold_the_same() -> None:
    fields = {name: frozenset(kind.record.model_fields) for name, kind in ALL.items()}
    assert len(set(fields.values())) == len(fields)
