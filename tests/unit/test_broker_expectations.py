"""What a preview expects: signed by the agency, for this quality of probe, never too low."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probegate.agency.v1 import match_service_pb2 as agency_pb

from broker.dispatch import DESCRIBE_EVERY
from broker.expectations import STATED_FOR, Heard, expectation_of
from broker.models import AgencyDecision, Preview
from broker.stated import ExpectedAt, QualityBand, StatedCapabilities
from tests.brokers import PERMITTED, Rig, TurnedClock, rigged
from tests.world import Request, World
from trust.messages import ExpectedFalse, Obligations, SearchLimits

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def expected(number: float) -> ExpectedFalse:
    return ExpectedFalse(expected=number, low=number / 2, high=number * 2)


def heard(*scores: float, at: datetime = NOW) -> Heard:
    """A statement that expects ``100 * (1 - score)`` at each of these thresholds."""
    band = QualityBand(
        quality_from=50,
        quality_to=80,
        at=tuple(ExpectedAt(score=s, expected_false=expected(100 * (1 - s))) for s in scores),
    )
    stated = StatedCapabilities(
        agency="pnd",
        stated_at=NOW,
        calibration_expires_at=NOW + timedelta(days=1),
        bands=(band,),
    )
    return Heard(stated, at)


GRID = (0.2, 0.4, 0.6, 0.8)


@given(st.sets(st.integers(0, 100), min_size=1), st.integers(0, 100))
def test_between_two_thresholds_the_number_is_never_too_low(grid: set[int], threshold: int) -> None:
    found = heard(*(n / 100 for n in sorted(grid))).expected(60, threshold / 100, NOW)
    below = [n for n in grid if n <= threshold]
    assert (found is None) == (not below)
    if found is not None:
        assert found.expected == expected(100 * (1 - max(below) / 100)).expected
        assert found.expected >= 100 * (1 - threshold / 100) - 1e-9


@pytest.mark.parametrize("quality", [49, 81, 0, 100])
def test_for_a_quality_nothing_is_stated_of_nothing_is_expected(quality: int) -> None:
    assert heard(*GRID).expected(quality, 0.5, NOW) is None
    assert heard(*GRID).expected(50, 0.5, NOW) == heard(*GRID).expected(80, 0.5, NOW)


def test_an_old_statement_or_an_expired_calibration_says_nothing() -> None:
    fresh = heard(*GRID)
    assert fresh.expected(60, 0.5, NOW + STATED_FOR) is not None
    assert fresh.expected(60, 0.5, NOW + STATED_FOR + timedelta(seconds=1)) is None
    ended = heard(*GRID, at=NOW + timedelta(days=1))
    assert ended.expected(60, 0.5, NOW + timedelta(days=1)) is None
    raw = replace(fresh, stated=fresh.stated.model_copy(update={"calibration_expires_at": None}))
    assert raw.expected(60, 0.5, NOW) is None


def decision(agency: str, min_score: float, *, permitted: bool = True) -> AgencyDecision:
    duties = Obligations(max_candidates=10, min_score=min_score)
    return AgencyDecision(agency, permitted, "PERMITTED", (), "a", b"", duties)


def test_the_higher_threshold_counts_and_everything_adds_up(world: World) -> None:
    order = Request(world, limits=SearchLimits(min_score=0.45)).order()
    decisions = [
        decision("pnd", 0.65),
        decision("custody", 0.1),
        decision("asylum", 0.1),
        decision("nhs", 0.1, permitted=False),
    ]
    made = expectation_of(
        order, decisions, {"pnd": heard(*GRID), "custody": heard(*GRID), "nhs": heard(*GRID)}, NOW
    )
    assert made.by_agency == {"pnd": expected(40.0), "custody": expected(60.0)}
    assert made.total == ExpectedFalse(expected=100.0, low=50.0, high=200.0)
    assert made.without == ("asylum",)
    nobody = expectation_of(order, decisions, {}, NOW)
    assert nobody.total is None
    assert nobody.without == ("pnd", "custody", "asylum")


# --- through a whole broker -------------------------------------------------------------------


def stating(*numbers: float) -> Callable[[agency_pb.Capabilities], None]:
    """State what is expected at thresholds of -1, 0.3, ... for every quality."""

    def state(said: agency_pb.Capabilities) -> None:
        said.calibration_expires_at.FromDatetime(datetime.now(UTC) + timedelta(days=1))
        band = said.expected_false.add(quality_from=0, quality_to=100)
        for score, number in zip((-1.0, 0.3, 0.6), numbers, strict=False):
            at = band.at.add(score=score)
            at.expected_false.expected = number
            at.expected_false.low, at.expected_false.high = number / 2, number * 2

    return state


async def previewed(rig: Rig) -> Preview:
    await rig.broker.refresh_descriptions()
    order = Request(rig.world, agencies=PERMITTED, now=rig.clock()).order()
    return await rig.broker.preview.execute(order, rig.identity(), rig.world.directory)


async def test_a_preview_adds_up_what_the_agencies_sign(world: World) -> None:
    async with rigged(world) as rig:
        for agency in ("custody", "pnd"):
            rig.peers[agency].knobs.capabilities = stating(8.0, 4.0, 2.0)
        made = await previewed(rig)
        stated = {one.agency: one.expected_false for one in made.ruling.decisions}
        assert stated["custody"] is not None
        assert stated["pnd"] is not None
        assert stated["passport"] is None
        assert made.expected_false is not None
        assert made.expected_false.expected == sum(one.expected for one in stated.values() if one)
        assert made.without_expectation == ("passport", "asylum")
        view = await rig.search(("custody",))
        assert view.record.decisions[0].expected_false is None


def _another_agency(said: agency_pb.Capabilities) -> None:
    stating(1.0)(said)
    said.agency = "pnd"


def _of_tomorrow(said: agency_pb.Capabilities) -> None:
    stating(1.0)(said)
    said.stated_at.FromDatetime(datetime.now(UTC) + timedelta(days=1))


def _long_ago(said: agency_pb.Capabilities) -> None:
    stating(1.0)(said)
    said.stated_at.FromDatetime(datetime.now(UTC) - timedelta(days=1))


def _bands_that_overlap(said: agency_pb.Capabilities) -> None:
    stating(1.0)(said)
    stating(1.0)(said)


def _out_of_sequence(said: agency_pb.Capabilities) -> None:
    stating(1.0, 2.0)(said)
    said.expected_false[0].at.reverse()


def _not_a_number(said: agency_pb.Capabilities) -> None:
    stating(float("nan"))(said)


def _nothing_expected(said: agency_pb.Capabilities) -> None:
    stating(1.0)(said)
    said.expected_false[0].at[0].ClearField("expected_false")


def _backwards(said: agency_pb.Capabilities) -> None:
    stating(1.0)(said)
    said.expected_false[0].quality_from = 101


@pytest.mark.parametrize(
    "lie",
    [
        _another_agency,
        _of_tomorrow,
        _long_ago,
        _bands_that_overlap,
        _out_of_sequence,
        _not_a_number,
        _nothing_expected,
        _backwards,
    ],
)
async def test_what_cannot_be_believed_is_as_if_unsaid(
    world: World, lie: Callable[[agency_pb.Capabilities], None]
) -> None:
    async with rigged(world, serving=("custody",)) as rig:
        rig.peers["custody"].knobs.capabilities = lie
        made = await previewed(rig)
        assert made.expected_false is None
        assert rig.broker.agencies["custody"].heard is None


async def test_a_statement_by_another_key_is_as_if_unsaid(world: World) -> None:
    async with rigged(world, serving=("custody",)) as rig:
        rig.peers["custody"].knobs.capabilities = stating(1.0)
        rig.peers["custody"].signer = rig.peers["custody"].other_signer
        assert (await previewed(rig)).expected_false is None


async def test_agencies_are_asked_again_after_a_while_and_what_is_old_is_forgotten(
    world: World,
) -> None:
    clock = TurnedClock()
    async with rigged(world, serving=("custody",), clock=clock) as rig:
        custody = rig.peers["custody"]
        custody.knobs.capabilities = stating(8.0, 8.0, 8.0)
        assert (await previewed(rig)).expected_false is not None
        custody.knobs.capabilities = stating(2.0, 2.0, 2.0)
        first = (await previewed(rig)).expected_false
        assert first is not None
        assert first.expected == 8.0
        clock.ahead = DESCRIBE_EVERY
        second = (await previewed(rig)).expected_false
        assert second is not None
        assert second.expected == 2.0
        custody.knobs.capabilities = None
        clock.ahead += STATED_FOR + timedelta(seconds=1)
        assert (await previewed(rig)).expected_false is None
