"""Calibrations agree with the NFI's ``lir``, are trusted by rule, and predict false candidates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lir.algorithms.bayeserror import elub as lir_elub
from lir.algorithms.isotonic_regression import IsotonicCalibrator
from lir.algorithms.logistic_regression import LogitCalibrator
from lir.data.models import LLRData
from lir.metrics import cllr as lir_cllr
from lir.metrics import cllr_min as lir_cllr_min

from agency_adapters.calibration.artefact import Calibration
from agency_adapters.calibration.calibrating import WHOLE_RANGE, Method, Subject, calibrate
from agency_adapters.calibration.evaluation import cllr, cllr_min
from agency_adapters.calibration.fitting import elub, fit_logistic, fit_pav
from agency_adapters.calibration.scorefile import ScoreSet, read_scores
from agency_adapters.calibration.signing import load_calibration, sign_calibration
from agency_adapters.calibration.tail import fit_false_matches
from agency_adapters.galleries.gallery import GalleryFacts
from tests.unit.adapters_kit import make_world
from tests.world import MODEL, World
from trust.errors import ProbegateError, Reason

NOW = datetime.now(UTC)
SUBJECT = Subject("custody-test", "custody", "cosine/1", "custody", MODEL)
FACTS = GalleryFacts("custody", MODEL, 512, 60, 1, NOW, "", "cosine/1", exact=True)


def scores(seed: int = 1) -> ScoreSet:
    generator = np.random.default_rng(seed)
    both = np.concatenate([generator.normal(0.5, 0.12, 300), generator.normal(0.1, 0.1, 3000)])
    return ScoreSet(both.round(3), np.arange(3300) < 300, None, None, "0" * 64)


def fitted(data: ScoreSet, method: Method = "logistic") -> bytes:
    return _calibration(data, method).canonical()


def _calibration(data: ScoreSet, method: Method = "logistic") -> Calibration:
    return calibrate(
        data,
        SUBJECT,
        method=method,
        bands=[WHOLE_RANGE],
        fitted_at=NOW,
        lifetime=timedelta(days=30),
    )


@pytest.mark.parametrize("seed", range(3))
def test_fits_bounds_and_costs_are_those_of_lir(seed: int) -> None:
    data = scores(seed)
    x, mated, labels = data.scores, data.mated, data.mated.astype(int)
    standard = (x - x.mean()) / x.std()
    theirs = LogitCalibrator(tol=1e-12, max_iter=100_000).fit(standard, labels)
    lrs = fit_logistic(x, mated).log10_lr(x)
    assert lrs == pytest.approx(theirs.transform(standard), abs=1e-6)
    assert elub(lrs, mated) == pytest.approx(lir_elub(lrs.copy(), labels), abs=1e-6)
    whole = LLRData(features=lrs, labels=labels)
    assert cllr(lrs, mated) == pytest.approx(lir_cllr(whole), abs=1e-6)
    assert cllr_min(lrs, mated) == pytest.approx(lir_cllr_min(whole), abs=1e-6)
    assert cllr(lrs, mated) >= cllr_min(lrs, mated)
    grid = np.linspace(-0.5, 1.2, 2001)
    ours = fit_pav(x, mated).log10_lr(grid)
    isotonic = IsotonicCalibrator().fit(x, labels).transform(grid)
    finite = np.isfinite(isotonic)
    assert ours[finite] == pytest.approx(isotonic[finite], abs=1e-6)
    assert np.array_equal(ours[~finite], isotonic[~finite])


@pytest.mark.parametrize("method", ["logistic", "pav"])
def test_shuffled_truth_is_never_calibrated(method: Method) -> None:
    data = scores()
    shuffled = replace(data, mated=np.random.default_rng(2).permutation(data.mated))
    with pytest.raises(ProbegateError) as raised:
        fitted(shuffled, method)
    assert raised.value.reason is Reason.CALIBRATION_REFUSED
    assert fitted(data, method)


def test_false_candidates_come_as_predicted_and_never_rise_with_the_score() -> None:
    generator = np.random.default_rng(3)
    table = fit_false_matches(generator.normal(0.1, 0.1, 20_000), 0.9)
    gallery, searches = 2_000, 2_000
    found = {0.35: 0, 0.4: 0}
    for _ in range(searches):
        strangers = generator.normal(0.1, 0.1, gallery)
        for score in found:
            found[score] += int(np.count_nonzero(strangers >= score))
    for score, count in found.items():
        expected = table.expected_false(score, gallery)
        assert expected.low <= count / searches <= expected.high
    rates = [table.at(score).rate for score in np.linspace(-1, 2, 500)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_only_an_agencys_own_current_calibration_of_its_matcher_is_trusted(world: World) -> None:
    whole = _calibration(scores())
    raw = sign_calibration(whole, world.folder("custody").signer())

    def load(text: bytes, facts: GalleryFacts = FACTS, now: datetime = NOW) -> Reason | None:
        try:
            load_calibration(
                text, agency="custody", facts=facts, directory=world.directory, now=now
            )
        except ProbegateError as error:
            return error.reason
        return None

    later = datetime.now(UTC) + timedelta(minutes=1)  # the keys are younger than this module
    assert load(raw, now=later) is None
    other = sign_calibration(whole, world.folder("broker").signer())
    assert load(other, now=later) is Reason.CALIBRATION_INVALID
    assert load(raw[:-9] + b"AAAA" + raw[-5:], now=later) is Reason.CALIBRATION_INVALID
    strange = replace(FACTS, matcher="other/2")
    assert load(raw, strange, later) is Reason.CALIBRATION_INVALID
    assert load(raw, now=NOW + timedelta(days=31)) is Reason.CALIBRATION_EXPIRED
    trusted = load_calibration(
        raw, agency="custody", facts=FACTS, directory=world.directory, now=later
    )
    assert trusted.for_search(FACTS, 50, later) is not None
    assert trusted.for_search(FACTS, 50, trusted.until) is None
    assert trusted.for_search(strange, 50, later) is None


def test_no_calibration_holds_where_nobody_can_say_how_many_records_are_held(world: World) -> None:
    """Of a gallery of unknown size it would say that no false candidate is to be expected."""
    whole = _calibration(scores())
    raw = sign_calibration(whole, world.folder("custody").signer())
    later = datetime.now(UTC) + timedelta(minutes=1)
    unknown = replace(FACTS, count=0, counted=False)
    with pytest.raises(ProbegateError) as refused:
        load_calibration(raw, agency="custody", facts=unknown, directory=world.directory, now=later)
    assert refused.value.reason is Reason.CALIBRATION_INVALID
    trusted = load_calibration(
        raw, agency="custody", facts=FACTS, directory=world.directory, now=later
    )
    assert trusted.for_search(unknown, 50, later) is None
    assert trusted.for_search(replace(FACTS, count=0), 50, later) is not None


def test_bad_rows_are_reported_by_number(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("score,mated\n0.5,1\nx,0\n0.1,maybe\n0.2,no\n")
    data = read_scores(path)
    assert data.scores.tolist() == [0.5, 0.2]
    assert [one.row for one in data.rejected] == [2, 3]


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.booleans()), min_size=4, max_size=60).filter(
        lambda rows: len({truth for _, truth in rows}) == 2
    )
)
def test_pav_never_falls_and_bounds_hold_no_lr_back_from_neutral(
    rows: list[tuple[int, bool]],
) -> None:
    x = np.array([score / 50 for score, _ in rows])
    mated = np.array([truth for _, truth in rows])
    scale = fit_pav(x, mated)
    lrs = scale.log10_lr(np.sort(x))
    assert (lrs[1:] >= lrs[:-1]).all()
    lowest, highest = elub(scale.log10_lr(x), mated)
    assert -np.log10(mated.sum() + 1) - 0.02 <= lowest <= 0 <= highest
    assert highest <= np.log10((~mated).sum() + 1) + 0.02
    bounded = np.clip(scale.log10_lr(x), lowest, highest)
    assert cllr(bounded, mated) >= cllr_min(bounded, mated) - 1e-9
