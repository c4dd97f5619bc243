"""Which held answers are still asked for, in the broker's database; no process remembers it.

Reads raise ``STATE_UNAVAILABLE``. Writes that belong to a search's end run in its transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from audit.tables import storage_failure
from broker.models import SearchRecord
from broker.settings import BrokerSettings
from broker.tables import held_answers
from trust.clock import from_us, to_us
from trust.errors import Reason

_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One held answer that is still asked for.

    Attributes:
        search_id: of which search.
        agency: who holds it.
        force: whose search it is.
        held_at: since when it is held.
        until: until when it is asked for.
        asked: how often it was.
    """

    search_id: str
    agency: str
    force: str
    held_at: datetime
    until: datetime
    asked: int


@dataclass(frozen=True, slots=True)
class HeldStore:
    """The held answers of every search."""

    engine: Engine
    settings: BrokerSettings

    def write(
        self, connection: Connection, record: SearchRecord, agencies: Sequence[str], now: datetime
    ) -> None:
        """Write that these agencies' answers are to be asked for."""
        until = now + timedelta(hours=self.settings.held_at_most_h)
        rows = [
            {
                "search_id": record.search_id,
                "agency": agency,
                "force": record.force,
                "held_us": to_us(now),
                "until_us": to_us(until),
                "asked": 0,
                "next_us": to_us(now + timedelta(seconds=self.settings.held_first_s)),
            }
            for agency in agencies
        ]
        if rows:
            connection.execute(insert(held_answers), rows)

    def write_came(self, connection: Connection, search_id: str, agencies: Sequence[str]) -> None:
        """Write that these agencies' answers came."""
        connection.execute(
            delete(held_answers).where(
                held_answers.c.search_id == search_id, held_answers.c.agency.in_(agencies)
            )
        )

    async def due(self, now: datetime, most: int) -> tuple[HeldRow, ...]:
        """Return the answers that are to be asked for now, the longest due first."""
        query = (
            select(held_answers)
            .where(held_answers.c.next_us <= to_us(now))
            .order_by(held_answers.c.next_us)
            .limit(most)
        )
        rows = await self._run(lambda connection: connection.execute(query).all())
        return tuple(
            HeldRow(
                search_id=row.search_id,
                agency=row.agency,
                force=row.force,
                held_at=from_us(row.held_us),
                until=from_us(row.until_us),
                asked=row.asked,
            )
            for row in rows
        )

    async def asked(self, row: HeldRow, until: datetime, again: datetime) -> None:
        """Keep that an answer was asked for, until when it is, and when it is next."""
        values = {"asked": row.asked + 1, "until_us": to_us(until), "next_us": to_us(again)}
        await self._run(
            lambda connection: connection.execute(_of(update(held_answers), row).values(values))
        )

    async def given_up(self, row: HeldRow) -> None:
        """Ask for an answer no more; what the search's end says of it stands."""
        await self._run(lambda connection: connection.execute(_of(delete(held_answers), row)))

    async def _run(self, work: Callable[[Connection], _Done]) -> _Done:
        def run() -> _Done:
            with self.engine.begin() as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(run)
        except SQLAlchemyError as error:
            raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error


def _of(statement: Any, row: HeldRow) -> Any:
    return statement.where(
        held_answers.c.search_id == row.search_id, held_answers.c.agency == row.agency
    )
