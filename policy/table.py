"""Every clause of some agreements asked at once, a bit for each clause.

A decision needs the verdict of every clause of every agreement, and most clauses of a set of
agreements read few attributes with few values. So the table is turned round once, when a bundle is
compiled:

1. Clauses are numbered; a set of clauses is an integer with a bit for each.
2. Where an attribute holds one word (or a quality, 0 to 100), each has the set of clauses that it
   satisfies, worked out beforehand by asking every clause. A word outside the vocabulary has its
   own, so it satisfies nothing by mistake.
3. Clauses that ask the very same (equal ``key``) are asked once; quotas on one counter have one
   look-up for all, since they differ only in how much they leave.
4. A missing fact makes every clause that reads it indeterminate, and satisfies none.
5. The built-in clauses that are the same under every agreement (``core_clauses.FIXED``) are asked
   once for all the agencies of a request, and what they said is spread to each table's numbers.

What comes of it is what asking each clause by itself would say; the tests compare the two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from policy.agreements import Agreement, Obligations
from policy.clauses import (
    INDETERMINATE,
    SATISFIED,
    VIOLATED,
    CompiledClause,
    Predicate,
    Test,
    Verdict,
)
from policy.core_clauses import FIXED, IN_FORCE_CLAUSES
from policy.facts import ATTRIBUTES, MAX_PROBE_QUALITY, Facts, Kind

NO_WORD: Final = "\x00"
"""Stands for every word outside a vocabulary; no vocabulary has it."""
_QUALITY: Final = "probe_quality"
"""A number with few values, each of which can have its set of clauses as a word has."""
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Given to predicates over words and yes/no values, which do not look at it."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledAgreement:
    """An agreement with its clauses, core ones first, ready to be asked."""

    agreement: Agreement
    sha256: bytes
    clauses: tuple[CompiledClause, ...]

    @property
    def disclosure_order(self) -> tuple[bool, int, int, str]:
        """Sorts the agreement that discloses least first."""
        duties = self.agreement.obligations
        return (
            not duties.hit_no_hit,
            duties.max_candidates,
            len(duties.fields),
            self.agreement.id,
        )


@dataclass(frozen=True, slots=True)
class Permission:
    """The agreement that permits and what it asks in return.

    ``waived`` names what its urgent route waived; a permit that needed it must be confirmed until
    ``confirm_by`` by somebody of ``confirmer_rank`` or above.
    """

    agreement_id: str
    agreement_version: int
    agreement_sha256: bytes
    obligations: Obligations
    waived: tuple[str, ...] = ()
    confirm_by: datetime | None = None
    confirmer_rank: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One agreement's place in the table: its clauses' bits begin at ``first``."""

    compiled: CompiledAgreement
    first: int
    needs: int
    """Every clause of the agreement."""
    needs_when_urgent: int
    """The same without what its urgent route waives."""
    urgent_for: frozenset[str]
    """The purposes its urgent route is open to."""
    in_force: int
    """The clauses that say whether it is in force."""
    permission: Permission
    """What a permit that needed no waiver rests on."""


class Asked(NamedTuple):
    """What all the clauses of a table said of one request: two sets of clauses."""

    satisfied: int
    indeterminate: int

    def of(self, bit: int) -> Verdict:
        """Return the verdict of the clause with this number."""
        if self.satisfied >> bit & 1:
            return SATISFIED
        return INDETERMINATE if self.indeterminate >> bit & 1 else VIOLATED


class _Clauses:
    """Some clauses by number, turned round for asking."""

    __slots__ = ("_by_count", "_by_predicate", "_by_word", "_joint")

    def __init__(self, clauses: Iterable[tuple[int, CompiledClause]]) -> None:
        single: dict[str, dict[Hashable, tuple[Predicate, int]]] = defaultdict(dict)
        joint: dict[Hashable, tuple[Test, int]] = {}
        quotas: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for bit, clause in clauses:  # (1)
            if clause.count is not None:
                agency, counter, most = clause.count
                quotas[agency, counter][most] |= 1 << bit
                continue
            found: dict[Hashable, Any] = joint if clause.holds is None else single[clause.attribute]
            ask = clause.test if clause.holds is None else clause.holds
            _, bits = found.get(clause.key, (None, 0))
            found[clause.key] = (ask, bits | 1 << bit)  # (3)
        self._joint = tuple(joint.values())
        self._by_count = tuple(
            (agency, counter, *_ladder(mosts)) for (agency, counter), mosts in quotas.items()
        )
        self._by_word = tuple(
            _words(name, tuple(asked.values())) for name, asked in single.items() if _is_word(name)
        )
        self._by_predicate = tuple(
            (name, _union(asked.values()), tuple(asked.values()))
            for name, asked in single.items()
            if not _is_word(name)
        )

    def ask(self, facts: Facts, at: datetime) -> Asked:
        """Ask every clause; never raises."""
        values = facts.values
        satisfied = indeterminate = 0
        for name, everything, words, other in self._by_word:  # (2)
            value = values[name]
            if value is None:
                indeterminate |= everything  # (4)
            else:
                satisfied |= words.get(value, other)
        for name, everything, predicates in self._by_predicate:
            value = values[name]
            if value is None:
                indeterminate |= everything  # (4)
                continue
            for holds, bits in predicates:
                if holds(value, at):
                    satisfied |= bits
        more = self._ask_together(facts, at)
        return Asked(satisfied | more.satisfied, indeterminate | more.indeterminate)

    def _ask_together(self, facts: Facts, at: datetime) -> Asked:
        """Ask the clauses that read more than one attribute's value."""
        satisfied = indeterminate = 0
        standing = facts.standing
        for agency, counter, limits, rungs in self._by_count:  # (3)
            count = None if standing is None else standing.earlier(agency, counter)
            if count is None:
                indeterminate |= rungs[0]  # (4)
            else:
                satisfied |= rungs[bisect_right(limits, count)]
        for test, bits in self._joint:
            verdict = test(facts, at)
            if verdict is SATISFIED:
                satisfied |= bits
            elif verdict is INDETERMINATE:
                indeterminate |= bits
        return Asked(satisfied, indeterminate)


class ClauseTable:
    """The clauses of the agreements between some agencies and a force; safe to share.

    Attributes:
        rows: the agreements, agency by agency, in order of least disclosure.
    """

    __slots__ = ("_everywhere", "_fixed", "_own", "rows")

    def __init__(self, agreements: Sequence[CompiledAgreement]) -> None:
        self.rows = tuple(_rows(agreements))
        clauses = [
            (bit, clause)
            for row in self.rows
            for bit, clause in enumerate(row.compiled.clauses, row.first)
        ]
        self._own = _Clauses(one for one in clauses if one[1] not in _FIXED_CLAUSES)
        self._fixed = tuple(
            _union((clause, 1 << bit) for bit, clause in clauses if clause == fixed)
            for fixed in FIXED
        )
        self._everywhere = sum(self._fixed)

    def ask(self, facts: Facts, at: datetime, fixed: Asked) -> Asked:
        """Ask every clause of every agreement; ``fixed`` is what ``ask_fixed`` said of the same."""
        satisfied, indeterminate = self._own.ask(facts, at)
        if fixed.satisfied == _ALL_FIXED:  # (5) as in every request that can be permitted
            return Asked(satisfied | self._everywhere, indeterminate)
        for number, bits in enumerate(self._fixed):
            if fixed.satisfied >> number & 1:
                satisfied |= bits
            elif fixed.indeterminate >> number & 1:
                indeterminate |= bits
        return Asked(satisfied, indeterminate)


def _rows(agreements: Sequence[CompiledAgreement]) -> Iterator[Row]:
    first = 0
    for compiled in sorted(
        agreements, key=lambda one: (one.agreement.agency, one.disclosure_order)
    ):
        count = len(compiled.clauses)
        route = compiled.agreement.urgent
        waived = frozenset(route.waives) if route else frozenset()
        urgent_for = frozenset(route.purposes) if route else frozenset()
        needs = (1 << count) - 1 << first
        can_wait = sum(
            1 << bit for bit, clause in enumerate(compiled.clauses, first) if clause.id in waived
        )
        in_force = (1 << IN_FORCE_CLAUSES) - 1 << first
        agreement = compiled.agreement
        permission = Permission(
            agreement.id, agreement.version, compiled.sha256, agreement.obligations
        )
        yield Row(compiled, first, needs, needs & ~can_wait, urgent_for, in_force, permission)
        first += count


def _ladder(mosts: Mapping[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the limits of some quotas, and which of them are satisfied from each limit on.

    The first rung, of a count below every limit, has them all; from the n-th limit on, n fail.
    """
    limits = tuple(sorted(mosts))
    rungs = [0]
    for limit in reversed(limits):
        rungs.append(rungs[-1] | mosts[limit])
    return limits, tuple(reversed(rungs))


def _is_word(name: str) -> bool:
    attribute = ATTRIBUTES[name]
    return (
        attribute.kind is Kind.BOOLEAN
        or name == _QUALITY
        or (attribute.kind is Kind.CODE and attribute.vocabulary is not None)
    )


def _words(
    name: str, asked: Sequence[tuple[Predicate, int]]
) -> tuple[str, int, dict[Any, int], int]:
    """Return an attribute's bits, the bits each of its words satisfies, and those of any other."""
    vocabulary = ATTRIBUTES[name].vocabulary
    words: Sequence[Any] = (False, True)
    if vocabulary is not None:
        words = (*vocabulary.codes, NO_WORD)
    elif name == _QUALITY:
        words = range(MAX_PROBE_QUALITY + 1)

    def satisfied_by(word: Any) -> int:
        return _union([one for one in asked if one[0](word, _ANY_TIME)])

    by_word = {word: satisfied_by(word) for word in words}
    return name, _union(asked), by_word, by_word.pop(NO_WORD, 0)


def _union(asked: Iterable[tuple[Any, int]]) -> int:
    bits = 0
    for _, more in asked:
        bits |= more
    return bits


_FIXED_CLAUSES: Final = frozenset(FIXED)
_ALL_FIXED: Final = (1 << len(FIXED)) - 1
_FIXED_ASKED: Final = _Clauses(enumerate(FIXED))


def ask_fixed(facts: Facts, at: datetime) -> Asked:
    """Ask the clauses that are the same under every agreement, once for a request (5)."""
    return _FIXED_ASKED.ask(facts, at)
