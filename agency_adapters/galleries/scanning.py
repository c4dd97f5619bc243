"""One pass over a gallery for many probes: every record that could be in an answer, and no guess.

1. Rows that are not eligible are out before anything is ranked.
2. The scan multiplies int8 codes, exactly. A row's score is within ``lower`` and ``upper``, which
   follow from the product and from what encoding lost (``encoding``, rules 1 to 3).
3. A probe's ``cut`` is its threshold, or the k-th best ``lower`` or score met so far if that is
   higher. A row whose ``upper`` is below the cut is in no answer: k others are better. Every other
   row is kept, those that tie with the k-th included.
4. Kept rows are scored in float64, the likeliest first, so that the k-th best spares the others.
   Threshold and cut then apply to the score.
5. The answer is the best k of those, ties in the order of record ids. Within a segment that is the
   order of rows; between segments the ids are compared. So it is the full float64 comparison's.
6. Threads share nothing but the probes and the list of blocks to do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.encoding import ROUNDING, EncodedProbes, encode_probes
from agency_adapters.galleries.kernels import Kernel
from agency_adapters.galleries.segments import Rows, Segment
from agency_adapters.galleries.tally import Ask, Match, Tally, best_of

BLOCK_PRODUCTS: Final = 1 << 17
"""Products of one block, which stay in a core's cache: 0.5 MB."""
LARGEST_PRODUCT: Final = 2**31 - 1
FIRST_BLOCK_ROWS: Final = 256
"""Rows of the first block; each is twice the one before until they are full, so that a cut is found
in few rows before many are compared with it."""
MOST_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of one segment; ``base`` is the gallery's row of the segment's first."""

    segment: Segment
    base: int
    start: int
    stop: int


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
        blocks = _Blocks(segments, max(1, BLOCK_PRODUCTS // len(asks)))
        tallies = [Tally(probes, asks, rows) for _ in range(threads)]

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
        self.most_rows = most_rows
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
        base = made = 0
        for segment in segments:
            start = 0
            while start < segment.rows:
                size = min(self.most_rows, FIRST_BLOCK_ROWS << min(made, MOST_DOUBLINGS))
                stop = min(start + size, segment.rows)
                yield Block(segment, base, start, stop)
                start, made = stop, made + 1
            base += segment.rows


def _scan_blocks(
    blocks: _Blocks,
    eligible: npt.NDArray[np.bool_],
    probes: EncodedProbes,
    kernel: Kernel,
    tally: Tally,
) -> None:
    prepared = kernel.prepare(probes.codes, blocks.most_rows)
    try:
        for block in blocks:
            segment, rows = block.segment, slice(block.start, block.stop)
            allowed = eligible[block.base + block.start : block.base + block.stop]
            if not allowed.any():  # (1)
                continue
            lowest = _lowest_products(block, probes, tally.cuts)
            longest = (1.0 + segment.bound) / segment.scale  # a decoded row's length is about 1
            row, probe, product = prepared.hits(segment.codes[rows], lowest, longest)
            if not len(row):
                continue
            if not allowed.all():
                keep = allowed[row]  # (1)
                row, probe, product = row[keep], probe[keep], product[keep]
            lost = segment.bounds[rows][row].astype(np.float64)
            middle = product * (segment.scale * probes.scales[probe])  # (2)
            error = lost + probes.bounds[probe] * (1.0 + lost) + ROUNDING
            tally.add(probe, block.base + block.start + row, middle - error, middle + error)
    finally:
        prepared.wipe()


def _lowest_products(
    block: Block, probes: EncodedProbes, cuts: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    """Return for each probe the product below which no row of the block reaches the cut (3).

    It takes the largest bound of the segment for all its rows, so that comparing all products is
    one comparison of whole numbers; what passes is then held against the cut by its own bound.
    """
    bound = block.segment.bound
    needed = cuts - (bound + probes.bounds * (1.0 + bound) + ROUNDING)
    lowest = np.floor(needed / (block.segment.scale * probes.scales))
    return lowest.clip(-LARGEST_PRODUCT, LARGEST_PRODUCT).astype(np.int32)
