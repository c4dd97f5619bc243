"""The report of a calibration: everything an operator or an inspector wants to see, as JSON values.

The signed artefact has what is needed to apply the calibration; the report has the error rates and
the rows that were left out as well. It is not signed and does not leave the agency by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agency_adapters.calibration.artefact import Calibration
from agency_adapters.calibration.errors_at import Disparity, ErrorsAt, disparities, errors_at
from agency_adapters.calibration.scorefile import ScoreSet
from agency_adapters.calibration.tail import CONFIDENCE


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What ``probegate adapter calibrate`` reports.

    Attributes:
        calibration: what was fitted.
        data: what it was fitted to.
        errors: error rates at the operational thresholds, everybody's and each group's.
        disparities: how unlike the groups are.
        outside_bands: rows whose quality no band holds.
    """

    calibration: Calibration
    data: ScoreSet
    errors: tuple[ErrorsAt, ...]
    disparities: tuple[Disparity, ...]
    outside_bands: int

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "calibration": self.calibration.model_dump(mode="json"),
            "confidence": CONFIDENCE,
            "rejected_rows": [dataclasses.asdict(one) for one in self.data.rejected],
            "rows_outside_bands": self.outside_bands,
            "errors_at_thresholds": [dataclasses.asdict(one) for one in self.errors],
            "disparities": [dataclasses.asdict(one) for one in self.disparities],
        }


def report_on(
    calibration: Calibration, data: ScoreSet, thresholds: Sequence[float]
) -> CalibrationReport:
    """Return the report of a calibration.

    Args:
        calibration: what was fitted.
        data: what it was fitted to.
        thresholds: the operational thresholds, in the matcher's scale.

    Raises:
        ProbegateError: ``SCORES_INVALID`` for too many groups.
    """
    errors = errors_at(data, sorted(set(thresholds)))
    used = sum(band.mated + band.non_mated for band in calibration.bands)
    return CalibrationReport(calibration, data, errors, disparities(errors), data.rows - used)
