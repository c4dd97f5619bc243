"""Kill switches of an agency's own: off at once, by name, on the record, and over a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.adapter import app
from tests.adapters import Scene, make_world, scene, the_operator
from tests.unit.adapters_kit import adapter_settings
from tests.world import MODEL, Request, World
from trust.errors import ProbegateError, Reason

NOT_SWITCHED_OFF = "core.not-switched-off"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, tmp_path, monkeypatch) as made:
        yield made


async def failed(here: Scene, force: str = "northshire") -> tuple[str, ...]:
    """Return why an ordinary search is denied; nothing if it is answered."""
    report = await here.honest(Request(here.world, force=force))
    clauses: tuple[str, ...] = report.failed_clauses
    return clauses


@pytest.mark.parametrize(
    "name",
    [
        "agency:custody",
        "force:northshire",
        "purpose:crime_investigation",
        f"matcher:{MODEL}",
        "matcher:probegate-cosine",
        "matcher:probegate-cosine/1",
    ],
)
async def test_a_switch_that_is_off_denies_by_name_at_once_and_after_a_restart(
    here: Scene, name: str
) -> None:
    assert await failed(here) == ()
    async with the_operator(here) as operator:
        await operator.switch(name, off=True, reference="R/1")
        assert await failed(here) == (NOT_SWITCHED_OFF,)
    await here.restart()
    assert here.adapter.ledger.switched_off == {name}
    assert await failed(here) == (NOT_SWITCHED_OFF,)
    async with the_operator(here) as operator:
        assert operator.switched_off == {name}
        await operator.switch(name, off=False, reference="R/2")
        while here.adapter.ledger.switched_off:  # noqa: ASYNC110 - the desk's next turn
            await asyncio.sleep(0)
    assert await failed(here) == ()
    log = here.adapter.logs.admin
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    turned = [(e["type"], e["switch"], e["reference"]) for e in said if "switch" in e]
    assert turned == [("switch.off", name, "R/1"), ("switch.on", name, "R/2")]


async def test_a_switch_of_somebody_else_stops_nothing_here(here: Scene) -> None:
    async with the_operator(here) as operator:
        for name in ("force:southmere", "purpose:prosecution"):
            await operator.switch(name, off=True, reference="R")
    assert await failed(here) == ()
    assert await failed(here, "southmere") == (NOT_SWITCHED_OFF,)


@pytest.mark.parametrize(
    "name",
    [
        "agency:pnd",
        "agency:broker",
        "force:custody",
        "purpose:fun",
        "matcher:other",
        "custody",
        ":",
    ],
)
async def test_what_does_not_exist_here_cannot_be_switched(here: Scene, name: str) -> None:
    async with the_operator(here) as operator:
        with pytest.raises(ProbegateError) as raised:
            await operator.switch(name, off=True, reference="R")
    assert raised.value.reason is Reason.USAGE
    assert here.adapter.ledger.switched_off == frozenset()


async def test_a_switch_is_turned_without_a_gallery_that_can_be_opened(here: Scene) -> None:
    """An engine that is down is the very case for it; then no name can be compared with its own."""
    away = "postgresql://adapter@127.0.0.1:9/gallery?sslmode=disable"
    async with the_operator(here) as operator:
        for gallery in (away, str(here.root / "nowhere")):
            settings = here.adapter.settings.model_copy(update={"gallery": gallery})
            down = replace(operator, settings=settings)
            await down.switch("matcher:another-model-2", off=True, reference="R")
            await down.switch("matcher:another-model-2", off=False, reference="R")
            await down.switch(f"matcher:{MODEL}", off=True, reference="R")
            assert await failed(here) == (NOT_SWITCHED_OFF,)
            await down.switch(f"matcher:{MODEL}", off=False, reference="R")


def test_the_command_line_turns_switches_while_the_adapter_is_down(
    world: World, tmp_path: Path
) -> None:
    values = adapter_settings(world, tmp_path).model_dump(mode="json", exclude_defaults=True)
    config = tmp_path / "adapter.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
        return done.exit_code, done.stdout.strip()

    assert run("switches") == (0, "Nothing is switched off.")
    status, said = run("switch", "off", "purpose:prosecution", "--reference", "R")
    assert status == 0
    assert said.startswith("purpose:prosecution is off")
    assert run("switches") == (0, "off: purpose:prosecution")
    assert json.loads(run("switches", "--json")[1]) == {"switched_off": ["purpose:prosecution"]}
    assert run("switch", "off", "agency:nobody", "--reference", "R")[0] == 1
    assert run("switch", "on", "purpose:prosecution", "--reference", "R")[0] == 0
    assert json.loads(run("switches", "--json")[1]) == {"switched_off": []}
