"""Scores, and probes as they come: decoded, refused, wiped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agency_adapters.galleries import matching
from agency_adapters.galleries.templates import (
    INT8_SCALE,
    decode_probe_template,
    template_faults,
    unit_rows,
    wipe,
)
from tests.galleries import unit
from trust.errors import ProbegateError, Reason
from trust.messages import Encoding, ProbeManifest


def test_the_scan_error_is_within_its_bound() -> None:
    rng = np.random.default_rng(5)
    rows = unit_rows(rng.standard_normal((2000, 512)))
    probe = unit(rng.standard_normal(512))
    exact = matching.exact_scores(rows, np.arange(len(rows)), probe)
    scan = rows @ probe.astype(np.float32)
    assert np.abs(scan - exact).max() < matching.scan_error(512) < 1e-4


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
