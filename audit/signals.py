"""The catalogue of misuse signals: what each is, and what else than misuse it can be.

A signal is a lead to look, never a finding. Nobody is named by one without the numbers that it
rests on, and without the innocent explanation being named too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

LEAD: Final = "A signal is a lead to look into, never a finding."
"""Said with every output."""
ENTRIES_MAX: Final = 20
"""Entries named with one signal."""


class Kind(StrEnum):
    """What is signalled."""

    REPEATED_PROBE = "repeated_probe"
    MANY_SEARCHES = "many_searches"
    OUT_OF_HOURS = "out_of_hours"
    BOILERPLATE = "boilerplate"
    QUOTA_EDGE = "quota_edge"
    QUOTA_DENIED = "quota_denied"
    URGENT_OFTEN = "urgent_often"
    UNCONFIRMED = "unconfirmed"
    CASE_OF_MANY = "case_of_many"


class About(StrEnum):
    """Whom or what a signal is about."""

    OFFICER = "officer"
    FORCE = "force"
    CASE = "case"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind of signal says.

    Attributes:
        title: a few words.
        may_be: what misuse it can be a sign of.
        or_else: what else it can be.
    """

    title: str
    may_be: str
    or_else: str


CATALOGUE: Final[Mapping[Kind, Meaning]] = {
    Kind.REPEATED_PROBE: Meaning(
        "the same probe again and again",
        "fishing, or a person followed over cases",
        "a search asked again after an outage, or one agency after another as agreements demand",
    ),
    Kind.MANY_SEARCHES: Meaning(
        "far more searches than peers",
        "searches that nobody needs",
        "a colleague who searches for a whole unit, or a major inquiry",
    ),
    Kind.OUT_OF_HOURS: Meaning(
        "far more out of hours than peers",
        "searches when nobody watches",
        "night shifts",
    ),
    Kind.BOILERPLATE: Meaning(
        "reasons that are boilerplate, far more than peers",
        "necessity that nobody considered",
        "a series of like offences described alike",
    ),
    Kind.QUOTA_EDGE: Meaning(
        "up to the edge of a quota, time and again",
        "searches spread so that they stay below it",
        "a quota that is too small for the work",
    ),
    Kind.QUOTA_DENIED: Meaning(
        "denied for a quota, time and again",
        "more searches tried than are agreed",
        "a quota that is too small for the work",
    ),
    Kind.URGENT_OFTEN: Meaning(
        "the urgent route far more than peers",
        "an authoriser gone round",
        "duty in a control room",
    ),
    Kind.UNCONFIRMED: Meaning(
        "urgent searches that nobody confirmed in time",
        "urgency that would not have been confirmed",
        "a confirmer on leave",
    ),
    Kind.CASE_OF_MANY: Meaning(
        "one case reference used by many officers",
        "a reference borrowed for searches of another purpose",
        "a major inquiry with a large team",
    ),
}
"""Every kind's meaning."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One lead.

    Attributes:
        kind: what is signalled.
        about: whom or what it is about.
        who: the officer's or force's id, the case reference, or the force and its probe's digest.
        numbers: what it rests on, by name.
        limit: from which number on it is signalled, in words.
        entries: the log's newest entries that it rests on, at most ``ENTRIES_MAX``.
    """

    kind: Kind
    about: About
    who: str
    numbers: Mapping[str, float | int | str]
    limit: str
    entries: tuple[int, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "signal": self.kind.value,
            "about": self.about.value,
            "who": self.who,
            "numbers": dict(self.numbers),
            "limit": self.limit,
            "entries": list(self.entries),
        }
