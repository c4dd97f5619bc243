"""Files that agencies export: whatever is wrong with one is a fault of its row, or of the file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agency_adapters.agency import AgencyKind
from agency_adapters.asylum import ASYLUM
from agency_adapters.calibration.scorefile import read_scores
from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.importing import ImportReport, import_gallery
from agency_adapters.galleries.reading import read_templates
from tests.galleries import NOW
from tests.world import MODEL, template
from trust.errors import ProbegateError, Reason

GOOD = {
    "record_id": "R1",
    "captured_on": "2020-01-01",
    "date_of_birth": "1980-01-01",
    "disposal": "convicted",
    "image_source": "custody_photo",
}
BAD = GOOD | {"record_id": "R2"}


def imported(
    folder: Path, records: Path, templates: Path | None = None, kind: AgencyKind = CUSTODY
) -> ImportReport:
    if templates is None:
        templates = folder / "t.npy"
        np.save(templates, np.stack([template(1), template(2)]))
    return import_gallery(
        kind=kind,
        templates=templates,
        records=records,
        model=MODEL,
        out=folder / "gallery",
        now=NOW,
    )


def json_lines(folder: Path, *lines: str) -> Path:
    path = folder / "r.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("captured_on", []),
        ("captured_on", {}),
        ("date_of_birth", {"a": 1}),
        ("review_due", [1]),
        ("record_id", []),
        ("deletion", []),
        ("given_names", "\ud800"),
    ],
)
def test_a_value_of_another_kind_is_a_fault_of_its_row(
    tmp_path: Path, field: str, value: object
) -> None:
    lines = (json.dumps(GOOD), json.dumps(BAD | {field: value}))
    report = imported(tmp_path, json_lines(tmp_path, *lines))
    assert report.enrolled == 1
    ((row, reasons),) = [(one.row, one.reasons) for one in report.rejected]
    assert row == 2
    assert [reason.split(":")[0] for reason in reasons] == [field]


def test_a_date_that_may_be_left_out_is_not_a_list(tmp_path: Path) -> None:
    record = {
        "record_id": "A1",
        "captured_on": "2020-01-01",
        "application_reference": "A/1",
        "standing": "applicant",
        "status": "pending",
    }
    one = json.dumps(record)
    other = json.dumps(record | {"record_id": "A2", "claimed_date_of_birth": []})
    report = imported(tmp_path, json_lines(tmp_path, one, other), kind=ASYLUM)
    assert [row.row for row in report.rejected if row.record_id == "A2"] == [2]


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(BAD)[:-1] + ', "deletion": "requested", "deletion": ""}',
        json.dumps(BAD)[:-1] + ', "given_names": NaN}',
        "[" * 100_000,
        '{"record_id": ' + "1" * 5000 + "}",
    ],
    ids=["a repeated key", "no JSON", "deep", "a long number"],
)
def test_a_line_that_two_readers_could_read_differently_is_a_fault(
    tmp_path: Path, line: str
) -> None:
    """A deletion that was asked for is not taken back by a second word of the same line."""
    report = imported(tmp_path, json_lines(tmp_path, json.dumps(GOOD), line))
    assert report.enrolled == 1
    assert [(one.row, one.reasons) for one in report.rejected] == [(2, ("row: not a JSON object",))]


def test_parquet_templates_of_another_form_are_refused(tmp_path: Path) -> None:
    forms: Sequence[Any] = ([1, 2], ["a", "b"], [1.0, 2.0], [[["a"]], [["b"]]], [{"a": 1}] * 2)
    for form in forms:
        path = parquet(tmp_path / "t.parquet", {"templates": form})
        with pytest.raises(ProbegateError) as refused:
            read_templates(path)
        assert refused.value.reason is Reason.IMPORT_INVALID


def test_parquet_values_that_python_cannot_hold_are_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    columns: dict[str, Any] = {name: [value] * 2 for name, value in GOOD.items()}
    columns |= {"record_id": ["R1", "R2"], "date_of_birth": [date(1980, 1, 1)] * 2}
    for captured in (
        pa.array([2**31 - 1, 1], pa.int32()).cast(pa.date32()),
        pa.array([2**62, 2], pa.duration("s")),
        pa.array([[1], [2]]),
    ):
        path = parquet(tmp_path / "r.parquet", columns | {"captured_on": captured})
        with pytest.raises(ProbegateError) as refused:
            imported(tmp_path, path)
        assert refused.value.reason is Reason.IMPORT_INVALID


def header(text: str) -> bytes:
    """Return a numpy file with a header of somebody's own."""
    padded = text.encode() + b" " * (64 - (11 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + b"\0" * 64


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(path: Path, *, flags: int = 0, method: int = 0, **members: bytes) -> Path:
    """Write a ZIP archive whose first member claims some flags and some compression."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    data = bytearray(path.read_bytes())
    for start in (6, data.find(b"PK\1\2") + 8):
        data[start : start + 4] = flags.to_bytes(2, "little") + method.to_bytes(2, "little")
    path.write_bytes(data)
    return path


HEADERS = (
    "(" * 100,
    "{'descr':'(2,','fortran_order':False,'shape':(2,)}",
    "{'descr':{},'fortran_order':False,'shape':(2,)}",
    "{'descr':'<f8','fortran_order':False,'shape':(-3,)}",
    f"{{'descr':'<f8','fortran_order':False,'shape':({2**50},)}}",
    f"{{'descr':'<f8','fortran_order':False,'shape':({2**70}, 8)}}",
    "{1:2,'a':3}",
)


@pytest.mark.parametrize("text", HEADERS)
def test_a_numpy_header_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.npy").write_bytes(header(text))
    with pytest.raises(ProbegateError) as refused:
        read_templates(tmp_path / "t.npy")
    assert refused.value.reason is Reason.IMPORT_INVALID
    scores = npz(tmp_path / "s.npz", scores=npy(np.arange(3.0)), mated=header(text))
    with pytest.raises(ProbegateError) as refused:
        read_scores(scores)
    assert refused.value.reason is Reason.SCORES_INVALID


@pytest.mark.parametrize(("flags", "method"), [(1, 0), (0, 99), (0, 14), (0, 12), (0, 8)])
def test_an_archive_that_cannot_be_unpacked_is_refused(
    tmp_path: Path, flags: int, method: int
) -> None:
    good = npy(np.arange(3.0))
    with pytest.raises(ProbegateError) as refused:
        read_templates(npz(tmp_path / "t.npz", flags=flags, method=method, templates=good))
    assert refused.value.reason is Reason.IMPORT_INVALID
    with pytest.raises(ProbegateError) as refused:
        read_scores(npz(tmp_path / "s.npz", flags=flags, method=method, scores=good, mated=good))
    assert refused.value.reason is Reason.SCORES_INVALID


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbegateError) as refused:
        read_templates(npz(tmp_path / "t.npz", templates=b"hello"))
    assert refused.value.reason is Reason.IMPORT_INVALID
    with pytest.raises(ProbegateError) as refused:
        read_scores(npz(tmp_path / "s.npz", scores=b"hello", mated=b"hello"))
    assert refused.value.reason is Reason.SCORES_INVALID
