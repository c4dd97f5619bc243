"""Importing dirty exports, and refusing galleries that are not what they say."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries import editing
from agency_adapters.galleries.choosing import best_kernel
from agency_adapters.galleries.files import FileGallery
from agency_adapters.galleries.gallery import GenerationGoneError, Query
from agency_adapters.galleries.importing import ImportReport, import_gallery
from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.galleries.reading import read_templates
from agency_adapters.galleries.rejecting import RowsRejectedError
from agency_adapters.galleries.segment_content import FILES
from agency_adapters.galleries.store import Check, StoredGallery, size_class
from agency_adapters.galleries.templates import unit_rows
from agency_adapters.pnd import PND
from cli.adapter import app
from trust import strict_json
from trust.errors import ProbegateError, Reason

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COLUMNS = "record_id,captured_on,date_of_birth,disposal,image_source,review_due,deletion"
GOOD = "{},2020-01-01,1980-01-01,convicted,custody_photo,,"
DIMS = 8
DISPOSALS = (
    "disposal: unknown code, expected 'convicted', 'acquitted', 'no_further_action' or 'pending'"
)


def vectors(count: int) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(4).standard_normal((count, DIMS))
    return unit_rows(made)


def imported(
    folder: Path,
    lines: Sequence[str],
    templates: npt.NDArray[np.floating] | None = None,
    header: str = COLUMNS,
    *,
    drop_rejected: bool = False,
) -> ImportReport:
    folder.mkdir(exist_ok=True)
    np.save(folder / "t.npy", vectors(len(lines)) if templates is None else templates)
    (folder / "r.csv").write_text("\ufeff" + "\r\n".join([header, *lines]) + "\r\n", "utf-8")
    return import_gallery(
        kind=CUSTODY,
        templates=folder / "t.npy",
        records=folder / "r.csv",
        model="m-1",
        out=folder / "gallery",
        now=NOW,
        drop_rejected=drop_rejected,
    )


def test_every_bad_row_is_reported_by_number_and_reason(tmp_path: Path) -> None:
    rows = {
        GOOD.format("A1"): (),
        "A2,31/02/2015,1980-01-01,convicted,custody_photo,,": (
            "captured_on: not an ISO 8601 date (YYYY-MM-DD)",
        ),
        "A2,2020-01-01,1980-01-01,convicted,custody_photo,,": ("record_id: duplicate of row 2",),
        "A4,2020-01-01,,convicted,custody_photo,,": ("date_of_birth: missing",),
        "A5,2020-01-01,1980-01-01,cautioned?,custody_photo,,": (DISPOSALS,),
        "A6,1979-12-31,1980-01-01,convicted,custody_photo,,": (
            "captured_on: before date_of_birth",
        ),
        "A7,2026-11-24,1980-01-01,convicted,custody_photo,,": ("captured_on: in the future",),
        "A8,2020-01-01": ("row: another number of columns than the header",),
        "A 9,2020-01-01,1980-01-01,convicted,custody_photo,,": (
            "record_id: not in the expected form",
        ),
        GOOD.format("B1"): ("template: not finite",),
        GOOD.format("B2"): ("template: not finite",),
        GOOD.format("B3"): ("template: zero vector",),
        GOOD.format("B4"): ("template: not of unit length",),
        "B5,,1980-13-01,x,y,z,w": (
            "captured_on: missing",
            "date_of_birth: not an ISO 8601 date (YYYY-MM-DD)",
            DISPOSALS,
            "image_source: unknown code, expected 'custody_photo', 'mobile' or 'other'",
            "review_due: not an ISO 8601 date (YYYY-MM-DD)",
            "deletion: unknown code, expected '' or 'requested'",
        ),
        "B6,2020-01-01,1980-01-01,pending,other,2027-01-01,requested": (),
    }
    templates = vectors(len(rows))
    templates[9, 0], templates[10, 1] = np.nan, np.inf
    templates[11] = 0
    templates[12] *= 2
    report = imported(tmp_path, list(rows), templates)
    told = {row.row: row.reasons for row in report.rejected}
    assert told == {n: why for n, why in enumerate(rows.values(), start=1) if why}
    assert (report.rows, report.enrolled) == (15, 2)
    gallery = StoredGallery.open(tmp_path / "gallery", check=Check.FULL)
    assert gallery.rows.record_ids([0, 1]) == ["A1", "B6"]
    assert gallery.eligibility(NOW.date()).mask.tolist() == [True, False]


def test_rows_are_kept_in_the_order_of_record_ids_with_their_own_template(tmp_path: Path) -> None:
    names = ["R3", "R1", "R2"]
    templates = vectors(3)
    imported(tmp_path, [GOOD.format(name) for name in names], templates)
    gallery = StoredGallery.open(tmp_path / "gallery")
    assert gallery.rows.record_ids(range(3)) == ["R1", "R2", "R3"]
    for name, template in zip(names, templates, strict=True):
        _, row = gallery.find([name])[name]
        assert np.array_equal(gallery.segments[0].templates[row], unit_rows(template[None])[0])


def test_columns_come_in_any_order_and_unknown_ones_are_named(tmp_path: Path) -> None:
    header = ",".join(reversed(COLUMNS.split(",")))
    line = ",".join(reversed(GOOD.format("A1").split(",")))
    assert imported(tmp_path, [line], header=header).enrolled == 1
    for wrong in (
        COLUMNS + ",shoe_size",
        COLUMNS.replace("disposal", "outcome"),
        COLUMNS + ",deletion",
    ):
        with pytest.raises(ProbegateError) as raised:
            imported(tmp_path, [GOOD.format("A1") + ","], header=wrong)
        assert raised.value.reason is Reason.IMPORT_INVALID
    assert "repeated column: deletion" in raised.value.detail


def test_a_gallery_without_anybody_is_still_a_gallery(tmp_path: Path) -> None:
    assert imported(tmp_path, [], np.zeros((0, DIMS))).enrolled == 0
    gallery = StoredGallery.open(tmp_path / "gallery", check=Check.FULL)
    assert gallery.eligibility(NOW.date()).count == gallery.manifest.count == 0


WRONG_DATE = "{},01/02/2020,1980-01-01,convicted,custody_photo,,"


def refused_rows(
    folder: Path, lines: Sequence[str], *, drop_rejected: bool = False
) -> tuple[int, ...]:
    """Import what is refused for its rows; return which they are. The gallery is as it was."""
    before = sorted(p.name for p in (folder / "gallery").rglob("*"))
    with pytest.raises(RowsRejectedError) as refused:
        imported(folder, lines, drop_rejected=drop_rejected)
    assert refused.value.reason is Reason.IMPORT_INVALID
    assert sorted(p.name for p in (folder / "gallery").rglob("*")) == before
    return tuple(row.row for row in refused.value.rejected)


def test_an_import_of_which_no_row_is_good_changes_nothing(tmp_path: Path) -> None:
    """An export whose dates changed their form would leave a gallery that finds nobody."""
    imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2")])
    lines = [WRONG_DATE.format("A1"), WRONG_DATE.format("A2")]
    assert refused_rows(tmp_path, lines) == (1, 2)
    assert refused_rows(tmp_path, lines, drop_rejected=True) == (1, 2)
    assert StoredGallery.open(tmp_path / "gallery").rows.record_ids([0, 1]) == ["A1", "A2"]


def test_a_record_that_is_held_does_not_go_because_its_new_row_is_bad(tmp_path: Path) -> None:
    imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2"), GOOD.format("A3")])
    lines = [GOOD.format("A1"), WRONG_DATE.format("A2")]
    assert refused_rows(tmp_path, lines) == (2,)
    report = imported(tmp_path, lines, drop_rejected=True)
    assert (report.enrolled, len(report.rejected)) == (1, 1)
    assert StoredGallery.open(tmp_path / "gallery").rows.record_ids([0]) == ["A1"]


def test_a_row_that_does_not_say_whose_it_is_lets_no_held_record_go(tmp_path: Path) -> None:
    imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2")])
    for nobody in ("A2,2020-01-01", GOOD.format("A 2"), GOOD.format("")):
        assert refused_rows(tmp_path, [GOOD.format("A1"), nobody]) == (2,)
    kept = imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2"), "A2,2020-01-01"])
    assert kept.enrolled == 2


def test_bad_rows_of_records_that_are_not_held_or_come_twice_lose_nobody(tmp_path: Path) -> None:
    imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2")])
    report = imported(tmp_path, [GOOD.format("A1"), GOOD.format("A1"), WRONG_DATE.format("A3")])
    assert report.enrolled == 1
    assert [row.row for row in report.rejected] == [2, 3]
    assert StoredGallery.open(tmp_path / "gallery").manifest.count == 1, "A2 is not in the export"


def test_the_command_shows_the_rows_that_an_import_was_refused_for(tmp_path: Path) -> None:
    imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2")])
    (tmp_path / "r.csv").write_text(
        "\n".join([COLUMNS, GOOD.format("A1"), WRONG_DATE.format("A2")]) + "\n"
    )
    base = ["import", "--kind", "custody", "--model", "m-1", "--out", str(tmp_path / "gallery")]
    base += ["--templates", str(tmp_path / "t.npy"), "--records", str(tmp_path / "r.csv")]
    told = CliRunner().invoke(app, base)
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert "row 2" in told.stderr
    assert "captured_on" in told.stdout
    told = CliRunner().invoke(app, [*base, "--json"])
    assert [row["row"] for row in json.loads(told.stdout)["rejected"]] == [2]
    assert CliRunner().invoke(app, [*base, "--drop-rejected"]).exit_code == 0


def test_counts_that_differ_import_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProbegateError) as raised:
        imported(tmp_path, [GOOD.format("A1")], vectors(2))
    assert raised.value.reason is Reason.IMPORT_INVALID
    assert not (tmp_path / "gallery" / "manifest.json").exists()
    assert not list((tmp_path / "gallery" / "segments").iterdir())


def test_json_lines_and_npz_are_read_too(tmp_path: Path) -> None:
    keys = COLUMNS.split(",")
    lines = [json.dumps(dict(zip(keys, GOOD.format(n).split(","), strict=True))) for n in "AB"]
    (tmp_path / "r.jsonl").write_text("\n".join([*lines, "[]", "{", '{"record_id": "C"}']) + "\n")
    np.savez(tmp_path / "t.npz", templates=vectors(5), other=np.zeros(3))
    report = import_gallery(
        kind=CUSTODY,
        templates=tmp_path / "t.npz",
        records=tmp_path / "r.jsonl",
        model="m-1",
        out=tmp_path / "gallery",
        now=NOW,
    )
    assert [row.row for row in report.rejected] == [3, 4, 5]
    assert report.rejected[2].reasons[0] == "captured_on: missing"


@pytest.mark.parametrize(
    "content",
    [b"", b"not an array", b"\x93NUMPY\x01\x00", b"PK\x03\x04"],
)
def test_templates_that_are_no_array_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(ProbegateError) as raised:
        read_templates(tmp_path / "t.npz")
    assert raised.value.reason is Reason.IMPORT_INVALID


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), np.int8), np.array([["a"]])])
def test_arrays_of_another_shape_or_type_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ProbegateError) as raised:
        read_templates(tmp_path / "t.npy")
    assert raised.value.reason is Reason.IMPORT_INVALID


def test_a_new_generation_swaps_in_under_an_open_reader(tmp_path: Path) -> None:
    imported(tmp_path, [GOOD.format("A1")])
    before = StoredGallery.open(tmp_path / "gallery")
    report = imported(tmp_path, [GOOD.format("B1"), GOOD.format("B2")])
    assert report.generation == 2
    assert before.rows.record_ids([0]) == ["A1"]
    assert np.isfinite(before.segments[0].templates).all()
    after = StoredGallery.open(tmp_path / "gallery")
    assert after.manifest.count == 2
    assert [p.name for p in (tmp_path / "gallery" / "segments").iterdir()] == ["s0000002"]
    with pytest.raises(ProbegateError) as raised:
        import_gallery(
            kind=PND,
            templates=tmp_path / "t.npy",
            records=tmp_path / "r.csv",
            model="m-1",
            out=tmp_path / "gallery",
            now=NOW,
        )
    assert raised.value.reason is Reason.IMPORT_INVALID


def test_an_import_that_fails_leaves_the_old_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(tmp_path, [GOOD.format("A1")])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(editing, "write_segment", full)
    with pytest.raises(ProbegateError) as raised:
        imported(tmp_path, [GOOD.format("B1")])
    assert raised.value.reason is Reason.DISK_FULL
    still = StoredGallery.open(tmp_path / "gallery", check=Check.FULL)
    assert still.rows.record_ids([0]) == ["A1"]
    assert [p.name for p in (tmp_path / "gallery" / "segments").iterdir()] == ["s0000001"]


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


SEGMENT = Path("segments") / "s0000001"


@pytest.mark.parametrize(
    "damage",
    [
        *[lambda g, f=file: _flip(g / SEGMENT / f, -1) for file in FILES],
        *[lambda g, f=file: _flip(g / SEGMENT / f, 0) for file in FILES],
        *[lambda g, f=file: (g / SEGMENT / f).write_bytes(b"") for file in FILES],
        *[lambda g, f=file: (g / SEGMENT / f).unlink() for file in FILES],
        lambda g: (g / "manifest.json").write_text("{}"),
        lambda g: (g / "manifest.json").write_text(
            (g / "manifest.json").read_text().replace('"m-1"', '"m-2"')
        ),
    ],
)
def test_a_damaged_gallery_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    imported(tmp_path, [GOOD.format("A1"), GOOD.format("A2")])
    damage(tmp_path / "gallery")
    with pytest.raises(ProbegateError) as raised:
        StoredGallery.open(tmp_path / "gallery")
    assert raised.value.reason is Reason.GALLERY_CORRUPT
    result = CliRunner().invoke(app, ["check", "--gallery", str(tmp_path / "gallery")])
    assert result.exit_code == 1
    assert result.stderr.startswith("probegate: GALLERY_CORRUPT: ")
    assert result.stderr.count("\n") == 1


def test_a_gallery_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProbegateError) as raised:
        StoredGallery.open(tmp_path / "nowhere")
    assert raised.value.reason is Reason.GALLERY_MISSING


def test_the_command_imports_reports_and_counts(tmp_path: Path) -> None:
    lines = [GOOD.format("A1"), "A2,x,y,convicted,custody_photo,,"]
    imported(tmp_path, lines)
    base = ["import", "--kind", "custody", "--model", "m-1", "--out", str(tmp_path / "g")]
    files = ["--templates", str(tmp_path / "t.npy"), "--records", str(tmp_path / "r.csv")]
    result = CliRunner().invoke(app, [*base, *files, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rejected"][0]["row"] == 2
    assert "1 of 2 rows enrolled" in CliRunner().invoke(app, [*base, *files]).stdout
    counted = CliRunner().invoke(app, ["stats", "--gallery", str(tmp_path / "g"), "--json"])
    assert json.loads(counted.stdout)["eligible"] == 1
    base[2] = "library"
    refused = CliRunner().invoke(app, [*base, *files])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("count", "name"), [(0, "<1k"), (999, "<1k"), (1000, "1k-10k"), (10_000_000, ">10m")]
)
def test_a_gallery_is_told_of_in_coarse_classes(count: int, name: str) -> None:
    assert size_class(count) == name


def test_eligibility_is_of_the_day_and_of_the_switches(tmp_path: Path) -> None:
    lines = [
        "A1,2020-01-01,1980-01-01,convicted,custody_photo,2026-11-22,",
        "A2,2020-01-01,1980-01-01,convicted,custody_photo,2026-11-23,",
        "A3,2020-01-01,2002-01-02,acquitted,custody_photo,,",
        "A4,2020-01-01,2002-01-01,acquitted,custody_photo,,",
    ]
    imported(tmp_path, lines)
    gallery = StoredGallery.open(tmp_path / "gallery")
    day = date(2026, 11, 23)
    plain = gallery.eligibility(day)
    assert plain.count == 4
    assert plain.met == {
        "custody.deletion-requested": 0,
        "custody.unconvicted-minor": 1,
        "custody.review-overdue": 1,
    }
    assert gallery.eligibility(day) is plain
    strict = gallery.eligibility(day, frozenset({"bar_overdue_reviews", "bar_unconvicted_minors"}))
    assert strict.mask.tolist() == [False, True, False, True]


@pytest.mark.parametrize("header", [b"\x00" * 20 + b"{", b"{'descr': (", b"import os"])
def test_a_malformed_numpy_header_is_refused_and_nothing_else(
    tmp_path: Path, header: bytes
) -> None:
    path = tmp_path / "templates.npy"
    length = len(header).to_bytes(2, "little")
    path.write_bytes(b"\x93NUMPY\x01\x00" + length + header + b"\n")
    with pytest.raises(ProbegateError) as refused:
        read_templates(path)
    assert refused.value.reason is Reason.IMPORT_INVALID


async def test_the_log_says_which_kernel_scans(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    imported(tmp_path / "in", [GOOD.format("A1")])
    with caplog.at_level("INFO"):
        gallery = await FileGallery.open(tmp_path / "in" / "gallery")
    await gallery.close()
    said = [one for one in caplog.records if one.message == "gallery open"]
    assert [vars(one)["fields"] for one in said] == [{"kernel": best_kernel(DIMS).name}]


async def test_a_gallery_that_was_removed_and_made_anew_is_read_anew(tmp_path: Path) -> None:
    """Its segments have the names that the old ones had."""
    imported(tmp_path, [GOOD.format(f"A{n}") for n in range(6)])
    old = await FileGallery.open(tmp_path / "gallery")
    shutil.rmtree(tmp_path / "gallery")
    probe = vectors(1)[0].astype(np.float64)
    probe /= np.linalg.norm(probe)
    query = Query(probe, -1.0, 9, NOW.date())
    assert {one.record_id for one in (await old.search(query)).candidates} == {
        f"A{n}" for n in range(6)
    }  # nothing took its place, and nothing was overwritten
    imported(tmp_path, [GOOD.format(f"B{n}") for n in range(6)])
    newer = await old.newer()
    assert newer is not None
    assert {one.record_id for one in (await newer.search(query)).candidates} == {
        f"B{n}" for n in range(6)
    }
    await old.close()
    await newer.close()


def test_a_manifest_of_the_format_before_is_read_and_the_next_is_of_this_one(
    tmp_path: Path,
) -> None:
    imported(tmp_path, [GOOD.format(f"A{n}") for n in range(6)])
    path = tmp_path / "gallery" / "manifest.json"
    before = json.loads(path.read_text())
    del before["whole_since"], before["sha256"]
    before["format"] = "probegate-gallery/2"
    before["sha256"] = hashlib.sha256(strict_json.canonical(before)).hexdigest()
    path.write_text(json.dumps(before))
    old = StoredGallery.open(tmp_path / "gallery")
    assert old.manifest.whole_since is None
    with editing.editing(tmp_path / "gallery") as editor:
        editor.enrol([], NOW)
    assert (old.while_whole(lambda: old.find(["A1"]))).keys() == {"A1"}
    with editing.editing(tmp_path / "gallery") as editor:
        editor.erase(["A2"], NOW)
    with pytest.raises(GenerationGoneError):
        old.while_whole(lambda: old.find(["A1"]))
    newest = read_manifest(tmp_path / "gallery")
    assert (newest.format, newest.whole_since) == ("probegate-gallery/3", 3)


def let_go_of(folder: Path) -> list[str]:
    """Files of a folder that were unlinked and that this process still holds."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in maps if str(folder) in line and line.endswith("(deleted)")]


async def test_a_generation_that_nobody_searches_any_more_gives_its_files_back_at_once(
    tmp_path: Path,
) -> None:
    """A server leaves what it began with out of the search for cyclic garbage (trust.garbage)."""
    imported(tmp_path, [GOOD.format(f"A{n}") for n in range(6)])
    shelf = [await FileGallery.open(tmp_path / "gallery")]
    probe = vectors(1)[0].astype(np.float64)
    probe /= np.linalg.norm(probe)
    collecting = gc.isenabled()
    gc.disable()
    try:
        found = await shelf[0].search(Query(probe, -1.0, 3, NOW.date()))
        assert len(found.candidates) == 3
        imported(tmp_path, [GOOD.format(f"B{n}") for n in range(9)])
        newer = await shelf[0].newer()
        assert newer is not None
        assert let_go_of(tmp_path), "the positive control: it is still the one in use"
        shelf[0] = newer
        assert let_go_of(tmp_path) == []
        assert len((await newer.search(Query(probe, -1.0, 9, NOW.date()))).candidates) == 9
    finally:
        if collecting:
            gc.enable()
    await newer.close()
