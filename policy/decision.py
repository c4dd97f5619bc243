"""The decision: a pure function of compiled agreements, facts and an instant.

Rules:
1. Default deny. A permit needs an agreement in force, between this agency and this force, of which
   every clause is satisfied; indeterminate is not satisfied.
2. Every clause of every agreement between the two is asked, so a denial names all that failed.
3. Time is an argument. No clock, network or file is touched, and nothing raises.
4. Among agreements that permit, the one that discloses least is chosen: hit/no-hit first, then
   fewest candidates, fewest fields, and the id.
5. An obligation that the enforcer does not know makes the permit a denial.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from policy.agreements import Agreement, AgreementFile, Obligations
from policy.clauses import SATISFIED, CompiledClause, Test, Verdict, compile_clause
from policy.core_clauses import FIXED, core_clauses
from policy.facts import Facts

_IN_FORCE_CLAUSES = 2
"""How many of the core clauses, at the front, say whether the agreement is in force."""


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
    """One clause and what it said; ``actual`` is ``None`` where the fact is missing."""

    agreement_id: str
    clause_id: str
    citation: str
    attribute: str
    operator: str
    required: str
    actual: str | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, eq=False)
class CompiledAgreement:
    """An agreement with its clauses, core ones first, ready to be asked."""

    agreement: Agreement
    sha256: bytes
    clauses: tuple[CompiledClause, ...]
    front: tuple[Test, ...]
    """The tests of the clauses before the fixed ones, which are the same in every agreement."""
    back: tuple[Test, ...]
    """The tests of the clauses after them."""

    @property
    def disclosure_order(self) -> tuple[bool, int, int, str]:
        """Sorts the agreement that discloses least first (rule 4)."""
        duties = self.agreement.obligations
        return (
            not duties.hit_no_hit,
            duties.max_candidates,
            len(duties.fields),
            self.agreement.id,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the clauses of one agreement said, in their order."""

    compiled: CompiledAgreement
    verdicts: tuple[Verdict, ...]

    @property
    def permits(self) -> bool:
        """Whether every clause is satisfied (rule 1)."""
        return self.verdicts.count(SATISFIED) == len(self.verdicts)

    @property
    def in_force(self) -> bool:
        """Whether the agreement is in force at all."""
        front = self.verdicts[:_IN_FORCE_CLAUSES]
        return front.count(SATISFIED) == _IN_FORCE_CLAUSES


@dataclass(frozen=True)
class Decision:
    """One agency's decision; the clauses' details are built when they are asked for.

    ``considered`` names every agreement between the two parties; ``agreement_*`` and
    ``obligations`` are those of the chosen one and empty on a denial.
    """

    agency: str
    verdict: Outcome
    code: DecisionCode
    bundle_sha256: bytes
    decided_at: datetime
    considered: tuple[str, ...] = ()
    agreement_id: str = ""
    agreement_version: int = 0
    agreement_sha256: bytes = b""
    obligations: Obligations | None = None
    unknown_obligations: tuple[str, ...] = ()
    facts: Facts = field(default_factory=Facts, repr=False)
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)

    @property
    def permitted(self) -> bool:
        """Whether the search may go to the agency."""
        return self.verdict is Outcome.PERMIT

    @cached_property
    def clauses(self) -> tuple[ClauseVerdict, ...]:
        """Every clause of every agreement considered, with its verdict."""
        return tuple(
            ClauseVerdict(
                agreement_id=evaluation.compiled.agreement.id,
                clause_id=clause.id,
                citation=clause.citation,
                attribute=clause.attribute,
                operator=clause.operator,
                required=clause.required,
                actual=clause.show(self.facts, self.decided_at),
                verdict=verdict,
            )
            for evaluation in self.evaluations
            for clause, verdict in zip(
                evaluation.compiled.clauses, evaluation.verdicts, strict=True
            )
        )

    @property
    def failed(self) -> tuple[str, ...]:
        """The ids of the clauses that stood in the way, each once; empty on a permit."""
        if self.permitted:
            return ()
        return tuple(
            dict.fromkeys(
                clause.id
                for evaluation in self.evaluations
                for clause, verdict in zip(
                    evaluation.compiled.clauses, evaluation.verdicts, strict=True
                )
                if verdict is not Verdict.SATISFIED
            )
        )


class CompiledPolicy:
    """Agreements indexed by agency and force; safe to share between threads.

    Attributes:
        bundle: what it was compiled from.
    """

    __slots__ = ("_index", "bundle")

    def __init__(
        self, bundle: Bundle, index: Mapping[tuple[str, str], tuple[CompiledAgreement, ...]]
    ) -> None:
        self.bundle = bundle
        self._index = index

    @property
    def parties(self) -> frozenset[tuple[str, str]]:
        """Every (agency, force) with an agreement, in force or not."""
        return frozenset(self._index)

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
        """Decide for each agency what ``decide`` would; the clauses they share are asked once.

        Raises:
            ValueError: as ``decide``.
        """
        at = _in_utc(at)
        fixed = tuple([clause.test(facts, at) for clause in FIXED])
        return tuple([self._decide(facts, agency, at, fixed) for agency in agencies])

    def _decide(
        self, facts: Facts, agency: str, at: datetime, fixed: tuple[Verdict, ...]
    ) -> Decision:
        agreements = self._index.get((agency, facts.force or ""), ())
        evaluations = tuple(  # (2)
            [
                Evaluation(
                    compiled,
                    (
                        *[test(facts, at) for test in compiled.front],
                        *fixed,
                        *[test(facts, at) for test in compiled.back],
                    ),
                )
                for compiled in agreements
            ]
        )
        permitting = [e.compiled for e in evaluations if e.permits]  # (1)
        if not permitting:
            return Decision(
                agency=agency,
                verdict=Outcome.DENY,
                code=_why_denied(evaluations),
                bundle_sha256=self.bundle.sha256,
                decided_at=at,
                considered=tuple(c.agreement.id for c in agreements),
                facts=facts,
                evaluations=evaluations,
            )
        # The index keeps the order of least disclosure, so the first is the choice (rule 4).
        chosen = permitting[0]
        return Decision(
            agency=agency,
            verdict=Outcome.PERMIT,
            code=DecisionCode.PERMITTED,
            bundle_sha256=self.bundle.sha256,
            decided_at=at,
            considered=tuple(c.agreement.id for c in agreements),
            agreement_id=chosen.agreement.id,
            agreement_version=chosen.agreement.version,
            agreement_sha256=chosen.sha256,
            obligations=chosen.agreement.obligations,
            facts=facts,
            evaluations=evaluations,
        )


def _why_denied(evaluations: tuple[Evaluation, ...]) -> DecisionCode:
    if not evaluations:
        return DecisionCode.NO_AGREEMENT
    if not any(evaluation.in_force for evaluation in evaluations):
        return DecisionCode.AGREEMENT_EXPIRED
    return DecisionCode.CLAUSES_FAILED


def _in_utc(at: datetime) -> datetime:
    if at.tzinfo is None or at.utcoffset() is None:
        raise ValueError("the instant of a decision needs a time zone")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # within hours of the calendar's ends
        return at.replace(tzinfo=UTC)


def compile_bundle(bundle: Bundle) -> CompiledPolicy:
    """Compile a verified bundle; done once, before any decision."""
    index: dict[tuple[str, str], list[CompiledAgreement]] = defaultdict(list)
    for party in bundle.agreements:
        agreement = party.file.agreement
        core = core_clauses(agreement, bundle.not_before, bundle.not_after)
        own = tuple(compile_clause(clause) for clause in agreement.clauses)
        compiled = CompiledAgreement(
            agreement,
            party.file.sha256,
            (*core, *own),
            front=tuple(clause.test for clause in core[: -len(FIXED)]),
            back=tuple(clause.test for clause in own),
        )
        for force in party.forces:
            index[agreement.agency, force].append(compiled)
    return CompiledPolicy(
        bundle,
        MappingProxyType(
            {
                parties: tuple(sorted(found, key=lambda c: c.disclosure_order))  # (4)
                for parties, found in index.items()
            }
        ),
    )


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
        verdict=Outcome.DENY,
        code=DecisionCode.OBLIGATION_UNKNOWN,
        agreement_id="",
        agreement_version=0,
        agreement_sha256=b"",
        obligations=None,
        unknown_obligations=unknown,
    )
