"""Enrolling, updating and erasing: what a running adapter takes up, and what is certified."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agency_adapters.dwp import DWP
from agency_adapters.erasing import erase_records
from agency_adapters.galleries.importing import ImportReport, enrol_records, import_gallery
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.passport import PASSPORT
from cli.adapter import app
from tests.adapters import Scene, make_world, scene, the_operator
from tests.galleries import NOW
from tests.unit.adapters_kit import HEADER, adapter_settings, entries, make_gallery
from tests.world import MODEL, Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    make_gallery(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=str(tmp_path / "gallery")) as made:
        yield made


def enrolled(
    folder: Path,
    names: list[str],
    rows: np.ndarray,
    *,
    model: str = MODEL,
    update: bool = False,
) -> ImportReport:
    np.save(folder / "new.npy", rows)
    lines = [HEADER, *(f"{n},2020-01-01,1980-01-01,convicted,custody_photo,," for n in names)]
    (folder / "new.csv").write_text("\n".join(lines) + "\n")
    return enrol_records(
        gallery=folder / "gallery",
        templates=folder / "new.npy",
        records=folder / "new.csv",
        model=model,
        update=update,
        now=NOW,
    )


async def best(here: Scene) -> str:
    """Return the record id of the best candidate of an ordinary search."""
    report = await here.honest(Request(here.world))
    if not report.candidates:
        return ""
    ((_, found),) = here.adapter.state.resolve(reference=report.candidates[0].reference)
    return found.record_id


async def test_a_running_adapter_takes_up_what_is_enrolled_updated_and_erased(
    here: Scene, tmp_path: Path, world: World
) -> None:
    assert await best(here) == "R00007"
    report = enrolled(tmp_path, ["N1"], template()[None])
    assert (report.enrolled, report.updated, report.generation) == (1, 0, 2)
    await here.adapter.refresh_gallery()
    assert await best(here) == "N1"
    async with the_operator(here) as operator:
        certificate, envelope = await erase_records(operator, ["N1", "N2"], "Request 2026/17")
    assert (certificate.erased, certificate.not_held) == (("N1",), ("N2",))
    keys = world.directory.resolver("custody", KeyUse.SIGN, here.adapter.clock())
    dsse.verify(envelope, PayloadType.ERASURE_CERTIFICATE, keys)
    assert json.loads(envelope.payload)["generation_after"] == 3
    assert await best(here) == "R00007"  # even before the new generation is looked for
    again = enrolled(tmp_path, ["R00007"], template(77)[None], update=True)
    assert (again.enrolled, again.updated) == (0, 1)
    await here.adapter.refresh_gallery()
    assert await best(here) != "R00007"


async def test_whoever_was_updated_is_found_before_the_new_generation_is_looked_for(
    here: Scene, tmp_path: Path
) -> None:
    """Its old row is overwritten at once; "no candidate" would be false of both generations."""
    mate = template() + 0.001 * template(8)
    enrolled(tmp_path, ["R00007"], (mate / np.linalg.norm(mate))[None], update=True)
    assert await best(here) == "R00007"
    said = entries(here.adapter, "admin")
    assert [one["generation"] for one in said if one["type"] == "gallery.activated"] == [1, 2]
    enrolled(tmp_path, ["N1"], template(77)[None])  # nothing is overwritten: nothing is looked for
    assert await best(here) == "R00007"
    assert here.adapter.shelf.gallery.facts.generation == 2


async def test_a_gallery_of_another_kind_is_not_taken_up_while_the_adapter_runs(
    here: Scene, tmp_path: Path
) -> None:
    """Its kind's rules would decide from then on, and the agency's own no more."""
    shutil.rmtree(tmp_path / "gallery")
    np.save(tmp_path / "d.npy", np.stack([template(5), template(6)]))
    (tmp_path / "d.csv").write_text(
        "record_id,captured_on,date_of_birth,national_insurance_number\n"
        "D1,2020-01-01,1980-01-01,AB123456C\nD2,2020-01-01,1980-01-01,AB123457C\n"
    )
    import_gallery(
        kind=DWP,
        templates=tmp_path / "d.npy",
        records=tmp_path / "d.csv",
        model=MODEL,
        out=tmp_path / "gallery",
        now=NOW,
    )
    with pytest.raises(ProbegateError) as refused:
        await here.adapter.refresh_gallery()
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert here.adapter.shelf.gallery.facts.kind == "custody"
    assert await best(here) == "R00007"
    said = [one["type"] for one in entries(here.adapter, "admin")]
    assert said.count("gallery.activated") == 1


async def test_an_erasure_is_on_the_admin_log_before_and_after_and_names_nobody(
    here: Scene,
) -> None:
    async with the_operator(here) as operator:
        await erase_records(operator, ["R00003"], "Request 2026/18")
    log = here.adapter.logs.admin
    leaves = [json.loads(log.leaf(n)) for n in range(log.checkpoint.checkpoint.size)]
    about = [leaf for leaf in leaves if leaf["type"].startswith("records.")]
    assert [leaf["type"] for leaf in about] == ["records.erasing", "records.erased"]
    assert all(leaf["authority"] == "Request 2026/18" for leaf in about)
    assert "R00003" not in json.dumps(leaves)


async def test_nobody_held_and_nothing_named_are_refused(here: Scene) -> None:
    async with the_operator(here) as operator:
        for ids, authority, reason in (
            (["nobody"], "x", Reason.NOT_FOUND),
            ([], "x", Reason.USAGE),
            (["R00001"], "", Reason.USAGE),
        ):
            with pytest.raises(ProbegateError) as refused:
                await erase_records(operator, ids, authority)
            assert refused.value.reason is reason


def test_what_is_held_already_is_a_fault_of_its_row_unless_updated(tmp_path: Path) -> None:
    make_gallery(tmp_path / "gallery", rows=8)
    rows = np.stack([template(1), template(2), template(3)])
    report = enrolled(tmp_path, ["R00001", "N1", "N1"], rows)
    assert report.enrolled == 1
    assert [(one.row, one.reasons) for one in report.rejected] == [
        (1, ("record_id: held already",)),
        (3, ("record_id: duplicate of row 2",)),
    ]
    with pytest.raises(ProbegateError) as refused:
        enrolled(tmp_path, ["N9"], template(9)[None], model="another")
    assert refused.value.reason is Reason.IMPORT_INVALID


def test_the_commands(world: World, tmp_path: Path) -> None:
    make_gallery(tmp_path / "gallery", rows=8)
    settings = adapter_settings(world, tmp_path, gallery=str(tmp_path / "gallery"))
    config = tmp_path / "adapter.toml"
    fields = settings.model_dump(mode="json", exclude_unset=True)
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    enrolled(tmp_path, ["N1"], template(9)[None])
    run = CliRunner().invoke
    base = ["--gallery", str(tmp_path / "gallery")]
    files = ["--templates", str(tmp_path / "new.npy"), "--records", str(tmp_path / "new.csv")]
    told = run(app, ["enrol", *base, *files, "--model", MODEL, "--update"])
    assert "0 of 1 rows enrolled, 1 updated" in told.stdout
    erase = ["erase", "N1", "--authority", "R 1", "--config", str(config)]
    told = run(app, [*erase, "--certificate", str(tmp_path / "c.json")])
    assert told.exit_code == 0, told.output
    assert "erased: 1 records, generation 4" in told.stdout
    envelope = dsse.Envelope.from_json((tmp_path / "c.json").read_bytes())
    assert json.loads(envelope.payload)["erased"] == ["N1"]
    assert (tmp_path / "c.json").stat().st_mode & 0o077 == 0
    assert "0 segments fewer" in run(app, ["compact", *base]).stdout
    facts = json.loads(run(app, ["stats", *base, "--json"]).stdout)
    assert (facts["records"], facts["last_change"]["what"]) == (8, "erase")


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from datetime import date

    from pyarrow import parquet

    table = {
        "record_id": ["P1", "P2", "P3"],
        "captured_on": [date(2020, 1, 1)] * 3,
        "date_of_birth": [date(1980, 1, 1), None, date(1990, 1, 1)],
        "passport_number": ["123456789"] * 3,
        "state": ["valid", "valid", "pawned"],
        "image": ["current"] * 3,
        "templates": [template(n).tolist() for n in range(3)],
    }
    parquet.write_table(pa.table(table), tmp_path / "all.parquet")
    report = import_gallery(
        kind=PASSPORT,
        templates=tmp_path / "all.parquet",
        records=tmp_path / "all.parquet",
        model=MODEL,
        out=tmp_path / "gallery",
        now=NOW,
    )
    assert [(one.row, one.reasons[0].split(":")[0]) for one in report.rejected] == [
        (2, "date_of_birth"),
        (3, "state"),
    ]
    assert StoredGallery.open(tmp_path / "gallery").find(["P1"])
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but not really PAR1")
    for path in ("no.parquet", "nowhere.parquet"):
        with pytest.raises(ProbegateError) as refused:
            import_gallery(
                kind=PASSPORT,
                templates=tmp_path / path,
                records=tmp_path / "all.parquet",
                model=MODEL,
                out=tmp_path / "other",
                now=NOW,
            )
        assert refused.value.reason in {Reason.IMPORT_INVALID, Reason.FILE_MISSING}
