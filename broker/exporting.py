"""The signed documents that the broker keeps of a search, for a bundle of evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from audit.exporting import Document, document_of
from broker import wire
from broker.tables import confirmations, searches
from trust.errors import ProbegateError, Reason
from trust.wire import envelope_from_bytes


def documents_of(engine: Engine, search_ids: Sequence[str]) -> tuple[Document, ...]:
    """Return the order, the agencies' reports, the result and the confirmation of searches.

    What was erased is not among them. Reports and results hold references of candidates, all of
    them, and no record.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    try:
        return tuple(one for search_id in search_ids for one in _of(engine, search_id))
    except SQLAlchemyError as error:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__) from error


def _of(engine: Engine, search_id: str) -> Iterator[Document]:
    query = select(searches.c.order_envelope, searches.c.ended).where(
        searches.c.search_id == search_id
    )
    confirmed = select(confirmations.c.envelope).where(confirmations.c.search_id == search_id)
    with engine.connect() as connection:
        row = connection.execute(query).first()
        confirmation = connection.execute(confirmed).scalar()
    if row is None:
        return
    if row.order_envelope:
        order = envelope_from_bytes(bytes(row.order_envelope))
        yield document_of("order", search_id, order.to_json())
    if confirmation:
        said = envelope_from_bytes(bytes(confirmation))
        yield document_of("confirmation", search_id, said.to_json())
    if row.ended:
        answers, result = wire.decode_ended(bytes(row.ended))
        for answer in answers:
            if answer.report is not None:
                agency = answer.outcome.agency
                yield document_of("report", search_id, answer.report.to_json(), agency)
        yield document_of("result", search_id, result.to_json())
