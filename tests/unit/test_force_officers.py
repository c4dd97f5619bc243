from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from force_client import ProbegateError, Reason, read_token
from force_client.officers import Officers, person_of_token

GOOD = """
ns-4411:
  role: facial_search_operator
  rank: constable
  accreditation: face-examiner-2
  accreditation_expires: 2027-06-30
"""


def test_a_person_is_who_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "officers.yaml"
    path.write_text(GOOD)
    person = Officers.load(path).person("ns-4411", option="officer")
    assert (person.id, person.rank) == ("ns-4411", "constable")
    assert person.accreditation_expires == date(2027, 6, 30)
    with pytest.raises(ProbegateError) as caught:
        Officers.load(path).person("ns-1", option="officer")
    assert caught.value.metadata == {"field": "officer"}
    assert Officers.load(None).by_id == {}


@pytest.mark.parametrize(
    "content",
    [
        "ns-1: {role: a, rank: b}\nns-1: {role: a, rank: c}",
        "ns-1: {role: a}",
        "ns-1: {role: a, rank: b, name: Somebody}",
        "ns-1: &x {role: a, rank: b}\nns-2: *x",
        "- ns-1",
        "!!python/object/apply:os.system ['true']",
        "{[1]: 2}",
        "{",
        "\x00",
    ],
)
def test_a_file_that_is_not_understood_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "officers.yaml"
    path.write_text(content)
    with pytest.raises(ProbegateError) as caught:
        Officers.load(path)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert "ns-1" not in caught.value.line()


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.e30.c", "a.W10.c", "a.!!.c", "a.bnVsbA.c"])
def test_a_token_that_names_nobody(token: str) -> None:
    with pytest.raises(ProbegateError) as caught:
        person_of_token(token)
    assert caught.value.reason is Reason.OFFICER_TOKEN_INVALID


@pytest.mark.parametrize("content", [b"", b"\xff", b"a" * 9000, b"  \n"])
def test_a_file_that_holds_no_token(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ProbegateError) as caught:
        read_token(path)
    assert caught.value.reason is Reason.OFFICER_TOKEN_INVALID
