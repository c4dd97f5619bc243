"""What each agency found is kept for its own agreement's time, and for no other agency's."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from audit.erasing import facts_of
from audit.kinds import HOLD_LIFTED, HOLD_SET
from audit.reader import LogReader
from audit.verify import verify_folder
from broker.combination import Combination, combine
from broker.ending import replaced
from broker.expiring_store import ExpiringStore
from broker.models import Replaced, SearchView
from broker.operators import Operator
from broker.results import result_without
from broker.tables import candidate_links, searches
from tests.brokers import Rig, TurnedClock, outcomes, rigged, verified
from tests.kept import files_with
from tests.peers import Behaviour
from tests.promises.test_honest_numbers import NOW, report
from tests.unit.test_broker_combination import linked
from tests.unit.test_broker_held import again, ahead, result_entries, states
from tests.unit.test_broker_retention import at_the_desk, erasures, refusal
from tests.world import Request, World, copied_examples, edit_agreement
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState, SearchResult

DAYS = {"custody": 20, "pnd": 10, "passport": 3}
"""What the agreements say here, all within the directory's time."""
ASKED = tuple(DAYS)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    agreements = copied_examples(tmp_path / "agreements")
    for agency, days in DAYS.items():
        change = partial(_keep_for, days)
        edit_agreement(agreements / agency / f"{agency}.yaml", change)
    world = World.make(tmp_path, agreements=agreements)
    async with rigged(
        world, clock=TurnedClock(), call_attempts=1, backoff_after_failures=100
    ) as made:
        for number, agency in enumerate(ASKED):
            made.peers[agency].knobs.strengths = (4.0 - number / 10, 2.0 - number / 10)
            made.peers[agency].knobs.tokens = {"ref-1": (b"\7" * 16,)}
        yield made


def _keep_for(days: int, agreement: Any) -> None:
    agreement["obligations"].update(retention_days=days)


async def erase(rig: Rig) -> None:
    """Do once what the broker does by itself."""
    await rig.broker.retention.erase()
    await rig.broker.expiring.erase()


def found(result: SearchResult) -> set[str]:
    """The agencies with a candidate in a result."""
    return {one.agency for one in result.ranking} | {lane.agency for lane in result.lanes}


def with_reports(view: SearchView) -> set[str]:
    return {one.outcome.agency for one in view.record.answers if one.report is not None}


async def test_each_agencys_is_gone_when_its_own_time_is_over_and_no_others(rig: Rig) -> None:
    request = Request(rig.world, agencies=ASKED, now=rig.clock())
    first = await rig.create(request)
    signed = {
        one.outcome.agency: one.report.signatures[0].sig
        for one in first.record.answers
        if one.report is not None
    }
    assert set(signed) == set(ASKED)
    results = [first.record.result.signatures[0].sig] if first.record.result else []
    left, revision = set(ASKED), 0
    for agency in ("passport", "pnd"):
        ahead(rig, days=DAYS[agency] - 1 - (rig.clock() - first.record.created_at).days)
        await erase(rig)
        assert with_reports(await again(rig, first)) == left, "not before its time"
        ahead(rig, days=1, minutes=1)
        await erase(rig)
        left, revision = left - {agency}, revision + 1
        view = await again(rig, first)
        result = rig.result(view)
        assert (result.revision, found(result), with_reports(view)) == (revision, left, left)
        assert files_with(rig.broker, signed[agency], *results) == set()
        assert all(files_with(rig.broker, signed[one]) for one in left), "the positive control"
        assert view.record.result is not None
        results.append(view.record.result.signatures[0].sig)
        # A force that checks everything believes it, and is told that it is gone.
        shown = {one.agency: one for one in verified(rig, request, view).outcomes}
        assert {one for one in shown if shown[one].erased_at is None} == left
        assert shown[agency].state is OutcomeState.CANDIDATES
        assert shown[agency].erased_at == result.finished_at
    assert erasures(rig) == []
    ahead(rig, days=DAYS["custody"])
    await erase(rig)
    assert await refusal(rig, first) is Reason.RESULT_GONE
    assert [entry["searches"] for entry in erasures(rig)] == [[first.record.search_id]]
    assert files_with(rig.broker, signed["custody"], *results) == set()


async def test_the_log_says_what_was_erased_and_when_and_verifies(rig: Rig) -> None:
    first = await rig.search(ASKED)
    ahead(rig, days=4)
    await erase(rig)
    before, after = result_entries(rig)
    assert after["replaces_sha256"] == before["result_sha256"]
    assert after["revision"] == 1
    gone = [one for one in after["outcomes"] if "erased_at" in one]
    assert [(one["agency"], one["erased_at"]) for one in gone] == [("passport", after["at"])]
    for one, other in zip(before["outcomes"], after["outcomes"], strict=True):
        assert one == {name: value for name, value in other.items() if name != "erased_at"}
    view = await again(rig, first)
    assert view.record.result is not None
    assert after["result_sha256"] == hashlib.sha256(view.record.result.payload).hexdigest()
    folder = rig.broker.settings.logs_dir / "search"
    size = rig.broker.logs.search.checkpoint.checkpoint.size
    while LogReader(folder).size < size:  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.05)
    assert verify_folder(folder).ok


async def test_groups_of_what_is_left_are_as_they_were(rig: Rig) -> None:
    for agency in ("custody", "pnd"):
        rig.peers[agency].knobs.tokens = {"ref-1": (b"\7" * 16,), "ref-2": (b"\6" * 16,)}
    rig.peers["passport"].knobs.tokens = {"ref-1": (b"\7" * 16,), "ref-2": (b"\5" * 16,)}
    request = Request(rig.world, agencies=ASKED, now=rig.clock())
    first = await rig.create(request)
    assert {one.group for one in rig.result(first).ranking if one.agency == "passport"} == {1, 0}
    for days, groups in ((4, {1, 2}), (7, {0})):
        ahead(rig, days=days)
        await erase(rig)
        view = await again(rig, first)
        assert {one.group for one in rig.result(view).ranking} == groups
        assert verified(rig, request, view).verified


async def test_an_answer_that_comes_after_one_was_erased_completes_the_rest(rig: Rig) -> None:
    rig.peers["custody"].knobs.behaviour = Behaviour.HOLDS
    request = Request(rig.world, agencies=ASKED, now=rig.clock())
    first = await rig.create(request)
    ahead(rig, days=4)
    await erase(rig)
    with rig.broker.engine.connect() as connection:
        kept = set(connection.execute(select(candidate_links.c.agency)).scalars())
    assert kept == {"pnd"}, "what waits for custody's answer, and no longer passport's"
    rig.peers["custody"].knobs.behaviour = Behaviour.CANDIDATES
    rig.peers["custody"].knobs.late = Behaviour.CANDIDATES
    await rig.broker.held.collect()
    view = await again(rig, first)
    result = rig.result(view)
    assert (result.revision, found(result)) == (2, {"custody", "pnd"})
    assert {one.group for one in result.ranking} == {0, 1}
    shown = {one.agency: one for one in verified(rig, request, view).outcomes}
    assert (shown["custody"].late_at, shown["passport"].late_at) == (result.finished_at, None)
    assert shown["passport"].erased_at
    # Custody's time counts from when its answer came.
    ahead(rig, days=7)
    await erase(rig)
    assert with_reports(await again(rig, first)) == {"custody"}
    ahead(rig, days=14)
    await erase(rig)
    assert await refusal(rig, first) is Reason.RESULT_GONE


async def test_what_came_late_and_was_erased_is_believed_by_its_force(rig: Rig) -> None:
    rig.peers["passport"].knobs.behaviour = Behaviour.HOLDS
    request = Request(rig.world, agencies=ASKED, now=rig.clock())
    first = await rig.create(request)
    rig.peers["passport"].knobs.behaviour = Behaviour.CANDIDATES
    rig.peers["passport"].knobs.late = Behaviour.CANDIDATES
    ahead(rig, days=2)
    await rig.broker.held.collect()
    ahead(rig, days=2)
    await erase(rig)
    assert with_reports(await again(rig, first)) == set(ASKED)
    ahead(rig, days=2)
    await erase(rig)
    view = await again(rig, first)
    shown = {one.agency: one for one in verified(rig, request, view).outcomes}
    late, erased = shown["passport"].late_at, shown["passport"].erased_at
    assert late is not None
    assert erased is not None
    assert erased - late > timedelta(days=3)


async def test_what_found_nothing_of_anybody_has_no_time_of_its_own(rig: Rig) -> None:
    rig.peers["passport"].knobs.behaviour = Behaviour.EMPTY
    rig.peers["pnd"].knobs.behaviour = Behaviour.HOLDS
    first = await again(rig, await rig.search(ASKED))
    ahead(rig, days=15)
    await erase(rig)
    assert (await again(rig, first)).record == first.record
    assert len(result_entries(rig)) == 1


async def test_a_cancelled_search_is_no_exception(rig: Rig) -> None:
    rig.peers["custody"].knobs.behaviour = Behaviour.HANGS
    request = Request(rig.world, agencies=ASKED, now=rig.clock())
    started = await rig.create(request, wait_s=0)
    search_id = started.record.search_id
    reading = rig.broker.reading
    while len((await reading.get("northshire", search_id)).record.answers) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # what is counted comes over the wire
    first = await rig.broker.reading.cancel("northshire", search_id)
    assert states(first)["passport"] is OutcomeState.CANDIDATES
    ahead(rig, days=4)
    await erase(rig)
    view = await again(rig, first)
    assert with_reports(view) == {"pnd"}
    assert view.record.state is first.record.state
    assert verified(rig, request, view).verified


async def test_legal_hold_stops_it_until_it_is_lifted(rig: Rig) -> None:
    first = await again(rig, await rig.search(ASKED))
    operator = Operator.open(rig.broker.settings)
    held = facts_of("search", [first.record.order_index], [], "COURT/1")
    with at_the_desk(rig):
        await operator.log(HOLD_SET, **held)
    ahead(rig, days=4)
    await erase(rig)
    assert (await again(rig, first)).record == first.record
    # A hold that comes between the looking and the erasing.
    record = first.record
    assert record.result is not None
    store = ExpiringStore(rig.broker.engine)
    write = store.expired(record.search_id, record.answers, record.result, None, replaced(record))
    connecting = rig.broker.engine.begin()
    with pytest.raises(ProbegateError) as raised, connecting as connection:
        write(connection, 0)
    assert raised.value.reason is Reason.LEGAL_HOLD
    with at_the_desk(rig):
        await operator.log(HOLD_LIFTED, **held)
    operator.close()
    await erase(rig)
    assert with_reports(await again(rig, first)) == {"custody", "pnd"}


async def test_an_end_that_came_first_is_not_written_over(rig: Rig) -> None:
    rig.peers["custody"].knobs.behaviour = Behaviour.HOLDS
    first = await rig.search(ASKED)
    ahead(rig, days=4)
    rig.peers["custody"].knobs.behaviour = Behaviour.CANDIDATES
    rig.peers["custody"].knobs.late = Behaviour.CANDIDATES
    await rig.broker.held.collect()
    stale, store = first.record, rig.broker.expiring.store
    with pytest.raises(ProbegateError) as raised:
        await rig.broker.expiring.ending.without(stale, {"passport"}, None, store.expired)
    assert raised.value.reason is Reason.STATE_UNAVAILABLE
    await store.looked_at(stale, None)
    await erase(rig)
    assert with_reports(await again(rig, first)) == {"custody", "pnd"}
    assert [entry.get("revision", 0) for entry in result_entries(rig)] == [0, 1, 2]


async def test_one_search_that_cannot_be_read_keeps_no_other(rig: Rig) -> None:
    broken, whole = await rig.search(ASKED), await rig.search(ASKED)
    with rig.broker.engine.begin() as connection:
        mine = searches.c.search_id == broken.record.search_id
        connection.execute(update(searches).where(mine).values(ended=b"\xff"))
    ahead(rig, days=4)
    await erase(rig)
    assert with_reports(await again(rig, whole)) == {"custody", "pnd"}


async def test_what_an_earlier_version_kept_is_looked_at_once(rig: Rig) -> None:
    first = await again(rig, await rig.search(ASKED))
    with rig.broker.engine.begin() as connection:
        connection.execute(update(searches).values(expire_us=0))
    await erase(rig)
    assert (await again(rig, first)).record == first.record
    with rig.broker.engine.connect() as connection:
        assert connection.execute(select(searches.c.expire_us)).scalar_one() > 0
    ahead(rig, days=4)
    await erase(rig)
    assert with_reports(await again(rig, first)) == {"custody", "pnd"}


async def test_a_restart_changes_nothing(rig: Rig) -> None:
    request = Request(rig.world, agencies=ASKED, now=rig.clock())
    first = await rig.create(request)
    await rig.crash()
    ahead(rig, days=4)
    await rig.reopen()
    await erase(rig)
    await rig.crash()
    await rig.reopen()
    view = await again(rig, first)
    assert with_reports(view) == {"custody", "pnd"}
    assert verified(rig, request, view).verified
    assert outcomes(view)["passport"].erased_at is not None


# --- the pure part ------------------------------------------------------------------------------

PEOPLE = st.lists(st.integers(0, 3), min_size=1, max_size=4)
"""Who each candidate of an agency is."""


@given(
    people=st.dictionaries(st.sampled_from("abcde"), PEOPLE, min_size=1),
    raw=st.sets(st.sampled_from("abcde")),
    gone=st.sets(st.sampled_from("abcde")),
)
def test_what_is_left_is_what_there_would_have_been_without(
    people: dict[str, list[int]], raw: set[str], gone: set[str]
) -> None:
    reports = {
        agency: report(
            agency,
            [(0.9 - place / 10, 3.0 - place - ord(agency) / 1000) for place in range(len(who))],
            calibrated=agency not in raw,
        )
        for agency, who in people.items()
    }

    def combined(agencies: Iterable[str]) -> Combination:
        return combine(
            linked(reports[agency], *([bytes([who]) * 16] for who in people[agency]))
            for agency in agencies
        )

    every = combined(people)
    prior = SearchResult(
        search_id="4fa3c1de-0000-4000-8000-000000000001",
        order_sha256=bytes(32),
        outcomes=(),
        complete=True,
        sufficient=True,
        finished_at=NOW,
        ranking=every.ranking,
        lanes=every.lanes,
    )
    stated = result_without(prior, (), gone, NOW, Replaced(0, b"\1" * 32, 1, NOW, NOW))
    without = combined(set(people) - gone)
    assert stated.ranking == without.ranking
    assert stated.lanes == without.lanes
    assert (stated.revision, stated.first_finished_at) == (1, NOW)
