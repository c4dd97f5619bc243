"""One segment of a gallery: a folder of flat files, written once and memory-mapped.

::

    codes.i8         int8 (n, dims): the templates in eight bits
    scale.f64        float64 (1,): what every code is multiplied by
    bounds.f32       float32 (n,): what encoding lost of each row, at most
    templates.f32    float32 (n, dims), unit length
    days.i32         int32 (n, rules, 2): the days each eligibility rule bars the record on
    records.jsonl    the records, one JSON object a line
    offsets.i64      int64 (n + 1,): where each record begins, and where the last one ends

All are little-endian and in the order of record ids, so that a record is found by bisection and a
tie within a segment is settled by its row.

1. A segment is complete and on the disk before any manifest names it, and is never changed but to
   overwrite the rows of an erased record after no manifest names it any more.
2. Its digest is over the name, length and SHA-256 of each of its files.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import Codes
from agency_adapters.galleries.segment_content import (
    BOUNDS,
    CODES,
    DAYS,
    FILES,
    OFFSETS,
    RECORDS,
    SCALE,
    TEMPLATES,
    SegmentContent,
    digest_of,
    record_id_of,
)
from agency_adapters.galleries.templates import Templates
from trust.errors import ProbegateError, Reason


class Segment:
    """One segment, open. Made by ``open``.

    Attributes:
        name: its folder's name.
        rows: how many records it holds.
        codes, bounds, templates, days: see the module, memory-mapped and read-only.
        scale: what every code is multiplied by.
    """

    def __init__(self, folder: Path, rows: int, dims: int, rules: int) -> None:
        self.name = folder.name
        self.rows = rows
        self.codes: Codes = _mapped(folder / CODES, np.int8, (rows, dims))
        self.scale = float(_mapped(folder / SCALE, np.float64, (1,))[0])
        self.bounds: npt.NDArray[np.float32] = _mapped(folder / BOUNDS, np.float32, (rows,))
        self.templates: Templates = _mapped(folder / TEMPLATES, np.float32, (rows, dims))
        self.days: npt.NDArray[np.int32] = _mapped(folder / DAYS, np.int32, (rows, rules, 2))
        self._offsets: npt.NDArray[np.int64] = _mapped(folder / OFFSETS, np.int64, (rows + 1,))
        ends = int(self._offsets[-1])
        self._records: npt.NDArray[np.uint8] = _mapped(folder / RECORDS, np.uint8, (ends,))
        # Single rows are wanted, and what the system reads ahead of them would push codes out.
        for array in (self.templates, self._records):
            _advise(array, mmap.MADV_RANDOM)

    @classmethod
    def open(cls, folder: Path, rows: int, dims: int, rules: int) -> Self:
        """Open a segment whose manifest says that it has ``rows`` rows.

        Raises:
            FileNotFoundError: if it is not there, which may mean that a newer manifest is.
            ProbegateError: ``GALLERY_CORRUPT`` if a file is of another length.
        """
        return cls(folder, rows, dims, rules)

    def fields(self, row: int) -> str:
        """Return one record as JSON; of one that was erased, nothing but zeros."""
        start, end = self._offsets[row : row + 2]
        return bytes(self._records[start:end]).decode("utf-8", "replace").rstrip("\n")

    def record_id(self, row: int) -> str:
        """Return a record's id, or an empty text if it was erased under us."""
        fields = self.fields(row)
        if fields.startswith("\0"):
            return ""
        return record_id_of(fields)

    def content(self) -> SegmentContent:
        """Return all that the segment holds."""
        for array in (self.templates, self._records):
            _advise(array, mmap.MADV_SEQUENTIAL)
        lines = bytes(self._records).split(b"\n")[:-1]
        return SegmentContent(
            self.codes,
            self.scale,
            self.bounds,
            self.templates,
            self.days,
            tuple(line + b"\n" for line in lines),
        )

    def find(self, record_id: str) -> int | None:
        """Return the row of a record, or None."""
        row = bisect_left(range(self.rows), record_id, key=self.record_id)
        return row if row < self.rows and self.record_id(row) == record_id else None

    def let_go(self) -> None:
        """Give back the memory of all but the codes: a few rows bring in many around them.

        The operating system still caches the files as it sees fit; they are not ours any more.
        """
        for array in (self.templates, self.days, self._records, self._offsets):
            _advise(array, mmap.MADV_DONTNEED)

    @cached_property
    def bound(self) -> float:
        """The largest of the rows' bounds."""
        return float(self.bounds.max())


class Rows:
    """Finds rows that are numbered through all segments of a gallery.

    Attributes:
        starts: the number of each segment's first row, and of the row after the last.
        dims: the dimensions of a template; 0 in a gallery without segments.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self.starts = np.cumsum([0, *(segment.rows for segment in segments)])
        self.dims = segments[0].templates.shape[1] if segments else 0
        self._templates = np.array([one.templates.ctypes.data for one in segments], np.uintp)

    def segment_of(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Return which segment each row is in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def templates(self, rows: npt.NDArray[np.intp]) -> Templates:
        """Return the templates of some rows, float32, shape ``(m, dims)``."""
        found = np.empty((len(rows), self.dims), dtype=np.float32)
        within = self.segment_of(rows)
        for number in np.unique(within):
            here = within == number
            found[here] = self._segments[number].templates[rows[here] - self.starts[number]]
        return found

    def addresses(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.uintp]:
        """Return where the templates of some rows are in memory.

        Raises:
            IndexError: if there is no such row.
        """
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < int(self.starts[-1]):
            raise IndexError("no such row")
        within = self.segment_of(rows)
        offsets = (rows - self.starts[within]).astype(np.uintp) * np.uintp(4 * self.dims)
        addresses: npt.NDArray[np.uintp] = self._templates[within] + offsets
        return addresses

    def let_go(self, rows: npt.NDArray[np.intp], *, templates_only: bool = False) -> None:
        """Give back the memory of what some rows brought in (``Segment.let_go``)."""
        for number in np.unique(self.segment_of(rows)):
            segment = self._segments[number]
            if templates_only:
                _advise(segment.templates, mmap.MADV_DONTNEED)
            else:
                segment.let_go()

    def record_ids(self, rows: Sequence[int]) -> list[str]:
        """Return the record ids of some rows; an empty text for one that was erased under us."""
        wanted = np.asarray(rows, dtype=np.intp)
        found = [
            self._segments[number].record_id(row - int(self.starts[number]))
            for row, number in zip(rows, self.segment_of(wanted), strict=True)
        ]
        self.let_go(wanted)
        return found


def segment_digest(folder: Path) -> str:
    """Read a whole segment and return its digest (2).

    Raises:
        OSError: if a file cannot be read.
    """
    parts = []
    for name in FILES:
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        parts.append((name, (folder / name).stat().st_size, digest))
    return digest_of(parts)


def overwrite_rows(folder: Path, rows: Sequence[int], *, dims: int, rules: int) -> None:
    """Overwrite some rows of a segment that no manifest names, with zeros, through to the disk (1).

    Whoever still reads the segment reads zeros: a template that scores nothing, and no record.
    """
    offsets = np.fromfile(folder / OFFSETS, dtype="<i8")
    widths = {TEMPLATES: 4 * dims, CODES: dims, BOUNDS: 4, DAYS: 8 * rules}
    for name in (TEMPLATES, CODES, BOUNDS, DAYS, RECORDS):
        with (folder / name).open("r+b") as stream:
            for row in rows:
                start, length = widths.get(name, 0) * row, widths.get(name, 0)
                if name == RECORDS:
                    start, length = int(offsets[row]), int(offsets[row + 1] - offsets[row])
                stream.seek(start)
                stream.write(bytes(length))
            stream.flush()
            os.fsync(stream.fileno())


def _advise(array: npt.NDArray[Any], how: int) -> None:
    """Tell the operating system how a mapped file is read; nothing for an empty one."""
    mapped: Any = array.base
    if hasattr(mapped, "_mmap"):
        mapped._mmap.madvise(how)  # noqa: SLF001 - it has no other name


def _mapped(path: Path, kind: Any, shape: tuple[int, ...]) -> Any:
    dtype = np.dtype(kind).newbyteorder("<")
    count = int(np.prod(shape))
    if path.stat().st_size != count * dtype.itemsize:
        raise ProbegateError(
            Reason.GALLERY_CORRUPT, f"{path.parent.name}/{path.name} is of another length"
        )
    if not count:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=shape))
