"""Enrolling, updating and erasing: what a running adapter takes up, and what is certified."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agency_adapters.dwp import DWP
from agency_adapters.erasing import ErasureCertificate, erase_records, handed_over
from agency_adapters.erasures import CERTIFICATE_KEPT
from agency_adapters.galleries import editing
from agency_adapters.galleries.importing import ImportReport, enrol_records, import_gallery
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.galleries.writing import MAX_ERASED
from agency_adapters.passport import PASSPORT
from agency_adapters.serve import Adapter
from cli.adapter import app
from tests.adapters import Scene, make_world, scene, the_operator
from tests.galleries import NOW
from tests.kept import files_with
from tests.unit.adapters_kit import HEADER, adapter_settings, entries, make_gallery
from tests.world import MODEL, Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType

PICTURE = b"\x89PNG\r\n\x1a\n" + b"the picture of an invented face"


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


async def test_a_search_looks_on_where_the_next_generation_goes_as_well(
    here: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are erased one after another while it is worked out who is eligible."""
    doomed, real = ["R00001", "R00002", "R00003"], StoredGallery.eligibility

    def erase(name: str) -> None:
        with editing.editing(tmp_path / "gallery") as editor:
            editor.erase([name], NOW)

    def eligibility(stored: StoredGallery, *about: Any) -> Any:
        if doomed:
            erase(doomed.pop())
        return real(stored, *about)

    erase("R00004")
    monkeypatch.setattr(StoredGallery, "eligibility", eligibility)
    assert await best(here) == "R00007"
    assert not doomed


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


# --- an erasure that is cut short ---------------------------------------------------------------


@pytest.fixture
async def pictured(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """An adapter whose record 7 has an image."""
    make_gallery(tmp_path / "gallery")
    images = tmp_path / "images"
    images.mkdir()
    (images / "R00007.png").write_bytes(PICTURE)
    places = {"gallery": str(tmp_path / "gallery"), "images_dir": images}
    async with scene(world, tmp_path, monkeypatch, **places) as made:
        yield made


async def erased_again(here: Scene, *ids: str) -> ErasureCertificate:
    async with the_operator(here) as operator:
        return (await erase_records(operator, ids, "Request 2026/17"))[0]


async def refused_erasure(here: Scene, reason: Reason, *ids: str, **settings: Any) -> None:
    async with the_operator(here) as operator:
        changed = operator.settings.model_copy(update=settings)
        with pytest.raises(ProbegateError) as refused:
            await erase_records(replace(operator, settings=changed), ids, "Request 2026/17")
    assert refused.value.reason is reason


async def test_an_erasure_that_failed_after_the_change_is_finished_and_certified_when_given_again(
    pictured: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (segment,) = (tmp_path / "gallery" / "segments").iterdir()
    os.link(
        segment / "templates.f32", tmp_path / "blocks"
    )  # what the disk keeps of an unlinked file
    row = np.fromfile(tmp_path / "blocks", "<f4").reshape(60, -1)[7].tobytes()
    with monkeypatch.context() as patch:
        patch.setattr(editing, "overwrite_rows", broken_disk)
        await refused_erasure(pictured, Reason.FILE_UNWRITABLE, "R00007", "nobody")
    assert row in (tmp_path / "blocks").read_bytes()
    certificate = await erased_again(pictured, "R00007", "nobody")
    assert (certificate.erased, certificate.not_held) == (("R00007",), ("nobody",))
    assert (certificate.generation_before, certificate.generation_after) == (1, 2)
    assert certificate.images == 1
    assert row not in (tmp_path / "blocks").read_bytes()


def broken_disk(*_about: Any, **_more: Any) -> None:
    raise OSError(errno.EIO, "Input/output error")


async def test_an_erasure_that_is_refused_destroys_nothing(pictured: Scene, tmp_path: Path) -> None:
    image = tmp_path / "images" / "R00007.png"
    with editing.editing(tmp_path / "gallery"):
        await refused_erasure(pictured, Reason.GALLERY_LOCKED, "R00007")
    vendor = "osia+http://127.0.0.1:9/national"
    await refused_erasure(pictured, Reason.CONFIG_INVALID, "R00007", gallery=vendor)
    engine = "postgresql://127.0.0.1:9/gallery"
    many = [f"R{n:05d}" for n in range(MAX_ERASED + 1)]
    await refused_erasure(pictured, Reason.USAGE, *many, gallery=engine)
    await refused_erasure(pictured, Reason.NOT_FOUND, "nobody")
    assert image.read_bytes() == PICTURE
    assert await best(pictured) == "R00007"
    assert (await erased_again(pictured, "R00007")).images == 1
    assert not image.exists()


async def test_a_certificate_is_given_again_until_it_is_handed_over(pictured: Scene) -> None:
    async with the_operator(pictured) as operator:
        ids, authority = ["R00007"], "Request 2026/17"
        first = await erase_records(operator, ids, authority)
        assert await erase_records(operator, ids, authority) == first
        with pytest.raises(ProbegateError) as refused:
            await erase_records(operator, ids, "Request 2026/18")
        assert refused.value.reason is Reason.NOT_FOUND
        await handed_over(operator, ids, authority)
        with pytest.raises(ProbegateError) as refused:
            await erase_records(operator, ids, authority)
        assert refused.value.reason is Reason.NOT_FOUND
    assert files_with(pictured.adapter, b"R00007") == set()


async def test_a_certificate_that_nobody_asks_for_again_is_not_kept_for_good(
    pictured: Scene,
) -> None:
    await erased_again(pictured, "R00007")
    assert files_with(pictured.adapter, b"R00007")
    pictured.clock.ahead += CERTIFICATE_KEPT + timedelta(minutes=1)
    await pictured.adapter.retention.erase_answers()
    assert files_with(pictured.adapter, b"R00007") == set()


async def test_an_id_that_is_enrolled_again_is_erased_again_under_the_same_authority(
    pictured: Scene, tmp_path: Path
) -> None:
    await erased_again(pictured, "R00007")
    enrolled(tmp_path, ["R00007"], template()[None])
    certificate = await erased_again(pictured, "R00007")
    assert (certificate.erased, certificate.generation_after) == (("R00007",), 4)
    await pictured.adapter.refresh_gallery()
    assert await best(pictured) != "R00007"


async def test_the_command_erases_nothing_that_it_could_not_certify(
    pictured: Scene, tmp_path: Path
) -> None:
    settings = pictured.adapter.settings
    await pictured.server.stop(0)
    await pictured.adapter.close()
    config = tmp_path / "adapter.toml"
    fields = settings.model_dump(mode="json", exclude_none=True)
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    erase = ["erase", "R00007", "--authority", "R 1", "--config", str(config), "--certificate"]
    for place in (config / "c.json", tmp_path):
        told = await asyncio.to_thread(CliRunner().invoke, app, [*erase, str(place)])
        assert (told.exit_code, "FILE_UNWRITABLE" in told.output) == (1, True)
    told = await asyncio.to_thread(CliRunner().invoke, app, [*erase, str(tmp_path / "c.json")])
    assert told.exit_code == 0, told.output
    envelope = dsse.Envelope.from_json((tmp_path / "c.json").read_bytes())
    said = json.loads(envelope.payload)
    assert (said["erased"], said["images"]) == (["R00007"], 1)
    assert "blocks that files of the gallery's earlier generations gave back" in said["remains"]
    pictured.adapter = await Adapter.open(settings, pictured.clock)
    pictured.server = await pictured.adapter.listen()
    assert files_with(pictured.adapter, b"R00007") == set()


@pytest.mark.parametrize("change", ["enrol", "erase"])
def test_what_a_crash_left_is_overwritten_only_where_nobody_reads_it_any_more(
    tmp_path: Path, change: str
) -> None:
    make_gallery(tmp_path / "gallery", rows=8)
    if change == "enrol":  # the generation before may still be searched
        enrolled(tmp_path, ["N1"], template(9)[None])
    else:  # the manifest says that it may not
        with editing.editing(tmp_path / "gallery") as editor:
            editor.erase(["R00001"], NOW)
    (segment,) = (tmp_path / "gallery" / "segments").iterdir()
    left = segment.with_name("s9999999")
    shutil.copytree(segment, left)
    os.link(left / "templates.f32", tmp_path / "blocks")
    before = (tmp_path / "blocks").read_bytes()
    editing.swept(tmp_path / "gallery")
    assert not left.exists()
    expected = before if change == "enrol" else bytes(len(before))
    assert (tmp_path / "blocks").read_bytes() == expected
