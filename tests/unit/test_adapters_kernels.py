"""Every kernel finds what numpy's plain whole numbers find, at the ends of what int8 can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agency_adapters.galleries import native
from agency_adapters.galleries.choosing import best_kernel
from agency_adapters.galleries.encoding import ROUNDING, Codes
from agency_adapters.galleries.kernels import (
    Kernel,
    NumKongKernel,
    NumpyKernel,
    Piece,
    scores_by_numpy,
)

CODES = st.one_of(st.integers(-127, 127), st.sampled_from([-127, 127, 0, 1, -1]))


OURS = native.kernels()
"""Compiled wherever tests run; those that this processor runs."""


def test_there_are_kernels_here() -> None:
    assert native.AVX2 in {one.name for one in OURS}


def codes(rows: st.SearchStrategy[int], dims: int) -> st.SearchStrategy[Codes]:
    return rows.flatmap(
        lambda n: arrays.arrays(
            np.int8, (n, dims), elements=CODES, fill=st.sampled_from([127, -127, 0])
        )
    )


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Codes, Codes, np.ndarray]:
    dims = 8 * draw(st.integers(1, 20))
    block = draw(codes(st.integers(1, 140), dims))
    probes = draw(codes(st.integers(1, 21), dims))
    products = block.astype(np.int64) @ probes.T.astype(np.int64)
    # A cut that is one row's product, or just above or below it.
    row = draw(st.integers(0, len(block) - 1))
    lowest = products[row] + draw(st.integers(-1, 1))
    return block, probes, lowest.astype(np.int32)


def piece(block: Codes, bounds: np.ndarray | None = None, scale: float = 1.0) -> Piece:
    longest = float(np.sqrt((block.astype(np.float64) ** 2).sum(axis=1).max(initial=0.0)))
    bounds = np.zeros(len(block), np.float32) if bounds is None else bounds
    return Piece(block, bounds, scale, longest)


ANY = -np.inf


@settings(max_examples=150, deadline=None)
@given(case=blocks(), at_once=st.sampled_from([1, 40, 1000, 1 << 17]), loss=st.floats(0, 2))
def test_the_hits_are_all_that_may_reach_the_cut(
    case: tuple[Codes, Codes, np.ndarray], at_once: int, loss: float
) -> None:
    block, probes, lowest = case
    products = block.astype(np.int64) @ probes.T.astype(np.int64)
    exact = probes.astype(np.float64)
    bounds = np.linspace(0, loss, len(block), dtype=np.float32)
    cuts = lowest + 0.5
    error = bounds.astype(np.float64) + ROUNDING
    near = (products >= lowest) & (products + error[:, np.newaxis] >= cuts)
    expected = {(r, p, products[r, p], error[r]) for r, p in zip(*np.nonzero(near), strict=True)}
    kernels: list[Kernel] = [*OURS, NumKongKernel(), NumpyKernel()]
    for kernel in kernels:
        prepared = kernel.prepare(probes.copy(), exact, at_once)
        found: list[Any] = []
        start = 0
        while start < len(block):
            # What is left, in two pieces where it is more than one row.
            rest, loss_of = block[start:], bounds[start:]
            halves = [slice(0, len(rest) // 2), slice(len(rest) // 2, None)]
            pieces = [piece(rest[half], loss_of[half]) for half in halves if len(rest[half])]
            floors = np.tile(lowest, (len(pieces), 1))
            hits = prepared.hits(pieces, floors, cuts)
            found += zip(hits.row + start, hits.probe, hits.middle, hits.error, strict=True)
            assert hits.rows >= 1
            start += hits.rows
        assert start == len(block)
        assert len(found) == len(expected), kernel.name
        assert set(found) == expected, kernel.name
        prepared.wipe()


def test_each_piece_has_its_own_floor_scale_and_bounds() -> None:
    random = np.random.default_rng(5)
    probes = random.integers(-127, 128, (20, 64), dtype=np.int8)
    blocks_ = [random.integers(-127, 128, (n, 64), dtype=np.int8) for n in (30, 1, 24, 63, 100)]
    for few in (1, 20):
        asked = probes[:few]
        cuts = np.full(few, 40_000.0)
        pieces = [
            piece(one, np.full(len(one), 1000.0 * n, np.float32), 1.0 + n / 4)
            for n, one in enumerate(blocks_)
        ]
        floors = np.array([[20_000 - 3000 * n] * few for n in range(5)], np.int32)
        expected, first = set(), 0
        for n, one in enumerate(blocks_):
            products = one.astype(np.int64) @ asked.T.astype(np.int64)
            middle = products * pieces[n].scale
            near = (products >= floors[n]) & (middle + 1000.0 * n + ROUNDING >= cuts)
            expected |= {
                (first + r, p, middle[r, p]) for r, p in zip(*np.nonzero(near), strict=True)
            }
            first += len(one)
        assert expected
        for kernel in OURS:
            prepared = kernel.prepare(asked, asked.astype(np.float64), 1 << 17)
            hits = prepared.hits(pieces, floors, cuts)
            assert hits.rows == first
            assert set(zip(hits.row, hits.probe, hits.middle, strict=True)) == expected


@pytest.mark.parametrize("kernel", OURS, ids=lambda one: one.name)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("probes", [1, 3, 4, 8, 9, 16, 17, 33, 64, 65])
def test_the_largest_products_do_not_overflow(
    kernel: native.NativeKernel, sign: int, probes: int
) -> None:
    block = piece(np.full((70, 4096), 127, np.int8))
    asked = np.full((probes, 4096), 127 * sign, np.int8)
    largest = sign * 127 * 127 * 4096
    prepared = kernel.prepare(asked, asked.astype(np.float64), 1 << 17)
    for lowest, found in ((-(2**31) + 1, True), (largest, True), (largest + 1, False)):
        hits = prepared.hits([block], np.full((1, probes), lowest, np.int32), np.full(probes, ANY))
        assert len(hits.row) == (70 * probes if found else 0)
        assert set(hits.middle.tolist()) <= {largest}


@pytest.mark.parametrize("kernel", OURS, ids=lambda one: one.name)
def test_nothing_is_handed_to_the_compiled_code_unchecked(kernel: native.NativeKernel) -> None:
    good = np.zeros((4, 64), np.int8)
    for probes in (good[:1], good):
        count = len(probes)
        prepared = kernel.prepare(probes, probes.astype(np.float64), 1 << 10)
        lowest, cuts = np.zeros((1, count), np.int32), np.zeros(count)
        assert prepared.hits([piece(good)], lowest, cuts).rows == 4
        wrong: list[Any] = [
            np.zeros((4, 64), np.uint8),
            np.zeros((4, 56), np.int8),
            np.zeros((4, 128), np.int8)[:, ::2],
            np.zeros((0, 64), np.int8),
            np.zeros(64, np.int8),
        ]
        for codes in wrong:
            losses = np.zeros(len(codes), np.float32)
            with pytest.raises(TypeError):
                prepared.hits([Piece(codes, losses, 1.0, 1.0)], lowest, cuts)
        losses_: list[Any] = [np.zeros(4), np.zeros(3, np.float32), np.zeros(8, np.float32)[::2]]
        for losses in losses_:
            with pytest.raises(TypeError):
                prepared.hits([piece(good, losses)], lowest, cuts)
        floors: list[Any] = [lowest.astype(np.int64), np.zeros((1, 5), np.int32), lowest[0]]
        for bad in floors:
            with pytest.raises(TypeError):
                prepared.hits([piece(good)], bad, cuts)
        bad_cuts: list[Any] = [cuts.astype(np.float32), np.zeros(5)]
        for bad in bad_cuts:
            with pytest.raises(TypeError):
                prepared.hits([piece(good)], lowest, bad)
        with pytest.raises(TypeError):
            prepared.hits([piece(good), piece(good)], lowest, cuts)
    with pytest.raises(TypeError):
        kernel.prepare(np.zeros((4, 60), np.int8), np.zeros((4, 60)), 4)
    exact: list[Any] = [
        np.zeros((4, 64), np.float32),
        np.zeros((3, 64)),
        np.zeros((4, 128))[:, ::2],
    ]
    for bad in exact:
        with pytest.raises(TypeError):
            kernel.prepare(good, bad, 4)


class Templates:
    """Templates in memory, as a segment has them in a file."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.dims = array.shape[1]

    def templates(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.array[rows]
        return found

    def addresses(self, rows: np.ndarray) -> np.ndarray:
        first = np.full(len(rows), self.array.ctypes.data, np.uintp)
        found: np.ndarray = first + rows.astype(np.uintp) * np.uintp(4 * self.dims)
        return found


@settings(max_examples=100, deadline=None)
@given(
    eights=st.one_of(st.integers(1, 40), st.sampled_from([64, 128, 512])),
    rows=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_compiled_scores_are_numpys_to_the_last_bit(eights: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    array = random.standard_normal((rows, 8 * eights)).astype(np.float32)
    array[random.integers(rows)] *= random.choice([0.0, 1.0, 1e-30, 1e18])
    probes = random.standard_normal((3, 8 * eights))
    which, whose = random.integers(rows, size=20), random.integers(3, size=20)
    stored = Templates(array)
    expected = scores_by_numpy(stored, which, probes, whose)
    for kernel in OURS:
        assert kernel.scores(stored, which, probes, whose).tolist() == expected.tolist()


@pytest.mark.parametrize("kernel", OURS, ids=lambda one: one.name)
def test_scores_are_checked_before_they_are_computed(kernel: native.NativeKernel) -> None:
    stored = Templates(np.ones((4, 64), np.float32))
    rows, probes = np.arange(4), np.ones((2, 64))
    wrong: list[Any] = [probes.astype(np.float32), np.ones((2, 56)), np.ones((2, 128))[:, ::2]]
    for bad in wrong:
        with pytest.raises(TypeError):
            kernel.scores(stored, rows, bad, np.zeros(4, np.intp))
    with pytest.raises(TypeError):
        kernel.scores(stored, rows, probes, np.zeros(3, np.intp))
    for whose in ([0, 1, 2, 0], [-1, 0, 0, 0]):
        with pytest.raises(IndexError):
            kernel.scores(stored, rows, probes, np.array(whose))


@pytest.mark.parametrize("kernel", OURS, ids=lambda one: one.name)
def test_a_packed_copy_of_the_probes_is_wiped(kernel: native.NativeKernel) -> None:
    prepared = kernel.prepare(np.full((9, 64), 5, np.int8), np.full((9, 64), 5.0), 4)
    assert isinstance(prepared, native.Packed | native.Coarse)
    space = prepared.packed.space
    assert space.any()
    prepared.wipe()
    assert not space.any()


def test_a_length_that_ours_cannot_take_is_left_to_another() -> None:
    assert best_kernel(60).name not in {native.AVX2, native.VNNI}
