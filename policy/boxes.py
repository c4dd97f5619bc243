"""Products of sets of cells, and what is left of them when others are taken away.

A box is a tuple of integers, one for each dimension, with a bit for each cell that is in it. A box
with an integer of none is empty; of any other, each choice of one cell in each dimension is in it.
Taking a box away leaves disjoint boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

MAX_BOXES: Final = 4_000
"""Most boxes that a subtraction may leave; what is over is dropped, and said to be."""

Box = tuple[int, ...]


def is_empty(box: Box) -> bool:
    """Whether no request is in it."""
    return not all(box)


def meet(one: Box, other: Box) -> Box:
    """Return what is in both boxes."""
    return tuple([a & b for a, b in zip(one, other, strict=True)])


def minus(box: Box, other: Box) -> list[Box]:
    """Return disjoint boxes that hold what is in ``box`` and not in ``other``."""
    common = meet(box, other)
    if is_empty(common):
        return [] if is_empty(box) else [box]
    found = []
    for index, (mine, shared) in enumerate(zip(box, common, strict=True)):
        if mine & ~shared:
            found.append((*common[:index], mine & ~shared, *box[index + 1 :]))
    return found


def minus_all(boxes: Iterable[Box], others: Iterable[Box]) -> tuple[list[Box], bool]:
    """Return what is in ``boxes`` and in none of ``others``, and whether that is all of it."""
    left, complete = [box for box in boxes if not is_empty(box)], True
    for other in others:
        left = [piece for box in left for piece in minus(box, other)]
        if len(left) > MAX_BOXES:
            left, complete = left[:MAX_BOXES], False
    return left, complete


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
