"""The log's tables, and how its statements are said to SQLite and to PostgreSQL.

The log lives in the caller's database so that the caller's state and its log entry commit
together. Statements are rendered once and run through the driver: a commit is the hot path.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    false,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql import ClauseElement

from audit.checkpoints import SignedCheckpoint
from trust.errors import ProbegateError, Reason

metadata: Final = MetaData()

heads: Final = Table(
    "log_heads",
    metadata,
    Column("log", String, primary_key=True),
    Column("origin", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("published", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""One row per log: its committed checkpoint (the commit point), and the size its files hold."""

entries: Final = Table(
    "log_entries",
    metadata,
    Column("log", String, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""The stage: entries whose full bundle is not durable in the folder yet."""

values: Final = Table(
    "log_values",
    metadata,
    Column("log", String, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("field", String, primary_key=True),
    Column("value", LargeBinary),
    Column("salt", LargeBinary),
    Column("retain_until", BigInteger),
    Column("legal_hold", Boolean, nullable=False, server_default=false()),
    sqlite_with_rowid=False,
)
"""The side store: canonical value and salt of each committed field (both NULL once erased), and
until when it is kept, in Unix seconds."""

_DISK_FULL_ERRNO: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_FULL_SQLSTATE: Final = "53100"
_LOCK_NOT_AVAILABLE: Final = "55P03"


@dataclass(frozen=True, slots=True)
class Statements:
    """The writer's statements as text for the driver, with their parameters in order."""

    insert_entries: str
    """SQLite: (log, idx, leaf) per row. PostgreSQL: log, [idx], [leaf] once."""
    insert_values: str
    """(log, idx, field, value, salt, retain_until) per row."""
    advance: str
    """(size, root, note, published, log, old size): the compare-and-swap."""
    delete_entries: str
    """(log, first index to keep)."""

    @classmethod
    def of(cls, engine: Engine) -> Statements:
        """Render for the engine's dialect."""

        def text(statement: ClauseElement) -> str:
            return str(statement.compile(dialect=engine.dialect))

        row: dict[str, BindParameter[Any]] = {n: bindparam(n) for n in ("log", "idx", "leaf")}
        kept = ("log", "idx", "field", "value", "salt", "retain_until")
        one_by_one = text(insert(entries).values(row))
        return cls(
            insert_entries=_UNNEST if is_postgres(engine) else one_by_one,
            insert_values=text(insert(values).values({name: bindparam(name) for name in kept})),
            advance=text(
                update(heads)
                .values({n: bindparam(f"new_{n}") for n in ("size", "root", "note", "published")})
                .where(heads.c.log == bindparam("old_log"), heads.c.size == bindparam("old_size"))
            ),
            delete_entries=text(
                delete(entries).where(
                    entries.c.log == bindparam("of_log"), entries.c.idx < bindparam("below")
                )
            ),
        )


# pg8000 sends executemany row by row; one statement over arrays is one round trip.
_UNNEST: Final = (
    "INSERT INTO log_entries (log, idx, leaf) "
    "SELECT %s, * FROM unnest(CAST(%s AS bigint[]), CAST(%s AS bytea[]))"
)


def is_postgres(engine: Engine) -> bool:
    """Whether the engine is PostgreSQL; the only other one allowed is SQLite in a file."""
    return engine.dialect.name == "postgresql"


class Session:
    """The writer's connection: raw for the hot statements, SQLAlchemy's for the caller's.

    Both speak on one database connection, so in one transaction.
    """

    def __init__(self, connection: Connection, log: str) -> None:
        self.connection = connection
        self._statements = Statements.of(connection.engine)
        self._log = log
        self._postgres = is_postgres(connection.engine)
        raw: Any = connection.connection.driver_connection
        self._raw = raw
        self._cursor = raw.cursor()

    def stage(self, first: int, leaves: Sequence[bytes]) -> None:
        """Insert entries from index ``first`` on."""
        if self._postgres:
            indexes = list(range(first, first + len(leaves)))
            parameters = (self._log, indexes, list(leaves))
            self._cursor.execute(self._statements.insert_entries, parameters)
        else:
            rows = [(self._log, index, leaf) for index, leaf in enumerate(leaves, first)]
            self._cursor.executemany(self._statements.insert_entries, rows)

    def keep(self, rows: Sequence[tuple[int, str, bytes, bytes, int | None]]) -> None:
        """Insert private values: index, field, value, salt, retain until."""
        self._cursor.executemany(
            self._statements.insert_values, [(self._log, *row) for row in rows]
        )

    def advance(self, old_size: int, new: SignedCheckpoint, published: int) -> bool:
        """Move the head on; False if it was not at ``old_size``: the compare-and-swap."""
        at = new.checkpoint
        values_ = (at.size, at.root, new.note, published, self._log, old_size)
        self._cursor.execute(self._statements.advance, values_)
        return bool(self._cursor.rowcount == 1)

    def delete_below(self, index: int) -> None:
        """Delete staged entries below ``index``."""
        self._cursor.execute(self._statements.delete_entries, (self._log, index))

    def begin(self) -> None:
        """Begin at once.

        Said explicitly on SQLite, because engines differ in when (and whether) they begin, and
        because an outermost savepoint would commit when it is released.
        """
        self.connection.begin()
        if not self._postgres and not self._raw.in_transaction:
            self._cursor.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the transaction durable."""
        self.connection.commit()

    def rollback(self) -> None:
        """Undo the transaction."""
        self.connection.rollback()

    def end(self) -> None:
        """Close the connection itself, not back to the pool: lock and pragmas are the session's."""
        with suppress(SQLAlchemyError):
            self.connection.invalidate()
            self.connection.close()


def connect(engine: Engine, lock_timeout_s: float) -> Connection:
    """Return a connection whose commits are durable when they return.

    Raises:
        ProbegateError: LOG_UNAVAILABLE if the database cannot promise that.
    """
    if not is_postgres(engine) and engine.dialect.name != "sqlite":
        raise ProbegateError(Reason.CONFIG_INVALID, detail="a log needs SQLite or PostgreSQL")
    try:
        connection = engine.connect()
        if is_postgres(engine):
            connection.exec_driver_sql("SET synchronous_commit = on")
            connection.commit()
        else:
            # On the driver's connection: these may not run inside a transaction.
            cursor: Any = connection.connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {int(lock_timeout_s * 1000)}")
            mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            cursor.execute("PRAGMA synchronous = FULL")
            if mode != "wal":
                connection.close()
                raise ProbegateError(Reason.LOG_UNAVAILABLE, detail=f"journal mode is {mode}")
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise storage_failure(error) from error
    return connection


def create(engine: Engine) -> None:
    """Make the log's tables where they are missing."""
    metadata.create_all(engine, [heads, entries, values])


def take_advisory_lock(connection: Connection, log: str) -> None:
    """Take the log's session lock on PostgreSQL; it ends with the connection.

    Raises:
        ProbegateError: LOG_UNAVAILABLE if another sequencer has it.
    """
    if connection.dialect.name != "postgresql":
        return
    key = int.from_bytes(sha256(b"probegate/log/" + log.encode()).digest()[:8], "big", signed=True)
    got = connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s)", (key,)).scalar_one()
    connection.commit()
    if not got:
        raise ProbegateError(Reason.LOG_UNAVAILABLE, detail="another sequencer has the log")


def read_head(connection: Connection, log: str) -> tuple[str, int, bytes, bytes, int] | None:
    """Return ``(origin, size, root, note, published)`` of the log, if it exists."""
    columns = (heads.c.origin, heads.c.size, heads.c.root, heads.c.note, heads.c.published)
    row = connection.execute(select(*columns).where(heads.c.log == log)).first()
    return None if row is None else (row[0], row[1], bytes(row[2]), bytes(row[3]), row[4])


def insert_head(connection: Connection, log: str, head: tuple[str, int, bytes, bytes, int]) -> None:
    """Write a new log's row, in the order of ``read_head``."""
    names = ("origin", "size", "root", "note", "published")
    connection.execute(insert(heads), dict(zip(names, head, strict=True), log=log))


def read_stage(connection: Connection, log: str, start: int) -> dict[int, bytes]:
    """Return the staged entries from index ``start`` on, in order."""
    query = select(entries.c.idx, entries.c.leaf).where(
        entries.c.log == log, entries.c.idx >= start
    )
    rows = connection.execute(query.order_by(entries.c.idx))
    return {index: bytes(leaf) for index, leaf in rows}


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that there is no room."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return is_disk_full(error.orig)
    if isinstance(error, OSError):
        return error.errno in _DISK_FULL_ERRNO
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    first = error.args[0] if error.args else None
    return isinstance(first, dict) and first.get("C") == _DISK_FULL_SQLSTATE


def is_busy(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that somebody else has what was waited for."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return is_busy(error.orig)
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY
    first = error.args[0] if error.args else None
    return isinstance(first, dict) and first.get("C") == _LOCK_NOT_AVAILABLE


def storage_failure(
    error: BaseException, otherwise: Reason = Reason.LOG_UNAVAILABLE
) -> ProbegateError:
    """Return DISK_FULL, or ``otherwise``, for a failure of the storage."""
    reason = Reason.DISK_FULL if is_disk_full(error) else otherwise
    return ProbegateError(reason, detail=type(error).__name__)


@contextmanager
def state_storage() -> Iterator[None]:
    """Turn a failure of an organisation's database inside into a catalogued one.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error
