"""What an agency tells in advance: how many false candidates a search there is expected to yield.

The figure is for the whole gallery: how many of its records a search may see is decided on its day.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from agency_adapters.calibration.false_matches import FalseMatchRates
from agency_adapters.calibration.signing import TrustedCalibration
from agency_adapters.models import ExpectedForQuality

THRESHOLDS: Final = 16
"""Most thresholds that are described for one band."""
LOOSEST_RATE: Final = 1e-2
"""False match rate at the lowest threshold described; nobody searches below it."""
_DECIMALS: Final = 4


def expected_by_quality(
    trusted: TrustedCalibration, records: int
) -> tuple[ExpectedForQuality, ...]:
    """Return, for each quality band, the expected numbers on a grid of thresholds.

    Args:
        trusted: the calibration in use.
        records: how many records the gallery holds; it is told with two significant digits.
    """
    return tuple(
        ExpectedForQuality(
            band.quality_from,
            band.quality_to,
            tuple(
                (score, band.false_matches.expected_false(score, records))
                for score in thresholds(band.false_matches)
            ),
        )
        for band in trusted.calibration.bands
    )


def thresholds(table: FalseMatchRates) -> tuple[float, ...]:
    """Return scores, ascending, from where false matches become rare to the highest known."""
    rare = np.flatnonzero(np.asarray(table.rate) <= LOOSEST_RATE)
    first = table.scores[int(rare[0])] if len(rare) else table.scores[-1]
    grid = np.linspace(first, table.scores[-1], THRESHOLDS)
    return tuple(sorted({round(float(score), _DECIMALS) for score in grid}))
