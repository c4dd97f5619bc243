"""Say what would be decided, without a probe and without a search."""

from __future__ import annotations

from collections.abc import Callable

from broker.decisions import decide
from broker.models import AgencyDecision
from policy.decision import CompiledPolicy
from trust.clock import Clock
from trust.directory import Directory, Role
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.mtls import PeerIdentity


class PreviewSearch:
    """The command; one per process."""

    def __init__(self, *, policy: Callable[[], CompiledPolicy], clock: Clock) -> None:
        self._policy = policy
        self._clock = clock

    def execute(
        self, order: SearchOrder, peer: PeerIdentity, directory: Directory
    ) -> tuple[tuple[AgencyDecision, ...], bytes]:
        """Return each agency's decision, clauses and all, and the digest of the bundle.

        Raises:
            ProbegateError: ``CHANNEL_ROLE`` for another force's order; ``AGENCY_UNKNOWN``.
        """
        if order.force != peer.member.id:
            raise ProbegateError(Reason.CHANNEL_ROLE, field="force")
        for agency in order.agencies:
            directory.member(agency, Role.AGENCY)
        policy = self._policy()
        decisions = decide(order, policy, self._clock(), with_clauses=True)
        return decisions, policy.bundle.sha256
