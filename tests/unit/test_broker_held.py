"""Held answers at the broker: asked for, believed only as a first answer is, and completed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.models import SearchState, SearchView
from tests.brokers import Rig, TurnedClock, outcomes, rigged
from tests.peers import Behaviour
from tests.world import Request, World
from trust.errors import Reason
from trust.messages import OutcomeState
from trust.wire import decode_report, decode_result

ASKED = ("custody", "pnd", "passport")
LIES = {
    "the HELD report again": (Behaviour.HOLDS, None),
    "no answer but a rejection": (Behaviour.REJECTS, None),
    "follows nothing": (Behaviour.CANDIDATES, b""),
    "follows another": (Behaviour.CANDIDATES, b"\1" * 32),
    "another's key": (Behaviour.WRONG_KEY, None),
    "tampered with": (Behaviour.TAMPERED, None),
    "another search": (Behaviour.OTHER_SEARCH, None),
    "another agency": (Behaviour.OTHER_AGENCY, None),
    "another grant": (Behaviour.OTHER_GRANT, None),
    "too many": (Behaviour.TOO_MANY, None),
    "too low": (Behaviour.TOO_LOW, None),
    "unsorted": (Behaviour.UNSORTED, None),
    "from before the grant": (Behaviour.STALE, None),
    "no checkpoint": (Behaviour.NO_CHECKPOINT, None),
    "garbage": (Behaviour.GARBAGE, None),
    "too large": (Behaviour.OVERSIZED, None),
    "refused": (Behaviour.REFUSES, None),
    "connection lost": (Behaviour.RESETS, None),
}


@pytest.fixture
async def rig(world: World) -> AsyncIterator[Rig]:
    async with rigged(world, clock=TurnedClock(), backoff_after_failures=100) as made:
        for agency in ("pnd", "passport"):
            made.peers[agency].knobs.behaviour = Behaviour.HOLDS
        yield made


def ahead(rig: Rig, **by: float) -> None:
    """Turn the broker's clock forward."""
    assert isinstance(rig.clock, TurnedClock)
    rig.clock.ahead += timedelta(**by)


async def again(rig: Rig, view: SearchView) -> SearchView:
    """Read a search as its force does."""
    return await rig.broker.reading.get("northshire", view.record.search_id)


def result_entries(rig: Rig) -> list[dict[str, Any]]:
    log = rig.broker.logs.search
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    return [entry for entry in said if entry["type"] == "search.result"]


def states(view: SearchView) -> dict[str, OutcomeState]:
    return {agency: outcome.state for agency, outcome in outcomes(view).items()}


async def test_an_answer_that_comes_completes_the_same_search(rig: Rig) -> None:
    first = await rig.search(ASKED)
    assert states(first)["pnd"] is OutcomeState.HELD
    await rig.broker.held.collect()
    assert rig.peers["pnd"].collects == 0  # not due yet
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    assert rig.peers["pnd"].collects == 1
    assert await again(rig, first) == first  # nobody has decided
    rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
    ahead(rig, seconds=11)
    await rig.broker.held.collect()
    second = await again(rig, first)
    assert states(second) == states(first) | {"pnd": OutcomeState.CANDIDATES}
    was, now = rig.result(first), rig.result(second)
    assert (was.revision, now.revision) == (0, 1)
    assert first.record.result is not None
    assert now.replaces_sha256 == hashlib.sha256(first.record.result.payload).digest()
    assert (was.missing, now.missing) == (("pnd", "passport"), ("passport",))
    by_agency = {answer.outcome.agency: answer for answer in second.record.answers}
    assert by_agency["pnd"].outcome.late_at is not None
    assert by_agency["custody"].outcome.late_at is None
    assert by_agency["custody"] in first.record.answers
    said = result_entries(rig)
    assert len(said) == 2
    assert "revision" not in said[0]
    assert (said[1]["revision"], said[1]["replaces_sha256"]) == (1, said[0]["result_sha256"])
    # Then the other, which replaces the second end; and then nobody is asked any more.
    rig.peers["passport"].knobs.late = Behaviour.DENIES
    ahead(rig, hours=1)
    await rig.broker.held.collect()
    third = await again(rig, first)
    assert states(third)["passport"] is OutcomeState.DENIED
    last = rig.result(third)
    assert (last.revision, last.complete, last.missing) == (2, True, ())
    assert second.record.result is not None
    assert last.replaces_sha256 == hashlib.sha256(second.record.result.payload).digest()
    asked = [peer.collects for peer in rig.peers.values()]
    ahead(rig, hours=1)
    await rig.broker.held.collect()
    assert [peer.collects for peer in rig.peers.values()] == asked


async def test_two_answers_that_come_at_once_are_both_kept(rig: Rig) -> None:
    first = await rig.search(ASKED)
    rig.peers["pnd"].knobs.late = Behaviour.EMPTY
    rig.peers["passport"].knobs.late = Behaviour.CANDIDATES
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    done = await again(rig, first)
    assert states(done)["pnd"] is OutcomeState.NO_CANDIDATE
    assert states(done)["passport"] is OutcomeState.CANDIDATES
    assert (rig.result(done).revision, rig.result(done).complete) == (2, True)


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_not_believed_changes_nothing_and_is_asked_again(rig: Rig, lie: str) -> None:
    first = await rig.search(ASKED)
    peer = rig.peers["pnd"]
    peer.knobs.late, peer.knobs.follows = LIES[lie]
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    assert peer.collects >= 1
    assert await again(rig, first) == first
    assert len(result_entries(rig)) == 1
    peer.knobs.late, peer.knobs.follows = Behaviour.CANDIDATES, None
    ahead(rig, seconds=11)
    await rig.broker.held.collect()
    assert states(await again(rig, first))["pnd"] is OutcomeState.CANDIDATES


async def test_the_late_answer_of_one_search_is_not_that_of_another(rig: Rig) -> None:
    first, second = await rig.search(ASKED), await rig.search(ASKED)
    peer = rig.peers["pnd"]
    peer.knobs.late = Behaviour.CANDIDATES
    ours, other = list(peer.held)
    peer.held[ours] = peer.held[other]  # replays, under the first search's names
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    assert states(await again(rig, first))["pnd"] is OutcomeState.HELD
    assert states(await again(rig, second))["pnd"] is OutcomeState.CANDIDATES


async def test_a_first_answer_cannot_follow_a_held_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = rig.peers["custody"]
    real = type(peer).report

    def following(*args: Any) -> Any:
        report = real(*args)
        report.held_report_sha256 = b"\1" * 32
        return report

    monkeypatch.setattr(type(peer), "report", following)
    view = await rig.search(("custody",))
    outcome = outcomes(view)["custody"]
    assert (outcome.state, outcome.reason) == (
        OutcomeState.INVALID,
        Reason.OUTCOME_INVALID.name,
    )


async def test_a_restart_goes_on_asking(rig: Rig) -> None:
    first = await rig.search(ASKED)
    await rig.crash()
    await rig.reopen()
    rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    assert states(await again(rig, first))["pnd"] is OutcomeState.CANDIDATES
    await rig.crash()
    await rig.reopen()
    done = await again(rig, first)
    assert rig.result(done).revision == 1
    by_agency = {answer.outcome.agency: answer for answer in done.record.answers}
    assert by_agency["pnd"].outcome.late_at is not None


async def test_the_intervals_grow_and_the_asking_ends_with_the_agencys_time(rig: Rig) -> None:
    first = await rig.search(("pnd",))
    peer = rig.peers["pnd"]
    peer.knobs.decide_by = datetime.now(UTC) + timedelta(hours=48)
    gaps, last = [], rig.clock()
    for _ in range(60):
        ahead(rig, seconds=5)
        before = peer.collects
        await rig.broker.held.collect()
        if peer.collects > before:
            gaps.append(round((rig.clock() - last).total_seconds()))
            last = rig.clock()
    assert gaps[:5] == [5, 10, 20, 40, 80]
    ahead(rig, hours=48)
    await rig.broker.held.collect()
    asked = peer.collects
    ahead(rig, hours=25)
    await rig.broker.held.collect()  # the last time: it is past the agency's time and the margin
    assert peer.collects == asked + 1
    peer.knobs.late = Behaviour.CANDIDATES
    ahead(rig, hours=25)
    await rig.broker.held.collect()
    assert peer.collects == asked + 1
    assert await again(rig, first) == first
    assert states(first)["pnd"] is OutcomeState.HELD


async def test_an_agency_cannot_have_itself_asked_for_ever(rig: Rig) -> None:
    await rig.search(("pnd",))
    peer = rig.peers["pnd"]
    peer.knobs.decide_by = datetime.now(UTC) + timedelta(days=9000)
    for _ in range(3):
        ahead(rig, days=8)
        await rig.broker.held.collect()
    assert peer.collects == 2


async def test_a_cancelled_search_waits_for_no_release(rig: Rig) -> None:
    rig.peers["custody"].knobs.behaviour = Behaviour.HANGS
    request = Request(rig.world, agencies=("custody", "pnd"), now=rig.clock())
    view = await rig.create(request, wait_s=0.0)
    running = rig.broker.searches.running(view.record.search_id)
    assert running is not None
    while "pnd" not in running.answers:
        await running.changed.wait()
    done = await rig.broker.reading.cancel("northshire", view.record.search_id)
    assert done.record.state is SearchState.CANCELLED
    ahead(rig, hours=1)
    await rig.broker.held.collect()
    assert rig.peers["pnd"].collects == 0


async def test_what_was_released_counts_as_answered_for_other_agencies(rig: Rig) -> None:
    view = await rig.search(ASKED)
    rig.peers["pnd"].knobs.late = Behaviour.EMPTY
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    done = await again(rig, view)
    (pnd,) = [one for one in done.record.answers if one.outcome.agency == "pnd"]
    assert pnd.statement is not None
    assert pnd.report is not None
    report = decode_report(pnd.report.payload)
    assert done.record.result is not None
    stated = decode_result(done.record.result.payload)
    (outcome,) = [one for one in stated.outcomes if one.agency == "pnd"]
    assert outcome.state is report.state is OutcomeState.NO_CANDIDATE


async def test_what_is_switched_off_is_not_asked_for_until_it_is_on_again(rig: Rig) -> None:
    first = await rig.search(ASKED)
    rig.peers["pnd"].knobs.late = Behaviour.CANDIDATES
    for name in ("agency:pnd", "force:northshire", "purpose:crime_investigation"):
        rig.broker.ledger.switched(name, off=True)
        ahead(rig, minutes=30)
        await rig.broker.held.collect()
        assert rig.peers["pnd"].collects == 0
        rig.broker.ledger.switched(name, off=False)
    ahead(rig, minutes=30)
    await rig.broker.held.collect()
    assert states(await again(rig, first))["pnd"] is OutcomeState.CANDIDATES


@pytest.mark.parametrize(
    "decide_by", [datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)]
)
async def test_an_agencys_time_at_the_end_of_the_calendar_does_no_harm(
    rig: Rig, decide_by: datetime
) -> None:
    first = await rig.search(("pnd",))
    rig.peers["pnd"].knobs.decide_by = decide_by
    ahead(rig, seconds=6)
    await rig.broker.held.collect()
    assert await again(rig, first) == first
