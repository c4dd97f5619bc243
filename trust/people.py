"""Whether two ids that a force states name one person, which many rules are about."""

from __future__ import annotations


def same_person(one: str, other: str) -> bool:
    """Whether two ids name one person, however they are spelt."""
    return plain_id(one) == plain_id(other)


def plain_id(person_id: str) -> str:
    """Return a person's id in the one form in which two spellings of it are one person."""
    return " ".join(person_id.split()).casefold()
