"""Every kernel finds what numpy's plain whole numbers find, at the ends of what int8 can hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agency_adapters.galleries import native
from agency_adapters.galleries.choosing import best_kernel
from agency_adapters.galleries.encoding import Codes
from agency_adapters.galleries.kernels import Kernel, NumKongKernel, NumpyKernel

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


@settings(max_examples=150, deadline=None)
@given(case=blocks(), at_once=st.sampled_from([1, 40, 1000, 1 << 17]))
def test_the_hits_are_all_products_that_reach_the_cut(
    case: tuple[Codes, Codes, np.ndarray], at_once: int
) -> None:
    block, probes, lowest = case
    products = block.astype(np.int64) @ probes.T.astype(np.int64)
    longest = float(np.sqrt((block.astype(np.float64) ** 2).sum(axis=1).max()))
    expected = {
        (r, p, products[r, p]) for r, p in zip(*np.nonzero(products >= lowest), strict=True)
    }
    kernels: list[Kernel] = [*OURS, NumKongKernel(), NumpyKernel()]
    for kernel in kernels:
        prepared = kernel.prepare(probes.copy(), probes.astype(np.float64), at_once)
        triples, start = [], 0
        while start < len(block):
            found = prepared.hits(block[start:], lowest, longest)
            triples += zip(found.row + start, found.probe, found.product, strict=True)
            assert found.rows >= 1
            start += found.rows
        assert start == len(block)
        assert len(triples) == len(expected), kernel.name
        assert set(triples) == expected, kernel.name
        prepared.wipe()


@pytest.mark.parametrize("kernel", OURS, ids=lambda one: one.name)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("probes", [1, 3, 4, 8, 9, 16, 17, 33, 64, 65])
def test_the_largest_products_do_not_overflow(
    kernel: native.NativeKernel, sign: int, probes: int
) -> None:
    block = np.full((70, 4096), 127, np.int8)
    asked = np.full((probes, 4096), 127 * sign, np.int8)
    lowest = np.full(probes, -(2**31) + 1, np.int32)
    found = kernel.prepare(asked, asked.astype(np.float64), 1 << 17).hits(block, lowest, 127 * 64.0)
    assert len(found.row) == 70 * probes
    assert set(found.product.tolist()) == {sign * 127 * 127 * 4096}


@pytest.mark.parametrize("kernel", OURS, ids=lambda one: one.name)
def test_nothing_is_handed_to_the_compiled_code_unchecked(kernel: native.NativeKernel) -> None:
    good = np.zeros((4, 64), np.int8)
    lowest = np.zeros(4, np.int32)
    for probes in (good[:1], good):
        prepared = kernel.prepare(probes, probes.astype(np.float64), 4)
        few = lowest[: len(probes)]
        wrong: list[np.ndarray] = [
            np.zeros((4, 64), np.uint8),
            np.zeros((4, 56), np.int8),
            np.zeros((4, 128), np.int8)[:, ::2],
            np.zeros((0, 64), np.int8),
            np.zeros(64, np.int8),
        ]
        for block in wrong:
            with pytest.raises(TypeError):
                prepared.hits(block, few, 1.0)
        with pytest.raises(TypeError):
            prepared.hits(good, few.astype(np.int64), 1.0)
        with pytest.raises(TypeError):
            prepared.hits(good, np.zeros(5, np.int32), 1.0)
    with pytest.raises(TypeError):
        kernel.prepare(np.zeros((4, 60), np.int8), np.zeros((4, 60)), 4)
    with pytest.raises(TypeError):
        kernel.prepare(good, np.zeros((4, 64), np.float32), 4)
    with pytest.raises(TypeError):
        kernel.prepare(good, np.zeros((3, 64)), 4)


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
