"""Importing a gallery: every bad row reported by number, the good ones enrolled, all or nothing.

1. Row ``n`` of the templates belongs to data row ``n`` of the records, both counted from 1.
   Another count in either is ``IMPORT_INVALID``: then nobody knows whose template is whose.
2. A row is enrolled if its record and its template are both good. A record id seen before is a
   fault of the later row, even if the earlier one was refused: only its owner knows which is right.
3. Enrolled rows are kept in the order of record ids, so that ties in a score resolve by row.
4. The new generation is complete and flushed to the disk before the manifest names it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from rich.console import Group
from rich.table import Table

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.reading import ReadRow, read_records, read_templates
from agency_adapters.galleries.store import (
    MANIFEST,
    RECORDS,
    TEMPLATES,
    FileEntry,
    Manifest,
    file_sha256,
    read_manifest,
)
from agency_adapters.galleries.templates import template_faults, unit_rows
from trust import files
from trust.errors import ProbegateError, Reason

BLOCK_ROWS: Final = 8192
"""Templates checked or written at once."""

Progress = Callable[[int, int], None]
"""Told how many rows are done, of how many."""


class RejectedRow(BaseModel):
    """One row that was not enrolled; ``row`` counts data rows from 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    record_id: str
    reasons: tuple[str, ...]


class ImportReport(BaseModel):
    """What an import did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    model: str
    dims: int
    rows: int
    enrolled: int
    generation: int
    rejected: tuple[RejectedRow, ...]

    def rendered(self) -> Group:
        """Return the report for a terminal."""
        summary = (
            f"{self.enrolled:,} of {self.rows:,} rows enrolled, {len(self.rejected):,} rejected; "
            f"generation {self.generation}, {self.model}, {self.dims} dimensions"
        )
        if not self.rejected:
            return Group(summary)
        table = Table("Row", "Record", "Reason", title="Rejected rows", title_justify="left")
        for row in self.rejected:
            table.add_row(str(row.row), row.record_id or "-", "; ".join(row.reasons))
        return Group(table, summary)


def import_gallery(
    *,
    kind: AgencyKind,
    templates: Path,
    records: Path,
    model: str,
    out: Path,
    now: datetime,
    progress: Progress = lambda _done, _total: None,
) -> ImportReport:
    """Import a gallery, or the next generation of one.

    Args:
        kind: whose records they are.
        templates: ``.npy`` or ``.npz``, floating point, ``(n, dims)``.
        records: CSV or JSON Lines, ``n`` rows.
        model: the template model's id.
        out: the gallery's folder.
        now: the time of import.
        progress: told of every block of rows.

    Raises:
        ProbegateError: ``FILE_MISSING``, ``IMPORT_INVALID``, ``DISK_FULL``, ``FILE_UNWRITABLE``.
    """
    array = read_templates(templates)
    rows = list(read_records(records, kind.record, now.date()))
    if len(rows) != len(array):  # (1)
        raise ProbegateError(
            Reason.IMPORT_INVALID,
            f"{len(array)} templates but {len(rows)} records",
            templates=str(len(array)),
            records=str(len(rows)),
        )
    reasons = _all_reasons(rows, array, progress)
    good = [index for index, found in enumerate(reasons) if not found]
    good.sort(key=lambda index: rows[index].record_id)  # (3)
    generation = _next_generation(out, kind)
    manifest = _written(out, generation, kind, model, array, rows, good, now)
    return ImportReport(
        kind=kind.name,
        model=manifest.model,
        dims=manifest.dims,
        rows=len(rows),
        enrolled=len(good),
        generation=generation,
        rejected=tuple(
            RejectedRow(row=index + 1, record_id=rows[index].record_id, reasons=tuple(found))
            for index, found in enumerate(reasons)
            if found
        ),
    )


def _all_reasons(
    rows: list[ReadRow], array: npt.NDArray[Any], progress: Progress
) -> list[list[str]]:
    reasons = [list(row.reasons) for row in rows]
    seen: dict[str, int] = {}
    for index, row in enumerate(rows):  # (2)
        if row.record_id:
            first = seen.setdefault(row.record_id, index)
            if first != index:
                reasons[index].append(f"record_id: duplicate of row {first + 1}")
    for start in range(0, len(array), BLOCK_ROWS):
        block = array[start : start + BLOCK_ROWS]
        for offset, fault in enumerate(template_faults(block)):
            if fault:
                reasons[start + offset].append(fault)
        progress(min(start + BLOCK_ROWS, len(array)), len(array))
    return reasons


def _next_generation(out: Path, kind: AgencyKind) -> int:
    if not (out / MANIFEST).exists():
        return 1
    current = read_manifest(out)
    if current.kind != kind.name:
        raise ProbegateError(Reason.IMPORT_INVALID, f"{out} is a gallery of kind {current.kind}")
    return current.generation + 1


def _written(
    out: Path,
    generation: int,
    kind: AgencyKind,
    model: str,
    array: npt.NDArray[Any],
    rows: list[ReadRow],
    good: list[int],
    now: datetime,
) -> Manifest:
    partial = out / f".importing-{generation}-{os.getpid()}"
    try:
        partial.mkdir(mode=files.PRIVATE_FOLDER_MODE, parents=True)
        _write_templates(partial / TEMPLATES, array, good)
        _write_records(partial / RECORDS, rows, good)
        manifest = _manifest(kind, model, array.shape[1], len(good), generation, now, partial)
        shutil.rmtree(out / manifest.folder, ignore_errors=True)  # of an import that was cut short
        partial.rename(out / manifest.folder)
        _sync(out)
        files.write_atomic(out / MANIFEST, manifest.to_json())  # (4)
    except (OSError, sqlite3.Error) as error:
        raise _unwritable(out, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in out.glob("g[0-9]*"):
        if old.name != manifest.folder:
            shutil.rmtree(old, ignore_errors=True)
    return manifest


def _manifest(
    kind: AgencyKind,
    model: str,
    dims: int,
    count: int,
    generation: int,
    now: datetime,
    folder: Path,
) -> Manifest:
    def entry(name: str) -> FileEntry:
        path = folder / name
        return FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))

    try:
        return Manifest(
            kind=kind.name,
            model=model,
            dims=dims,
            count=count,
            generation=generation,
            created_at=now,
            templates=entry(TEMPLATES),
            records=entry(RECORDS),
        )
    except ValueError:
        raise ProbegateError(
            Reason.IMPORT_INVALID, "not a template model's id", field="model"
        ) from None


def _write_templates(path: Path, array: npt.NDArray[Any], good: list[int]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(good), array.shape[1])}
    with path.open("wb") as stream:
        os.fchmod(stream.fileno(), files.PRIVATE_FILE_MODE)
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(good), BLOCK_ROWS):
            stream.write(unit_rows(array[good[start : start + BLOCK_ROWS]]).tobytes())
        stream.flush()
        os.fsync(stream.fileno())


def _write_records(path: Path, rows: list[ReadRow], good: list[int]) -> None:
    connection = sqlite3.connect(path)
    try:
        path.chmod(files.PRIVATE_FILE_MODE)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE records"
            " (row INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE, fields TEXT NOT NULL)"
        )
        connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?)",
            ((row, rows[index].record_id, rows[index].fields) for row, index in enumerate(good)),
        )
        connection.commit()
    finally:
        connection.close()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(out: Path, error: OSError | sqlite3.Error) -> ProbegateError:
    full = (
        error.errno in {errno.ENOSPC, errno.EDQUOT}
        if isinstance(error, OSError)
        else error.sqlite_errorcode == sqlite3.SQLITE_FULL
    )
    reason = Reason.DISK_FULL if full else Reason.FILE_UNWRITABLE
    return ProbegateError(reason, f"{out}: {type(error).__name__}", file=out.name)
