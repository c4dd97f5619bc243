"""Promise 7: every number says what it is worth, and none is ranked against what it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.combination import Received, combine
from tests.scale import scaled
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
