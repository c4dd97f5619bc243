"""Recalls: ordered by the agency's people, signed by the running adapter, kept for the brokers.

1. A recall is ordered once its entry is on the admin log (``RecallClerk``): one for each search
   whose report listed the record, and none twice for one candidate and reason.
2. The signed recall is on the search log, and kept with its number among those of the broker that
   had the search, in one transaction, before that broker can list it. A crash between the two
   leaves an order that the next turn, or the next start, carries out.
3. From the order on nothing more is sent or released about that candidate in that search.
4. A recall goes with the answer it is about (``retention``), and its number stays taken: what a
   broker has heard, and what it has not, is told apart by number alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, insert, select, update

from agency_adapters.gone import is_there
from agency_adapters.second_step.answered import Answered
from agency_adapters.second_step.models import NumberedRecall
from agency_adapters.second_step.recording import Book, Certain
from agency_adapters.state import reading
from agency_adapters.tables import recall_acknowledgements, recalls, wrong_matches
from audit import kinds
from trust import dsse, telemetry
from trust.clock import Clock, from_us, to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.payload_types import PayloadType
from trust.second_step import Recall, RecallAcknowledgement, RecallReason, WrongMatch
from trust.wire import encode, envelope_from_bytes, envelope_to_bytes

ORDERED_ENTRY: Final = "recall.ordered"
ISSUED_ENTRY: Final = kinds.RECALL_ISSUED
MAX_LISTED: Final = 100
"""Most recalls that a broker is told of at once."""


_THERE: Final = recalls.c.reference != ""
"""The condition that a recall is not gone (4)."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a force did about a recall."""

    force: str
    action: str = field(repr=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderedRecall:
    """One recall as it stands; ``number`` and ``recall`` are none until it is on the search log."""

    recall_id: str
    order_sha256: bytes
    search_id: str
    reference: str
    record_id: str = field(repr=False)
    reason: RecallReason
    notice: str
    ordered_at: datetime
    origin: str | None
    number: int | None
    recall: Envelope | None
    acknowledgements: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True)
class ReportedMatch:
    """A wrong match as a force reported it."""

    report_id: str
    force: str
    search_id: str
    reference: str
    reasons: str = field(repr=False)
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class Recalls:
    """The recalls in the adapter's database, and the wrong matches that were reported."""

    engine: Engine

    def all(self) -> tuple[OrderedRecall, ...]:
        """Return every recall, the oldest first."""
        return self._where(_THERE)

    def unissued(self) -> tuple[OrderedRecall, ...]:
        """Return those that are not on the search log yet."""
        return self._where(recalls.c.recall.is_(None) & _THERE)

    def with_id(self, recall_id: str) -> OrderedRecall | None:
        """Return a recall by its id, if there is one."""
        found = self._where((recalls.c.recall_id == recall_id) & _THERE)
        return found[0] if found else None

    def origin_of_gone(self, recall_id: str) -> str | None:
        """Return the log of the broker whose recall went with its answer, if one of this id did."""
        query = select(recalls.c.origin).where(recalls.c.recall_id == recall_id, ~_THERE)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar()

    def recalled(self, reference: str) -> bool:
        """Whether a candidate is recalled (3)."""
        with reading(self.engine) as connection:
            return is_recalled(connection, reference)

    def after(self, origin: str, number: int) -> tuple[NumberedRecall, ...]:
        """Return the recalls of one broker's searches with larger numbers, the smallest first."""
        query = (
            select(recalls.c.number, recalls.c.recall)
            .where(recalls.c.origin == origin, recalls.c.number > number, _THERE)
            .order_by(recalls.c.number)
            .limit(MAX_LISTED)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return tuple(NumberedRecall(row.number, envelope_from_bytes(row.recall)) for row in rows)

    def knows_wrong_match(self, digest: bytes) -> bool:
        """Whether a report of a wrong match is kept already."""
        return self._knows(wrong_matches, digest)

    def knows_acknowledgement(self, digest: bytes) -> bool:
        """Whether an acknowledgement is kept already."""
        return self._knows(recall_acknowledgements, digest)

    def wrong_matches(self) -> tuple[ReportedMatch, ...]:
        """Return what was reported and is not recalled, the oldest first."""
        settled = select(recalls.c.reference)
        query = (
            select(wrong_matches)
            .where(wrong_matches.c.reference.not_in(settled))
            .order_by(wrong_matches.c.reported_us, wrong_matches.c.report_id)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return tuple(
            ReportedMatch(
                report_id=row.report_id,
                force=row.force,
                search_id=row.search_id,
                reference=row.reference,
                reasons=row.reasons,
                reported_at=from_us(row.reported_us),
            )
            for row in rows
        )

    def _knows(self, table: Any, digest: bytes) -> bool:
        query = select(table.c.notice_sha256).where(table.c.notice_sha256 == digest)
        with reading(self.engine) as connection:
            return connection.execute(query).first() is not None

    def _where(self, condition: Any) -> tuple[OrderedRecall, ...]:
        query = select(recalls).where(condition).order_by(recalls.c.ordered_us, recalls.c.recall_id)
        of_one = select(recall_acknowledgements).order_by(recall_acknowledgements.c.acknowledged_us)
        with reading(self.engine) as connection:
            return tuple(
                _recall(
                    row,
                    connection.execute(
                        of_one.where(recall_acknowledgements.c.recall_id == row.recall_id)
                    ).all(),
                )
                for row in connection.execute(query).all()
            )


def is_recalled(connection: Connection, reference: str) -> bool:
    """Whether a candidate is recalled (3)."""
    query = select(recalls.c.recall_id).where(recalls.c.reference == reference)
    return connection.execute(query).first() is not None


def _recall(row: Any, acknowledgements: Any) -> OrderedRecall:
    return OrderedRecall(
        recall_id=row.recall_id,
        order_sha256=row.order_sha256,
        search_id=row.search_id,
        reference=row.reference,
        record_id=row.record_id,
        reason=RecallReason(row.reason),
        notice=row.notice,
        ordered_at=from_us(row.ordered_us),
        origin=row.origin,
        number=row.number,
        recall=envelope_from_bytes(row.recall) if row.recall else None,
        acknowledgements=tuple(
            Acknowledgement(one.force, one.action, from_us(one.acknowledged_us))
            for one in acknowledgements
        ),
    )


class RecallClerk:
    """Keeps what an entry orders (1); other entries are none of its business."""

    def before(self, said: Mapping[str, Any]) -> None:
        """Nothing is recalled early."""

    def also(self, connection: Connection, index: int, said: Mapping[str, Any]) -> None:
        """Keep the orders with their entry; what is gone by then is not recalled any more."""
        if said["type"] != ORDERED_ENTRY:
            return
        for one in said["recalls"]:
            answer = bytes.fromhex(one["order_sha256"])
            there = select(recalls.c.recall_id).where(
                recalls.c.order_sha256 == answer,
                recalls.c.reference == one["reference"],
                recalls.c.reason == said["reason"],
            )
            known = connection.execute(there).first() is not None
            if not known and is_there(connection, answer):
                row = {
                    "recall_id": one["recall_id"],
                    "order_sha256": answer,
                    "search_id": one["search_id"],
                    "reference": one["reference"],
                    "record_id": said["record"],
                    "reason": said["reason"],
                    "notice": said["notice"],
                    "ordered_us": to_us(datetime.fromisoformat(said["at"])),
                    "ordered_index": index,
                }
                connection.execute(insert(recalls), row)

    def after(self, said: Mapping[str, Any]) -> None:
        """The signed recall follows by itself (``Recalling.settle``)."""


@dataclass(frozen=True, slots=True)
class Recalling:
    """Carries out what was ordered; the running adapter has one.

    Attributes:
        agency: this agency's member id.
        recalls: the recalls there are.
        answered: the reports that were handed out.
        book: this agency's search log.
        signer: signs recalls.
        clock: tells the time.
    """

    agency: str
    recalls: Recalls
    answered: Answered
    book: Book
    signer: Signer
    clock: Clock

    async def settle(self) -> None:
        """Sign every recall that was ordered and is not on the search log (2).

        One that cannot be signed now keeps no other waiting.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        for ordered in self.recalls.unissued():
            try:
                await self._issue(ordered)
            except ProbegateError as error:
                telemetry.log(
                    "recall not issued", search_id=ordered.search_id, reason=error.reason.name
                )

    async def _issue(self, ordered: OrderedRecall) -> None:
        answer = self.answered.to_order(ordered.order_sha256)
        if answer is None:
            raise ProbegateError(Reason.STATE_UNAVAILABLE, "the answer of a recall is gone")
        origin, now = answer.origin, self.clock()
        recall = Recall(
            recall_id=ordered.recall_id,
            search_id=ordered.search_id,
            order_sha256=ordered.order_sha256,
            agency=self.agency,
            reference=ordered.reference,
            reason=ordered.reason,
            notice=ordered.notice,
            recalled_at=now,
        )
        envelope = dsse.sign(PayloadType.RECALL, encode(recall), self.signer)

        def also(connection: Connection, _index: int) -> None:
            newest = select(func.max(recalls.c.number)).where(recalls.c.origin == origin)
            number = (connection.execute(newest).scalar() or 0) + 1
            connection.execute(
                update(recalls)
                .where(recalls.c.recall_id == ordered.recall_id, recalls.c.recall.is_(None))
                .values(
                    origin=origin,
                    number=number,
                    recall=envelope_to_bytes(envelope),
                    issued_us=to_us(now),
                )
            )

        certain = Certain(
            {
                "search_id": ordered.search_id,
                "order_sha256": ordered.order_sha256.hex(),
                "reference": ordered.reference,
            }
        )
        await self.book.record(
            ISSUED_ENTRY,
            certain,
            also,
            recall_id=ordered.recall_id,
            recall_sha256=sha256(envelope.payload).hexdigest(),
            reason=ordered.reason.value,
        )
        telemetry.log("recall issued", search_id=ordered.search_id)


def keep_wrong_match(connection: Connection, digest: bytes, said: WrongMatch) -> None:
    """Write that a force reported a wrong match."""
    row = {
        "notice_sha256": digest,
        "report_id": said.report_id,
        "force": said.force,
        "search_id": said.search_id,
        "reference": said.reference,
        "reasons": said.reasons,
        "reported_us": to_us(said.reported_at),
    }
    connection.execute(insert(wrong_matches), row)


def keep_acknowledgement(
    connection: Connection, digest: bytes, said: RecallAcknowledgement
) -> None:
    """Write that a force acted on a recall."""
    row = {
        "notice_sha256": digest,
        "recall_id": said.recall_id,
        "force": said.force,
        "action": said.action,
        "acknowledged_us": to_us(said.acknowledged_at),
    }
    connection.execute(insert(recall_acknowledgements), row)
