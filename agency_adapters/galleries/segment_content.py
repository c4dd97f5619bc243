"""What a segment is made of, and writing it: see ``segments`` for the files and their rules."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.encoding import Codes, encode_rows
from agency_adapters.galleries.templates import Templates
from trust import files

SEGMENT_ROWS: Final = 16_384
"""Most rows of a segment; erasing one record writes at most so many anew."""
CODES: Final = "codes.i8"
SCALE: Final = "scale.f64"
BOUNDS: Final = "bounds.f32"
TEMPLATES: Final = "templates.f32"
DAYS: Final = "days.i32"
RECORDS: Final = "records.jsonl"
OFFSETS: Final = "offsets.i64"
_BEGINNING: Final = re.compile(r'\{"record_id":"([^"\\]*)"[,}]')
"""How a record begins, unless its id needs escapes."""
FILES: Final = (CODES, SCALE, BOUNDS, TEMPLATES, DAYS, RECORDS, OFFSETS)


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record on its way into a gallery, checked.

    Attributes:
        record: what is held of it.
        template: float32, shape ``(dims,)``, unit length.
    """

    record: Record
    template: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a segment is made of; see the module for the arrays.

    Attributes:
        lines: each record as JSON with a newline.
    """

    codes: Codes
    scale: float
    bounds: npt.NDArray[np.float32]
    templates: Templates
    days: npt.NDArray[np.int32]
    lines: tuple[bytes, ...]

    @property
    def rows(self) -> int:
        """How many records there are."""
        return len(self.lines)

    def with_days(self, kind: AgencyKind) -> SegmentContent:
        """Return the same with the days that a kind's rules give now."""
        records = [kind.record.model_validate_json(line) for line in self.lines]
        return replace(self, days=np.stack([days_of(kind, record) for record in records]))

    def only(self, rows: npt.NDArray[np.intp]) -> SegmentContent:
        """Return some rows, in the order given."""
        return SegmentContent(
            self.codes[rows],
            self.scale,
            self.bounds[rows],
            self.templates[rows],
            self.days[rows],
            tuple(self.lines[row] for row in rows),
        )


def content_of(kind: AgencyKind, records: Sequence[NewRecord]) -> SegmentContent:
    """Encode some records, at least one, in the order of their ids."""
    ordered = sorted(records, key=lambda one: one.record.record_id)
    templates = np.stack([one.template for one in ordered])
    encoded = encode_rows(templates)
    return SegmentContent(
        encoded.codes,
        encoded.scale,
        encoded.bounds,
        templates,
        np.stack([days_of(kind, one.record) for one in ordered]),
        tuple(one.record.model_dump_json().encode() + b"\n" for one in ordered),
    )


def contents_of(kind: AgencyKind, records: Iterable[NewRecord]) -> Iterator[SegmentContent]:
    """Encode any number of records, a segment at a time as they come."""
    waiting: list[NewRecord] = []
    for record in records:
        waiting.append(record)
        if len(waiting) == SEGMENT_ROWS:
            yield content_of(kind, waiting)
            waiting = []
    if waiting:
        yield content_of(kind, waiting)


def merged(contents: Sequence[SegmentContent]) -> SegmentContent:
    """Return all rows of some segments, at least one, in the order of record ids; encoded anew."""
    lines = tuple(line for content in contents for line in content.lines)
    order = sorted(range(len(lines)), key=lambda row: record_id_of(lines[row]))
    templates = np.concatenate([content.templates for content in contents])[order]
    encoded = encode_rows(templates)
    return SegmentContent(
        encoded.codes,
        encoded.scale,
        encoded.bounds,
        templates,
        np.concatenate([content.days for content in contents])[order],
        tuple(lines[row] for row in order),
    )


def record_id_of(fields: str | bytes) -> str:
    """Return the id in a record's JSON."""
    text = fields.decode("utf-8") if isinstance(fields, bytes) else fields
    begun = _BEGINNING.match(text)  # a tenth of the time of reading all of it
    record_id: str = begun[1] if begun else json.loads(text)["record_id"]
    return record_id


def days_of(kind: AgencyKind, record: Record) -> npt.NDArray[np.int32]:
    """Return the days each rule of a kind bars a record on, int32, shape ``(rules, 2)``."""
    days = [rule.barred(record) for rule in kind.eligibility]
    return np.array([(one.first, one.end) for one in days], dtype=np.int32).reshape(-1, 2)


def write_segment(folder: Path, content: SegmentContent) -> str:
    """Write a segment, flushed to the disk, and return its digest (1) (2).

    Args:
        folder: its folder, which must not be there yet.
        content: in the order of record ids.

    Raises:
        OSError: if it cannot be written.
    """
    contents = {
        CODES: content.codes.tobytes(),
        SCALE: np.array([content.scale], dtype="<f8").tobytes(),
        BOUNDS: content.bounds.astype("<f4").tobytes(),
        TEMPLATES: content.templates.astype("<f4").tobytes(),
        DAYS: content.days.astype("<i4").tobytes(),
        RECORDS: b"".join(content.lines),
        OFFSETS: np.cumsum([0, *map(len, content.lines)], dtype="<i8").tobytes(),
    }
    folder.mkdir(mode=files.PRIVATE_FOLDER_MODE, parents=True)
    parts = []
    for name in FILES:
        data = contents[name]
        _write(folder / name, data)
        parts.append((name, len(data), hashlib.sha256(data).hexdigest()))
    files.sync_folder(folder)
    files.sync_folder(folder.parent)
    return digest_of(parts)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE_FILE_MODE)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def digest_of(parts: Sequence[tuple[str, int, str]]) -> str:
    """Return the digest of a segment from the name, length and SHA-256 of each file."""
    lines = "".join(f"{name} {size} {digest}\n" for name, size, digest in parts)
    return hashlib.sha256(lines.encode()).hexdigest()
