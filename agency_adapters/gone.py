"""What goes of answers whose time is over, and what stays.

1. All answers of one search go together, for they share what their references stand for.
2. Gone are reports, link tokens, what references stand for, what was withheld or released after a
   hold and who decided that, whose order it was, requests for disclosure with what was decided and
   sealed, reported wrong matches, and of recalls all but their place among their broker's.
3. What stays says only that there was an answer: its digests, the search's id, where the log has
   it; and a request's digest and ids. So nothing is ever searched again under that order, and
   whoever asks for it is told that it is gone.
4. Nothing is kept any more about an answer that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, literal, or_, select, update

from agency_adapters.tables import (
    candidate_links,
    candidates,
    gone_requests,
    held,
    held_reviews,
    matches,
    recall_acknowledgements,
    recalls,
    recipients,
    release_reviews,
    releases,
    wrong_matches,
)
from trust.errors import ProbegateError, Reason
from trust.wire import envelope_from_bytes

NOTHING = b""
"""A report that is gone, as its row has it."""


def is_there(connection: Connection, order_sha256: bytes) -> bool:
    """Whether there is an answer to an order that is not gone."""
    query = select(matches.c.leaf_index).where(
        matches.c.order_sha256 == order_sha256, matches.c.report != NOTHING
    )
    return connection.execute(query).first() is not None


def require_there(connection: Connection, order_sha256: bytes) -> None:
    """Refuse to keep something about an answer that is gone, within the log's transaction (4).

    Raises:
        ProbegateError: ``RESULT_GONE``.
    """
    if not is_there(connection, order_sha256):
        raise ProbegateError(Reason.RESULT_GONE)


def is_gone(connection: Connection, name: str) -> bool:
    """Whether the answers of a search (its id) or an order (its digest in hexadecimal) are gone."""
    mine = or_(matches.c.search_id == name, matches.c.order_sha256 == _digest(name))
    reports = connection.execute(select(matches.c.report).where(mine)).scalars().all()
    return bool(reports) and not any(reports)


def brokers_of_gone(connection: Connection, name: str) -> tuple[str, ...]:
    """Return who brought the requests, of an id or digest, that went with their answers."""
    mine = or_(gone_requests.c.request_id == name, gone_requests.c.request_sha256 == _digest(name))
    return tuple(connection.execute(select(gone_requests.c.broker).where(mine)).scalars())


def erase_answers(connection: Connection, searches: Sequence[str]) -> None:
    """Erase what the answers of some searches found, within the log's transaction (1) (2) (3)."""
    answers = matches.c.search_id.in_(searches)
    orders = select(matches.c.order_sha256).where(answers)
    requests = select(releases.c.request_sha256).where(releases.c.search_id.in_(searches))
    ordered = select(recalls.c.recall_id).where(recalls.c.search_id.in_(searches))
    _erase_links(connection, select(matches.c.report).where(answers))
    _erase_links(connection, select(held.c.report).where(held.c.order_sha256.in_(orders)))
    names = ["request_sha256", "request_id", "broker"]
    stay = select(*(releases.c[name] for name in names)).where(releases.c.search_id.in_(searches))
    connection.execute(insert(gone_requests).from_select(names, stay))  # (3)
    for table, theirs in (
        (candidates, candidates.c.search_id.in_(searches)),
        (wrong_matches, wrong_matches.c.search_id.in_(searches)),
        (recall_acknowledgements, recall_acknowledgements.c.recall_id.in_(ordered)),
        (release_reviews, release_reviews.c.request_sha256.in_(requests)),
        (releases, releases.c.search_id.in_(searches)),
        (held_reviews, held_reviews.c.order_sha256.in_(orders)),
        (held, held.c.order_sha256.in_(orders)),
        (recipients, recipients.c.order_sha256.in_(orders)),
    ):
        connection.execute(delete(table).where(theirs))
    connection.execute(
        update(recalls)
        .where(recalls.c.search_id.in_(searches))
        .values(reference="", record_id="", notice="", recall=None)
    )
    left = {"report": literal(NOTHING), "erase_us": None, "latest_us": None}
    connection.execute(update(matches).where(answers).values(left))


def _erase_links(connection: Connection, reports: Select[Any]) -> None:
    """Erase the link tokens that went with some reports."""
    digests = [
        sha256(envelope_from_bytes(report).payload).digest()
        for report in connection.execute(reports).scalars()
        if report
    ]
    connection.execute(delete(candidate_links).where(candidate_links.c.report_sha256.in_(digests)))


def _digest(name: str) -> bytes:
    try:
        return bytes.fromhex(name)
    except ValueError:
        return b""
