"""What every gallery must do, whatever engine is behind it; a new engine is one more parameter."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.gallery import Scored
from agency_adapters.galleries.matching import exact_scores
from agency_adapters.galleries.opening import open_gallery
from agency_adapters.galleries.rejecting import RowsRejectedError
from agency_adapters.galleries.templates import Probe, Templates, unit_rows
from agency_adapters.pnd import PND
from tests.contract.gallery_engines import (
    DAY,
    Bench,
    enrolled,
    erased,
    find,
    fresh,
    names,
    names_or_gone,
    people,
    probe_of,
)
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ENGINES = ("files", "pgvector", "milvus")
DIMS = 8


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    postgres = request.getfixturevalue("postgres") if request.param == "pgvector" else ""
    return fresh(request.param, tmp_path, postgres)


async def test_a_probe_finds_its_mate_first(bench: Bench) -> None:
    templates = people(200)
    ids = [f"R{n:04d}" for n in range(200)]
    bench.put(templates, ids, [True] * 200)
    gallery = await bench.open()
    noise = np.random.default_rng(9)
    for row in (0, 57, 199):
        probe = probe_of(templates[row] + 0.05 * noise.standard_normal(64))
        found = await find(gallery, probe, 0.6)
        assert found.eligible == 200
        assert found.candidates[0].record_id == ids[row]
        scores = [one.score for one in found.candidates]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0.6
    await gallery.close()


async def test_ineligible_records_are_as_if_they_were_not_there(bench: Bench) -> None:
    templates = people(50)
    ids = [f"R{n:04d}" for n in range(50)]
    bench.put(templates, ids, [n % 2 == 0 for n in range(50)])
    gallery = await bench.open()
    found = await find(gallery, probe_of(templates[1]), limit=50)
    assert sorted(one.record_id for one in found.candidates) == ids[::2]
    assert found.eligible == 25
    eligible = await gallery.eligible(DAY, frozenset())
    assert eligible.count == 25
    assert dict(eligible.met) == {
        "custody.deletion-requested": 25,
        "custody.unconvicted-minor": 0,
        "custody.review-overdue": 0,
    }
    await gallery.close()


async def test_a_switch_turns_its_rule_on_and_days_turn_it_by_themselves(bench: Bench) -> None:
    templates = people(2)
    bench.put(templates, ["R1", "R2"], [True, True])
    lines = (bench.folder / "r.csv").read_text().splitlines()
    (bench.folder / "r.csv").write_text("\n".join([*lines[:2], f"{lines[2]}2026-11-22"]) + "\n")
    bench.again()
    gallery = await bench.open()
    probe, on = probe_of(templates[1]), frozenset({"bar_overdue_reviews"})
    assert (await find(gallery, probe)).eligible == 2
    barred = await find(gallery, probe, switches=on)
    assert ([one.record_id for one in barred.candidates], barred.eligible) == (["R1"], 1)
    before = await gallery.eligible(DAY.replace(day=22), on)
    assert (before.count, before.met["custody.review-overdue"]) == (2, 0)
    after = await gallery.eligible(DAY, frozenset())
    assert (after.count, after.met["custody.review-overdue"]) == (2, 1)
    await gallery.close()


@pytest.mark.parametrize("bad", ["R2,2020-02-30,1980-01-01,convicted,other,,", "R2"])
async def test_a_bad_row_lets_no_held_record_go_unless_that_is_asked_for(
    bench: Bench, bad: str
) -> None:
    templates = people(3)
    bench.put(templates, ["R1", "R2", "R3"], [True] * 3)
    records = bench.folder / "r.csv"
    header, one, _, three = records.read_text().splitlines()
    records.write_text(f"{header}\n{one}\n{bad}\n{three}\n")
    with pytest.raises(RowsRejectedError):
        bench.imported()
    gallery = await bench.open()
    generation = gallery.facts.generation
    assert await names(gallery, probe_of(templates[1]), 0.9, 5) == ["R2"]
    await gallery.close()
    assert len(bench.imported(drop_rejected=True).rejected) == 1
    gallery = await bench.open()
    assert (gallery.facts.count, gallery.facts.generation) == (2, generation + 1)
    assert await names(gallery, probe_of(templates[1]), 0.9, 5) == []
    await gallery.close()


async def test_an_import_of_which_no_row_is_good_changes_nothing(bench: Bench) -> None:
    templates = people(2)
    bench.put(templates, ["R1", "R2"], [True] * 2)
    records = bench.folder / "r.csv"
    records.write_text(records.read_text().replace("convicted", "cautioned"))
    for drop_rejected in (False, True):
        with pytest.raises(RowsRejectedError):
            bench.imported(drop_rejected=drop_rejected)
    gallery = await bench.open()
    assert await names(gallery, probe_of(templates[1]), 0.9, 5) == ["R2"]
    await gallery.close()


async def test_ties_are_in_the_order_of_record_ids(bench: Bench) -> None:
    templates = np.repeat(people(1), 40, axis=0)
    ids = [f"R{n:04d}" for n in reversed(range(40))]
    bench.put(templates, ids, [True] * 40)
    gallery = await bench.open()
    assert await names(gallery, probe_of(templates[0]), 0.5, 7) == sorted(ids)[:7]
    await gallery.close()


@pytest.mark.parametrize("eligible", [True, False])
async def test_nobody_to_find_is_an_empty_list(bench: Bench, eligible: bool) -> None:  # noqa: FBT001
    bench.put(people(1), ["R1"], [eligible])
    gallery = await bench.open()
    found = await find(gallery, -probe_of(people(1)[0]), 0.0)
    assert (found.candidates, found.eligible) == ((), int(eligible))
    await gallery.close()


async def test_an_empty_gallery_is_a_gallery(bench: Bench) -> None:
    bench.put(np.empty((0, DIMS), np.float32), [], [])
    gallery = await bench.open()
    assert (gallery.facts.count, gallery.facts.dims, gallery.facts.kind) == (0, DIMS, "custody")
    found = await find(gallery, probe_of(people(1, DIMS)[0]))
    assert (found.candidates, found.eligible) == ((), 0)
    await gallery.close()


async def test_the_threshold_itself_is_reached_and_a_breath_above_is_not(bench: Bench) -> None:
    templates = people(30, DIMS)
    ids = [f"R{n:02d}" for n in range(30)]
    bench.put(templates, ids, [True] * 30)
    gallery = await bench.open()
    probe = probe_of(people(1, DIMS, seed=3)[0])
    found = (await find(gallery, probe, limit=30)).candidates
    for rank in (0, 4, 29):
        score = found[rank].score
        assert await names(gallery, probe, score, 30) == [
            one.record_id for one in found[: rank + 1]
        ]
        above = np.nextafter(score, 2.0)
        assert await names(gallery, probe, above, 30) == [one.record_id for one in found[:rank]]
    await gallery.close()


async def test_a_record_is_given_by_its_id_and_no_other(bench: Bench) -> None:
    bench.put(people(2), ["R/1", "R2"], [True, False])
    gallery = await bench.open()
    record = await gallery.record("R/1")
    assert record is not None
    assert record.model_dump(mode="json")["captured_on"] == "2020-01-01"
    for other in ("R1", "r2", "", "R2' OR '1'='1", 'R2"] or since in [1', "R\u00e9"):
        assert await gallery.record(other) is None
    await gallery.close()


async def test_a_new_generation_is_seen_by_opening_it_anew(bench: Bench) -> None:
    templates = people(3)
    bench.put(templates[:2], ["R1", "R2"], [True, True])
    old = await bench.open()
    assert await old.newer() is None
    changed = np.stack([templates[2], templates[1]])
    bench.put(changed, ["R1", "R3"], [True, True])
    newer = await old.newer()
    assert newer is not None
    assert newer.facts.generation > old.facts.generation
    assert await names(old, probe_of(templates[0]), 0.9, 5) == ["R1"]
    assert await names(newer, probe_of(templates[0]), 0.9, 5) == []
    assert await names(newer, probe_of(templates[2]), 0.9, 5) == ["R1"]
    assert await names(newer, probe_of(templates[1]), 0.9, 5) == ["R3"]
    assert await newer.newer() is None
    await old.close()
    assert await names(newer, probe_of(templates[2]), 0.9, 5) == ["R1"]
    await newer.close()


async def test_a_gallery_of_another_kind_or_none_is_refused(bench: Bench) -> None:
    with pytest.raises(ProbegateError) as refused:
        await bench.open()
    assert refused.value.reason is Reason.GALLERY_MISSING
    bench.put(people(1), ["R1"], [True])
    with pytest.raises(ProbegateError) as refused:
        await open_gallery(bench.location, PND)
    assert refused.value.reason is Reason.CONFIG_INVALID


Case = tuple[Templates, list[bool], Probe, float, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Galleries made to be hard: duplicates, neighbours by one rounding, denormals, opposites."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    bases = unit_rows(random.standard_normal((draw(st.integers(1, 3)), DIMS)))
    rows: list[npt.NDArray[np.float32]] = []
    for _ in range(draw(st.integers(0, 40))):
        row = bases[draw(st.integers(0, len(bases) - 1))].copy()
        match draw(st.sampled_from(["same", "next", "denormal", "opposite", "other"])):
            case "next":
                at = draw(st.integers(0, DIMS - 1))
                row[at] = np.nextafter(row[at], np.float32(draw(st.sampled_from([-2, 2]))))
            case "denormal":
                row[draw(st.integers(0, DIMS - 1))] = np.float32(1e-42)
                row = unit_rows(row[np.newaxis])[0]
            case "opposite":
                row = -row
            case "other":
                row = unit_rows(random.standard_normal((1, DIMS)))[0]
        rows.append(row)
    templates = np.array(rows, np.float32).reshape(-1, DIMS)
    eligible = draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    near = bases[0] + draw(st.sampled_from([0.0, 1e-7, 0.3])) * random.standard_normal(DIMS)
    probe = probe_of(near)
    threshold = draw(st.sampled_from([-1.0, 0.0, 0.5, 0.999]))
    at_somebody: bool = draw(st.booleans())
    if rows and at_somebody:  # at somebody's very score
        somebody = np.array([draw(st.integers(0, len(rows) - 1))])
        threshold = float(exact_scores(unit_rows(templates), somebody, probe)[0])
    return templates, eligible, probe, threshold, draw(st.integers(1, 12))


@pytest.fixture(scope="module", params=ENGINES)
def hard_bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    postgres = request.getfixturevalue("postgres") if request.param == "pgvector" else ""
    return fresh(request.param, tmp_path_factory.mktemp("hard"), postgres)


@settings(
    max_examples=scaled(15, 400),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(case=cases())
def test_the_answer_is_that_of_comparing_everybody_in_float64(
    hard_bench: Bench, case: Case
) -> None:
    templates, eligible, probe, threshold, limit = case
    ids = [f"R{n:02d}" for n in range(len(templates))]
    hard_bench.put(templates, ids, eligible)
    stored = unit_rows(templates)  # as every import stores them
    scores = exact_scores(stored, np.arange(len(ids), dtype=np.intp), probe)
    everybody = [
        Scored(record_id, float(score))
        for record_id, score, allowed in zip(ids, scores, eligible, strict=True)
        if allowed and score >= threshold
    ]
    everybody.sort(key=lambda one: (-one.score, one.record_id))

    async def search() -> None:
        gallery = await hard_bench.open()
        assert gallery.facts.exact
        found = await find(gallery, probe, threshold, limit)
        await gallery.close()
        assert found.candidates == tuple(everybody[:limit])
        assert found.eligible == sum(eligible)

    asyncio.run(search())


async def test_every_engine_states_the_same_matcher(bench: Bench) -> None:
    bench.put(people(1), ["R1"], [True])
    gallery = await open_gallery(bench.location, CUSTODY)
    assert gallery.facts.matcher == "probegate-cosine/1"
    await gallery.close()


async def test_what_is_enrolled_updated_and_erased_shows_in_the_next_generation(
    bench: Bench,
) -> None:
    templates = people(5)
    bench.put(templates[:3], ["R1", "R2", "R3"], [True] * 3)
    first = await bench.open()
    enrolled(bench, templates[3:], ["R2", "R4"])
    second = await first.newer()
    assert second is not None
    assert second.facts.count == 4
    assert await names(second, probe_of(templates[1]), 0.9, 5) == []
    assert await names(second, probe_of(templates[3]), 0.9, 5) == ["R2"]
    assert await names(second, probe_of(templates[4]), 0.9, 5) == ["R4"]
    assert erased(bench, ["R4", "R9"]) == ("R4",)
    # at once, for everybody
    assert not await names_or_gone(second, probe_of(templates[4]), 0.9, 5)
    third = await second.newer()
    assert third is not None
    assert third.facts.count == 3
    assert await third.record("R4") is None
    assert await names(third, probe_of(templates[3]), 0.9, 5) == ["R2"]
    for gallery in (first, second, third):
        await gallery.close()


@pytest.mark.parametrize("gone", ["R1", "R5", "R9"])
async def test_an_old_generation_misses_nobody_or_says_that_it_is_no_longer_kept(
    bench: Bench, gone: str
) -> None:
    """An answer of "nobody" about a record that is there would be silence taken for no match."""
    templates, ids = people(9), [f"R{n}" for n in range(1, 10)]
    bench.put(templates, ids, [True] * 9)
    old = await bench.open()
    enrolled(bench, unit_rows(templates[6:7] + 0.01), ["R7"])
    erased(bench, [gone])
    for name, template in zip(ids, templates, strict=True):
        if name != gone:
            assert await names_or_gone(old, probe_of(template), 0.9, 5) in (None, [name])
            assert await old.record(name) is not None
    await old.close()


async def test_templates_come_back_to_the_bit(bench: Bench) -> None:
    templates = people(40, DIMS)
    bench.put(templates, [f"R{n:02d}" for n in range(40)], [True] * 40)
    gallery = await bench.open()
    stored = unit_rows(templates)
    for row in range(0, 40, 7):
        (best,) = (await find(gallery, probe_of(templates[row]), limit=1)).candidates
        rows = np.array([row], dtype=np.intp)
        assert best.score == float(exact_scores(stored, rows, probe_of(templates[row]))[0])
    await gallery.close()


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://nobody@127.0.0.1:1/nothing",
        "milvus://127.0.0.1:1/nothing",
    ],
)
async def test_an_engine_that_is_not_there_is_unavailable(location: str) -> None:
    with pytest.raises(ProbegateError) as refused:
        await open_gallery(location, CUSTODY)
    assert refused.value.reason is Reason.GALLERY_UNAVAILABLE


@pytest.mark.parametrize(
    "location", ["postgresql://me:hunter2@127.0.0.1/db", "milvus://me:hunter2@127.0.0.1:1/db"]
)
async def test_a_password_in_an_address_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(ProbegateError) as refused:
        await open_gallery(location, CUSTODY)
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert "hunter2" not in refused.value.line() + repr(refused.value) + refused.value.detail


async def test_an_address_of_no_engine_is_refused() -> None:
    with pytest.raises(ProbegateError) as refused:
        await open_gallery("redis://127.0.0.1/0", CUSTODY)
    assert refused.value.reason is Reason.CONFIG_INVALID
