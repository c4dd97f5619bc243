"""Who stands out from their peers, by median and spread, which those who stand out do not move.

1. The distance is (value - centre) / spread, the spread being 1.4826 times the median absolute
   deviation, so that it is a standard deviation where values are normal; beyond 3.5 stands out
   (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993).
2. The spread is never less than chance alone makes: where most peers have the very same value, the
   median absolute deviation is nought, and any difference would stand out.
3. Counts are compared as 2 sqrt(count + 3/8), whose chance is 1 at any size (Anscombe, 1948).
4. Too few peers are not compared at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Final

DEVIATIONS: Final = 3.5
"""How far from the centre stands out, in spreads (1)."""
PEERS_MIN: Final = 8
"""Fewest peers that say what is usual (4)."""
_NORMAL: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Far:
    """One who stands out.

    Attributes:
        who: their name.
        value: their count or share.
        usual: the peers' median count or share.
        distance: how far, in spreads, rounded to a tenth.
    """

    who: str
    value: float
    usual: float
    distance: float


def far_counts(counts: Mapping[str, int], least: int) -> Iterator[Far]:
    """Yield whose count stands out above the others'.

    Args:
        counts: at least ``PEERS_MIN`` of them.
        least: a smaller count never stands out.
    """
    scaled = {who: _anscombe(count) for who, count in counts.items()}  # (3)
    centre = median(scaled.values())
    spread = max(_spread(scaled.values(), centre), 1.0)  # (2)
    for who, value in scaled.items():
        distance = (value - centre) / spread
        if counts[who] >= least and distance > DEVIATIONS:
            yield Far(who, counts[who], median(counts.values()), round(distance, 1))


def far_shares(parts: Mapping[str, tuple[int, int]], least: int) -> Iterator[Far]:
    """Yield whose share stands out above the others'.

    The centre is the median, or the others' rate taken together if that is more.

    Args:
        parts: how many of how many (at least 1), for at least ``PEERS_MIN``.
        least: fewer than this many never stand out.
    """
    shares = {who: some / of for who, (some, of) in parts.items()}
    usual = median(shares.values())
    measured = _spread(shares.values(), usual)
    all_some, all_of = (sum(part[at] for part in parts.values()) for at in (0, 1))
    for who, (some, of) in parts.items():
        centre = max(usual, (all_some - some) / max(all_of - of, 1))
        spread = max(measured, sqrt(max(centre, 1 / all_of) * (1 - min(centre, 0.99)) / of))  # (2)
        distance = (shares[who] - centre) / spread
        if some >= least and distance > DEVIATIONS:
            yield Far(who, round(shares[who], 3), round(centre, 3), round(distance, 1))


def _anscombe(count: int) -> float:
    return 2 * sqrt(count + 3 / 8)


def _spread(values: Iterable[float], centre: float) -> float:
    return _NORMAL * median(abs(value - centre) for value in values)
