"""Answers that come after a search's end: asked for a while, believed as a first one, marked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb
from sqlalchemy import func, select, update

from broker.models import SearchState, SearchView
from broker.searches import CANCELLED
from broker.tables import candidate_links, held_answers, searches
from tests.brokers import Rig, TurnedClock, outcomes, rigged
from tests.peers import Behaviour, SimulatedAgency, names_of, search_log_signer
from tests.unit.test_broker_ends import busy
from tests.unit.test_broker_held import LIES, again, ahead, result_entries, states
from tests.world import Request, World
from trust.errors import Reason
from trust.messages import Completeness, OutcomeState, SearchLimits

ASKED = ("custody", "pnd", "passport")
QUICK = SearchLimits(timeout_ms=1000)
"""For agencies that will not answer in any time; the others must, on a machine that is busy."""
LATE_LIES = {
    name: (behaviour, follows)
    for name, (behaviour, follows) in LIES.items()
    # Where no answer came, a HELD one or a rejection is one, and it follows nothing.
    if behaviour not in {Behaviour.HOLDS, Behaviour.REJECTS} and follows != b""
}


@pytest.fixture
async def rig(world: World) -> AsyncIterator[Rig]:
    async with rigged(
        world, clock=TurnedClock(), call_attempts=1, backoff_after_failures=100
    ) as made:
        made.peers["pnd"].knobs.behaviour = Behaviour.LATE
        yield made


def kept(rig: Rig) -> tuple[int, int]:
    """How many answers are still asked for, and of how many the link tokens are kept."""
    with rig.broker.engine.connect() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (held_answers, candidate_links)
        ]
    return counts[0], counts[1]


@pytest.mark.parametrize(
    ("behaviour", "missing"),
    [
        (Behaviour.LATE, OutcomeState.TIMED_OUT),
        (Behaviour.RESETS, OutcomeState.UNAVAILABLE),
    ],
)
async def test_a_late_answer_completes_the_same_search_and_is_marked(
    rig: Rig, behaviour: Behaviour, missing: OutcomeState
) -> None:
    peer = rig.peers["pnd"]
    peer.knobs.behaviour = behaviour
    first = await rig.search(ASKED, limits=QUICK)
    assert states(first)["pnd"] is missing
    await rig.broker.held.collect()
    assert peer.collects == 0  # not due yet
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    assert peer.collects == 1
    assert await again(rig, first) == first  # it is not there yet
    peer.knobs.late = Behaviour.CANDIDATES
    ahead(rig, seconds=5)
    await rig.broker.held.collect()
    second = await again(rig, first)
    assert states(second) == states(first) | {"pnd": OutcomeState.CANDIDATES}
    was, now = rig.result(first), rig.result(second)
    assert (now.revision, now.complete, now.missing) == (1, True, ())
    assert now.first_finished_at == was.finished_at
    late = {agency: outcome.late_at for agency, outcome in outcomes(second).items()}
    assert late == {"custody": None, "pnd": now.finished_at, "passport": None}
    assert now.outcomes == tuple(answer.outcome for answer in second.record.answers)
    assert all(outcome.late_at is None for outcome in was.outcomes)
    entries = result_entries(rig)
    assert ["late_at" in one for one in entries[0]["outcomes"]] == [False, False, False]
    assert ["late_at" in one for one in entries[1]["outcomes"]] == [False, True, False]
    (pnd,) = [one for one in second.record.answers if one.outcome.agency == "pnd"]
    assert pnd.statement is not None
    assert kept(rig) == (0, 0)


@dataclass(slots=True)
class BehindProxy(SimulatedAgency):
    """An agency that is asked, and whose answers a proxy breaks off with a status of its own."""

    status: grpc.StatusCode = grpc.StatusCode.INTERNAL

    async def match(self, data: bytes, context: Any) -> bytes:
        self.calls += 1
        dossier = agency_pb.Dossier.FromString(agency_pb.MatchRequest.FromString(data).dossier)
        self.asked[names_of(dossier)] = dossier
        await context.abort(self.status, "stream reset")
        raise AssertionError


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_an_end_that_is_not_the_agencys_own_word_is_asked_about_afterwards(
    world: World, status: grpc.StatusCode
) -> None:
    def behind_proxy(agency: str, world: World) -> BehindProxy:
        folder = world.folder(agency)
        other, log = world.folder("broker").signer(), search_log_signer(folder)
        return BehindProxy(agency, folder.signer(), other, log=log, status=status)

    async with rigged(world, serving=("pnd",), peer=behind_proxy, clock=TurnedClock()) as rig:
        first = await rig.search(("pnd",))
        assert states(first)["pnd"] is OutcomeState.UNAVAILABLE
        assert kept(rig) == (1, 0)
        rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
        ahead(rig, seconds=3)
        await rig.broker.held.collect()
        assert states(await again(rig, first))["pnd"] is OutcomeState.CANDIDATES


@pytest.mark.parametrize("lie", LATE_LIES)
async def test_what_is_not_believed_changes_nothing_and_is_asked_again(rig: Rig, lie: str) -> None:
    peer = rig.peers["pnd"]
    peer.knobs.behaviour = Behaviour.RESETS
    first = await rig.search(ASKED)
    peer.knobs.late, peer.knobs.follows = LATE_LIES[lie]
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    assert peer.collects >= 1
    assert await again(rig, first) == first
    assert len(result_entries(rig)) == 1
    peer.knobs.late, peer.knobs.follows = Behaviour.EMPTY, None
    ahead(rig, seconds=5)
    await rig.broker.held.collect()
    assert states(await again(rig, first))["pnd"] is OutcomeState.NO_CANDIDATE


async def test_a_late_answer_that_is_held_is_asked_for_on_until_it_is_released(rig: Rig) -> None:
    peer = rig.peers["pnd"]
    first = await rig.search(ASKED, limits=QUICK)
    peer.knobs.late = Behaviour.HOLDS
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    second = await again(rig, first)
    assert states(second)["pnd"] is OutcomeState.HELD
    assert (rig.result(second).revision, rig.result(second).missing) == (1, ("pnd",))
    held_at = outcomes(second)["pnd"].late_at
    assert held_at is not None
    peer.knobs.late = None
    ahead(rig, hours=2)  # far beyond what is given to a late answer
    await rig.broker.held.collect()
    assert await again(rig, first) == second
    peer.knobs.late = Behaviour.CANDIDATES
    ahead(rig, hours=2)
    await rig.broker.held.collect()
    third = await again(rig, first)
    assert states(third)["pnd"] is OutcomeState.CANDIDATES
    assert rig.result(third).revision == 2
    assert rig.result(third).first_finished_at == rig.result(first).finished_at
    released_at = outcomes(third)["pnd"].late_at
    assert released_at is not None
    assert released_at > held_at


async def test_what_fails_on_one_search_keeps_no_other_from_its_answer(rig: Rig) -> None:
    views = [await rig.search(("pnd",), limits=QUICK) for _ in range(3)]
    rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
    mine = searches.c.search_id == views[0].record.search_id
    with rig.broker.engine.begin() as connection:
        kept = connection.execute(select(searches.c.ended).where(mine)).scalar_one()
        connection.execute(update(searches).where(mine).values(ended=b"\xff not an end"))
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    for view in views[1:]:
        assert states(await again(rig, view))["pnd"] is OutcomeState.CANDIDATES
    assert kept_and_asked(rig) == [1]
    await rig.broker.held.collect()
    assert kept_and_asked(rig) == [1]  # it is not asked for every second
    with rig.broker.engine.begin() as connection:
        connection.execute(update(searches).where(mine).values(ended=kept))
    ahead(rig, seconds=10)
    await rig.broker.held.collect()
    assert states(await again(rig, views[0]))["pnd"] is OutcomeState.CANDIDATES
    assert kept_and_asked(rig) == []


async def test_what_fails_for_ever_is_given_up(rig: Rig) -> None:
    await rig.search(("pnd",), limits=QUICK)
    with rig.broker.engine.begin() as connection:
        connection.execute(update(searches).values(ended=b"\xff not an end"))
    for hours, left in ((20, 1), (5, 0)):
        ahead(rig, hours=hours)
        await rig.broker.held.collect()
        assert len(kept_and_asked(rig)) == left


async def test_an_end_that_the_log_refuses_costs_no_answer(rig: Rig) -> None:
    views = [await rig.search(("pnd",), limits=QUICK) for _ in range(2)]
    rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
    over = busy(rig)
    ahead(rig, minutes=9)
    await rig.broker.held.collect()
    ahead(rig, minutes=9)  # past the time that a late answer is given
    await rig.broker.held.collect()
    assert kept_and_asked(rig) == [2, 2]
    over()
    ahead(rig, minutes=1)
    await rig.broker.held.collect()
    for view in views:
        assert states(await again(rig, view))["pnd"] is OutcomeState.CANDIDATES


def kept_and_asked(rig: Rig) -> list[int]:
    """How often each answer that is asked for was asked for."""
    with rig.broker.engine.connect() as connection:
        return sorted(connection.execute(select(held_answers.c.asked)).scalars())


async def test_the_asking_ends_after_minutes(rig: Rig) -> None:
    peer = rig.peers["pnd"]
    peer.knobs.behaviour = Behaviour.RESETS
    first = await rig.search(("pnd",))
    gaps, last = [], rig.clock()
    for _ in range(700):
        ahead(rig, seconds=1)
        before = peer.collects
        await rig.broker.held.collect()
        if peer.collects > before:
            gaps.append(round((rig.clock() - last).total_seconds()))
            last = rig.clock()
    assert gaps[:6] == [2, 4, 8, 16, 32, 60]
    assert 600 <= sum(gaps) <= 665
    assert kept(rig) == (0, 0)
    peer.knobs.late = Behaviour.CANDIDATES
    ahead(rig, hours=1)
    await rig.broker.held.collect()
    assert await again(rig, first) == first
    assert states(first)["pnd"] is OutcomeState.UNAVAILABLE


@pytest.mark.parametrize(
    "behaviour", [Behaviour.REFUSES, Behaviour.BUSY, Behaviour.GARBAGE, Behaviour.WRONG_KEY]
)
async def test_an_agency_that_said_something_else_is_not_asked_again(
    rig: Rig, behaviour: Behaviour
) -> None:
    rig.peers["pnd"].knobs.behaviour = behaviour
    await rig.search(ASKED)
    assert kept(rig) == (0, 0)


async def test_an_agency_that_was_not_called_is_not_asked_for_its_answer(rig: Rig) -> None:
    backoff = rig.broker.agencies["pnd"].backoff
    while backoff.may_call(rig.clock()):
        backoff.failed(Reason.SERVICE_UNREACHABLE, rig.clock())
    view = await rig.search(ASKED)
    assert states(view)["pnd"] is OutcomeState.UNAVAILABLE
    assert kept(rig) == (0, 0)


async def test_a_cancelled_search_asks_for_no_late_answer(rig: Rig) -> None:
    rig.peers["custody"].knobs.behaviour = Behaviour.RESETS
    request = Request(rig.world, agencies=("custody", "pnd"), now=rig.clock())
    view = await rig.create(request, wait_s=0.0)
    running = rig.broker.searches.running(view.record.search_id)
    assert running is not None
    while "custody" not in running.answers:
        await running.changed.wait()
    done = await rig.broker.reading.cancel("northshire", view.record.search_id)
    assert done.record.state is SearchState.CANCELLED
    assert outcomes(done)["pnd"].reason == CANCELLED
    assert kept(rig) == (0, 0)
    for peer in rig.peers.values():
        peer.knobs.late = Behaviour.CANDIDATES
    ahead(rig, minutes=1)
    await rig.broker.held.collect()
    assert [one.collects for one in rig.peers.values()] == [0] * len(rig.peers)


async def test_what_a_dead_process_did_not_hear_is_asked_for_by_the_next(rig: Rig) -> None:
    """The agency answered the process that died; the grant has expired when the next one starts."""
    request = Request(rig.world, agencies=("custody", "pnd"), now=rig.clock())
    view = await rig.create(request, wait_s=0.0)
    await rig.called("pnd")
    await rig.crash()
    ahead(rig, minutes=5)
    await rig.reopen()
    running = rig.broker.searches.running(view.record.search_id)
    if running is not None:
        await running.ended
    lost = await again(rig, view)
    assert outcomes(lost)["pnd"].reason == "BROKER_RESTARTED"
    rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    done = await again(rig, view)
    assert states(done)["pnd"] is OutcomeState.CANDIDATES


async def test_link_tokens_are_kept_as_long_as_something_is_asked_for(rig: Rig) -> None:
    for agency in ("custody", "pnd"):
        rig.peers[agency].knobs.tokens = {"ref-1": (b"\7" * 16,)}
    peer = rig.peers["pnd"]
    first, second = [await rig.search(ASKED, limits=QUICK) for _ in range(2)]
    assert kept(rig) == (2, 2)
    peer.knobs.late = Behaviour.CANDIDATES
    (lost,) = [names for names, dossier in peer.asked.items() if _is_of(dossier, first)]
    del peer.asked[lost]  # that answer will not come
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    done = rig.result(await again(rig, second))
    groups = [one.group for lane in done.lanes for one in lane.candidates if one.group]
    assert groups == [1, 1]
    assert kept(rig) == (1, 1)
    ahead(rig, hours=1)
    await rig.broker.held.collect()
    assert kept(rig) == (0, 0)


def _is_of(dossier: agency_pb.Dossier, view: SearchView) -> bool:
    return view.record.search_id.encode() in dossier.grant.payload


@pytest.mark.parametrize("completeness", [Completeness.ALL, Completeness.MIN_N])
async def test_a_late_answer_may_make_a_search_sufficient(
    rig: Rig, completeness: Completeness
) -> None:
    least = 3 if completeness is Completeness.MIN_N else 0
    limits = SearchLimits(timeout_ms=1000, completeness=completeness, min_answers=least)
    first = await rig.search(ASKED, limits=limits)
    assert not rig.result(first).sufficient
    rig.peers["pnd"].knobs.late = Behaviour.EMPTY
    ahead(rig, seconds=3)
    await rig.broker.held.collect()
    assert rig.result(await again(rig, first)).sufficient
