"""Galleries made to break exact matching, and the comparison of everything in float64."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agency_adapters.custody import CUSTODY, CustodyRecord, Deletion, Disposal, ImageSource
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.segment_content import NewRecord, contents_of
from agency_adapters.galleries.templates import unit_rows

Rows = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = NOW.date()


def custody_record(record_id: str, *, eligible: bool = True) -> CustodyRecord:
    """A record that may be searched, or one whose deletion was asked for."""
    return CustodyRecord(
        record_id=record_id,
        captured_on=date(2020, 1, 1),
        date_of_birth=date(1980, 1, 1),
        disposal=Disposal.CONVICTED,
        image_source=ImageSource.CUSTODY_PHOTO,
        deletion=Deletion.NONE if eligible else Deletion.REQUESTED,
    )


def new_records(rows: Rows, ids: Sequence[str], eligible: Mask) -> list[NewRecord]:
    """Records on their way into a gallery."""
    return [
        NewRecord(custody_record(name, eligible=bool(allowed)), row)
        for row, name, allowed in zip(rows, ids, eligible, strict=True)
    ]


def write_gallery(out: Path, rows: Rows, ids: Sequence[str], eligible: Mask) -> None:
    """Make a gallery, or the next generation of one."""
    with editing(out, CUSTODY) as editor:
        records = new_records(rows, ids, eligible)
        editor.replace("m-1", rows.shape[1], contents_of(CUSTODY, records), NOW)


def brute_force(
    rows: Rows, ids: Sequence[str], eligible: Mask, probe: Vector, threshold: float, limit: int
) -> list[tuple[str, float]]:
    """Compare every eligible row with the probe in float64; ties in the order of record ids."""
    wide = rows.astype(np.float64)
    scores = np.add.reduce(wide * probe, axis=1) / np.sqrt(np.add.reduce(wide * wide, axis=1))
    ranked = sorted(
        (-float(score), name)
        for score, name, allowed in zip(scores, ids, eligible, strict=True)
        if allowed and score >= threshold
    )
    return [(name, -score) for score, name in ranked[:limit]]


def unit(vector: Vector) -> Vector:
    """A vector of unit length in float64."""
    made: Vector = vector / np.sqrt(np.dot(vector, vector))
    return made


@st.composite
def adversarial(draw: st.DrawFn) -> tuple[Rows, list[str], Mask, list[Vector]]:
    """Few people again and again, rows that differ in the last bits, rows of one axis, denormals.

    Returns rows, their record ids (in no order), which are eligible, and some probes.
    """
    dims = draw(st.one_of(st.integers(1, 24), st.sampled_from([8, 16, 24])))
    values = st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
    base = draw(hnp.arrays(np.float64, (draw(st.integers(1, 4)), dims), elements=values))
    base[~base.any(axis=1)] = 1.0
    if draw(st.booleans()):
        base[0] = np.eye(dims)[0]
        base[0, dims // 2] += draw(st.sampled_from([0.0, 1e-40, 1e-30, 1e-8]))
    picks = draw(st.lists(st.integers(0, len(base) - 1), max_size=60))
    rows = base[picks] if picks else np.empty((0, dims))
    nudges = draw(hnp.arrays(np.float64, rows.shape, elements=st.sampled_from([0.0, 1e-7, -1e-7])))
    made = unit_rows(rows + nudges) if len(rows) else rows.astype(np.float32)
    names = draw(st.permutations([f"R{n:03d}" for n in range(len(made))]))
    eligible = draw(
        st.one_of(
            hnp.arrays(np.bool_, len(made)),
            st.just(np.ones(len(made), np.bool_)),
            st.just(np.zeros(len(made), np.bool_)),
        )
    )
    away = draw(st.lists(st.sampled_from([0.0, 1e-8, 0.25, -2.0]), min_size=1, max_size=7))
    probes = [unit(base[n % len(base)] + by + 1e-3 * np.arange(dims)) for n, by in enumerate(away)]
    return made, list(names), eligible, probes
