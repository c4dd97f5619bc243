"""The end of a search that cannot be recorded yet: nothing that came is lost meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from broker.models import SearchState
from broker.running import RunningSearch
from tests.brokers import CALLER_S, Rig, outcomes, rigged
from tests.peers import Behaviour
from tests.promises.test_silence_is_never_no_match import GatedAgency, gated
from tests.world import Request, World
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState


def busy(rig: Rig) -> Callable[[], None]:
    """Have the log take nothing for want of room, until what is returned is called."""
    log = rig.broker.logs.search
    settings = log._settings
    log._settings = settings.model_copy(update={"pending_max_entries": 0})

    def over() -> None:
        log._settings = settings

    return over


def failing(rig: Rig) -> Callable[[], None]:
    """Have the database fail beside the entry, until what is returned is called."""

    def rename(old: str, new: str) -> None:
        with rig.broker.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    rename("ledger_uses", "ledger_elsewhere")
    return lambda: rename("ledger_elsewhere", "ledger_uses")


async def begun(rig: Rig, request: Request) -> RunningSearch:
    """Begin a search of the one agency, which waits at its gate."""
    view = await rig.create(request, wait_s=0)
    running = rig.broker.searches.running(view.record.search_id)
    assert running is not None
    return running


async def answers_at(rig: Rig, running: RunningSearch) -> None:
    """Open the agency's gate and wait until it has answered."""
    pnd = rig.peers["pnd"]
    assert isinstance(pnd, GatedAgency)
    pnd.gate.set()
    while not running.answers:
        await running.changed.wait()


@pytest.mark.parametrize("trouble", [busy, failing])
async def test_an_end_that_is_refused_for_a_moment_is_recorded_with_what_had_come(
    world: World, trouble: Callable[[Rig], Callable[[], None]]
) -> None:
    async with rigged(world, serving=("pnd",), peer=gated) as rig:
        request = Request(world, agencies=("pnd",))
        running = await begun(rig, request)
        over = trouble(rig)
        await answers_at(rig, running)
        meanwhile = await rig.create(request, wait_s=0.5)
        assert meanwhile.record.state is SearchState.RUNNING
        assert outcomes(meanwhile)["pnd"].state is OutcomeState.CANDIDATES
        over()
        ended = await rig.create(request)
        assert ended.record.state is SearchState.FINISHED
        assert ended.record.answers == meanwhile.record.answers
        assert rig.result(ended).complete
        assert rig.calls() == 1
        assert rig.broker.searches.count == 0
        kept = await rig.broker.reading.get("northshire", ended.record.search_id)
        assert kept.record == ended.record


async def test_who_cancels_a_search_is_told_why_it_has_not_ended_yet(world: World) -> None:
    async with rigged(world, serving=("pnd",)) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        running = await begun(rig, Request(world, agencies=("pnd",)))
        over = busy(rig)
        search_id = running.record.search_id
        for _ in range(2):
            with pytest.raises(ProbegateError) as raised:
                await rig.broker.reading.cancel("northshire", search_id)
            assert raised.value.reason is Reason.SERVER_BUSY
        assert (await rig.broker.reading.get("northshire", search_id)).record.result is None
        over()
        view = await rig.broker.reading.cancel("northshire", search_id)
        assert view.record.state is SearchState.CANCELLED


async def test_a_broker_that_is_closed_meanwhile_goes_on_at_the_next_start(world: World) -> None:
    async with rigged(world, serving=("pnd",), peer=gated) as rig:
        request = Request(world, agencies=("pnd",))
        running = await begun(rig, request)
        busy(rig)
        await answers_at(rig, running)
        await rig.broker.searches.close(CALLER_S)
        with pytest.raises(ProbegateError) as raised:
            running.ended.result()
        assert raised.value.reason is Reason.SERVER_BUSY
        await rig.broker.close()
        await rig.reopen()
        ended = await rig.create(request)
        assert ended.record.state is SearchState.FINISHED
        assert rig.result(ended).complete


async def test_a_search_that_has_ended_elsewhere_stands_as_it_ended_there(world: World) -> None:
    async with rigged(world, serving=("pnd",), peer=gated) as rig:
        request = Request(world, agencies=("pnd",))
        running = await begun(rig, request)
        elsewhere = await rig.broker.searches._ending.conclude(
            running.record, (), SearchState.CANCELLED, running.limits
        )
        await answers_at(rig, running)
        ended = await rig.create(request)
        assert ended.record.result == elsewhere.result
        assert ended.record.state is SearchState.CANCELLED
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 2
