"""Say what would be decided and what it would yield, without a probe and without a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broker.dispatch import AgencyClient
from broker.expectations import expectation_of
from broker.models import Preview
from broker.ruling import Decider
from trust.clock import Clock
from trust.directory import Directory, Role
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.mtls import PeerIdentity


class PreviewSearch:
    """The command; one per process."""

    def __init__(
        self, *, decider: Decider, agencies: Mapping[str, AgencyClient], clock: Clock
    ) -> None:
        self._decider = decider
        self._agencies = agencies
        self._clock = clock

    async def execute(
        self, order: SearchOrder, peer: PeerIdentity, directory: Directory
    ) -> Preview:
        """Return each agency's decision, clauses and all, with what is expected of it.

        Raises:
            ProbegateError: ``CHANNEL_ROLE`` for another force's order; ``AGENCY_UNKNOWN``;
                ``STATE_UNAVAILABLE``.
        """
        if order.force != peer.member.id:
            raise ProbegateError(Reason.CHANNEL_ROLE, field="force")
        for agency in order.agencies:
            directory.member(agency, Role.AGENCY)
        now = self._clock()
        ruling = await self._decider.preview(order, now)
        clients = (self._agencies.get(agency) for agency in order.agencies)
        heard = {one.agency: one.heard for one in clients if one is not None and one.heard}
        expected = expectation_of(order, ruling.decisions, heard, now)
        decisions = tuple(
            replace(one, expected_false=expected.by_agency.get(one.agency))
            for one in ruling.decisions
        )
        return Preview(replace(ruling, decisions=decisions), expected.total, expected.without)
