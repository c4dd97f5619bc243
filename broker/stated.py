"""What an agency signs of itself, as far as the broker goes by it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, model_validator

from trust.messages import ExpectedFalse, MemberId, Model

MAX_BANDS: Final = 16
"""Most quality bands of one statement."""
MAX_THRESHOLDS: Final = 256
"""Most thresholds of one band."""
_Quality = Annotated[int, Field(ge=0, le=100)]


class ExpectedAt(Model):
    """What is expected at one threshold, in the matcher's scale."""

    score: float
    expected_false: ExpectedFalse


class QualityBand(Model):
    """What is expected for probes of one quality band, thresholds ascending."""

    quality_from: _Quality
    quality_to: _Quality
    at: Annotated[tuple[ExpectedAt, ...], Field(max_length=MAX_THRESHOLDS)]

    @model_validator(mode="after")
    def _coherent(self) -> QualityBand:
        scores = [one.score for one in self.at]
        if self.quality_from > self.quality_to:
            raise ValueError("quality_from")
        if scores != sorted(set(scores)):
            raise ValueError("score")
        return self


class StatedCapabilities(Model):
    """What an agency signs of itself, as far as the broker goes by it."""

    agency: MemberId
    stated_at: AwareDatetime
    calibration_expires_at: AwareDatetime | None = None
    bands: Annotated[tuple[QualityBand, ...], Field(max_length=MAX_BANDS)] = ()

    @model_validator(mode="after")
    def _coherent(self) -> StatedCapabilities:
        bands = sorted(self.bands, key=lambda band: band.quality_from)
        if any(one.quality_to >= two.quality_from for one, two in pairwise(bands)):
            raise ValueError("quality_from")
        return self
