"""Products of int8 codes, exactly, and which of them reach a cut: by NumKong, otherwise by numpy.

NumKong trusts what it is given, so shapes, types and layout are checked here before every call. A
library's own copy of a packed probe cannot be wiped from Python; it is dropped with the pass. Our
own kernels for x86-64 are in ``native``; ``choosing`` says which is used.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numkong
import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import CODE_MAX, Codes
from agency_adapters.galleries.templates import wipe

Products = npt.NDArray[np.int32]
"""Products of codes, int32, shape ``(rows, probes)``: below 2**31 up to 4,096 dimensions."""
Lowest = npt.NDArray[np.int32]
"""For each probe the lowest product that counts, int32, shape ``(probes,)``."""
FEW_PROBES: Final = 2
"""Up to so many probes, one pass over the rows for each is faster than a packed product."""
_FLOAT32_WHOLE: Final = 2**24
"""Whole numbers up to here are exact in float32."""


class Hits(NamedTuple):
    """What reached its probe's cut, all of shape ``(m,)``, in no particular order.

    Attributes:
        row: the row of the block.
        probe: the probe.
        product: the exact product of their codes.
    """

    row: npt.NDArray[np.intp]
    probe: npt.NDArray[np.intp]
    product: npt.NDArray[np.int32]


class Prepared(Protocol):
    """Some probes, ready to be multiplied with blocks of rows by one thread at a time."""

    def hits(self, block: Codes, lowest: Lowest, longest: float) -> Hits:
        """Return every row and probe whose product is at least ``lowest`` of the probe.

        Args:
            block: int8, shape ``(rows, dims)``.
            lowest: int32, shape ``(probes,)``.
            longest: no row of the block is longer than this, as a vector of codes.
        """

    def wipe(self) -> None:
        """Overwrite copies of the probes with zeros, where that is possible."""


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


class _Products:
    """Hits of kernels that give all products of a block."""

    def products(self, block: Codes) -> Products:
        """Return all products; the array is used again by the next call."""
        raise NotImplementedError

    def hits(self, block: Codes, lowest: Lowest, longest: float) -> Hits:  # noqa: ARG002
        products = self.products(block)
        found = np.flatnonzero(products >= lowest)
        row, probe = np.divmod(found, products.shape[1])
        return Hits(row, probe, products.reshape(-1)[found])

    def wipe(self) -> None:
        pass


class _Few(_Products):
    def __init__(self, probes: Codes, block_rows: int) -> None:
        self._probes = checked(probes)
        self._out = np.empty((block_rows, len(probes)), dtype=np.int32)

    def products(self, block: Codes) -> Products:
        checked(block, self._probes.shape[1])
        out = self._out[: len(block)]
        out[:] = np.asarray(numkong.cdist(block, self._probes, "dot", dtype="int8"))
        return out


class _Packed(_Products):
    def __init__(self, probes: Codes, block_rows: int) -> None:
        self._dims = checked(probes).shape[1]
        self._packed = numkong.dots_pack(probes, dtype="int8")
        self._out = np.empty((block_rows, len(probes)), dtype=np.int32)

    def products(self, block: Codes) -> Products:
        checked(block, self._dims)
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


class _Numpy(_Products):
    def __init__(self, probes: Codes, block_rows: int) -> None:
        exact = checked(probes).shape[1] * CODE_MAX**2 < _FLOAT32_WHOLE
        self._type: type[np.floating[Any]] = np.float32 if exact else np.float64
        self._probes: npt.NDArray[np.floating[Any]] = probes.T.astype(self._type)
        self._out = np.empty((block_rows, len(probes)), dtype=np.int32)

    def wipe(self) -> None:
        wipe(self._probes)

    def products(self, block: Codes) -> Products:
        checked(block, len(self._probes))
        out = self._out[: len(block)]
        wide: npt.NDArray[np.floating[Any]] = block.astype(self._type)
        out[:] = wide @ self._probes
        return out


def checked(codes: Codes, dims: int | None = None) -> Codes:
    """Return codes that a kernel may be given.

    Raises:
        TypeError: if they are not int8, contiguous, and of the wanted length.
    """
    fits = codes.dtype == np.int8 and codes.ndim == 2 and codes.flags.c_contiguous  # noqa: PLR2004
    if not fits or (dims is not None and codes.shape[1] != dims):
        raise TypeError("codes must be int8, of two dimensions, contiguous and of one width")
    return codes
