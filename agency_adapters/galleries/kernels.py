"""Products of int8 codes, exactly: by NumKong where the processor suits it, otherwise by numpy.

NumKong trusts what it is given, so shapes, types and layout are checked here before every call. A
library's own copy of a packed probe cannot be wiped from Python; it is dropped with the pass.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numkong
import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import CODE_MAX, Codes

Products = npt.NDArray[np.int32]
"""Products of codes, int32, shape ``(rows, probes)``: below 2**31 up to 4,096 dimensions."""
FEW_PROBES: Final = 2
"""Up to so many probes, one pass over the rows for each is faster than a packed product."""
_FLOAT32_WHOLE: Final = 2**24
"""Whole numbers up to here are exact in float32."""


class Prepared(Protocol):
    """Some probes, ready to be multiplied with blocks of rows by one thread at a time."""

    def products(self, block: Codes) -> Products:
        """Return the product of every row of ``block`` with every probe.

        The array is used again by the next call of the same object.
        """


class Kernel(Protocol):
    """One way to multiply."""

    name: str

    def prepare(self, probes: Codes, block_rows: int) -> Prepared:
        """Make probes ready for blocks of at most ``block_rows`` rows, for one thread."""


class NumKongKernel:
    """SIMD kernels of NumKong, which releases the interpreter's lock."""

    name = "numkong"

    def prepare(self, probes: Codes, block_rows: int) -> Prepared:
        """Make probes ready: packed, or as they are if they are few."""
        if len(probes) <= FEW_PROBES:
            return _Few(probes, block_rows)
        return _Packed(probes, block_rows)


class _Few:
    def __init__(self, probes: Codes, block_rows: int) -> None:
        self._probes = _checked(probes)
        self._out = np.empty((block_rows, len(probes)), dtype=np.int32)

    def products(self, block: Codes) -> Products:
        _checked(block, self._probes.shape[1])
        out = self._out[: len(block)]
        out[:] = np.asarray(numkong.cdist(block, self._probes, "dot", dtype="int8"))
        return out


class _Packed:
    def __init__(self, probes: Codes, block_rows: int) -> None:
        self._dims = _checked(probes).shape[1]
        self._packed = numkong.dots_pack(probes, dtype="int8")
        self._out = np.empty((block_rows, len(probes)), dtype=np.int32)

    def products(self, block: Codes) -> Products:
        _checked(block, self._dims)
        out = self._out[: len(block)]
        view = numkong.from_pointer(out.ctypes.data, out.shape, "int32", owner=out)
        numkong.dots_packed(block, self._packed, out=view)
        return out


class NumpyKernel:
    """Floating-point products of whole numbers that the type holds exactly."""

    name = "numpy"

    def prepare(self, probes: Codes, block_rows: int) -> Prepared:
        """Make probes ready."""
        return _Numpy(probes, block_rows)


class _Numpy:
    def __init__(self, probes: Codes, block_rows: int) -> None:
        exact = _checked(probes).shape[1] * CODE_MAX**2 < _FLOAT32_WHOLE
        self._type: type[np.floating[Any]] = np.float32 if exact else np.float64
        self._probes: npt.NDArray[np.floating[Any]] = probes.T.astype(self._type)
        self._out = np.empty((block_rows, len(probes)), dtype=np.int32)

    def products(self, block: Codes) -> Products:
        _checked(block, len(self._probes))
        out = self._out[: len(block)]
        wide: npt.NDArray[np.floating[Any]] = block.astype(self._type)
        out[:] = wide @ self._probes
        return out


def best_kernel() -> Kernel:
    """Return NumKong's kernels where they have SIMD for this processor, otherwise numpy's."""
    simd = any(on for name, on in numkong.get_capabilities().items() if name != "serial")
    return NumKongKernel() if simd else NumpyKernel()


def _checked(codes: Codes, dims: int | None = None) -> Codes:
    fits = codes.dtype == np.int8 and codes.ndim == 2 and codes.flags.c_contiguous  # noqa: PLR2004
    if not fits or (dims is not None and codes.shape[1] != dims):
        raise TypeError("codes must be int8, of two dimensions, contiguous and of one width")
    return codes
