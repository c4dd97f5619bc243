"""The false match rate at a score, and how many false candidates that makes in a gallery.

1. The rate never rises with the score and is never 0: no amount of data shows that a stranger
   cannot score as high.
2. Between two knots it is interpolated on a log scale; above the last knot it stays what it is
   there, which can only overstate it.
3. A number of false candidates leaves the agency with two significant digits, its interval rounded
   outwards, and so does the number of records it is made from: how many records a gallery holds is
   told to others only coarsely.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise
from typing import Annotated, Final

import numpy as np
from pydantic import Field, model_validator

from trust.messages import ExpectedFalse, Model

LOWEST_RATE: Final = 1e-12
"""No false match rate is stated below this (1)."""
MAX_RATE_KNOTS: Final = 1_024
"""Most knots of one table of rates."""
SIGNIFICANT_DIGITS: Final = 2
"""How many digits a number of false candidates is told with (3)."""

Rate = Annotated[float, Field(ge=LOWEST_RATE, le=1)]
_Rates = Annotated[tuple[Rate, ...], Field(min_length=2, max_length=MAX_RATE_KNOTS)]


@dataclass(frozen=True, slots=True)
class RateAtScore:
    """The share of non-mated comparisons that reach a score, with its 95 % interval."""

    rate: float
    low: float
    high: float


class FalseMatchRates(Model):
    """The false match rate as a function of the score, knot by knot."""

    scores: Annotated[tuple[float, ...], Field(min_length=2, max_length=MAX_RATE_KNOTS)]
    """The knots, strictly ascending."""
    rate: _Rates
    low: _Rates
    """The lower end of the 95 % interval."""
    high: _Rates
    """The upper end of the 95 % interval."""
    model_from: float
    """The score from which the rate is a model's and no longer a count's."""

    @model_validator(mode="after")
    def _coherent(self) -> FalseMatchRates:
        if any(later <= earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("scores")
        for name in ("rate", "low", "high"):
            column = getattr(self, name)
            if len(column) != len(self.scores) or any(b > a for a, b in pairwise(column)):  # (1)
                raise ValueError(name)
        whole = zip(self.low, self.rate, self.high, strict=True)
        if any(not low <= rate <= high for low, rate, high in whole):
            raise ValueError("rate")
        return self

    def at(self, score: float) -> RateAtScore:
        """Return the rate at a score (1) (2)."""
        rate, low, high = (
            float(np.exp(np.interp(score, self.scores, np.log(column))))
            for column in (self.rate, self.low, self.high)
        )
        return RateAtScore(rate, min(low, rate), max(high, rate))

    def expected_false(self, score: float, records: int) -> ExpectedFalse:
        """Return how many of so many strangers are expected at or above a score (3).

        Args:
            score: in the matcher's scale.
            records: how many records are searched, at least 0.
        """
        at = self.at(score)
        return ExpectedFalse(
            expected=_rounded(at.rate * _rounded(records, ROUND_HALF_EVEN), ROUND_HALF_EVEN),
            low=_rounded(at.low * _rounded(records, ROUND_FLOOR), ROUND_FLOOR),
            high=_rounded(at.high * _rounded(records, ROUND_CEILING), ROUND_CEILING),
        )


def _rounded(number: float, rounding: str) -> float:
    """Return a number with ``SIGNIFICANT_DIGITS`` digits."""
    context = Context(prec=SIGNIFICANT_DIGITS, rounding=rounding)
    return float(context.create_decimal(Decimal(number)))
