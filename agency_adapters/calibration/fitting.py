"""Fitting a scale to scores of known truth, and finding where the data end.

Both classes weigh the same whatever their numbers, so that what is fitted is a likelihood ratio and
not a posterior of the calibration set. The NFI's ``lir`` is the oracle of the tests.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.special import expit

from agency_adapters.calibration.scales import LogisticScale, PavScale
from agency_adapters.calibration.scorefile import Mated, Scores
from trust.errors import ProbegateError, Reason

INVERSE_PENALTY: Final = 1.0
"""Inverse strength of the ridge penalty on the slope of standardised scores: what scikit-learn,
and with it ``lir``, takes if not told otherwise. It is what keeps the slope finite where mated and
non-mated scores do not overlap. ``lir`` leaves it to its user to standardise; on raw cosines the
same penalty would flatten every slope, and on a scale of thousands it would do nothing."""
ELUB_STEP: Final = 0.01
"""Step at which bounds are looked for, log10 LR."""
ELUB_EXTREME: Final = 9.0
"""What stands for an infinite log10 LR while bounds are looked for."""
_MAX_STEPS: Final = 200
_GRADIENT_TOLERANCE: Final = 1e-10


def fit_logistic(
    scores: Scores, mated: Mated, inverse_penalty: float = INVERSE_PENALTY
) -> LogisticScale:
    """Fit the logistic scale by Newton's method on standardised scores.

    What is minimised is ``slope^2 / 2 + inverse_penalty * sum(w * log loss)`` with the weights
    ``n / (2 n_class)``: ``lir.LogitCalibrator`` on standardised scores.

    Args:
        scores: float64, shape ``(n,)``.
        mated: bool, shape ``(n,)``, both kinds present.
        inverse_penalty: above 0; a large one leaves the likelihood alone.

    Raises:
        ProbegateError: ``CALIBRATION_REFUSED`` if the scores are all one, or higher scores are not
            better.
    """
    centre, spread = float(np.mean(scores)), float(np.std(scores))
    if spread == 0:
        raise _refused("every score is the same")
    standard = (scores - centre) / spread
    weights = inverse_penalty * _balanced(mated)
    at = np.zeros(2)  # intercept, slope
    cost = _cost(at, standard, mated, weights)
    for _ in range(_MAX_STEPS):
        gradient, curvature = _derivatives(at, standard, mated, weights)
        if float(np.max(np.abs(gradient))) <= _GRADIENT_TOLERANCE * len(scores):
            break
        step = np.linalg.solve(curvature, gradient)
        # The cost is convex, so a short enough step along Newton's always lowers it.
        length = 1.0
        while (lower := _cost(at - length * step, standard, mated, weights)) > cost and (
            length > np.finfo(np.float64).eps
        ):
            length /= 2
        at, cost = at - length * step, min(lower, cost)
    intercept, slope = float(at[0]), float(at[1])
    if not slope > 0:
        raise _refused("higher scores are not better")
    return LogisticScale(intercept=intercept - slope * centre / spread, slope=slope / spread)


def fit_pav(scores: Scores, mated: Mated) -> PavScale:
    """Fit the scale of pool-adjacent-violators (Zadrozny and Elkan, 2002).

    Args:
        scores: float64, shape ``(n,)``.
        mated: bool, shape ``(n,)``, both kinds present.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    weights = _balanced(mated)
    weight = np.bincount(place, weights)
    share = np.bincount(place, weights * mated) / weight
    posterior = np.clip(isotonic_regression(share, weights=weight).x, 0.0, 1.0)
    # Inside a level stretch nothing is said that its two ends do not say.
    needed = np.ones(len(distinct), dtype=np.bool_)
    needed[1:-1] = (posterior[1:-1] != posterior[:-2]) | (posterior[1:-1] != posterior[2:])
    return PavScale(
        scores=tuple(distinct[needed].tolist()), posteriors=tuple(posterior[needed].tolist())
    )


def elub(log10_lrs: Scores, mated: Mated) -> tuple[float, float]:
    """Return the empirical lower and upper bound of log10 LR.

    An LR is believed as long as deciding by it has, at a threshold of that very LR, an expected
    utility no worse than deciding without any: one misleading LR is added on each side, so that an
    LR beyond what so few comparisons could ever have contradicted is not believed. See Vergeer et
    al., "When to stop extrapolating?", Science & Justice 56 (2016) 482-491.

    Args:
        log10_lrs: float64, shape ``(n,)``; may be infinite.
        mated: bool, shape ``(n,)``, both kinds present.

    Returns:
        A lower bound at or below 0 and an upper bound at or above 0.
    """
    kept = np.clip(log10_lrs, -ELUB_EXTREME, ELUB_EXTREME)
    same, other = np.sort(10 ** kept[mated]), np.sort(10 ** kept[~mated])
    lowest = max(float(kept.min()), -float(np.log10(len(same) + 1)))
    highest = min(float(kept.max()), float(np.log10(len(other) + 1)))
    down = min(0, int(np.floor_divide(lowest, ELUB_STEP)))
    up = max(0, int(np.floor_divide(highest, ELUB_STEP)) + 1)
    at = np.linspace(down * ELUB_STEP, up * ELUB_STEP, up - down + 1)
    thresholds = 10**at
    # One more of either kind misleads: a mated pair below every threshold, a non-mated one above.
    missed = (np.searchsorted(same, thresholds, side="right") + 1) / (len(same) + 1)
    accepted = (len(other) - np.searchsorted(other, thresholds, side="right") + 1) / (
        len(other) + 1
    )
    with_lrs = missed + thresholds * accepted
    without = np.where(thresholds < 1, thresholds, 1.0)
    harmful = without / with_lrs < 1
    lower = np.max(at[harmful & (at <= 0)] + ELUB_STEP, initial=float(at[0]))
    upper = np.min(at[harmful & (at >= 0)] - ELUB_STEP, initial=float(at[-1]))
    return min(float(lower), 0.0), max(float(upper), 0.0)


def _balanced(mated: Mated) -> Scores:
    """Return weights of mean 1 that make both classes weigh the same."""
    count, same = len(mated), int(np.count_nonzero(mated))
    return np.where(mated, count / (2 * same), count / (2 * (count - same)))


def _cost(at: Scores, standard: Scores, mated: Mated, weights: Scores) -> float:
    toward = np.where(mated, 1.0, -1.0) * (at[0] + at[1] * standard)
    return float(at[1] ** 2 / 2 + weights @ np.logaddexp(0.0, -toward))


def _derivatives(
    at: Scores, standard: Scores, mated: Mated, weights: Scores
) -> tuple[Scores, npt.NDArray[np.float64]]:
    posterior = expit(at[0] + at[1] * standard)
    off = weights * (posterior - mated)
    gradient = np.array([off.sum(), off @ standard + at[1]])
    curved = weights * posterior * (1 - posterior)
    mixed = curved @ standard
    # The tiny addition keeps the step defined where every posterior is 0 or 1 to machine precision.
    curvature = np.array(
        [
            [curved.sum() + np.finfo(np.float64).tiny, mixed],
            [mixed, curved @ standard**2 + 1.0],
        ]
    )
    return gradient, curvature


def _refused(why: str) -> ProbegateError:
    return ProbegateError(Reason.CALIBRATION_REFUSED, why)
