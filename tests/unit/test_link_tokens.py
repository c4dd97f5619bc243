"""Link tokens: one form for one identifier, nothing alike in two searches, nothing that prints."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agency_adapters.registry import KINDS as AGENCY_KINDS
from trust import link_tokens
from trust.link_keys import LinkKey
from trust.link_tokens import (
    IdentifierKind,
    Identifiers,
    PersonIdentifier,
    name_born,
    nhs_number,
    ni_number,
    passport_number,
    pnc_id,
    search_key,
    token,
    tokens,
)
from trust.messages import MAX_LINK_TOKENS, TOKEN_BYTES

KEY = LinkKey("link-1", bytes(range(32)))
BORN = date(1984, 3, 9)
SEARCH, ANOTHER = "8a1f7a52-0000-4000-8000-000000000001", "8a1f7a52-0000-4000-8000-000000000002"


def one(identifiers: Identifiers) -> PersonIdentifier:
    (only,) = identifiers
    return only


def test_a_token_is_what_the_rules_say_step_by_step() -> None:
    """HKDF (RFC 5869) and HMAC (RFC 2104) written out, with nothing of ours."""
    extracted = hmac.digest(bytes(32), KEY.key, "sha256")
    info = b"probegate/link-token/v1\0" + SEARCH.encode()
    derived = hmac.digest(extracted, info + b"\x01", "sha256")
    expected = hmac.new(derived, b"pnc_id\x0087/12345X", hashlib.sha256).digest()[:16]
    assert search_key(KEY, SEARCH) == derived
    assert token(derived, one(pnc_id("1987/0012345X"))) == expected
    assert len(expected) == TOKEN_BYTES


ALIKE = {
    "case, accents in two forms, hyphens": (
        name_born("Zoé Anne-Marie", "O'Ember", BORN),
        name_born("ZOE\u0301 ANNEMARIE", "oember", BORN),
    ),
    "wide letters and ligatures": (
        name_born("\uff21nn", "Ashﬁeld", BORN),
        name_born("Ann", "ASHFIELD", BORN),
    ),
    "sharp s": (name_born("Ann", "Strauß", BORN), name_born("Ann", "STRAUSS", BORN)),
    "spaces in a name": (name_born("Ann  ", " Mc Ember", BORN), name_born("Ann", "McEmber", BORN)),
    "passport in lower case": (passport_number("zzx 000-123"), passport_number("ZZX000123")),
    "ni number without its suffix": (ni_number("zz 00 01 23 a"), ni_number("ZZ000123")),
    "nhs number in groups": (nhs_number("999 000 0018"), nhs_number("9990000018")),
    "pnc id long and short": (pnc_id("1987/0012345x"), pnc_id("87/12345X")),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_written_in_two_ways_is_one_identifier(name: str) -> None:
    written, otherwise = ALIKE[name]
    assert one(written) == one(otherwise)


APART = {
    "another day": (name_born("Ann", "Ember", BORN), name_born("Ann", "Ember", date(1984, 9, 3))),
    "names the other way round": (
        name_born("Ann", "Ember", BORN),
        name_born("Ember", "Ann", BORN),
    ),
    "a border that moved": (name_born("Anne", "Mber", BORN), name_born("Ann", "Ember", BORN)),
    "accents": (name_born("Zoe", "Ember", BORN), name_born("Zoé", "Ember", BORN)),
    "pnc ids of two years": (pnc_id("1987/12345X"), pnc_id("1988/12345X")),
    "one number of two kinds": (nhs_number("9990000018"), passport_number("9990000018")),
}


@pytest.mark.parametrize("name", APART)
def test_what_differs_stays_apart(name: str) -> None:
    written, otherwise = APART[name]
    key = search_key(KEY, SEARCH)
    assert token(key, one(written)) != token(key, one(otherwise))


@pytest.mark.parametrize(
    "nothing",
    [
        name_born("", "Ember", BORN),
        name_born("Ann", "", BORN),
        name_born("Ann", "Ember", None),
        name_born("-", "'", BORN),
        passport_number(""),
        passport_number(" - "),
        ni_number(""),
        nhs_number("abc"),
        pnc_id(""),
        pnc_id("1987"),
        pnc_id("/12345X"),
        pnc_id("1987/000"),
    ],
)
def test_what_has_nothing_left_is_no_identifier(nothing: Identifiers) -> None:
    assert nothing == ()


@given(st.text(max_size=40), st.text(max_size=40))
def test_normalising_twice_changes_nothing_whatever_the_script(given: str, family: str) -> None:
    made = name_born(given, family, BORN)
    if made:
        name, first, born = one(made).value.split("\x1f")
        assert one(name_born(first, name, BORN)) == one(made)
        assert unicodedata.is_normalized("NFKC", name)
        assert born == "1984-03-09"


@given(st.text(max_size=40), st.text(max_size=40), st.uuids(), st.uuids())
def test_tokens_of_two_searches_or_under_two_keys_never_match(
    given: str, family: str, first: object, second: object
) -> None:
    identifiers = name_born(given + "a", family + "b", BORN) + passport_number(given + "1")
    here = set(tokens(search_key(KEY, str(first)), identifiers))
    other_key = LinkKey("link-2", bytes(range(1, 33)))
    assert here.isdisjoint(tokens(search_key(other_key, str(first)), identifiers))
    if first != second:
        assert here.isdisjoint(tokens(search_key(KEY, str(second)), identifiers))
    assert here == set(tokens(search_key(KEY, str(first)), identifiers))


def test_tokens_come_sorted_each_once_and_not_too_many() -> None:
    key = search_key(KEY, SEARCH)
    twice = passport_number("ZZX000123") * 2 + ni_number("ZZ000123A")
    made = tokens(key, twice)
    assert made == tuple(sorted(set(made)))
    assert len(made) == 2
    many = [one(passport_number(f"ZZX{n:06}")) for n in range(MAX_LINK_TOKENS + 3)]
    assert len(tokens(key, many)) == MAX_LINK_TOKENS
    assert set(tokens(key, many)) == {token(key, each) for each in many[:MAX_LINK_TOKENS]}


def test_neither_keys_nor_identifiers_print() -> None:
    shown = repr(KEY) + repr(name_born("Ann", "Ember", BORN)) + repr(pnc_id("87/12345X"))
    for secret in ("ember", "1984", "12345", repr(KEY.key), KEY.key.hex()):
        assert secret not in shown.lower()


PERSON = {"given_names": "Ann", "family_name": "Ember"}
COMMON = {"record_id": "R1", "captured_on": "2020-01-01"}
BORN_COLUMN = {"date_of_birth": BORN.isoformat()}
RECORDS: dict[str, dict[str, str]] = {
    "custody": BORN_COLUMN
    | {"disposal": "convicted", "image_source": "mobile", "pnc_id": "87/12345X"},
    "pnd": BORN_COLUMN
    | {
        "contributor": "northmark-police",
        "contributor_reference": "REF/1",
        "handling": "open",
        "image_source": "custody",
        "retain_until": "2040-01-01",
        "pnc_id": "1987/0012345X",
    },
    "passport": BORN_COLUMN
    | {"passport_number": "ZZX000123", "state": "valid", "image": "current"},
    "asylum": {
        "application_reference": "ZA/000123/1",
        "standing": "applicant",
        "status": "granted",
        "claimed_date_of_birth": BORN.isoformat(),
        "passport_number": "ZZX000123",
    },
    "nhs": BORN_COLUMN | {"nhs_number": "9990000018"},
    "dwp": BORN_COLUMN | {"national_insurance_number": "ZZ000123A"},
}
OWN = {
    "custody": IdentifierKind.PNC_ID,
    "pnd": IdentifierKind.PNC_ID,
    "passport": IdentifierKind.PASSPORT_NUMBER,
    "asylum": IdentifierKind.PASSPORT_NUMBER,
    "nhs": IdentifierKind.NHS_NUMBER,
    "dwp": IdentifierKind.NI_NUMBER,
}


@pytest.mark.parametrize("kind", RECORDS)
def test_one_person_is_the_same_at_every_agency(kind: str) -> None:
    agency = AGENCY_KINDS[kind]
    values = dict(RECORDS[kind])
    if kind == "dwp":  # the real form, which begins with letters that are issued
        values["national_insurance_number"] = "AB000123A"
    record = agency.record.model_validate(COMMON | PERSON | values)
    found = {each.kind: each for each in agency.identifiers(record)}
    assert found.keys() == {OWN[kind], IdentifierKind.NAME_BORN}
    assert found[IdentifierKind.NAME_BORN] == one(name_born("Ann", "Ember", BORN))
    assert "application_reference" not in repr(found)
    nameless = agency.record.model_validate(COMMON | values)
    assert IdentifierKind.NAME_BORN not in {each.kind for each in agency.identifiers(nameless)}


def test_police_records_of_one_arrest_share_their_id() -> None:
    made = [
        AGENCY_KINDS[kind].identifiers(
            AGENCY_KINDS[kind].record.model_validate(COMMON | RECORDS[kind])
        )
        for kind in ("custody", "pnd")
    ]
    assert made[0] == made[1] == pnc_id("87/12345X")


def test_every_kind_of_identifier_is_some_agencys() -> None:
    assert {*OWN.values(), IdentifierKind.NAME_BORN} == set(IdentifierKind)
    assert link_tokens.DOMAIN.endswith(b"\0")
