"""Say what would be decided, without a probe and without a search."""

from __future__ import annotations

from broker.models import Ruling
from broker.ruling import Decider
from trust.clock import Clock
from trust.directory import Directory, Role
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.mtls import PeerIdentity


class PreviewSearch:
    """The command; one per process."""

    def __init__(self, *, decider: Decider, clock: Clock) -> None:
        self._decider = decider
        self._clock = clock

    async def execute(self, order: SearchOrder, peer: PeerIdentity, directory: Directory) -> Ruling:
        """Return each agency's decision, clauses and all.

        Raises:
            ProbegateError: ``CHANNEL_ROLE`` for another force's order; ``AGENCY_UNKNOWN``;
                ``STATE_UNAVAILABLE``.
        """
        if order.force != peer.member.id:
            raise ProbegateError(Reason.CHANNEL_ROLE, field="force")
        for agency in order.agencies:
            directory.member(agency, Role.AGENCY)
        return await self._decider.preview(order, self._clock())
