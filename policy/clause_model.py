"""One clause of an agreement as it is written, checked until it cannot fail to be decided."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator

from policy.facts import ATTRIBUTES, Attribute, Kind, Operator
from trust.messages import ClauseId

CORE_PREFIX: Final = "core."
"""Clause ids of the built-in clauses; an agreement may not use them."""
DECIDED_AT: Final = "decided_at"
"""The instant of the decision, as a clause's value may name it."""

Line = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=400,
        # Neither control nor bidirectional characters: what is signed is what a reader sees.
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+$",
    ),
]
Scalar = bool | int | float | date | str
Value = Scalar | tuple[Scalar, ...]


class FrozenModel(BaseModel):
    """A frozen model that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in a clause: a whole day in UTC, or an instant offset from the decision's."""

    day: date | None
    offset: timedelta = timedelta()

    def start(self, decided_at: datetime) -> datetime:
        """Return its first instant, when deciding at ``decided_at``."""
        if self.day is not None:
            return datetime.combine(self.day, time.min, UTC)
        return self._shifted(decided_at)

    def end(self, decided_at: datetime) -> datetime:
        """Return its last instant, when deciding at ``decided_at``."""
        if self.day is not None:
            return datetime.combine(self.day, time.max, UTC)
        return self._shifted(decided_at)

    def _shifted(self, decided_at: datetime) -> datetime:
        try:
            return decided_at + self.offset
        except OverflowError:  # at the ends of the calendar; a decision never raises
            early = self.offset < timedelta()
            return datetime.min.replace(tzinfo=UTC) if early else datetime.max.replace(tzinfo=UTC)


_RELATIVE = re.compile(rf"{DECIDED_AT}(?:([+-])(\d{{1,5}})([dhm]))?")
_UNITS: Final = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def moment(value: Scalar) -> Moment:
    """Return ``2026-01-31``, ``decided_at`` or ``decided_at-7d`` (d, h or m) as a moment.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, datetime):
        raise ValueError("give a day, not an instant")  # noqa: TRY004 - pydantic wants ValueError
    if isinstance(value, str):
        match = _RELATIVE.fullmatch(value)
        if match is None:
            value = date.fromisoformat(value)
        else:
            sign, count, unit = match.groups()
            offset = _UNITS[unit] * int(count) if unit else timedelta()
            return Moment(None, -offset if sign == "-" else offset)
    if not isinstance(value, date):
        raise ValueError("give a day or decided_at")  # noqa: TRY004 - as above
    return Moment(value)


_LIST_OPERATORS: Final = frozenset({Operator.IN, Operator.NOT_IN, Operator.SUBSET})
_SCALE_OPERATORS: Final = frozenset({Operator.GE, Operator.LE, Operator.BETWEEN})
_RANGE_ENDS: Final = 2
_PYTHON_TYPES: Final[dict[Kind, type | tuple[type, ...]]] = {
    Kind.TEXT: str,
    Kind.BOOLEAN: bool,
    Kind.NUMBER: (int, float),
}


def items_of(value: Value) -> tuple[Scalar, ...]:
    """Return the values of a clause as a tuple, one or many."""
    return value if isinstance(value, tuple) else (value,)


def _check_shape(attribute: Attribute, operator: Operator, value: Value) -> None:
    """Refuse a list where one value belongs, and the other way round."""
    listed = isinstance(value, tuple)
    if operator is Operator.PRESENT:
        if value is not True and not (listed and attribute.kind is Kind.CODES):
            raise ValueError("give true")
    elif operator in _LIST_OPERATORS:
        if not listed:
            raise ValueError("give a list")
    elif listed != (operator is Operator.BETWEEN):
        raise ValueError("give two values" if operator is Operator.BETWEEN else "give one value")
    count = len(items_of(value))
    if count == 0 or (operator is Operator.BETWEEN and count != _RANGE_ENDS):
        raise ValueError("give two values" if count else "give at least one value")


def _check_item(attribute: Attribute, operator: Operator, item: Scalar) -> None:
    """Refuse a value that is not of the attribute's kind, or not a word of its vocabulary."""
    if attribute.vocabulary is not None:
        if item not in attribute.vocabulary:
            raise ValueError(f"not a known {attribute.name} code")
        if operator in _SCALE_OPERATORS and item not in attribute.vocabulary.scale:
            raise ValueError("this code has no place on the scale")
    elif attribute.kind in {Kind.DATE, Kind.INSTANT}:
        moment(item)
    else:
        right = isinstance(item, _PYTHON_TYPES[attribute.kind])
        if not right or (isinstance(item, bool) and attribute.kind is not Kind.BOOLEAN):
            raise ValueError(f"give a {attribute.kind}")


class Clause(FrozenModel):
    """One condition: ``operator`` over one ``attribute`` of the request.

    ``in``, ``not_in`` and ``subset`` take a list; ``between`` takes two values, both included;
    ``ge``, ``le``, ``before`` and ``after`` take one. ``present`` takes ``true``, or for an
    attribute that is a list the codes that must all be in it.
    """

    id: ClauseId
    citation: Line
    attribute: str
    operator: Operator
    value: Value

    @field_validator("id")
    @classmethod
    def _not_core(cls, clause_id: str) -> str:
        if clause_id.startswith(CORE_PREFIX):
            raise ValueError(f"ids that begin with {CORE_PREFIX} are built in")
        return clause_id

    @field_validator("attribute")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ATTRIBUTES:
            raise ValueError("not a known attribute")
        return name

    @field_validator("operator")
    @classmethod
    def _fits(cls, operator: Operator, info: ValidationInfo) -> Operator:
        attribute = ATTRIBUTES.get(info.data.get("attribute", ""))
        if attribute is not None and operator not in attribute.operators:
            allowed = ", ".join(sorted(attribute.operators))
            raise ValueError(f"{attribute.name} allows only: {allowed}")
        return operator

    @field_validator("value")
    @classmethod
    def _right_type(cls, value: Value, info: ValidationInfo) -> Value:
        attribute = ATTRIBUTES.get(info.data.get("attribute", ""))
        operator: Operator | None = info.data.get("operator")
        if attribute is None or operator is None:
            return value  # that field has its own error
        _check_shape(attribute, operator, value)
        if value is not True or operator is not Operator.PRESENT:
            for item in items_of(value):
                _check_item(attribute, operator, item)
        return value
