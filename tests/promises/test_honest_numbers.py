"""Promise 7: every number says what it is worth, and none is ranked against what it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agency_adapters.calibration.artefact import ScoreScale
from agency_adapters.calibration.calibrating import WHOLE_RANGE, Method, Subject, calibrate
from agency_adapters.calibration.scorefile import Scores, ScoreSet
from broker.combination import Received, combine
from tests.scale import scaled
from trust.errors import ProbegateError, Reason
from trust.messages import (
    MAX_LOG10_LR,
    Candidate,
    CandidateLink,
    CandidateLinks,
    ExpectedFalse,
    MatchReport,
    OutcomeState,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SEARCH = "00000000-0000-4000-8000-000000000001"
DIGEST = bytes(32)
AGENCIES = ("asylum", "custody", "passport", "pnd")
Scored = tuple[float, float]
"""A raw score and the log10 LR it is calibrated to."""


def report(
    agency: str,
    found: Sequence[Scored],
    *,
    calibrated: bool = True,
    expires_in: timedelta = timedelta(days=1),
    scale: Callable[[float], float] = lambda score: score,
) -> MatchReport:
    """A report of an agency whose matcher's scale is ``scale`` of ours, calibrated anew on it."""
    best_first = sorted(found, reverse=True)
    worth = sorted((strength for _, strength in found), reverse=True)
    return MatchReport(
        search_id=SEARCH,
        agency=agency,
        order_sha256=DIGEST,
        grant_sha256=DIGEST,
        state=OutcomeState.CANDIDATES if found else OutcomeState.NO_CANDIDATE,
        candidates=tuple(
            Candidate(
                reference=f"{agency}-{rank}",
                score=scale(score),
                rank=rank,
                log10_lr=strength if calibrated else None,
                expected_false=expected(strength) if calibrated else None,
            )
            for rank, ((score, _), strength) in enumerate(zip(best_first, worth, strict=True), 1)
        ),
        matcher="any 1",
        calibration="any calibration" if calibrated else "",
        calibration_sha256=DIGEST if calibrated else b"",
        calibration_expires_at=NOW + expires_in if calibrated else None,
        reported_at=NOW,
    )


def expected(strength: float) -> ExpectedFalse:
    number = 10 ** -max(min(strength, 9), -9)
    return ExpectedFalse(expected=number, low=number / 2, high=number * 2)


def received(one: MatchReport, links: CandidateLinks | None = None) -> Received:
    return Received(one, NOW, links)


scored = st.tuples(
    st.integers(-1000, 1000).map(lambda n: n / 1000), st.integers(-40, 40).map(lambda n: n / 8)
)
founds = st.dictionaries(st.sampled_from(AGENCIES), st.lists(scored, max_size=5))
scales = st.sampled_from([math.exp, math.atan, lambda x: 1000 * x - 7, lambda x: x**3])


@settings(max_examples=scaled(100, 20_000), deadline=None)
@given(founds, scales)
def test_a_matchers_own_scale_changes_nothing_of_the_ranking(
    found: dict[str, list[Scored]], scale: Callable[[float], float]
) -> None:
    """A monotone change of an agency's scores, calibrated anew, gives the same evidence."""
    plain = combine(received(report(agency, rows)) for agency, rows in found.items())
    scaled_one = sorted(found)[:1]
    changed = combine(
        received(report(agency, rows, scale=scale if agency in scaled_one else float))
        for agency, rows in found.items()
    )
    assert changed.ranking == plain.ranking
    assert changed.lanes == plain.lanes == ()


@settings(max_examples=scaled(100, 20_000), deadline=None)
@given(founds, st.sets(st.sampled_from(AGENCIES)))
def test_a_raw_score_outranks_nobody_however_high(
    found: dict[str, list[Scored]], raw: set[str]
) -> None:
    reports = [
        report(agency, rows, calibrated=agency not in raw, scale=lambda score: 1e9 + score)
        for agency, rows in found.items()
    ]
    made = combine(map(received, reports))
    assert {one.agency for one in made.ranking}.isdisjoint(raw)
    assert {lane.agency for lane in made.lanes} == {a for a in raw if found.get(a)}
    for lane in made.lanes:
        (own,) = (one for one in reports if one.agency == lane.agency)
        assert [c.score for c in lane.candidates] == [c.score for c in own.candidates]
    alone = combine(received(one) for one in reports if one.agency not in raw)
    assert made.ranking == alone.ranking


@settings(max_examples=scaled(100, 20_000), deadline=None)
@given(founds.flatmap(lambda f: st.tuples(st.just(f), st.permutations(sorted(f)))))
def test_who_answers_first_changes_nothing(
    drawn: tuple[dict[str, list[Scored]], list[str]],
) -> None:
    found, sequence = drawn
    reports = {
        agency: report(agency, rows, calibrated=agency != "pnd") for agency, rows in found.items()
    }
    links = {agency: shared(one, range(3)) for agency, one in reports.items()}
    one = combine(received(reports[a], links[a]) for a in sorted(found))
    other = combine(received(reports[a], links[a]) for a in sequence)
    assert one == other
    places = [
        (-c.log10_lr, c.expected_false.expected, c.agency, int(c.reference.rpartition("-")[2]))
        for c in one.ranking
    ]
    assert places == sorted(places)


def shared(one: MatchReport, numbers: Sequence[int]) -> CandidateLinks | None:
    """Links that give the first candidates the tokens of these numbers, one each."""
    pairs = zip(one.candidates, numbers, strict=False)
    linked = tuple(
        CandidateLink(reference=c.reference, tokens=(bytes([number]) * 16,)) for c, number in pairs
    )
    return CandidateLinks(
        search_id=SEARCH,
        agency=one.agency,
        report_sha256=DIGEST,
        link_key_id="link-1",
        candidates=linked,
    )


@settings(max_examples=scaled(100, 20_000), deadline=None)
@given(founds, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_no_number_is_multiplied_added_or_moved_by_a_group(
    found: dict[str, list[Scored]], numbers: list[int]
) -> None:
    """Several galleries asked with one probe are not independent: agreement adds no evidence."""
    reports = [report(agency, rows) for agency, rows in found.items()]
    alone = combine(map(received, reports))
    together = combine(received(one, shared(one, numbers)) for one in reports)
    assert [c.model_copy(update={"group": 0}) for c in together.ranking] == list(alone.ranking)
    stated = {(one.agency, c.reference): c.log10_lr for one in reports for c in one.candidates}
    assert all(c.log10_lr == stated[c.agency, c.reference] for c in together.ranking)
    assert all(abs(c.log10_lr) <= MAX_LOG10_LR for c in together.ranking)


@pytest.mark.parametrize(
    ("expires_in", "received_after", "ranked"),
    [
        (timedelta(seconds=2), timedelta(seconds=1), True),
        (timedelta(seconds=1), timedelta(seconds=1), False),
        (timedelta(seconds=1), timedelta(seconds=2), False),
        # The agency's clock may be ahead of ours: what had expired when it reported never ranks.
        (timedelta(0), timedelta(seconds=-1), False),
        (-timedelta(days=1), timedelta(0), False),
    ],
)
def test_a_calibration_past_its_end_ranks_nothing(
    expires_in: timedelta,
    received_after: timedelta,
    ranked: bool,  # noqa: FBT001 - a case
) -> None:
    stale = received(report("custody", [(0.9, 12.0)], expires_in=expires_in))
    made = combine([replace(stale, at=NOW + received_after), received(report("pnd", [(0.5, 1.0)]))])
    assert ("custody" in {one.agency for one in made.ranking}) is ranked
    assert ([lane.agency for lane in made.lanes] == ["custody"]) is not ranked


# --- the real calibration code ----------------------------------------------------------------

RECORDS = 5_000
"""What each gallery holds here."""
POPULATIONS = {"asylum": (0.45, 0.10), "custody": (0.55, 0.12), "passport": (0.65, 0.13)}
"""Mean and spread of each matcher's mated scores; different people have 0.1 and 0.1."""
Rescale = Callable[[Scores], Scores]


def known(agency: str, seed: int = 0) -> tuple[Scores, np.ndarray]:
    """Scores of known truth of one agency's matcher, in thousandths, as a matcher gives them."""
    generator = np.random.default_rng([seed, *agency.encode()])
    mean, spread = POPULATIONS[agency]
    drawn = [generator.normal(mean, spread, 400), generator.normal(0.1, 0.1, 4_000)]
    return np.concatenate(drawn).round(3), np.arange(4_400) < 400


def fitted(scores: Scores, mated: np.ndarray, method: Method = "logistic") -> ScoreScale:
    """Fit a calibration with an agency's own code."""
    made = calibrate(
        ScoreSet(scores, mated, None, None, "0" * 64),
        Subject("any-1", "custody", "any 1", "custody", "facenet512"),
        method=method,
        bands=[WHOLE_RANGE],
        fitted_at=NOW,
        lifetime=timedelta(days=30),
    )
    return ScoreScale(made.name, DIGEST, made.expires_at, made.bands[0])


@cache
def calibrated_by(agency: str, rescale: Rescale, method: Method) -> ScoreScale:
    """Fit a calibration to an agency's scores in a scale of its own."""
    scores, mated = known(agency)
    return fitted(rescale(scores), mated, method)


def found_by(agency: str) -> Scores:
    """What a search finds there: scores that its matcher gives, best first, none of them twice."""
    scores, _ = known(agency)
    return np.unique(scores[scores > 0.15])[::-1][::12]


def reported(agency: str, scores: Scores, scale: ScoreScale | None) -> MatchReport:
    """Report scores as an adapter does, with what the calibration in use says of each."""
    candidates = tuple(
        Candidate(
            reference=f"{agency}-{rank}",
            score=score,
            rank=rank,
            log10_lr=scale.log10_lr(score) if scale else None,
            expected_false=scale.expected_false(score, RECORDS) if scale else None,
        )
        for rank, score in enumerate(map(float, scores), 1)
    )
    changes: dict[str, object] = {"candidates": candidates}
    return report(agency, [(0.0, 0.0)], calibrated=scale is not None).model_copy(update=changes)


AFFINE: dict[str, Rescale] = {
    "in hundreds": lambda x: 100 * x,
    "moved and shrunk": lambda x: x / 7 - 3,
}
MONOTONE: dict[str, Rescale] = AFFINE | {
    "exponential": lambda x: np.exp(3 * x),
    "arc tangent": np.arctan,
    "cubed": lambda x: (x + 2) ** 3,
}


@pytest.mark.parametrize("rescaled", sorted(POPULATIONS))
@pytest.mark.parametrize("how", AFFINE)
@pytest.mark.parametrize("method", ["logistic", "pav"])
def test_another_unit_calibrated_anew_leaves_the_whole_ranking_as_it_was(
    rescaled: str, how: str, method: Method
) -> None:
    def ranking(rescale: Rescale) -> list[tuple[object, ...]]:
        scales = {agency: rescale if agency == rescaled else _same for agency in POPULATIONS}
        made = combine(
            received(reported(agency, own(found_by(agency)), calibrated_by(agency, own, method)))
            for agency, own in scales.items()
        )
        assert made.lanes == ()
        return [
            (one.agency, one.reference, round(one.log10_lr, 6), one.expected_false)
            for one in made.ranking
        ]

    plain = ranking(_same)
    assert len(plain) == sum(len(found_by(agency)) for agency in POPULATIONS)
    turns = sum(one[0] != other[0] for one, other in pairwise(plain))
    assert turns > 10, "agencies are really ranked among each other"
    assert ranking(AFFINE[how]) == plain


@pytest.mark.parametrize("rescaled", sorted(POPULATIONS))
@pytest.mark.parametrize("how", MONOTONE)
def test_another_scale_calibrated_anew_leaves_the_evidence_and_its_ranking_as_it_was(
    rescaled: str, how: str
) -> None:
    """PAV sees the sequence of scores alone, so any rising change of a scale leaves it.

    What is stated beside it, the expected false candidates, is interpolated in the scale; so among
    candidates of equal evidence, and there alone, the sequence may differ.
    """

    def ranking(rescale: Rescale) -> list[tuple[float, str, str]]:
        scales = {agency: rescale if agency == rescaled else _same for agency in POPULATIONS}
        made = combine(
            received(reported(agency, own(found_by(agency)), calibrated_by(agency, own, "pav")))
            for agency, own in scales.items()
        )
        told = [(round(one.log10_lr, 9), one.agency, one.reference) for one in made.ranking]
        assert [one[0] for one in told] == sorted((one[0] for one in told), reverse=True)
        return sorted(told)

    plain = ranking(_same)
    assert len({one[0] for one in plain}) > 10
    assert ranking(MONOTONE[how]) == plain


def _same(scores: Scores) -> Scores:
    return scores


def test_scores_whose_calibration_was_refused_outrank_nobody() -> None:
    """Truth and scores shuffled: there is no calibration to be had, so the scores are raw."""
    shuffled = np.random.default_rng(5).permutation(known("passport")[1])
    with pytest.raises(ProbegateError) as raised:
        fitted(known("passport")[0], shuffled)
    assert raised.value.reason is Reason.CALIBRATION_REFUSED
    weak = reported("custody", np.array([0.01]), calibrated_by("custody", _same, "logistic"))
    high = reported("passport", np.array([1e9, 0.99]), None)
    made = combine([received(high), received(weak)])
    assert [one.agency for one in made.ranking] == ["custody"]
    assert made.ranking[0].log10_lr < 0
    assert [lane.agency for lane in made.lanes] == ["passport"]


SEARCHES = 4_000
"""Searches of strangers that are simulated for each case."""
Strangers = Callable[[np.random.Generator, tuple[int, ...]], Scores]
STRANGERS: dict[str, Strangers] = {
    "normal": lambda g, shape: g.normal(0.1, 0.1, shape),
    "bounded": lambda g, shape: g.beta(3.0, 9.0, shape),
    "heavy": lambda g, shape: g.gumbel(0.05, 0.05, shape),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_strangers_are_as_many_as_the_calibration_says(kind: str) -> None:
    """Thousands of searches of a gallery in which nobody is the one sought.

    Of 95 % intervals a few may miss; none may miss by much, and most must not miss. A gallery is as
    large as makes the predicted numbers countable.
    """
    records, draw = 500, STRANGERS[kind]
    inside = total = 0
    for seed in range(4):
        generator = np.random.default_rng([seed, *kind.encode()])
        other, same = draw(generator, (20_000,)), generator.normal(0.7, 0.15, 500)
        scale = fitted(np.concatenate([same, other]), np.arange(20_500) < 500)
        # A search by search: how many of the gallery reach the threshold.
        found = np.sort(draw(generator, (SEARCHES * records,)))
        for wanted in (5.0, 1.0, 0.2, 0.05):
            threshold = _threshold(scale, wanted, records)
            counted = (len(found) - np.searchsorted(found, threshold)) / SEARCHES
            said = scale.expected_false(threshold, records)
            total += 1
            inside += bool(said.low <= counted <= said.high)
            assert said.low / 2 <= counted <= said.high * 2, (seed, wanted)
    assert total == 16
    assert inside >= 13


def test_a_calibration_of_other_people_is_seen_to_be_wrong() -> None:
    """The control: strangers who are more alike than those it was fitted to are too many."""
    generator = np.random.default_rng(9)
    other, same = generator.normal(0.1, 0.1, 20_000), generator.normal(0.7, 0.15, 500)
    scale = fitted(np.concatenate([same, other]), np.arange(20_500) < 500)
    threshold = _threshold(scale, 1.0, 500)
    counted = np.count_nonzero(generator.normal(0.15, 0.1, SEARCHES * 500) >= threshold) / SEARCHES
    assert counted > 1.5 * scale.expected_false(threshold, 500).high


def _threshold(scale: ScoreScale, wanted: float, records: int) -> float:
    """Return the lowest score on a grid at which no more than so many strangers are expected."""
    grid = np.linspace(-0.2, 1.2, 1_401)
    rates = scale.band.false_matches
    return float(next(score for score in grid if rates.at(score).rate * records <= wanted))
