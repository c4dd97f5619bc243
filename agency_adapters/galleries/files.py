"""A gallery in files, as the adapter sees it: exact, and searched for many probes in one pass."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Self
from weakref import WeakMethod

from agency_adapters.agency import Record
from agency_adapters.galleries.choosing import best_kernel
from agency_adapters.galleries.editing import swept
from agency_adapters.galleries.gallery import (
    Eligible,
    Found,
    GalleryFacts,
    GenerationGoneError,
    Query,
    Scored,
)
from agency_adapters.galleries.gathering import Gatherer
from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.galleries.matching import MATCHER
from agency_adapters.galleries.scanning import scan
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.galleries.tally import Ask
from trust import telemetry
from trust.errors import ProbegateError, Reason

READ_ATTEMPTS: Final = 5
"""In how many generations a record is looked for, each of which was gone before it was read."""


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """How a gallery is scanned.

    Attributes:
        threads: how many threads scan; more than there are cores only share one memory.
        probes_per_pass: the most probes of one pass.
        waiting: the most probes that wait for the next passes.
        patience_s: how long a pass waits for company while several calls are served, seconds.
    """

    threads: int = os.cpu_count() or 1
    probes_per_pass: int = 64
    waiting: int = 256
    patience_s: float = 0.1


DEFAULT_LIMITS: Final = ScanLimits()


class FileGallery:
    """One generation of a gallery in files. Made by ``open``."""

    def __init__(self, path: Path, stored: StoredGallery, limits: ScanLimits) -> None:
        self._path = path
        self._stored = stored
        self._latest = stored
        """The newest generation that a record was looked for in; mostly this one."""
        self._limits = limits
        self._kernel = best_kernel(stored.manifest.dims)
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="scan")
        self._gatherer: Gatherer[Query, Found] = Gatherer(
            _while_there(self.search_all),
            most=limits.probes_per_pass,
            waiting=limits.waiting,
            patience_s=limits.patience_s,
        )

    @classmethod
    async def open(cls, path: Path, limits: ScanLimits = DEFAULT_LIMITS) -> Self:
        """Open the newest generation, and clear away what a crash left of a change.

        Raises:
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
        """

        def opened() -> StoredGallery:
            read_manifest(path)
            with suppress(ProbegateError):  # a gallery on a medium that cannot be written is fine
                swept(path)
            return StoredGallery.open(path)

        gallery = cls(path, await asyncio.to_thread(opened), limits)
        # Whoever installed without a compiler, or on a lesser processor, sees it here.
        telemetry.log("gallery open", kernel=gallery._kernel.name)
        return gallery

    @property
    def facts(self) -> GalleryFacts:
        """What it says about itself."""
        manifest = self._stored.manifest
        return GalleryFacts(
            kind=manifest.kind,
            model=manifest.model,
            dims=manifest.dims,
            count=manifest.count,
            generation=manifest.generation,
            changed_at=manifest.change.at,
            sha256=manifest.sha256,
            matcher=MATCHER,
            exact=True,
        )

    @property
    def load(self) -> int:
        """How many probes wait."""
        return self._gatherer.load

    async def search(self, query: Query) -> Found:
        """Search for one probe, in one pass with whatever else waits."""
        return await self._gatherer.ask(query, query.deadline, query.company)

    def search_all(self, queries: Sequence[Query]) -> list[Found]:
        """Search for some probes on this thread and the scanning ones.

        Raises:
            GenerationGoneError: if rows were overwritten meanwhile.
            ProbegateError: ``GALLERY_CORRUPT``.
        """
        return self._stored.while_whole(lambda: self._passes(queries))

    def _passes(self, queries: Sequence[Query]) -> list[Found]:
        answers: dict[int, Found] = {}
        for day, switches in {(query.day, query.switches) for query in queries}:
            mine = [
                number
                for number, query in enumerate(queries)
                if (query.day, query.switches) == (day, switches)
            ]
            found = self._pass([queries[number] for number in mine], day, switches)
            answers.update(zip(mine, found, strict=True))
        return [answers[number] for number in range(len(queries))]

    def _pass(self, queries: Sequence[Query], day: date, switches: frozenset[str]) -> list[Found]:
        stored = self._stored
        eligible = stored.eligibility(day, switches)
        if not stored.segments:
            return [Found((), eligible.count)] * len(queries)
        answers = scan(
            stored.segments,
            eligible.mask,
            [Ask(query.probe, query.threshold, query.limit) for query in queries],
            kernel=self._kernel,
            workers=self._threads,
            threads=self._limits.threads,
            rows=stored.rows,
        )
        # All at once: giving a segment's memory back costs more than reading a record.
        names = iter(stored.rows.record_ids([one.row for answer in answers for one in answer]))
        # A record that was erased since has no id any more, and nothing is said of it.
        return [
            Found(
                tuple(Scored(name, one.score) for one in answer if (name := next(names))),
                eligible.count,
            )
            for answer in answers
        ]

    async def eligible(self, day: date, switches: frozenset[str]) -> Eligible:
        """Count who may be searched, and make the mask of that day ready."""

        def counted() -> Eligible:
            stored = self._stored
            found = stored.while_whole(lambda: stored.eligibility(day, switches))
            return Eligible(found.count, found.met)

        return await asyncio.to_thread(counted)

    async def record(self, record_id: str) -> Record | None:
        """Return one record as it is now, or None."""

        def read() -> Record | None:
            for _ in range(READ_ATTEMPTS):
                stored = self._latest
                with suppress(GenerationGoneError):
                    return stored.while_whole(partial(stored.record, record_id))
                self._latest = StoredGallery.open(self._path, known=stored)
            raise GenerationGoneError

        return await asyncio.to_thread(read)

    async def newer(self) -> FileGallery | None:
        """Return the newest generation, if it is not this one."""

        def newest() -> StoredGallery | None:
            if read_manifest(self._path).sha256 == self._stored.manifest.sha256:
                return None
            return StoredGallery.open(self._path, known=self._stored)

        stored = await asyncio.to_thread(newest)
        return None if stored is None else FileGallery(self._path, stored, self._limits)

    async def close(self) -> None:
        """Let searches under way end, then let go of the threads; the files go with the object."""
        await self._gatherer.idle()
        self._threads.shutdown()


def _while_there(
    search: Callable[[Sequence[Query]], list[Found]],
) -> Callable[[Sequence[Query]], list[Found]]:
    """Return a search that keeps its gallery no longer than somebody else does.

    What is in a cycle waits for the collector, and what a server began with is never looked at
    again (``trust.garbage``): an old generation would keep its files mapped until a restart.
    """
    there = WeakMethod(search)

    def run(queries: Sequence[Query]) -> list[Found]:
        alive = there()
        if alive is None:  # whoever waits for an answer holds the gallery
            raise ProbegateError(Reason.GALLERY_MISSING)
        return alive(queries)

    return run
