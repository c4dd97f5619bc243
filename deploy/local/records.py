"""The facts of invented records: the columns of each kind of agency, in believable shares.

Most records are ordinary; some are barred from searching, as in life: deletion requested,
withdrawn, a child, protected. A planted person's record is always ordinary unless the plan says
otherwise, so that a search may find it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploy.local.people import AS_OF, Person, Population

KINDS: Final = ("custody", "pnd", "passport", "asylum", "nhs", "dwp")
"""The kinds of gallery that can be written."""

_YEAR: Final = timedelta(days=365.25)
_NEWEST_IMAGE: Final = AS_OF - timedelta(days=30)
_OLDEST_IMAGE: Final = date(2009, 1, 1)
_YOUNGEST: Final = 10 * _YEAR  # at capture: the age of criminal responsibility
_ADULT: Final = 18.05 * _YEAR
_PLANTED_LATELY: Final = 2 * _YEAR  # so that no review or retention of a planted record is overdue
_CHANCES: Final = 5


@dataclass(frozen=True, slots=True)
class Plant:
    """One person put into one gallery on purpose, with a record that no rule bars.

    Attributes:
        person: the person's number.
        columns: values that replace the record's, such as ``{"deletion": "requested"}``.
    """

    person: int
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def gallery_records(
    kind: str,
    population: Population,
    people: NDArray[np.int64],
    series: int,
    plants: Mapping[int, Plant],
) -> list[dict[str, str]]:
    """Return the records of a gallery, in row order, with the columns of their kind.

    Args:
        kind: one of ``KINDS``.
        population: the people.
        people: whose record each row is, shape (n,).
        series: the gallery's number.
        plants: who is planted, by row.

    Raises:
        ValueError: a planted person is too young, or an unknown column is given for one.
    """
    generator = np.random.default_rng((population.seed, KINDS.index(kind), series, len(people)))
    # An odd factor modulo a power of two gives every row an id of its own, in no visible order.
    id_start = int(generator.integers(2**32))
    days = generator.random(len(people)).tolist()
    chances = generator.random((len(people), _CHANCES)).tolist()
    records = []
    for row, person in enumerate(population.identities(people)):
        plant = plants.get(row)
        oldest = max(person.date_of_birth + _YOUNGEST, _OLDEST_IMAGE)
        if plant:
            if not plantable(person):
                raise ValueError(f"person {person.number} is too young to be planted")
            oldest, chances[row] = _NEWEST_IMAGE - _PLANTED_LATELY, [0.0] * _CHANCES
        captured_on = oldest + timedelta(days=int(days[row] * (_NEWEST_IMAGE - oldest).days))
        record = {
            "record_id": f"{kind}-{(row * 0x9E3779B1 + id_start) % 2**32:08x}",
            "captured_on": captured_on.isoformat(),
            **_COLUMNS[kind](_Row(row, person, captured_on, tuple(chances[row]))),
        }
        if plant:
            if not plant.columns.keys() <= record.keys():
                raise ValueError(f"{kind} records have only the columns {', '.join(record)}")
            record |= plant.columns
        records.append(record)
    return records


def plantable(person: Person) -> bool:
    """Return whether the person was of age early enough for every planted record."""
    return person.date_of_birth + _ADULT <= _NEWEST_IMAGE - _PLANTED_LATELY


@dataclass(frozen=True, slots=True)
class _Row:
    """What a record is made from. A chance of 0 always means the ordinary, unbarred case."""

    row: int
    person: Person
    captured_on: date
    chances: tuple[float, ...]

    def one_of(self, chance: int, **shares: float) -> str:
        """Return one of the words, each with its share of the chance; 0 gives the first."""
        left = self.chances[chance]
        for word, share in shares.items():
            if left < share:
                return word
            left -= share
        return next(iter(shares))

    def rare(self, chance: int, share: float) -> bool:
        return self.chances[chance] > 1 - share

    def after(self, chance: int, least: float, most: float) -> str:
        """Return the ISO date so many years after the capture."""
        return (
            self.captured_on + (least + (most - least) * self.chances[chance]) * _YEAR
        ).isoformat()


def _yes(flag: bool) -> str:  # noqa: FBT001 -- the whole of its input
    return "yes" if flag else "no"


def _name(row: _Row) -> dict[str, str]:
    return {"given_names": row.person.given_names, "family_name": row.person.family_name}


def _custody(row: _Row) -> dict[str, str]:
    return {
        **_name(row),
        "pnc_id": row.person.pnc_id,
        "date_of_birth": row.person.date_of_birth.isoformat(),
        "disposal": row.one_of(
            0, convicted=0.55, no_further_action=0.25, pending=0.12, acquitted=0.08
        ),
        "image_source": row.one_of(1, custody_photo=0.95, mobile=0.04, other=0.01),
        "review_due": "" if row.rare(2, 0.03) else row.after(3, 6, 10),
        "deletion": "requested" if row.rare(4, 0.004) else "",
    }


def _pnd(row: _Row) -> dict[str, str]:
    force = ("northmark", "southmark", "ostvale", "westvale")[row.person.number % 4]
    return {
        **_name(row),
        "pnc_id": row.person.pnc_id,
        "contributor": f"{force}-police",
        "contributor_reference": f"{row.person.pnc_id}/{row.row}",
        "handling": row.one_of(0, open=0.90, ask_contributor=0.07, contributor_only=0.03),
        "image_source": row.one_of(
            1, custody=0.86, intelligence=0.10, missing_person=0.03, victim_or_witness=0.01
        ),
        "date_of_birth": "" if row.rare(2, 0.12) else row.person.date_of_birth.isoformat(),
        "retain_until": row.after(3, 6, 40),
        "withdrawn": _yes(row.rare(4, 0.01)),
    }


def _passport(row: _Row) -> dict[str, str]:
    return {
        **_name(row),
        "date_of_birth": row.person.date_of_birth.isoformat(),
        "passport_number": row.person.passport_number,
        "state": row.one_of(
            0, valid=0.7, expired=0.22, lost=0.03, stolen=0.02, cancelled=0.02, issued_in_error=0.01
        ),
        "image": row.one_of(1, current=0.75, historic=0.25),
        "issued_on": "" if row.rare(2, 0.02) else row.after(3, 0.01, 0.08),
    }


def _asylum(row: _Row) -> dict[str, str]:
    return {
        **_name(row),
        "application_reference": f"ZA/{row.person.number:06d}/{row.row}",
        "standing": row.one_of(0, applicant=0.8, dependant=0.2),
        "status": row.one_of(1, pending=0.4, granted=0.35, refused=0.2, withdrawn=0.05),
        "claimed_date_of_birth": "" if row.rare(2, 0.1) else row.person.date_of_birth.isoformat(),
        "protected": _yes(row.rare(3, 0.01)),
        "passport_number": row.person.passport_number if row.rare(4, 0.3) else "",
    }


def _nhs(row: _Row) -> dict[str, str]:
    return {
        **_name(row),
        "date_of_birth": row.person.date_of_birth.isoformat(),
        "nhs_number": row.person.nhs_number,
        "restricted": _yes(row.rare(0, 0.005)),
    }


def _dwp(row: _Row) -> dict[str, str]:
    return {
        **_name(row),
        "date_of_birth": row.person.date_of_birth.isoformat(),
        "national_insurance_number": row.person.ni_number,
        "specially_protected": _yes(row.rare(0, 0.005)),
    }


_COLUMNS: Final[Mapping[str, Callable[[_Row], dict[str, str]]]] = MappingProxyType(
    {
        "custody": _custody,
        "pnd": _pnd,
        "passport": _passport,
        "asylum": _asylum,
        "nhs": _nhs,
        "dwp": _dwp,
    }
)
