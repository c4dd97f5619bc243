"""Deciding an order on what it states and on what is on the broker's own records.

1. One bundle decides a whole order: it is taken once, and a newer one waits for the next order.
2. Between reading the counters and counting the permitted search nothing else runs, so a quota is
   exact however many orders come at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from broker.decisions import decide, facts_of
from broker.history import History
from broker.models import Ruling
from policy.decision import CompiledPolicy
from policy.ledger import Ledger, Reservation
from trust.messages import SearchOrder


class Decider:
    """Rules on orders; the broker's core has one."""

    def __init__(
        self, *, policy: Callable[[], CompiledPolicy], ledger: Ledger, history: History
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._history = history

    async def rule(self, ref: str, order: SearchOrder, at: datetime) -> tuple[Ruling, Reservation]:
        """Decide an order and count what is permitted, until it is kept or released.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        ruling = await self._ruling(ref, order, at, with_clauses=False)
        return ruling, self._ledger.reserve(ruling.asked.subjects, ruling.permitted, at)  # (2)

    async def preview(self, order: SearchOrder, at: datetime) -> Ruling:
        """Decide an order, every clause with it, without counting anything.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        return await self._ruling("", order, at, with_clauses=True)

    async def _ruling(
        self, ref: str, order: SearchOrder, at: datetime, *, with_clauses: bool
    ) -> Ruling:
        policy = self._policy()  # (1)
        asked = self._history.asked(ref, order)
        proved = await self._history.answered(policy, asked, order.agencies, at)
        answered = {agency: answer.at for agency, answer in proved.items()}
        standing = await self._ledger.standing(asked.subjects, order.agencies, at, answered)
        facts = facts_of(order, standing)  # (2): nothing is waited for from here on
        return Ruling(
            decisions=decide(order, facts, policy, at, with_clauses=with_clauses),
            policy_sha256=policy.bundle.sha256,
            asked=asked,
            standing=standing,
            warnings=facts.warnings,
        )
