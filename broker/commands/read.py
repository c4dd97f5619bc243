"""Read searches: one, a page of them, or one as it goes on. A force sees its own and no others.

Another force's search and one that never was get the same answer (NOT_FOUND). One's own search
whose time is over is listed, and its answer is RESULT_GONE (``broker.retention``); that its urgent
route was confirmed is said all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

from audit.proofs import format_proof
from audit.writer import LogWriter
from broker.models import AgencyAnswer, SearchRecord, SearchState, SearchSummary, SearchView
from broker.pages import position_of, token_after
from broker.searches import Searches
from broker.settings import BrokerSettings
from broker.store import SearchStore
from trust.errors import ProbegateError, Reason


class Reading:
    """The reading commands; one per process."""

    def __init__(
        self, *, settings: BrokerSettings, searches: Searches, store: SearchStore, log: LogWriter
    ) -> None:
        self._settings = settings
        self._searches = searches
        self._store = store
        self._log = log

    async def get(self, force: str, search_id: str) -> SearchView:
        """Return one search.

        Raises:
            ProbegateError: ``NOT_FOUND`` or ``RESULT_GONE``.
        """
        return await self.view(await self._find(force, search_id))

    async def page(
        self, force: str, page_size: int, page_token: str
    ) -> tuple[tuple[SearchSummary, ...], str]:
        """Return a page of a force's searches, newest first, and the next page's token.

        Raises:
            ProbegateError: ``PAGE_INVALID``.
        """
        if page_size < 0:
            raise ProbegateError(Reason.PAGE_INVALID, field="page_size")
        size = min(page_size or self._settings.default_page_size, self._settings.max_page_size)
        after = position_of(page_token) if page_token else None
        found = await self._store.page(force, size + 1, after)
        shown = found[:size]
        token = token_after(shown[-1].created_at, shown[-1].search_id) if len(found) > size else ""
        return shown, token

    async def watch(self, force: str, search_id: str) -> AsyncIterator[AgencyAnswer | SearchView]:
        """Yield each outcome as it comes, and the ended search at last.

        Raises:
            ProbegateError: ``NOT_FOUND`` or ``RESULT_GONE``; or why the search could not be ended.
        """
        record = await self._find(force, search_id)
        told: set[str] = set()
        running = self._searches.running(search_id)
        if running is not None:
            async for answer in self._searches.follow(running):
                told.add(answer.outcome.agency)
                yield answer
            record = running.ended.result()
        while record.state is SearchState.RUNNING:  # another process runs it
            await asyncio.sleep(self._settings.watch_poll_s)
            record = await self._find(force, search_id)
        for answer in record.answers:
            if answer.outcome.agency not in told:
                yield answer
        yield await self.view(record)

    async def cancel(self, force: str, search_id: str) -> SearchView:
        """End a search now, with what it has.

        Raises:
            ProbegateError: ``NOT_FOUND`` or ``RESULT_GONE``; or why its end is not recorded yet.
        """
        record = await self._find(force, search_id)
        running = self._searches.running(search_id)
        if running is not None:
            running.cancel()
            record = await running.until_ended()
        return await self.view(record)

    async def view(self, record: SearchRecord) -> SearchView:
        """Add the proof that the search's end is in the log, under the newest checkpoint.

        Raises:
            ProbegateError: ``RESULT_GONE``.
        """
        index = record.result_leaf_index
        if _is_gone(record):
            raise ProbegateError(Reason.RESULT_GONE)
        confirmed_at = await self._confirmed_at(record)
        if index is None:
            return SearchView(record, confirmed_at=confirmed_at)
        checkpoint = self._log.checkpoint
        proof = self._log.inclusion(index, checkpoint.checkpoint.size)
        receipt = format_proof(index, proof, checkpoint.note).encode()
        return SearchView(record, receipt, self._log.leaf(index), confirmed_at)

    async def confirmed(self, record: SearchRecord) -> SearchView:
        """Return a search that was confirmed, with nothing of its end where that is gone.

        The confirmation is on the log by then, and a refusal would say that it is not.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        if _is_gone(record):
            return SearchView(record, confirmed_at=await self._confirmed_at(record))
        return await self.view(record)

    async def _confirmed_at(self, record: SearchRecord) -> datetime | None:
        if not any(decision.confirm_by for decision in record.decisions):
            return None  # the common case, without a read
        kept = await self._store.confirmation(record.search_id)
        return kept.at if kept else None

    async def _find(self, force: str, search_id: str) -> SearchRecord:
        running = self._searches.running(search_id)
        if running is not None and running.record.force == force:
            return running.snapshot()
        record = await self._store.get(force, search_id)
        if record is None:
            raise ProbegateError(Reason.NOT_FOUND)
        return record


def _is_gone(record: SearchRecord) -> bool:
    """Whether a search has ended and its time is over."""
    return record.result_leaf_index is not None and record.result is None
