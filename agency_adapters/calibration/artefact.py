"""The calibration as an agency signs it, and what it says of one candidate.

It holds what is needed to apply it and to judge it, and nothing of the people it was fitted to: no
score of theirs but those at the knots, no group, no record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from agency_adapters.calibration.false_matches import FalseMatchRates
from agency_adapters.calibration.scales import Scale
from agency_adapters.calibration.scorefile import HIGHEST_QUALITY, LOWEST_QUALITY, Scores
from trust import strict_json
from trust.messages import MAX_LOG10_LR, Code, ExpectedFalse, MemberId, Model

MAX_BANDS: Final = 16
"""Most quality bands of one calibration."""
MAX_LIFETIME: Final = timedelta(days=3 * 366)
"""Longest time between a calibration's fitting and its expiry."""

Quality = Annotated[int, Field(ge=LOWEST_QUALITY, le=HIGHEST_QUALITY)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ /-]{0,127}$")]
Matcher = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e][\x20-\x7e]{0,127}$")]
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Cost(Model):
    """Cllr and its parts; Cllr-cal may lie a rounding error below 0."""

    cllr: Annotated[float, Field(ge=0)]
    cllr_min: Annotated[float, Field(ge=0)]
    cllr_cal: float


class BandCalibration(Model):
    """What scores are worth for probes of one band of quality, both ends included."""

    quality_from: Quality
    quality_to: Quality
    scale: Scale
    lowest_log10_lr: Annotated[float, Field(ge=-MAX_LOG10_LR, le=0)]
    """Where the data end: no LR below this is believed."""
    highest_log10_lr: Annotated[float, Field(ge=0, le=MAX_LOG10_LR)]
    """Where the data end: no LR above this is believed."""
    false_matches: FalseMatchRates
    mated: Annotated[int, Field(ge=1)]
    """Comparisons of one person with themselves it was fitted to."""
    non_mated: Annotated[int, Field(ge=1)]
    """Comparisons of different people it was fitted to."""
    fitted: Cost
    """Judged on the very scores it was fitted to."""
    held_out: Cost
    """Judged on scores that it had not seen."""

    @model_validator(mode="after")
    def _coherent(self) -> BandCalibration:
        if self.quality_from > self.quality_to:
            raise ValueError("quality_to")
        return self

    def holds(self, quality: int) -> bool:
        """Say whether a probe of this quality is of this band."""
        return self.quality_from <= quality <= self.quality_to

    def log10_lrs(self, scores: Scores) -> Scores:
        """Return log10 LR, bounded where the data end, for scores of any shape."""
        bounded = np.clip(self.scale.log10_lr(scores), self.lowest_log10_lr, self.highest_log10_lr)
        return np.asarray(bounded, dtype=np.float64)

    def log10_lr(self, score: float) -> float:
        """Return one score's log10 LR, bounded where the data end."""
        return float(self.log10_lrs(np.asarray(score, dtype=np.float64)))


class Calibration(Model):
    """What one matcher's scores are worth on one agency's gallery; signed by that agency."""

    format: Literal["probegate-calibration/1"] = "probegate-calibration/1"
    name: Name
    agency: MemberId
    matcher: Matcher
    """The matcher's name and version, as reports state it."""
    kind: Code
    """The kind of gallery (``agency_adapters.registry``)."""
    model: Code
    """The template model's id."""
    method: Literal["logistic", "pav"]
    fitted_at: AwareDatetime
    expires_at: AwareDatetime
    scores_sha256: Sha256Hex
    """Of the score file it was fitted to."""
    rows: Annotated[int, Field(ge=1)]
    """Rows of that file that were read."""
    rejected_rows: Annotated[int, Field(ge=0)]
    """Rows of that file that made no sense."""
    bands: Annotated[tuple[BandCalibration, ...], Field(min_length=1, max_length=MAX_BANDS)]
    """By quality, ascending, none overlapping another."""

    @model_validator(mode="after")
    def _coherent(self) -> Calibration:
        if not timedelta() < self.expires_at - self.fitted_at <= MAX_LIFETIME:
            raise ValueError("expires_at")
        if any(later.quality_from <= one.quality_to for one, later in pairwise(self.bands)):
            raise ValueError("bands")
        if any(band.scale.method != self.method for band in self.bands):
            raise ValueError("method")
        return self

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes that are signed."""
        return strict_json.canonical(self.model_dump(mode="json"))

    def band(self, quality: int) -> BandCalibration | None:
        """Return the band that a probe of this quality is of, or None."""
        return next((band for band in self.bands if band.holds(quality)), None)


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """The band of a trusted calibration that applies to one search.

    Attributes:
        name: the calibration's name.
        sha256: the digest of its signed payload, 32 bytes.
        expires_at: when it ends.
        band: the band of the probe's quality.
    """

    name: str
    sha256: bytes
    expires_at: datetime
    band: BandCalibration

    def log10_lr(self, score: float) -> float:
        """Return one score's log10 LR, bounded where the data end."""
        return self.band.log10_lr(score)

    def expected_false(self, score: float, records: int) -> ExpectedFalse:
        """Return how many of ``records`` strangers are expected to score as high."""
        return self.band.false_matches.expected_false(score, records)
