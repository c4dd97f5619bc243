"""Representative values of one kind of fact: next to, between and beyond what clauses mention.

Between two neighbours of what a function here returns no clause it was given changes its answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, product
from string import ascii_lowercase
from typing import Any, Final

from policy.clause_model import Clause, items_of, moment
from policy.facts import Attribute, Facts, Operator
from trust.messages import MAX_CODES

MAX_SUBSETS: Final = 4_096
"""Most cells of a list of words; the shipped vocabularies have fewer."""

MAX_WORDS: Final = 600
"""Most different words of a text; more than that no officer writes, nor fits the longest text."""
_SPELT: Final = (*ascii_lowercase, *map("".join, product(ascii_lowercase, repeat=2)))
_OTHER_TEXT: Final = "example-other"
_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_TICK: Final = timedelta(microseconds=1)


def text_of(words: int) -> str:
    """Return a text of so many different words; of none, one that says nothing but is given."""
    return " ".join(_SPELT[:words]) or "-"


def _mentioned(clauses: Sequence[Clause]) -> list[Any]:
    found = [item for clause in clauses if not _is_flag(clause) for item in items_of(clause.value)]
    return list(dict.fromkeys(found))


def _is_flag(clause: Clause) -> bool:
    return clause.operator is Operator.PRESENT and clause.value is True


def _stateable(name: str, text: str) -> bool:
    try:
        return bool(Facts.model_validate({name: text}).values[name] == text)
    except ValueError:
        return False


def texts(name: str, clauses: Sequence[Clause]) -> list[str]:
    """Return the texts that clauses mention, without those no request can state, and one other."""
    named = [text for text in _mentioned(clauses) if _stateable(name, text)]
    other = _OTHER_TEXT
    while other in named:
        other += "-"
    return [*named, other]


def bounds(clauses: Sequence[Clause]) -> list[float]:
    """Return the numbers that clauses mention."""
    return [item for item in _mentioned(clauses) if isinstance(item, int | float)]


def numbers(edges: Iterable[float], usual: int, top: int) -> list[int]:
    """Return the numbers from 0 to ``top`` next to every edge, and a usual one."""
    near = {
        number
        for bound in edges
        for number in range(math.floor(bound) - 1, math.ceil(bound) + 2)
        if 0 <= number <= top
    }
    return sorted(near | {usual})


def subsets(attribute: Attribute, clauses: Sequence[Clause]) -> list[frozenset[str]]:
    """Return lists of words, smallest first: of words no clause tells apart, none, some or all."""
    vocabulary = attribute.vocabulary.codes if attribute.vocabulary else ()
    alike: dict[tuple[bool, ...], list[str]] = {}
    for code in vocabulary:
        told = tuple(not _is_flag(c) and code in items_of(c.value) for c in clauses)
        alike.setdefault(told, []).append(code)
    choices = [
        [frozenset(group[:n]) for n in sorted({0, 1, len(group)})] for group in alike.values()
    ]
    if math.prod(map(len, choices)) > MAX_SUBSETS:
        # Some combinations are left out; each code, each list and all of them are kept.
        lists = [frozenset(map(str, items_of(c.value))) for c in clauses if not _is_flag(c)]
        singles = [frozenset((code,)) for code in vocabulary]
        found = {frozenset[str](), frozenset(vocabulary), *lists, *singles}
    else:
        found = {frozenset[str]().union(*parts) for parts in product(*choices)}
    return sorted((s for s in found if len(s) <= MAX_CODES), key=lambda s: (len(s), sorted(s)))


def _times(clauses: Sequence[Clause], at: datetime) -> Iterator[datetime]:
    """Yield the first and last instant of every time the clauses mention."""
    for one in map(moment, _mentioned(clauses)):
        yield one.start(at)
        yield one.end(at)


def days(clauses: Sequence[Clause], at: datetime) -> list[date]:
    """Return the day of every edge that clauses mention and of ``at``, and the days beside it."""
    edges = {at.date(), *(time.date() for time in _times(clauses, at))}
    found = set(edges)
    for edge in edges:
        for step in (-_DAY, _DAY):
            if date.min - step <= edge if step < timedelta() else edge <= date.max - step:
                found.add(edge + step)
    return sorted(found)


def instants(clauses: Sequence[Clause], at: datetime) -> list[datetime]:
    """Return every edge that clauses mention and ``at``, and instants between and beyond."""
    return around({at, *_times(clauses, at)})


def around(edges: Iterable[datetime]) -> list[datetime]:
    """Return every edge and instants between and beyond them, a minute from an edge if they can."""
    found = sorted(set(edges))
    between = []
    for low, high in pairwise(found):
        if high - low > 2 * _MINUTE:
            between += [low + _MINUTE, high - _MINUTE]
        elif high - low > _TICK:
            between.append(low + (high - low) / 2)
    earliest, latest = (end.replace(tzinfo=UTC) for end in (datetime.min, datetime.max))  # noqa: DTZ901 - zoned here
    before = max(earliest, found[0] - _MINUTE) if found[0] - earliest > _MINUTE else earliest
    after = found[-1] + _MINUTE if latest - found[-1] > _MINUTE else latest
    return sorted({*found, *between, before, after})
