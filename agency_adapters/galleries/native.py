"""Our own kernels for x86-64: products are compared where they are made.

``native_avx2.c`` is for processors with AVX2, ``native_vnni.c`` for those that multiply four bytes in one
step (AVX-512 VNNI).
They trust what they are given, so this module checks shapes, types and layout before every call.
The compiled library is made when the package is installed, if there is a C compiler.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import ROUNDING, Codes
from agency_adapters.galleries.kernels import (
    Floats,
    Hits,
    Lowest,
    Piece,
    Prepared,
    Stored,
    checked,
    scores_by_numpy,
)
from agency_adapters.galleries.templates import wipe

LIBRARY: Final = Path(__file__).with_name("_native.so")
AVX2: Final = "native-avx2"
VNNI: Final = "native-vnni"
FEW_PROBES: Final = 3
"""Up to so many probes, each row is multiplied with every probe; more are packed."""
GROUP: Final = 8
"""Probes that are multiplied beside each other with AVX2."""
LANES: Final = 16
"""Probes that are multiplied beside each other with AVX-512, in one or two groups or fours."""
PART_ROWS: Final = 24
"""``ROWS_IN_CACHE`` of ``native_vnni.c``: there must be room for the hits of so many rows, and a block
of fewer is filled up."""
COARSE_PART_ROWS: Final = 63
"""``ROWS_IN_CACHE`` of ``native_avx2.c``."""
STEP: Final = 8
"""Dimensions that are taken together; a template of another length is left to other kernels."""
COARSE_BITS: Final = 2
"""Bits that a packed probe loses; ``native_avx2.c``, rule 2."""
_CENTRE: Final = (2**COARSE_BITS - 1) / 2
_FAR: Final = 2**30
"""Beyond any sum of products, and far enough from int32's end to add a row's term."""
_ALIGNED: Final = 64
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_ROOM: Final = _POINTER, _SIZE, _POINTER
"""Hits, how many there is room for, and where to write how many rows were done."""
_FEW: Final = [
    *(_POINTER, _SIZE, _SIZE),  # codes, rows, dims
    *(_POINTER, _SIZE),  # probes
    *(_POINTER, *_ROOM),  # lowest
]
"""What both families take for few probes."""
_HIT: Final = np.dtype([("row", "<u4"), ("probe", "<u4")])
_NEAR: Final = np.dtype([*_HIT.descr, ("middle", "<f8"), ("error", "<f8")])
"""``hit`` and ``near_hit`` of ``native.h``."""


Calls = tuple[Any, Any]
"""The function that scans, and the one that multiplies again."""


class NativeKernel:
    """Kernels compiled with the package, for one family of processors.

    Args:
        name: which.
        few: the function for few probes.
        many: the one for many.
        both: what all families have: the function that multiplies hits with the probes
            themselves, and the one that scores templates in full precision.
        packing: makes many probes ready for it.
    """

    def __init__(
        self,
        name: str,
        few: Any,
        many: Any,
        both: tuple[Any, Any],
        packing: type[Packed | Coarse],
    ) -> None:
        self.name = name
        self._few, self._many = few, many
        self._again, self._scores = both
        self._packing = packing

    def prepare(self, probes: Codes, exact: Floats, at_once: int) -> Prepared:
        """Make probes ready: as they are if they are few, otherwise packed.

        Raises:
            TypeError: if their length is not a multiple of ``STEP``.
        """
        if probes.shape[1] % STEP:
            raise TypeError("no native kernel for this length")
        if exact.dtype != np.float64 or exact.shape != probes.shape or not exact.flags.c_contiguous:
            raise TypeError("what the probes encode is not as agreed")
        calls = (self._few if len(probes) <= FEW_PROBES else self._many), self._again
        kind = Few if len(probes) <= FEW_PROBES else self._packing
        return kind(calls, checked(probes), exact, at_once)

    def scores(
        self,
        stored: Stored,
        rows: npt.NDArray[np.intp],
        probes: Floats,
        whose: npt.NDArray[np.intp],
    ) -> Floats:
        """Score templates where they are mapped; see ``Kernel.scores``."""
        dims = stored.dims
        if dims % STEP:
            return scores_by_numpy(stored, rows, probes, whose)
        if probes.dtype != np.float64 or probes.shape[1:] != (dims,):
            raise TypeError("probes must be float64, of the templates' length")
        if rows.shape != whose.shape or not probes.flags.c_contiguous:
            raise TypeError("a probe for each row, and contiguous")
        if len(whose) and not 0 <= int(whose.min()) <= int(whose.max()) < len(probes):
            raise IndexError("no such probe")
        addresses, numbers = stored.addresses(rows), whose.astype(np.uint32)
        found = np.empty(len(rows))
        self._scores(
            addresses.ctypes.data,
            numbers.ctypes.data,
            len(rows),
            probes.ctypes.data,
            dims,
            found.ctypes.data,
        )
        return found


class _Scan:
    """A call of one of the functions, and the room for what it finds."""

    def __init__(self, calls: Calls, probes: Codes, exact: Floats, most: int) -> None:
        self._call, self._again = calls
        self._probes = probes
        self._exact = exact
        self._hits = np.empty(most, _HIT)
        self._kept = np.empty(most, _NEAR)
        self._done = ctypes.c_size_t()

    def _found(self, piece: Piece, cuts: Floats, *asked: Any) -> Hits:
        codes = piece.codes
        count = self._call(
            codes.ctypes.data,
            *codes.shape,
            *asked,
            self._hits.ctypes.data,
            len(self._hits),
            ctypes.byref(self._done),
        )
        kept = self._again(
            codes.ctypes.data,
            codes.shape[1],
            piece.bounds.ctypes.data,
            piece.scale,
            ROUNDING,
            self._exact.ctypes.data,
            cuts.ctypes.data,
            self._hits.ctypes.data,
            count,
            self._kept.ctypes.data,
        )
        near = self._kept[:kept]
        return Hits(
            self._done.value,
            near["row"].astype(np.intp),
            near["probe"].astype(np.intp),
            near["middle"].copy(),
            near["error"].copy(),
        )


class Few(_Scan):
    """Probes as they are."""

    def __init__(self, calls: Calls, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(calls, probes, exact, max(at_once, len(probes)))

    def hits(self, piece: Piece, lowest: Lowest, cuts: Floats) -> Hits:
        """Multiply each row with every probe; see ``Prepared``."""
        _fits(piece, self._probes, lowest, cuts)
        return self._found(
            piece, cuts, self._probes.ctypes.data, len(self._probes), lowest.ctypes.data
        )

    def wipe(self) -> None:
        """Nothing: there is no copy."""


class Packed(_Scan):
    """Probes packed beside each other, all bits of them."""

    def __init__(self, calls: Calls, probes: Codes, exact: Floats, at_once: int) -> None:
        groups = -(-len(probes) // LANES)
        self._groups = groups if groups <= 2 else -(-groups // 4) * 4  # noqa: PLR2004
        super().__init__(calls, probes, exact, max(at_once, PART_ROWS * self._groups * LANES))
        shifted = (probes.view(np.uint8) ^ 0x80).astype(np.uint8)
        self.packed = _Beside(shifted, self._groups * LANES)
        self._lowest = np.full(self._groups * LANES, _FAR, np.int32)
        wipe(shifted)

    def hits(self, piece: Piece, lowest: Lowest, cuts: Floats) -> Hits:
        """Multiply each row with every probe; see ``Prepared``."""
        _fits(piece, self._probes, lowest, cuts)
        self._lowest[: len(self._probes)] = lowest.clip(-_FAR, _FAR)
        asked = self.packed.address, self._groups, self._lowest.ctypes.data
        rows, dims = piece.codes.shape
        if rows >= PART_ROWS:
            return self._found(piece, cuts, *asked)
        codes, bounds = np.zeros((PART_ROWS, dims), np.int8), np.zeros(PART_ROWS, np.float32)
        codes[:rows], bounds[:rows] = piece.codes, piece.bounds
        found = self._found(piece._replace(codes=codes, bounds=bounds), cuts, *asked)
        real = found.row < rows
        return Hits(rows, *(part[real] for part in found[1:]))

    def wipe(self) -> None:
        """Overwrite the packed copy."""
        self.packed.wipe()


class Coarse(_Scan):
    """Probes packed beside each other, with fewer bits."""

    def __init__(self, calls: Calls, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(calls, probes, exact, max(at_once, COARSE_PART_ROWS * len(probes)))
        shifted = probes.astype(np.int16) + 128
        coarse = (shifted >> COARSE_BITS).astype(np.uint8)
        lost = shifted - (coarse.astype(np.int16) << COARSE_BITS) - _CENTRE
        self._lost = np.sqrt(np.einsum("ij,ij->i", lost, lost))
        self.packed = _Beside(coarse, GROUP)
        self._cuts = np.full(self.packed.groups * GROUP, _FAR, np.int32)
        for copy in (shifted, coarse, lost):
            wipe(copy)

    def hits(self, piece: Piece, lowest: Lowest, cuts: Floats) -> Hits:
        """Exclude what the coarse products can, multiply the rest; see ``Prepared``."""
        _fits(piece, self._probes, lowest, cuts)
        # One more than Cauchy-Schwarz asks for covers what float64 rounds.
        needed = (lowest - self._lost * piece.longest - 1.0) / 2**COARSE_BITS
        self._cuts[: len(self._probes)] = np.floor(needed).clip(-_FAR, _FAR)
        return self._found(
            piece,
            cuts,
            self.packed.address,
            self._probes.ctypes.data,
            len(self._probes),
            self._cuts.ctypes.data,
            lowest.ctypes.data,
        )

    def wipe(self) -> None:
        """Overwrite the packed copy."""
        self.packed.wipe()


class _Beside:
    """Some probes beside each other, four dimensions of each at a time, on cache lines.

    Attributes:
        groups: how many times so many probes.
        address: where the first byte is.
        space: all of the memory.
    """

    def __init__(self, bytes_: npt.NDArray[np.uint8], together: int) -> None:
        count, dims = bytes_.shape
        self.groups = -(-count // together)
        self.space = np.zeros(self.groups * together * dims + _ALIGNED, np.uint8)
        start = -self.space.ctypes.data % _ALIGNED
        packed = self.space[start : start + self.groups * together * dims]
        beside = packed.reshape(self.groups, dims // 4, together, 4)
        for probe in range(count):
            beside[probe // together, :, probe % together] = bytes_[probe].reshape(-1, 4)
        self.address = packed.ctypes.data

    def wipe(self) -> None:
        """Overwrite all of it."""
        wipe(self.space)


def kernels() -> tuple[NativeKernel, ...]:
    """Return those that were compiled and that this processor runs, the fastest first."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return ()
    found: list[NativeKernel] = []
    if not library.probegate_avx2_supported():
        return ()
    again = library.probegate_avx2_again
    again.argtypes = [
        *(_POINTER, _SIZE),  # codes, dims
        *(_POINTER, ctypes.c_double, ctypes.c_double),  # bounds, scale, rounding
        *(_POINTER, _POINTER),  # probes, cuts
        *(_POINTER, _SIZE, _POINTER),  # hits, how many, those that are kept
    ]
    again.restype = _SIZE
    scores = library.probegate_avx2_scores
    scores.argtypes = [
        *(_POINTER, _POINTER, _SIZE),  # templates' addresses, whose, how many
        *(_POINTER, _SIZE),  # probes, dims
        _POINTER,  # scores
    ]
    scores.restype = None
    if library.probegate_vnni_supported():
        few, many = library.probegate_vnni_scan_few, library.probegate_vnni_scan_many
        few.argtypes = _FEW
        many.argtypes = [
            *(_POINTER, _SIZE, _SIZE),  # codes, rows, dims
            *(_POINTER, _SIZE),  # packed probes, groups
            *(_POINTER, *_ROOM),  # lowest
        ]
        few.restype = many.restype = _SIZE
        found.append(NativeKernel(VNNI, few, many, (again, scores), Packed))
    few, many = library.probegate_avx2_scan_few, library.probegate_avx2_scan_many
    few.argtypes = _FEW
    many.argtypes = [
        *(_POINTER, _SIZE, _SIZE),  # codes, rows, dims
        *(_POINTER, _POINTER, _SIZE),  # packed probes, probes
        *(_POINTER, _POINTER, *_ROOM),  # cuts, lowest
    ]
    few.restype = many.restype = _SIZE
    found.append(NativeKernel(AVX2, few, many, (again, scores), Coarse))
    return tuple(found)


def _fits(piece: Piece, probes: Codes, lowest: Lowest, cuts: Floats) -> None:
    rows, each = len(checked(piece.codes, probes.shape[1])), (len(probes),)
    asked = (lowest, np.int32, each), (cuts, np.float64, each), (piece.bounds, np.float32, (rows,))
    for array, kind, shape in asked:
        if array.dtype != kind or array.shape != shape or not array.flags.c_contiguous:
            raise TypeError("bounds or cuts are not as agreed")
    if not rows:
        raise TypeError("no rows")
