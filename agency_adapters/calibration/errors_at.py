"""Error rates at operational thresholds, and by group where the calibration set names groups.

A group is a label that whoever made the calibration set wrote beside a comparison. It is counted
here, in a report to the operator, and nowhere else: the signed calibration does not hold it, so the
adapter cannot know, infer, filter on or return anybody's group.

A false match rate that differs between groups means that innocent people of one are put before an
officer more often than those of another (Equality Act 2010 s.149). The two summary ratios are those
of ISO/IEC 19795-10: the highest over the lowest, and the highest over the geometric mean; there is
none where a group has no error at all, and its interval says how little that may mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agency_adapters.calibration.scorefile import Mated, ScoreSet
from agency_adapters.calibration.tail import clopper_pearson
from trust.errors import ProbegateError, Reason

MAX_GROUPS: Final = 64
"""Most groups of one calibration set."""
EVERYBODY: Final = ""
"""The label of the line that counts every row."""


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """A share of comparisons with its 95 % interval; nothing is known of none."""

    errors: int
    comparisons: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ErrorsAt:
    """The error rates of one group, or of everybody, at one threshold.

    Attributes:
        threshold: scores at or above it are taken for one person's.
        group: the label, or ``EVERYBODY``.
        fmr: of different people taken for one.
        fnmr: of one person not recognised.
    """

    threshold: float
    group: str
    fmr: ErrorRate
    fnmr: ErrorRate


@dataclass(frozen=True, slots=True)
class Disparity:
    """How unlike the groups' rates are at one threshold; None where a group's rate is 0 or unknown.

    Attributes:
        threshold: the threshold.
        error: ``fmr`` or ``fnmr``.
        highest_to_lowest: at least 1.
        highest_to_mean: the highest over the geometric mean, at least 1.
    """

    threshold: float
    error: str
    highest_to_lowest: float | None
    highest_to_mean: float | None


def errors_at(data: ScoreSet, thresholds: Iterable[float]) -> tuple[ErrorsAt, ...]:
    """Return the error rates at each threshold: everybody's, then each group's by its label.

    Raises:
        ProbegateError: ``SCORES_INVALID`` for more groups than ``MAX_GROUPS``.
    """
    rows: dict[str, Mated] = {EVERYBODY: np.ones(data.rows, dtype=np.bool_)}
    if data.group is not None:
        labels = [str(label) for label in np.unique(data.group) if label != EVERYBODY]
        if len(labels) > MAX_GROUPS:
            raise ProbegateError(
                Reason.SCORES_INVALID, f"{len(labels)} groups, at most {MAX_GROUPS}", field="group"
            )
        rows |= {label: data.group == label for label in labels}
    return tuple(
        ErrorsAt(
            threshold,
            label,
            fmr=_rate(data.scores[mine & ~data.mated] >= threshold),
            fnmr=_rate(data.scores[mine & data.mated] < threshold),
        )
        for threshold in thresholds
        for label, mine in rows.items()
    )


def disparities(found: Sequence[ErrorsAt]) -> tuple[Disparity, ...]:
    """Return how unlike the groups are at each threshold; nothing for fewer than two groups."""
    result = []
    for threshold in dict.fromkeys(one.threshold for one in found):
        groups = [one for one in found if one.threshold == threshold and one.group != EVERYBODY]
        if len(groups) < 2:  # noqa: PLR2004 - a ratio is between two
            continue
        for error in ("fmr", "fnmr"):
            rates = [getattr(one, error).rate for one in groups]
            if not all(rates):
                result.append(Disparity(threshold, error, None, None))
                continue
            mean = float(np.exp(np.mean(np.log(rates))))
            result.append(Disparity(threshold, error, max(rates) / min(rates), max(rates) / mean))
    return tuple(result)


def _rate(wrong: Mated) -> ErrorRate:
    errors, comparisons = int(np.count_nonzero(wrong)), len(wrong)
    if comparisons == 0:
        return ErrorRate(0, 0, None, 0.0, 1.0)
    low, high = clopper_pearson(np.asarray(errors), comparisons)
    return ErrorRate(errors, comparisons, errors / comparisons, float(low), float(high))
