"""Our own kernels for x86-64: products are compared where they are made.

``native_avx2.c`` is for processors with AVX2, ``native_vnni.c`` for those that multiply four bytes
in one step (AVX-512 VNNI).
They trust what they are given, so this module checks shapes, types and layout before every call.
The compiled library is made when the package is installed, if there is a C compiler.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
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
"""``ROWS_IN_CACHE`` of ``native_vnni.c``: there must be room for the hits of so many rows."""
HIT_PRODUCTS: Final = 8
"""A hit, found and kept, takes the memory of so many products."""
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
_PASS: Final[Any] = [
    *(_POINTER, _POINTER, _SIZE),  # probes, pieces, how many
    *(_POINTER, _POINTER, _SIZE),  # lowest, coarse, how many a piece has
    *(_POINTER, _POINTER, _SIZE, _POINTER),  # hits, those kept, how many at most, rows done
]
"""What a pass takes."""
_SCORES: Final[Any] = [
    *(_POINTER, _POINTER, _SIZE),  # templates' addresses, whose, how many
    *(_POINTER, _SIZE, _POINTER),  # probes, dims, scores
]
_PIECE: Final = np.dtype([("codes", "u8"), ("bounds", "u8"), ("rows", "u8"), ("scale", "f8")])
_HIT: Final = np.dtype([("row", "<u4"), ("probe", "<u4")])
_NEAR: Final = np.dtype([*_HIT.descr, ("middle", "<f8"), ("error", "<f8")])
"""``piece``, ``hit`` and ``near_hit`` of ``native.h``."""


class NativeKernel:
    """Kernels compiled with the package, for one family of processors.

    Args:
        name: which.
        few: makes a pass with few probes.
        many: makes a pass with many.
        scores: scores templates in full precision.
        packing: makes many probes ready for it.
    """

    def __init__(
        self,
        name: str,
        few: Any,
        many: Any,
        scores: Any,
        packing: type[Packed | Coarse],
    ) -> None:
        self.name = name
        self._few, self._many, self._scores = few, many, scores
        self._packing = packing

    def prepare(self, probes: Codes, exact: Floats, at_once: int) -> Prepared:
        """Make probes ready: as they are if they are few, otherwise packed.

        Raises:
            TypeError: if their length is not a multiple of ``STEP``.
        """
        if probes.shape[1] % STEP:
            raise TypeError("no native kernel for this length")
        _fits(exact, np.float64, probes.shape)
        if len(probes) <= FEW_PROBES:
            return Few(self._few, checked(probes), exact, at_once)
        return self._packing(self._many, checked(probes), exact, at_once)

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
            raise TypeError("no native kernel for this length")
        _fits(probes, np.float64, (len(probes), dims))
        if rows.shape != whose.shape:
            raise TypeError("not a probe for each row")
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


class _Asked(ctypes.Structure):
    """``probes`` of ``native.h``."""

    _fields_ = (
        *((name, _SIZE) for name in ("dims", "count", "groups")),
        *((name, _POINTER) for name in ("codes", "packed", "exact", "cuts")),
        ("rounding", ctypes.c_double),
    )


class _Pass:
    """Probes, a function that makes a pass with them, and the room for what it finds.

    Args:
        call: the function.
        probes: as codes.
        exact: as they are.
        at_once: how many products there would be room for.
        least: how many hits there must be room for.
    """

    def __init__(self, call: Any, probes: Codes, exact: Floats, at_once: int, least: int) -> None:
        most = max(at_once // HIT_PRODUCTS, least)
        self._call = call
        self._probes, self._exact = probes, exact
        self._hits, self._kept = np.empty(most, _HIT), np.empty(most, _NEAR)
        self._done = ctypes.c_size_t()
        count, dims = probes.shape
        self._asked = _Asked(dims, count, 0, probes.ctypes.data, None, exact.ctypes.data, None)
        self._asked.rounding = ROUNDING

    def hits(self, pieces: Sequence[Piece], lowest: Lowest, cuts: Floats) -> Hits:
        """Look at the pieces' rows; see ``Prepared``."""
        count, dims = self._probes.shape
        _fits(lowest, np.int32, (len(pieces), count))
        _fits(cuts, np.float64, (count,))
        for one in pieces:
            _fits(one.bounds, np.float32, (len(checked(one.codes, dims)),))
        table = np.array(
            [
                (one.codes.ctypes.data, one.bounds.ctypes.data, len(one.codes), one.scale)
                for one in pieces
            ],
            _PIECE,
        )
        self._asked.cuts = cuts.ctypes.data
        floors, coarse = self._floors(pieces, lowest)
        kept = self._call(
            ctypes.byref(self._asked),
            table.ctypes.data,
            len(table),
            floors.ctypes.data,
            None if coarse is None else coarse.ctypes.data,
            floors.shape[1],
            self._hits.ctypes.data,
            self._kept.ctypes.data,
            len(self._kept),
            ctypes.byref(self._done),
        )
        near = self._kept[:kept]
        return Hits(
            self._done.value,
            near["row"].astype(np.intp),
            near["probe"].astype(np.intp),
            near["middle"].copy(),
            near["error"].copy(),
        )

    def _floors(self, pieces: Sequence[Piece], lowest: Lowest) -> tuple[Lowest, Lowest | None]:
        """Return what is lowest for each piece as the function wants it, and what is coarsely."""
        del pieces
        return lowest, None


class Few(_Pass):
    """Probes as they are."""

    def __init__(self, call: Any, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(call, probes, exact, at_once, len(probes))

    def wipe(self) -> None:
        """Nothing: there is no copy."""


class Packed(_Pass):
    """Probes packed beside each other, all bits of them."""

    def __init__(self, call: Any, probes: Codes, exact: Floats, at_once: int) -> None:
        groups = -(-len(probes) // LANES)
        groups = groups if groups <= 2 else -(-groups // 4) * 4  # noqa: PLR2004
        super().__init__(call, probes, exact, at_once, PART_ROWS * groups * LANES)
        shifted = (probes.view(np.uint8) ^ 0x80).astype(np.uint8)
        self.packed = _Beside(shifted, groups * LANES)
        self._asked.groups, self._asked.packed = groups, self.packed.address
        self._lanes = groups * LANES
        wipe(shifted)

    def _floors(self, pieces: Sequence[Piece], lowest: Lowest) -> tuple[Lowest, Lowest | None]:
        floors = np.full((len(pieces), self._lanes), _FAR, np.int32)
        floors[:, : lowest.shape[1]] = lowest.clip(-_FAR, _FAR)
        return floors, None

    def wipe(self) -> None:
        """Overwrite the packed copy."""
        self.packed.wipe()


class Coarse(_Pass):
    """Probes packed beside each other, with fewer bits."""

    def __init__(self, call: Any, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(call, probes, exact, at_once, COARSE_PART_ROWS * len(probes))
        shifted = probes.astype(np.int16) + 128
        coarse = (shifted >> COARSE_BITS).astype(np.uint8)
        lost = shifted - (coarse.astype(np.int16) << COARSE_BITS) - _CENTRE
        self._lost = np.sqrt(np.einsum("ij,ij->i", lost, lost))
        self.packed = _Beside(coarse, GROUP)
        self._asked.groups, self._asked.packed = self.packed.groups, self.packed.address
        self._lanes = self.packed.groups * GROUP
        for copy in (shifted, coarse, lost):
            wipe(copy)

    def _floors(self, pieces: Sequence[Piece], lowest: Lowest) -> tuple[Lowest, Lowest | None]:
        shape = len(pieces), self._lanes
        floors, coarse = np.full(shape, _FAR, np.int32), np.full(shape, _FAR, np.int32)
        floors[:, : lowest.shape[1]] = lowest
        longest = np.array([one.longest for one in pieces])[:, np.newaxis]
        # One more than Cauchy-Schwarz asks for covers what float64 rounds.
        needed = (lowest - self._lost * longest - 1.0) / 2**COARSE_BITS
        coarse[:, : lowest.shape[1]] = np.floor(needed).clip(-_FAR, _FAR)
        return floors, coarse

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
    if not library.probegate_avx2_supported():
        return ()
    scores = library.probegate_avx2_scores
    scores.restype, scores.argtypes = None, _SCORES
    families: list[tuple[str, Any, Any, type[Packed | Coarse]]] = [
        (AVX2, library.probegate_avx2_pass_few, library.probegate_avx2_pass_many, Coarse)
    ]
    if library.probegate_vnni_supported():
        few, many = library.probegate_vnni_pass_few, library.probegate_vnni_pass_many
        families.insert(0, (VNNI, few, many, Packed))
    for _, few, many, _ in families:
        few.restype = many.restype = _SIZE
        few.argtypes = many.argtypes = _PASS
    return tuple(NativeKernel(name, few, many, scores, kind) for name, few, many, kind in families)


def _fits(array: npt.NDArray[Any], kind: Any, shape: tuple[int, ...]) -> None:
    if (
        array.dtype != kind
        or array.shape != shape
        or not array.flags.c_contiguous
        or not array.size
    ):
        raise TypeError(
            "an array is not of the type, shape and layout agreed, or there are no rows"
        )
