"""Reading Parquet exports with pyarrow, which the ``parquet`` extra installs.

Whatever pyarrow makes of a file, what leaves here is plain Python and numpy, or ``IMPORT_INVALID``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trust.errors import ProbegateError, Reason

BATCH_ROWS: Final = 8192
"""Rows read at once."""


def columns(path: Path) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``IMPORT_INVALID``; ``CONFIG_INVALID`` without pyarrow.
    """
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def rows(path: Path, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield each row's values of some columns; dates are ISO 8601, nothing is an empty text."""
    with _opened(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(names)):
            for values in batch.to_pylist():
                yield {name: _plain(value) for name, value in values.items()}


def template_array(path: Path, column: str) -> npt.NDArray[Any]:
    """Return a column of lists of numbers as one array, shape ``(n, dims)``."""
    with _opened(path) as file:
        if column not in file.schema_arrow.names:
            raise _invalid(f"{path.name} has no column named {column}")
        table = file.read(columns=[column]).column(column).combine_chunks()
        if table.null_count:
            raise _invalid(f"{path.name} has rows without a template")
        lengths = {len(one) for one in table}
        if len(lengths) > 1:
            raise _invalid(f"{path.name} has templates of different lengths")
        values = table.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(values).reshape(len(table), next(iter(lengths), 0))


def _plain(value: object) -> object:
    if value is None:
        return ""
    return value.isoformat() if type(value) is date else value


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ProbegateError(
            Reason.CONFIG_INVALID, "install the parquet extra to read Parquet", field="records"
        ) from None
    try:
        with ParquetFile(path) as file:
            yield file
    except FileNotFoundError as error:
        raise ProbegateError(
            Reason.FILE_MISSING, f"{path}: {error.strerror}", file=path.name
        ) from None
    except (
        pa.ArrowException,
        AttributeError,
        OSError,
        OverflowError,
        TypeError,
        ValueError,
    ):
        raise _invalid(f"{path.name} is not a Parquet file of that form") from None


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.IMPORT_INVALID, why)
