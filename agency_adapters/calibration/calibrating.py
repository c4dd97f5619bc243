"""From scores of known truth to a calibration, or a refusal.

A calibration that is worse than none must never be signed. Refused is:

1. too few scores of either kind in a band;
2. scores that do not rise with likeness;
3. a band whose LRs say too little: Cllr near or above 1, on the scores themselves or held out, as
   when truth and scores are shuffled;
4. a band whose LRs are far from what the same scores could say: Cllr-cal, held out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Self

import numpy as np
from pydantic import ValidationError

from agency_adapters.calibration.artefact import MAX_BANDS, BandCalibration, Calibration
from agency_adapters.calibration.evaluation import cost, held_out
from agency_adapters.calibration.fitting import elub, fit_logistic, fit_pav
from agency_adapters.calibration.scales import LogisticScale, PavScale
from agency_adapters.calibration.scorefile import (
    HIGHEST_QUALITY,
    LOWEST_QUALITY,
    Mated,
    Scores,
    ScoreSet,
)
from agency_adapters.calibration.tail import fit_false_matches
from trust.errors import ProbegateError, Reason

MIN_MATED: Final = 50
"""Fewest comparisons of one person with themselves that a band is fitted to."""
MIN_NON_MATED: Final = 1_000
"""Fewest comparisons of different people that a band is fitted to."""
MAX_CLLR: Final = 0.9
"""Highest Cllr that is signed; at 1 an LR says nothing, and chance alone can show a little less."""
MAX_CLLR_CAL: Final = 0.1
"""Highest held-out Cllr-cal that is signed: a tenth of all that an LR can say."""
_BAND_FORM: Final = re.compile(r"([0-9]{1,3})-([0-9]{1,3})")

Method = Literal["logistic", "pav"]


@dataclass(frozen=True, slots=True, order=True)
class QualityBand:
    """A band of probe quality, both ends included, 0 to 100."""

    lowest: int
    highest: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a band such as ``45-69``.

        Raises:
            ProbegateError: ``USAGE``.
        """
        found = _BAND_FORM.fullmatch(text)
        ends = tuple(map(int, found.groups())) if found else (1, 0)
        if not LOWEST_QUALITY <= ends[0] <= ends[1] <= HIGHEST_QUALITY:
            raise ProbegateError(Reason.USAGE, "a band is like 45-69", option="band")
        return cls(*ends)

    def __str__(self) -> str:
        return f"{self.lowest}-{self.highest}"


WHOLE_RANGE: Final = QualityBand(LOWEST_QUALITY, HIGHEST_QUALITY)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is calibrated.

    Attributes:
        name: what the calibration is to be called.
        agency: whose it is.
        matcher: the matcher's name and version.
        kind: the kind of gallery.
        model: the template model's id.
    """

    name: str
    agency: str
    matcher: str
    kind: str
    model: str


def calibrate(
    data: ScoreSet,
    subject: Subject,
    *,
    method: Method,
    bands: Sequence[QualityBand],
    fitted_at: datetime,
    lifetime: timedelta,
) -> Calibration:
    """Fit a calibration; it is not yet signed.

    Args:
        data: scores of known truth.
        subject: what is calibrated.
        method: which scale.
        bands: the bands of probe quality, none overlapping another.
        fitted_at: now.
        lifetime: how long it may be used.

    Raises:
        ProbegateError: ``CALIBRATION_REFUSED`` by the module's rules; ``SCORES_INVALID`` if the
            bands ask for a quality that the file does not have; ``CONFIG_INVALID`` with the field.
    """
    fitted = tuple(
        _band(one, *_of_band(data, one, alone=len(bands) == 1), method)
        for one in sorted(bands[: MAX_BANDS + 1])
    )
    try:
        return Calibration(
            name=subject.name,
            agency=subject.agency,
            matcher=subject.matcher,
            kind=subject.kind,
            model=subject.model,
            method=method,
            fitted_at=fitted_at,
            expires_at=fitted_at + lifetime,
            scores_sha256=data.sha256,
            rows=data.rows + len(data.rejected),
            rejected_rows=len(data.rejected),
            bands=fitted,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "calibration"
        raise ProbegateError(Reason.CONFIG_INVALID, first["msg"], setting=where) from None


def in_band(data: ScoreSet, band: QualityBand) -> Mated:
    """Return which rows a band is fitted to; without qualities, all of them."""
    if data.quality is None:
        return np.ones(data.rows, dtype=np.bool_)
    return np.asarray((data.quality >= band.lowest) & (data.quality <= band.highest))


def _of_band(data: ScoreSet, band: QualityBand, *, alone: bool) -> tuple[Scores, Mated]:
    if data.quality is None and not alone:
        raise ProbegateError(Reason.SCORES_INVALID, "several bands need a column", field="quality")
    rows = in_band(data, band)
    return data.scores[rows], data.mated[rows]


def _band(band: QualityBand, scores: Scores, mated: Mated, method: Method) -> BandCalibration:
    same, other = int(np.count_nonzero(mated)), int(np.count_nonzero(~mated))
    if same < MIN_MATED or other < MIN_NON_MATED:  # (1)
        raise _refused(
            band,
            f"{same} mated and {other} non-mated scores; "
            f"at least {MIN_MATED} and {MIN_NON_MATED} are needed",
        )
    bounded = _bounded(scores, mated, method)  # (2)
    judged = cost(bounded(scores), mated)
    unseen = cost(held_out(scores, mated, lambda s, m: _bounded(s, m, method)), mated)
    for where, one in (("", judged), (" held out", unseen)):
        if not one.cllr < MAX_CLLR:  # (3)
            raise _refused(band, f"Cllr{where} is {one.cllr:.3f}; it must be below {MAX_CLLR}")
    if not unseen.cllr_cal <= MAX_CLLR_CAL:  # (4)
        raise _refused(
            band, f"Cllr-cal held out is {unseen.cllr_cal:.3f}; at most {MAX_CLLR_CAL} is signed"
        )
    return BandCalibration(
        quality_from=band.lowest,
        quality_to=band.highest,
        scale=bounded.scale,
        lowest_log10_lr=bounded.lowest,
        highest_log10_lr=bounded.highest,
        false_matches=fit_false_matches(scores[~mated], float(scores[mated].max())),
        mated=same,
        non_mated=other,
        fitted=judged,
        held_out=unseen,
    )


@dataclass(frozen=True, slots=True)
class _Bounded:
    """A fitted scale with its bounds."""

    scale: LogisticScale | PavScale
    lowest: float
    highest: float

    def __call__(self, scores: Scores) -> Scores:
        return np.clip(self.scale.log10_lr(scores), self.lowest, self.highest)


_FITS: Final[dict[Method, Callable[[Scores, Mated], LogisticScale | PavScale]]] = {
    "logistic": fit_logistic,
    "pav": fit_pav,
}


def _bounded(scores: Scores, mated: Mated, method: Method) -> _Bounded:
    scale = _FITS[method](scores, mated)
    return _Bounded(scale, *elub(scale.log10_lr(scores), mated))


def _refused(band: QualityBand, why: str) -> ProbegateError:
    return ProbegateError(Reason.CALIBRATION_REFUSED, why, band=str(band))
