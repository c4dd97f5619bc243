"""How good a scale's likelihood ratios are: Cllr, and what of it is the scale's own fault.

``Cllr = 1/2 [mean over mated of log2(1 + 1/LR) + mean over non-mated of log2(1 + LR)]``: 0 is
perfect, 1 says nothing at all (Brümmer and du Preez, Computer Speech and Language 20, 2006).
Cllr-min is what is left after the best monotone recalibration, and measures how well the matcher
tells people apart; Cllr-cal, the difference, is what the calibration loses.

A PAV scale is always perfect on the scores it was fitted to, so scales are also judged on scores
they have not seen: five folds, each judged by what was fitted on the other four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.calibration.artefact import Cost
from agency_adapters.calibration.fitting import fit_pav
from agency_adapters.calibration.scorefile import Mated, Scores

FOLDS: Final = 5
"""Into how many parts the scores are split to judge a scale on scores it has not seen."""
_FOLD_SEED: Final = 20_161

Fit = Callable[[Scores, Mated], Callable[[Scores], Scores]]
"""Fits scores of known truth and returns what turns scores into log10 LRs."""


def cllr(log10_lrs: Scores, mated: Mated) -> float:
    """Return Cllr; infinite if an LR of 0 or infinity misleads.

    Args:
        log10_lrs: float64, shape ``(n,)``; may be infinite.
        mated: bool, shape ``(n,)``, both kinds present.
    """
    ln_lrs = log10_lrs * np.log(10)
    same = np.logaddexp(0.0, -ln_lrs[mated]).mean()
    other = np.logaddexp(0.0, ln_lrs[~mated]).mean()
    return float((same + other) / (2 * np.log(2)))


def cllr_min(log10_lrs: Scores, mated: Mated) -> float:
    """Return Cllr after the best monotone recalibration on these very LRs."""
    finite = np.clip(log10_lrs, np.finfo(np.float64).min, np.finfo(np.float64).max)
    return cllr(fit_pav(finite, mated).log10_lr(finite), mated)


def cost(log10_lrs: Scores, mated: Mated) -> Cost:
    """Return Cllr and its parts."""
    whole, least = cllr(log10_lrs, mated), cllr_min(log10_lrs, mated)
    return Cost(cllr=whole, cllr_min=least, cllr_cal=whole - least)


def held_out(scores: Scores, mated: Mated, fit: Fit) -> Scores:
    """Return each score's log10 LR by a scale that was fitted without it.

    Args:
        scores: float64, shape ``(n,)``.
        mated: bool, shape ``(n,)``, at least ``FOLDS`` of either kind.
        fit: fits a scale.
    """
    log10_lrs = np.empty(len(scores))
    fold = _folds(mated)
    for one in range(FOLDS):
        unseen = fold == one
        log10_lrs[unseen] = fit(scores[~unseen], mated[~unseen])(scores[unseen])
    return log10_lrs


def _folds(mated: Mated) -> npt.NDArray[np.int64]:
    """Return each row's fold; every fold has its share of either kind."""
    generator = np.random.default_rng(_FOLD_SEED)
    fold = np.empty(len(mated), dtype=np.int64)
    for kind in (mated, ~mated):
        rows = generator.permutation(np.flatnonzero(kind))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold
