"""Galleries of random unit templates, made a segment at a time, and probes for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.custody import CUSTODY, CustodyRecord, Disposal, ImageSource
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.encoding import encode_rows
from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.galleries.segment_content import (
    SEGMENT_ROWS,
    TEMPLATES,
    SegmentContent,
    days_of,
)
from agency_adapters.galleries.store import SEGMENTS, StoredGallery
from agency_adapters.galleries.templates import Templates, unit_rows
from trust.errors import ProbegateError

MODEL: Final = "invented-face-1"
NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY: Final = NOW.date()
MATE_NOISE: Final = 0.03
"""Standard deviation of what a mated probe adds to each dimension of its mate."""


def block(seed: int, number: int, rows: int, dims: int) -> Templates:
    """Return one block of templates, the same for the same arguments, float32, unit length."""
    random = np.random.default_rng((seed, number))
    return unit_rows(random.standard_normal((rows, dims), dtype=np.float32))


def make_gallery(out: Path, rows: int, dims: int, seed: int = 1) -> None:
    """Make a custody gallery of ``rows`` invented records, unless it is there already.

    Records are written as JSON without the models' help: twenty million would take an hour.
    """
    with suppress(ProbegateError):  # whatever else is there is made anew
        if StoredGallery.open(out).manifest.count == rows:
            return
    with editing(out, CUSTODY) as editor:
        editor.replace(MODEL, dims, _contents(rows, dims, seed), NOW)


def _contents(rows: int, dims: int, seed: int) -> Iterator[SegmentContent]:
    like = CustodyRecord(
        record_id="R",
        captured_on=date(2020, 1, 1),
        date_of_birth=date(1980, 1, 1),
        disposal=Disposal.CONVICTED,
        image_source=ImageSource.CUSTODY_PHOTO,
    )
    before, after = like.model_dump_json().split('"R"')
    days = days_of(CUSTODY, like)
    for start in range(0, rows, SEGMENT_ROWS):
        here = min(SEGMENT_ROWS, rows - start)
        templates = block(seed, start // SEGMENT_ROWS, here, dims)
        encoded = encode_rows(templates)
        ids = range(start, start + here)
        yield SegmentContent(
            encoded.codes,
            encoded.scale,
            encoded.bounds,
            templates,
            np.broadcast_to(days, (here, *days.shape)),
            tuple(f'{before}"R{number:09d}"{after}\n'.encode() for number in ids),
        )


def templates_of(gallery: Path) -> Templates:
    """Return all templates of a gallery in one array, row ``n`` being record ``R{n}``."""
    return np.concatenate(list(_all_templates(gallery)))


def _all_templates(gallery: Path) -> Iterator[Templates]:
    """Yield each segment's templates, read as files are read fastest: from end to end."""
    manifest = read_manifest(gallery)
    for entry in manifest.segments:
        flat = np.fromfile(gallery / SEGMENTS / entry.name / TEMPLATES, dtype="<f4")
        yield flat.reshape(entry.rows, manifest.dims)


def probes(gallery: Path, count: int, seed: int = 7) -> npt.NDArray[np.float64]:
    """Return probes, half of them mated with some record, float64, shape ``(count, dims)``."""
    random = np.random.default_rng(seed)
    stored = StoredGallery.open(gallery)
    dims = stored.manifest.dims
    made = random.standard_normal((count, dims))
    for number in range(0, count, 2):
        segment = stored.segments[int(random.integers(len(stored.segments)))]
        mate = segment.templates[int(random.integers(segment.rows))].astype(np.float64)
        made[number] = mate + MATE_NOISE * random.standard_normal(dims)
    lengths = np.sqrt(np.einsum("ij,ij->i", made, made))
    return np.asarray(made / lengths[:, np.newaxis])


def truth(
    gallery: Path, sought: npt.NDArray[np.float64], limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Compare everything in float64: rows and scores of the best of each probe, best first."""
    best_rows = np.empty((len(sought), 0), dtype=np.int64)
    best_scores = np.empty((len(sought), 0))
    base = 0
    for templates in _all_templates(gallery):
        wide = templates.astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        scores = np.concatenate([best_scores, sought @ wide.T / lengths], axis=1)
        here = np.broadcast_to(np.arange(base, base + len(wide)), (len(sought), len(wide)))
        rows = np.concatenate([best_rows, here], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :limit]
        best_scores = np.take_along_axis(scores, order, axis=1)
        best_rows = np.take_along_axis(rows, order, axis=1)
        base += len(wide)
    return best_rows, best_scores
