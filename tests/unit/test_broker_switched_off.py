"""A kill switch that is turned while a call waits for its turn: the call is not made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest

from broker.dispatch import SWITCHED_OFF
from broker.running import RunningSearch
from tests.brokers import Rig, TurnedClock, outcomes, rigged
from tests.peers import Behaviour, search_log_signer
from tests.promises.test_silence_is_never_no_match import GatedAgency
from tests.world import Request, World
from trust.messages import Outcome, OutcomeState

SWITCH = "agency:pnd"
NOT_ASKED = Outcome(agency="pnd", state=OutcomeState.NOT_ASKED, reason=SWITCHED_OFF)


@dataclass(slots=True)
class Watched(GatedAgency):
    """An agency that says how many calls have reached it."""

    arrived: int = 0

    async def match(self, data: bytes, context: Any) -> bytes:
        self.arrived += 1
        return await GatedAgency.match(self, data, context)


def watched(agency: str, world: World) -> Watched:
    folder = world.folder(agency)
    other = world.folder("broker").signer()
    return Watched(agency, folder.signer(), other, log=search_log_signer(folder))


@pytest.fixture
async def rig(world: World) -> AsyncIterator[Rig]:
    clock = TurnedClock()
    async with rigged(
        world, serving=("pnd",), peer=watched, clock=clock, max_calls_per_agency=1
    ) as made:
        yield made


def agency_of(rig: Rig) -> Watched:
    pnd = rig.peers["pnd"]
    assert isinstance(pnd, Watched)
    return pnd


async def arrived(rig: Rig) -> None:
    """Return once a search has reached the agency."""
    while not agency_of(rig).arrived:  # noqa: ASYNC110 - what is counted is across the wire
        await asyncio.sleep(0.005)


async def asking(rig: Rig) -> RunningSearch:
    """Begin a search, and return it once its agency is to be asked."""
    request = Request(rig.world, agencies=("pnd",), now=rig.clock())
    view = await rig.create(request, wait_s=0)
    running = rig.broker.searches.running(view.record.search_id)
    assert running is not None
    while "pnd" not in running.asking:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)
    return running


async def waiting_here(rig: Rig) -> None:
    """Return once a call waits for its turn."""
    while not rig.broker.agencies["pnd"]._room._waiters:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)


async def test_a_search_that_waits_for_its_turn_is_not_sent_any_more(rig: Rig) -> None:
    first = await asking(rig)
    await arrived(rig)
    second = await asking(rig)
    await waiting_here(rig)
    rig.broker.ledger.switched(SWITCH, off=True)
    agency_of(rig).gate.set()
    ends = [(await one.ended).answers[0].outcome for one in (first, second)]
    assert ends[0].state is OutcomeState.CANDIDATES  # it was with the agency already
    assert ends[1] == NOT_ASKED
    assert agency_of(rig).calls == 1
    assert rig.broker.agencies["pnd"].backoff.outages == 0


async def test_a_call_that_was_lost_is_not_repeated_and_may_have_been_answered(rig: Rig) -> None:
    pnd = agency_of(rig)
    pnd.status = grpc.StatusCode.UNAVAILABLE
    running = await asking(rig)
    await arrived(rig)
    rig.broker.ledger.switched(SWITCH, off=True)
    pnd.gate.set()
    (answer,) = (await running.ended).answers
    assert pnd.calls == 1
    assert answer.outcome.state is OutcomeState.UNAVAILABLE
    assert answer.outcome.reason == "SERVICE_UNREACHABLE"
    assert answer.asked_under


async def test_an_answer_is_not_asked_for_where_that_waits_for_its_turn(rig: Rig) -> None:
    pnd = agency_of(rig)
    pnd.gate.set()
    pnd.knobs.behaviour, pnd.knobs.late = Behaviour.HOLDS, Behaviour.CANDIDATES
    held = await rig.search(("pnd",))
    pnd.gate.clear()
    pnd.knobs.behaviour = Behaviour.CANDIDATES
    running = await asking(rig)
    assert isinstance(rig.clock, TurnedClock)
    rig.clock.ahead = timedelta(seconds=6)
    collecting = asyncio.create_task(rig.broker.held.collect())
    await waiting_here(rig)
    rig.broker.ledger.switched(SWITCH, off=True)
    pnd.gate.set()
    await collecting
    await running.ended
    assert pnd.collects == 0
    rig.broker.ledger.switched(SWITCH, off=False)
    rig.clock.ahead = timedelta(minutes=1)
    await rig.broker.held.collect()
    assert pnd.collects == 1
    view = await rig.broker.reading.get("northshire", held.record.search_id)
    assert outcomes(view)["pnd"].state is OutcomeState.CANDIDATES
