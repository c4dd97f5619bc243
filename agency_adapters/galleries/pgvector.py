"""A gallery in PostgreSQL with pgvector: searched exactly, by one scan of the eligible rows.

1. One search is one read-only snapshot. It sees the generation that was opened; one that the
   writer no longer keeps whole is refused, and ``newer`` has its successor.
2. Eligibility is part of the scan's own condition, so a barred row is never compared.
3. The scan is materialised once, and everything asked of it (how many, the k-th best, all within
   the error bound) reads that. Indexes are off for it: an approximate one must not be used.
4. Only rows within the error bound are fetched, and scored as ``certifying`` says.
5. The statement timeout is what is left until the query's deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from types import MappingProxyType
from typing import Final, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from sqlalchemy import Connection, text

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.certifying import certified, uncertified
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.gallery import (
    Eligible,
    Found,
    GalleryFacts,
    GenerationGoneError,
    Query,
)
from agency_adapters.galleries.matching import MATCHER, scan_error
from agency_adapters.galleries.pgvector_tables import (
    FAULTS,
    Facts,
    Server,
    connect,
    failure,
    read_facts,
)
from agency_adapters.galleries.sharing import Shared
from agency_adapters.galleries.templates import Probe
from trust.errors import ProbegateError, Reason

MAX_RESCORED: Final = 100_000
"""Most rows within the error bound of one search; more cannot be told apart in memory."""
_FETCH_ROWS: Final = 4096
"""Templates fetched at once."""
_VECTOR_HEADER: Final = 4
"""Bytes before the numbers in pgvector's binary form: dimensions and a spare word, 16 bits each."""

T = TypeVar("T")


class PgvectorGallery:
    """One generation of a gallery in PostgreSQL. Made by ``open``."""

    def __init__(self, server: Server, shared: Shared, facts: Facts) -> None:
        self._server = server
        self._shared = shared
        self._facts = facts
        self._kind: AgencyKind = facts.agency
        shared.join(self)

    @classmethod
    async def open(cls, location: str, settings: EngineSettings) -> Self:
        """Open the newest generation.

        Raises:
            ProbegateError: ``CONFIG_INVALID``, ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or
                ``GALLERY_UNAVAILABLE``.
        """
        server = connect(location, settings, settings.engine_timeout_s)
        shared = Shared(
            settings.engine_connections, settings.engine_timeout_s, server.engine.dispose
        )
        try:
            facts = await shared.call(
                lambda s: _snapshot(server, s, lambda c: read_facts(c, server))
            )
        except ProbegateError:
            await shared.leave()
            raise
        return cls(server, shared, facts)

    @property
    def facts(self) -> GalleryFacts:
        """What it says about itself."""
        facts = self._facts
        return GalleryFacts(
            kind=facts.kind,
            model=facts.model,
            dims=facts.dims,
            count=facts.count,
            generation=facts.generation,
            changed_at=facts.changed_at,
            sha256="",
            matcher=MATCHER,
            exact=True,
        )

    @property
    def load(self) -> int:
        """How many searches wait or are under way."""
        return self._shared.load

    async def search(self, query: Query) -> Found:
        """Search for one probe."""
        return await self._in_snapshot(lambda c: self._search(c, query), query.deadline)

    async def eligible(self, day: date, switches: frozenset[str]) -> Eligible:
        """Count who may be searched."""
        return await self._in_snapshot(lambda c: self._eligible(c, day, switches))

    async def record(self, record_id: str) -> Record | None:
        """Return one record, or None."""
        return await self._in_snapshot(lambda c: self._record(c, record_id))

    async def newer(self) -> PgvectorGallery | None:
        """Return the newest generation, if it is not this one."""
        facts = await self._in_snapshot(lambda c: read_facts(c, self._server))
        same = facts.generation == self._facts.generation
        return None if same else PgvectorGallery(self._server, self._shared, facts)

    async def close(self) -> None:
        """Let go of the connections, if no other generation has them."""
        await self._shared.leave(self)

    async def _in_snapshot(
        self, work: Callable[[Connection], T], deadline: float | None = None
    ) -> T:
        return await self._shared.call(lambda s: _snapshot(self._server, s, work), deadline)

    def _search(self, connection: Connection, query: Query) -> Found:
        self._require_whole(connection)
        eligible, rows, scans = self._scanned(connection, query)
        ids, templates = self._fetched(connection, rows)
        found = certified(  # (4)
            ids, scans, templates, query.probe, threshold=query.threshold, limit=query.limit
        )
        return Found(found, eligible)

    def _scanned(
        self, connection: Connection, query: Query
    ) -> tuple[int, list[int], npt.NDArray[np.float64]]:
        """Return how many rows are eligible, and those within the error bound with their scores."""
        eps = scan_error(self._facts.dims)
        # (3) One scan, read three times.
        statement = text(f"""
            WITH scanned AS MATERIALIZED (
                SELECT row, -(template <#> CAST(:probe AS vector)) AS scan
                FROM {self._server.rows} WHERE {self._live(query.switches)}
            ), kth AS (
                SELECT scan FROM scanned ORDER BY scan DESC OFFSET :others LIMIT 1
            ), near AS (
                SELECT row, scan FROM scanned
                WHERE scan >= :cut
                AND scan >= coalesce((SELECT scan FROM kth) - :margin, '-infinity') LIMIT :most
            )
            SELECT counted.eligible, near.row, near.scan
            FROM (SELECT count(*) AS eligible FROM scanned) AS counted LEFT JOIN near ON true
            """)
        values = {
            "probe": _literal(query.probe),
            "others": query.limit - 1,
            "cut": query.threshold - eps,
            "margin": 2 * eps,
            "most": MAX_RESCORED + 1,
            "generation": self._facts.generation,
            "day": query.day.toordinal(),
        }
        connection.execute(text("SET LOCAL enable_indexscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        found = connection.execute(statement, values).all()
        near = [(row, scan) for _, row, scan in found if row is not None]
        if len(near) > MAX_RESCORED:
            raise uncertified(f"more than {MAX_RESCORED} records are within the error bound")
        scans = np.array([scan for _, scan in near], dtype=np.float64)
        return found[0][0], [row for row, _ in near], scans

    def _fetched(
        self, connection: Connection, rows: list[int]
    ) -> tuple[list[str], npt.NDArray[np.float32]]:
        dims = self._facts.dims
        ids: list[str] = []
        templates = np.empty((len(rows), dims), dtype=np.float32)
        connection.execute(text("SET LOCAL enable_indexscan = on"))
        statement = text(
            f"SELECT row, record_id, vector_send(template) FROM {self._server.rows}"
            " WHERE row = ANY(CAST(:rows AS bigint[]))"
        )
        for start in range(0, len(rows), _FETCH_ROWS):
            some = rows[start : start + _FETCH_ROWS]
            got = {
                row: (name, sent)
                for row, name, sent in connection.execute(statement, {"rows": some})
            }
            for row in some:
                name, sent = got[row]
                numbers = np.frombuffer(sent, dtype=">f4", offset=_VECTOR_HEADER)
                templates[len(ids)] = numbers
                ids.append(name)
        return ids, templates

    def _eligible(self, connection: Connection, day: date, switches: frozenset[str]) -> Eligible:
        self._require_whole(connection)
        counts = "".join(
            f", count(*) FILTER (WHERE {_barred(n)})" for n in range(len(self._kind.eligibility))
        )
        statement = text(
            f"SELECT count(*) FILTER (WHERE {self._live(switches)}){counts}"
            f" FROM {self._server.rows} WHERE {_LIVE}"
        )
        values = {"generation": self._facts.generation, "day": day.toordinal()}
        count, *met = connection.execute(statement, values).one()
        names = (rule.name for rule in self._kind.eligibility)
        return Eligible(count, MappingProxyType(dict(zip(names, met, strict=True))))

    def _record(self, connection: Connection, record_id: str) -> Record | None:
        self._require_whole(connection)
        statement = text(
            f"SELECT fields FROM {self._server.rows} WHERE {_LIVE} AND record_id = :record_id"
        )
        values = {"generation": self._facts.generation, "record_id": record_id}
        fields = connection.execute(statement, values).scalar()
        try:
            return None if fields is None else self._kind.record.model_validate(fields)
        except ValidationError:
            raise ProbegateError(Reason.GALLERY_CORRUPT, "a record does not parse") from None

    def _require_whole(self, connection: Connection) -> None:
        """Refuse a generation that the writer no longer keeps whole (1)."""
        facts = read_facts(connection, self._server)
        if facts.oldest > self._facts.generation:
            raise GenerationGoneError

    def _live(self, switches: frozenset[str]) -> str:
        """Return the condition of the rows that may be searched (2)."""
        barring = [
            f"NOT ({_barred(n)})"
            for n, rule in enumerate(self._kind.eligibility)
            if not rule.switch or rule.switch in switches
        ]
        return " AND ".join([_LIVE, *barring])


_LIVE: Final = "since <= :generation AND until > :generation"


def _snapshot(server: Server, seconds: float, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one read-only snapshot, within so many seconds (1) (5)."""
    timeout_ms = max(1, int(seconds * 1000))
    try:
        with server.engine.connect() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            connection.execute(text(f"SET LOCAL statement_timeout = {timeout_ms}"))
            return work(connection)
    except FAULTS as error:
        raise failure(error) from None


def _barred(rule: int) -> str:
    return f"barred_{rule}_first <= :day AND barred_{rule}_end > :day"


def _literal(probe: Probe) -> str:
    """Return pgvector's text form of a probe, rounded to float32 as the certificate reckons."""
    return "[" + ",".join(map(repr, probe.astype(np.float32).tolist())) + "]"
