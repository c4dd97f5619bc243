"""Searches in the database. Writes are handed to the log writer, to commit with a log entry.

Reads run on worker threads; none is on the path of a new search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from broker import wire
from broker.models import (
    AdmittedOrder,
    AgencyAnswer,
    AgencyDecision,
    KeptConfirmation,
    SealedProbe,
    SearchRecord,
    SearchState,
    SearchSummary,
)
from broker.storing import Write, microseconds_of
from broker.tables import candidate_links, confirmations, held_answers, searches
from trust.clock import from_us, to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import CandidateLinks, SearchOrder
from trust.wire import (
    decode_links,
    decode_order,
    encode_links,
    envelope_from_bytes,
    envelope_to_bytes,
)

NUL: Final = "\x00"
"""PostgreSQL refuses a text with this in it, and no id of ours has it."""

NO_RESULT: Final = -1
"""Where in the log the end is of a search that has none."""
_AT_THE_END: Final = frozenset({"ended", "result_index", "erase_us", "expire_us"})
"""Columns that are written when a search ends."""
_LISTED: Final = (
    searches.c.search_id,
    searches.c.request_id,
    searches.c.state,
    searches.c.created_us,
    searches.c.decisions,
)
"""Columns that a list is made of."""
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Times:
    """Until when an ended search is kept: all of it, and what first expires of it, if anything."""

    erase_at: datetime
    expire_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A search that was running when its process ended: all that is needed to go on with it."""

    record: SearchRecord
    order: SearchOrder
    envelope: Envelope
    probes: tuple[SealedProbe, ...]
    order_index: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of searches ends."""

    created_us: int
    search_id: str


class SearchStore:
    """Reads searches, and makes the writes that the log commits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        placeholder = {c.name: None for c in searches.c if c.name not in _AT_THE_END}
        dialect = engine.dialect
        self._insert = str(insert(searches).values(placeholder).compile(dialect=dialect))
        self._order_of_columns = tuple(placeholder)
        self._end = str(
            update(searches)
            .values(
                state=bindparam("state"),
                ended=bindparam("ended"),
                result_index=bindparam("result_index"),
                erase_us=bindparam("erase_us"),
                expire_us=bindparam("expire_us"),
                sealed=null(),
            )
            .where(
                searches.c.search_id == bindparam("of_search"),
                func.coalesce(searches.c.result_index, literal_column(str(NO_RESULT)))
                == bindparam("instead_of"),
            )
            .compile(dialect=dialect)
        )

    def new(
        self,
        search_id: str,
        admitted: AdmittedOrder,
        decisions: Sequence[AgencyDecision],
        warnings: Sequence[str] = (),
    ) -> Write:
        """Return the write that records a running search with its log entry.

        The write raises ``ORDER_REPLAYED`` if the search, or another of the same request id, is
        there already.
        """
        sealed = wire.encode_sealed(admitted.probes)
        kept = wire.encode_decisions(decisions, warnings)
        envelope = envelope_to_bytes(admitted.envelope)
        created = to_us(admitted.admitted_at)

        def write(connection: Connection, index: int) -> None:
            row = {
                "search_id": search_id,
                "force": admitted.order.force,
                "request_id": admitted.order.request_id,
                "state": SearchState.RUNNING.value,
                "created_us": created,
                "order_index": index,
                "order_sha256": admitted.sha256,
                "order_envelope": envelope,
                "decisions": kept,
                "sealed": sealed,
            }
            values = tuple(row[name] for name in self._order_of_columns)
            try:
                # Text prepared once: building the statement anew would cost more than running it.
                connection.exec_driver_sql(self._insert, values)
            except IntegrityError as error:
                raise ProbegateError(Reason.ORDER_REPLAYED) from error

        return write

    def end(
        self,
        search_id: str,
        state: SearchState,
        answers: Sequence[AgencyAnswer],
        result: Envelope,
        times: Times,
        replaces: int | None = None,
    ) -> Write:
        """Return the write that records a search's end with its log entry, and drops the probes.

        Args:
            search_id: the search.
            state: how it ended.
            answers: one for each agency.
            result: the signed result.
            times: until when it is kept.
            replaces: where in the log the end is that this one replaces, if it does. The write
                raises ``STATE_UNAVAILABLE`` if that is not the search's end as it stands.
        """
        ended = wire.encode_ended(answers, result)
        instead_of = NO_RESULT if replaces is None else replaces

        def write(connection: Connection, index: int) -> None:
            values = (
                state.value,
                ended,
                index,
                to_us(times.erase_at),
                microseconds_of(times.expire_at),
                search_id,
                instead_of,
            )
            if connection.exec_driver_sql(self._end, values).rowcount != 1:
                raise ProbegateError(Reason.STATE_UNAVAILABLE, "the search has ended otherwise")

        return write

    def keep_links(self, search_id: str, answers: Sequence[AgencyAnswer], *, again: bool) -> Write:
        """Return the write that keeps link tokens while an answer is asked for, or drops them.

        When such an answer comes, the groups are made again. What is asked for is written first.

        Args:
            search_id: the search.
            answers: those of its end, with their link tokens.
            again: whether the search had ended before, and some may be kept.
        """
        rows = [
            {
                "search_id": search_id,
                "agency": answer.outcome.agency,
                "links": encode_links(answer.links),
            }
            for answer in answers
            if answer.links is not None
        ]

        def write(connection: Connection, _index: int) -> None:
            if again:
                mine = candidate_links.c.search_id == search_id
                connection.execute(delete(candidate_links).where(mine))
            if not rows:  # mostly, and then there is nothing to look for
                return
            waits = select(held_answers.c.agency).where(held_answers.c.search_id == search_id)
            if connection.execute(waits.limit(1)).first() is not None:
                connection.execute(insert(candidate_links), rows)

        return write

    async def links(self, search_id: str) -> Mapping[str, CandidateLinks]:
        """Return the link tokens kept of a search, by agency."""
        rows = await self._read(
            select(candidate_links).where(candidate_links.c.search_id == search_id)
        )
        return {row.agency: decode_links(row.links) for row in rows}

    def confirmed(self, search_id: str, envelope: Envelope, at: datetime) -> Write:
        """Return the write that keeps a confirmation with its log entry.

        The write raises ``CONFIRMATION_INVALID`` if the search is confirmed already.
        """
        row = {
            "search_id": search_id,
            "confirmed_us": to_us(at),
            "envelope": envelope_to_bytes(envelope),
        }

        def write(connection: Connection, index: int) -> None:
            try:
                connection.execute(insert(confirmations), row | {"leaf_index": index})
            except IntegrityError as error:
                raise ProbegateError(Reason.CONFIRMATION_INVALID, "confirmed already") from error

        return write

    async def confirmation(self, search_id: str) -> KeptConfirmation | None:
        """Return the confirmation of an urgent search, if there is one."""
        rows = await self._read(select(confirmations).where(confirmations.c.search_id == search_id))
        if not rows:
            return None
        (row,) = rows
        return KeptConfirmation(
            envelope_from_bytes(row.envelope), row.leaf_index, from_us(row.confirmed_us)
        )

    async def get(self, force: str, search_id: str) -> SearchRecord | None:
        """Return one of a force's searches, or none: another force's does not exist for it."""
        if NUL in search_id:
            return None
        statement = select(searches).where(
            searches.c.search_id == search_id, searches.c.force == force
        )
        rows = await self._read(statement)
        return _record(rows[0]) if rows else None

    async def order(self, search_id: str) -> SearchOrder | None:
        """Return the order of a search, or none: there is no search, or its order was erased."""
        payload = await self.order_payload(search_id)
        return decode_order(payload) if payload is not None else None

    async def order_payload(self, search_id: str) -> bytes | None:
        """Return the exact bytes of the order of a search, or none as ``order`` does."""
        query = select(searches.c.order_envelope).where(searches.c.search_id == search_id)
        rows = await self._read(query)
        if not rows or not rows[0].order_envelope:
            return None
        return envelope_from_bytes(rows[0].order_envelope).payload

    async def page(
        self, force: str, size: int, after: Position | None
    ) -> tuple[SearchSummary, ...]:
        """Return a force's searches, newest first, from after a position on.

        Only what a list shows is read: what was found may be megabytes of each.
        """
        where: Any = searches.c.force == force
        if after is not None:
            earlier = searches.c.created_us < after.created_us
            tied = and_(
                searches.c.created_us == after.created_us, searches.c.search_id < after.search_id
            )
            where = and_(where, or_(earlier, tied))
        statement = (
            select(*_LISTED)
            .where(where)
            .order_by(searches.c.created_us.desc(), searches.c.search_id.desc())
            .limit(size)
        )
        return await self._run(
            lambda connection: tuple(_summary(row) for row in connection.execute(statement))
        )

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """Return the searches that were running when the last process ended."""
        statement = select(searches).where(searches.c.state == SearchState.RUNNING.value)
        found = []
        for row in await self._read(statement):
            envelope = envelope_from_bytes(row.order_envelope)
            found.append(
                Unfinished(
                    record=_record(row),
                    order=decode_order(envelope.payload),
                    envelope=envelope,
                    probes=wire.decode_sealed(row.sealed),
                    order_index=row.order_index,
                )
            )
        return tuple(found)

    async def _read(self, statement: Any) -> Sequence[Any]:
        return await self._run(lambda connection: connection.execute(statement).all())

    async def _run(self, read: Callable[[Connection], _Found]) -> _Found:
        """Read something on a worker thread, with whatever is made of it there."""

        def run() -> _Found:
            with self._engine.connect() as connection:
                return read(connection)

        try:
            return await asyncio.to_thread(run)
        except SQLAlchemyError as error:
            raise ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__) from error


def _summary(row: Any) -> SearchSummary:
    return SearchSummary(
        search_id=row.search_id,
        request_id=row.request_id,
        state=SearchState(row.state),
        created_at=from_us(row.created_us),
        agencies=wire.count_decisions(row.decisions),
    )


def _record(row: Any) -> SearchRecord:
    answers, result = wire.decode_ended(row.ended) if row.ended else ((), None)
    decisions, warnings = wire.decode_decisions(row.decisions)
    return SearchRecord(
        search_id=row.search_id,
        request_id=row.request_id,
        force=row.force,
        order_sha256=row.order_sha256,
        state=SearchState(row.state),
        created_at=from_us(row.created_us),
        decisions=decisions,
        agencies=len(decisions),
        answers=answers,
        result=result,
        result_leaf_index=row.result_index,
        order_index=row.order_index,
        warnings=warnings,
    )
