"""Fitting the false match rate to non-mated scores, and beyond the last of them.

Where many scores lie above, the rate is counted, with the Clopper-Pearson interval. The last few
hundred are modelled: exceedances over a high threshold follow a generalised Pareto distribution
(Pickands, 1975), fitted by probability-weighted moments (Hosking and Wallis, Technometrics 29,
1987), which has an answer for every sample and so can be bootstrapped as it is.

The estimate never takes the tail to be shorter than exponential. A shorter one ends at a finite
score, above which it would call a false match impossible: the one thing no sample shows. The
interval is a bootstrap's, over the count above the threshold and the exceedances; its lower end may
follow the shorter tail, its upper end may not.

The interval is about chance in drawing the comparisons. That they are like the gallery's people and
the probes to come, and not a few probes compared with everybody, is for the operator to see to.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from agency_adapters.calibration.false_matches import LOWEST_RATE, FalseMatchRates
from agency_adapters.calibration.scorefile import Scores
from trust.errors import ProbegateError, Reason

CONFIDENCE: Final = 0.95
"""Two-sided confidence of every interval."""
MIN_TAIL: Final = 150
"""Fewest scores that the tail is fitted to."""
MAX_TAIL: Final = 2_000
"""Most scores that the tail is fitted to."""
TAIL_EXPONENT: Final = 0.5
"""The tail is the ``n ** 0.5`` highest of n scores: ever more of them, and ever farther out."""
RESAMPLES: Final = 1_000
"""How often the tail is fitted anew to a resample, for the interval."""
MAX_SHAPE: Final = 0.5
"""Largest shape of the tail, at which its variance is infinite; no similarity score comes near."""
COUNTED_KNOTS: Final = 160
"""Most knots where the rate is counted."""
MODEL_KNOTS: Final = 64
"""Knots where it is modelled."""
_SEED: Final = 19_751
_CHUNK: Final = 50

_Tail = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def clopper_pearson(
    hits: npt.NDArray[np.int64], trials: int | npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the exact interval of a share (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        hits: how many times it happened, int64, of any shape.
        trials: out of how many, at least 1.

    Returns:
        The lower and the upper end, of that shape, each 0 to 1.
    """
    tail = (1 - CONFIDENCE) / 2
    others = trials - hits
    low = np.where(hits == 0, 0.0, betaincinv(np.maximum(hits, 1), others + 1, tail))
    high = np.where(others == 0, 1.0, betaincinv(hits + 1, np.maximum(others, 1), 1 - tail))
    return low, high


def fit_false_matches(non_mated: Scores, highest: float) -> FalseMatchRates:
    """Fit the false match rate at every score.

    Args:
        non_mated: scores of different people, float64, shape ``(n,)``, more than ``MIN_TAIL``.
        highest: the highest score the rate is modelled to, such as the highest mated one.

    Raises:
        ProbegateError: ``CALIBRATION_REFUSED`` if the highest scores are too much alike to tell how
            the rate falls.
    """
    ordered = np.sort(non_mated)
    start, tail = _tail_of(ordered)
    counted = _counted_knots(ordered, start)
    hits = len(ordered) - np.searchsorted(ordered, counted, side="left")
    low, high = clopper_pearson(hits.astype(np.int64), len(ordered))
    end = max(highest, float(ordered[-1]) + float(np.mean(tail)))
    beyond = np.linspace(start, end, MODEL_KNOTS + 1)[1:]
    scale, shape = (one[0] for one in _pareto(tail[np.newaxis], least_shape=0.0))
    share = len(tail) / len(ordered)
    rates = np.concatenate([hits / len(ordered), share * _survival(beyond - start, scale, shape)])
    below, above = _resampled(tail, share, len(ordered), beyond - start)
    # Each of the two parts falls; where they meet, the wider interval is the honest one.
    lows = np.minimum.accumulate(np.concatenate([low, below]))
    highs = np.maximum.accumulate(np.concatenate([high, above])[::-1])[::-1]
    rates = np.clip(rates, LOWEST_RATE, 1.0)
    return FalseMatchRates(
        scores=tuple(np.concatenate([counted, beyond]).tolist()),
        rate=tuple(rates.tolist()),
        low=tuple(np.clip(np.minimum(lows, rates), LOWEST_RATE, 1.0).tolist()),
        high=tuple(np.clip(np.maximum(highs, rates), LOWEST_RATE, 1.0).tolist()),
        model_from=start,
    )


def _tail_of(ordered: Scores) -> tuple[float, Scores]:
    """Return where the tail starts and how far each score in it exceeds that."""
    wanted = int(np.clip(len(ordered) ** TAIL_EXPONENT, MIN_TAIL, MAX_TAIL))
    start = float(ordered[-wanted])
    tail = ordered[np.searchsorted(ordered, start, side="left") :] - start
    if len(ordered) <= MIN_TAIL or not tail[-1] > 0:
        raise ProbegateError(
            Reason.CALIBRATION_REFUSED, "the highest non-mated scores are too much alike"
        )
    return start, tail


def _counted_knots(ordered: Scores, start: float) -> Scores:
    """Return scores up to where the tail starts, evenly spread over the rate's logarithm."""
    above = len(ordered) - int(np.searchsorted(ordered, start, side="left"))
    ranks = np.geomspace(len(ordered), above, COUNTED_KNOTS)
    knots = np.unique(ordered[len(ordered) - ranks.round().astype(np.int64)])
    return np.asarray(knots[knots <= start], dtype=np.float64)


def _pareto(exceedances: npt.NDArray[np.float64], least_shape: float) -> _Tail:
    """Return scale and shape of the tail of each row, of shape ``(rows,)``.

    The shape is at least ``least_shape``. A row that is fitted so has the exponential's scale, its
    mean, corrected for the shape.
    """
    rows = np.sort(exceedances, axis=1)
    count = rows.shape[1]
    place = (np.arange(1, count + 1) - 0.35) / count  # Hosking and Wallis's plotting positions
    mean = np.maximum(rows.mean(axis=1), np.finfo(np.float64).tiny)
    weighted = ((1 - place) * rows).mean(axis=1)
    # Of shape x: mean = scale / (1 - x) and weighted = scale / (2 (2 - x)).
    free = 2 - mean / np.maximum(mean - 2 * weighted, np.finfo(np.float64).tiny)
    shape = np.clip(free, least_shape, MAX_SHAPE)
    return mean * (1 - shape), shape


def _survival(
    beyond: npt.NDArray[np.float64], scale: npt.NDArray[np.float64], shape: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how likely an exceedance is to reach ``beyond``; 0 past a finite tail's end."""
    level = np.abs(shape) < _NEARLY_EXPONENTIAL
    steady = np.where(level, 1.0, shape)
    growth = np.maximum(1 + steady * beyond / scale, np.finfo(np.float64).tiny)
    return np.where(level, np.exp(-beyond / scale), growth ** (-1 / steady))


_NEARLY_EXPONENTIAL: Final = 1e-9


def _resampled(
    tail: Scores, share: float, rows: int, beyond: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the interval's ends at each of ``beyond``, from resamples of the tail."""
    generator = np.random.default_rng(_SEED)
    shares = generator.binomial(rows, share, size=(RESAMPLES, 1)) / rows
    free = np.empty((RESAMPLES, len(beyond)))
    held = np.empty((RESAMPLES, len(beyond)))
    for start in range(0, RESAMPLES, _CHUNK):
        drawn = generator.choice(tail, size=(min(_CHUNK, RESAMPLES - start), len(tail)))
        block = slice(start, start + len(drawn))
        for rates, least_shape in ((free, -np.inf), (held, 0.0)):
            scale, shape = _pareto(drawn, least_shape)
            rates[block] = shares[block] * _survival(
                beyond, scale[:, np.newaxis], shape[:, np.newaxis]
            )
    outside = 50 * (1 - CONFIDENCE)
    return np.percentile(free, outside, axis=0), np.percentile(held, 100 - outside, axis=0)
