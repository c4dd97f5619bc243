"""What was answered here before: to whose order, through which broker, and in which report.

The report that counts is the very one that was handed out. Of an answer that was held that is the
one which followed its people's decision; until then nothing was handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select

from agency_adapters.holding import HeldAnswers
from agency_adapters.models import FoundRecord
from agency_adapters.state import AdapterState, reading
from agency_adapters.tables import matches, recipients
from trust.messages import MatchReport, OutcomeState
from trust.wire import decode_report, envelope_from_bytes


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A report that left this agency, and for whom.

    Attributes:
        order_sha256: of the order it answers.
        force: whose order that was.
        origin: the name of the log that proved it: its broker's search log.
        report: what it says.
        report_sha256: of its payload.
        found: the records behind its candidates, which stay here.
    """

    order_sha256: bytes
    force: str
    origin: str
    report: MatchReport
    report_sha256: bytes
    found: tuple[FoundRecord, ...] = field(repr=False)

    def candidate(self, reference: str) -> FoundRecord | None:
        """Return what a listed candidate stands for, or None if it is not listed."""
        return next((one for one in self.found if one.reference == reference), None)

    def record_of(self, reference: str) -> str | None:
        """Return the record behind a listed candidate, or None if it is not listed."""
        found = self.candidate(reference)
        return None if found is None else found.record_id


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers in the adapter's database."""

    state: AdapterState
    held: HeldAnswers

    @classmethod
    def of(cls, state: AdapterState) -> Answered:
        """Return the answers of an adapter's state."""
        return cls(state, HeldAnswers(state.engine))

    def to_order(self, order_sha256: bytes) -> HandedOut | None:
        """Return the report that was handed out in answer to an order, or None if none was.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        query = (
            select(matches.c.report, recipients.c.force, recipients.c.origin)
            .join(recipients, recipients.c.order_sha256 == matches.c.order_sha256)
            .where(matches.c.order_sha256 == order_sha256)
        )
        with reading(self.state.engine) as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        envelope = envelope_from_bytes(row.report)
        report = decode_report(envelope.payload)
        if report.state is OutcomeState.HELD:
            waited = self.held.of_order(order_sha256)
            if waited is None or waited.report is None:
                return None
            envelope = waited.report
            report = decode_report(envelope.payload)
        listed = {one.reference for one in report.candidates}
        return HandedOut(
            order_sha256=order_sha256,
            force=row.force,
            origin=row.origin,
            report=report,
            report_sha256=hashlib.sha256(envelope.payload).digest(),
            found=tuple(
                one
                for _, one in self.state.resolve(search_id=report.search_id)
                if one.reference in listed
            ),
        )

    def to_search(self, search_id: str) -> Iterator[HandedOut]:
        """Return the reports that were handed out under a broker's id of a search."""
        query = select(matches.c.order_sha256).where(matches.c.search_id == search_id)
        with reading(self.state.engine) as connection:
            digests = connection.execute(query).scalars().all()
        for digest in digests:
            found = self.to_order(digest)
            if found is not None:
                yield found

    def listing(self, record_id: str) -> tuple[tuple[HandedOut, str], ...]:
        """Return every report that listed a record, each with the record's reference in it."""
        listed = []
        for search_id, found in self.state.of_record(record_id):
            listed += [
                (one, found.reference)
                for one in self.to_search(search_id)
                if one.record_of(found.reference) is not None
            ]
        return tuple(listed)


def keep_recipient(connection: Connection, order_sha256: bytes, force: str, origin: str) -> None:
    """Write whose order was answered, within the transaction of the answer's log entry."""
    row = {"order_sha256": order_sha256, "force": force, "origin": origin}
    connection.execute(insert(recipients), row)
