"""What an adapter must remember: answers given, what references stand for, its owners' decisions.

Reads raise ``STATE_UNAVAILABLE`` if the database cannot be read: without the memory of what was
answered nothing may be answered. Writes run inside the log's transaction (``NewEntry.also``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError

from agency_adapters.agency import OwnerDecision
from agency_adapters.gone import is_gone
from agency_adapters.lifetimes import Until
from agency_adapters.models import FoundRecord, StoredMatch
from agency_adapters.tables import candidate_links, candidates, matches
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.wire import envelope_from_bytes, envelope_to_bytes


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a connection to read with.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__) from error


_ANSWERED: Final = "SELECT * FROM matches WHERE order_sha256 = ?"
_SEARCHED: Final = "SELECT order_sha256 FROM matches WHERE search_id = ? LIMIT 1"
_OWNER_DECISION: Final = "SELECT * FROM owner_decisions WHERE request_id = ?"


@dataclass(slots=True)
class AdapterState:
    """The adapter's tables in one database; used from one thread.

    What every request reads is read through a connection that is kept, with text that the driver
    has prepared: building a statement and fetching a connection cost more than running it.
    """

    engine: Engine
    _reader: Connection | None = field(default=None, init=False, repr=False)

    def close(self) -> None:
        """Let go of the connection that is kept; a later read takes another."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _first(self, text: str, *about: object) -> Any:
        """Return the first row of a statement that every request makes.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        try:
            if self._reader is None:
                held = self.engine.connect()
                self._reader = held.execution_options(isolation_level="AUTOCOMMIT")
            return self._reader.exec_driver_sql(text, about).first()
        except SQLAlchemyError as error:
            self.close()
            raise ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__) from error

    def answered(self, order_sha256: bytes) -> StoredMatch | None:
        """Return the answer given to an order, if one was."""
        row = self._first(_ANSWERED, order_sha256)
        if row is None:
            return None
        report = envelope_from_bytes(row.report) if row.report else None
        return StoredMatch(
            order_sha256=row.order_sha256,
            grant_sha256=row.grant_sha256,
            search_id=row.search_id,
            report=report,
            leaf_index=row.leaf_index,
            links=self.links_of(report) if report is not None else None,
        )

    def order_of(self, search_id: str) -> bytes | None:
        """Return the digest of the order that was answered under a search's id, if one was."""
        row = self._first(_SEARCHED, search_id)
        return None if row is None else bytes(row.order_sha256)

    def is_gone(self, name: str) -> bool:
        """Whether the answers of a search, or to an order, were erased when their time was over.

        Args:
            name: the search's id, or the order's digest in hexadecimal.
        """
        with reading(self.engine) as connection:
            return is_gone(connection, name)

    def links_of(self, report: Envelope) -> Envelope | None:
        """Return the link tokens that went with a report, if any did."""
        digest = hashlib.sha256(report.payload).digest()
        query = select(candidate_links.c.links).where(candidate_links.c.report_sha256 == digest)
        with reading(self.engine) as connection:
            kept = connection.execute(query).scalar()
        return None if kept is None else envelope_from_bytes(kept)

    def owner_decision(
        self, request_id: str, force: str, order_sha256: bytes
    ) -> OwnerDecision | None:
        """Return the owner's decision on a request, if there is one that counts for this order."""
        row = self._first(_OWNER_DECISION, request_id)
        if row is None or row.force not in {None, "", force}:
            return None
        if row.order_sha256 not in {None, order_sha256}:
            return None
        return OwnerDecision(row.authority, row.reference)

    def resolve(
        self, *, search_id: str | None = None, reference: str | None = None
    ) -> tuple[tuple[str, FoundRecord], ...]:
        """Return search id and record for a reference, or for every candidate of a search."""
        query = select(candidates).order_by(candidates.c.search_id, candidates.c.rank)
        if search_id is not None:
            query = query.where(candidates.c.search_id == search_id)
        if reference is not None:
            query = query.where(candidates.c.reference == reference)
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return tuple((row.search_id, _found(row)) for row in rows)

    def candidate(self, reference: str) -> FoundRecord | None:
        """Return what a reference stands for, if it is kept."""
        return next((found for _, found in self.resolve(reference=reference)), None)

    def of_record(self, record_id: str) -> tuple[tuple[str, FoundRecord], ...]:
        """Return search id and candidate for every search that returned a record."""
        query = (
            select(candidates)
            .where(candidates.c.record_id == record_id)
            .order_by(candidates.c.search_id)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return tuple((row.search_id, _found(row)) for row in rows)


def _found(row: Any) -> FoundRecord:
    return FoundRecord(
        reference=row.reference,
        record_id=row.record_id,
        rank=row.rank,
        score=row.score,
        erased=row.erased_us is not None,
        identity=row.identity,
    )


def keep_answer(
    connection: Connection, answer: StoredMatch, found: Sequence[FoundRecord], until: Until
) -> None:
    """Write an answer and what its references stand for, within the log's transaction."""
    report = answer.there
    connection.execute(
        insert(matches),
        {
            "order_sha256": answer.order_sha256,
            "grant_sha256": answer.grant_sha256,
            "search_id": answer.search_id,
            "report": envelope_to_bytes(report),
            "leaf_index": answer.leaf_index,
            **until.columns(),
        },
    )
    keep_links(connection, report, answer.links)
    if found:
        connection.execute(
            insert(candidates),
            [
                {
                    "reference": one.reference,
                    "search_id": answer.search_id,
                    "record_id": one.record_id,
                    "rank": one.rank,
                    "score": one.score,
                    "identity": one.identity,
                }
                for one in found
            ],
        )


def keep_links(connection: Connection, report: Envelope, links: Envelope | None) -> None:
    """Write the link tokens that go with a report, if any do, within the log's transaction."""
    if links is not None:
        digest = hashlib.sha256(report.payload).digest()
        row = {"report_sha256": digest, "links": envelope_to_bytes(links)}
        connection.execute(insert(candidate_links), row)
