"""What forces state of candidates, what agencies recall, and what agencies are still to be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from broker.second_step.models import KeptRecall, KeptStatement, Notice
from broker.second_step.tables import force_statements, notices, recall_cursors, recalls
from broker.storing import Storage, Write, largest, moment_of
from trust.clock import from_us, to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.second_step import Recall
from trust.wire import decode, envelope_from_bytes, envelope_to_bytes

DELIVERED = "delivered"
"""The outcome of a notice that was acknowledged."""


@dataclass(frozen=True, slots=True)
class StatementStore:
    """Corroborations and reports of wrong matches."""

    storage: Storage

    async def get(self, force: str, kind: str, statement_id: str) -> KeptStatement | None:
        """Return what a force stated under an id, if it did.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        rows = await self.storage.rows(
            select(force_statements.c.sha256, force_statements.c.leaf_index).where(
                force_statements.c.force == force,
                force_statements.c.kind == kind,
                force_statements.c.statement_id == statement_id,
            )
        )
        return KeptStatement(rows[0].sha256, rows[0].leaf_index) if rows else None

    def recorded(self, force: str, statement_id: str, search_id: str, envelope: Envelope) -> Write:
        """Return the write that keeps a statement with its log entry.

        The write raises ``NOTICE_INVALID`` if the id was used.
        """
        row = {
            "force": force,
            "kind": envelope.payload_type,
            "statement_id": statement_id,
            "search_id": search_id,
            "sha256": sha256(envelope.payload).digest(),
            "envelope": envelope_to_bytes(envelope),
        }

        def write(connection: Connection, index: int) -> None:
            try:
                connection.execute(insert(force_statements), row | {"leaf_index": index})
            except IntegrityError as error:
                raise ProbegateError(Reason.NOTICE_INVALID, "the id was used") from error

        return write


@dataclass(frozen=True, slots=True)
class NoticeStore:
    """What agencies are to be told, until each has acknowledged it."""

    storage: Storage

    def to_tell(
        self, agencies: Iterable[str], envelope: Envelope, now: datetime, until: datetime
    ) -> Write:
        """Return the write that has agencies told, with the log entry that records it."""
        rows = [
            {
                "agency": agency,
                "sha256": sha256(envelope.payload).digest(),
                "envelope": envelope_to_bytes(envelope),
                "asked": 0,
                "next_us": to_us(now),
                "until_us": to_us(until),
                "outcome": "",
            }
            for agency in agencies
        ]

        def write(connection: Connection, index: int) -> None:
            try:
                if rows:
                    connection.execute(
                        insert(notices), [row | {"leaf_index": index} for row in rows]
                    )
            except IntegrityError as error:
                raise ProbegateError(Reason.SERVER_BUSY, "told already") from error

        return write

    async def due(self, now: datetime, most: int) -> tuple[Notice, ...]:
        """Return what is to be told now, the longest due first.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        rows = await self.storage.rows(
            select(notices)
            .where(notices.c.next_us <= to_us(now))
            .order_by(notices.c.next_us, notices.c.leaf_index)
            .limit(most)
        )
        return tuple(
            Notice(
                agency=row.agency,
                sha256=row.sha256,
                envelope=envelope_from_bytes(row.envelope),
                leaf_index=row.leaf_index,
                asked=row.asked,
                until=from_us(row.until_us),
            )
            for row in rows
        )

    async def again(self, notice: Notice, at: datetime) -> None:
        """Keep that an agency could not be told, and when that is tried again."""
        await self._values(notice, {"asked": notice.asked + 1, "next_us": to_us(at)})

    async def done(self, notice: Notice, outcome: str) -> None:
        """Keep that an agency need not be told any more, and why."""
        await self._values(notice, {"next_us": None, "outcome": outcome})

    def given_up(self, notice: Notice, reason: str) -> Write:
        """Return the write that keeps that an agency never acknowledged a notice."""
        statement = _of(notice).values(next_us=None, outcome=reason)

        def write(connection: Connection, _index: int) -> None:
            connection.execute(statement)

        return write

    async def _values(self, notice: Notice, values: dict[str, Any]) -> None:
        statement = _of(notice).values(values)
        await self.storage.run(lambda connection: connection.execute(statement))


@dataclass(frozen=True, slots=True)
class RecallStore:
    """What agencies recalled, and how far each was heard."""

    storage: Storage

    async def after(self, agency: str) -> int:
        """Return the number of the last recall that an agency was heard on, 0 at first.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        mine = recall_cursors.c.agency == agency
        rows = await self.storage.rows(select(recall_cursors.c.after).where(mine))
        return rows[0].after if rows else 0

    def heard(self, agency: str, number: int) -> Write:
        """Return the write that keeps how far an agency was heard, with a log entry."""

        def write(connection: Connection, _index: int) -> None:
            _move(connection, agency, number)

        return write

    async def pass_over(self, agency: str, number: int) -> None:
        """Keep how far an agency was heard, where there is nothing new to record."""
        await self.storage.run(lambda connection: _move(connection, agency, number))

    async def known(self, agency: str, recall_id: str) -> bool:
        """Whether an agency's recall is kept."""
        rows = await self.storage.rows(
            select(recalls.c.number).where(
                recalls.c.agency == agency, recalls.c.recall_id == recall_id
            )
        )
        return bool(rows)

    def received(self, force: str, said: Recall, envelope: Envelope) -> Write:
        """Return the write that keeps a recall for its force, with its log entry.

        The write raises ``SERVER_BUSY`` if it is kept already.
        """
        row = {
            "agency": said.agency,
            "recall_id": said.recall_id,
            "force": force,
            "search_id": said.search_id,
            "reference": said.reference,
            "sha256": sha256(envelope.payload).digest(),
            "envelope": envelope_to_bytes(envelope),
        }

        def write(connection: Connection, index: int) -> None:
            number = largest(connection, recalls.c.number, recalls.c.force == force) + 1
            try:
                connection.execute(insert(recalls), row | {"number": number, "leaf_index": index})
            except IntegrityError as error:
                raise ProbegateError(Reason.SERVER_BUSY, "received already") from error

        return write

    async def page(self, force: str, after: int, most: int) -> tuple[KeptRecall, ...]:
        """Return a force's recalls after a number, the oldest first."""
        rows = await self.storage.rows(
            select(recalls)
            .where(recalls.c.force == force, recalls.c.number > after)
            .order_by(recalls.c.number)
            .limit(most)
        )
        return tuple(map(_recall, rows))

    async def get(self, force: str, recall_id: str, digest: bytes) -> KeptRecall | None:
        """Return one of a force's recalls, or none: another force's does not exist for it."""
        rows = await self.storage.rows(
            select(recalls).where(
                recalls.c.force == force,
                recalls.c.recall_id == recall_id,
                recalls.c.sha256 == digest,
            )
        )
        return _recall(rows[0]) if rows else None

    async def is_recalled(self, search_id: str, agency: str, reference: str) -> bool:
        """Whether a candidate was recalled."""
        rows = await self.storage.rows(
            select(recalls.c.number).where(
                recalls.c.search_id == search_id,
                recalls.c.agency == agency,
                recalls.c.reference == reference,
            )
        )
        return bool(rows)

    def acknowledged(self, record: KeptRecall, payload: bytes, now: datetime) -> Write:
        """Return the write that keeps an acknowledgement with its log entry.

        The write raises ``NOTICE_INVALID`` if the recall is acknowledged already.
        """
        statement = update(recalls).where(
            recalls.c.force == record.force,
            recalls.c.number == record.number,
            recalls.c.acknowledged_us.is_(None),
        )

        def write(connection: Connection, index: int) -> None:
            values = {
                "acknowledged_us": to_us(now),
                "acknowledgement_sha256": sha256(payload).digest(),
                "acknowledgement_index": index,
            }
            if connection.execute(statement.values(values)).rowcount != 1:
                raise ProbegateError(Reason.NOTICE_INVALID, "acknowledged already")

        return write


def _of(notice: Notice) -> Any:
    return update(notices).where(
        notices.c.agency == notice.agency, notices.c.sha256 == notice.sha256
    )


def _move(connection: Connection, agency: str, number: int) -> None:
    mine = recall_cursors.c.agency == agency
    forward = update(recall_cursors).where(mine, recall_cursors.c.after < number)
    if connection.execute(forward.values(after=number)).rowcount == 0:
        known = connection.execute(select(recall_cursors.c.after).where(mine)).first()
        if known is None:
            connection.execute(insert(recall_cursors), {"agency": agency, "after": number})


def _recall(row: Any) -> KeptRecall:
    envelope = envelope_from_bytes(row.envelope)
    return KeptRecall(
        force=row.force,
        number=row.number,
        said=decode(Recall, envelope.payload),
        sha256=row.sha256,
        envelope=envelope,
        leaf_index=row.leaf_index,
        acknowledged_at=moment_of(row.acknowledged_us),
        acknowledgement_sha256=row.acknowledgement_sha256,
        acknowledgement_index=row.acknowledgement_index,
    )
