"""Products of int8 codes, exactly, and which of them reach a cut: by NumKong, otherwise by numpy.

What reaches it is multiplied again with the probe itself, in float64: what encoding lost of the
probe then plays no part (``scanning``, 2).

NumKong trusts what it is given, so shapes, types and layout are checked here before every call. A
library's own copy of a packed probe cannot be wiped from Python; it is dropped with the pass. Our
own kernels for x86-64 are in ``native``; ``choosing`` says which is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numkong
import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import CODE_MAX, ROUNDING, Codes
from agency_adapters.galleries.matching import paired_scores
from agency_adapters.galleries.templates import Templates, wipe

Products = npt.NDArray[np.int32]
"""Products of codes, int32, shape ``(rows, probes)``: below 2**31 up to 4,096 dimensions."""
Floats = npt.NDArray[np.float64]
Lowest = npt.NDArray[np.int32]
"""For each piece and probe the lowest product that counts, int32, shape ``(pieces, probes)``."""
FEW_PROBES: Final = 2
"""Up to so many probes, one pass over the rows for each is faster than a packed product."""
_AGAIN_AT_ONCE: Final = 128
"""Hits that are multiplied again at once, few enough to stay in a core's cache."""
_SCORED_AT_ONCE: Final = 32
"""Rows that are scored at once, few enough to stay in a core's cache: it is six times as fast."""
_FLOAT32_WHOLE: Final = 2**24
"""Whole numbers up to here are exact in float32."""


class Piece(NamedTuple):
    """Some rows of a segment.

    Attributes:
        codes: int8, shape ``(rows, dims)``.
        bounds: what encoding lost of each row, float32, shape ``(rows,)``.
        scale: what every code is multiplied by.
        longest: no row is longer than this, as a vector of codes.
    """

    codes: Codes
    bounds: npt.NDArray[np.float32]
    scale: float
    longest: float


class Hits(NamedTuple):
    """What may reach its probe's cut, all of shape ``(m,)``, in no particular order.

    Attributes:
        rows: so many of the pieces' first rows were looked at, at least one.
        row: the row, numbered through the pieces.
        probe: the probe.
        middle: the row's decoded template times the probe itself, float64.
        error: how far the score may be from ``middle``, float64.
    """

    rows: int
    row: npt.NDArray[np.intp]
    probe: npt.NDArray[np.intp]
    middle: Floats
    error: Floats


class Prepared(Protocol):
    """Some probes, ready to be multiplied with rows by one thread at a time."""

    def hits(self, pieces: Sequence[Piece], lowest: Lowest, cuts: Floats) -> Hits:
        """Return rows and probes whose score may reach the probe's cut.

        They are of the first rows, as many as there is room for; the rest is asked for again.

        Args:
            pieces: the rows, at least one in each.
            lowest: no row of a piece whose product of codes is below this can reach the cut,
                int32, shape ``(pieces, probes)``.
            cuts: float64, shape ``(probes,)``; another thread may raise them meanwhile.
        """

    def wipe(self) -> None:
        """Overwrite copies of the probes with zeros, where that is possible."""


class Stored(Protocol):
    """Where templates are kept in full precision."""

    dims: int

    def templates(self, rows: npt.NDArray[np.intp]) -> Templates:
        """Return some rows' templates, float32, shape ``(m, dims)``."""

    def addresses(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.uintp]:
        """Return where some rows' templates are in memory, mapped and contiguous."""


class Kernel(Protocol):
    """One way to multiply."""

    name: str

    def scores(
        self,
        stored: Stored,
        rows: npt.NDArray[np.intp],
        probes: Floats,
        whose: npt.NDArray[np.intp],
    ) -> Floats:
        """Return the score of each row with one of the probes, as ``matching`` defines it.

        Args:
            stored: where the rows' templates are.
            rows: which rows, shape ``(m,)``.
            probes: float64, shape ``(p, dims)``, unit length.
            whose: which probe each row is held against, shape ``(m,)``.
        """

    def prepare(self, probes: Codes, exact: Floats, at_once: int) -> Prepared:
        """Make probes ready, for one thread.

        Args:
            probes: int8, shape ``(p, dims)``.
            exact: what they encode, float64, shape ``(p, dims)``.
            at_once: how many products or hits there is room for at once.
        """


def scores_by_numpy(
    stored: Stored, rows: npt.NDArray[np.intp], probes: Floats, whose: npt.NDArray[np.intp]
) -> Floats:
    """Return scores; see ``Kernel.scores``."""
    templates = stored.templates(rows)
    scores = np.empty(len(rows))
    for first in range(0, len(rows), _SCORED_AT_ONCE):
        some = slice(first, first + _SCORED_AT_ONCE)
        copies = probes[whose[some]]
        try:
            scores[some] = paired_scores(templates[some], copies)
        finally:
            wipe(copies)
    return scores


class NumKongKernel:
    """SIMD kernels of NumKong, which releases the interpreter's lock."""

    name = "numkong"
    scores = staticmethod(scores_by_numpy)

    def prepare(self, probes: Codes, exact: Floats, at_once: int) -> Prepared:
        """Make probes ready: packed, or as they are if they are few."""
        if len(probes) <= FEW_PROBES:
            return _Few(probes, exact, at_once)
        return _Packed(probes, exact, at_once)


class _Products:
    """Hits of kernels that give all products of some rows."""

    def __init__(self, probes: Codes, exact: Floats, at_once: int) -> None:
        self._dims = checked(probes).shape[1]
        self._exact = exact
        self._out = np.empty((max(1, at_once // len(probes)), len(probes)), dtype=np.int32)

    def products(self, block: Codes) -> Products:
        """Return all products of at most as many rows as there is room for.

        The array is used again by the next call.
        """
        raise NotImplementedError

    def hits(self, pieces: Sequence[Piece], lowest: Lowest, cuts: Floats) -> Hits:
        found: list[tuple[Any, ...]] = []
        rows = count = 0
        for piece, floor in zip(pieces, lowest, strict=True):
            for start in range(0, len(checked(piece.codes, self._dims)), len(self._out)):
                some = slice(start, start + len(self._out))
                part = piece._replace(codes=piece.codes[some], bounds=piece.bounds[some])
                row, *near = self._near(part, floor, cuts)
                found.append((row + rows, *near))
                rows, count = rows + len(part.codes), count + len(row)
                if count >= self._out.size:
                    return Hits(rows, *map(np.concatenate, zip(*found, strict=True)))
        return Hits(rows, *map(np.concatenate, zip(*found, strict=True)))

    def _near(self, piece: Piece, floor: npt.NDArray[np.int32], cuts: Floats) -> tuple[Any, ...]:
        """Return row, probe, middle and error of what may reach its cut, of rows that fit."""
        codes = piece.codes
        products = self.products(codes)
        row, probe = np.divmod(np.flatnonzero(products >= floor), products.shape[1])
        middle = np.empty(len(row))
        for start in range(0, len(row), _AGAIN_AT_ONCE):
            some = slice(start, start + _AGAIN_AT_ONCE)
            copies = self._exact[probe[some]]
            np.einsum("ij,ij->i", codes[row[some]].astype(np.float64), copies, out=middle[some])
            wipe(copies)
        middle *= piece.scale
        error = piece.bounds[row].astype(np.float64) + ROUNDING
        near = middle + error >= cuts[probe]
        return row[near], probe[near], middle[near], error[near]

    def wipe(self) -> None:
        pass


class _Few(_Products):
    def __init__(self, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(probes, exact, at_once)
        self._probes = probes

    def products(self, block: Codes) -> Products:
        out = self._out[: len(block)]
        out[:] = np.asarray(numkong.cdist(block, self._probes, "dot", dtype="int8"))
        return out


class _Packed(_Products):
    def __init__(self, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(probes, exact, at_once)
        self._packed = numkong.dots_pack(probes, dtype="int8")

    def products(self, block: Codes) -> Products:
        out = self._out[: len(block)]
        view = numkong.from_pointer(out.ctypes.data, out.shape, "int32", owner=out)
        numkong.dots_packed(block, self._packed, out=view)
        return out


class NumpyKernel:
    """Floating-point products of whole numbers that the type holds exactly."""

    name = "numpy"
    scores = staticmethod(scores_by_numpy)

    def prepare(self, probes: Codes, exact: Floats, at_once: int) -> Prepared:
        """Make probes ready."""
        return _Numpy(probes, exact, at_once)


class _Numpy(_Products):
    def __init__(self, probes: Codes, exact: Floats, at_once: int) -> None:
        super().__init__(probes, exact, at_once)
        exact = self._dims * CODE_MAX**2 < _FLOAT32_WHOLE
        self._type: type[np.floating[Any]] = np.float32 if exact else np.float64
        self._probes: npt.NDArray[np.floating[Any]] = probes.T.astype(self._type)

    def wipe(self) -> None:
        wipe(self._probes)

    def products(self, block: Codes) -> Products:
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
