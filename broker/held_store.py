"""Which answers are still asked for after a search has ended; no process remembers it.

Reads raise ``STATE_UNAVAILABLE``. Writes that belong to a search's end run in its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from broker.models import AgencyAnswer, SearchRecord
from broker.settings import BrokerSettings
from broker.storing import Storage
from broker.tables import candidate_links, held_answers
from trust.clock import from_us, to_us
from trust.messages import OutcomeState


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One answer that is still asked for: it is held, or did not come in time.

    Attributes:
        search_id: of which search.
        agency: whose it is.
        force: whose search it is.
        held_at: since when it is asked for.
        until: until when it is.
        asked: how often it was.
        grant_sha256: what it was asked under, where none came; empty where it is held.
    """

    search_id: str
    agency: str
    force: str
    held_at: datetime
    until: datetime
    asked: int
    grant_sha256: bytes

    @property
    def late(self) -> bool:
        """Whether no answer came at all."""
        return bool(self.grant_sha256)


@dataclass(frozen=True, slots=True)
class HeldStore(Storage):
    """What is still asked for, of every search."""

    settings: BrokerSettings

    def write(
        self,
        connection: Connection,
        record: SearchRecord,
        answers: Iterable[AgencyAnswer],
        now: datetime,
    ) -> None:
        """Write which of a search's answers are to be asked for, and from when until when."""
        rows = [
            {
                "search_id": record.search_id,
                "agency": answer.outcome.agency,
                "force": record.force,
                "held_us": to_us(now),
                "until_us": to_us(now + until),
                "asked": 0,
                "next_us": to_us(now + first),
                "grant_sha256": answer.asked_under or None,
            }
            for answer, first, until in self._to_ask_for(answers)
        ]
        if rows:
            connection.execute(insert(held_answers), rows)

    def _to_ask_for(
        self, answers: Iterable[AgencyAnswer]
    ) -> Iterator[tuple[AgencyAnswer, timedelta, timedelta]]:
        settings = self.settings
        for answer in answers:
            if answer.outcome.state is OutcomeState.HELD and answer.report is not None:
                yield (
                    answer,
                    timedelta(seconds=settings.held_first_s),
                    timedelta(hours=settings.held_at_most_h),
                )
            elif answer.asked_under:
                yield (
                    answer,
                    timedelta(seconds=settings.late_first_s),
                    timedelta(seconds=settings.late_at_most_s),
                )

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
        return tuple(
            HeldRow(
                search_id=row.search_id,
                agency=row.agency,
                force=row.force,
                held_at=from_us(row.held_us),
                until=from_us(row.until_us),
                asked=row.asked,
                grant_sha256=row.grant_sha256 or b"",
            )
            for row in await self.rows(query)
        )

    async def asked(self, row: HeldRow, until: datetime, again: datetime) -> None:
        """Keep that an answer was asked for, until when it is, and when it is next."""
        values = {"asked": row.asked + 1, "until_us": to_us(until), "next_us": to_us(again)}
        await self.run(
            lambda connection: connection.execute(_of(update(held_answers), row).values(values))
        )

    async def given_up(self, row: HeldRow) -> None:
        """Ask for an answer no more; what the search's end says of it stands.

        Link tokens that waited for it alone go with it.
        """

        def give_up(connection: Connection) -> None:
            connection.execute(_of(delete(held_answers), row))
            waits = select(held_answers.c.agency).where(held_answers.c.search_id == row.search_id)
            mine = candidate_links.c.search_id == row.search_id
            connection.execute(delete(candidate_links).where(mine, ~waits.exists()))

        await self.run(give_up)


def _of(statement: Any, row: HeldRow) -> Any:
    return statement.where(
        held_answers.c.search_id == row.search_id, held_answers.c.agency == row.agency
    )
