"""Promise 5 at full width: one search of 45 agencies that behave in every way there is.

The rule for a calibration that had expired before its scores were reported: the answer is one, its
scores are in a lane of their own and its likelihood ratios count for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from probegate.broker.v1 import search_service_pb2_grpc

from broker.models import AgencyAnswer
from broker.searches import CANCELLED
from force_client import wire
from force_client.models import AgencyOutcome, ReceivedSearch, SearchState, SearchView
from force_client.verify import verify_answer, verify_search
from tests.brokers import Rig, TurnedClock, channel_to, rigged, verified, witness
from tests.peers import Behaviour, SimulatedAgency, search_log_signer
from tests.unit.test_broker_held import ahead
from tests.world import Request, World, custody_agreements
from trust.messages import Completeness, OutcomeState, SearchLimits

TIMEOUT_S = 8.0
"""What every agency is given: the quick ones need it on a machine that is busy, seconds."""
MARGIN_S = 15.0
"""How long after that the end may be there on such a machine, seconds."""
CALL_S = TIMEOUT_S + MARGIN_S
"""How long the force watches at most, seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """How three of the agencies behave and end.

    Attributes:
        behaviour: what they do.
        state: how they end.
        reason: why.
        prompt: whether their outcome comes without anything else happening.
        gated: whether they wait, well within their time, until the test lets them go on.
    """

    behaviour: Behaviour
    state: OutcomeState
    reason: str = ""
    prompt: bool = True
    gated: bool = False


PARTS = {
    "answers": Part(Behaviour.CANDIDATES, OutcomeState.CANDIDATES),
    "empty": Part(Behaviour.EMPTY, OutcomeState.NO_CANDIDATE),
    "denies": Part(Behaviour.DENIES, OutcomeState.DENIED, "CLAUSES_FAILED"),
    "holds": Part(Behaviour.HOLDS, OutcomeState.HELD, "TO_BE_RELEASED"),
    "slow": Part(Behaviour.CANDIDATES, OutcomeState.CANDIDATES, prompt=False, gated=True),
    "hangs": Part(Behaviour.HANGS, OutcomeState.TIMED_OUT, "DEADLINE_PASSED", prompt=False),
    "late": Part(Behaviour.LATE, OutcomeState.TIMED_OUT, "DEADLINE_PASSED", prompt=False),
    "resets": Part(Behaviour.RESETS, OutcomeState.UNAVAILABLE, "SERVICE_UNREACHABLE"),
    "garbage": Part(Behaviour.GARBAGE, OutcomeState.INVALID, "OUTCOME_INVALID"),
    "wrong-signature": Part(Behaviour.WRONG_KEY, OutcomeState.INVALID, "KEY_UNKNOWN"),
    "oversized": Part(Behaviour.OVERSIZED, OutcomeState.INVALID, "MESSAGE_TOO_LARGE"),
    "wrong-search": Part(Behaviour.OTHER_SEARCH, OutcomeState.INVALID, "OUTCOME_INVALID"),
    "stale-calibration": Part(Behaviour.STALE_CALIBRATION, OutcomeState.CANDIDATES),
    "duplicates": Part(Behaviour.DUPLICATES, OutcomeState.INVALID, "OUTCOME_INVALID"),
    "calibrated": Part(Behaviour.CANDIDATES, OutcomeState.CANDIDATES),
}
AGENCIES = tuple(f"{name}-{number}" for number in (1, 2, 3) for name in PARTS)


def part_of(agency: str) -> Part:
    return PARTS[agency.rsplit("-", 1)[0]]


def named(*parts: str) -> set[str]:
    return {agency for agency in AGENCIES if agency.rsplit("-", 1)[0] in parts}


PROMPT = {agency for agency in AGENCIES if part_of(agency).prompt}
SILENT = named("hangs", "late")
ENDS = {agency: (part_of(agency).state, part_of(agency).reason) for agency in AGENCIES}
NO_CANDIDATE = OutcomeState.NO_CANDIDATE


@dataclass(slots=True)
class Gated(SimulatedAgency):
    """An agency that waits at its gate, if it has one."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def match(self, data: bytes, context: Any) -> bytes:
        if part_of(self.agency).gated:
            await self.gate.wait()
        return await SimulatedAgency.match(self, data, context)


def peer(agency: str, world: World) -> Gated:
    """Return one of the agencies; its other key is that of another agency."""
    folder, other = world.folder(agency), world.folder("broker").signer()
    made = Gated(agency, folder.signer(), other, log=search_log_signer(folder))
    made.knobs.behaviour = part_of(agency).behaviour
    if agency in named("calibrated"):
        made.knobs.strengths = (3.0, 1.0)
    return made


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A scheme of 45 agencies, each with the custody agreement."""
    root: Path = tmp_path_factory.mktemp("wide")
    agreements = custody_agreements(root / "agreements", AGENCIES)
    return World.make(root, agreements=agreements, agencies=AGENCIES)


@pytest.fixture
async def rig(wide: World, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(
        wide,
        serving=AGENCIES,
        peer=peer,
        clock=TurnedClock(),
        call_attempts=1,
        agency_timeout_s=TIMEOUT_S,
        state_dir=tmp_path / "state",
        logs_dir=tmp_path / "logs",
    ) as made:
        yield made


def ends(outcomes: Iterable[AgencyOutcome]) -> dict[str, tuple[OutcomeState, str]]:
    return {one.agency: (one.state, one.reason) for one in outcomes}


@dataclass(slots=True)
class Heard:
    """What a force hears of a search over the wire, in its sequence, everything verified."""

    order: list[str] = field(default_factory=list)
    outcomes: dict[str, AgencyOutcome] = field(default_factory=dict)
    end: SearchView | None = None


async def watched(rig: Rig, request: Request, search_id: str, port: int) -> Heard:
    """Watch a search as its force does, and open the gates once all that are prompt have ended."""
    heard = Heard()
    async with channel_to(rig.world, "northshire", "broker", port) as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)
        async for event in stub.WatchSearch(wire.watch_request(search_id), timeout=CALL_S):
            said = wire.read_event(event)
            if isinstance(said, ReceivedSearch):
                heard.end = verify_search(said, witness(rig, request))
                break
            agency = said.outcome.agency
            heard.order.append(agency)
            heard.outcomes[agency] = verify_answer(said, search_id, witness(rig, request))
            if set(heard.order) == PROMPT:
                for one in rig.peers.values():
                    assert isinstance(one, Gated)
                    one.gate.set()
    return heard


async def test_each_of_45_agencies_ends_in_its_own_way_and_none_delays_another(rig: Rig) -> None:
    limits = SearchLimits(
        timeout_ms=round(1000 * TIMEOUT_S), completeness=Completeness.MIN_N, min_answers=13
    )
    request = Request(rig.world, agencies=AGENCIES, limits=limits, now=rig.clock())
    server = await rig.broker.listen()
    began = monotonic()
    try:
        search_id = (await rig.create(request, wait_s=0)).record.search_id
        heard = await watched(rig, request, search_id, server.port)
    finally:
        await server.stop(0)
    assert monotonic() - began < CALL_S
    # By sequence alone: while some are slow and others silent, all the prompt ones are there.
    slow_from, silent_from = len(PROMPT), len(AGENCIES) - len(SILENT)
    assert set(heard.order[:slow_from]) == PROMPT
    assert set(heard.order[slow_from:silent_from]) == named("slow")
    assert set(heard.order[silent_from:]) == SILENT
    assert len(heard.order) == len(AGENCIES)
    assert ends(heard.outcomes.values()) == ENDS
    assert set(named("empty")) == {a for a, (state, _) in ENDS.items() if state is NO_CANDIDATE}
    view = heard.end
    assert view is not None
    assert view.verified
    assert {one.agency: one for one in view.outcomes} == heard.outcomes
    assert set(view.missing) == {a for a, (state, _) in ENDS.items() if not state.is_answer}
    assert not view.complete
    assert view.sufficient  # 15 searched, and 13 were asked for
    assert {one.agency for one in view.ranking} == named("calibrated")
    lanes = {lane.agency: lane for lane in view.lanes}
    assert set(lanes) == named("answers", "slow", "stale-calibration")
    assert not [one for lane in lanes.values() for one in lane.candidates if one.log10_lr]
    await late_ones_complete_it(rig, request, search_id)


async def late_ones_complete_it(rig: Rig, request: Request, search_id: str) -> None:
    """The late ones hand over what they have; those that hang and the broken ones have nothing."""
    for agency in named("late"):
        rig.peers[agency].knobs.late = Behaviour.EMPTY
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    view = verified(rig, request, await rig.broker.reading.get("northshire", search_id))
    late = {one.agency for one in view.outcomes if one.late_at is not None}
    assert late == named("late")
    assert ends(view.outcomes) == ENDS | dict.fromkeys(late, (NO_CANDIDATE, ""))
    assert late.isdisjoint(view.missing)
    assert view.revision == len(late)
    # What is held is not due yet.
    assert {agency for agency, one in rig.peers.items() if one.collects} == named(
        "late", "hangs", "resets"
    )


async def test_a_search_of_45_that_is_stopped_has_what_there_is_and_asks_nobody_later(
    rig: Rig,
) -> None:
    limits = SearchLimits(timeout_ms=round(1000 * TIMEOUT_S), completeness=Completeness.ALL)
    request = Request(rig.world, agencies=AGENCIES, limits=limits, now=rig.clock())
    search_id = (await rig.create(request, wait_s=0)).record.search_id
    seen: set[str] = set()
    async for event in rig.broker.reading.watch("northshire", search_id):
        assert isinstance(event, AgencyAnswer)
        seen.add(event.outcome.agency)
        if seen == PROMPT:
            break
    began = monotonic()
    view = verified(rig, request, await rig.broker.reading.cancel("northshire", search_id))
    assert monotonic() - began < MARGIN_S
    assert view.state is SearchState.CANCELLED
    assert not view.sufficient
    rest = dict.fromkeys(set(AGENCIES) - PROMPT, (OutcomeState.TIMED_OUT, CANCELLED))
    assert ends(view.outcomes) == ENDS | rest
    ahead(rig, minutes=5)
    await rig.broker.held.collect()
    assert not any(one.collects for one in rig.peers.values())
