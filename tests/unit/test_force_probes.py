from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from force_client import ProbegateError, Reason, load_probe
from force_client.probes import ProbeSource, load_salt_key
from tests.scale import scaled
from tests.unit.force_scene import MODEL, template
from trust.messages import MAX_DIMS

GOOD = template()
ROWS = np.stack([template(seed) for seed in range(3)])


def refused(source: ProbeSource, **options: object) -> ProbegateError:
    with pytest.raises(ProbegateError) as caught:
        load_probe(source, model=MODEL, **options)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.PROBE_INVALID
    assert caught.value.detail
    return caught.value


def test_every_form_of_a_good_template_is_the_same_probe(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", GOOD)
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", templates=ROWS)
    np.savez_compressed(tmp_path / "one.npz", GOOD[None])
    made = {
        load_probe(GOOD, model=MODEL),
        load_probe(GOOD.tobytes(), model=MODEL),
        load_probe(GOOD.astype(">f4"), model=MODEL),
        load_probe(tmp_path / "one.npy", model=MODEL),
        load_probe(str(tmp_path / "one.npz"), model=MODEL, dims=64),
        load_probe(tmp_path / "rows.npy", model=MODEL, row=0),
        load_probe(tmp_path / "rows.npz", model=MODEL, row=0),
    }
    assert len(made) == 1
    probe = made.pop()
    assert (probe.template, probe.dims, probe.model) == (GOOD.tobytes(), 64, MODEL)


def changed(place: int, value: float) -> np.ndarray:
    array = GOOD.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (changed(3, np.nan), "template"),
        (changed(3, np.inf), "template"),
        (np.zeros(64, "<f4"), "template"),
        (GOOD * np.float32(1.01), "template"),
        (GOOD.astype(np.float64), "dtype"),
        (np.ones(64, np.int8), "dtype"),
        (np.array(["x"] * 64), "dtype"),
        (np.zeros(0, "<f4"), "dims"),
        (np.ones(MAX_DIMS + 1, "<f4"), "dims"),
        (ROWS, "row"),
        (ROWS[None], "shape"),
        (np.ones((), "<f4"), "shape"),
        (b"", "template"),
        (b"abc", "template"),
    ],
)
def test_what_is_no_probe_is_refused(source: ProbeSource, field: str) -> None:
    assert refused(source).metadata == {"field": field}


def test_the_refusal_says_what_to_do() -> None:
    assert "--normalise" in refused(GOOD * np.float32(2)).line()
    assert "--row" in refused(ROWS).line()
    assert "astype('float32')" in refused(GOOD.astype(np.float64)).line()
    assert "expected 512" in refused(GOOD, dims=512).line()


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there(row: int) -> None:
    assert refused(ROWS, row=row).metadata == {"field": "row"}


def test_a_row_of_one_template_makes_no_sense() -> None:
    assert refused(GOOD, row=0).metadata == {"field": "row"}


def test_normalising_is_asked_for() -> None:
    probe = load_probe(GOOD * np.float32(7), model=MODEL, normalise=True)
    values = np.frombuffer(probe.template, "<f4")
    assert abs(np.linalg.norm(values) - 1) < 1e-6
    refused(np.zeros(64, "<f4"), normalise=True)
    refused(changed(0, np.nan), normalise=True)


def test_files_that_are_no_templates(tmp_path: Path) -> None:
    npy, npz, text = tmp_path / "a.npy", tmp_path / "a.npz", tmp_path / "a.txt"
    for content in (b"", b"\x93NUMPY", b"PK\x03\x04", pickle.dumps([1.0]), b"\x00" * 100):
        npy.write_bytes(content)
        npz.write_bytes(content)
        refused(npy)
        refused(npz)
    text.write_text("0.1 0.2")
    assert refused(text).metadata == {"field": "file"}
    np.savez(npz, a=GOOD, b=GOOD)
    assert "2 arrays" in refused(npz).line()
    np.savez(npy.with_suffix(".x"), a=GOOD)
    (tmp_path / "a.x.npz").rename(npy)
    refused(npy)
    with pytest.raises(ProbegateError) as caught:
        load_probe(tmp_path / "none.npy", model=MODEL)
    assert caught.value.reason is Reason.FILE_MISSING
    np.save(npy, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(npy)
    np.savez(npz, a=np.array([{"a": 1}], dtype=object))
    refused(npz)


@settings(max_examples=scaled(60, 5000), deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.npy"
    header = io.BytesIO()
    np.save(header, GOOD)
    for content in (data, header.getvalue()[:80] + data):
        path.write_bytes(content)
        refused(path)


@settings(max_examples=scaled(60, 5000), deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f2", "<f8", "i1", "?", "<c8"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=8),
    ),
    st.none() | st.integers(-3, 9),
    st.booleans(),
)
def test_any_array_is_a_unit_probe_or_refused(
    array: np.ndarray,
    row: int | None,
    normalise: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    try:
        probe = load_probe(array, model=MODEL, row=row, normalise=normalise)
    except ProbegateError:
        refused(array, row=row, normalise=normalise)
        return
    values = np.frombuffer(probe.template, "<f4").astype(float)
    assert abs(np.linalg.norm(values) - 1) <= 1.01e-3
    assert probe.dims == values.size


def test_the_salt_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "salt.key"
    key = load_salt_key(path)
    assert len(key) == 32
    assert load_salt_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ProbegateError) as caught:
        load_salt_key(path)
    assert caught.value.reason is Reason.KEY_FILE_INVALID
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ProbegateError):
        load_salt_key(path)
