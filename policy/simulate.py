"""Recorded decisions made again: what a candidate would have decided, and whether they were right.

1. A decision is a pure function, so what was recorded of it (facts, instant, agency) is enough to
   make it again, under any agreements.
2. Under a candidate (``simulate``) a difference is what the candidate would change.
3. Under the very bundle that was recorded (``rerun``) any difference is a fault, of whoever decided
   or of the record. A decision under another bundle cannot be rerun and is not counted as right.
4. Records are read one by one and none is kept but the first few that differ.

An enforcer denies a permit whose obligations it does not know; give ``known`` to have that done
again, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from policy.decision import CompiledPolicy, Decision, enforced
from policy.facts import Facts

KEPT: Final = 100
"""Most differing decisions that a result keeps, unless told otherwise."""


class Kind(StrEnum):
    """How a decision came out the second time."""

    SAME = "same"
    ALLOW_TO_DENY = "allow->deny"
    DENY_TO_ALLOW = "deny->allow"
    OTHER_AGREEMENT = "other agreement"
    OTHER_CLAUSES = "other failed clauses"
    OTHER_BUNDLE = "other bundle"


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision as it was written down; ``agreement_sha256`` is empty on a denial."""

    search_id: str
    agency: str
    facts: Facts = field(repr=False)
    at: datetime
    permitted: bool
    code: str
    failed: tuple[str, ...]
    agreement_sha256: bytes
    policy_sha256: bytes


@dataclass(frozen=True, slots=True)
class Redecided:
    """A recorded decision and the one made again; ``decision`` is ``None`` where none was made."""

    recorded: RecordedDecision
    decision: Decision | None
    kind: Kind

    def as_json(self) -> dict[str, Any]:
        """Return the difference as JSON values, without the facts, which are personal."""
        record, again = self.recorded, self.decision
        return {
            "search_id": record.search_id,
            "agency": record.agency,
            "at": record.at.isoformat(),
            "kind": self.kind.value,
            "recorded": {
                "permitted": record.permitted,
                "code": record.code,
                "failed": list(record.failed),
                "agreement_sha256": record.agreement_sha256.hex(),
                "policy_sha256": record.policy_sha256.hex(),
            },
            "again": None
            if again is None
            else {
                "permitted": again.permitted,
                "code": again.code.value,
                "failed": list(again.failed),
                "agreement_id": again.agreement_id,
                "agreement_sha256": again.agreement_sha256.hex(),
                "policy_sha256": again.bundle_sha256.hex(),
            },
        }


@dataclass(frozen=True, slots=True)
class Simulation:
    """How many decisions came out how, and the first few that did not come out the same."""

    total: int
    counts: dict[Kind, int]
    by_agency: dict[str, dict[Kind, int]]
    examples: tuple[Redecided, ...]

    @property
    def differing(self) -> int:
        """How many did not come out the same, or were not made again."""
        return self.total - self.counts[Kind.SAME]

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "total": self.total,
            "differing": self.differing,
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "by_agency": {
                agency: {kind.value: count for kind, count in counts.items() if count}
                for agency, counts in self.by_agency.items()
            },
            "examples": [example.as_json() for example in self.examples],
        }


def redecide(
    records: Iterable[RecordedDecision],
    policy: CompiledPolicy,
    *,
    known: frozenset[str] | None = None,
) -> Iterator[Redecided]:
    """Yield every recorded decision with what ``policy`` decides, the same or not (1).

    Args:
        records: what was recorded, read one by one.
        policy: what to decide under.
        known: the obligations that the enforcer knows; ``None`` leaves them out of it.

    Raises:
        ValueError: a record's instant has no time zone.
    """
    for record in records:
        decision = policy.decide(record.facts, record.agency, record.at)
        if known is not None:
            decision = enforced(decision, known)
        yield Redecided(record, decision, _kind(record, decision))


def _kind(record: RecordedDecision, again: Decision) -> Kind:
    if record.permitted != again.permitted:
        return Kind.ALLOW_TO_DENY if record.permitted else Kind.DENY_TO_ALLOW
    if record.agreement_sha256 != again.agreement_sha256:
        return Kind.OTHER_AGREEMENT
    failed = again.failed or again.unknown_obligations
    if (record.code, frozenset(record.failed)) != (again.code.value, frozenset(failed)):
        return Kind.OTHER_CLAUSES
    return Kind.SAME


def simulate(
    records: Iterable[RecordedDecision],
    policy: CompiledPolicy,
    *,
    known: frozenset[str] | None = None,
    keep: int = KEPT,
) -> Simulation:
    """Return what a candidate would have decided otherwise (2); arguments as ``redecide``.

    ``keep`` is how many of those are kept to be shown. A new version of an agreement is another
    agreement: its digest is all that was recorded.
    """
    return _tally(redecide(records, policy, known=known), keep)


def rerun(
    records: Iterable[RecordedDecision],
    kept: Callable[[RecordedDecision], CompiledPolicy | None],
    *,
    known: frozenset[str] | None = None,
    keep: int = KEPT,
) -> Simulation:
    """Return which decisions come out otherwise under the bundle they were made under (3).

    Args:
        records: as ``redecide``.
        kept: returns the bundle a decision was made under, or ``None`` where it was not kept.
        known: as ``redecide``.
        keep: as ``simulate``.
    """
    return _tally(_rerun(records, kept, known), keep)


def _rerun(
    records: Iterable[RecordedDecision],
    kept: Callable[[RecordedDecision], CompiledPolicy | None],
    known: frozenset[str] | None,
) -> Iterator[Redecided]:
    for record in records:
        policy = kept(record)
        if policy is None or record.policy_sha256 != policy.bundle.sha256:
            yield Redecided(record, None, Kind.OTHER_BUNDLE)
        else:
            yield from redecide((record,), policy, known=known)


def faults(result: Simulation) -> int:
    """Return how many decisions a rerun found wrong."""
    return result.differing - result.counts[Kind.OTHER_BUNDLE]


def _tally(redecided: Iterable[Redecided], keep: int) -> Simulation:  # (4)
    by_agency: dict[str, Counter[Kind]] = {}
    examples: list[Redecided] = []
    for one in redecided:
        by_agency.setdefault(one.recorded.agency, Counter())[one.kind] += 1
        if one.kind not in {Kind.SAME, Kind.OTHER_BUNDLE} and len(examples) < keep:
            examples.append(one)
    counts = {kind: sum(counter[kind] for counter in by_agency.values()) for kind in Kind}
    return Simulation(
        total=sum(counts.values()),
        counts=counts,
        by_agency={agency: dict(by_agency[agency]) for agency in sorted(by_agency)},
        examples=tuple(examples),
    )
