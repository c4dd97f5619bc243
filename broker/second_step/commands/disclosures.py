"""Read requests for disclosure: one, or a page of them. A force sees its own and no others.

1. Another force's request and one that never was get the same answer.
2. Sealed details go out only while they are released and not past their end; not if the candidate
   was recalled or a review that they stand on no longer counts; and not while a kill switch is off.
   The first time is on the log before they do.
3. That a force asked for released details and did not get them is on the log with the reason, once
   for as long as it holds, before the force is told.
4. The decision and its receipt stay when the details are gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from audit.writer import LogWriter, NewEntry
from broker.pages import position_of, token_after
from broker.second_step import leaves
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.models import Disclosure, DisclosureState, DisclosureView
from broker.second_step.notice_store import RecallStore
from broker.second_step.orders import Orders
from broker.second_step.receipts import Receipts
from broker.settings import BrokerSettings
from policy.ledger import Ledger
from trust.clock import Clock
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class ReadDisclosures:
    """The commands; one per process."""

    settings: BrokerSettings
    disclosures: DisclosureStore
    recalls: RecallStore
    orders: Orders
    ledger: Ledger
    receipts: Receipts
    log: LogWriter
    clock: Clock

    async def get(self, force: str, request_id: str) -> DisclosureView:
        """Return one request (1).

        Raises:
            ProbegateError: ``NOT_FOUND``, or the log's own failure.
        """
        record = await self.disclosures.get(force, request_id)
        if record is None:
            raise ProbegateError(Reason.NOT_FOUND)
        return await self.view(record)

    async def page(
        self, force: str, search_id: str, page_size: int, token: str
    ) -> tuple[tuple[DisclosureView, ...], str]:
        """Return a page of a force's requests, newest first, and the next page's token.

        Raises:
            ProbegateError: ``PAGE_INVALID``.
        """
        if page_size < 0:
            raise ProbegateError(Reason.PAGE_INVALID, field="page_size")
        size = min(page_size or self.settings.default_page_size, self.settings.max_page_size)
        after = position_of(token) if token else None
        found = await self.disclosures.page(force, search_id, size + 1, after)
        shown = found[:size]
        last = shown[-1] if len(found) > size else None
        following = token_after(last.created_at, last.request_id) if last else ""
        return tuple(map(DisclosureView, shown)), following

    async def view(self, record: Disclosure) -> DisclosureView:
        """Return a request with its receipts, and with its details where they go out (2) (4).

        Raises:
            ProbegateError: the log's own failure.
        """
        withheld, sealed = "", b""
        if record.state is DisclosureState.RELEASED:
            withheld = await self._withheld(record)
            await self._note(record, withheld)
            sealed = b"" if withheld else await self._delivered(record)
        index = record.decision_index
        return DisclosureView(
            record,
            withheld,
            sealed,
            self.receipts.of(record.leaf_index),
            None if index is None else self.receipts.of(index),
        )

    async def _withheld(self, record: Disclosure) -> str:
        """Return why released details do not go out now, if that is so (2).

        That their time has passed comes last: a force that holds them asks for the rest.
        """
        if await self.recalls.is_recalled(record.search_id, record.agency, record.reference):
            return Reason.STOP_USE.name
        if record.said is not None and not await self.disclosures.still_stands(record.said):
            return Reason.REVIEWER_REVOKED.name
        order = await self.orders.kept(record.search_id)
        if self.ledger.is_switched_off(record.agency, record.force, order):
            return Reason.RELEASE_SWITCHED_OFF.name
        if not record.sealed or record.expires_at is None or self.clock() >= record.expires_at:
            return Reason.RELEASE_EXPIRED.name
        return ""

    async def _note(self, record: Disclosure, withheld: str) -> None:
        """Put on the log that details are withheld (3)."""
        if withheld == record.withheld:
            return
        if not withheld:
            await self.disclosures.withheld_no_more(record)
            return
        also = self.disclosures.withheld(record, withheld)
        leaf = leaves.disclosure_withheld(record, withheld, self.clock())
        try:
            await self.log.append(NewEntry(leaf=leaf, also=also))
        except ProbegateError as error:
            if error.reason is not Reason.SERVER_BUSY:  # another call has just told it
                raise

    async def _delivered(self, record: Disclosure) -> bytes:
        if not record.delivered:
            now = self.clock()
            also = self.disclosures.delivered(record, now)
            leaf = leaves.disclosure_delivered(record, now)
            try:
                await self.log.append(NewEntry(leaf=leaf, also=also))
            except ProbegateError as error:
                if error.reason is not Reason.SERVER_BUSY:
                    raise
                again = await self.disclosures.get(record.force, record.request_id)
                if again is None or not again.delivered:
                    raise
        return record.sealed
