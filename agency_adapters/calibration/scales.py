"""From a score to log10 LR: the two scales a calibration may have.

Both rise with the score. Neither is bounded here: how strong an LR the data support is the band's
matter (``artefact``).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from agency_adapters.calibration.scorefile import Scores
from trust.messages import Model

MAX_KNOTS: Final = 20_000
"""Most steps of one PAV scale; more than two million scores rarely make."""

Probability = Annotated[float, Field(ge=0, le=1)]


class LogisticScale(Model):
    """``log10 LR = (intercept + slope * score) / ln 10``."""

    method: Literal["logistic"] = "logistic"
    intercept: float
    """Natural log odds at score 0, with both classes weighing the same."""
    slope: Annotated[float, Field(gt=0)]
    """Natural log odds for each unit of score."""

    def log10_lr(self, scores: Scores) -> Scores:
        """Return log10 LR for scores of any shape."""
        return (self.intercept + self.slope * scores) / math.log(10)


class PavScale(Model):
    """Pool-adjacent-violators: the posterior at even odds, linear between its knots.

    Below the first knot and above the last, the posterior stays what it is there. Where it is 0 or
    1 the log10 LR is infinite, until the band bounds it.
    """

    method: Literal["pav"] = "pav"
    scores: Annotated[tuple[float, ...], Field(min_length=1, max_length=MAX_KNOTS)]
    """The knots, strictly ascending."""
    posteriors: Annotated[tuple[Probability, ...], Field(min_length=1, max_length=MAX_KNOTS)]
    """The posterior of "mated" at each knot, never falling, with both classes weighing the same."""

    @model_validator(mode="after")
    def _coherent(self) -> PavScale:
        if len(self.scores) != len(self.posteriors):
            raise ValueError("posteriors")
        if any(later <= earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("scores")
        if any(later < earlier for earlier, later in pairwise(self.posteriors)):
            raise ValueError("posteriors")
        return self

    def log10_lr(self, scores: Scores) -> Scores:
        """Return log10 LR for scores of any shape; infinite where a posterior is 0 or 1."""
        posterior = np.interp(scores, self.scores, self.posteriors)
        return log10_odds(np.asarray(posterior, dtype=np.float64))


Scale = Annotated[LogisticScale | PavScale, Field(discriminator="method")]


def log10_odds(posterior: Scores) -> Scores:
    """Return log10 of ``p / (1 - p)``; infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log10(posterior) - np.log10(1 - posterior), dtype=np.float64)
