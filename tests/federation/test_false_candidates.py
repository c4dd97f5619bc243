"""A stranger's search yields as many false candidates as the calibration said (promise 7)."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from agency_adapters.calibration.artefact import Calibration
from agency_adapters.galleries.files import FileGallery
from agency_adapters.galleries.gallery import Query
from deploy.local.calibrations import CALIBRATED
from deploy.local.people import Band, Population
from deploy.local.place import Place
from trust.dsse import Envelope

STRANGERS = 400_000 + np.arange(2_000)
"""People whom no gallery of the demonstration holds and no calibration has seen."""
CAPTURE = 5_000
AT_ONCE = 64


@pytest.mark.parametrize("agency", CALIBRATED)
@pytest.mark.parametrize("band", list(Band))
async def test_strangers_yield_as_many_false_candidates_as_predicted(
    place: Place, agency: str, band: Band
) -> None:
    envelope = Envelope.from_json(place.calibration(agency).read_bytes())
    calibrated = Calibration.model_validate_json(envelope.payload).band(band.quality)
    assert calibrated is not None
    population = Population(seed=1)
    probes = population.captures(STRANGERS, band, CAPTURE).astype(np.float64)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    gallery = await FileGallery.open(place.gallery(agency))
    day = datetime.now(UTC).date()
    held = (await gallery.eligible(day, frozenset())).count
    rates = calibrated.false_matches
    for wanted in (2.0, 0.2):  # a search, in the data's midst and towards their end
        scores = np.linspace(-0.2, 0.99, 500)
        threshold = float(next(s for s in scores if rates.at(s).rate * held < wanted))
        found = 0
        for start in range(0, len(probes), AT_ONCE):
            queries = [Query(probe, threshold, 100, day) for probe in probes[start:][:AT_ONCE]]
            found += sum(len(one.candidates) for one in gallery.search_all(queries))
        predicted = rates.expected_false(threshold, held)
        assert predicted.low <= found / len(probes) <= predicted.high, threshold
        assert found > 0
    await gallery.close()
