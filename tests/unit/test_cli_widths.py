"""No id is ever cut: whoever reads it at 80 columns, or in a pipe, can use it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import adapter, keys
from tests.adapters import Scene, make_world, scene, the_operator
from tests.world import Request, World
from trust.ceremony import Scheme
from trust.directory import Role

LONG = "the-national-custody-image-gallery-of-" + "a" * 20
ODD = "[/bold]\x1b[2J\u202e\x9b" + "r" * 40
WIDTHS = ("24", "80", "200")


def shown(app: object, *words: object) -> str:
    told = CliRunner().invoke(app, [str(word) for word in words])  # type: ignore[arg-type]
    assert told.exit_code == 0, told.output
    return str(told.output)


def joined(output: str) -> str:
    """What was shown, without the places where it was broken."""
    assert "…" not in output
    return "".join(output.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_keys_are_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    folder = tmp_path / "scheme"
    scheme = Scheme.create(folder, "Demo", "probegate.example")
    scheme.add_member(LONG, Role.AGENCY, endpoint="127.0.0.1:7401")
    output = shown(keys.app, "show", folder)
    assert max(map(len, output.splitlines())) <= int(width)
    (member,) = scheme.members()
    for expected in (LONG, "127.0.0.1:7401", *(one.kid for one in member.keys)):
        assert expected in joined(output)


def test_keys_are_shown_to_programs(tmp_path: Path) -> None:
    scheme = Scheme.create(tmp_path / "scheme", "Demo", "probegate.example")
    scheme.add_member("northshire", Role.FORCE)
    scheme.issue_certificate("northshire")
    scheme.revoke_key("northshire", scheme.member_folder("northshire").signer().kid)
    document = json.loads(shown(keys.app, "show", tmp_path / "scheme", "--json"))
    assert (document["scheme"], document["trust_domain"]) == ("Demo", "probegate.example")
    (member,) = document["members"]
    assert (member["id"], member["role"]) == ("northshire", "force")
    assert member["certificate_until"]
    assert {one["use"]: one["valid"] for one in member["keys"]}["sign"] is False
    assert [one["kid"] for one in member["keys"]] == [one.kid for one in scheme.members()[0].keys]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("width", WIDTHS)
async def test_what_a_reference_stands_for_is_shown_whole(
    here: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    report = await here.honest(Request(here.world))
    async with the_operator(here) as operator:
        found = await operator.resolve(search_id=report.search_id)
    adapter.show_resolved(found)
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= int(width)
    for search_id, one in found:
        for expected in (search_id, one.reference, one.record_id):
            assert expected in joined(output)


def gallery(tmp_path: Path, record_id: str) -> list[object]:
    np.save(tmp_path / "t.npy", np.eye(2, 8, dtype="<f4"))
    record = {
        "captured_on": "2020-01-01",
        "date_of_birth": "1980-01-01",
        "disposal": "convicted",
        "image_source": "custody_photo",
    }
    rows = [record | {"record_id": "A1"}, record | {"record_id": record_id, "disposal": "odd"}]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(one) for one in rows))
    return [
        *("import", "--kind", "custody", "--model", "m-1", "--out", tmp_path / "g"),
        *("--templates", tmp_path / "t.npy", "--records", tmp_path / "r.jsonl"),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_rejected_row_is_shown_whole_and_cannot_repaint_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    output = shown(adapter.app, *gallery(tmp_path, ODD))
    assert "r" * 40 in joined(output)
    assert "[/bold]" in joined(output)
    for odd in ("\x1b", "\u202e", "\x9b"):
        assert odd not in output


@pytest.mark.parametrize("width", WIDTHS)
def test_the_rules_of_a_gallery_are_shown_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown(adapter.app, *gallery(tmp_path, "A2"))
    place = ("--gallery", tmp_path / "g")
    rules = json.loads(shown(adapter.app, "stats", *place, "--json"))["rules"]
    output = shown(adapter.app, "stats", *place)
    for one in rules:
        assert one["rule"] in joined(output)
