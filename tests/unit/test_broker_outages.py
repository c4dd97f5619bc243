"""What counts as an agency's outage: that nobody was there, once for calls made at once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from broker.backoff import AgencyBackoff
from broker.tables import held_answers
from tests.brokers import Rig, outcomes, rigged
from tests.peers import Behaviour, SimulatedAgency, search_log_signer
from tests.second_steps import opened, refused, searched
from tests.world import Request, World
from trust.errors import Reason
from trust.messages import OutcomeState, SearchLimits

AT_ONCE = 8
NO_TIME = SearchLimits(timeout_ms=1)


@dataclass(slots=True)
class Crowded(SimulatedAgency):
    """An agency that counts who waits for it, and breaks all of them off at once."""

    waiting: int = 0
    breaks: asyncio.Event = field(default_factory=asyncio.Event)

    async def match(self, data: bytes, context: Any) -> bytes:
        if self.breaks.is_set():
            return await SimulatedAgency.match(self, data, context)
        self.waiting += 1
        await self.breaks.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        raise AssertionError


def crowded(agency: str, world: World) -> Crowded:
    folder = world.folder(agency)
    other = world.folder("broker").signer()
    return Crowded(agency, folder.signer(), other, log=search_log_signer(folder))


def asked_for_afterwards(rig: Rig) -> int:
    with rig.broker.engine.connect() as connection:
        return len(connection.execute(select(held_answers)).all())


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_force_that_gives_no_time_takes_an_agency_from_nobody(
    world: World, *, at_once: bool
) -> None:
    async with rigged(world, serving=("custody",), backoff_first_s=60.0) as rig:
        rig.peers["custody"].knobs.delay_s = 0.05
        await rig.search(("custody",))
        impatient = [rig.search(("custody",), limits=NO_TIME) for _ in range(AT_ONCE)]
        views = await asyncio.gather(*impatient) if at_once else [await one for one in impatient]
        ends = {(outcomes(one)["custody"].state, outcomes(one)["custody"].reason) for one in views}
        assert ends == {(OutcomeState.TIMED_OUT, "DEADLINE_PASSED")}
        other = await rig.create(Request(world, force="southmere"))
        assert outcomes(other)["custody"].state is OutcomeState.CANDIDATES


async def test_waiting_here_for_a_turn_is_no_outage_and_nobody_was_asked(world: World) -> None:
    async with rigged(world, serving=("pnd",), max_calls_per_agency=1, agency_timeout_s=2.0) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        first = asyncio.create_task(rig.search(("pnd",)))
        await rig.called("pnd")
        waits = await rig.search(("pnd",), limits=SearchLimits(timeout_ms=1100))
        assert outcomes(waits)["pnd"].reason == "DEADLINE_PASSED"
        await first
        assert rig.peers["pnd"].calls == 1
        assert rig.broker.agencies["pnd"].backoff.outages == 1
        assert asked_for_afterwards(rig) == 1


async def test_an_agency_that_is_silent_for_our_own_patience_is_left_alone(world: World) -> None:
    async with rigged(
        world, serving=("pnd",), agency_timeout_s=0.3, backoff_after_failures=2, backoff_first_s=60
    ) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        states = [outcomes(await rig.search(("pnd",)))["pnd"].state for _ in range(3)]
        assert states == [OutcomeState.TIMED_OUT] * 2 + [OutcomeState.UNAVAILABLE]
        assert rig.peers["pnd"].calls == 2


async def test_calls_that_fail_at_once_are_one_outage(world: World) -> None:
    async with rigged(
        world, serving=("pnd",), peer=crowded, call_attempts=1, backoff_after_failures=2
    ) as rig:
        pnd = rig.peers["pnd"]
        assert isinstance(pnd, Crowded)
        crowd = [asyncio.create_task(rig.search(("pnd",))) for _ in range(AT_ONCE)]
        while pnd.waiting < AT_ONCE:  # noqa: ASYNC110 - what is counted is across the wire
            await asyncio.sleep(0.005)
        pnd.breaks.set()
        ends = {outcomes(view)["pnd"].reason for view in await asyncio.gather(*crowd)}
        assert ends == {"SERVICE_UNREACHABLE"}
        assert rig.broker.agencies["pnd"].backoff.outages == 1
        view = await rig.search(("pnd",))
        assert outcomes(view)["pnd"].state is OutcomeState.CANDIDATES


async def test_a_reviewer_who_gives_no_time_for_images_takes_an_agency_from_nobody(
    world: World,
) -> None:
    async with opened(world, images_timeout_s=0.2) as office:
        case = await searched(office)
        office.owners["custody"].knobs.silent = True
        for _ in range(3):
            assert (await refused(case.images())).reason is Reason.DEADLINE_PASSED
        assert office.broker.agencies["custody"].backoff.outages == 0


def test_only_a_call_that_began_after_an_outage_is_the_next() -> None:
    now, second = datetime(2026, 11, 23, tzinfo=UTC), timedelta(seconds=1)
    memory = AgencyBackoff("pnd", 2, second, 60 * second, _draw=random.Random(1))
    crowd = [memory.begun() for _ in range(AT_ONCE)]
    for since in crowd:
        memory.failed(Reason.DEADLINE_PASSED, now, since)
    assert memory.outages == 1
    assert memory.may_call(now)
    later = [memory.begun() for _ in range(AT_ONCE)]
    memory.answered()
    for since in later:
        memory.failed(Reason.DEADLINE_PASSED, now, since)
    assert memory.outages == 1
    memory.failed(Reason.DEADLINE_PASSED, now, memory.begun())
    assert not memory.may_call(now)
    until = memory.not_before
    for since in later:
        memory.failed(Reason.DEADLINE_PASSED, now, since)
    assert memory.not_before == until
