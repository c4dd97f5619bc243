"""The signed orders of searches, for whoever must be shown one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from broker.storing import Storage
from broker.tables import searches
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.wire import decode_order, envelope_from_bytes


@dataclass(frozen=True, slots=True)
class Orders:
    """Reads orders."""

    storage: Storage

    async def of(self, search_id: str) -> tuple[SearchOrder, Envelope]:
        """Return the order of a search, read and as it was signed.

        Raises:
            ProbegateError: ``NOT_FOUND`` if there is no such search, or its order was erased;
                ``STATE_UNAVAILABLE``.
        """
        envelope = await self._envelope(search_id)
        if envelope is None:
            raise ProbegateError(Reason.NOT_FOUND, "no order")
        return decode_order(envelope.payload), envelope

    async def kept(self, search_id: str) -> SearchOrder | None:
        """Return the order of a search, none if it was erased.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        envelope = await self._envelope(search_id)
        return decode_order(envelope.payload) if envelope is not None else None

    async def _envelope(self, search_id: str) -> Envelope | None:
        rows = await self.storage.rows(
            select(searches.c.order_envelope).where(searches.c.search_id == search_id)
        )
        found = rows[0].order_envelope if rows else b""
        return envelope_from_bytes(found) if found else None

    async def force_of(self, search_id: str) -> str | None:
        """Return whose search one is, or none if there is no such search."""
        rows = await self.storage.rows(
            select(searches.c.force).where(searches.c.search_id == search_id)
        )
        return rows[0].force if rows else None
