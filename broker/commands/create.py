"""Create a search: steps 3 to 6 of the architecture, in the order that makes them safe.

1. Verify the envelope before anything in it is believed (``broker.admission``).
2. The same signed bytes again return the same search, whatever time it is: the search's id is a
   digest of the order, so a repeat cannot be recorded twice by any replica.
3. Check freshness, people, agencies and probes.
4. Decide and count what is permitted; a search denied everywhere is recorded like any other.
5. Record and start; wait for the end as long as the caller asked. A caller who goes away meanwhile
   changes nothing: what is on its way to the log is recorded and started.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from datetime import timedelta

from broker.admission import admit, open_order, require_fresh
from broker.commands.read import Reading
from broker.models import AdmittedOrder, CreateParams, SearchRecord, SearchView
from broker.ruling import Decider
from broker.running import RunningSearch
from broker.searches import Searches
from broker.settings import BrokerSettings
from broker.store import SearchStore
from trust.clock import Clock
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.tokens import TokenCache

_DOMAIN = b"probegate/search-id/v1\x00"
MERGE_RESERVE_S = 0.25
"""What is kept of a caller's deadline for recording the end and answering, seconds."""


class CreateSearch:
    """The command; one per process."""

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        searches: Searches,
        store: SearchStore,
        reading: Reading,
        decider: Decider,
        clock: Clock,
    ) -> None:
        self._skew = timedelta(seconds=settings.clock_skew_s)
        self._searches = searches
        self._store = store
        self._reading = reading
        self._decider = decider
        self._clock = clock
        self._tokens = TokenCache()
        self._starting: set[asyncio.Task[RunningSearch]] = set()

    async def execute(
        self, params: CreateParams, peer: PeerIdentity, directory: Directory, remaining_s: float
    ) -> SearchView:
        """Create the search, or return the one these very bytes made before.

        Raises:
            ProbegateError: see ``broker.admission`` and ``Searches.start``.
        """
        now = self._clock()
        directory.require_current(now)
        order = open_order(params, peer, directory, now)  # (1)
        search_id = search_id_of(order.force, params.order.payload)
        running = self._searches.running(search_id)  # (2)
        if running is None:
            try:
                require_fresh(order, now, self._skew)  # (3)
                admitted = admit(params, order, peer, directory, self._tokens, now)
            except ProbegateError:
                earlier = await self._store.get(order.force, search_id)
                if earlier is None:
                    raise
                return await self._reading.view(earlier)
            try:
                running = await self._started(search_id, admitted, directory.version)
            except ProbegateError as error:
                if error.reason is not Reason.ORDER_REPLAYED:
                    raise
                running = self._searches.running(search_id)
                if running is None:
                    earlier = await self._store.get(order.force, search_id)
                    if earlier is None:  # another order used the request id
                        raise
                    return await self._reading.view(earlier)
        return await self._reading.view(await self._wait(running, params.wait_s, remaining_s))

    async def _started(
        self, search_id: str, admitted: AdmittedOrder, directory_version: int
    ) -> RunningSearch:
        """Decide, record and start (4) (5), to the end even if the caller goes away."""

        async def start() -> RunningSearch:
            ruling, counted = await self._decider.rule(
                search_id, admitted.order, admitted.admitted_at
            )
            try:
                running = await self._searches.start(search_id, admitted, ruling, directory_version)
            except BaseException:
                counted.release()
                raise
            counted.keep()
            return running

        task = asyncio.create_task(start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _wait(
        self, running: RunningSearch, wait_s: float, remaining_s: float
    ) -> SearchRecord:
        patience = min(wait_s, remaining_s - MERGE_RESERVE_S)
        if patience > 0:
            done, _ = await asyncio.wait({running.ended}, timeout=patience)
            if done:
                return running.ended.result()
        return running.snapshot()


def _heard(task: asyncio.Task[RunningSearch]) -> None:
    """Take note of how a start ended, for the caller may have gone away."""
    if not task.cancelled():
        task.exception()


def search_id_of(force: str, order_payload: bytes) -> str:
    """Return the id of the search that an order's exact bytes make."""
    digest = hashlib.sha256(_DOMAIN + force.encode() + b"\x00" + order_payload).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
