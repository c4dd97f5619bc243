"""What a request may state, cut into finitely many cells on each of which no clause changes.

Deciding is a closure of each clause; nothing here says again what an operator means. Instead each
fact is given representative values, so close together that every clause of the agreements looked at
answers alike between two neighbours:

1. words: every word of the vocabulary; texts: those a clause mentions, and one other;
2. numbers: those next to every bound a clause mentions, within what a request can state;
3. days and instants: every edge a clause mentions at the instant of the decision, and between;
4. lists of words: words no clause tells apart stand for one another, none, some or all of them;
5. what is on record: a count next to every quota, an answer next to every age that counts;
6. missing, for every fact.

Facts that some clause reads together are one ``Dimension``: purpose with legal basis, officer with
authoriser, a text with its number of words. Dimensions are independent of one another, so what an
agreement permits is a product of sets of cells (``policy.regions``).

Held still: no kill switch is off and no urgent search awaits confirmation. Words outside a
vocabulary have no cell, because ``core.known-codes`` permits none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

from policy.agreements import Agreement
from policy.clause_model import Clause
from policy.codes import REGISTRY
from policy.facts import ATTRIBUTES, Attribute, Facts, Kind
from policy.representatives import (
    MAX_WORDS,
    around,
    bounds,
    days,
    instants,
    numbers,
    subsets,
    text_of,
    texts,
)
from policy.standing import COUNTERS
from policy.standing_clauses import ANSWERED, EARLIER_SEARCHES

GATEWAY: Final = "purpose and legal_basis"
"""The dimension of the facts ``core.gateway-for-purpose`` reads together."""
PEOPLE: Final = "officer and authoriser"

_STANDING: Final = "standing"
_OFFICER: Final = "officer-1"
_AUTHORISER: Final = "authoriser-1"
_WORDED: Final = ("necessity", "proportionality")
_HIGHEST: Final[Mapping[str, int]] = {"probe_quality": 100}
_MOST_COUNTED: Final = 2**53 - 1
_USUAL: Final[Mapping[str, int]] = {"probe_quality": 70, "necessity": 12, "proportionality": 12}
"""A number to state where no clause asks for another."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One representative: what a request in it states, by path into the facts.

    ``rank`` orders the cells a witness would rather state, lowest first.
    """

    stated: tuple[tuple[Path, Any], ...]
    rank: int = 0

    @property
    def missing(self) -> int:
        """How many facts are not given."""
        return sum(value is None for _, value in self.stated)


@dataclass(frozen=True, slots=True)
class Dimension:
    """Facts that belong together; ``attributes`` are the names by which clauses read them."""

    name: str
    attributes: frozenset[str]
    cells: tuple[Cell, ...]


def facts_of(cells: Iterable[Cell]) -> Facts:
    """Return the facts of a request that states what ``cells`` say; of two that differ, the later.

    Raises:
        pydantic.ValidationError: never, for cells of this module.
    """
    standing: dict[str, Any] = {"unconfirmed_urgent": 0, "switched_off": frozenset()}
    stated: dict[str, Any] = {_STANDING: standing}
    chosen = {path: value for cell in cells for path, value in cell.stated}
    for (*holders, name), value in chosen.items():
        part = stated
        for holder in holders:
            part = part.setdefault(holder, {})
        if value is not None:  # what is missing on record is not there at all
            part[name] = value
    return Facts.model_validate(stated)


def as_mapping(facts: Facts) -> dict[str, Any]:
    """Return facts as a request file states them: plain values, nothing that is missing."""
    plain = facts.model_dump(mode="json", exclude_none=True)
    for holder in (plain, plain.get(_STANDING, {})):
        holder.update({n: sorted(v) for n, v in holder.items() if isinstance(v, list)})
    return plain


def dimensions(
    agreements: Sequence[Agreement], agency: str, forces: Iterable[str], at: datetime
) -> tuple[Dimension, ...]:
    """Return the cells of every fact, fine enough for each of ``agreements`` at ``at``."""
    asked: dict[str, list[Clause]] = {name: [] for name in ATTRIBUTES}
    for agreement in agreements:
        for clause in agreement.clauses:
            asked[clause.attribute].append(clause)
    return (
        _gateway(),
        *[_words_of(name, asked[f"{name}_words"]) for name in _WORDED],
        _people(),
        *[_single(ATTRIBUTES[n], asked[n], at) for n in ATTRIBUTES if n not in _GROUPED],
        _of("force", {"force"}, _listed(("force",), forces)),
        *_counters(agreements, agency),
        *_answers(agreements, at),
    )


_GROUPED: Final = frozenset(
    {
        "purpose",
        "legal_basis",
        "force",
        "officer_id",
        "authoriser_id",
        "authoriser_independent",
        *_WORDED,
        *(f"{name}_words" for name in _WORDED),
    }
)


def _of(name: str, attributes: Iterable[str], cells: Iterable[Cell]) -> Dimension:
    return Dimension(name, frozenset(attributes), tuple(cells))


def _listed(path: Path, values: Iterable[Any]) -> Iterator[Cell]:
    """Yield a cell for each value, the first the most welcome."""
    for rank, value in enumerate(values):
        yield Cell(((path, value),), rank)


def _gateway() -> Dimension:
    purposes, bases = ((*REGISTRY[n].codes, None) for n in ("purpose", "legal_basis"))
    cells = [
        Cell(((("purpose",), purpose), (("legal_basis",), basis)), rank)
        for rank, (purpose, basis) in enumerate(product(purposes, bases))
    ]
    return _of(GATEWAY, ("purpose", "legal_basis"), cells)


def _people() -> Dimension:
    pairs = [
        (_OFFICER, _AUTHORISER),
        (_OFFICER, _OFFICER),
        (_OFFICER, None),
        (None, _AUTHORISER),
        (None, None),
    ]
    cells = [
        Cell(((("officer_id",), officer), (("authoriser_id",), authoriser)), rank)
        for rank, (officer, authoriser) in enumerate(pairs)
    ]
    return _of(PEOPLE, ("officer_id", "authoriser_id", "authoriser_independent"), cells)


def _words_of(name: str, clauses: Sequence[Clause]) -> Dimension:
    counts = numbers(bounds(clauses), _USUAL[name], MAX_WORDS)
    given = map(text_of, counts)
    return _of(name, (name, f"{name}_words"), _listed((name,), [*given, None]))


def _single(attribute: Attribute, clauses: Sequence[Clause], at: datetime) -> Dimension:
    """Return the dimension of a fact that stands by itself."""
    name = attribute.name
    if not attribute.carried:
        return _of(name, {name}, [Cell(())])
    path = (_STANDING, name) if name == "reasons_reused" else (name,)
    given: Iterable[Any]
    match attribute.kind:
        case Kind.CODES:
            given = subsets(attribute, clauses)
        case Kind.CODE:
            given = attribute.vocabulary.codes if attribute.vocabulary else ()
        case Kind.BOOLEAN:
            given = (False, True) if name == "urgent" else (True, False)
        case Kind.NUMBER:
            top = _HIGHEST.get(name, _MOST_COUNTED)
            given = numbers(bounds(clauses), _USUAL.get(name, 0), top)
        case Kind.DATE:
            return _of(name, {name}, _by_nearness(path, days(clauses, at), at))
        case Kind.INSTANT:
            return _of(name, {name}, _by_nearness(path, instants(clauses, at), at))
        case Kind.TEXT:
            given = texts(name, clauses)
    return _of(name, {name}, _listed(path, [*given, None]))


def _by_nearness(path: Path, times: Sequence[Any], at: datetime) -> Iterator[Cell]:
    """Yield a cell for each time, in order; days to come and instants just gone rank first."""
    now: Any = at if isinstance(times[0], datetime) else at.date()
    later = not isinstance(now, datetime)
    wanted = sorted(times, key=lambda time: ((time > now) is not later, abs(time - now)))
    rank = {time: place for place, time in enumerate(wanted)}
    rank[now] = len(wanted)  # a coincidence, which a reader might take for the point
    for time in times:
        yield Cell(((path, time),), rank[time])
    yield Cell(((path, None),), len(wanted) + 1)


def _counters(agreements: Sequence[Agreement], agency: str) -> Iterator[Dimension]:  # (5)
    for name in COUNTERS:
        most = [q.most for agreement in agreements for q in agreement.quotas if q.counter == name]
        counts = numbers(most, 0, _MOST_COUNTED)
        path = (_STANDING, EARLIER_SEARCHES, agency, name)
        attribute = f"{EARLIER_SEARCHES}.{name}"
        yield _of(attribute, {attribute}, _listed(path, [*counts, None]))


def _answers(agreements: Sequence[Agreement], at: datetime) -> Iterator[Dimension]:  # (5)
    rules = [rule for agreement in agreements for rule in agreement.answered_first]
    earliest = datetime.min.replace(tzinfo=UTC)
    for agency in dict.fromkeys(agency for rule in rules for agency in rule.agencies):
        reach = {timedelta(days=rule.within_days) for rule in rules if agency in rule.agencies}
        edges = {at, *(at - back for back in reach if at - earliest > back)}
        name = f"{ANSWERED}.{agency}"
        yield _of(
            name, {name, ANSWERED}, _by_nearness((_STANDING, ANSWERED, agency), around(edges), at)
        )
