"""Promise 6, exact: no record is missed because of how the gallery is scanned.

The answer must be that of comparing every eligible record in float64: the same ids in the same
order with the same scores, on galleries made to break it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agency_adapters.galleries import native, scanning, segment_content, tally
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.encoding import ROUNDING, encode_probes, encode_rows
from agency_adapters.galleries.files import FileGallery, ScanLimits
from agency_adapters.galleries.gallery import Query
from agency_adapters.galleries.kernels import Kernel, NumKongKernel, NumpyKernel
from agency_adapters.galleries.matching import exact_scores
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.galleries.tally import Ask
from agency_adapters.galleries.templates import unit_rows
from tests.galleries import (
    DAY,
    NOW,
    Mask,
    Rows,
    Vector,
    adversarial,
    brute_force,
    new_records,
    unit,
    write_gallery,
)
from tests.scale import scaled

Answer = list[tuple[str, float]]


def kernels(dims: int) -> list[Kernel]:
    """All kernels that take templates of this length; ours are compiled wherever tests run."""
    ours = native.kernels()
    assert ours, "no C compiler, or a processor without AVX2"
    return [NumKongKernel(), NumpyKernel(), *([] if dims % native.STEP else ours)]


def searched(
    path: Path, asks: Sequence[Ask], kernel: Kernel, workers: ThreadPoolExecutor, threads: int
) -> list[Answer]:
    stored = StoredGallery.open(path)
    if not stored.segments:
        return [[] for _ in asks]
    answers = scanning.scan(
        stored.segments,
        stored.eligibility(DAY).mask,
        asks,
        kernel=kernel,
        workers=workers,
        threads=threads,
        rows=stored.rows,
    )
    return [
        list(
            zip(
                stored.rows.record_ids([one.row for one in answer]),
                [one.score for one in answer],
                strict=True,
            )
        )
        for answer in answers
    ]


@settings(max_examples=scaled(250, 5000), deadline=None)
@given(
    case=adversarial(),
    limit=st.integers(1, 12),
    threshold=st.one_of(st.floats(-1, 1), st.just(-1.0)),
    on_a_score=st.integers(0, 59),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4)),
    waiting=st.sampled_from([1, 7, 1 << 18]),
    threads=st.integers(1, 3),
)
def test_the_answer_is_that_of_comparing_everything(
    case: tuple[Rows, list[str], Mask, list[Vector]],
    limit: int,
    threshold: float,
    on_a_score: int,
    sizes: tuple[int, int, int],
    waiting: int,
    threads: int,
) -> None:
    rows, ids, eligible, probes = case
    everything = brute_force(rows, ids, np.ones(len(ids), np.bool_), probes[0], -2.0, len(ids))
    if everything and on_a_score % 2:  # a threshold that is exactly somebody's score
        threshold = everything[on_a_score % len(everything)][1]
    asks = [Ask(probe, threshold, limit) for probe in probes]
    expected = [brute_force(rows, ids, eligible, p, threshold, limit) for p in probes]
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(threads) as workers,
    ):
        patch.setattr("agency_adapters.galleries.editing.SEGMENT_ROWS", sizes[0])
        patch.setattr(scanning, "AT_ONCE", sizes[1] * len(probes))
        patch.setattr(scanning, "FIRST_BLOCK_ROWS", sizes[2])
        patch.setattr(tally, "MAX_WAITING", waiting)
        out = Path(folder) / "gallery"
        write_gallery(out, rows, ids, eligible)
        for kernel in kernels(rows.shape[1]):
            assert searched(out, asks, kernel, workers, threads) == expected, kernel.name


@settings(max_examples=scaled(60, 1000), deadline=None)
@given(case=adversarial(), batches=st.integers(1, 4), gone=st.sets(st.integers(0, 59)))
def test_a_gallery_that_was_enrolled_bit_by_bit_answers_like_one_made_at_once(
    case: tuple[Rows, list[str], Mask, list[Vector]], batches: int, gone: set[int]
) -> None:
    rows, ids, eligible, probes = case
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(2) as workers,
    ):
        patch.setattr("agency_adapters.galleries.editing.SEGMENT_ROWS", 16)
        out = Path(folder) / "gallery"
        write_gallery(out, rows[:0], [], eligible[:0])
        records = new_records(rows, ids, eligible)
        with editing(out) as editor:
            for batch in range(batches):
                if records[batch::batches]:
                    editor.enrol(records[batch::batches], NOW)
            editor.erase([ids[n] for n in gone if n < len(ids)], NOW)
            editor.compact(NOW)
        left = np.array([n not in gone for n in range(len(ids))], dtype=np.bool_)
        asks = [Ask(probe, -1.0, 10) for probe in probes]
        expected = [brute_force(rows, ids, eligible & left, p, -1.0, 10) for p in probes]
        assert searched(out, asks, NumKongKernel(), workers, 2) == expected


@pytest.mark.parametrize("dims", [64, 512, 1200])
@pytest.mark.parametrize("probes", [1, 2, 3, 4, 20, 64])
def test_random_galleries_of_real_size_of_template(tmp_path: Path, dims: int, probes: int) -> None:
    random = np.random.default_rng(dims + probes)
    rows = unit_rows(random.standard_normal((5000, dims)))
    rows[100:120] = rows[0]
    ids = [f"R{n:05d}" for n in random.permutation(len(rows))]
    eligible = random.random(len(rows)) < 0.9
    write_gallery(tmp_path / "gallery", rows, ids, eligible)
    sought = [
        unit(rows[n * 7].astype(np.float64) + random.normal(0, 0.02, dims)) for n in range(probes)
    ]
    asks = [
        Ask(p, t, k)
        for p, t, k in zip(sought, [-1.0, 0.1, 0.6] * 22, [20, 1, 100] * 22, strict=False)
    ]
    expected = [
        brute_force(rows, ids, eligible, ask.probe, ask.threshold, ask.limit) for ask in asks
    ]
    with ThreadPoolExecutor(2) as workers:
        for kernel in kernels(dims):
            assert searched(tmp_path / "gallery", asks, kernel, workers, 2) == expected


@settings(max_examples=scaled(200, 3000), deadline=None)
@given(case=adversarial())
def test_what_encoding_lost_is_within_its_bound(
    case: tuple[Rows, list[str], Mask, list[Vector]],
) -> None:
    rows, _, _, probes = case
    if not len(rows):
        return
    encoded, asked = encode_rows(rows), encode_probes(np.stack(probes))
    assert np.abs(encoded.codes.astype(int)).max() <= 127
    for number, probe in enumerate(probes):
        scores = exact_scores(rows, np.arange(len(rows)), probe)
        products = encoded.codes.astype(np.int64) @ asked.codes[number].astype(np.int64)
        middle = products * encoded.scale * asked.scales[number]
        bounds = encoded.bounds.astype(np.float64)
        error = bounds + asked.bounds[number] * (1 + bounds) + ROUNDING
        assert (np.abs(scores - middle) <= error).all()


def test_the_bound_is_small_enough_to_spare_nearly_everything() -> None:
    random = np.random.default_rng(5)
    encoded = encode_rows(unit_rows(random.standard_normal((2000, 512))))
    assert encoded.bounds.max() < 0.013


async def test_concurrent_probes_are_answered_as_if_each_were_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows = unit_rows(random.standard_normal((3000, 128)))
    ids = [f"R{n:05d}" for n in range(len(rows))]
    eligible = random.random(len(rows)) < 0.8
    write_gallery(tmp_path / "gallery", rows, ids, eligible)
    gallery = await FileGallery.open(tmp_path / "gallery", ScanLimits(threads=2, waiting=500))
    sought = [unit(rows[n].astype(np.float64) + random.normal(0, 0.05, 128)) for n in range(150)]
    queries = [
        Query(probe, threshold=(n % 5) / 5 - 0.4, limit=n % 9 + 1, day=DAY)
        for n, probe in enumerate(sought)
    ]
    found = await asyncio.gather(*map(gallery.search, queries))
    await gallery.close()
    for query, answer in zip(queries, found, strict=True):
        said = [(one.record_id, one.score) for one in answer.candidates]
        assert said == brute_force(rows, ids, eligible, query.probe, query.threshold, query.limit)
        assert answer.eligible == eligible.sum()


def test_a_gallery_of_one_person_again_and_again_keeps_no_more_than_answers_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "MAX_WAITING", 500)
    rows = unit_rows(np.ones((20_000, 16)))
    ids = [f"R{n:05d}" for n in reversed(range(len(rows)))]
    write_gallery(tmp_path / "gallery", rows, ids, np.ones(len(rows), np.bool_))
    probe = unit(np.ones(16))
    with ThreadPoolExecutor(2) as workers:
        (answer,) = searched(
            tmp_path / "gallery", [Ask(probe, -1.0, 3)], NumKongKernel(), workers, 2
        )
    assert [name for name, _ in answer] == ["R00000", "R00001", "R00002"]
    assert len(rows) > segment_content.SEGMENT_ROWS


@pytest.mark.parametrize(("threshold", "count"), [(1e308, 0), (-1e308, 4), (1.0, 1)])
def test_any_threshold_that_a_float_can_hold(tmp_path: Path, threshold: float, count: int) -> None:
    rows = np.eye(4, dtype=np.float32)
    write_gallery(tmp_path / "gallery", rows, list("ABCD"), np.ones(4, np.bool_))
    ask = Ask(np.eye(4)[0], threshold, 9)
    with ThreadPoolExecutor(1) as workers:
        (answer,) = searched(tmp_path / "gallery", [ask], NumKongKernel(), workers, 1)
    assert len(answer) == count


async def test_a_probe_that_its_owner_wiped_while_it_waited_spoils_no_other(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    write_gallery(tmp_path / "gallery", rows, list("ABCD"), np.ones(4, np.bool_))
    gallery = await FileGallery.open(tmp_path / "gallery")
    wiped, sound = Query(np.zeros(4), 0.5, 9, DAY), Query(np.eye(4)[1], 0.5, 9, DAY)
    empty, found = gallery.search_all([wiped, sound])
    assert not empty.candidates
    assert [one.record_id for one in found.candidates] == ["B"]
    await gallery.close()
