"""Clauses compiled to closures: each total, each three-valued, none able to fail open.

Rules:
1. A missing fact is ``indeterminate`` whatever the operator, ``not_in`` included.
2. A word outside its vocabulary, or off its scale, satisfies nothing, ``not_in`` included.
3. Nothing raises: operator, kind and value were checked against each other when the agreement
   was loaded, and the fact's type when the facts were read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from policy.clause_model import Clause, Moment, Scalar, Value, items_of, moment
from policy.facts import ATTRIBUTES, Attribute, Facts, Kind, Operator

REDACTED = "[redacted]"
"""What stands for a personal value that was given."""


class Verdict(StrEnum):
    """What a clause says of a request; only ``satisfied`` counts towards a permit."""

    SATISFIED = "satisfied"
    VIOLATED = "violated"
    INDETERMINATE = "indeterminate"


# Looking a member up on its class costs more than deciding a clause does.
SATISFIED, VIOLATED, INDETERMINATE = Verdict.SATISFIED, Verdict.VIOLATED, Verdict.INDETERMINATE

Test = Callable[[Facts, datetime], Verdict]
Show = Callable[[Facts, datetime], str | None]
Predicate = Callable[[Any, datetime], bool]


@dataclass(frozen=True, slots=True)
class CompiledClause:
    """A clause ready to be asked: ``test`` decides, ``show`` renders the actual value.

    A clause that reads one attribute has ``holds``, the predicate over that attribute's value;
    one that reads several facts has none. Two clauses with the same ``key`` ask the same.
    """

    id: str
    citation: str
    attribute: str
    operator: str
    required: str
    test: Test
    show: Show
    key: Hashable
    holds: Predicate | None = None
    count: tuple[str, str, int] | None = None
    """For a quota: the agency, the counter, and below which count it is satisfied."""


def tested(attribute: str, holds: Predicate) -> Test:
    """Return the test that ``holds`` is true of a fact that is given (rule 1)."""

    def test(facts: Facts, at: datetime) -> Verdict:
        value = facts.values[attribute]
        if value is None:
            return INDETERMINATE  # (1)
        return SATISFIED if holds(value, at) else VIOLATED

    return test


def shown(attribute: Attribute) -> Show:
    """Return what renders an attribute's value for a reader, redacted where it is personal."""

    def show(facts: Facts, _at: datetime) -> str | None:
        value = facts.values[attribute.name]
        if value is None:
            return None
        return REDACTED if attribute.personal else render(value)

    return show


def render(value: Any) -> str:
    """Return a value as an agreement would write it."""
    match value:
        case bool():
            return "true" if value else "false"
        case frozenset():
            return f"[{', '.join(sorted(value))}]"
        case tuple():
            return f"[{', '.join(render(item) for item in value)}]"
        case date():
            return value.isoformat()
        case _:
            return str(value)


def compile_clause(clause: Clause) -> CompiledClause:
    """Return the clause of a loaded agreement as a closure."""
    attribute = ATTRIBUTES[clause.attribute]
    return over_attribute(
        clause.id,
        clause.citation,
        attribute,
        clause.operator.value,
        render(clause.value),
        _predicate(attribute, clause.operator, clause.value),
        key=(attribute.name, clause.operator, clause.value),
    )


def over_attribute(
    clause_id: str,
    citation: str,
    attribute: Attribute,
    operator: str,
    required: str,
    holds: Predicate,
    *,
    key: Hashable,
) -> CompiledClause:
    """Return the clause that ``holds`` is true of one attribute's value."""
    return CompiledClause(
        id=clause_id,
        citation=citation,
        attribute=attribute.name,
        operator=operator,
        required=required,
        test=tested(attribute.name, holds),
        show=shown(attribute),
        key=key,
        holds=holds,
    )


def _predicate(attribute: Attribute, operator: Operator, value: Value) -> Predicate:
    items = items_of(value)
    first, last = items[0], items[-1]
    in_time = attribute.kind in {Kind.DATE, Kind.INSTANT}
    match operator:
        case Operator.PRESENT:
            return _all_present(items) if isinstance(value, tuple) else _given
        case Operator.IN | Operator.SUBSET:
            return _among(attribute, items)
        case Operator.NOT_IN:
            return _none_of(attribute, items)
        case Operator.BETWEEN if in_time:
            return _in_time(attribute, low=moment(first), high=moment(last))
        case Operator.BEFORE | Operator.AFTER:
            return _in_time(attribute, **{operator.value: moment(first)})
        case _:
            return _within(
                attribute,
                None if operator is Operator.LE else first,
                None if operator is Operator.GE else last,
            )


def _given(_actual: Any, _at: datetime) -> bool:
    return True


def _among(attribute: Attribute, items: tuple[Scalar, ...]) -> Predicate:
    allowed = frozenset(items)
    if attribute.kind is Kind.CODES:
        return lambda actual, _at: actual <= allowed
    return lambda actual, _at: actual in allowed


def _all_present(items: tuple[Scalar, ...]) -> Predicate:
    needed = frozenset(items)
    return lambda actual, _at: needed <= actual


def _none_of(attribute: Attribute, items: tuple[Scalar, ...]) -> Predicate:
    barred = frozenset(items)
    if attribute.vocabulary is None:
        return lambda actual, _at: actual not in barred
    allowed = frozenset(attribute.vocabulary.codes) - barred  # (2)
    if attribute.kind is Kind.CODES:
        return lambda actual, _at: actual <= allowed
    return lambda actual, _at: actual in allowed


def _within(attribute: Attribute, low: Any, high: Any) -> Predicate:
    """Both ends included; ``None`` is open. Codes are compared by their place on the scale."""
    if attribute.vocabulary is None:
        return lambda actual, _at: (
            (low is None or actual >= low) and (high is None or actual <= high)
        )
    scale = attribute.vocabulary.scale
    allowed = frozenset(
        code
        for code, place in scale.items()
        if (low is None or place >= scale[low]) and (high is None or place <= scale[high])
    )
    return lambda actual, _at: actual in allowed  # (2)


def _in_time(
    attribute: Attribute,
    *,
    low: Moment | None = None,
    high: Moment | None = None,
    before: Moment | None = None,
    after: Moment | None = None,
) -> Predicate:
    """``low`` and ``high`` included, ``before`` and ``after`` excluded; days are whole UTC days."""
    by_day = attribute.kind is Kind.DATE

    def holds(actual: Any, at: datetime) -> bool:
        def edge(instant: datetime) -> date:
            return instant.date() if by_day else instant

        return (
            (low is None or actual >= edge(low.start(at)))
            and (high is None or actual <= edge(high.end(at)))
            and (before is None or actual < edge(before.start(at)))
            and (after is None or actual > edge(after.end(at)))
        )

    return holds
