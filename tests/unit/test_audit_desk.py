"""The operators' desk: no request keeps another waiting, and what was refused is not done later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

import audit.desk
from audit.desk import Clerks, Desk, requests
from audit.erasing import facts_of
from audit.kinds import ERASED
from audit.organisation import admin_leaf
from broker.operators import Operator, clerks
from broker.tables import searches
from tests.brokers import Rig, rigged
from tests.peers import Behaviour
from tests.world import Request, World
from trust.errors import ProbegateError, Reason

NOT_UTF8 = "REF-\udce9"
"""As a command line gives a byte that is no UTF-8."""


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit.desk, "SERVER_PATIENCE_S", 5.0)


@asynccontextmanager
async def an_operator(rig: Rig) -> AsyncIterator[Operator]:
    operator = Operator.open(rig.world.broker_settings())
    try:
        yield operator
    finally:
        operator.close()


@asynccontextmanager
async def served(rig: Rig, clerk: Any = None) -> AsyncIterator[None]:
    """The running broker looks at its desk."""
    desk = Desk.open(rig.broker.engine)
    who = clerk or clerks(rig.broker.ledger)
    chore = asyncio.create_task(desk.serve(rig.broker.logs.admin, who, 0.01))
    try:
        yield
    finally:
        assert not chore.done()
        chore.cancel()


def waiting(operator: Operator) -> int:
    with operator.desk.engine.connect() as connection:
        query = select(func.count()).where(requests.c.leaf_index.is_(None))
        return connection.execute(query).scalar_one()


def left_by_a_killed_command(operator: Operator, kind: str, **facts: Any) -> str:
    return operator.desk._ask(admin_leaf(kind, operator.clock(), **facts))


async def test_what_the_log_cannot_take_is_refused_and_nothing_of_it_waits(world: World) -> None:
    async with rigged(world, serving=("custody",)) as rig:
        await rig.crash()
        async with an_operator(rig) as operator:
            with pytest.raises(ProbegateError, match=r"^TEXT_INVALID"):
                await operator.switch("agency:pnd", off=True, reference=NOT_UTF8)
            assert waiting(operator) == 0
            await operator.switch("agency:custody", off=True, reference="INC-1")
            assert operator.switched_off == {"agency:custody"}


async def test_a_request_that_is_refused_keeps_no_kill_switch_waiting(world: World) -> None:
    """As of a command that was killed, or of an earlier version."""
    async with rigged(world, serving=("custody",)) as rig:
        async with an_operator(rig) as operator:
            left = left_by_a_killed_command(operator, "anything", reference=NOT_UTF8)
            async with served(rig):
                await operator.switch("agency:custody", off=True, reference="INC-1")
            assert rig.broker.ledger.switched_off == {"agency:custody"}
            assert waiting(operator) == 0
            with pytest.raises(ProbegateError, match=r"^TEXT_INVALID"):
                operator.desk._index_of(left)
        view = await rig.search(("custody",))
        assert not view.record.decisions[0].permitted


@pytest.mark.parametrize("running", [True, False])
async def test_an_erasure_that_is_refused_is_not_made_later(world: World, running: bool) -> None:  # noqa: FBT001
    async with rigged(world, serving=("custody",)) as rig:
        rig.peers["custody"].knobs.behaviour = Behaviour.HANGS
        view = await rig.create(Request(world, agencies=("custody",)), 0.0)
        facts = facts_of("search", [view.record.order_index], [], "DPO/7")
        async with AsyncExitStack() as there:
            if running:
                await there.enter_async_context(served(rig))
            else:
                await rig.crash()
            operator = await there.enter_async_context(an_operator(rig))
            with pytest.raises(ProbegateError, match=r"^SEARCH_RUNNING"):
                await operator.log(ERASED, **facts)
            assert waiting(operator) == 0
            with operator.desk.engine.connect() as connection:
                order = select(func.length(searches.c.order_envelope))
                assert connection.execute(order).scalar_one() > 0


@dataclass
class Clumsy:
    """A clerk that fails at one kind of entry, in a way that nobody foresaw."""

    seen: list[str]

    def before(self, leaf: Mapping[str, Any]) -> None:
        self.seen.append(str(leaf["reference"]))
        if leaf["type"] == "clumsy":
            raise KeyError("nobody foresaw it")

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None: ...

    def after(self, leaf: Mapping[str, Any]) -> None: ...


async def test_what_nobody_foresaw_is_told_and_the_desk_goes_on_in_order(world: World) -> None:
    async with rigged(world, serving=("custody",)) as rig, an_operator(rig) as operator:
        clumsy = Clumsy([])
        for number in range(4):
            left_by_a_killed_command(operator, "fine", reference=f"R{number}")
        async with served(rig, Clerks((clumsy, clerks(rig.broker.ledger)))):
            with pytest.raises(ProbegateError, match=r"^UNEXPECTED"):
                await operator.log("clumsy", reference="R4")
            await operator.switch("agency:custody", off=True, reference="INC-1")
        assert clumsy.seen == ["R0", "R1", "R2", "R3", "R4", "INC-1"]


async def test_a_command_that_is_interrupted_takes_its_request_back(world: World) -> None:
    async with rigged(world, serving=("custody",)) as rig, an_operator(rig) as operator:
        command = asyncio.create_task(operator.switch("agency:custody", off=True, reference="I"))
        while not waiting(operator):  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        assert waiting(operator) == 0


async def test_what_was_taken_back_is_not_logged_however_late_the_server_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(world, serving=("custody",)) as rig, an_operator(rig) as operator:
        left = left_by_a_killed_command(operator, "anything", reference="R")
        size = rig.broker.logs.admin.checkpoint.checkpoint.size
        desk = Desk.open(rig.broker.engine)
        there = desk._waiting()
        monkeypatch.setattr(Desk, "_waiting", lambda _self: there)
        operator.desk._take_back(left)
        await desk.clear(rig.broker.logs.admin, clerks(rig.broker.ledger))
        assert rig.broker.logs.admin.checkpoint.checkpoint.size == size


async def test_what_ails_the_log_refuses_no_request(world: World) -> None:
    async with rigged(world, serving=("custody",)) as rig, an_operator(rig) as operator:
        left_by_a_killed_command(operator, "anything", reference="R")
        await rig.broker.logs.admin.close()
        with pytest.raises(ProbegateError) as raised:
            await replace(operator.desk, engine=rig.broker.engine).clear(
                rig.broker.logs.admin, clerks(rig.broker.ledger)
            )
        assert raised.value.reason is Reason.LOG_UNAVAILABLE
        assert waiting(operator) == 1
