"""Promise 5: every agency asked has an outcome with a reason; silence is never "no match"."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import pytest

from broker.models import AgencyAnswer, SearchState, SearchView
from broker.searches import CANCELLED
from tests.brokers import PERMITTED, Rig, TurnedClock, outcomes, rigged
from tests.peers import Behaviour, SimulatedAgency, search_log_signer
from tests.world import Request, World
from trust.errors import ProbegateError, Reason
from trust.messages import Outcome, OutcomeState, SearchLimits

SHORT = SearchLimits(timeout_ms=150)
"""For agencies that will not answer whatever time they have."""
AMPLE = SearchLimits(timeout_ms=2000)
"""Where one will not answer and the others must, on a machine that is busy."""

INVALID = (OutcomeState.INVALID, "OUTCOME_INVALID")
ENDS = {
    Behaviour.CANDIDATES: (OutcomeState.CANDIDATES, ""),
    Behaviour.EMPTY: (OutcomeState.NO_CANDIDATE, ""),
    Behaviour.DENIES: (OutcomeState.DENIED, "CLAUSES_FAILED"),
    Behaviour.HOLDS: (OutcomeState.HELD, "TO_BE_RELEASED"),
    Behaviour.REJECTS: (OutcomeState.REJECTED, "PROBE_INVALID"),
    Behaviour.HANGS: (OutcomeState.TIMED_OUT, "DEADLINE_PASSED"),
    Behaviour.LATE: (OutcomeState.TIMED_OUT, "DEADLINE_PASSED"),
    Behaviour.RESETS: (OutcomeState.UNAVAILABLE, "SERVICE_UNREACHABLE"),
    Behaviour.REFUSES: (OutcomeState.UNAVAILABLE, "GRANT_INVALID"),
    Behaviour.BUSY: (OutcomeState.UNAVAILABLE, "SERVER_BUSY"),
    Behaviour.GARBAGE: INVALID,
    Behaviour.NOTHING: (OutcomeState.INVALID, "ENVELOPE_INVALID"),
    Behaviour.WRONG_KEY: (OutcomeState.INVALID, "KEY_UNKNOWN"),
    Behaviour.TAMPERED: (OutcomeState.INVALID, "ENVELOPE_TAMPERED"),
    Behaviour.OVERSIZED: (OutcomeState.INVALID, "MESSAGE_TOO_LARGE"),
    Behaviour.OTHER_SEARCH: INVALID,
    Behaviour.OTHER_AGENCY: INVALID,
    Behaviour.OTHER_GRANT: INVALID,
    Behaviour.TOO_MANY: INVALID,
    Behaviour.TOO_LOW: INVALID,
    Behaviour.UNSORTED: INVALID,
    Behaviour.NOT_A_NUMBER: INVALID,
    Behaviour.STALE: INVALID,
    # Scores are scores; a calibration that had expired keeps them in a lane, out of the ranking.
    Behaviour.STALE_CALIBRATION: (OutcomeState.CANDIDATES, ""),
    Behaviour.DUPLICATES: INVALID,
    Behaviour.NO_CHECKPOINT: INVALID,
    Behaviour.FORGED_CHECKPOINT: (OutcomeState.INVALID, "CHECKPOINT_INVALID"),
    Behaviour.CHECKPOINT_SIGNED_TWICE: (OutcomeState.INVALID, "CHECKPOINT_INVALID"),
    # What an agency says to other agencies changes nothing of what it says to the force.
    Behaviour.NO_STATEMENT: (OutcomeState.CANDIDATES, ""),
    Behaviour.FORGED_STATEMENT: (OutcomeState.CANDIDATES, ""),
}


@dataclass(slots=True)
class GatedAgency(SimulatedAgency):
    """An agency that answers when the test opens its gate."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    status: grpc.StatusCode | None = None

    async def match(self, data: bytes, context: Any) -> bytes:
        await self.gate.wait()
        if self.status is not None:
            self.calls += 1
            await context.abort(self.status, "as the test says")
        return await SimulatedAgency.match(self, data, context)


def gated(agency: str, world: World) -> GatedAgency:
    folder = world.folder(agency)
    other = world.folder("broker").signer()
    return GatedAgency(agency, folder.signer(), other, log=search_log_signer(folder))


def one_each(view: SearchView, agencies: tuple[str, ...] = PERMITTED) -> None:
    assert [answer.outcome.agency for answer in view.record.answers] == list(agencies)


async def test_every_way_to_behave_ends_in_an_outcome_of_its_own(world: World) -> None:
    assert set(ENDS) == set(Behaviour)
    limits = {Behaviour.HANGS: AMPLE, Behaviour.LATE: AMPLE}
    async with rigged(world, call_attempts=1, backoff_after_failures=100) as rig:
        ended: dict[Behaviour, tuple[OutcomeState, str]] = {}
        for behaviour in Behaviour:
            rig.peers["pnd"].knobs.behaviour = behaviour
            view = await rig.search(limits=limits.get(behaviour, SearchLimits()))
            one_each(view)
            by_agency = outcomes(view)
            pnd = by_agency.pop("pnd")
            ended[behaviour] = (pnd.state, pnd.reason)
            assert {one.state for one in by_agency.values()} == {OutcomeState.CANDIDATES}
            result = rig.result(view)
            assert result.outcomes == tuple(answer.outcome for answer in view.record.answers)
            assert result.complete is pnd.state.is_answer
            assert result.missing == (() if pnd.state.is_answer else ("pnd",))
            # Only an agency's own signed word is an answer.
            (answer,) = [a for a in view.record.answers if a.outcome.agency == "pnd"]
            assert (answer.report is not None) is (ENDS[behaviour][0] in REPORTED)
            assert pnd.failed_clauses == (
                ("simulated.clause",) if behaviour is Behaviour.DENIES else ()
            )
    assert ended == ENDS
    silent = {b for b, (state, _) in ended.items() if state is OutcomeState.NO_CANDIDATE}
    assert silent == {Behaviour.EMPTY}


REPORTED = {
    OutcomeState.CANDIDATES,
    OutcomeState.NO_CANDIDATE,
    OutcomeState.DENIED,
    OutcomeState.HELD,
    OutcomeState.REJECTED,
}


async def test_every_status_an_agency_may_break_off_with_is_an_outcome(world: World) -> None:
    def peer(agency: str, world: World) -> GatedAgency:
        made = gated(agency, world)
        made.gate.set()
        return made

    async with rigged(
        world, serving=("pnd",), peer=peer, call_attempts=1, backoff_after_failures=100
    ) as rig:
        pnd = rig.peers["pnd"]
        assert isinstance(pnd, GatedAgency)
        for status in grpc.StatusCode:
            if status is grpc.StatusCode.OK:
                continue
            pnd.status = status
            view = await rig.search(("pnd",))
            one = outcomes(view)["pnd"]
            late = status is grpc.StatusCode.DEADLINE_EXCEEDED
            wanted = OutcomeState.TIMED_OUT if late else OutcomeState.UNAVAILABLE
            assert (one.state, status) == (wanted, status)
            assert one.reason in Reason.__members__
            assert view.record.state is SearchState.FINISHED
            assert rig.result(view).missing == ("pnd",)


@dataclass(slots=True)
class OddlyDescribed(SimulatedAgency):
    """An agency whose description, which the broker asks for first, is what goes wrong."""

    oddity: str = ""

    async def describe(self, data: bytes, context: Any) -> bytes:
        match self.oddity:
            case "hangs":
                await asyncio.sleep(3600)
            case "resets":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            case "lies":
                self.newest_size = 2**62
        if self.oddity == "garbage":
            return b"\xff"
        return await SimulatedAgency.describe(self, data, context)


@pytest.mark.parametrize(
    ("oddity", "ended"),
    [
        ("hangs", (OutcomeState.TIMED_OUT, "DEADLINE_PASSED")),
        ("resets", (OutcomeState.UNAVAILABLE, "SERVICE_UNREACHABLE")),
        ("garbage", INVALID),
        ("lies", (OutcomeState.CANDIDATES, "")),
    ],
)
async def test_a_description_that_goes_wrong_is_an_outcome_too(
    world: World, oddity: str, ended: tuple[OutcomeState, str]
) -> None:
    def peer(agency: str, world: World) -> OddlyDescribed:
        folder = world.folder(agency)
        other = world.folder("broker").signer()
        made = OddlyDescribed(agency, folder.signer(), other, log=search_log_signer(folder))
        made.oddity = oddity if agency == "pnd" else ""
        return made

    async with rigged(world, peer=peer) as rig:
        view = await rig.search(limits=AMPLE if oddity == "hangs" else SearchLimits())
        found = {name: (one.state, one.reason) for name, one in outcomes(view).items()}
        assert found == dict.fromkeys(PERMITTED, (OutcomeState.CANDIDATES, "")) | {"pnd": ended}


async def test_nobody_listening_is_unavailable(world: World) -> None:
    async with rigged(world, serving=("custody",)) as rig:
        view = await rig.search()
        one_each(view)
        found = {name: (one.state, one.reason) for name, one in outcomes(view).items()}
        away = (OutcomeState.UNAVAILABLE, "SERVICE_UNREACHABLE")
        assert found == {
            "custody": (OutcomeState.CANDIDATES, ""),
            "pnd": away,
            "passport": away,
            "asylum": away,
        }
        assert rig.result(view).missing == ("pnd", "passport", "asylum")
        assert not rig.result(view).complete


async def test_nobody_waits_for_a_silent_agency(world: World) -> None:
    """While one agency hangs, the others' outcomes are streamed and readable."""

    def peer(agency: str, world: World) -> GatedAgency:
        made = gated(agency, world)
        if agency != "passport":
            made.gate.set()
        return made

    async with rigged(world, peer=peer) as rig:
        passport = rig.peers["passport"]
        assert isinstance(passport, GatedAgency)
        started = await rig.create(Request(world, agencies=PERMITTED), wait_s=0)
        assert started.record.state is SearchState.RUNNING
        assert not started.receipt
        watching = rig.broker.reading.watch("northshire", started.record.search_id)
        first = [await anext(watching) for _ in range(3)]
        assert {event.outcome.agency for event in first if isinstance(event, AgencyAnswer)} == {
            "custody",
            "pnd",
            "asylum",
        }
        now = await rig.broker.reading.get("northshire", started.record.search_id)
        assert "passport" not in outcomes(now)
        assert now.record.state is SearchState.RUNNING
        passport.gate.set()
        late, end = [event async for event in watching]
        assert isinstance(late, AgencyAnswer)
        assert late.outcome.agency == "passport"
        assert late.outcome.state is OutcomeState.CANDIDATES
        assert isinstance(end, SearchView)
        assert rig.result(end).complete
        one_each(end)


async def test_what_comes_after_the_deadline_changes_nothing(world: World) -> None:
    async with rigged(world, serving=("pnd",), peer=gated) as rig:
        pnd = rig.peers["pnd"]
        assert isinstance(pnd, GatedAgency)
        view = await rig.search(("pnd",), limits=SHORT)
        ended = (OutcomeState.TIMED_OUT, "DEADLINE_PASSED")
        assert outcomes(view)["pnd"].state is ended[0]
        pnd.gate.set()
        again = await rig.search(("pnd",))  # the connection is well and answers
        assert outcomes(again)["pnd"].state is OutcomeState.CANDIDATES
        kept = await rig.broker.reading.get("northshire", view.record.search_id)
        assert (outcomes(kept)["pnd"].state, outcomes(kept)["pnd"].reason) == ended
        assert kept.record.result == view.record.result


async def test_the_shorter_of_the_brokers_and_the_orders_patience_counts(world: World) -> None:
    async with rigged(world, serving=("pnd",), peer=gated, agency_timeout_s=0.1) as rig:
        view = await rig.search(("pnd",), limits=SearchLimits(timeout_ms=60_000))
        assert outcomes(view)["pnd"].state is OutcomeState.TIMED_OUT


async def test_a_cancelled_search_says_whom_it_did_not_wait_for(world: World) -> None:
    def peer(agency: str, world: World) -> GatedAgency:
        made = gated(agency, world)
        if agency == "custody":
            made.gate.set()
        return made

    async with rigged(world, peer=peer) as rig:
        started = await rig.create(Request(world, agencies=(*PERMITTED, "dwp")), wait_s=0)
        watching = rig.broker.reading.watch("northshire", started.record.search_id)
        seen: dict[str, Outcome] = {}
        while len(seen) < 2:  # the answer, and the broker's own denial
            event = await anext(watching)
            assert isinstance(event, AgencyAnswer)
            seen[event.outcome.agency] = event.outcome
        assert set(seen) == {"custody", "dwp"}
        view = await rig.broker.reading.cancel("northshire", started.record.search_id)
        assert view.record.state is SearchState.CANCELLED
        found = {name: (one.state, one.reason) for name, one in outcomes(view).items()}
        dropped = (OutcomeState.TIMED_OUT, CANCELLED)
        assert found == {
            "custody": (OutcomeState.CANDIDATES, ""),
            "pnd": dropped,
            "passport": dropped,
            "asylum": dropped,
            "dwp": (OutcomeState.DENIED, "CLAUSES_FAILED"),
        }
        result = rig.result(view)
        assert (result.complete, result.missing) == (False, ("pnd", "passport", "asylum"))
        *rest, end = [event async for event in watching]
        assert isinstance(end, SearchView)
        assert {event.outcome.agency for event in rest if isinstance(event, AgencyAnswer)} == {
            "pnd",
            "passport",
            "asylum",
        }
        assert end.record.result == view.record.result
        again = await rig.broker.reading.cancel("northshire", started.record.search_id)
        assert again.record.result == view.record.result


async def test_a_search_cancelled_before_anybody_was_asked_asks_nobody(world: World) -> None:
    async with rigged(world, serving=("pnd",), peer=gated) as rig:
        request = Request(world, agencies=("pnd",), limits=SHORT)
        made = asyncio.create_task(rig.create(request, wait_s=0))
        while not made.done():
            for running in rig.broker.searches._running.values():
                running.cancel()  # as soon as there is something to cancel
            await asyncio.sleep(0)
        search_id = made.result().record.search_id
        view = await rig.broker.reading.cancel("northshire", search_id)
        one = outcomes(view)["pnd"]
        assert (one.state, one.reason) == (OutcomeState.TIMED_OUT, CANCELLED)
        assert view.record.state is SearchState.CANCELLED


@pytest.mark.parametrize(
    ("behaviour", "resets", "state", "calls"),
    [
        (Behaviour.CANDIDATES, 1, OutcomeState.CANDIDATES, 2),
        (Behaviour.CANDIDATES, 2, OutcomeState.CANDIDATES, 3),
        (Behaviour.RESETS, 0, OutcomeState.UNAVAILABLE, 3),
        (Behaviour.REFUSES, 0, OutcomeState.UNAVAILABLE, 1),
        (Behaviour.BUSY, 0, OutcomeState.UNAVAILABLE, 1),
        (Behaviour.GARBAGE, 0, OutcomeState.INVALID, 1),
        (Behaviour.HANGS, 0, OutcomeState.TIMED_OUT, 1),
    ],
)
async def test_only_a_lost_connection_is_tried_again_with_the_same_bytes(
    world: World, behaviour: Behaviour, resets: int, state: OutcomeState, calls: int
) -> None:
    async with rigged(world, serving=("pnd",)) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour, pnd.knobs.resets_left = behaviour, resets
        slow = SHORT if behaviour is Behaviour.HANGS else SearchLimits()
        view = await rig.search(("pnd",), limits=slow)
        assert outcomes(view)["pnd"].state is state
        assert pnd.calls == calls
        assert len(set(pnd.requests)) == 1


async def _outcome(rig: Rig) -> tuple[OutcomeState, str]:
    one = outcomes(await rig.search(("pnd",)))["pnd"]
    return one.state, one.reason


async def test_a_dead_agency_is_left_alone_for_a_while_and_says_so(world: World) -> None:
    clock = TurnedClock()
    async with rigged(
        world,
        serving=("pnd",),
        clock=clock,
        call_attempts=1,
        backoff_after_failures=2,
        backoff_first_s=10.0,
    ) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour = Behaviour.RESETS
        away = (OutcomeState.UNAVAILABLE, "SERVICE_UNREACHABLE")
        assert [await _outcome(rig) for _ in range(4)] == [away] * 4
        assert pnd.calls == 2  # then it was not called, and the outcome is the same
        memory = rig.broker.agencies["pnd"].backoff
        assert (memory.outages, memory.last_reason) == (2, Reason.SERVICE_UNREACHABLE)
        pnd.knobs.behaviour = Behaviour.CANDIDATES
        clock.ahead += timedelta(seconds=15)
        assert await _outcome(rig) == (OutcomeState.CANDIDATES, "")
        assert memory.outages == 0
        assert memory.may_call(clock())


async def test_an_agency_that_is_back_is_noticed_by_asking_and_not_by_searches(
    world: World,
) -> None:
    clock = TurnedClock()
    async with rigged(
        world,
        serving=("pnd",),
        clock=clock,
        call_attempts=1,
        backoff_after_failures=1,
        backoff_first_s=300.0,
    ) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour = Behaviour.RESETS
        assert (await _outcome(rig))[0] is OutcomeState.UNAVAILABLE
        await rig.broker.refresh_descriptions()  # it answers this, so it is there
        pnd.knobs.behaviour = Behaviour.CANDIDATES
        assert await _outcome(rig) == (OutcomeState.CANDIDATES, "")
        assert pnd.calls == 2


async def test_a_dead_agency_is_asked_now_and_then_whether_it_is_back(world: World) -> None:
    clock = TurnedClock()
    async with rigged(world, clock=clock, call_attempts=1, backoff_after_failures=1) as rig:
        pnd = rig.broker.agencies["pnd"]
        asked = 0

        async def nobody(timeout_s: float) -> bytes:
            nonlocal asked
            asked += 1
            raise ProbegateError(Reason.SERVICE_UNREACHABLE)

        answers, pnd.link.describe = pnd.link.describe, nobody  # type: ignore[method-assign]
        pnd.backoff.failed(Reason.SERVICE_UNREACHABLE, clock())
        for seconds in (0, 1, 1, 1, 3, 1, 6):
            clock.ahead += timedelta(seconds=seconds)
            await rig.broker.refresh_descriptions()
        assert asked == 3  # at once, after five seconds, and after five more
        pnd.link.describe = answers  # type: ignore[method-assign]
        clock.ahead += timedelta(seconds=6)
        await rig.broker.refresh_descriptions()
        assert pnd.backoff.may_call(clock())
        assert pnd.backoff.outages == 0


@pytest.mark.parametrize(
    "behaviour", [Behaviour.REFUSES, Behaviour.BUSY, Behaviour.GARBAGE, Behaviour.DENIES]
)
async def test_an_agency_that_refuses_is_alive_and_is_asked_again(
    world: World, behaviour: Behaviour
) -> None:
    async with rigged(
        world, serving=("pnd",), call_attempts=1, backoff_after_failures=1, backoff_first_s=60.0
    ) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour = behaviour
        for _ in range(3):
            await _outcome(rig)
        assert pnd.calls == 3
        assert rig.broker.agencies["pnd"].backoff.not_before is None
