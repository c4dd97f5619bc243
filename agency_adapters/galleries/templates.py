"""Templates: decoding a probe by its declared form, and wiping it once it has been matched.

A usable template is finite, not zero and of unit length within ``UNIT_TOLERANCE``. Whatever else
comes is refused: a template of another length was made by a broken extractor, and scores against it
mean nothing. An int8 template holds ``round(127 * x)``, which cannot be of unit length exactly, so
its tolerance is the most that rounding can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from trust.errors import ProbegateError, Reason
from trust.messages import Encoding, ProbeManifest

Templates: TypeAlias = npt.NDArray[np.float32]
"""Rows of a gallery, float32, shape ``(n, dims)``."""
Probe: TypeAlias = npt.NDArray[np.float64]
"""One probe, float64, shape ``(dims,)``, of unit length to float64 precision."""

UNIT_TOLERANCE: Final = 1e-3
"""How far a template's length may be from 1."""
INT8_SCALE: Final = 127
"""What a dimension is multiplied by before it is rounded to int8."""
_DTYPES: Final = {Encoding.FLOAT32: "<f4", Encoding.FLOAT16: "<f2", Encoding.INT8: "i1"}


def decode_probe_template(data: bytes, manifest: ProbeManifest, model: str, dims: int) -> Probe:
    """Decode a probe's template and bring it to unit length in float64.

    Args:
        data: the template's bytes, little-endian.
        manifest: what the order declares of it.
        model: the gallery's template model.
        dims: the gallery's number of dimensions.

    Raises:
        ProbegateError: ``PROBE_MODEL`` for another model or number of dimensions;
            ``PROBE_INVALID`` for bytes that are not one usable template.
    """
    if manifest.model != model or manifest.dims != dims:
        raise ProbegateError(Reason.PROBE_MODEL, model=model, dims=str(dims))
    dtype = np.dtype(_DTYPES[manifest.encoding])
    if len(data) != dims * dtype.itemsize:
        raise ProbegateError(Reason.PROBE_INVALID, "wrong length", field="template")
    with np.errstate(invalid="ignore"):  # a signalling NaN is found below, like any other
        values = np.frombuffer(data, dtype=dtype).astype(np.float64)
    tolerance = UNIT_TOLERANCE
    if manifest.encoding is Encoding.INT8:
        values /= INT8_SCALE
        # Rounding moves each dimension by at most half a step.
        tolerance += 0.5 * float(np.sqrt(dims)) / INT8_SCALE
    fault = template_faults(values[np.newaxis], tolerance)[0]
    if fault:
        wipe(values)
        raise ProbegateError(Reason.PROBE_INVALID, fault, field="template")
    values /= np.sqrt(np.dot(values, values))
    return values


def template_faults(rows: npt.NDArray[Any], tolerance: float = UNIT_TOLERANCE) -> list[str | None]:
    """Return, for each row of ``(n, dims)``, why it is not a usable template, or None."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = rows.astype(np.float64, copy=False)  # of a probe, no copy that nobody would wipe
        finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(wide).all(axis=1))
        zero: npt.NDArray[np.bool_] = np.asarray((wide == 0).all(axis=1))
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        unit = np.abs(lengths - 1.0) <= tolerance
    faults: list[str | None] = [None] * len(rows)
    for row in np.flatnonzero(~(finite & unit)):
        if not finite[row]:
            faults[row] = "template: not finite"
        elif zero[row]:
            faults[row] = "template: zero vector"
        else:
            faults[row] = "template: not of unit length"
    return faults


def unit_rows(rows: npt.NDArray[Any], faults: Sequence[str | None] | None = None) -> Templates:
    """Return rows brought to unit length, float32; the length is taken in float64.

    Args:
        rows: floating point, shape ``(n, dims)``.
        faults: what ``template_faults`` said of each row, if not all are usable; a row with a
            fault comes back as zeros.
    """
    wide = rows.astype(np.float64)
    if faults is not None:
        wide[[fault is not None for fault in faults]] = 0.0
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, np.newaxis]
    units: npt.NDArray[np.float64] = np.zeros_like(wide)
    np.divide(wide, lengths, where=lengths > 0, out=units)
    return units.astype(np.float32)


def wipe(memory: npt.NDArray[Any] | bytearray) -> None:
    """Overwrite a template's memory with zeros."""
    if isinstance(memory, bytearray):
        memory[:] = bytes(len(memory))
    else:
        memory.fill(0)
