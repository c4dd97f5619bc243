"""What a clause asks, as a Cedar condition: the words that ``policy.cedar`` writes policies with.

1. An attribute that may be missing is read behind ``has`` (``guarded``).
2. Ordered words are compared by their place on the scale: a stretch of it, as a set.
3. Instants are microseconds since 1970 and days are their first instant, both whole numbers:
   Cedar's own datetime stops at milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from policy.clause_model import DECIDED_AT, Clause, Moment, Scalar, items_of, moment
from policy.facts import Attribute, Kind, Operator
from trust.clock import to_us

AT: Final = f"context.{DECIDED_AT}"
"""The instant of the decision."""
_MICROSECOND: Final = timedelta(microseconds=1)
DAY: Final = timedelta(days=1) // _MICROSECOND
"""Microseconds of a day."""
_LONG: Final = 2**62
"""Bounds are kept within this: far beyond any fact, and what Cedar can hold."""


def guarded(name: str, condition: str) -> str:
    """Return a condition that a missing attribute does not satisfy, and cannot fault (1)."""
    return f"context has {name} && {condition}"


def holds(attribute: Attribute, clause: Clause) -> str:
    """Return the condition over an attribute that is there."""
    actual = f"context.{attribute.name}"
    items = items_of(clause.value)
    several = attribute.kind is Kind.CODES
    match clause.operator:
        case Operator.PRESENT:
            return f"{actual}.containsAll({set_of(items)})" if clause.value is not True else "true"
        case Operator.IN | Operator.SUBSET:
            return f"{set_of(items)}.{'containsAll' if several else 'contains'}({actual})"
        case Operator.NOT_IN:
            barred = set_of(items)
            none = f"{actual}.containsAny({barred})" if several else f"{barred}.contains({actual})"
            return f"{known(attribute)} && !{none}" if attribute.vocabulary else f"!{none}"
        case _ if attribute.kind in {Kind.DATE, Kind.INSTANT}:
            return _in_time(attribute, actual, clause.operator, [moment(one) for one in items])
        case _:
            return _in_order(attribute, actual, clause.operator, items)


def known(attribute: Attribute) -> str:
    """Return the condition that an attribute is given and holds words of its vocabulary only."""
    vocabulary = attribute.vocabulary
    words = set_of(vocabulary.codes if vocabulary else ())
    method = "containsAll" if attribute.kind is Kind.CODES else "contains"
    return guarded(attribute.name, f"{words}.{method}(context.{attribute.name})")


def _in_order(
    attribute: Attribute, actual: str, operator: Operator, items: Sequence[Scalar]
) -> str:
    """Return a comparison with one end or two, both included."""
    if attribute.vocabulary is not None:  # (2)
        # A word that is beside the scale is in no stretch of it.
        words = sorted(attribute.vocabulary.scale, key=attribute.vocabulary.scale.__getitem__)
        start = 0 if operator is Operator.LE else words.index(str(items[0]))
        end = len(words) if operator is Operator.GE else words.index(str(items[-1])) + 1
        stretch = words[start:end]
        return f"{set_of(stretch)}.contains({actual})" if stretch else "false"
    parts = []
    if operator is not Operator.LE:
        parts.append(f"{actual} >= {_long(math.ceil(_number(items[0])))}")
    if operator is not Operator.GE:
        parts.append(f"{actual} <= {_long(math.floor(_number(items[-1])))}")
    return " && ".join(parts)


def _in_time(
    attribute: Attribute, actual: str, operator: Operator, moments: Sequence[Moment]
) -> str:
    """Return a comparison in time; a day in a clause lasts from its first instant to its last.

    A date in a request is the first instant of its day: it is later than an instant's day if it is
    later than the instant, and earlier if the whole day is.
    """
    whole = f"{actual} + {DAY}" if attribute.kind is Kind.DATE else actual
    first, last = moments[0], moments[-1]
    match operator:
        case Operator.BEFORE:
            if first.day is not None:
                return f"{actual} < {micros(first.day)}"
            # The whole day has passed, if it is a date; an instant must be strictly before.
            return f"{whole} {'<=' if attribute.kind is Kind.DATE else '<'} {_relative(first)}"
        case Operator.AFTER:
            if first.day is not None:
                return f"{actual} >= {micros(first.day) + DAY}"
            return f"{actual} > {_relative(first)}"
        case _:
            if first.day is not None:
                low = f"{actual} >= {micros(first.day)}"
            else:
                low = f"{whole} {'>' if attribute.kind is Kind.DATE else '>='} {_relative(first)}"
            if last.day is not None:
                return f"{low} && {actual} < {micros(last.day) + DAY}"
            return f"{low} && {actual} <= {_relative(last)}"


def _relative(one: Moment) -> str:
    return f"{AT} + {one.offset // _MICROSECOND}" if one.offset else AT


def _number(value: Scalar) -> float:
    if isinstance(value, int | float):
        return value
    raise TypeError("a number's clause holds a number")  # the model saw to it


def _long(value: int) -> int:
    return max(-_LONG, min(_LONG, value))


def micros(when: date) -> int:
    """Return an instant, or the first instant of a day in UTC, as microseconds since 1970 (3)."""
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day, tzinfo=UTC)
    return to_us(when)


def set_of(items: Iterable[Scalar]) -> str:
    """Return a Cedar set."""
    return f"[{', '.join(_literal(item) for item in items)}]"


def _literal(item: Scalar) -> str:
    return str(item).lower() if isinstance(item, bool) else text(str(item))


def text(plain: str) -> str:
    """Return a Cedar string; what is not plain ASCII is written by its number."""
    return '"' + "".join(c if _plain(c) else f"\\u{{{ord(c):x}}}" for c in plain) + '"'


def _plain(character: str) -> bool:
    return character.isascii() and character.isprintable() and character not in {'"', "\\"}
