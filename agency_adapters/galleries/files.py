"""A gallery in files, as the adapter sees it."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import Self

from agency_adapters.agency import Record
from agency_adapters.galleries.gallery import Eligible, Found, GalleryFacts, Query, Scored
from agency_adapters.galleries.matching import MATCHER, best_matches
from agency_adapters.galleries.store import Gallery, read_manifest


class FileGallery:
    """One generation of a gallery in files."""

    def __init__(self, path: Path, stored: Gallery) -> None:
        self._path = path
        self._stored = stored

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the newest generation.

        Raises:
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
        """
        return cls(path, await asyncio.to_thread(Gallery.open, path))

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
            changed_at=manifest.created_at,
            sha256=manifest.sha256,
            matcher=MATCHER,
            exact=True,
        )

    async def search(self, query: Query) -> Found:
        """Search for one probe."""
        return await asyncio.to_thread(self._search, query)

    def _search(self, query: Query) -> Found:
        stored = self._stored
        eligible = stored.eligibility(query.day, query.switches)
        found = best_matches(
            stored.templates,
            eligible.mask,
            query.probe,
            threshold=query.threshold,
            limit=query.limit,
        )
        ids = stored.record_ids([one.row for one in found])
        scored = tuple(
            Scored(record_id, one.score) for record_id, one in zip(ids, found, strict=True)
        )
        return Found(scored, eligible.count)

    async def eligible(self, day: date, switches: frozenset[str]) -> Eligible:
        """Count who may be searched."""
        found = await asyncio.to_thread(self._stored.eligibility, day, switches)
        return Eligible(found.count, found.met)

    async def record(self, record_id: str) -> Record | None:
        """Return one record, or None."""
        fields = await asyncio.to_thread(self._stored.record, record_id)
        return None if fields is None else self._stored.kind.record.model_validate(fields)

    async def newer(self) -> FileGallery | None:
        """Return the newest generation, if it is not this one."""
        manifest = await asyncio.to_thread(read_manifest, self._path)
        if manifest.sha256 == self._stored.manifest.sha256:
            return None
        return await FileGallery.open(self._path)

    async def close(self) -> None:
        """Let go of the files."""
        self._stored.close()
