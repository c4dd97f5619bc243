"""Exact matching against float64 brute force, on galleries made to break it (promise 6)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agency_adapters.galleries import matching
from agency_adapters.galleries.matching import best_matches
from agency_adapters.galleries.templates import (
    INT8_SCALE,
    decode_probe_template,
    template_faults,
    unit_rows,
    wipe,
)
from tests.scale import scaled
from trust.errors import ProbegateError, Reason
from trust.messages import Encoding, ProbeManifest

Rows = npt.NDArray[np.float32]


def brute_force(
    rows: Rows,
    eligible: npt.NDArray[np.bool_],
    probe: npt.NDArray[np.float64],
    threshold: float,
    k: int,
) -> list[tuple[int, float]]:
    wide = rows.astype(np.float64)
    scores = np.add.reduce(wide * probe, axis=1) / np.sqrt(np.add.reduce(wide * wide, axis=1))
    ranked = sorted((-s, i) for i, s in enumerate(scores) if eligible[i] and s >= threshold)
    return [(i, -s) for s, i in ranked[:k]]


def unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    made: npt.NDArray[np.float64] = vector / np.sqrt(np.dot(vector, vector))
    return made


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rows, npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Galleries full of duplicates and of rows that differ in the last bits."""
    dims = draw(st.integers(1, 24))
    values = st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
    base = draw(hnp.arrays(np.float64, (draw(st.integers(1, 4)), dims), elements=values))
    base[~base.any(axis=1)] = 1.0
    picks = draw(st.lists(st.integers(0, len(base) - 1), max_size=40))
    rows = base[picks] if picks else np.empty((0, dims))
    nudges = draw(hnp.arrays(np.float64, rows.shape, elements=st.sampled_from([0.0, 1e-7, -1e-7])))
    rows = unit_rows(rows + nudges) if len(rows) else rows.astype(np.float32)
    eligible = draw(hnp.arrays(np.bool_, len(rows)))
    probe = unit(base[0] + draw(st.sampled_from([0.0, 1e-8, 0.25])))
    return rows, eligible, probe


@settings(max_examples=scaled(150, 3000), deadline=None)
@given(cases(), st.integers(1, 10), st.floats(-1, 1), st.integers(1, 9))
def test_the_answer_is_the_brute_force_answer(
    case: tuple[Rows, npt.NDArray[np.bool_], npt.NDArray[np.float64]],
    k: int,
    threshold: float,
    block: int,
) -> None:
    rows, eligible, probe = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "BLOCK_ROWS", block)
        found = best_matches(rows, eligible, probe, threshold=threshold, limit=k)
    assert [(m.row, m.score) for m in found] == brute_force(rows, eligible, probe, threshold, k)


@settings(max_examples=scaled(40, 500), deadline=None)
@given(cases(), st.integers(1, 10), st.integers(0, 39))
def test_a_threshold_that_is_exactly_a_score_keeps_it(
    case: tuple[Rows, npt.NDArray[np.bool_], npt.NDArray[np.float64]], k: int, pick: int
) -> None:
    rows, _, probe = case
    eligible = np.ones(len(rows), dtype=np.bool_)
    everything = brute_force(rows, eligible, probe, -2.0, len(rows))
    if not everything:
        return
    threshold = everything[pick % len(everything)][1]
    found = best_matches(rows, eligible, probe, threshold=threshold, limit=k)
    assert [(m.row, m.score) for m in found] == brute_force(rows, eligible, probe, threshold, k)


def test_the_scan_error_is_within_its_bound() -> None:
    rng = np.random.default_rng(5)
    rows = unit_rows(rng.standard_normal((2000, 512)))
    probe = unit(rng.standard_normal(512))
    exact = matching.exact_scores(rows, np.arange(len(rows)), probe)
    scan = rows @ probe.astype(np.float32)
    assert np.abs(scan - exact).max() < matching.scan_error(512) < 1e-4


@pytest.mark.parametrize("rows", [0, 1])
def test_the_smallest_galleries(rows: int) -> None:
    gallery = np.eye(4, dtype=np.float32)[:rows]
    probe = np.array([1.0, 0, 0, 0])
    found = best_matches(gallery, np.ones(rows, np.bool_), probe, threshold=0.5, limit=3)
    assert [m.row for m in found] == list(range(rows))
    assert best_matches(gallery, np.zeros(rows, np.bool_), probe, threshold=-1, limit=3) == ()


@pytest.mark.parametrize(("threshold", "count"), [(1e308, 0), (-1e308, 4), (1.0, 1)])
def test_any_threshold_a_float_can_hold(threshold: float, count: int) -> None:
    gallery = np.eye(4, dtype=np.float32)
    probe = np.array([1.0, 0, 0, 0])
    found = best_matches(gallery, np.ones(4, np.bool_), probe, threshold=threshold, limit=9)
    assert len(found) == count


def test_equal_templates_come_in_the_order_of_record_ids() -> None:
    rng = np.random.default_rng(3)
    gallery = np.repeat(unit_rows(rng.standard_normal((1, 511))), 5000, axis=0)
    probe = unit(rng.standard_normal(511))
    found = best_matches(gallery, np.ones(5000, np.bool_), probe, threshold=-1, limit=50)
    assert [m.row for m in found] == list(range(50))
    assert len({m.score for m in found}) == 1


def manifest(encoding: Encoding, dims: int) -> ProbeManifest:
    return ProbeManifest(
        source="cctv", quality=50, model="m-1", dims=dims, encoding=encoding, commitment=b"\0" * 32
    )


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_probe_is_decoded_as_declared(encoding: Encoding) -> None:
    vector = unit(np.random.default_rng(2).standard_normal(512))
    raw = {
        Encoding.FLOAT32: vector.astype("<f4"),
        Encoding.FLOAT16: vector.astype("<f2"),
        Encoding.INT8: np.rint(vector * INT8_SCALE).astype("i1"),
    }[encoding].tobytes()
    probe = decode_probe_template(raw, manifest(encoding, 512), "m-1", 512)
    assert np.dot(probe, probe) == pytest.approx(1.0, abs=1e-12)
    assert np.dot(probe, vector) > 0.99
    with pytest.raises(ProbegateError) as raised:
        decode_probe_template(raw[:-1], manifest(encoding, 512), "m-1", 512)
    assert raised.value.reason is Reason.PROBE_INVALID
    with pytest.raises(ProbegateError) as raised:
        decode_probe_template(raw, manifest(encoding, 512), "m-2", 512)
    assert raised.value.reason is Reason.PROBE_MODEL


@given(st.binary(min_size=64, max_size=64), st.sampled_from(list(Encoding)))
def test_any_bytes_are_a_unit_probe_or_refused(data: bytes, encoding: Encoding) -> None:
    dims = {Encoding.FLOAT32: 16, Encoding.FLOAT16: 32, Encoding.INT8: 64}[encoding]
    dtype = {Encoding.FLOAT32: "<f4", Encoding.FLOAT16: "<f2", Encoding.INT8: "i1"}[encoding]
    scale = INT8_SCALE if encoding is Encoding.INT8 else 1
    with np.errstate(all="ignore"):
        length = np.linalg.norm(np.frombuffer(data, dtype).astype(np.float64) / scale)
    if abs(length - 1) < 5e-4:
        probe = decode_probe_template(data, manifest(encoding, dims), "m-1", dims)
        assert np.isclose(np.dot(probe, probe), 1.0)
    elif not abs(length - 1) < 0.1:
        with pytest.raises(ProbegateError) as raised:
            decode_probe_template(data, manifest(encoding, dims), "m-1", dims)
        assert raised.value.reason is Reason.PROBE_INVALID


def test_every_fault_is_named() -> None:
    rows = np.array([[1, 0], [np.nan, 0], [np.inf, 0], [0, 0], [2, 0], [1.0009, 0]], np.float32)
    assert template_faults(rows) == [
        None,
        "template: not finite",
        "template: not finite",
        "template: zero vector",
        "template: not of unit length",
        None,
    ]


def test_wiping_leaves_zeros() -> None:
    memory = bytearray(b"template")
    wipe(memory)
    assert memory == bytes(8)
