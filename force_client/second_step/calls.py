"""What the client's methods of the second step stand on: the open client itself."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any

from force_client.ground import Ground
from force_client.models import SearchView
from force_client.orderbook import OrderBook
from force_client.revisions import RevisionBook
from force_client.second_step.checks import Matter
from force_client.second_step.kept import Kept
from force_client.second_step.models import ReviewStatus
from force_client.second_step.reviews import digest_of
from force_client.settings import ForceSettings
from trust.clock import Clock
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.member_folder import MemberFolder


class Connected(ABC):
    """An open client, as its methods of the second step see it."""

    settings: ForceSettings
    force: str
    _clock: Clock
    _folder: MemberFolder
    _orders: OrderBook
    _revisions: RevisionBook
    _salt_key: bytes

    @property
    @abstractmethod
    def directory(self) -> Directory:
        """The directory in use."""

    @property
    @abstractmethod
    def broker(self) -> Member:
        """The broker's directory entry."""

    @abstractmethod
    async def get(self, search_id: str) -> SearchView:
        """Read one search and verify it."""

    @abstractmethod
    async def review_status(self, search_id: str) -> ReviewStatus:
        """Return how the reviews of a search stand, verified."""

    @abstractmethod
    async def take_recalls(self) -> int:
        """Mark what was recalled since, before anything of it is used."""

    @property
    @abstractmethod
    def _own_signer(self) -> Signer: ...

    @abstractmethod
    async def _call(
        self, method: Callable[[Any], Any], request: Any, waited: float = 0.0
    ) -> Any: ...

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self.settings.state_dir)

    def _ground(self, since: datetime | None = None) -> Ground:
        now = self._clock()
        return Ground(self.directory, self.broker.id, now, since or now)

    def _ground_of(self, matter: Matter) -> Ground:
        return self._ground(matter.order.order.created_at)

    async def _matter(self, search_id: str, reason: Reason) -> Matter:
        """Return an ended search, verified, with every candidate of it.

        Raises:
            ProbegateError: ``reason`` while it runs, or what ``get`` raises.
        """
        view = await self.get(search_id)
        if not view.verified:
            raise ProbegateError(reason, "the search has not ended", field="search_id")
        return matter_of(view, self._orders)

    async def _candidate(self, search_id: str, agency: str, reference: str) -> tuple[bytes, Ground]:
        """Return the order's digest of a search with a candidate, and what its proofs stand on.

        Once what its agency found is gone, a request for its details that is kept here says it.

        Raises:
            ProbegateError: ``NOTICE_INVALID`` if it is no candidate; ``RESULT_GONE``; or what
                ``get`` raises.
        """
        try:
            matter = await self._matter(search_id, Reason.NOTICE_INVALID)
            matter.report_of(agency, reference, Reason.NOTICE_INVALID)
        except ProbegateError as error:
            if error.reason is not Reason.RESULT_GONE:
                raise
            about = (search_id, agency, reference)
            kept = await asyncio.to_thread(self._kept.request_about, *about)
            if kept is None:
                raise
            return kept.order_sha256, self._ground(kept.created_at)
        return matter.order.sha256, self._ground_of(matter)


def matter_of(view: SearchView, orders: OrderBook) -> Matter:
    """Return a verified search as the second step names it."""
    reports = {
        one.outcome.agency: one.report for one in view.received.answers if one.report is not None
    }
    return Matter(
        view.search_id,
        orders.find(view.request_id),
        {
            one.agency: (
                digest_of(reports[one.agency]),
                tuple(candidate.reference for candidate in one.candidates),
            )
            for one in view.outcomes
            if one.candidates and one.agency in reports
        },
        frozenset(one.agency for one in view.outcomes if one.erased_at is not None),
    )
