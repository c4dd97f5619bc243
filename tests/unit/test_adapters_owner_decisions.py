"""A decision of the agency's owner counts for one order, of the force that it names, and once."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from typer.testing import CliRunner

from agency_adapters import registry
from agency_adapters.agency import OrderRule
from agency_adapters.custody import CUSTODY
from agency_adapters.dwp import AUTHORITIES, DWP
from agency_adapters.galleries.files import FileGallery
from agency_adapters.galleries.gallery import Found, Query
from cli.adapter import app
from tests.adapters import Scene, entries, make_world, scene, the_operator
from tests.unit.adapters_kit import adapter_settings
from tests.world import Request, World, template
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState

RULE = "dwp.controller-decision"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """The custody gallery, which needs its controller's decision as DWP's does."""
    (rule,) = (one for one in DWP.orders if one.name == RULE)
    orders: tuple[OrderRule, ...] = (*CUSTODY.orders, rule)
    kinds = {
        **registry.KINDS,
        "custody": replace(CUSTODY, orders=orders, authorities=AUTHORITIES),
    }
    monkeypatch.setattr(registry, "KINDS", MappingProxyType(kinds))
    async with scene(world, tmp_path, monkeypatch) as made:
        yield made


async def decided(here: Scene, request_id: str, force: str = "") -> None:
    async with the_operator(here) as operator:
        await operator.decide(request_id, "data_controller", "DC/2026/1", force=force)


async def withdrawn(here: Scene, request_id: str) -> None:
    async with the_operator(here) as operator:
        await operator.withdraw(request_id, "DC/2026/2")


def asked(here: Scene, request_id: str, **changes: Any) -> Request:
    return Request(here.world, request_id=request_id, now=here.clock(), **changes)


async def failed(here: Scene, request: Request) -> tuple[str, ...]:
    """Return why a search is denied; nothing if it is answered."""
    clauses: tuple[str, ...] = (await here.honest(request)).failed_clauses
    return clauses


async def test_a_decision_counts_for_the_first_order_that_is_searched_for_and_no_other(
    here: Scene,
) -> None:
    request_id = str(uuid.uuid4())
    assert await failed(here, asked(here, request_id)) == (RULE,)
    await decided(here, request_id)
    first = asked(here, request_id)
    assert await failed(here, first) == ()
    another = asked(here, request_id, probe=template(77), justification={"case_reference": "B/1"})
    assert await failed(here, another) == (RULE,)
    assert await failed(here, asked(here, request_id, force="southmere")) == (RULE,)
    await here.restart()
    assert await failed(here, asked(here, request_id)) == (RULE,)


async def test_a_decision_is_not_used_up_by_an_order_that_was_not_searched_for(
    here: Scene,
) -> None:
    request_id = str(uuid.uuid4())
    await decided(here, request_id)
    denied = asked(here, request_id, justification={"purpose": "immigration_enforcement"})
    assert await failed(here, denied) != ()
    unreadable = asked(here, request_id, probe=template()[:256])
    assert (await here.honest(unreadable)).state is OutcomeState.REJECTED
    assert await failed(here, asked(here, request_id)) == ()


async def test_two_orders_that_come_at_once_are_one_search(here: Scene) -> None:
    request_id = str(uuid.uuid4())
    await decided(here, request_id)
    both = [
        (await here.papers(asked(here, request_id, probe=template(n)))).params() for n in (1, 2)
    ]
    scans = here.scans.count
    await asyncio.gather(*(here.ask(one) for one in both))
    assert here.scans.count == scans + 1
    states = [one["state"] for one in entries(here.adapter) if one["type"] == "match.report"]
    assert states.count(OutcomeState.DENIED.value) == 1


async def test_a_decision_that_names_a_force_counts_for_no_other(here: Scene) -> None:
    request_id = str(uuid.uuid4())
    await decided(here, request_id, force="northshire")
    assert await failed(here, asked(here, request_id, force="southmere")) == (RULE,)
    assert await failed(here, asked(here, request_id)) == ()
    with pytest.raises(ProbegateError) as refused:
        await decided(here, str(uuid.uuid4()), force="northshrie")
    assert refused.value.reason is Reason.USAGE


async def test_a_decision_can_be_withdrawn_or_replaced_until_it_is_used(here: Scene) -> None:
    request_id = str(uuid.uuid4())
    await decided(here, request_id, force="southmere")
    await decided(here, request_id, force="northshire")
    await withdrawn(here, request_id)
    assert await failed(here, asked(here, request_id)) == (RULE,)
    with pytest.raises(ProbegateError) as refused:
        await withdrawn(here, request_id)
    assert refused.value.reason is Reason.NOT_FOUND
    await decided(here, request_id)
    assert await failed(here, asked(here, request_id)) == ()
    for late in (withdrawn, decided):
        with pytest.raises(ProbegateError) as refused:
            await late(here, request_id)
        assert refused.value.reason is Reason.USAGE
    said = [one for one in entries(here.adapter, "admin") if one["type"].startswith("owner.")]
    assert [(one["type"], one.get("force")) for one in said] == [
        ("owner.decision", "southmere"),
        ("owner.decision", "northshire"),
        ("owner.withdrawn", None),
        ("owner.decision", ""),
    ]


async def test_a_decision_that_is_withdrawn_while_it_is_searched_answers_nothing(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = str(uuid.uuid4())
    await decided(here, request_id)
    real = FileGallery.search

    async def meanwhile(gallery: FileGallery, query: Query) -> Found:
        await withdrawn(here, request_id)
        return await real(gallery, query)

    papers = await here.papers(asked(here, request_id))
    with monkeypatch.context() as during:
        during.setattr(FileGallery, "search", meanwhile)
        with pytest.raises(ProbegateError) as refused:
            await here.ask(papers.params())
    assert refused.value.reason is Reason.POLICY_DENIED
    last = entries(here.adapter)[-1]
    assert (last["type"], last["reason"]) == ("match.refused", "POLICY_DENIED")


def test_the_commands_decide_and_withdraw(world: World, tmp_path: Path) -> None:
    settings = adapter_settings(world, tmp_path, kind="dwp")
    config = tmp_path / "adapter.toml"
    fields = settings.model_dump(mode="json", exclude_unset=True)
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    one = str(uuid.uuid4())
    base = ["--request", one, "--reference", "DC/1", "--config", str(config)]
    told = CliRunner().invoke(
        app, ["decide", *base, "--authority", "data_controller", "--force", "northshire"]
    )
    assert told.exit_code == 0, told.output
    assert CliRunner().invoke(app, ["withdraw", *base]).exit_code == 0
    again = CliRunner().invoke(app, ["withdraw", *base])
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
