"""The force's client for code that does not use asyncio: the same methods, blocking.

It runs an ``AsyncForceClient`` on an event loop of its own in one thread, so it can be called from
any thread and inside frameworks that have a loop of their own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from force_client.client import DEFAULT_DIMS, AsyncForceClient
from force_client.models import (
    AgencyOutcome,
    Explanation,
    OrderDraft,
    SearchSummary,
    SearchView,
)
from force_client.officers import Officers
from force_client.orders import PreparedSearch
from force_client.probes import Probe
from force_client.second_step.sync import BlockingSecondStep
from force_client.settings import ForceSettings
from trust.clock import Clock, utc_now
from trust.directory import Directory
from trust.messages import Person
from trust.tokens import Part

_Made = TypeVar("_Made")


class ForceClient(BlockingSecondStep):
    """A force's connection to its broker; use it as a context manager.

    Every method does what the one of the same name does on ``AsyncForceClient``.

    Args:
        settings: where the force's keys, directory and state are.
        clock: the time.
    """

    def __init__(self, settings: ForceSettings, *, clock: Clock = utc_now) -> None:
        self._client = AsyncForceClient(settings, clock=clock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="probegate-force-client", daemon=True
        )

    def __enter__(self) -> Self:
        """Load keys and directory, and get ready to call."""
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the broker; searches under way go on there."""
        try:
            self._run(self._client.__aexit__(kind, error, trace))
        finally:
            self._stop()

    @property
    def force(self) -> str:
        """This force's directory id."""
        return self._client.force

    @property
    def officers(self) -> Officers:
        """The people of the officers file."""
        return self._client.officers

    @property
    def directory(self) -> Directory:
        """The directory in use."""
        return self._client.directory

    @property
    def agencies(self) -> tuple[str, ...]:
        """The ids of every agency of the directory."""
        return self._client.agencies

    def issue_token(self, officer_id: str, part: Part) -> str:
        """Issue a token, where this force is its own identity provider."""
        return self._client.issue_token(officer_id, part)

    def prepare(
        self, draft: OrderDraft, probe: Probe, *, request_id: str | None = None
    ) -> PreparedSearch:
        """Build, sign and seal a search without sending it."""

        async def prepared() -> PreparedSearch:
            return self._client.prepare(draft, probe, request_id=request_id)

        return self._run(prepared())

    def search(
        self,
        draft: OrderDraft,
        probe: Probe,
        *,
        officer_token: str,
        authoriser_token: str,
        wait: float | None = None,
        request_id: str | None = None,
    ) -> SearchView:
        """Search, wait for the end and verify it."""
        return self._run(
            self._client.search(
                draft,
                probe,
                officer_token=officer_token,
                authoriser_token=authoriser_token,
                wait=wait,
                request_id=request_id,
            )
        )

    def create(
        self,
        prepared: PreparedSearch,
        *,
        officer_token: str,
        authoriser_token: str,
        wait: float = 0.0,
    ) -> SearchView:
        """Send a prepared search; safe to repeat."""
        return self._run(
            self._client.create(
                prepared, officer_token=officer_token, authoriser_token=authoriser_token, wait=wait
            )
        )

    def watch(self, search_id: str) -> Iterator[AgencyOutcome | SearchView]:
        """Yield each agency's outcome as it comes, then the ended search."""
        return self._iterate(self._client.watch(search_id))

    def get(self, search_id: str) -> SearchView:
        """Read one search and verify it."""
        return self._run(self._client.get(search_id))

    def list(self, page_size: int = 0) -> Iterator[SearchSummary]:
        """Yield this force's searches, the newest first."""
        return self._iterate(self._client.list(page_size))

    def cancel(self, search_id: str) -> SearchView:
        """End a search now."""
        return self._run(self._client.cancel(search_id))

    def confirm_urgent(
        self, search_id: str, confirmer: Person, *, confirmer_token: str, reasons: str
    ) -> SearchView:
        """Confirm in writing a search that was made on the urgent route; safe to repeat."""
        return self._run(
            self._client.confirm_urgent(
                search_id, confirmer, confirmer_token=confirmer_token, reasons=reasons
            )
        )

    def preview(
        self, draft: OrderDraft, *, model: str | None = None, dims: int = DEFAULT_DIMS
    ) -> Explanation:
        """Return what would be decided for each agency, without a search."""
        return self._run(self._client.preview(draft, model=model, dims=dims))

    def explain(
        self, draft: OrderDraft, *, model: str | None = None, dims: int = DEFAULT_DIMS
    ) -> Explanation:
        """Return the decisions of ``preview`` with a paragraph for each agency."""
        return self._run(self._client.explain(draft, model=model, dims=dims))

    def _run(self, work: Coroutine[Any, Any, _Made]) -> _Made:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _iterate(self, items: AsyncIterator[_Made]) -> Iterator[_Made]:
        end = object()

        async def following() -> Any:
            return await anext(items, end)

        async def close() -> None:
            await items.aclose()  # type: ignore[attr-defined] # every one here is a generator

        try:
            while (item := self._run(following())) is not end:
                yield item
        finally:
            self._run(close())

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
