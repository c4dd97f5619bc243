"""Importing an agency's export into a gallery, wherever it is.

A gallery in files is made by ``importing``. One that an engine holds is made from the same files,
with the same faults by row and the same report: the export becomes the gallery's next generation
as a whole, and records that it no longer has are erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.admitting import BLOCK_ROWS, Progress, admit
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.importing import ImportReport, RejectedRow, import_gallery
from agency_adapters.galleries.opening import open_writer, scheme_of
from agency_adapters.galleries.writing import NewRecord


def import_to(
    *,
    kind: AgencyKind,
    templates: Path,
    records: Path,
    model: str,
    out: str,
    now: datetime,
    engines: EngineSettings | None = None,
    progress: Progress = lambda _done, _total: None,
) -> ImportReport:
    """Import a gallery, or the next generation of one.

    Args:
        kind: whose records they are.
        templates: ``.npy`` or ``.npz``, floating point, ``(n, dims)``.
        records: CSV or JSON Lines, ``n`` rows.
        model: the template model's id.
        out: the gallery's location (``opening``).
        now: the time of import.
        engines: how engines are spoken to; from the environment if it is not given.
        progress: told of every block of rows, checked and then written.

    Raises:
        ProbegateError: ``FILE_MISSING``, ``IMPORT_INVALID``, ``CONFIG_INVALID``, ``DISK_FULL``,
            ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
    """
    if not scheme_of(out):
        return import_gallery(
            kind=kind,
            templates=templates,
            records=records,
            model=model,
            out=Path(out),
            now=now,
            progress=progress,
        )
    admitted = admit(kind, templates, records, now.date(), progress)
    writer = open_writer(out, kind, engines, model=model, dims=admitted.dims)
    try:
        told = _telling(admitted.records(), len(admitted.good), progress)
        report = writer.enrol(told, replace=True)
    finally:
        writer.close()
    return ImportReport(
        kind=kind.name,
        model=model,
        dims=admitted.dims,
        rows=len(admitted.rows),
        enrolled=len(admitted.good),
        generation=report.generation,
        rejected=tuple(
            RejectedRow(row=one.row, record_id=one.record_id, reasons=one.reasons)
            for one in admitted.refused
        ),
    )


def _telling(records: Iterable[NewRecord], total: int, progress: Progress) -> Iterator[NewRecord]:
    for done, one in enumerate(records, start=1):
        yield one
        if done % BLOCK_ROWS == 0 or done == total:
            progress(done, total)
