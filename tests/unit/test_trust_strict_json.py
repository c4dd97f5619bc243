"""JSON of which two readers see the same thing, or none."""

from __future__ import annotations

import pytest

from trust import strict_json


@pytest.mark.parametrize(
    "text",
    [
        b"[1e400]",
        b"[-1e999]",
        b"[NaN]",
        b"[Infinity]",
        b'{"a": 1, "a": 1}',
        b"[\xff]",
        b"[" * 10**5,
    ],
)
def test_what_two_readers_could_see_differently_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        strict_json.parse(text)


def test_numbers_are_read_as_they_are() -> None:
    assert strict_json.parse(b"[1e308, -0.5, 3]") == [1e308, -0.5, 3]
