"""What every gallery must do, whatever engine is behind it; a new engine is one more parameter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.files import FileGallery
from agency_adapters.galleries.gallery import Query
from agency_adapters.galleries.importing import import_gallery
from agency_adapters.galleries.templates import unit_rows

Found = list[tuple[str, float]]
Search = Callable[[npt.NDArray[np.float64], float, int], Found]
Make = Callable[[Path, npt.NDArray[np.float32], Sequence[str], Sequence[bool]], Search]
DAY = date(2026, 11, 23)


def memory_mapped(
    root: Path, templates: npt.NDArray[np.float32], ids: Sequence[str], eligible: Sequence[bool]
) -> Search:
    lines = ["record_id,captured_on,date_of_birth,disposal,image_source,deletion"]
    for record_id, allowed in zip(ids, eligible, strict=True):
        deletion = "" if allowed else "requested"
        lines.append(f"{record_id},2020-01-01,1980-01-01,convicted,other,{deletion}")
    np.save(root / "t.npy", templates)
    (root / "r.csv").write_text("\n".join(lines) + "\n")
    report = import_gallery(
        kind=CUSTODY,
        templates=root / "t.npy",
        records=root / "r.csv",
        model="m-1",
        out=root / "gallery",
        now=datetime(2026, 11, 23, tzinfo=UTC),
    )
    assert not report.rejected
    gallery = asyncio.run(FileGallery.open(root / "gallery"))

    def search(probe: npt.NDArray[np.float64], threshold: float, limit: int) -> Found:
        (found,) = gallery.search_all([Query(probe, threshold, limit, DAY)])
        return [(one.record_id, one.score) for one in found.candidates]

    return search


ENGINES = pytest.mark.parametrize("make", [memory_mapped])


def people(count: int, dims: int = 64) -> npt.NDArray[np.float32]:
    return unit_rows(np.random.default_rng(8).standard_normal((count, dims)))


@ENGINES
def test_a_probe_finds_its_mate_first(make: Make, tmp_path: Path) -> None:
    templates = people(200)
    ids = [f"R{n:04d}" for n in range(200)]
    search = make(tmp_path, templates, ids, [True] * 200)
    noise = np.random.default_rng(9)
    for row in (0, 57, 199):
        probe = templates[row].astype(np.float64) + 0.05 * noise.standard_normal(64)
        found = search(probe / np.linalg.norm(probe), 0.6, 5)
        assert found[0][0] == ids[row]
        assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)


@ENGINES
def test_ineligible_records_are_as_if_they_were_not_there(make: Make, tmp_path: Path) -> None:
    templates = people(50)
    ids = [f"R{n:04d}" for n in range(50)]
    search = make(tmp_path, templates, ids, [n % 2 == 0 for n in range(50)])
    found = search(templates[1].astype(np.float64), -1.0, 50)
    assert sorted(name for name, _ in found) == ids[::2]


@ENGINES
def test_ties_are_in_the_order_of_record_ids(make: Make, tmp_path: Path) -> None:
    templates = np.repeat(people(1), 40, axis=0)
    ids = [f"R{n:04d}" for n in reversed(range(40))]
    search = make(tmp_path, templates, ids, [True] * 40)
    found = search(templates[0].astype(np.float64), 0.5, 7)
    assert [name for name, _ in found] == sorted(ids)[:7]


@ENGINES
@pytest.mark.parametrize("eligible", [True, False])
def test_nobody_to_find_is_an_empty_list(make: Make, tmp_path: Path, eligible: bool) -> None:  # noqa: FBT001
    search = make(tmp_path, people(1), ["R1"], [eligible])
    probe = -people(1)[0].astype(np.float64)
    assert search(probe, 0.0, 5) == []
