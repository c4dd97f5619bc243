"""Importing an agency's export into a gallery, wherever it is.

A gallery in files is made by ``importing``. One that an engine holds is made from the same files,
with the same faults by row and the same report: the export becomes the gallery's next generation
as a whole, and records that it no longer has are erased, unless they would go because of bad rows.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.importing import (
    Checking,
    ImportReport,
    Progress,
    enrol_records,
    import_gallery,
)
from agency_adapters.galleries.opening import open_writer, scheme_of
from agency_adapters.galleries.reading import read_templates
from trust.errors import ProbegateError, Reason


def import_to(
    *,
    kind: AgencyKind,
    templates: Path,
    records: Path,
    model: str,
    out: str,
    now: datetime,
    drop_rejected: bool = False,
    engines: EngineSettings | None = None,
    progress: Progress = lambda _done, _total: None,
) -> ImportReport:
    """Import a gallery, or the next generation of one.

    Args:
        kind: whose records they are.
        templates: see ``importing.import_gallery``.
        records: see ``importing.import_gallery``.
        model: the template model's id.
        out: the gallery's location (``opening``).
        now: the time of import.
        drop_rejected: see ``importing.import_gallery``.
        engines: how engines are spoken to; from the environment if it is not given.
        progress: told of every block of rows.

    Raises:
        RowsRejectedError: where nothing changed because of bad rows.
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
            drop_rejected=drop_rejected,
            progress=progress,
        )
    rows = read_templates(templates)
    checking = Checking(kind.record, rows, records, now, progress)
    writer = open_writer(out, kind, engines, model=model, dims=rows.dims)
    try:
        losing = checking.losing(drop_rejected=drop_rejected)
        done = writer.enrol(checking, replace=True, losing=losing)
    finally:
        writer.close()
    return checking.report(kind.name, model, checking.good, 0, done.generation)


def enrol_to(
    *,
    kind: AgencyKind | None,
    templates: Path,
    records: Path,
    model: str,
    gallery: str,
    update: bool,
    now: datetime,
    engines: EngineSettings | None = None,
    progress: Progress = lambda _done, _total: None,
) -> ImportReport:
    """Enrol more records into a gallery.

    Args:
        kind: whose records they are; needed for an engine, which is asked for it.
        templates: see ``importing.import_gallery``.
        records: see ``importing.import_gallery``.
        model: the template model's id, which must be the gallery's.
        gallery: the gallery's location (``opening``).
        update: whether a record that is held is to be replaced; an engine always does.
        now: the time of enrolment.
        engines: how engines are spoken to; from the environment if it is not given.
        progress: told of every block of rows.

    Raises:
        ProbegateError: as ``import_to``, and ``USAGE`` for an engine without ``kind`` or
            ``update``.
    """
    if not scheme_of(gallery):
        return enrol_records(
            gallery=Path(gallery),
            templates=templates,
            records=records,
            model=model,
            update=update,
            now=now,
            progress=progress,
        )
    if kind is None or not update:
        raise ProbegateError(Reason.USAGE, "an engine needs --kind, and --update: it replaces")
    rows = read_templates(templates)
    checking = Checking(kind.record, rows, records, now, progress)
    writer = open_writer(gallery, kind, engines, model=model, dims=rows.dims)
    try:
        done = writer.enrol(checking)
    finally:
        writer.close()
    return checking.report(kind.name, model, done.enrolled, done.updated, done.generation)
