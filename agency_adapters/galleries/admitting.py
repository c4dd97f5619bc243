"""Which rows of an agency's export are enrolled, and what is wrong with each of the others.

1. Row ``n`` of the templates belongs to data row ``n`` of the records, both counted from 1.
   Another count in either is ``IMPORT_INVALID``: then nobody knows whose template is whose.
2. A row is enrolled if its record and its template are both good. A record id seen before is a
   fault of the later row, even if the earlier one was refused: only its owner knows which is right.
3. Rows are admitted in the order of record ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.reading import ReadRow, read_records, read_templates
from agency_adapters.galleries.templates import template_faults, unit_rows
from agency_adapters.galleries.writing import NewRecord
from trust.errors import ProbegateError, Reason

BLOCK_ROWS: Final = 8192
"""Templates checked or converted at once."""

Progress = Callable[[int, int], None]
"""Told how many rows are done, of how many."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that is not enrolled; ``row`` counts data rows from 1."""

    row: int
    record_id: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """An export, read and checked.

    Attributes:
        kind: whose records they are.
        templates: as they were given, floating point, shape ``(n, dims)``.
        rows: one record a row.
        good: the rows that are enrolled, counted from 0 (3).
        refused: the others.
    """

    kind: AgencyKind
    templates: npt.NDArray[Any]
    rows: list[ReadRow]
    good: list[int]
    refused: tuple[Refused, ...]

    @property
    def dims(self) -> int:
        """The templates' number of dimensions."""
        return int(self.templates.shape[1])

    def records(self) -> Iterator[NewRecord]:
        """Yield what is enrolled, templates brought to unit length, float32."""
        for start in range(0, len(self.good), BLOCK_ROWS):
            block = self.good[start : start + BLOCK_ROWS]
            for index, template in zip(block, unit_rows(self.templates[block]), strict=True):
                fields = self.rows[index].fields
                yield NewRecord(self.kind.record.model_validate_json(fields), template)


def admit(
    kind: AgencyKind,
    templates: Path,
    records: Path,
    today: date,
    progress: Progress = lambda _done, _total: None,
) -> Admitted:
    """Read an export and say which of its rows are good.

    Args:
        kind: whose records they are.
        templates: ``.npy`` or ``.npz``, floating point, ``(n, dims)``.
        records: CSV or JSON Lines, ``n`` rows.
        today: no record is from after this day.
        progress: told of every block of rows.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``IMPORT_INVALID``.
    """
    array = read_templates(templates)
    rows = list(read_records(records, kind.record, today))
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
    refused = tuple(
        Refused(index + 1, rows[index].record_id, tuple(found))
        for index, found in enumerate(reasons)
        if found
    )
    return Admitted(kind, array, rows, good, refused)


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
