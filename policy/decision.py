"""The decision: a pure function of compiled agreements, facts and an instant.

Rules:
1. Default deny. A permit needs an agreement in force, between this agency and this force, of which
   every clause is satisfied; indeterminate is not satisfied.
2. Every clause of every agreement between the two is asked, so a denial names all that failed.
3. Time is an argument. No clock, network or file is touched, and nothing raises.
4. Among agreements that permit, the one that discloses least is chosen: hit/no-hit first, then
   fewest candidates, fewest fields, and the id.
5. An obligation that the enforcer does not know makes the permit a denial.
6. A request that states urgency need not satisfy what an agreement's urgent route waives, if the
   route is open to its purpose; a permit that needed the route says what was waived, and by when
   and by whom it must be confirmed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from types import MappingProxyType
from typing import Final

from policy.agreements import AgreementFile, AnsweredFirst, Obligations
from policy.clauses import SATISFIED, Verdict, compile_clause
from policy.core_clauses import core_clauses
from policy.facts import Facts
from policy.standing_clauses import standing_clauses
from policy.table import Asked, ClauseTable, CompiledAgreement, Permission, Row, ask_fixed

TABLE_AGREEMENTS: Final = 96
"""Most agreements of several agencies in one table; one agency's always share one."""


class Outcome(StrEnum):
    """Whether the search may go to the agency."""

    PERMIT = "permit"
    DENY = "deny"


class DecisionCode(StrEnum):
    """Why the decision is what it is."""

    PERMITTED = "PERMITTED"
    NO_AGREEMENT = "NO_AGREEMENT"
    AGREEMENT_EXPIRED = "AGREEMENT_EXPIRED"
    CLAUSES_FAILED = "CLAUSES_FAILED"
    OBLIGATION_UNKNOWN = "OBLIGATION_UNKNOWN"


@dataclass(frozen=True, slots=True)
class PartyAgreement:
    """An agreement and the forces that are bound by it, because they signed."""

    file: AgreementFile
    forces: frozenset[str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A set of agreements that was verified as a whole; ``sha256`` is that of its manifest."""

    set_id: str
    version: int
    not_before: datetime
    not_after: datetime
    sha256: bytes
    agreements: tuple[PartyAgreement, ...]


@dataclass(frozen=True, slots=True)
class ClauseVerdict:
    """One clause and what it said; ``actual`` is ``None`` where the fact is missing.

    ``waived`` marks a clause that was not satisfied and that the urgent route did not ask for.
    """

    agreement_id: str
    clause_id: str
    citation: str
    attribute: str
    operator: str
    required: str
    actual: str | None
    verdict: Verdict
    waived: bool = False


@dataclass(frozen=True)
class Decision:
    """One agency's decision; the clauses' details are built when they are asked for.

    ``considered`` names every agreement between the two parties. ``permission`` is what a permit
    rests on and ``None`` on a denial; ``agreement_*``, ``obligations``, ``waived``, ``confirm_by``
    and ``confirmer_rank`` are its parts, and empty on a denial.
    """

    agency: str
    code: DecisionCode
    bundle_sha256: bytes
    decided_at: datetime
    permission: Permission | None
    facts: Facts = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False, compare=False)
    asked: Asked = field(repr=False, compare=False)
    unknown_obligations: tuple[str, ...] = ()

    @property
    def permitted(self) -> bool:
        """Whether the search may go to the agency."""
        return self.permission is not None

    @property
    def verdict(self) -> Outcome:
        """Whether the search may go to the agency, as a word."""
        return Outcome.DENY if self.permission is None else Outcome.PERMIT

    @property
    def agreement_id(self) -> str:
        """The id of the chosen agreement."""
        return "" if self.permission is None else self.permission.agreement_id

    @property
    def agreement_version(self) -> int:
        """The version of the chosen agreement."""
        return 0 if self.permission is None else self.permission.agreement_version

    @property
    def agreement_sha256(self) -> bytes:
        """SHA-256 of the chosen agreement's exact bytes."""
        return b"" if self.permission is None else self.permission.agreement_sha256

    @property
    def obligations(self) -> Obligations | None:
        """What the chosen agreement obliges its user to."""
        return None if self.permission is None else self.permission.obligations

    @property
    def waived(self) -> tuple[str, ...]:
        """What the chosen agreement's urgent route waived."""
        return () if self.permission is None else self.permission.waived

    @property
    def confirm_by(self) -> datetime | None:
        """By when a permit that needed the urgent route must be confirmed."""
        return None if self.permission is None else self.permission.confirm_by

    @property
    def confirmer_rank(self) -> str:
        """The lowest rank that may confirm it."""
        return "" if self.permission is None else self.permission.confirmer_rank

    @property
    def considered(self) -> tuple[str, ...]:
        """Every agreement between the two parties, by id, least disclosing first."""
        return tuple(row.compiled.agreement.id for row in self.rows)

    @cached_property
    def clauses(self) -> tuple[ClauseVerdict, ...]:
        """Every clause of every agreement considered, with its verdict."""
        return tuple(
            ClauseVerdict(
                agreement_id=row.compiled.agreement.id,
                clause_id=clause.id,
                citation=clause.citation,
                attribute=clause.attribute,
                operator=clause.operator,
                required=clause.required,
                actual=clause.show(self.facts, self.decided_at),
                verdict=(verdict := self.asked.of(bit)),
                waived=verdict is not SATISFIED and not self._needed(row) >> bit & 1,
            )
            for row in self.rows
            for bit, clause in enumerate(row.compiled.clauses, row.first)
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """The ids of the clauses that stood in the way, each once; empty on a permit."""
        if self.permitted:
            return ()
        found: dict[str, None] = {}
        urgent, satisfied = urgent_for(self.facts), self.asked.satisfied
        for row in self.rows:
            clauses = row.compiled.clauses
            needed = row.needs_when_urgent if urgent in row.urgent_for else row.needs
            unmet = (needed & ~satisfied) >> row.first
            while unmet:  # from one clause in the way to the next
                nearest = unmet & -unmet
                found[clauses[nearest.bit_length() - 1].id] = None
                unmet ^= nearest
        return tuple(found)

    def _needed(self, row: Row) -> int:
        return row.needs_when_urgent if urgent_for(self.facts) in row.urgent_for else row.needs


@dataclass(frozen=True, eq=False)
class Between:
    """What there is between one agency and one force; neighbouring agencies share a table."""

    table: ClauseTable
    rows: tuple[Row, ...]

    @cached_property
    def answered_first(self) -> tuple[AnsweredFirst, ...]:
        """Every rule on who must have answered first."""
        return tuple(r for row in self.rows for r in row.compiled.agreement.answered_first)


class CompiledPolicy:
    """Agreements indexed by agency and force; safe to share between threads.

    Attributes:
        bundle: what it was compiled from.
    """

    __slots__ = ("_index", "bundle")

    def __init__(self, bundle: Bundle, index: Mapping[tuple[str, str], Between]) -> None:
        self.bundle = bundle
        self._index = index

    @property
    def parties(self) -> frozenset[tuple[str, str]]:
        """Every (agency, force) with an agreement, in force or not."""
        return frozenset(self._index)

    def agreements(self, agency: str, force: str) -> tuple[CompiledAgreement, ...]:
        """Return the agreements between two parties, least disclosing first."""
        return tuple(row.compiled for row in self._index.get((agency, force), _NOTHING).rows)

    def must_have_answered(
        self, agencies: Iterable[str], force: str
    ) -> tuple[frozenset[str], timedelta]:
        """Return which agencies must have answered first, and how far back an answer counts.

        Of all agreements between ``force`` and ``agencies``; none and no time where none asks.
        """
        rules = [
            rule
            for agency in agencies
            for rule in self._index.get((agency, force), _NOTHING).answered_first
        ]
        wanted = frozenset(agency for rule in rules for agency in rule.agencies)
        return wanted, timedelta(days=max((rule.within_days for rule in rules), default=0))

    def decide(self, facts: Facts, agency: str, at: datetime) -> Decision:
        """Decide whether this search may go to ``agency`` at ``at``.

        Args:
            facts: what is known of the request.
            agency: the agency's member id.
            at: the instant of the decision, aware.

        Raises:
            ValueError: ``at`` has no time zone, which is a fault of the caller, not of a request.
        """
        (decision,) = self.decide_each(facts, (agency,), at)
        return decision

    def decide_each(
        self, facts: Facts, agencies: Iterable[str], at: datetime
    ) -> tuple[Decision, ...]:
        """Decide for each agency what ``decide`` would.

        Raises:
            ValueError: as ``decide``.
        """
        at = _in_utc(at)
        fixed = ask_fixed(facts, at)
        force, urgent = facts.force or "", urgent_for(facts)
        index, bundle_sha256 = self._index, self.bundle.sha256
        heard: dict[ClauseTable, Asked] = {}
        decisions = []
        for agency in agencies:
            between = index.get((agency, force), _NOTHING)
            table, rows = between.table, between.rows
            asked = heard.get(table)
            if asked is None:
                asked = heard[table] = table.ask(facts, at, fixed)  # (2)
            permission = _permission(rows, asked, at, urgent)
            code = DecisionCode.PERMITTED if permission else _why_denied(rows, asked)
            decisions.append(
                Decision(agency, code, bundle_sha256, at, permission, facts, rows, asked)
            )
        return tuple(decisions)


_NOTHING: Final = Between(ClauseTable(()), ())
"""What two parties without an agreement have between them."""


def urgent_for(facts: Facts) -> str | None:
    """Return the purpose that a request says is urgent, if it says so."""
    return facts.purpose if facts.urgent is True else None


def _permission(
    rows: tuple[Row, ...], asked: Asked, at: datetime, urgent: str | None
) -> Permission | None:
    """Return what permits, if anything does (1); ``urgent`` is the purpose that is urgent."""
    unmet = ~asked.satisfied
    # The rows are in the order of least disclosure, so the first is the choice (4).
    for row in rows:
        if not row.needs & unmet:
            return row.permission
        if urgent in row.urgent_for and not row.needs_when_urgent & unmet:
            return _by_urgent_route(row, asked, at)
    return None


def _by_urgent_route(row: Row, asked: Asked, at: datetime) -> Permission:  # (6)
    route = row.compiled.agreement.urgent
    if route is None:  # without a route nothing is waived, and then the row was not chosen by it
        return row.permission
    return replace(
        row.permission,
        waived=tuple(
            clause.id
            for bit, clause in enumerate(row.compiled.clauses, row.first)
            if not asked.satisfied >> bit & 1
        ),
        confirm_by=_later(at, timedelta(hours=route.confirm_within_hours)),
        confirmer_rank=route.confirmer_rank,
    )


def _why_denied(rows: tuple[Row, ...], asked: Asked) -> DecisionCode:
    if not rows:
        return DecisionCode.NO_AGREEMENT
    if all(row.in_force & ~asked.satisfied for row in rows):
        return DecisionCode.AGREEMENT_EXPIRED
    return DecisionCode.CLAUSES_FAILED


def _later(at: datetime, by: timedelta) -> datetime:
    try:
        return at + by
    except OverflowError:  # at the end of the calendar; a decision never raises
        return datetime.max.replace(tzinfo=UTC)


def _in_utc(at: datetime) -> datetime:
    if at.tzinfo is None or at.utcoffset() is None:
        raise ValueError("the instant of a decision needs a time zone")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # within hours of the calendar's ends
        return at.replace(tzinfo=UTC)


def compile_bundle(bundle: Bundle) -> CompiledPolicy:
    """Compile a verified bundle; done once, before any decision."""
    by_force: dict[str, list[CompiledAgreement]] = defaultdict(list)
    for party in bundle.agreements:
        agreement = party.file.agreement
        compiled = CompiledAgreement(
            agreement,
            party.file.sha256,
            (
                *core_clauses(agreement, bundle.not_before, bundle.not_after),
                *[compile_clause(clause) for clause in agreement.clauses],
                *standing_clauses(agreement),
            ),
        )
        for force in party.forces:
            by_force[force].append(compiled)
    # Forces with the same agreements share their tables.
    tables: dict[tuple[CompiledAgreement, ...], ClauseTable] = {}
    index: dict[tuple[str, str], Between] = {}
    for force, found in by_force.items():
        for block in _blocks(found):
            if block not in tables:
                tables[block] = ClauseTable(block)
            table = tables[block]
            for agency, rows in groupby(table.rows, lambda row: row.compiled.agreement.agency):
                index[agency, force] = Between(table, tuple(rows))
    return CompiledPolicy(bundle, MappingProxyType(index))


def _blocks(agreements: Iterable[CompiledAgreement]) -> Iterator[tuple[CompiledAgreement, ...]]:
    """Yield a force's agreements, those of an agency together, by the table they belong in.

    One table for all would be the quickest for a few agencies, and slow for hundreds.
    """
    block: list[CompiledAgreement] = []
    in_order = sorted(agreements, key=lambda one: (one.agreement.agency, one.agreement.id))
    for _, mine in groupby(in_order, lambda one: one.agreement.agency):
        together = list(mine)
        if block and len(block) + len(together) > TABLE_AGREEMENTS:
            yield tuple(block)
            block = []
        block += together
    if block:
        yield tuple(block)


def unknown_obligations(obligations: Obligations, known: frozenset[str]) -> tuple[str, ...]:
    """Return the obligations that bind and are not in ``known``, by field name."""
    unknown = obligations.binding - known
    return tuple(sorted(unknown)) if unknown else ()


def enforceable(obligations: Obligations, known: frozenset[str]) -> bool:
    """Whether an enforcer that knows ``known`` can carry out every obligation."""
    return not unknown_obligations(obligations, known)


def enforced(decision: Decision, known: frozenset[str]) -> Decision:
    """Return ``decision``, or a denial if its obligations are not all ``known`` (rule 5)."""
    if decision.obligations is None:
        return decision
    unknown = unknown_obligations(decision.obligations, known)
    if not unknown:
        return decision
    return replace(
        decision,
        code=DecisionCode.OBLIGATION_UNKNOWN,
        permission=None,
        unknown_obligations=unknown,
    )
