"""What the broker decides for each agency of an order, and what it grants (promise 3).

1. Each agency is decided for itself, against the agreements in force at the order's admission and
   what is on the broker's own records at that instant (``standing``).
2. An obligation that the broker does not know makes that agency a denial.
3. What is granted is the stricter of what the agreement allows and what the force asked for.
4. A grant is made only from the log entry that records it, and is the same bytes whenever it is
   made again from that entry: a broker that restarts asks on under the grant it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from broker.models import AgencyDecision
from policy.decision import CompiledPolicy, enforced
from policy.facts import Facts, facts_of_order
from policy.standing import Standing
from trust.messages import Obligations, Permit, SearchGrant, SearchLimits, SearchOrder

KNOWN_OBLIGATIONS: Final = frozenset(
    {
        "caveats",
        "fields",
        "hit_no_hit",
        "images",
        "max_candidates",
        "min_score",
        "mode",
        "onward_transfer",
        "release_by_human",
        "release_within_hours",
        "retention_days",
        "reviewers",
    }
)
"""Obligations this broker carries out or passes on. ``fields``, ``images`` and ``reviewers`` bind
what follows a search (``broker.second_step``); ``onward_transfer`` and ``release_within_hours``
bind the recipient and the owner."""


def facts_of(order: SearchOrder, standing: Standing) -> Facts:
    """Return what an order is decided on; every probe that was admitted came sealed."""
    return facts_of_order(order, sealed=True, standing=standing)


def decide(
    order: SearchOrder,
    facts: Facts,
    policy: CompiledPolicy,
    at: datetime,
    *,
    with_clauses: bool = False,
) -> tuple[AgencyDecision, ...]:
    """Decide for every agency of an order, in the order's sequence: rules (1) to (3).

    Args:
        order: what is asked.
        facts: what it is decided on, ``facts_of`` the order.
        policy: the agreements.
        at: the instant of the decision.
        with_clauses: whether each decision carries every clause, to be read; a search keeps none.
    """
    made = []
    for agency, decided in zip(
        order.agencies, policy.decide_each(facts, order.agencies, at), strict=True
    ):
        decision = enforced(decided, KNOWN_OBLIGATIONS)  # (1) (2)
        made.append(
            AgencyDecision(
                agency=agency,
                permitted=decision.permitted,
                code=decision.code.value,
                failed_clauses=decision.failed or decision.unknown_obligations,
                agreement=decision.agreement_id,
                agreement_sha256=decision.agreement_sha256,
                obligations=(
                    stricter(decision.obligations.for_grant, order.limits)
                    if decision.obligations
                    else None
                ),
                waived=decision.waived,
                confirm_by=decision.confirm_by,
                confirmer_rank=decision.confirmer_rank,
                full=decision if with_clauses else None,
            )
        )
    return tuple(made)


def stricter(allowed: Obligations, asked: SearchLimits) -> Obligations:
    """Return the stricter of what is allowed and what is asked for: rule (3)."""
    floor = (
        allowed.min_score if asked.min_score is None else max(allowed.min_score, asked.min_score)
    )
    most = min(allowed.max_candidates, asked.max_candidates)
    if (most, floor) == (allowed.max_candidates, allowed.min_score):
        return allowed
    return allowed.model_copy(update={"max_candidates": most, "min_score": floor})


def grant_for(
    search_id: str,
    order_sha256: bytes,
    leaf: bytes,
    policy_sha256: bytes,
    decisions: Sequence[AgencyDecision],
    issued_at: datetime,
    lifetime: timedelta,
) -> SearchGrant | None:
    """Make the grant that a log entry records, or None where nobody is permitted: rule (4)."""
    permits = tuple(
        Permit(
            agency=decision.agency,
            agreement_sha256=decision.agreement_sha256,
            obligations=decision.obligations,
        )
        for decision in decisions
        if decision.permitted and decision.obligations is not None
    )
    if not permits:
        return None
    return SearchGrant(
        search_id=search_id,
        order_sha256=order_sha256,
        leaf_sha256=hashlib.sha256(leaf).digest(),
        policy_sha256=policy_sha256,
        permits=permits,
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
    )
