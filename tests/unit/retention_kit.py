"""What tests of an adapter's retention share: an adapter with short times, and what is left."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agency_adapters.operators import Operator
from agency_adapters.serve import Adapter
from agency_adapters.tables import matches
from audit.reader import LogReader
from tests.adapters import Scene, entries, make_world, scene
from tests.unit.adapters_kit import Papers, make_gallery
from tests.unit.second_step_kit import Step, admin, inbox, searched, three_candidates
from tests.world import World
from trust.errors import ProbegateError, Reason

RETENTION_DAYS = 10
"""What the agreement says here, within the directory's time."""
MARGIN_DAYS = 2
LONGEST_DAYS = 15
DUE_DAYS = RETENTION_DAYS + MARGIN_DAYS
TIMES: Mapping[str, int] = {
    "answers_margin_days": MARGIN_DAYS,
    "answers_retain_days": LONGEST_DAYS,
}


def kept_for_days(agreement: dict[str, Any]) -> None:
    """Let custody's agreement list three candidates and give recipients some days."""
    three_candidates(agreement)
    agreement["obligations"] |= {"retention_days": RETENTION_DAYS}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), kept_for_days)


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    make_gallery(tmp_path / "gallery")
    gallery = str(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=gallery, **TIMES) as made:
        yield made


@pytest.fixture
async def step(here: Scene) -> Step:
    return await searched(here)


def ahead(here: Scene, **delta: float) -> None:
    """Let time pass."""
    here.clock.ahead += timedelta(**delta)


async def erase(here: Scene) -> None:
    """Give the adapter's retention its turn."""
    await here.adapter.retention.erase_answers()


def erased(here: Scene) -> list[list[str]]:
    """Return the searches that each entry of the admin log says were erased."""
    said = admin(here, "answers.erased")
    assert all(entry["count"] == len(entry["searches"]) for entry in said)
    return [entry["searches"] for entry in said]


def rows(here: Scene) -> dict[str, Any]:
    """Return what the adapter remembers of answers, by search."""
    with here.adapter.state.engine.connect() as connection:
        return {row.search_id: row for row in connection.execute(select(matches))}


def is_kept(here: Scene, search_id: str) -> bool:
    """Whether a search's answer is still there."""
    return bool(rows(here)[search_id].report)


def grant_of(papers: Papers) -> bytes:
    """Return a grant's digest."""
    return hashlib.sha256(papers.dossier.grant.payload).digest()


async def refused(reason: Reason, deed: Any) -> ProbegateError:
    """Assert that something is refused for a reason."""
    with pytest.raises(ProbegateError) as raised:
        await deed
    assert raised.value.reason is reason
    return raised.value


async def recorded(here: Scene, reason: Reason, kind: str, deed: Any) -> None:
    """Assert that something is refused for a reason, and that the agency's log says so."""
    before = len(entries(here.adapter))
    await refused(reason, deed)
    added = entries(here.adapter)[before:]
    assert [(one["type"], one["reason"]) for one in added] == [(kind, reason.name)]


async def decided(step: Step, request_id: str, *, released: bool = True) -> None:
    """Let the agency's people decide about a request."""
    async with inbox(step.here) as people:
        decide = people.release if released else people.refuse
        await decide(request_id, reviewer="R-1", reasons="It fits.")


async def reopened(here: Scene) -> None:
    """Stop the adapter and open it again on the same state, with the same settings."""
    await here.server.stop(0)
    await here.adapter.close()
    here.adapter = await Adapter.open(here.adapter.settings, here.clock)
    here.server = await here.adapter.listen()
    here.channels.clear()


async def published(here: Scene) -> None:
    """Wait until the search log's files are where its database is."""
    folder = here.adapter.settings.logs_dir / "search"
    while LogReader(folder).size < len(entries(here.adapter)):  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.02)


@contextmanager
def at_the_desk(here: Scene) -> Iterator[Operator]:
    """Let the agency's people put entries on the running adapter's log, and nothing else run."""
    chore = asyncio.create_task(here.adapter.serve_desk())
    operator = replace(Operator.open(here.adapter.settings), clock=here.clock)
    try:
        yield operator
    finally:
        chore.cancel()
        operator.close()


def config_of(here: Scene, folder: Path) -> Path:
    """Write the adapter's settings as a file."""
    values = here.adapter.settings.model_dump(mode="json", exclude_none=True)
    config = folder / "adapter.toml"
    config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
    return config
