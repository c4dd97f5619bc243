"""What an agency's people said is kept beside its admin log for a time, and then no byte of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner, Result

from agency_adapters.agency import Defaults
from agency_adapters.deciding import REVIEW_CLERK
from agency_adapters.holding import HeldAnswers
from audit import kinds
from audit.erasing import chosen
from audit.reader import LogReader
from audit.tables import values
from audit.verify import verify_folder
from cli.audit import app
from tests.adapters import Scene, make_world, scene
from tests.unit.test_adapters_held import held, inbox, kind_with
from tests.world import World
from trust.errors import ProbegateError, Reason

REVIEWER = "R-erase-me"
REASONS = "The image shows somebody else, says erase-me-too."
DAYS = 2190


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, tmp_path, monkeypatch) as made:
        yield made


async def run(here: Scene, folder: Path, *arguments: str) -> Result:
    """Give a command, as a process of its own would."""
    given = here.adapter.settings.model_dump(mode="json", exclude_unset=True)
    config = folder / "adapter.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
    line = [arguments[0], "--of", "adapter", "--log", "admin", "--config", str(config)]
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, [*line, *arguments[1:]]))


def files_with(here: Scene, text: str) -> set[str]:
    settings = here.adapter.settings
    return {
        path.name
        for folder in (settings.state_dir, settings.logs_dir)
        for path in folder.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes().lower()
    }


async def published(here: Scene) -> None:
    """Wait until the admin log's files are where its database is."""
    folder = here.adapter.settings.logs_dir / "admin"
    while LogReader(folder).size < here.adapter.logs.admin.checkpoint.checkpoint.size:  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.02)


async def test_what_a_reviewer_said_goes_when_its_time_is_over(here: Scene, tmp_path: Path) -> None:
    waits = await held(here)
    engine = here.adapter.state.engine
    async with inbox(here) as people:
        await people.refuse(waits.papers.search_id, reviewer=REVIEWER, reasons=REASONS)
        await waits.report()
        now = datetime.now(UTC)
        assert chosen(engine, "admin", None, expired_at=now + timedelta(days=DAYS - 1)) == ()
        (mine,) = chosen(engine, "admin", None, expired_at=now + timedelta(days=DAYS + 1))
        assert set(mine.fields) == {"reviewer", "reasons"}
        early = await run(here, tmp_path, "erase", "--expired", "--authority", "A/1", "--json")
        assert json.loads(early.stdout)["erased_entries"] == []
        assert files_with(here, REVIEWER.lower())
        assert files_with(here, "erase-me-too")

        with engine.begin() as connection:
            connection.execute(update(values).where(values.c.log == "admin").values(retain_until=1))
        done = await run(here, tmp_path, "erase", "--expired", "--authority", "A/2", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["erased_entries"] == [mine.index]
        assert files_with(here, "erase-me") == set()
        await published(here)
        sound = await run(here, tmp_path, "verify-values", "--json")
        assert json.loads(sound.stdout)["erased"] == 2
        (answer,) = HeldAnswers(engine).named(waits.papers.search_id)
        assert [one.reviewer for one in answer.reviews] == [f"erased {mine.index}"]
        assert verify_folder(here.adapter.settings.logs_dir / "admin").ok


async def test_who_decided_stays_until_all_have_decided(
    here: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_with(monkeypatch, defaults=Defaults(owner_reviewers=2))
    waits = await held(here)
    search = waits.papers.search_id
    async with inbox(here) as people:
        await people.release(search, reviewer=REVIEWER, reference="a")
        (mine,) = chosen(here.adapter.state.engine, "admin", None)
        words = ("erase", "--entry", str(mine.index), "--authority", "A/3")
        said = {"type": kinds.ERASED, "log": "admin", "entries": [mine.index], "fields": ["*"]}
        with (
            here.adapter.state.engine.connect() as connection,
            pytest.raises(ProbegateError) as refused,
        ):
            REVIEW_CLERK.also(connection, 0, said)
        assert refused.value.reason is Reason.SEARCH_RUNNING
        await people.release(search, reviewer="R-2", reference="b")
        await waits.report()
        done = await run(here, tmp_path, *words, "--json")
        assert done.exit_code == 0, done.output
        assert files_with(here, REVIEWER.lower()) == set()
