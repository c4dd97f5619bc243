"""The decision by the longest way: every clause of every agreement asked by itself."""

from __future__ import annotations

from policy.clauses import Verdict
from policy.decision import CompiledPolicy, Decision


def clause_by_clause(policy: CompiledPolicy, decision: Decision) -> tuple[bool, set[str]]:
    """Return whether some agreement has no clause in the way, and all that are in the way."""
    facts, at = decision.facts, decision.decided_at
    permitted = False
    failed: set[str] = set()
    for compiled in policy.agreements(decision.agency, facts.force or ""):
        route = compiled.agreement.urgent
        hurried = route and facts.urgent is True and facts.purpose in route.purposes
        waived = route.waives if route and hurried else ()
        unmet = {
            clause.id
            for clause in compiled.clauses
            if clause.test(facts, at) is not Verdict.SATISFIED and clause.id not in waived
        }
        permitted |= not unmet
        failed |= unmet
    return permitted, failed
