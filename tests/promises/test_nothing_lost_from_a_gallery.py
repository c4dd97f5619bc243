"""Promise 8 for galleries: nothing acknowledged is lost, and nothing that was erased comes back."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from agency_adapters.galleries import editing as editing_module
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.files import FileGallery
from agency_adapters.galleries.gallery import GenerationGoneError, Query
from agency_adapters.galleries.manifest import ManifestFile
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.galleries.templates import unit_rows
from tests.galleries import DAY, NOW, new_records, unit, write_gallery
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", [1, 100_000, 200_000])
def test_kill_9_at_any_moment_of_any_change(tmp_path: Path, seed: int) -> None:
    rounds = scaled(110, 3000)
    done = subprocess.run(
        [sys.executable, "-m", "tests.gallery_crashes", str(tmp_path), str(seed), str(rounds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=7200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["killed"] > rounds // 2
    assert told["at_a_step"] > rounds // 6


def test_readers_see_whole_generations_while_the_gallery_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing_module, "SEGMENT_ROWS", 16)
    out = tmp_path / "gallery"
    rows = unit_rows(np.random.default_rng(1).standard_normal((60, 8)))
    ids = [f"R{n:03d}" for n in range(60)]
    records = new_records(rows, ids, np.ones(60, np.bool_))
    write_gallery(out, rows[:30], ids[:30], np.ones(30, np.bool_))
    stop, faults, opened = threading.Event(), [], [0]

    def read() -> None:
        known = None
        while not stop.is_set():
            try:
                known = StoredGallery.open(out, known=known)
                assert known.eligibility(DAY).count == known.manifest.count
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not happen
                faults.append(error)
            opened[0] += 1

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(25):
        with editing(out) as editor:
            editor.enrol(records[30 + turn : 32 + turn], NOW)
            editor.erase([ids[turn]], NOW)
            editor.compact(NOW)
    stop.set()
    reader.join()
    assert not faults
    assert opened[0] > 1


async def test_nobody_is_missed_by_a_search_while_records_are_updated(tmp_path: Path) -> None:
    """The older row of whoever is updated is overwritten while searches read it."""
    out = tmp_path / "gallery"
    rows = unit_rows(np.random.default_rng(5).standard_normal((40, 8)))
    ids = [f"R{n:03d}" for n in range(40)]
    everybody = np.ones(40, np.bool_)
    write_gallery(out, rows, ids, everybody)
    records = new_records(rows, ids, everybody)
    stop, updates, gone = threading.Event(), [0], 0

    def update() -> None:
        while not stop.is_set():
            with editing(out) as editor:
                editor.enrol([records[updates[0] % 40]], NOW)
            updates[0] += 1

    gallery = await FileGallery.open(out)
    writer = threading.Thread(target=update)
    writer.start()
    try:
        for turn in range(400):
            one = turn % 40
            query = Query(unit(rows[one].astype(np.float64)), 0.999, 1, DAY)
            try:
                (found,) = gallery.search_all([query])
                assert [match.record_id for match in found.candidates] == [ids[one]]
                assert await gallery.record(ids[-one]) is not None
            except GenerationGoneError:
                gone += 1
                gallery = await gallery.newer() or gallery
    finally:
        stop.set()
        writer.join()
    assert updates[0] > 1
    assert gone


def changed_after_its_manifest_is_read(
    monkeypatch: pytest.MonkeyPatch, changes: list[Callable[[], object]]
) -> None:
    """Have the next changes made, each at once after a reader has read the manifest."""
    real, changing = ManifestFile.read, threading.Lock()

    def read(gallery: Path) -> ManifestFile:
        file = real(gallery)
        if changes and changing.acquire(blocking=False):  # who changes it reads it as well
            with contextlib.ExitStack() as after:
                after.callback(changing.release)
                changes.pop(0)()
        return file

    monkeypatch.setattr(ManifestFile, "read", read)


def test_a_reader_that_always_comes_too_late_is_not_told_that_the_gallery_is_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gallery"
    rows = unit_rows(np.random.default_rng(3).standard_normal((30, 8)))
    ids = [f"R{n:03d}" for n in range(30)]
    write_gallery(out, rows, ids, np.ones(30, np.bool_))

    def erase(name: str) -> None:
        with editing(out) as editor:
            editor.erase([name], NOW)

    changes: list[Callable[[], object]] = [partial(erase, name) for name in ids[:20]]
    changed_after_its_manifest_is_read(monkeypatch, changes)
    assert StoredGallery.open(out).manifest.count == 10
    assert not changes


def test_rows_that_are_overwritten_under_a_reader_are_not_a_corrupt_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow disk the files of an erased record stay for a while, flushed but not removed."""
    out = tmp_path / "gallery"
    rows = unit_rows(np.random.default_rng(4).standard_normal((9, 8)))
    ids = [f"R{n:03d}" for n in range(9)]
    write_gallery(out, rows, ids, np.ones(9, np.bool_))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)

    def erase() -> None:
        with editing(out) as editor:
            editor.erase(["R003"], NOW)

    changed_after_its_manifest_is_read(monkeypatch, [erase])
    assert StoredGallery.open(out).find(ids).keys() == {*ids} - {"R003"}


def test_two_commands_do_not_change_a_gallery_at_once(tmp_path: Path) -> None:
    rows = unit_rows(np.eye(4))
    write_gallery(tmp_path / "gallery", rows, list("ABCD"), np.ones(4, np.bool_))
    with editing(tmp_path / "gallery"), pytest.raises(ProbegateError) as refused:
        write_gallery(tmp_path / "gallery", rows, list("ABCD"), np.ones(4, np.bool_))
    assert refused.value.reason is Reason.GALLERY_LOCKED


def test_whoever_still_reads_the_old_generation_finds_nobody_who_was_erased(tmp_path: Path) -> None:
    rows = unit_rows(np.random.default_rng(2).standard_normal((10, 8)))
    ids = [f"R{n}" for n in range(10)]
    write_gallery(tmp_path / "gallery", rows, ids, np.ones(10, np.bool_))
    before = StoredGallery.open(tmp_path / "gallery")
    with editing(tmp_path / "gallery") as editor:
        assert editor.erase(["R3", "nobody"], NOW) == ("R3",)
    segment = before.segments[0]
    assert not segment.templates[3].any()
    assert not segment.codes[3].any()
    assert before.rows.record_ids(range(10)) == [*ids[:3], "", *ids[4:]]


def test_every_change_is_a_line_of_the_journal_once(tmp_path: Path) -> None:
    out = tmp_path / "gallery"
    rows = unit_rows(np.eye(6))
    records = new_records(rows, list("ABCDEF"), np.ones(6, np.bool_))
    write_gallery(out, rows[:4], list("ABCD"), np.ones(4, np.bool_))
    with editing(out) as editor:
        assert editor.enrol(records[3:], NOW) == (2, 1)
        editor.erase(["A"], NOW)
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert [(one["generation"], one["what"]) for one in lines] == [
        (1, "import"),
        (2, "enrol"),
        (3, "erase"),
    ]
    assert (lines[1]["enrolled"], lines[1]["updated"], lines[2]["erased"]) == (2, 1, 1)
    content = (out / "journal.jsonl").read_bytes()
    (out / "journal.jsonl").write_bytes(content[:-20])  # a crash while the last line was written
    with editing(out):
        pass
    assert (out / "journal.jsonl").read_bytes() == content
