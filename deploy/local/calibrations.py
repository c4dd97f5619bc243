"""Calibrates the agencies of a local federation, each on comparisons with its own gallery.

People whom no gallery holds are the probes: whoever they are compared with there is another.
Mated comparisons are with captures of the same people such as the gallery holds. Some agencies are
left without a calibration, as in life: their scores stay in lanes of their own.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agency_adapters.calibration.calibrating import QualityBand, Subject, calibrate
from agency_adapters.calibration.scorefile import read_scores
from agency_adapters.calibration.signing import sign_calibration
from agency_adapters.galleries.matching import MATCHER, paired_scores
from agency_adapters.galleries.store import StoredGallery
from deploy.local.generate import GALLERY_BAND, PROBE_CAPTURES, DemoFacts
from deploy.local.people import AS_OF, MODEL, Band, Population, Templates
from deploy.local.place import AGENCIES, Place
from trust import files
from trust.ceremony import Scheme
from trust.clock import utc_now

CALIBRATED: Final = ("custody", "pnd", "asylum", "nhs")
"""The agencies that have a calibration."""
BANDS: Final = (QualityBand(20, 44), QualityBand(45, 69), QualityBand(70, 100))
"""Below the lowest, no calibration holds and scores are raw."""
LIFETIME: Final = timedelta(days=365)
STRANGERS: Final = 450_000 + np.arange(2_500)
"""The people, whom no gallery holds and nothing searches for; each is compared with himself too."""
RECORDS_EACH: Final = 20
"""With how many records of the gallery each of them is compared: few, because comparisons of one
person with many depend on each other, and an interval takes them to be independent."""
_FIRST_CAPTURE: Final = PROBE_CAPTURES + 1_000
_CAPTURES_PER_AGENCY: Final = 2


def write_calibrations(place: Place, scheme: Scheme, facts: DemoFacts) -> None:
    """Write ``sources/<agency>/scores.npz`` and the signed calibration of each agency."""
    for agency in CALIBRATED:
        scores = place.sources / agency / "scores.npz"
        _write_scores(scores, place.gallery(agency), facts, series=AGENCIES.index(agency))
        calibration = calibrate(
            read_scores(scores),
            Subject(
                name=f"{agency}-{AS_OF:%Y-%m}",
                agency=agency,
                matcher=MATCHER,
                kind=agency,
                model=MODEL,
            ),
            method="logistic",
            bands=BANDS,
            fitted_at=utc_now(),
            lifetime=LIFETIME,
        )
        signer = scheme.member_folder(agency).signer()
        files.write_atomic(place.calibration(agency), sign_calibration(calibration, signer))


def _write_scores(out: Path, gallery: Path, facts: DemoFacts, series: int) -> None:
    people = STRANGERS
    capture = _FIRST_CAPTURE + series * _CAPTURES_PER_AGENCY
    mates = facts.population.captures(people, GALLERY_BAND, capture)
    held = np.concatenate([one.templates for one in StoredGallery.open(gallery).segments])
    parts = [
        _comparisons(facts.population, people, mates, held, band, capture + 1) for band in Band
    ]
    scores, mated, quality = (np.concatenate(column) for column in zip(*parts, strict=True))
    np.savez_compressed(out, scores=scores, mated=mated, quality=quality)


def _comparisons(
    population: Population,
    people: NDArray[np.int64],
    mates: Templates,
    gallery: Templates,
    band: Band,
    capture: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return scores, truth and quality of a capture of each person, compared as a search would."""
    generator = np.random.default_rng((population.seed, capture, list(Band).index(band)))
    probes = population.captures(people, band, capture).astype(np.float64)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    rows = generator.integers(len(gallery), size=(RECORDS_EACH, len(people)))
    same = paired_scores(mates, probes)
    other = [paired_scores(gallery[each], probes) for each in rows]
    scores = np.concatenate([same, *other])
    mated = np.arange(len(scores)) < len(people)
    return scores, mated, np.full(len(scores), band.quality, dtype=np.int64)
