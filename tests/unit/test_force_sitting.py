"""One reviewer's sitting: its sequence, its time, and what may be said of what was not compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from force_client.second_step.checks import Matter
from force_client.second_step.images import Picture
from force_client.second_step.sitting import (
    Noted,
    SittingNotes,
    label_of,
    read_probe_image,
    seated,
)
from tests.unit.force_scene import FORCE, Scene, make_scene
from tests.unit.force_second_peer import png
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import Opinion, Review
from trust.wire import decode

REVIEWER = Person(id="ns-3310", role="reviewer", rank="constable")
PROBE = Picture("image/png", b"the probe's own bytes")
REFERENCES = {"custody": ("a", "b", "c"), "pnd": ("a", "x")}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scheme"))


@pytest.fixture(scope="module")
def matter(scene: Scene) -> Matter:
    return matter_of(scene, REFERENCES)


def matter_of(scene: Scene, references: Mapping[str, tuple[str, ...]]) -> Matter:
    order = scene.prepare().order
    reports = {agency: (bytes(32), listed) for agency, listed in references.items()}
    return Matter("4fa3c1de-0000-4000-8000-000000000001", order, reports)


class Ticks:
    """A clock that rises as it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def every_image(matter: Matter) -> dict[tuple[str, str], Picture]:
    return {one: Picture("image/png", png()) for one in matter.candidates}


def sitting_of(
    matter: Matter,
    *,
    probe: Picture | None = PROBE,
    pictures: Mapping[tuple[str, str], Picture] | None = None,
    ticks: Callable[[], float] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    seed: int = 1,
) -> SittingNotes:
    shown = every_image(matter) if pictures is None else pictures
    seats = seated(matter, shown, Random(seed))
    return SittingNotes(matter, REVIEWER, seats, probe, clock=clock, ticks=ticks or Ticks())


def reviews_of(sitting: SittingNotes, scene: Scene) -> dict[str, Review]:
    signed = sitting.sign(scene.signer(FORCE))
    keys = scene.directory.resolver(FORCE, KeyUse.SIGN, scene.now)
    for envelope in signed:
        dsse.verify(envelope, PayloadType.REVIEW, keys)
    made = [decode(Review, one.payload) for one in signed]
    return {one.agency: one for one in made}


# --- the sequence ------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(("custody", "pnd", "passport")),
        st.lists(
            st.from_regex(r"[a-z]{1,4}", fullmatch=True), min_size=1, max_size=30, unique=True
        ),
        min_size=1,
    ),
    st.integers(0, 2**32),
)
def test_a_sequence_holds_every_candidate_once(
    scene: Scene, references: dict[str, list[str]], seed: int
) -> None:
    matter = matter_of(scene, {agency: tuple(listed) for agency, listed in references.items()})
    seats = seated(matter, {}, Random(seed))
    assert Counter((one.agency, one.reference) for one in seats) == Counter(matter.candidates)
    assert [one.candidate.shown for one in seats] == list(range(1, len(seats) + 1))
    assert len({one.candidate.label for one in seats}) == len(seats)


def test_every_sequence_comes_up_as_often(scene: Scene) -> None:
    """Three candidates, 6000 sittings: six sequences, each near a thousand times."""
    matter = matter_of(scene, {"custody": ("a", "b"), "pnd": ("x",)})
    seen = Counter(tuple(one.reference for one in seated(matter, {})) for _ in range(6000))
    assert len(seen) == 6
    # Beyond eight standard deviations (sqrt(6000/6*5/6) is 29) either way.
    assert all(760 < count < 1240 for count in seen.values()), seen


def test_two_sittings_do_not_share_a_sequence(matter: Matter) -> None:
    seen = {tuple((s.agency, s.reference) for s in seated(matter, {})) for _ in range(200)}
    assert len(seen) > 20


@settings(deadline=None)
@given(st.integers(1, 20_000))
def test_labels_read_like_columns(place: int) -> None:
    label = label_of(place)
    value = 0
    for letter in label:
        value = value * 26 + ord(letter) - ord("A") + 1
    assert value == place


def test_nothing_shown_tells_who_a_candidate_is(matter: Matter) -> None:
    sitting = sitting_of(matter)
    shown = repr(sitting) + repr(sitting.candidates)
    for hidden in ("custody", "pnd", "reference", "score", "rank"):
        assert hidden not in shown
    assert "PNG" not in repr(sitting.seats)


# --- time on task ------------------------------------------------------------------------------


def test_time_runs_from_look_to_record(scene: Scene, matter: Matter) -> None:
    ticks = Ticks()
    sitting = sitting_of(matter, ticks=ticks)
    for place, one in enumerate(sitting.candidates):
        ticks.now += 5  # between two candidates
        sitting.look(one)
        ticks.now += 10 + place
        sitting.record(one, Opinion.NO_CANDIDATE, reasons="The ears differ.")
    made = reviews_of(sitting, scene)
    seconds = {f.shown: f.seconds for one in made.values() for f in one.findings}
    assert seconds == {place + 1: 10 + place for place in range(5)}


def test_whoever_looks_again_adds_to_the_time(matter: Matter) -> None:
    ticks = Ticks()
    sitting = sitting_of(matter, ticks=ticks)
    first, second = sitting.candidates[:2]
    sitting.look(first)
    ticks.now += 7
    sitting.look(second)  # ends the time at the first
    ticks.now += 4
    sitting.look(first)
    ticks.now += 3
    assert sitting.seconds_at(first) == 10
    assert sitting.seconds_at(second) == 4
    sitting.record(first, Opinion.INCONCLUSIVE, reasons="Blurred.")
    ticks.now += 50
    assert sitting.seconds_at(first) == 10


Step = tuple[str, int, float]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("look", "record")),
            st.integers(0, 4),
            st.floats(0, 3000, allow_nan=False),
        ),
        max_size=40,
    )
)
def test_time_never_adds_up_to_more_than_the_sitting(scene: Scene, steps: list[Step]) -> None:
    """Whatever a reviewer does, in whatever sequence, what is signed is coherent."""
    matter = matter_of(scene, REFERENCES)
    ticks = Ticks()
    began = ticks.now
    start = datetime.now(UTC)
    # A clock that stands still: only the one that rises says how long it took.
    sitting = sitting_of(matter, ticks=ticks, clock=lambda: start)
    for act, place, passed in steps:
        one = sitting.candidates[place]
        if act == "look":
            sitting.look(one)
        else:
            sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
        ticks.now += passed
    for one in sitting.open:
        sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
    made = reviews_of(sitting, scene)
    total = sum(f.seconds for one in made.values() for f in one.findings)
    assert total <= ticks.now - began
    assert {one.finished_at for one in made.values()} == {
        start + timedelta(seconds=ticks.now - began)
    }


def test_a_clock_that_goes_back_is_not_believed(matter: Matter) -> None:
    ticks = Ticks()
    sitting = sitting_of(matter, ticks=ticks)
    one = sitting.candidates[0]
    sitting.look(one)
    ticks.now -= 50
    assert sitting.seconds_at(one) == 0


# --- what was compared -------------------------------------------------------------------------


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize("has_image", [True, False])
@pytest.mark.parametrize("has_probe", [True, False])
@pytest.mark.parametrize("opinion", list(Opinion))
def test_only_what_was_compared_has_an_opinion(
    scene: Scene,
    *,
    looked: bool,
    has_image: bool,
    has_probe: bool,
    opinion: Opinion,
) -> None:
    matter = matter_of(scene, {"custody": ("a",)})
    pictures = every_image(matter) if has_image else {}
    sitting = sitting_of(matter, probe=PROBE if has_probe else None, pictures=pictures)
    (one,) = sitting.candidates
    if looked:
        picture = sitting.look(one)
        assert (picture is not None) == has_image == one.has_image
    compared = looked and has_image and has_probe
    if opinion is Opinion.INCONCLUSIVE or compared:
        sitting.record(one, opinion, reasons="As far as it shows.")
        (finding,) = reviews_of(sitting, scene)["custody"].findings
        assert (finding.side_by_side, finding.opinion) == (compared, opinion)
    else:
        with pytest.raises(ProbegateError) as refused:
            sitting.record(one, opinion, reasons="As far as it shows.")
        assert refused.value.reason is Reason.REVIEW_INVALID
        assert refused.value.metadata == {"field": "side_by_side"}
        assert sitting.open == (one,)


def test_each_agency_gets_a_review_of_its_own_candidates(scene: Scene, matter: Matter) -> None:
    sitting = sitting_of(matter)
    for one in sitting.candidates:
        sitting.look(one)
        sitting.record(one, Opinion.NO_CANDIDATE, reasons="The ears differ.", disconfirming="Hair.")
    made = reviews_of(sitting, scene)
    assert list(made) == ["custody", "pnd"]
    for agency, review in made.items():
        assert sorted(f.reference for f in review.findings) == sorted(REFERENCES[agency])
        assert review.report_sha256 == matter.reports[agency][0]
        assert review.reviewer == REVIEWER
        assert {f.disconfirming for f in review.findings} == {"Hair."}
    assert len({one.review_id for one in made.values()}) == 1
    assert sorted(f.shown for one in made.values() for f in one.findings) == [1, 2, 3, 4, 5]


def test_a_sitting_is_signed_whole_or_not(scene: Scene, matter: Matter) -> None:
    sitting = sitting_of(matter)
    for one in sitting.candidates[1:]:
        sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
    with pytest.raises(ProbegateError) as refused:
        sitting.sign(scene.signer(FORCE))
    assert refused.value.metadata == {"field": "findings"}
    assert sitting.candidates[0].label in refused.value.detail


def test_reasons_are_needed(matter: Matter) -> None:
    sitting = sitting_of(matter)
    with pytest.raises(ProbegateError) as refused:
        sitting.record(sitting.candidates[0], Opinion.INCONCLUSIVE, reasons="")
    assert refused.value.metadata == {"field": "reasons"}


def test_another_sittings_candidate_is_refused(scene: Scene, matter: Matter) -> None:
    sitting = sitting_of(matter)
    strange = sitting_of(matter_of(scene, {"custody": ("a",)}), pictures={}).candidates[0]
    with pytest.raises(ProbegateError) as refused:
        sitting.look(strange)
    assert refused.value.metadata == {"field": "candidate"}


def test_a_sheet_cannot_compare_what_was_not_there(scene: Scene) -> None:
    matter = matter_of(scene, {"custody": ("a",)})
    sitting = sitting_of(matter, pictures={})
    noted = {"A": Noted(3.0, True, Opinion.NO_CANDIDATE, "The ears differ.")}
    started = datetime.now(UTC) - timedelta(minutes=1)
    sitting.restore(sitting.review_id, started, noted, compared=True)
    with pytest.raises(ProbegateError) as refused:
        sitting.sign(scene.signer(FORCE))
    assert refused.value.metadata == {"field": "side_by_side"}


def test_more_time_than_the_sheet_was_out_is_refused(scene: Scene) -> None:
    matter = matter_of(scene, {"custody": ("a",)})
    sitting = sitting_of(matter)
    noted = {"A": Noted(4000.0, True, Opinion.NO_CANDIDATE, "The ears differ.")}
    started = datetime.now(UTC) - timedelta(minutes=1)
    sitting.restore(sitting.review_id, started, noted, compared=True)
    with pytest.raises(ProbegateError) as refused:
        sitting.sign(scene.signer(FORCE))
    assert refused.value.metadata == {"field": "findings.seconds"}


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg xmlns=''/>", b"\x93NUMPY"])
def test_a_probe_image_is_a_jpeg_or_png(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "probe"
    path.write_bytes(content)
    with pytest.raises(ProbegateError) as refused:
        read_probe_image(path)
    assert refused.value.metadata == {"field": "probe_image"}


def test_a_probe_image_never_prints(tmp_path: Path) -> None:
    path = tmp_path / "probe.png"
    path.write_bytes(png())
    picture = read_probe_image(path)
    assert picture.media_type == "image/png"
    assert "IDAT" not in repr(picture)
