"""The engines that the gallery contract runs over, each with an empty gallery of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.engine_import import enrol_to, import_to
from agency_adapters.galleries.gallery import Found, Gallery, GenerationGoneError, Query
from agency_adapters.galleries.importing import ImportReport
from agency_adapters.galleries.opening import open_gallery, open_writer, scheme_of
from agency_adapters.galleries.segment_content import NewRecord
from agency_adapters.galleries.templates import Probe, Templates, unit_rows

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
MODEL = "m-1"
HEADER = "record_id,captured_on,date_of_birth,disposal,image_source,deletion,review_due"
_numbers = itertools.count()


@dataclass(frozen=True)
class Bench:
    """One engine's gallery: where it is, and a folder for the files imported into it."""

    location: str
    folder: Path

    def put(
        self, templates: Templates, ids: Sequence[str], eligible: Sequence[bool]
    ) -> ImportReport:
        """Import a gallery of custody images; the ineligible ones wait for deletion."""
        lines = [HEADER]
        for record_id, allowed in zip(ids, eligible, strict=True):
            deletion = "" if allowed else "requested"
            lines.append(f"{record_id},2020-01-01,1980-01-01,convicted,other,{deletion},")
        np.save(self.folder / "t.npy", templates)
        (self.folder / "r.csv").write_text("\n".join(lines) + "\n")
        return self.again()

    def again(self) -> ImportReport:
        """Import the files that are there, of which every row is good."""
        report = self.imported()
        assert not report.rejected
        return report

    def imported(self, *, drop_rejected: bool = False) -> ImportReport:
        """Import the files that are there."""
        return import_to(
            kind=CUSTODY,
            templates=self.folder / "t.npy",
            records=self.folder / "r.csv",
            model=MODEL,
            out=self.location,
            now=NOW,
            drop_rejected=drop_rejected,
        )

    async def open(self) -> Gallery:
        """Open the newest generation."""
        return await open_gallery(self.location, CUSTODY)


def fresh(engine: str, folder: Path, postgres: str) -> Bench:
    """Return a place for a gallery where there is none yet."""
    number = next(_numbers)
    location = {
        "files": str(folder / f"gallery{number}"),
        "pgvector": f"{postgres.replace('+pg8000', '')}&schema=gallery{number}",
        "milvus": f"milvus+file://{folder}/gallery{number}.db",
    }[engine]
    return Bench(location, folder)


async def find(
    gallery: Gallery,
    probe: Probe,
    threshold: float = -1.0,
    limit: int = 5,
    switches: frozenset[str] = frozenset(),
) -> Found:
    """Search on the day of the contract."""
    query = Query(probe=probe, threshold=threshold, limit=limit, day=DAY, switches=switches)
    return await gallery.search(query)


async def names(gallery: Gallery, probe: Probe, threshold: float, limit: int) -> list[str]:
    """Return the record ids found, best first."""
    found = await find(gallery, probe, threshold, limit)
    return [one.record_id for one in found.candidates]


async def names_or_gone(
    gallery: Gallery, probe: Probe, threshold: float, limit: int
) -> list[str] | None:
    """Return the record ids found, or None where the generation is no longer kept whole."""
    try:
        return await names(gallery, probe, threshold, limit)
    except GenerationGoneError:
        return None


def people(count: int, dims: int = 64, seed: int = 8) -> npt.NDArray[np.float32]:
    """Return templates of people nobody has met."""
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dims)))


def probe_of(template: npt.NDArray[np.floating]) -> Probe:
    """Return a probe along a template."""
    wide = template.astype(np.float64)
    made: Probe = wide / np.sqrt(np.dot(wide, wide))
    return made


def new(record_id: str, template: npt.NDArray[np.float32], *, deletion: str = "") -> NewRecord:
    """Return a record to enrol."""
    fields = {
        "record_id": record_id,
        "captured_on": "2020-01-01",
        "date_of_birth": "1980-01-01",
        "disposal": "convicted",
        "image_source": "other",
        "deletion": deletion,
    }
    return NewRecord(CUSTODY.record.model_validate(fields), template)


def enrolled(bench: Bench, rows: Templates, ids: list[str]) -> None:
    """Enrol or update records as the commands do, wherever the gallery is."""
    lines = [HEADER, *(f"{name},2020-01-01,1980-01-01,convicted,other,," for name in ids)]
    np.save(bench.folder / "more.npy", rows)
    (bench.folder / "more.csv").write_text("\n".join(lines) + "\n")
    report = enrol_to(
        kind=CUSTODY,
        templates=bench.folder / "more.npy",
        records=bench.folder / "more.csv",
        model=MODEL,
        gallery=bench.location,
        update=True,
        now=NOW,
    )
    assert not report.rejected


def erased(bench: Bench, ids: list[str]) -> tuple[str, ...]:
    """Erase records, wherever the gallery is."""
    if not scheme_of(bench.location):
        with editing(Path(bench.location)) as editor:
            return editor.erase(ids, NOW)
    writer = open_writer(bench.location, CUSTODY)
    try:
        done = writer.erase(ids, "Request 2026/17")
        assert done.remains
        return done.erased
    finally:
        writer.close()
