"""Which candidates' records were erased: a mark that is in the database before a gallery changes.

1. Before anything of a record is erased, every candidate that stands for it is marked and the
   sealed details of it go, in one transaction. Both are done again once the gallery has changed,
   for what came in between.
2. A decision is recorded only if no candidate it is about is marked in that very transaction. What
   was read before an erasure is not disclosed after it.
3. With the mark goes what the record was recognised by (``identities``). The mark is of the
   candidate and not of the id: somebody else who is given the id later is not marked, no list of
   erased ids is left behind, and the mark goes with the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import SQLAlchemyError

from agency_adapters.tables import candidates, releases
from audit.tables import storage_failure
from trust.clock import to_us
from trust.errors import ProbegateError, Reason

AT_ONCE: Final = 500
"""Records that one statement names."""
TABLES: Final = (candidates.name, releases.name)
"""Where something goes with a record."""


def mark_erased(engine: Engine, record_ids: Sequence[str], at: datetime) -> bool:
    """Mark the candidates of some records, and erase the sealed details of them (1).

    Returns whether there was anything.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    found = 0
    try:
        with engine.begin() as connection:
            for first in range(0, len(record_ids), AT_ONCE):
                some = record_ids[first : first + AT_ONCE]
                theirs = candidates.c.record_id.in_(some) & candidates.c.erased_us.is_(None)
                marked = update(candidates).where(theirs).values(erased_us=to_us(at), identity=None)
                found += connection.execute(marked).rowcount
                sealed = releases.c.record_id.in_(some) & releases.c.sealed.is_not(None)
                gone = update(releases).where(sealed).values(sealed=None)
                found += connection.execute(gone).rowcount
    except SQLAlchemyError as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error
    return bool(found)


def require_not_erased(connection: Connection, references: Collection[str]) -> None:
    """Refuse to record a decision about a candidate that is marked, in its transaction (2).

    Raises:
        ProbegateError: ``DISCLOSURE_DENIED``.
    """
    query = select(candidates.c.reference).where(
        candidates.c.reference.in_(references), candidates.c.erased_us.is_not(None)
    )
    if connection.execute(query.limit(1)).first() is not None:
        raise ProbegateError(Reason.DISCLOSURE_DENIED, "a record was erased meanwhile")
