"""A gallery in Milvus, by its FLAT index: exact, or there is no answer.

1. A search asks for more records than it needs. What Milvus left out scores at most as much as the
   last it gave, so the answer is complete once that last is further below the threshold, or below
   the k-th best, than both scores can err together. Otherwise it asks for more.
2. Milvus gives at most ``MAX_ASKED``. Where that is not enough (so many records within the error
   bound of each other), the answer cannot be certified and there is none.
3. Eligibility is the search's own filter, so a barred record is never compared.
4. The records given are scored in float64 as ``certifying`` says.
5. An erasure puts the records into another collection. Whoever reads meanwhile reads again there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

import numpy as np
from pydantic import ValidationError

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.certifying import certified, uncertified
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.gallery import (
    Eligible,
    Found,
    GalleryFacts,
    GenerationGoneError,
    Query,
    Scored,
)
from agency_adapters.galleries.matching import MATCHER, scan_error
from agency_adapters.galleries.milvus_tables import (
    STRONG,
    Facts,
    Server,
    connect,
    count,
    faults,
    query,
    read_facts,
    require_flat,
)
from agency_adapters.galleries.sharing import Shared
from agency_adapters.galleries.writing import is_record_id
from trust.errors import ProbegateError, Reason

MAX_ASKED: Final = 16_384
"""Most records that Milvus gives for one search (its ``topK``)."""
MARGIN: Final = 16
"""How many more records than needed are asked for at first."""
_MORE: Final = 4
"""How many times as many are asked for next."""


T = TypeVar("T")


class MilvusGallery:
    """One generation of a gallery in Milvus. Made by ``open``."""

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
        server = await asyncio.to_thread(connect, location, settings)
        shared = Shared(settings.engine_connections, settings.engine_timeout_s, server.client.close)
        try:
            facts = await shared.call(lambda s: read_facts(server, s))
            await shared.call(lambda s: require_flat(server, facts.store, s))
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
        """Search for one probe.

        Raises:
            ProbegateError: ``GALLERY_UNCERTIFIED`` (2), besides what the protocol names.
        """
        return await self._shared.call(lambda s: self._search(query, s), query.deadline)

    async def eligible(self, day: date, switches: frozenset[str]) -> Eligible:
        """Count who may be searched."""
        return await self._shared.call(lambda s: self._eligible(day, switches, s))

    async def record(self, record_id: str) -> Record | None:
        """Return one record, or None."""
        if not is_record_id(record_id):
            return None
        return await self._shared.call(lambda s: self._record(record_id, s))

    async def newer(self) -> MilvusGallery | None:
        """Return the newest generation, if it is not this one."""
        facts = await self._shared.call(lambda s: read_facts(self._server, s))
        same = facts.generation == self._facts.generation
        return None if same else MilvusGallery(self._server, self._shared, facts)

    async def close(self) -> None:
        """Let go of the client, if no other generation has it."""
        await self._shared.leave(self)

    def _search(self, asked_for: Query, timeout_s: float) -> Found:
        condition = self._searchable(asked_for.day, asked_for.switches)
        return self._read(
            lambda name: self._found(name, condition, asked_for, timeout_s), timeout_s
        )

    def _found(self, records: str, condition: str, asked_for: Query, timeout_s: float) -> Found:
        eligible = count(self._server, records, condition, timeout_s)
        if not eligible:
            return Found((), 0)
        narrow = asked_for.probe.astype(np.float32)
        asked = min(asked_for.limit + MARGIN, MAX_ASKED)
        while True:
            hits = self._hits(records, narrow, condition, asked, timeout_s)
            found, last = self._scored(hits, asked_for)
            if len(hits) < asked or self._complete(found, last, asked_for):  # (1)
                return Found(found, eligible)
            if asked == MAX_ASKED:  # (2)
                raise uncertified(f"more than {MAX_ASKED} records are within the error bound")
            asked = min(asked * _MORE, MAX_ASKED)

    def _hits(
        self, records: str, narrow: Any, condition: str, asked: int, timeout_s: float
    ) -> list[dict[str, Any]]:
        with faults():
            (hits,) = self._server.client.search(
                records,
                data=[narrow],
                anns_field="template",
                limit=asked,
                filter=condition,
                output_fields=["record_id", "template"],
                search_params={"metric_type": "IP"},
                consistency_level=STRONG,
                timeout=timeout_s,
            )
        return list(hits)

    def _scored(
        self, hits: list[dict[str, Any]], asked_for: Query
    ) -> tuple[tuple[Scored, ...], float]:
        """Return the best of the records given (4), and the least of Milvus's scores."""
        ids = [hit["entity"]["record_id"] for hit in hits]
        if len(set(ids)) != len(ids):
            raise ProbegateError(Reason.GALLERY_CORRUPT, "a record is there twice")
        scans = np.array([hit["distance"] for hit in hits], dtype=np.float64)
        templates = np.empty((len(hits), self._facts.dims), dtype=np.float32)
        for row, hit in enumerate(hits):
            templates[row] = hit["entity"]["template"]
        found = certified(
            ids,
            scans,
            templates,
            asked_for.probe,
            threshold=asked_for.threshold,
            limit=asked_for.limit,
        )
        return found, float(scans.min(initial=np.inf))

    def _complete(self, found: tuple[Scored, ...], last: float, asked_for: Query) -> bool:
        """Whether nothing that Milvus left out can be in the answer (1).

        A record left out has a float32 score of at most ``last``, so a float64 one of at most
        ``last + eps``; ``found`` has float64 scores already, which saves the second ``eps``.
        """
        best_left_out = last + scan_error(self._facts.dims)
        if best_left_out < asked_for.threshold:
            return True
        return len(found) == asked_for.limit and best_left_out < found[-1].score

    def _eligible(self, day: date, switches: frozenset[str], timeout_s: float) -> Eligible:
        def counted(records: str) -> Eligible:
            met = {
                rule.name: count(
                    self._server, records, f"{self._live} and ({_barred(n, day)})", timeout_s
                )
                for n, rule in enumerate(self._kind.eligibility)
            }
            condition = self._searchable(day, switches)
            searchable = count(self._server, records, condition, timeout_s)
            return Eligible(searchable, MappingProxyType(met))

        return self._read(counted, timeout_s)

    def _record(self, record_id: str, timeout_s: float) -> Record | None:
        def asked(records: str) -> list[dict[str, Any]]:
            with faults():
                return query(self._server, records, self._naming(record_id), ["fields"], timeout_s)

        rows = self._read(asked, timeout_s)
        if not rows:
            return None
        try:
            return self._kind.record.model_validate_json(rows[0]["fields"])
        except ValidationError:
            raise ProbegateError(Reason.GALLERY_CORRUPT, "a record does not parse") from None

    def _read(self, read: Callable[[str], T], timeout_s: float) -> T:
        """Read from the collection of records, again if it was another's turn meanwhile (5)."""
        records = self._records(timeout_s)
        while True:
            try:
                found, fault = read(records), None
            except ProbegateError as error:
                fault = error
            now = self._records(timeout_s)
            if now != records:
                records = now
            elif fault:
                raise fault
            else:
                return found

    def _records(self, timeout_s: float) -> str:
        """Return the collection of records; refuse a generation that is no longer kept whole."""
        newest = read_facts(self._server, timeout_s)
        if newest.oldest > self._facts.generation:
            raise GenerationGoneError
        return self._server.records(newest.store)

    @property
    def _live(self) -> str:
        generation = self._facts.generation
        return f"since <= {generation} and until > {generation}"

    def _searchable(self, day: date, switches: frozenset[str]) -> str:
        """Return the filter of the records that may be searched (3)."""
        barring = [
            f"not ({_barred(n, day)})"
            for n, rule in enumerate(self._kind.eligibility)
            if not rule.switch or rule.switch in switches
        ]
        return " and ".join([self._live, *barring])

    def _naming(self, record_id: str) -> str:
        return f'{self._live} and record_id == "{record_id}"'  # an id has nothing to escape


def _barred(rule: int, day: date) -> str:
    return f"barred_{rule}_first <= {day.toordinal()} and barred_{rule}_end > {day.toordinal()}"
