"""Importing a gallery: every bad row reported by number, the good ones enrolled, all or nothing.

1. Row ``n`` of the templates belongs to data row ``n`` of the records, both counted from 1.
   Another count in either is ``IMPORT_INVALID``: then nobody knows whose template is whose.
2. A row is enrolled if its record and its template are both good. A record id seen before is a
   fault of the later row, even if the earlier one was refused: only its owner knows which is right.
3. Rows are read, checked and written a block at a time; the gallery is the old one until all are
   done (``editing``, rule 2).
4. Enrolling into a gallery that is there follows the same rules; a record that is held already is a
   fault of its row unless an update is asked for.
5. An import loses nobody to a fault of the export: a search would say "no candidate" of them. Where
   there are rows and none is good, nothing changes. Nor does it where a record that is held would
   go because its new row is bad, or because a bad row does not say whose it is, unless that is
   asked for. An export without rows is an empty gallery, as it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.reading import ReadRow, TemplateRows, read_records, read_templates
from agency_adapters.galleries.rejecting import (
    Losing,
    RejectedRow,
    RowsRejectedError,
)
from agency_adapters.galleries.segment_content import NewRecord, contents_of
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.galleries.templates import template_faults, unit_rows
from agency_adapters.galleries.writing import is_record_id
from trust.errors import ProbegateError, Reason

BLOCK_ROWS: Final = 8192
"""Rows checked at once."""
MODEL_ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

Progress = Callable[[int, int], None]
"""Told how many rows are done, of how many."""


class ImportReport(BaseModel):
    """What an import did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    model: str
    dims: int
    rows: int
    enrolled: int
    updated: int = 0
    generation: int
    rejected: tuple[RejectedRow, ...]

    @property
    def summary(self) -> str:
        """Say in one sentence what it did."""
        updated = f", {self.updated:,} updated" if self.updated else ""
        return (
            f"{self.enrolled:,} of {self.rows:,} rows enrolled{updated}, "
            f"{len(self.rejected):,} rejected; "
            f"generation {self.generation}, {self.model}, {self.dims} dimensions"
        )


def import_gallery(
    *,
    kind: AgencyKind,
    templates: Path,
    records: Path,
    model: str,
    out: Path,
    now: datetime,
    drop_rejected: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> ImportReport:
    """Import a gallery, or the next generation of one.

    Args:
        kind: whose records they are.
        templates: ``.npy``, ``.npz`` or ``.parquet``, floating point, ``(n, dims)``.
        records: CSV, JSON Lines or Parquet, ``n`` rows.
        model: the template model's id.
        out: the gallery's folder.
        now: the time of import.
        drop_rejected: whether a record that is held may go because of a bad row (5).
        progress: told of every block of rows.

    Raises:
        RowsRejectedError: where nothing changed because of the bad rows (5).
        ProbegateError: ``FILE_MISSING``, ``IMPORT_INVALID``, ``DISK_FULL``, ``FILE_UNWRITABLE`` or
            ``GALLERY_LOCKED``; ``GALLERY_CORRUPT`` if it cannot be seen who would go.
    """
    if not MODEL_ID.fullmatch(model):
        raise ProbegateError(Reason.IMPORT_INVALID, "not a template model's id", field="model")
    rows = read_templates(templates)
    checking = Checking(kind.record, rows, records, now, progress)
    with editing(out, kind) as editor:
        contents, losing = contents_of(kind, checking), checking.losing(drop_rejected=drop_rejected)
        enrolled = editor.replace(model, rows.dims, contents, now, losing)
        generation = editor.generation
    return checking.report(kind.name, model, enrolled, 0, generation)


def enrol_records(
    *,
    gallery: Path,
    templates: Path,
    records: Path,
    model: str,
    update: bool,
    now: datetime,
    progress: Progress = lambda _done, _total: None,
) -> ImportReport:
    """Enrol more records into a gallery (4).

    Args:
        gallery: the gallery's folder.
        templates: see ``import_gallery``.
        records: see ``import_gallery``.
        model: the template model's id, which must be the gallery's.
        update: whether a record that is held is to be replaced.
        now: the time of enrolment.
        progress: told of every block of rows.

    Raises:
        ProbegateError: as ``import_gallery``, and ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
    """
    rows = read_templates(templates)
    with editing(gallery) as editor:
        stored = StoredGallery.open(gallery)
        if (model, rows.dims) != (stored.manifest.model, stored.manifest.dims):
            raise ProbegateError(
                Reason.IMPORT_INVALID,
                f"the gallery holds {stored.manifest.model}, {stored.manifest.dims} dimensions",
                field="model",
            )
        checking = Checking(stored.kind.record, rows, records, now, progress)
        good = list(checking)
        if not update:
            held = stored.find([one.record.record_id for one in good])
            good = [one for one in good if one.record.record_id not in held]
            checking.reject(held, "record_id: held already")
        enrolled, updated = editor.enrol(good, now) if good else (0, 0)
        generation = editor.generation
    return checking.report(stored.kind.name, model, enrolled, updated, generation)


class Checking:
    """Reads templates and records side by side, and yields those that are good (1) (2).

    It is iterated once; what it did not yield is in its report.
    """

    def __init__(
        self,
        record: type[Record],
        templates: TemplateRows,
        records: Path,
        now: datetime,
        progress: Progress,
    ) -> None:
        self._record = record
        self._templates = templates
        self._records = records
        self._now = now
        self._progress = progress
        self._rejected: dict[int, RejectedRow] = {}
        self._first: dict[str, int] = {}
        self._count = 0

    def __iter__(self) -> Iterator[NewRecord]:
        rows = read_records(self._records, self._record, self._now.date())
        for start, block in self._templates.blocks(BLOCK_ROWS):
            faults = template_faults(block)
            units = unit_rows(block, faults)
            for offset, fault in enumerate(faults):
                row = next(rows, None)
                if row is None:
                    raise self._other_count(start + offset)
                if self._is_good(start + offset, row, fault):
                    record = self._record.model_validate_json(row.fields)
                    yield NewRecord(record, units[offset])
            self._count = start + len(block)
            self._progress(self._count, len(self._templates))
        more = sum(1 for _ in rows)
        if more:
            raise self._other_count(self._count + more)

    def _is_good(self, index: int, row: ReadRow, fault: str | None) -> bool:
        reasons = list(row.reasons)
        if row.record_id:  # (2)
            first = self._first.setdefault(row.record_id, index)
            if first != index:
                reasons.append(f"record_id: duplicate of row {first + 1}")
        if fault:
            reasons.append(fault)
        if reasons:
            self._reject(index, row.record_id, reasons)
        return not reasons

    @property
    def good(self) -> int:
        """How many of the rows that were read are good."""
        return self._count - len(self._rejected)

    def losing(self, *, drop_rejected: bool) -> Losing:
        """Return what looks at the held records once every row was read (5)."""

        def look(held: Iterable[str]) -> None:
            rejected = self._in_order
            if self._count and not self.good:
                raise RowsRejectedError("no row is good", rejected)
            if drop_rejected or not rejected:
                return
            whose = all(is_record_id(row.record_id) for row in rejected)
            lost = sum(self._is_lost(record_id, whose=whose) for record_id in held)
            if lost:
                raise RowsRejectedError(
                    f"{lost:,} records that are held would go because of bad rows", rejected
                )

        return look

    def _is_lost(self, record_id: str, *, whose: bool) -> bool:
        """Whether a held record would go because of a bad row; ``whose``: do all have an id?"""
        first = self._first.get(record_id)
        return not whose if first is None else first in self._rejected

    def reject(self, record_ids: Collection[str], reason: str) -> None:
        """Report good rows as rejected after all."""
        for record_id in record_ids:
            self._reject(self._first[record_id], record_id, [reason])

    def _reject(self, index: int, record_id: str, reasons: list[str]) -> None:
        row = RejectedRow(row=index + 1, record_id=record_id, reasons=tuple(reasons))
        self._rejected[index] = row

    @property
    def _in_order(self) -> tuple[RejectedRow, ...]:
        return tuple(self._rejected[index] for index in sorted(self._rejected))

    def report(
        self, kind: str, model: str, enrolled: int, updated: int, generation: int
    ) -> ImportReport:
        """Return what was done."""
        return ImportReport(
            kind=kind,
            model=model,
            dims=self._templates.dims,
            rows=self._count,
            enrolled=enrolled,
            updated=updated,
            generation=generation,
            rejected=self._in_order,
        )

    def _other_count(self, records: int) -> ProbegateError:  # (1)
        return ProbegateError(
            Reason.IMPORT_INVALID,
            f"{len(self._templates)} templates but {records} records",
            templates=str(len(self._templates)),
            records=str(records),
        )
