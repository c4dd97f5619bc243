"""Writing a gallery in PostgreSQL with pgvector.

1. One write is one transaction under a lock of the row of facts: it has happened or it has not, and
   a second writer waits for the first.
2. Rows come in by a binary copy into a temporary table, and what is already there unchanged stays.
3. An updated record's older version is kept for galleries that are still open, until the first
   write after ``KEEP_SUPERSEDED_S``; then galleries from before it are refused.
4. Erasure deletes every version of a record and rewrites the table (``VACUUM FULL``), because a
   plain ``VACUUM`` leaves the bytes in the page until something is written over them. Nobody reads
   the table while it is rewritten. An erasure cut short after its transaction is finished by the
   next one.
5. The write-ahead log has every row that ever came in. A checkpoint lets go of its segments, but
   PostgreSQL renames them for later use as they are; so each is written over, by beginning it and
   switching to the next. That needs rights which a role may not have, and does nothing about
   segments that somebody else needs; where anything is left, the report says so.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, Self

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.pgvector_tables import (
    FAULTS,
    Facts,
    Server,
    barred_columns,
    connect,
    create_tables,
    failure,
    leave_unsampled,
    read_facts,
    sqlstate,
)
from agency_adapters.galleries.rejecting import Losing, anybody
from agency_adapters.galleries.segment_content import NewRecord
from agency_adapters.galleries.writing import (
    NEVER,
    EnrolReport,
    ErasureReport,
    GalleryStats,
    barred_days,
    require_erasable,
    require_fitting,
    require_model,
    require_storable,
)
from trust.clock import Clock, utc_now
from trust.errors import ProbegateError, Reason

KEEP_SUPERSEDED_S: Final = 60.0
"""How long the older version of an updated record is kept, seconds; galleries reload sooner."""
MAX_SEGMENTS: Final = 64
"""Most segments of the write-ahead log that one erasure writes over (5); 1 GiB as they come."""
REMAINS_LOG: Final = "the write-ahead log, until PostgreSQL has written over its segments"
"""What remains besides where the write-ahead log could not be cleared (5)."""
REMAINS: Final = (
    "archives of the write-ahead log",
    "replicas and their write-ahead logs, until they have replayed the rewrite and written on",
    "base backups and dumps",
    "rows that a transaction older than the erasure can still see, until the next erasure",
    "freed blocks of the file system and snapshots of it",
)
"""What an erasure here cannot reach (``docs/engines.md``)."""
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER: Final = struct.pack(">h", -1)
_JSONB_VERSION: Final = b"\x01"
_SEGMENT: Final = "name ~ '^[0-9A-F]{24}$'"
_FORBIDDEN: Final = frozenset({"42501"})
"""SQLSTATE: insufficient privilege."""


class PgvectorWriter:
    """Writes one gallery. Made by ``open``."""

    def __init__(self, server: Server, kind: AgencyKind, dims: int, clock: Clock) -> None:
        self._server = server
        self._kind = kind
        self._dims = dims
        self._clock = clock

    @classmethod
    def open(
        cls,
        location: str,
        kind: AgencyKind,
        settings: EngineSettings,
        *,
        model: str = "",
        dims: int = 0,
        clock: Clock = utc_now,
    ) -> Self:
        """Open a gallery for writing; with ``model`` and ``dims``, make it if it is not there.

        Raises:
            ProbegateError: ``CONFIG_INVALID``, ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or
                ``GALLERY_UNAVAILABLE``; ``IMPORT_INVALID`` if it is of another kind or model.
        """
        server = connect(location, settings, settings.engine_write_timeout_s)
        try:
            with server.engine.begin() as connection:
                if model:
                    require_model(model)
                    create_tables(connection, server, kind, model, dims, clock())
                facts = read_facts(connection, server)
                require_fitting(kind, model, dims, (facts.kind, facts.model, facts.dims))
        except FAULTS as error:
            server.engine.dispose()
            raise failure(error) from None
        except ProbegateError:
            server.engine.dispose()
            raise
        return cls(server, kind, facts.dims, clock)

    def enrol(
        self, records: Iterable[NewRecord], *, replace: bool = False, losing: Losing = anybody
    ) -> EnrolReport:
        """Enrol and update records; with ``replace``, erase every other, if ``losing`` agrees."""
        try:
            with self._server.engine.begin() as connection:
                facts = read_facts(connection, self._server, lock=True)  # (1)
                self._copy_in(connection, records)
                removed = self._remove_others(connection, losing) if replace else 0
                report = self._merge(connection, facts, removed)
        except FAULTS as error:
            raise failure(error) from None
        if report.removed:
            self._rewrite()
        return report

    def erase(self, record_ids: Sequence[str], authority: str) -> ErasureReport:
        """Erase records (4)."""
        ids = require_erasable(record_ids)
        try:
            with self._server.engine.begin() as connection:
                facts = read_facts(connection, self._server, lock=True)  # (1)
                deleted = connection.execute(
                    text(
                        f"DELETE FROM {self._server.rows}"
                        " WHERE record_id = ANY(CAST(:ids AS text[])) RETURNING record_id, until"
                    ),
                    {"ids": ids},
                ).all()
                erased = {record_id for record_id, until in deleted if until == NEVER}
                generation = facts.generation + 1 if erased else facts.generation
                self._purge(connection)
                self._write_facts(connection, generation)
        except FAULTS as error:
            raise failure(error) from None
        # Even if nothing was there: an erasure cut short is finished by another.
        remains = REMAINS if self._rewrite() else (REMAINS_LOG, *REMAINS)
        gone = tuple(one for one in ids if one in erased)
        unknown = tuple(one for one in ids if one not in erased)
        return ErasureReport(generation, self._clock(), authority, gone, unknown, remains)

    @property
    def stats(self) -> GalleryStats:
        """What the engine holds now."""
        rows = self._server.rows
        try:
            with self._server.engine.begin() as connection:
                facts = read_facts(connection, self._server)
                superseded, stored = connection.execute(
                    text(
                        "SELECT count(*) FILTER (WHERE superseded_at IS NOT NULL),"
                        f" pg_total_relation_size('{rows}') FROM {rows}"
                    )
                ).one()
        except FAULTS as error:
            raise failure(error) from None
        return GalleryStats(facts.generation, facts.count, superseded, stored)

    def close(self) -> None:
        """Let go of the connections."""
        self._server.engine.dispose()

    def _copy_in(self, connection: Connection, records: Iterable[NewRecord]) -> None:
        """Fill the temporary table ``incoming`` (2)."""
        names = ", ".join(self._columns())
        connection.execute(
            text(
                f"CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {names}"
                f" FROM {self._server.rows} WITH NO DATA"
            )
        )
        stream = io.BufferedReader(_Copy(self._copied(records)))
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor()
        try:
            cursor.execute(
                f"COPY incoming ({names}) FROM STDIN WITH (FORMAT binary)", stream=stream
            )
        except driver.Error as error:
            raise failure(error) from None
        finally:
            cursor.close()
        leave_unsampled(connection, "incoming")
        connection.execute(text("ANALYZE incoming"))
        repeated = "SELECT 1 FROM incoming GROUP BY record_id HAVING count(*) > 1 LIMIT 1"
        if connection.execute(text(repeated)).first():
            raise ProbegateError(Reason.IMPORT_INVALID, "a record id comes twice")

    def _copied(self, records: Iterable[NewRecord]) -> Iterator[bytes]:
        """Yield PostgreSQL's binary copy format, in which no float is written in decimal."""
        yield _COPY_HEADER
        count = struct.pack(">h", len(self._columns()))
        for one in records:
            require_storable(one, self._kind, self._dims)
            values = [
                one.record.record_id.encode(),
                _JSONB_VERSION + one.record.model_dump_json().encode(),
                struct.pack(">HH", self._dims, 0) + one.template.astype(">f4").tobytes(),
            ]
            for days in barred_days(self._kind, one.record):
                values += [struct.pack(">i", days.first), struct.pack(">i", days.end)]
            yield count + b"".join(struct.pack(">i", len(value)) + value for value in values)
        yield _COPY_TRAILER

    def _columns(self) -> list[str]:
        return ["record_id", "fields", "template", *barred_columns(len(self._kind.eligibility))]

    def _remove_others(self, connection: Connection, losing: Losing) -> int:
        """Delete what is not in ``incoming``, unless ``losing`` refuses; return how many."""
        deleted = connection.execute(
            text(
                f"DELETE FROM {self._server.rows} AS r WHERE NOT EXISTS (SELECT FROM incoming AS i"
                " WHERE i.record_id = r.record_id) RETURNING record_id, until"
            )
        ).all()
        gone = [record_id for record_id, until in deleted if until == NEVER]
        losing(gone)
        return len(gone)

    def _merge(self, connection: Connection, facts: Facts, removed: int) -> EnrolReport:
        rows, names = self._server.rows, self._columns()
        values = {"generation": facts.generation + 1, "never": NEVER, "now": self._clock()}
        changed = " OR ".join(f"i.{name} IS DISTINCT FROM r.{name}" for name in names)
        updated = connection.execute(
            text(
                f"UPDATE {rows} AS r SET until = :generation, superseded_at = :now"
                " FROM incoming AS i"
                f" WHERE i.record_id = r.record_id AND r.until = :never AND ({changed})"
            ),
            values,
        ).rowcount
        listed = ", ".join(names)
        inserted = connection.execute(
            text(
                f"INSERT INTO {rows} ({listed}, since, until) SELECT {listed}, :generation, :never"
                f" FROM incoming AS i WHERE NOT EXISTS (SELECT FROM {rows} AS r"
                " WHERE r.record_id = i.record_id AND r.until = :never) ORDER BY record_id"
            ),
            values,
        ).rowcount
        self._purge(connection)
        self._write_facts(connection, facts.generation + 1)
        return EnrolReport(facts.generation + 1, inserted - updated, updated, removed)

    def _purge(self, connection: Connection) -> None:
        """Delete old versions that have been kept long enough (3)."""
        before = self._clock() - timedelta(seconds=KEEP_SUPERSEDED_S)
        connection.execute(
            text(
                f"WITH gone AS (DELETE FROM {self._server.rows} WHERE superseded_at < :before"
                f" RETURNING until) UPDATE {self._server.facts} SET oldest ="
                " greatest(oldest, (SELECT coalesce(max(until), 0) FROM gone))"
            ),
            {"before": before},
        )

    def _write_facts(self, connection: Connection, generation: int) -> None:
        connection.execute(
            text(
                f"UPDATE {self._server.facts} SET generation = :generation, changed_at = :now,"
                f" count = (SELECT count(*) FROM {self._server.rows} WHERE until = :never)"
            ),
            {"generation": generation, "now": self._clock(), "never": NEVER},
        )

    def _rewrite(self) -> bool:
        """Write the table anew without what was deleted, outside any transaction (4).

        Returns:
            Whether the write-ahead log has been cleared of it as well.
        """
        try:
            with self._server.engine.connect() as connection:
                alone = connection.execution_options(isolation_level="AUTOCOMMIT")
                alone.execute(text(f"VACUUM (FULL, ANALYZE) {self._server.rows}"))
                try:
                    return _clear_log(alone)
                except SQLAlchemyError as error:
                    if sqlstate(error) not in _FORBIDDEN:
                        raise
                    return False
        except FAULTS as error:
            raise failure(error) from None


def _clear_log(connection: Connection) -> bool:
    """Write over the segments of the write-ahead log up to now (5); return whether all are."""

    def ask(sql: str, **values: object) -> Any:
        return connection.execute(text(sql), values).scalar_one()

    def switch() -> str:
        ask("SELECT pg_logical_emit_message(false, 'probegate', '')")  # else it may do nothing
        return str(ask("SELECT pg_walfile_name(pg_switch_wal())"))

    last = switch()
    connection.execute(text("CHECKPOINT"))
    ahead = ask(f"SELECT count(*) FROM pg_ls_waldir() WHERE {_SEGMENT} AND name > :last", last=last)
    for _ in range(min(ahead, MAX_SEGMENTS)):
        switch()
    kept = ask(f"SELECT count(*) FROM pg_ls_waldir() WHERE {_SEGMENT} AND name <= :last", last=last)
    return not kept and bool(ahead <= MAX_SEGMENTS)


class _Copy(io.RawIOBase):
    """A readable stream over pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
