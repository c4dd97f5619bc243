"""Our own kernels for x86-64 (``native.c``): products are compared where they are made.

They trust what they are given, so this module checks shapes, types and layout before every call.
The compiled library is made when the package is installed, if there is a C compiler.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import Codes
from agency_adapters.galleries.kernels import Hits, Lowest, Prepared, checked
from agency_adapters.galleries.templates import wipe

LIBRARY: Final = Path(__file__).with_name("_native.so")
FEW_PROBES: Final = 3
"""Up to so many probes, each row is multiplied with every probe; more are packed."""
GROUP: Final = 8
"""Probes that are multiplied beside each other."""
STEP: Final = 8
"""Dimensions that are taken together; a template of another length is left to other kernels."""
COARSE_BITS: Final = 2
"""Bits that a packed probe loses; ``native.c``, rule 2."""
_CENTRE: Final = (2**COARSE_BITS - 1) / 2
_FAR: Final = 2**30
"""Beyond any sum of products, and far enough from int32's end to add a row's term."""
_ALIGNED: Final = 64
_HIT: Final = np.dtype([("row", "<u4"), ("probe", "<u4"), ("product", "<i4")])


class NativeKernel:
    """Kernels compiled with the package.

    Args:
        library: what was loaded by ``load``.
    """

    name = "native"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def prepare(self, probes: Codes, block_rows: int) -> Prepared:
        """Make probes ready: as they are if they are few, otherwise packed.

        Raises:
            TypeError: if their length is not a multiple of ``STEP``.
        """
        if probes.shape[1] % STEP:
            raise TypeError("no native kernel for this length")
        kind = Few if len(probes) <= FEW_PROBES else Packed
        return kind(self._library, checked(probes), block_rows)


class Few:
    """Probes as they are."""

    def __init__(self, library: ctypes.CDLL, probes: Codes, block_rows: int) -> None:
        self._call = library.probegate_scan_few
        self._probes = probes
        self._hits = np.empty(block_rows * len(probes), _HIT)
        self._most = block_rows

    def hits(self, block: Codes, lowest: Lowest, longest: float) -> Hits:  # noqa: ARG002
        """Multiply each row with every probe; see ``Prepared``."""
        _fits(block, self._probes, lowest, self._most)
        count = self._call(
            block.ctypes.data,
            *block.shape,
            self._probes.ctypes.data,
            len(self._probes),
            lowest.ctypes.data,
            self._hits.ctypes.data,
        )
        return _taken(self._hits[:count])

    def wipe(self) -> None:
        """Nothing: there is no copy."""


class Packed:
    """Probes packed beside each other, with fewer bits."""

    def __init__(self, library: ctypes.CDLL, probes: Codes, block_rows: int) -> None:
        self._call = library.probegate_scan_many
        self._probes = probes
        self._hits = np.empty(block_rows * len(probes), _HIT)
        self._most = block_rows
        count, dims = probes.shape
        groups = -(-count // GROUP)
        shifted = probes.astype(np.int16) + 128
        coarse = np.zeros((groups * GROUP, dims), np.uint8)
        coarse[:count] = shifted >> COARSE_BITS
        lost = shifted - (coarse[:count].astype(np.int16) << COARSE_BITS) - _CENTRE
        self._lost = np.sqrt(np.einsum("ij,ij->i", lost, lost))
        # Eight probes beside each other, four dimensions of each at a time, on a cache line.
        self._space = np.zeros(coarse.size + _ALIGNED, np.uint8)
        start = -self._space.ctypes.data % _ALIGNED
        self._packed = self._space[start : start + coarse.size]
        self._packed[:] = (
            coarse.reshape(groups, GROUP, dims // 4, 4).transpose(0, 2, 1, 3).reshape(-1)
        )
        self._cuts = np.full(groups * GROUP, _FAR, np.int32)
        for copy in (shifted, coarse, lost):
            wipe(copy)

    def hits(self, block: Codes, lowest: Lowest, longest: float) -> Hits:
        """Exclude what the coarse products can, multiply the rest; see ``Prepared``."""
        _fits(block, self._probes, lowest, self._most)
        # One more than Cauchy-Schwarz asks for covers what float64 rounds.
        needed = (lowest - self._lost * longest - 1.0) / 2**COARSE_BITS
        self._cuts[: len(self._probes)] = np.floor(needed).clip(-_FAR, _FAR)
        count = self._call(
            block.ctypes.data,
            *block.shape,
            self._packed.ctypes.data,
            self._probes.ctypes.data,
            len(self._probes),
            self._cuts.ctypes.data,
            lowest.ctypes.data,
            self._hits.ctypes.data,
        )
        return _taken(self._hits[:count])

    def wipe(self) -> None:
        """Overwrite the packed copy."""
        wipe(self._space)


def load() -> NativeKernel | None:
    """Return the kernels, or None if they were not compiled or this processor lacks AVX2."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.probegate_supported.argtypes = []
    if not library.probegate_supported():
        return None
    library.probegate_scan_few.argtypes = [
        *(pointer, size, size),  # codes, rows, dims
        *(pointer, size),  # probes
        *(pointer, pointer),  # lowest, hits
    ]
    library.probegate_scan_many.argtypes = [
        *(pointer, size, size),  # codes, rows, dims
        *(pointer, pointer, size),  # packed probes, probes
        *(pointer, pointer, pointer),  # cuts, lowest, hits
    ]
    for function in (library.probegate_scan_few, library.probegate_scan_many):
        function.restype = size
    return NativeKernel(library)


def _fits(block: Codes, probes: Codes, lowest: Lowest, most: int) -> None:
    checked(block, probes.shape[1])
    if len(block) > most or lowest.dtype != np.int32 or lowest.shape != (len(probes),):
        raise TypeError("a block, or its cuts, are not as agreed")


def _taken(hits: npt.NDArray[Any]) -> Hits:
    return Hits(
        hits["row"].astype(np.intp), hits["probe"].astype(np.intp), hits["product"].astype(np.int32)
    )
