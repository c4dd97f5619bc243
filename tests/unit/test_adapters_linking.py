"""The adapter's part in link tokens: which reports have them, and a repeat has the same ones."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from probegate.agency.v1 import match_service_pb2 as pb

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.importing import import_gallery
from tests.adapters import Scene, scene
from tests.memory import Secrets, files_under
from tests.unit.adapters_kit import GALLERY_ROWS, MATE, entries, make_world
from tests.world import MODEL, Request, World, template
from trust import dsse
from trust.directory import KeyUse, Role
from trust.link_keys import newest_at, opened
from trust.link_tokens import name_born, pnc_id, search_key, token
from trust.messages import CandidateLinks, OutcomeState
from trust.payload_types import PayloadType
from trust.wire import decode_links, decode_report, envelope_from_wire

HEADER = "record_id,captured_on,date_of_birth,disposal,image_source,given_names,family_name,pnc_id"
BORN = datetime(1980, 1, 1, tzinfo=UTC).date()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    shutil.rmtree(made.root / "gallery")
    named_gallery(made.root / "gallery")
    return made


def named_gallery(out: Path) -> None:
    """The gallery of ``adapters_kit`` with names, and PNC ids for the even rows."""
    vectors = np.stack([template(1000 + row) for row in range(GALLERY_ROWS)])
    mate = template() + 0.4 * vectors[7]
    vectors[7] = mate / np.linalg.norm(mate)
    source = out.parent / "named"
    source.mkdir()
    np.save(source / "t.npy", vectors)
    rows = [
        f"R{n:05d},2020-01-01,1980-01-01,convicted,custody_photo,Ann,Ember,"
        + (f"87/{n}X" if n == 7 else "")
        for n in range(GALLERY_ROWS)
    ]
    (source / "r.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    import_gallery(
        kind=CUSTODY,
        templates=source / "t.npy",
        records=source / "r.csv",
        model=MODEL,
        out=out,
        now=datetime.now(UTC),
    )


def links_in(reply: pb.MatchResponse, world: World) -> CandidateLinks:
    """The link tokens of an answer, with their signature checked."""
    envelope = envelope_from_wire(reply.links)
    keys = world.directory.resolver("custody", KeyUse.SIGN, datetime.now(UTC))
    dsse.verify(envelope, PayloadType.CANDIDATE_LINKS, keys)
    return decode_links(envelope.payload)


async def answered(at: Scene) -> tuple[pb.MatchResponse, pb.MatchResponse]:
    papers = await at.papers()
    return await at.ask(papers.params()), await at.ask(papers.params())


async def test_a_candidate_has_the_tokens_of_its_identifiers_and_a_repeat_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(world, tmp_path, monkeypatch) as at:
        first, again = await answered(at)
        assert at.scans.count == 1
        assert first.links.SerializeToString() == again.links.SerializeToString()
        report = decode_report(envelope_from_wire(first.report).payload)
        links = links_in(first, world)
        assert links.report_sha256 == hashlib.sha256(first.report.payload).digest()
        assert {one.reference for one in links.candidates} <= {
            one.reference for one in report.candidates
        }
        sealed = newest_at(world.directory.member("custody").link_keys, datetime.now(UTC))
        assert sealed is not None
        key = opened(sealed, "custody", world.folder("custody").openers())
        assert links.link_key_id == key.id
        own = search_key(key, report.search_id)
        wanted = {token(own, one) for one in pnc_id("1987/7X") + name_born("Ann", "Ember", BORN)}
        ((_, found),) = [
            row for row in at.adapter.state.resolve(search_id=report.search_id) if row[1].rank == 1
        ]
        assert found.record_id == MATE
        mate = next(one for one in links.candidates if one.reference == found.reference)
        assert set(mate.tokens) == wanted
        # What goes to the force, and what is logged, has none of it; the key is on no disk here.
        secrets = Secrets()
        for one in mate.tokens:
            secrets.add_binary("a token", one)
            secrets.add_words("a token", [one.hex()])
        assert secrets.found_in([first.links.payload])
        assert not secrets.found_in([first.report.SerializeToString(), repr(links).encode()])
        assert not secrets.found_in([str(entries(at.adapter)).encode()])
        secrets = Secrets()
        secrets.add_binary("the link key", key.key)
        assert not secrets.found_in(files_under(tmp_path))
        await at.restart()
        papers = await at.papers()
        assert links_in(await at.ask(papers.params()), world).candidates[0].tokens != mate.tokens


@pytest.mark.parametrize("duty", ["hit_no_hit", "release_by_human"])
async def test_an_answer_that_lists_nobody_has_no_tokens(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duty: str
) -> None:
    async with scene(world, tmp_path, monkeypatch) as at:
        reply = await at.ask((await at.papers(obligations={duty: True})).params())
        state = decode_report(envelope_from_wire(reply.report).payload).state
        assert state in {OutcomeState.CANDIDATES, OutcomeState.HELD}
        assert not reply.HasField("links")


async def test_without_a_link_key_the_report_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path / "w")
    (world.scheme.folder / "authority" / "link-keys.json").unlink()
    world.directory = world.scheme.publish_directory()
    assert world.directory.member("custody", Role.AGENCY).link_keys == ()
    async with scene(world, tmp_path / "s", monkeypatch) as at:
        reply = await at.ask((await at.papers()).params())
        assert not reply.HasField("links")
        report = decode_report(envelope_from_wire(reply.report).payload)
        assert report.state is OutcomeState.CANDIDATES


async def test_records_without_identifiers_have_no_tokens_and_a_key_of_another_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path / "w")
    async with scene(world, tmp_path / "s", monkeypatch) as at:
        reply = await at.ask((await at.papers(Request(world, now=at.clock()))).params())
        assert not reply.HasField("links")
        linker = at.adapter.command.linker
        assert linker._link_key(at.clock()) is not None
        assert replace(linker, openers={})._link_key(at.clock()) is None
