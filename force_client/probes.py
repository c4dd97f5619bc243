"""Probes: templates that are fit to be sealed, and salts that recognise a repeated one.

The rules:

1. A probe is one template: float32, finite, of unit length within ``UNIT_TOLERANCE``. Anything else
   is ``PROBE_INVALID``, and the error says what to do. Nothing is repaired unasked: bringing a
   template to unit length is the caller's explicit choice.
2. A file of several templates is not a probe until a row is chosen: never the first by default.
3. Files are data: pickles are refused, sizes are limited before anything is unpacked.
4. The salt is HMAC-SHA256 of the template under the force's own secret key, so that the same probe
   searched again has the same commitment, and nobody without the key can tell which probe it is.
5. A template never prints.
"""

from __future__ import annotations

import hmac
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from force_client.settings import (
    MAX_PACKED_PROBE_BYTES,
    MAX_PROBE_FILE_BYTES,
    SALT_KEY_BYTES,
    UNIT_TOLERANCE,
)
from trust import files
from trust.arrays import UNREADABLE
from trust.commitment import probe_commitment
from trust.errors import ProbegateError, Reason
from trust.keys import require_private
from trust.messages import MAX_DIMS, Encoding, ProbePayload

WIRE_TYPE: Final = np.dtype("<f4")
_NPY: Final = ".npy"
_NPZ: Final = ".npz"

ProbeSource = Path | str | bytes | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One template, ready to be sealed.

    Attributes:
        template: little-endian float32, unit length; never printed.
        dims: number of dimensions.
        model: the id of the template model.
        encoding: how the dimensions are encoded.
    """

    template: bytes = field(repr=False)  # (5)
    dims: int
    model: str
    encoding: Encoding = Encoding.FLOAT32


def load_probe(
    source: ProbeSource,
    *,
    model: str,
    row: int | None = None,
    normalise: bool = False,
    dims: int | None = None,
) -> Probe:
    """Return a probe, or say why it is none.

    Args:
        source: a ``.npy`` or ``.npz`` file, an array of shape (dims,) or (rows, dims), or the
            little-endian float32 bytes of one template.
        model: the id of the model that made the template.
        row: which row of a two-dimensional source, from 0.
        normalise: bring the template to unit length instead of refusing it.
        dims: how many dimensions the model has, where the caller knows.

    Raises:
        ProbegateError: ``PROBE_INVALID``; ``FILE_MISSING``.
    """
    vector = _one_row(_array(source), row)
    if not 1 <= vector.size <= MAX_DIMS or dims not in {None, vector.size}:
        expected = f"{dims}" if dims else f"1 to {MAX_DIMS}"
        raise _refused(f"{vector.size} dimensions, expected {expected}", "dims")
    if vector.dtype.newbyteorder("=") != np.float32:  # (1)
        raise _refused(f"{vector.dtype} values; convert with array.astype('float32')", "dtype")
    exact = vector.astype(np.float64)
    if not np.isfinite(exact).all():
        raise _refused("NaN or infinity in it; extract the template again", "template")
    length = float(np.linalg.norm(exact))
    if length == 0.0:
        raise _refused("all zeros; extract the template again", "template")
    if normalise:
        exact /= length
    elif abs(length - 1.0) > UNIT_TOLERANCE:
        raise _refused(
            f"length {length:.6g}, not 1; if the model's templates are not of unit length, "
            "ask for it with normalise=True or --normalise",
            "template",
        )
    return Probe(exact.astype(WIRE_TYPE).tobytes(), vector.size, model)


def salted(probe: Probe, salt_key: bytes) -> ProbePayload:
    """Return what is sealed: the template and its salt, by rule (4)."""
    return ProbePayload(
        template=probe.template, salt=hmac.digest(salt_key, probe.template, "sha256")
    )


def commitment_of(payload: ProbePayload) -> bytes:
    """Return the 32-byte commitment that goes into the order."""
    return probe_commitment(payload.salt, payload.template)


def load_salt_key(path: Path) -> bytes:
    """Read the force's probe-salt key, making it on first use (0600).

    Raises:
        ProbegateError: ``KEY_FILE_INVALID`` if others can read it or it is of another length.
    """
    if not path.exists():
        try:
            files.write_private(path, os.urandom(SALT_KEY_BYTES))
        except ProbegateError as error:
            if error.reason is not Reason.FILE_EXISTS:  # another process was first: use its key
                raise
    require_private(path)
    key = files.read(path)
    if len(key) != SALT_KEY_BYTES:
        raise ProbegateError(
            Reason.KEY_FILE_INVALID, f"{path}: not {SALT_KEY_BYTES} bytes", file=path.name
        )
    return key


def _array(source: ProbeSource) -> npt.NDArray[Any]:
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, bytes):
        if not source or len(source) % WIRE_TYPE.itemsize:
            raise _refused("not a whole number of float32 values", "template")
        return np.frombuffer(source, WIRE_TYPE)
    return _file(Path(source))


def _file(path: Path) -> npt.NDArray[Any]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ProbegateError(
            Reason.FILE_MISSING, f"{path}: {error.strerror}", file=path.name
        ) from None
    if path.suffix not in {_NPY, _NPZ}:
        raise _refused("give a .npy or .npz file", "file")
    if size > MAX_PROBE_FILE_BYTES:  # (3)
        raise _refused(f"a file of {size} bytes is too large", "file")
    try:
        loaded = (
            _unpacked(path) if path.suffix == _NPZ else np.lib.format.open_memmap(path, mode="r")
        )
    except UNREADABLE as error:
        raise _refused(
            f"not a readable {path.suffix} file ({type(error).__name__})", "file"
        ) from None
    if not isinstance(loaded, np.ndarray):
        raise _refused(f"not a {path.suffix} file", "file")
    return loaded


def _unpacked(path: Path) -> npt.NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if len(members) != 1:
        raise _refused(f"{len(members)} arrays in it; give a file with one", "file")  # (2)
    if members[0].file_size > MAX_PACKED_PROBE_BYTES:  # (3)
        raise _refused("too large once unpacked", "file")
    with np.load(path, allow_pickle=False) as archive:
        array: npt.NDArray[Any] = archive[archive.files[0]]
    return array


def _one_row(array: npt.NDArray[Any], row: int | None) -> npt.NDArray[Any]:
    match array.ndim:
        case 1 if row is None:
            return array
        case 1:
            raise _refused("one template has no rows to choose from; leave the row out", "row")
        case 2:
            rows = array.shape[0]
            if row is None and rows == 1:
                row = 0
            if row is None:  # (2)
                raise _refused(f"{rows} templates in it; choose one with row or --row", "row")
            if not 0 <= row < rows:
                raise _refused(f"no row {row}; the rows are 0 to {rows - 1}", "row")
            chosen: npt.NDArray[Any] = array[row]
            return chosen
        case _:
            raise _refused(f"an array of {array.ndim} axes is no template", "shape")


def _refused(why: str, field_name: str) -> ProbegateError:
    return ProbegateError(Reason.PROBE_INVALID, why, field=field_name)
