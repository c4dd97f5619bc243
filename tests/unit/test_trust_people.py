"""One person is one person to every rule, however the id is spelt."""

from __future__ import annotations

import pytest

from policy.facts import Facts
from policy.ledger.subjects import KEY_BYTES, SubjectKey
from trust.people import same_person


@pytest.mark.parametrize("other", ["PC  1234", " pc 1234", "PC\t1234 ", "Pc\u00a01234"])
def test_two_spellings_of_an_id_are_one_person_to_every_rule(other: str) -> None:
    assert same_person("PC 1234", other)
    assert not Facts(officer_id="PC 1234", authoriser_id=other).authoriser_independent
    key = SubjectKey(b"k" * KEY_BYTES)
    assert key.officer("northshire", "PC 1234") == key.officer("northshire", other)


def test_another_number_is_somebody_else() -> None:
    assert not same_person("PC 1234", "PC 12345")
    assert Facts(officer_id="PC 1234", authoriser_id="PC 12345").authoriser_independent
