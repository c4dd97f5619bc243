"""The invented population: believable scores, the same people every time, sources that enrol."""

from __future__ import annotations

import csv
from datetime import date
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agency_adapters.images import ImageStore
from agency_adapters.registry import KINDS as AGENCY_KINDS
from deploy.local import generate
from deploy.local.generate import LOOKS_LIKE, DemoFacts, adults, demo_plan, write_demo
from deploy.local.people import AS_OF, DIMS, MAX_PEOPLE, Band, Population, latent
from deploy.local.records import KINDS, Plant
from tests.scale import scaled

TODAY = date(2026, 11, 23)
ROWS = 160
GALLERY = range(2_000, 2_000 + scaled(3_000, 20_000))
PROBES = 150
EXPECTED_MATED = {Band.GOOD: 0.86, Band.FAIR: 0.72, Band.POOR: 0.56}


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(1)


@pytest.fixture(scope="module")
def gallery(population: Population) -> np.ndarray:
    return population.captures(GALLERY, Band.GOOD, 0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoFacts]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, write_demo(demo_plan(seed=3, rows=ROWS), folder)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "records.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("band", Band)
def test_scores_are_distributed_as_documented(
    population: Population, gallery: np.ndarray, band: Band
) -> None:
    probes = population.captures(GALLERY[:PROBES], band, 7)
    scores = probes @ gallery.T
    mated = scores.diagonal().copy()
    np.fill_diagonal(scores, np.nan)
    largest = np.nanmax(scores, axis=1)

    assert mated.mean() == pytest.approx(EXPECTED_MATED[band], abs=0.015)
    assert 0.005 < np.nanmean(scores) < 0.03
    assert 0.06 < np.nanstd(scores) < 0.10
    assert 0.20 < np.median(largest) < 0.45
    assert (mated > largest).mean() > 0.95


def test_the_tail_of_strangers_reaches_as_far_as_documented(
    population: Population, gallery: np.ndarray
) -> None:
    probes = population.captures(range(100), Band.GOOD, 7)  # nobody in the gallery
    scores = probes @ gallery.T
    assert 0.08 < scores.std() < 0.10
    assert 0.32 < np.median(scores.max(axis=1)) < 0.44
    gaussian_tail = 2e-5  # beyond 4.1 standard deviations
    assert (scores > scores.mean() + 4.1 * scores.std()).mean() > gaussian_tail


def test_templates_are_of_unit_length(gallery: np.ndarray) -> None:
    assert gallery.dtype == np.float32
    assert gallery.shape == (len(GALLERY), DIMS)
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1.0, atol=1e-6)


@given(
    people=st.lists(st.integers(0, 3_000), min_size=1, max_size=6),
    band=st.sampled_from(Band),
    capture_no=st.integers(0, 3),
)
def test_many_captures_are_the_single_captures(
    people: list[int], band: Band, capture_no: int
) -> None:
    population = Population(1)
    many = population.captures(people, band, capture_no)
    for row, person in enumerate(people):
        np.testing.assert_array_equal(many[row], population.capture(person, band, capture_no))


def test_seed_person_band_and_number_each_change_the_capture() -> None:
    variants = [
        Population(seed).capture(person, band, capture_no)
        for seed in (1, 2)
        for person in (5, 600)
        for band in (Band.GOOD, Band.POOR)
        for capture_no in (0, 1)
    ]
    assert all(not np.array_equal(one, other) for one, other in combinations(variants, 2))


def test_the_leading_directions_are_even_over_people_and_steady_over_captures(
    population: Population, gallery: np.ndarray
) -> None:
    values = latent(gallery)[:, :16]
    assert np.abs(values.mean(axis=0)).max() < 0.3
    assert 0.8 < values.std(axis=0).min() <= values.std(axis=0).max() < 1.2
    poor = latent(population.captures(GALLERY[:PROBES], Band.POOR, 7))[:, :16]
    same = np.abs(poor - values[:PROBES]).mean()
    other = np.abs(poor - values[PROBES : 2 * PROBES]).mean()
    assert same < other / 2


def test_people_keep_their_facts_and_share_no_identifier(population: Population) -> None:
    people = population.identities(range(5_000))
    assert people[4_321] == population.identity(4_321) == Population(1).identity(4_321)
    assert people[7] != Population(2).identity(7)
    for identifier in ("nhs_number", "ni_number", "passport_number", "pnc_id"):
        assert len({getattr(person, identifier) for person in people}) == len(people)


@pytest.mark.parametrize("number", [-1, MAX_PEOPLE])
def test_there_is_nobody_beyond_the_last_person(population: Population, number: int) -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        population.identity(number)


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_one_its_agency_accepts(demo: tuple[Path, DemoFacts], kind: str) -> None:
    folder, facts = demo
    agency = AGENCY_KINDS[kind]
    rows = rows_of(folder / kind)
    records = [agency.record.model_validate(row) for row in rows]
    templates = np.load(folder / kind / "templates.npy")

    assert set(rows[0]) == set(agency.record.model_fields)
    assert all(record.incoherence(TODAY) is None for record in records)
    assert all(record.captured_on <= AS_OF for record in records)
    assert tuple(record.record_id for record in records) == facts.galleries[kind].record_ids
    assert len({record.record_id for record in records}) == len(records) == ROWS
    assert (templates.dtype, templates.shape) == (np.float32, (ROWS, DIMS))
    for planted in facts.galleries[kind].planted:
        barred = {
            rule.name
            for rule in agency.eligibility
            if rule.barred(records[planted.row]).hold(TODAY)
        }
        asked_for = {"custody.deletion-requested"} if rows[planted.row].get("deletion") else set()
        assert barred == asked_for


def test_a_probe_scores_highest_on_its_own_person_wherever_they_are_planted(
    demo: tuple[Path, DemoFacts],
) -> None:
    folder, facts = demo
    probes = np.load(folder / "probes" / "probes.npz")
    assert facts.mated("stranger") == {}
    assert set(facts.mated("suspect-poor")) == {"custody", "pnd", "passport"}
    for name in facts.probes:
        for gallery, records in facts.mated(name).items():
            scores = np.load(folder / gallery / "templates.npy") @ probes[name]
            assert (facts.galleries[gallery].record_ids[int(scores.argmax())],) == records


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_a_probe_may_list_has_an_image_that_an_adapter_finds(
    demo: tuple[Path, DemoFacts], kind: str
) -> None:
    folder, facts = demo
    store = ImageStore(folder / kind / "images")
    templates = np.load(folder / kind / "templates.npy")
    with np.load(folder / "probes" / "probes.npz") as probes:
        looked_for = np.stack([probes[name] for name in facts.probes])
    alike = (templates @ looked_for.T >= LOOKS_LIKE).any(axis=1)
    ids = facts.galleries[kind].record_ids
    wanted = {ids[row] for row in np.flatnonzero(alike)}
    wanted |= {one.record_id for one in facts.galleries[kind].planted}
    assert {one for one in ids if store.find(one) is not None} == wanted


def test_people_overlap_between_galleries_with_the_same_facts(
    demo: tuple[Path, DemoFacts],
) -> None:
    folder, facts = demo
    custody, pnd = facts.galleries["custody"], facts.galleries["pnd"]
    shared = np.intersect1d(custody.people, pnd.people)
    assert len(shared) >= ROWS // 8
    in_custody, in_pnd = rows_of(folder / "custody"), rows_of(folder / "pnd")
    for person in shared:
        one = in_custody[int(np.flatnonzero(custody.people == person)[0])]
        other = in_pnd[int(np.flatnonzero(pnd.people == person)[0])]
        assert other["date_of_birth"] in {"", one["date_of_birth"]}


def test_a_person_with_two_images_has_two_different_captures(
    demo: tuple[Path, DemoFacts],
) -> None:
    folder, facts = demo
    people, counts = np.unique(facts.galleries["custody"].people, return_counts=True)
    assert counts.max() == 2
    first, second = np.flatnonzero(
        facts.galleries["custody"].people == people[int(counts.argmax())]
    )
    templates = np.load(folder / "custody" / "templates.npy")
    assert 0.7 < templates[first] @ templates[second] < 0.99


def test_the_same_plan_writes_the_same_bytes(demo: tuple[Path, DemoFacts], tmp_path: Path) -> None:
    folder, _facts = demo
    write_demo(demo_plan(seed=3, rows=ROWS), tmp_path)
    written = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(written) > 2 * len(KINDS)
    for name in written:
        if name.suffix != ".npz":  # a zip archive carries the time it was made
            assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_source_that_cannot_be_written_is_refused(population: Population, tmp_path: Path) -> None:
    (grown_up,) = adults(population, 1)
    child = next(
        person.number
        for person in population.identities(range(1_000))
        if person.date_of_birth.year >= 2010
    )

    def write(kind: str, members: range, *planted: Plant) -> None:
        generate.write_gallery_source(kind, tmp_path, population, members, 10, planted)

    with pytest.raises(ValueError, match="no kind"):
        write("library", range(10))
    with pytest.raises(ValueError, match="do not make 10"):
        write("custody", range(5))
    with pytest.raises(ValueError, match="too young"):
        write("custody", range(2_000, 2_010), Plant(child))
    with pytest.raises(ValueError, match="only the columns"):
        write("custody", range(2_000, 2_010), Plant(grown_up, {"protected": "yes"}))
