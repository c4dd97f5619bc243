"""Erasing personal values beside a log, and keeping them from being erased.

1. What is erased, and on whose authority, is an entry of the admin log that commits together with
   the erasure: there is neither one without the other.
2. A value under legal hold is not erased, whatever asks for it; a change of the hold is an entry
   too.
3. Value and salt both go. The entry keeps its commitment, 32 bytes from which nothing can be
   guessed, so the log still verifies.
4. Their bytes are gone from the database's files before anybody is told so (``scrubbing``). What
   cannot be made to go from here is named.
5. Whatever else the organisation keeps of these entries (a broker: the signed order) goes in the
   same transaction; its own ``Clerk`` sees to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, select, update
from sqlalchemy.exc import SQLAlchemyError

from audit.kinds import ERASED, EVERY_FIELD, HOLD_LIFTED, HOLD_SET
from audit.leaves import JsonValue
from audit.tables import storage_failure, values
from trust.errors import ProbegateError, Reason

ENTRIES_MAX: Final = 1000
"""Entries named in one entry of the admin log, which keeps it well below its size limit."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Values of one entry.

    Attributes:
        index: the entry.
        fields: the fields that are still there.
        held: those of them under legal hold.
    """

    index: int
    fields: tuple[str, ...]
    held: tuple[str, ...]


def chosen(
    engine: Engine, log: str, entries: Iterable[int] | None, *, expired_at: datetime | None = None
) -> tuple[Chosen, ...]:
    """Return the values there are of some entries, or those whose time is over.

    Args:
        engine: the organisation's database.
        log: the log's name in it.
        entries: of which entries; None for all of them.
        expired_at: only values that were to be kept until before this instant.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    query: Select[Any] = (
        select(values.c.idx, values.c.field, values.c.legal_hold)
        .where(values.c.log == log, values.c.value.is_not(None))
        .order_by(values.c.idx, values.c.field)
    )
    if entries is not None:
        query = query.where(values.c.idx.in_(list(entries)))
    if expired_at is not None:
        query = query.where(values.c.retain_until < int(expired_at.timestamp()))
    try:
        with engine.connect() as connection:
            rows = connection.execute(query).all()
    except SQLAlchemyError as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error
    by_index: dict[int, list[Any]] = {}
    for row in rows:
        by_index.setdefault(row.idx, []).append(row)
    return tuple(
        Chosen(
            index,
            tuple(row.field for row in mine),
            tuple(row.field for row in mine if row.legal_hold),
        )
        for index, mine in by_index.items()
    )


def facts_of(
    log: str, entries: Sequence[int], fields: Sequence[str], authority: str
) -> dict[str, JsonValue]:
    """Return what an entry of the admin log says of an erasure or a hold.

    Args:
        log: of which log the entries are.
        entries: at most ``ENTRIES_MAX``.
        fields: which fields; empty for all.
        authority: the organisation's reference of the decision; it names nobody.
    """
    return {
        "log": log,
        "entries": list(entries),
        "fields": list(fields) or [EVERY_FIELD],
        "authority": authority,
    }


@dataclass(frozen=True, slots=True)
class ValuesClerk:
    """Carries out what entries say of values: erased, held, let go (1) (2) (3)."""

    def before(self, leaf: Mapping[str, Any]) -> None:
        """Nothing: an erasure commits with its entry."""

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None:
        """Erase or hold.

        Raises:
            ProbegateError: ``LEGAL_HOLD`` if a value that was to be erased is held; then the entry
                is not logged either.
        """
        del index
        if leaf["type"] not in {ERASED, HOLD_SET, HOLD_LIFTED}:
            return
        mine = [values.c.log == leaf["log"], values.c.idx.in_(list(leaf["entries"]))]
        if leaf["fields"] != [EVERY_FIELD]:
            mine.append(values.c.field.in_(list(leaf["fields"])))
        if leaf["type"] != ERASED:
            held = leaf["type"] == HOLD_SET
            connection.execute(update(values).where(*mine).values(legal_hold=held))
            return
        held_one = select(values.c.idx).where(*mine, values.c.legal_hold).limit(1)
        if connection.execute(held_one).first() is not None:  # (2)
            raise ProbegateError(Reason.LEGAL_HOLD)
        # Overwritten first: on PostgreSQL the old row stays until it is vacuumed.
        connection.execute(update(values).where(*mine).values(value=None, salt=None))  # (3)

    def after(self, leaf: Mapping[str, Any]) -> None:
        """Nothing: whoever asked sees to the files (``scrubbing``)."""
