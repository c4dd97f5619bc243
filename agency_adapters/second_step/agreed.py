"""What this agency's own copy of the agreements says today about a search that it answered.

1. The agreement is one between this agency and the force, within its days and its bundle's window,
   and the documents it stands on are current: today, not on the day of the search.
2. It has a gateway for the order's purpose, and the order satisfies its own clauses as they stood
   when the order was made. Quotas and earlier answers were counted for the search, and are not
   counted again. What it asks of whoever receives an answer is what this kind of agency asks, and
   it asks nothing of us that we do not know.
3. Of several, the one that discloses least is the one that counts, as it was for the search.
4. Nothing about the search is switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agency_adapters.agency import AgencyKind
from agency_adapters.checks import KNOWN_OBLIGATIONS, matcher_switches
from policy.agreements import Agreement, Obligations
from policy.clauses import SATISFIED
from policy.decision import CompiledPolicy, enforceable
from policy.facts import facts_of_order
from policy.standing import assume_nothing_on_record, switches_of
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder

STILL_ASKED: Final = frozenset(
    {"core.in-force", "core.bundle-current", "core.documents-current", "core.gateway-for-purpose"}
)
"""The built-in clauses that are asked of today (1) (2); the others are of the search itself."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The agreement that counts.

    Attributes:
        id: the agreement's id.
        duties: what it obliges its user to.
    """

    id: str
    duties: Obligations


def agreed(
    policy: CompiledPolicy, order: SearchOrder, agency: str, kind: AgencyKind, now: datetime
) -> Agreed | None:
    """Return the agreement that counts today (1) (2) (3), or None if there is none."""
    facts = facts_of_order(order, sealed=True, standing=assume_nothing_on_record([agency]))
    for compiled in policy.agreements(agency, order.force):
        duties = compiled.agreement.obligations
        if kind.unmet_duties(duties) or not enforceable(duties, KNOWN_OBLIGATIONS):
            continue
        own = _own_clauses(compiled.agreement, order)
        asked = {clause.id: clause for clause in compiled.clauses}
        if all(asked[one].test(facts, now) is SATISFIED for one in STILL_ASKED) and all(
            asked[one].test(facts, order.created_at) is SATISFIED for one in own
        ):
            return Agreed(compiled.agreement.id, duties)
    return None


def _own_clauses(agreement: Agreement, order: SearchOrder) -> tuple[str, ...]:
    """Return the ids of the clauses that an order must satisfy (2)."""
    route, why = agreement.urgent, order.justification
    waived: tuple[str, ...] = ()
    if route is not None and why.urgent and why.purpose in route.purposes:
        waived = route.waives
    return tuple(clause.id for clause in agreement.clauses if clause.id not in waived)


def switches_for(order: SearchOrder, agency: str, matcher: str) -> tuple[str, ...]:
    """Return the kill switches that stop what follows a search, in alphabetical order."""
    why, model = order.justification, order.probe.model
    names = {*switches_of(agency, order.force, why.purpose, model), *matcher_switches(matcher)}
    return tuple(sorted(names))


def require_switched_on(
    order: SearchOrder, agency: str, matcher: str, switched_off: frozenset[str]
) -> None:
    """Apply rule (4).

    Raises:
        ProbegateError: ``RELEASE_SWITCHED_OFF``.
    """
    off = switched_off & set(switches_for(order, agency, matcher))
    if off:
        raise ProbegateError(Reason.RELEASE_SWITCHED_OFF, ", ".join(sorted(off)))
