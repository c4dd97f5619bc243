"""One pass over a gallery for many probes: every record that could be in an answer, and no guess.

1. Rows that are not eligible are out before anything is ranked.
2. The scan multiplies int8 codes, exactly, and excludes rows by what encoding lost of them and of
   the probe (``encoding``, rules 1 to 3). What it cannot exclude is multiplied again with the probe
   itself: a row's score is within ``lower`` and ``upper``, which are as far from that product as
   the row's own ``bound``.
3. A probe's ``cut`` is its threshold, or the k-th best ``lower`` or score met so far if that is
   higher. A row whose ``upper`` is below the cut is in no answer: k others are better. Every other
   row is kept, those that tie with the k-th included.
4. Kept rows are scored in float64, the likeliest first, so that the k-th best spares the others.
   Threshold and cut then apply to the score.
5. The answer is the best k of those, ties in the order of record ids. Within a segment that is the
   order of rows; between segments the ids are compared. So it is the full float64 comparison's.
6. Threads share the probes, the list of blocks to do and the cuts. A cut that one thread found
   holds for all: the k that are better are in the gallery, whoever met them. Two that raise it at
   once may leave the lower of two cuts, which spares less and loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import ROUNDING, EncodedProbes, encode_probes
from agency_adapters.galleries.kernels import Hits, Kernel, Piece, Prepared
from agency_adapters.galleries.segments import Rows, Segment
from agency_adapters.galleries.tally import Ask, Match, Tally, best_of, first_cuts

AT_ONCE: Final = 1 << 17
"""Products or hits that there is room for at once, of one thread, in a core's cache."""
LARGEST_PRODUCT: Final = 2**31 - 1
FIRST_BLOCK_ROWS: Final = 256
"""Rows of the first block; each is twice the one before, so that a cut is found in few rows before
many are compared with it."""
MOST_DOUBLINGS: Final = 16
SHARES: Final = 8
"""No block is more than so manieth of a thread's part of the gallery, so that all end together."""


class Part(NamedTuple):
    """Some rows of a segment."""

    segment: Segment
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow each other, of one segment or several; ``first`` is the gallery's row."""

    first: int
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """How many."""
        return sum(part.stop - part.start for part in self.parts)

    def after(self, rows: int) -> Block:
        """Return the block without its first rows."""
        parts, left = list(self.parts), rows
        while parts and left >= parts[0].stop - parts[0].start:
            gone = parts.pop(0)
            left -= gone.stop - gone.start
        if left:
            parts[0] = parts[0]._replace(start=parts[0].start + left)
        return Block(self.first + rows, tuple(parts))


def scan(
    segments: Sequence[Segment],
    eligible: npt.NDArray[np.bool_],
    asks: Sequence[Ask],
    *,
    kernel: Kernel,
    workers: Executor,
    threads: int,
    rows: Rows,
) -> list[tuple[Match, ...]]:
    """Return each probe's answer, best first.

    Args:
        segments: the gallery; its rows are numbered through them in this order.
        eligible: which rows may be searched, shape ``(rows,)``.
        asks: the probes, at least one.
        kernel: what multiplies.
        workers: runs the threads.
        threads: how many of them.
        rows: finds rows in ``segments``.
    """
    probes = np.stack([ask.probe for ask in asks])
    encoded = encode_probes(probes)
    try:
        most_rows = sum(segment.rows for segment in segments) // (threads * SHARES)
        blocks = _Blocks(segments, max(FIRST_BLOCK_ROWS, most_rows))
        cuts = first_cuts(asks)
        tallies = [Tally(probes, asks, rows, kernel, cuts) for _ in range(threads)]

        def work(tally: Tally) -> None:
            _scan_blocks(blocks, eligible, encoded, kernel, tally)

        list(workers.map(work, tallies))
        first, *others = tallies
        first.finish(others, workers.map)
        return best_of(first, rows)
    finally:
        encoded.wipe()
        probes.fill(0)


class _Blocks:
    """Hands out the blocks of a pass to whichever thread is free (6)."""

    def __init__(self, segments: Sequence[Segment], most_rows: int) -> None:
        self._most_rows = most_rows
        self._lock = threading.Lock()
        self._blocks = self._all(segments)

    def __iter__(self) -> Iterator[Block]:
        while True:
            with self._lock:
                block = next(self._blocks, None)
            if block is None:
                return
            yield block

    def _all(self, segments: Sequence[Segment]) -> Iterator[Block]:
        first = made = 0
        parts: list[Part] = []
        room = self._size(made)
        for segment in segments:
            start = 0
            while start < segment.rows:
                stop = min(start + room, segment.rows)
                parts.append(Part(segment, start, stop))
                room, start = room - (stop - start), stop
                if not room:
                    block = Block(first, tuple(parts))
                    yield block
                    first, made, parts = first + block.rows, made + 1, []
                    room = self._size(made)
        if parts:
            yield Block(first, tuple(parts))

    def _size(self, made: int) -> int:
        return min(self._most_rows, FIRST_BLOCK_ROWS << min(made, MOST_DOUBLINGS))


def _scan_blocks(
    blocks: _Blocks,
    eligible: npt.NDArray[np.bool_],
    probes: EncodedProbes,
    kernel: Kernel,
    tally: Tally,
) -> None:
    prepared = kernel.prepare(probes.codes, tally.probes, AT_ONCE)
    try:
        for block in blocks:
            allowed = eligible[block.first : block.first + block.rows]
            if not allowed.any():  # (1)
                continue
            every, rest = bool(allowed.all()), block
            while rest.parts:
                hits = _hits(rest, probes, prepared, tally.cuts)
                _keep(rest.first, hits, None if every else eligible, tally)
                rest = rest.after(hits.rows)
    finally:
        prepared.wipe()


def _hits(
    block: Block, probes: EncodedProbes, prepared: Prepared, cuts: npt.NDArray[np.float64]
) -> Hits:
    """Return what cannot be excluded among the first rows of a block (2) (3)."""
    pieces = []
    for segment, start, stop in block.parts:
        longest = (1.0 + segment.bound) / segment.scale  # a decoded row's length is about 1
        rows = slice(start, stop)
        pieces.append(Piece(segment.codes[rows], segment.bounds[rows], segment.scale, longest))
    return prepared.hits(pieces, _lowest_products(block, probes, cuts), cuts)


def _keep(first: int, hits: Hits, eligible: npt.NDArray[np.bool_] | None, tally: Tally) -> None:
    """Keep hits, the gallery's row ``first`` and those after it, if they are eligible."""
    row, probe, middle, error = hits.row + first, hits.probe, hits.middle, hits.error
    if eligible is not None:
        keep = eligible[row]  # (1)
        row, probe, middle, error = row[keep], probe[keep], middle[keep], error[keep]
    tally.add(probe, row, middle, error)


def _lowest_products(
    block: Block, probes: EncodedProbes, cuts: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    """Return for each part and probe the product below which no row of it reaches the cut (3).

    It takes the largest bound of the segment for all its rows, so that comparing all products is
    one comparison of whole numbers; what passes is then held against the cut by its own bound.
    """
    bound = np.array([[part.segment.bound] for part in block.parts])
    scale = np.array([[part.segment.scale] for part in block.parts])
    needed = cuts - (bound + probes.bounds * (1.0 + bound) + ROUNDING)
    lowest = np.floor(needed / (scale * probes.scales))
    return lowest.clip(-LARGEST_PRODUCT, LARGEST_PRODUCT).astype(np.int32)
