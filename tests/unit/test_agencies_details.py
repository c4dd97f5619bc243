"""What each kind of agency may disclose of a record, in tables: fact or assessment, and of whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agency_adapters.agency import detail
from policy.agreements import read_folder
from policy.codes import REGISTRY
from tests.unit.test_agencies_eligibility import ALL, record_of
from tests.world import copied_examples
from trust.second_step import MAX_FIELD_CHARS, Nature

CODES: Final = tuple(REGISTRY["disclosure_field"].codes)


@dataclass(frozen=True)
class Row:
    """A record, as it differs from an ordinary one, and all that may be disclosed of it."""

    changes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    assessments: dict[str, str] = field(default_factory=dict)
    category: str = ""


NAMED: Final = {"family_name": "Example", "given_names": "Alex"}
TAKEN: Final = {"captured_at": "2020-01-01"}
BORN: Final = {"date_of_birth": "1980-01-01"}
TABLES: Final[dict[str, tuple[Row, ...]]] = {
    "custody": (
        Row(
            {},
            {
                "reference": "R1",
                "disposal": "convicted",
                "image_source": "custody_photo",
                **BORN,
                **TAKEN,
            },
            category="convicted",
        ),
        Row(
            {**NAMED, "disposal": "pending", "pnc_id": "20/123456A"},
            {
                "reference": "R1",
                "disposal": "pending",
                "image_source": "custody_photo",
                "pnc_id": "20/123456A",
                **NAMED,
                **BORN,
                **TAKEN,
            },
            category="suspect",
        ),
        Row(
            {"disposal": "acquitted"},
            {
                "reference": "R1",
                "disposal": "acquitted",
                "image_source": "custody_photo",
                **BORN,
                **TAKEN,
            },
        ),
        Row(
            {"disposal": "no_further_action"},
            {
                "reference": "R1",
                "disposal": "no_further_action",
                "image_source": "custody_photo",
                **BORN,
                **TAKEN,
            },
        ),
    ),
    "pnd": (
        Row(
            {},
            {
                "reference": "N/1",
                "responsible_authority": "northshire",
                "image_source": "custody",
                **BORN,
                **TAKEN,
            },
            {"handling": "open"},
        ),
        Row(
            {
                **NAMED,
                **BORN,
                "handling": "ask_contributor",
                "image_source": "missing_person",
                "pnc_id": "20/123456A",
            },
            {
                "reference": "N/1",
                "responsible_authority": "northshire",
                "image_source": "missing_person",
                "pnc_id": "20/123456A",
                **NAMED,
                **BORN,
                **TAKEN,
            },
            {"handling": "ask_contributor"},
            category="missing_person",
        ),
    ),
    "passport": (
        Row(
            {**NAMED, "state": "stolen", "image": "historic", "issued_on": "2020-02-01"},
            {
                "reference": "R1",
                "passport_number": "123456789",
                "document_state": "stolen",
                "image_age": "historic",
                "issued_on": "2020-02-01",
                **NAMED,
                **BORN,
                **TAKEN,
            },
        ),
    ),
    "asylum": (
        Row(
            {**NAMED, "claimed_date_of_birth": "1990-05-05", "passport_number": "AB123456"},
            {
                "reference": "A/1",
                "claimed_date_of_birth": "1990-05-05",
                "applicant_standing": "applicant",
                "application_status": "pending",
                "passport_number": "AB123456",
                **NAMED,
                **TAKEN,
            },
        ),
        Row(
            {},
            {
                "reference": "A/1",
                "applicant_standing": "applicant",
                "application_status": "pending",
                **TAKEN,
            },
        ),
    ),
    "nhs": (Row(NAMED),),
    "dwp": (
        Row(
            NAMED,
            {"reference": "R1", "national_insurance_number": "AB123456C", **NAMED, **BORN},
        ),
    ),
    "driving_licences": (
        Row(
            {**NAMED, "registry": "island"},
            {
                "reference": "MORGA657054",
                "responsible_authority": "island",
                **NAMED,
                **BORN,
                **TAKEN,
            },
        ),
    ),
}


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name, rows in TABLES.items() for row in rows]
)
def test_what_may_be_disclosed_of_a_record(name: str, row: Row) -> None:
    kind = ALL[name]
    record = record_of(kind, row.changes)
    found = kind.disclosed(record, CODES)
    assert {o.name: o.value for o in found if o.nature is Nature.FACT} == row.facts
    assert {o.name: o.value for o in found if o.nature is Nature.ASSESSMENT} == row.assessments
    assert kind.category(record) == row.category
    assert not row.category or row.category in REGISTRY["subject_category"]


def test_every_kind_has_its_table() -> None:
    assert set(TABLES) == set(ALL)


@given(st.sets(st.sampled_from(CODES)))
def test_nothing_is_disclosed_that_was_not_asked_for(codes: set[str]) -> None:
    for name, rows in TABLES.items():
        for row in rows:
            found = ALL[name].disclosed(record_of(ALL[name], row.changes), codes)
            whole = row.facts | row.assessments
            assert {one.name for one in found} == codes & set(whole)


@pytest.mark.parametrize("name", ALL)
def test_every_code_may_be_disclosed_by_itself(name: str) -> None:
    """A detail with a code that no table's record has would never be tested."""
    had = {code for row in TABLES[name] for code in row.facts | row.assessments}
    assert {one.code for one in ALL[name].details} == had


@pytest.mark.parametrize("code", ["image", "captured_on", "", "iris"])
def test_what_no_agreement_can_name_is_no_detail(code: str) -> None:
    with pytest.raises(ValueError, match="no detail"):
        detail(code, "record_id")


def test_a_value_is_no_longer_than_a_field_may_be() -> None:
    kind = ALL["custody"]
    long = detail("disposal").of(record_of(kind, {}))
    assert len(long) <= MAX_FIELD_CHARS


def test_the_example_agreements_name_details_that_their_agencies_have(tmp_path: Path) -> None:
    folder = copied_examples(tmp_path / "examples")
    for file in read_folder(folder):
        kind = ALL.get(file.agreement.agency)
        fields = set(file.agreement.obligations.fields) - {"image"}
        if kind is None or not fields:
            continue
        assert fields & {one.code for one in kind.details}, file.name
