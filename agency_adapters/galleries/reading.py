"""Reading what an agency exported: an array of templates and a table of records.

A file that as a whole makes no sense (no such column, not an array, not text) is
``IMPORT_INVALID``. A row that makes no sense is that row's fault and is reported by number.
No reason repeats a value: only a field's name and what was expected of it. A line of JSON that two
readers could read differently, such as one that repeats a key, makes no sense.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from agency_adapters.agency import Record
from agency_adapters.galleries import parquet
from trust import strict_json
from trust.arrays import UNREADABLE
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_DIMS

ARRAY_KEY: Final = "templates"
PARQUET_SUFFIX: Final = ".parquet"
_MATRIX: Final = 2
_ZIP_MAGIC: Final = b"PK"
_MAX_FIELD_CHARS: Final = 4096
"""Longest field of a CSV file, characters."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """One row of the records file, good or bad.

    Attributes:
        record_id: its id where it could be read, otherwise empty.
        fields: the record as JSON if it is good, otherwise empty.
        reasons: what is wrong with it.
    """

    record_id: str
    fields: str
    reasons: tuple[str, ...]


class TemplateRows:
    """Templates as they were exported, to be read a block at a time.

    Attributes:
        dims: the number of dimensions.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.dims = int(array.shape[1])

    def __len__(self) -> int:
        return len(self._array)

    def blocks(self, rows: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield the first row's index and up to so many rows, floating point, ``(m, dims)``."""
        for start in range(0, len(self._array), rows):
            yield start, self._array[start : start + rows]


def read_templates(path: Path) -> TemplateRows:
    """Open ``.npy`` (memory-mapped), ``.npz`` (key ``templates`` or its only array) or Parquet.

    A Parquet file has a column ``templates`` of lists of floating-point numbers, all of one length.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``IMPORT_INVALID``.
    """
    if path.suffix.lower() == PARQUET_SUFFIX:
        return TemplateRows(_checked_matrix(path, parquet.template_array(path, ARRAY_KEY)))
    return TemplateRows(_checked_matrix(path, _read_array(path)))


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as stream:
            if stream.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
                stream.seek(0)
                array = _only_array(stream, path.name)
            else:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise _missing(path, error) from None
        raise _invalid(f"{path.name} is not a .npy or .npz file") from None
    except UNREADABLE:
        raise _invalid(f"{path.name} is not a .npy or .npz file of numbers") from None
    return array


def _checked_matrix(path: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.ndim != _MATRIX or not 1 <= array.shape[1] <= MAX_DIMS:
        raise _invalid(f"{path.name} is not one template a row, of 1 to {MAX_DIMS} dimensions")
    if array.dtype.kind != "f":
        raise _invalid(f"{path.name} does not hold floating-point numbers")
    return array


def _only_array(stream: BinaryIO, name: str) -> npt.NDArray[Any]:
    with np.load(stream, allow_pickle=False) as arrays:
        keys = arrays.files
        key = ARRAY_KEY if ARRAY_KEY in keys else keys[0] if len(keys) == 1 else None
        if key is None:
            raise _invalid(f"{name} has no array named {ARRAY_KEY}")
        array = arrays[key]
        if not isinstance(array, np.ndarray):  # a member that is no .npy file comes as bytes
            raise _invalid(f"{name} has no array named {key}")
        return array


def read_records(path: Path, record: type[Record], today: date) -> Iterator[ReadRow]:
    """Read a CSV file (with or without BOM, columns in any order) or JSON Lines.

    Args:
        path: the file; ``.jsonl`` and ``.ndjson`` are JSON Lines, ``.parquet`` is Parquet, anything
            else is CSV.
        record: the agency's record model, whose fields are the columns.
        today: no record is from after this day.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``IMPORT_INVALID``.
    """
    rows = _READERS.get(path.suffix.lower(), _csv_rows)
    try:
        for values in rows(path, record):
            if isinstance(values, str):
                yield ReadRow("", "", (values,))
            else:
                yield _checked(values, record, today)
    except UnicodeDecodeError:
        raise _invalid(f"{path.name} is not UTF-8 text") from None
    except OSError as error:
        raise _missing(path, error) from None


def _csv_rows(path: Path, record: type[Record]) -> Iterator[Mapping[str, Any] | str]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _require_columns(path, header, record)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    yield "row: another number of columns than the header"
                elif any(len(value) > _MAX_FIELD_CHARS for value in row):
                    yield "row: a field is too long"
                else:
                    yield dict(zip(header, (value.strip() for value in row), strict=True))
        except csv.Error:
            raise _invalid(f"{path.name}, line {reader.line_num}, is not CSV") from None


def _require_columns(path: Path, header: list[str], record: type[Record]) -> None:
    known = record.model_fields
    unknown = [name or "(empty)" for name in header if name not in known]
    missing = [n for n, field in known.items() if field.is_required() and n not in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    for problem, names in (("unknown", unknown), ("missing", missing), ("repeated", repeated)):
        if names:
            columns = ", ".join(names)
            raise _invalid(
                f"{path.name}: {problem} column: {columns}; known are {', '.join(known)}"
            )


def _parquet_rows(path: Path, record: type[Record]) -> Iterator[Mapping[str, Any] | str]:
    columns = [name for name in parquet.columns(path) if name != ARRAY_KEY]
    _require_columns(path, columns, record)
    yield from parquet.rows(path, columns)


def _json_lines(path: Path, _record: type[Record]) -> Iterator[Mapping[str, Any] | str]:
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                values = strict_json.parse(line.encode())
            except ValueError:
                values = None
            yield values if isinstance(values, dict) else "row: not a JSON object"


_READERS: Final = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    PARQUET_SUFFIX: _parquet_rows,
}


def _checked(values: Mapping[str, Any], record: type[Record], today: date) -> ReadRow:
    given = values.get("record_id")
    record_id = given if isinstance(given, str) and len(given) <= _MAX_ID_CHARS else ""
    try:
        made = record.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return ReadRow(record_id, "", tuple(_reason(fault) for fault in faults))
    contradiction = made.incoherence(today)
    if contradiction:
        return ReadRow(record_id, "", (contradiction,))
    return ReadRow(record_id, made.model_dump_json(), ())


_MAX_ID_CHARS: Final = 64


def _reason(fault: Any) -> str:
    """Say what is wrong with one field, without its value."""
    name = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "missing":
            return f"{name}: missing"
        case "enum":
            return f"{name}: unknown code, expected {fault['ctx']['expected']}"
        case "string_pattern_mismatch" | "string_too_long" | "string_type":
            return f"{name}: not in the expected form"
        case "extra_forbidden":
            return f"{name[:_MAX_ID_CHARS]}: unknown field"
        case _:
            return f"{name}: {fault['msg']}"


def _missing(path: Path, error: OSError) -> ProbegateError:
    return ProbegateError(Reason.FILE_MISSING, f"{path}: {error.strerror}", file=path.name)


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.IMPORT_INVALID, why)
