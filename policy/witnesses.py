"""Requests of a box that show why it is denied: few clauses failed, and by little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from policy.boxes import Box, bits
from policy.cells import Dimension
from policy.clauses import CompiledClause
from policy.regions import Choice, Space, plainest_cell


def choices(space: Space, box: Box, denying: Sequence[CompiledClause]) -> Iterator[Choice]:
    """Yield requests of a box that fail ``denying`` for different reasons, the simplest first.

    The first fails as few of them as it can, by values next to those that would not; each other
    one differs from it in one fact that it cannot help failing, so as to fail other clauses.
    """
    # A clause that reads nothing of the request fails whatever is chosen.
    permits = [space.permits(clause) for clause in denying if space.read_by(clause)]
    first: list[int] = []
    others: list[tuple[int, int]] = []
    for index, (dimension, mask) in enumerate(zip(space.dimensions, box, strict=True)):
        allowed = [permit[index] for permit in permits]
        unhindered = (1 << len(dimension.cells)) - 1
        for some in allowed:
            unhindered &= some
        if mask & unhindered:
            first.append(plainest_cell(dimension, mask & unhindered))
            continue
        failing = {number: _failed(allowed, number) for number in bits(mask)}
        ranked = sorted(failing, key=_order(dimension, failing, unhindered))
        first.append(ranked[0])
        by_reason = {failing[number]: number for number in reversed(ranked)}
        others += [(index, number) for number in by_reason.values() if number != ranked[0]]
    yield tuple(first)
    for index, number in others:
        yield (*first[:index], number, *first[index + 1 :])


def _order(
    dimension: Dimension, failing: Mapping[int, int], unhindered: int
) -> Callable[[int], tuple[int, ...]]:
    """Return what sorts cells that fail: few clauses first, and next to what would not fail."""
    cells, good = dimension.cells, tuple(bits(unhindered))

    def order(number: int) -> tuple[int, ...]:
        away = min((abs(number - other) for other in good), default=0)
        return failing[number].bit_count(), cells[number].missing, away, cells[number].rank

    return order


def _failed(allowed: Sequence[int], number: int) -> int:
    """Return which of some clauses, a bit each, a cell does not satisfy."""
    return sum(1 << place for place, mask in enumerate(allowed) if not mask >> number & 1)
