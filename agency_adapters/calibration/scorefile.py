"""Reading scores of known truth: CSV or ``.npz``, every bad row reported by number.

A CSV file has the columns ``score`` and ``mated`` and may have ``quality`` and ``group``; an
``.npz`` file has the arrays ``scores`` and ``mated`` and may have ``quality`` and ``group``. A row
is one comparison of a probe with one template. A file that as a whole makes no sense is
``SCORES_INVALID``; a row that makes no sense is left out and reported, without its values.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from trust import files
from trust.arrays import UNREADABLE
from trust.errors import ProbegateError, Reason

MAX_FILE_BYTES: Final = 2 * 2**30
"""Largest score file, bytes."""
MAX_GROUP_CHARS: Final = 64
"""Longest label of a group, characters."""
LOWEST_QUALITY: Final = 0
HIGHEST_QUALITY: Final = 100
"""The ends of the unified quality score (ISO/IEC 29794-5)."""
_TRUTHS: Final = {
    **dict.fromkeys(("1", "true", "yes"), 1.0),
    **dict.fromkeys(("0", "false", "no"), 0.0),
}
_ZIP_MAGIC: Final = b"PK"
_REQUIRED: Final = ("score", "mated")
_OPTIONAL: Final = ("quality", "group")

Scores: TypeAlias = npt.NDArray[np.float64]
"""Scores in the matcher's scale, float64, finite, shape ``(n,)``."""
Mated: TypeAlias = npt.NDArray[np.bool_]
"""Whether each comparison is of one person with themselves, shape ``(n,)``."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that was left out; ``row`` counts data rows from 1."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class ScoreSet:
    """Comparisons of known truth.

    Attributes:
        scores: float64, finite, shape ``(n,)``, in the matcher's scale.
        mated: bool, shape ``(n,)``.
        quality: int64, shape ``(n,)``, 0 to 100, of the probe; None where the file has none.
        group: labels of the calibration set's own groups, shape ``(n,)``, empty where a row has
            none; None where the file has no groups. Only ever counted in a report.
        sha256: of the file, 64 hexadecimal digits.
        rejected: the rows that were left out.
    """

    scores: Scores
    mated: Mated
    quality: npt.NDArray[np.int64] | None
    group: npt.NDArray[np.str_] | None
    sha256: str
    rejected: tuple[RejectedRow, ...] = ()

    @property
    def rows(self) -> int:
        """How many comparisons there are."""
        return len(self.scores)


def read_scores(path: Path) -> ScoreSet:
    """Read a score file.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``SCORES_INVALID``.
    """
    if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
        raise _invalid(f"{path.name} is longer than {MAX_FILE_BYTES} bytes")
    raw = files.read(path)
    read = _arrays if raw.startswith(_ZIP_MAGIC) else _csv_columns
    return _score_set(read(raw, path.name), hashlib.sha256(raw).hexdigest())


def _csv_columns(raw: bytes, name: str) -> Mapping[str, Sequence[str]]:
    """Return the columns as text; of a row of another length, text that no column takes."""
    try:
        reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        header = [title.strip() for title in next(reader, [])]
        _require_columns(header, name)
        columns: dict[str, list[str]] = {title: [] for title in header}
        for row in reader:
            if not row:
                continue
            whole = row if len(row) == len(header) else [""] * len(header)
            for title, value in zip(header, whole, strict=True):
                columns[title].append(value.strip())
    except UnicodeDecodeError:
        raise _invalid(f"{name} is not UTF-8 text") from None
    except csv.Error:
        raise _invalid(f"{name}, line {reader.line_num}, is not CSV") from None
    return columns


def _require_columns(header: list[str], name: str) -> None:
    known = (*_REQUIRED, *_OPTIONAL)
    faults = {
        "missing": [title for title in _REQUIRED if title not in header],
        "unknown": [title or "(empty)" for title in header if title not in known],
        "repeated": sorted({title for title in header if header.count(title) > 1}),
    }
    for fault, titles in faults.items():
        if titles:
            raise _invalid(
                f"{name}: {fault} column: {', '.join(titles)}; known are {', '.join(known)}"
            )


def _arrays(raw: bytes, name: str) -> Mapping[str, Any]:
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            arrays = {("score" if key == "scores" else key): stored[key] for key in stored.files}
    except UNREADABLE:
        raise _invalid(f"{name} is not an .npz file of numbers and labels") from None
    _require_columns(list(arrays), name)
    # A member that is no .npy file comes as bytes.
    if any(not isinstance(one, np.ndarray) or one.ndim != 1 for one in arrays.values()):
        raise _invalid(f"{name}: every array has one dimension")
    if len({len(array) for array in arrays.values()}) != 1:
        raise _invalid(f"{name}: the arrays are not of one length")
    return arrays


def _score_set(columns: Mapping[str, Any], sha256: str) -> ScoreSet:
    scores = _numbers(columns["score"])
    truths = _truths(columns["mated"])
    faults: dict[int, str] = {}
    _note(faults, ~np.isfinite(scores), "score: not a finite number")
    _note(faults, np.isnan(truths), "mated: expected 1 or 0, true or false, yes or no")
    quality = group = None
    if "quality" in columns:
        quality = _numbers(columns["quality"])
        whole = (quality >= LOWEST_QUALITY) & (quality <= HIGHEST_QUALITY)
        whole[whole] = quality[whole] % 1 == 0
        _note(faults, ~whole, "quality: not a whole number from 0 to 100")
    if "group" in columns:
        labels = [str(label) for label in columns["group"]]
        odd = [len(one) > MAX_GROUP_CHARS or not one.isprintable() for one in labels]
        _note(faults, np.asarray(odd, dtype=np.bool_), f"group: over {MAX_GROUP_CHARS} characters")
        group = np.asarray(labels, dtype=np.str_)
    good = np.ones(len(scores), dtype=np.bool_)
    good[list(faults)] = False
    return ScoreSet(
        scores=scores[good],
        mated=truths[good] == 1,
        quality=None if quality is None else quality[good].astype(np.int64),
        group=None if group is None else group[good],
        sha256=sha256,
        rejected=tuple(RejectedRow(row + 1, faults[row]) for row in sorted(faults)),
    )


def _note(faults: dict[int, str], rows: npt.NDArray[np.bool_], fault: str) -> None:
    """Note the first fault of each row."""
    for row in np.flatnonzero(rows).tolist():
        faults.setdefault(row, fault)


def _numbers(column: Any) -> npt.NDArray[np.float64]:
    """Return a column as float64; NaN where it is no number."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        return column.astype(np.float64)
    return np.fromiter(map(_number, column), dtype=np.float64, count=len(column))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _truths(column: Any) -> npt.NDArray[np.float64]:
    """Return a column as 1 and 0; NaN where it says neither."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "b":
        return column.astype(np.float64)
    words = (_TRUTHS.get(str(word).lower(), np.nan) for word in column)
    return np.fromiter(words, dtype=np.float64, count=len(column))


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.SCORES_INVALID, why)
