"""What an ended search found is kept for its time; then it is gone, and its owner is told so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from audit.desk import Desk
from audit.erasing import facts_of
from audit.kinds import HOLD_LIFTED, HOLD_SET
from audit.reader import LogReader
from audit.verify import verify_folder
from broker.models import AgencyDecision, SearchView
from broker.operators import Operator, clerks
from broker.retention import LEAST, SEARCHES_MAX, ResultRetention, _erasing
from broker.settings import BrokerSettings
from broker.tables import candidate_links, held_answers
from tests.brokers import Rig, TurnedClock, outcomes, rigged
from tests.kept import files_with
from tests.peers import Behaviour
from tests.unit.test_broker_held import ahead
from tests.world import Request, World, copied_examples, edit_agreement
from trust.clock import to_us
from trust.errors import ProbegateError, Reason
from trust.messages import Obligations, OutcomeState, SearchLimits

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
AGENCIES = ("custody", "passport")
LONGEST_DAYS = 20
"""What custody's agreement says here, within the directory's time; passport's says less."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    agreements = copied_examples(tmp_path / "agreements")
    custody = agreements / "custody" / "custody.yaml"
    edit_agreement(
        custody, lambda agreement: agreement["obligations"].update(retention_days=LONGEST_DAYS)
    )
    world = World.make(tmp_path, agreements=agreements)
    async with rigged(
        world, clock=TurnedClock(), call_attempts=1, backoff_after_failures=100
    ) as made:
        yield made


async def refusal(rig: Rig, view: SearchView, force: str = "northshire") -> Reason:
    with pytest.raises(ProbegateError) as raised:
        await rig.broker.reading.get(force, view.record.search_id)
    return raised.value.reason


def kept_bytes(request: Request, view: SearchView) -> list[bytes]:
    """What only the order, a report or the result has in it: their signatures."""
    record = view.record
    envelopes = [request.envelope(), *(a.report for a in record.answers if a.report)]
    assert record.result is not None
    return [one.signatures[0].sig for one in (*envelopes, record.result)]


def erasures(rig: Rig) -> list[dict[str, Any]]:
    log = rig.broker.logs.admin
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    return [entry for entry in said if entry["type"] == "results.erased"]


async def test_it_is_gone_when_its_time_is_over_and_not_before(rig: Rig) -> None:
    request = Request(rig.world, agencies=AGENCIES, now=rig.clock())
    view = await rig.create(request)
    search_id = view.record.search_id
    signatures = kept_bytes(request, view)
    assert len(signatures) == 4
    assert all(files_with(rig.broker, one) for one in signatures), "the positive control"
    ahead(rig, days=LONGEST_DAYS - 1)
    await rig.broker.retention.erase()
    assert (await rig.broker.reading.get("northshire", search_id)).record == view.record
    assert erasures(rig) == []
    ahead(rig, days=2)
    later = await rig.search(("custody",), now=rig.clock())
    await rig.broker.retention.erase()
    assert files_with(rig.broker, *signatures) == set()
    assert await refusal(rig, view) is Reason.RESULT_GONE
    assert await refusal(rig, view, "southmere") is Reason.NOT_FOUND
    assert [(one["count"], one["searches"]) for one in erasures(rig)] == [(1, [search_id])]
    await rig.broker.retention.erase()
    assert len(erasures(rig)) == 1
    # The rest of it stands: later searches, the list, the log.
    kept = await rig.broker.reading.get("northshire", later.record.search_id)
    assert kept.record == later.record
    listed, _ = await rig.broker.reading.page("northshire", 0, "")
    assert [one.search_id for one in listed] == [later.record.search_id, search_id]


async def test_whatever_reads_it_says_that_it_is_gone(rig: Rig) -> None:
    request = Request(rig.world, agencies=("custody",), now=rig.clock())
    params = request.params(wait_s=1.0)
    directory = rig.broker.directories.current
    view = await rig.broker.create.execute(params, rig.identity(), directory, 20.0)
    ahead(rig, days=LONGEST_DAYS + 1)
    await rig.broker.retention.erase()
    search_id, reading = view.record.search_id, rig.broker.reading

    async def watch() -> None:
        async for _ in reading.watch("northshire", search_id):
            pass

    async def repeat() -> None:
        await rig.broker.create.execute(params, rig.identity(), directory, 20.0)

    for way in (watch, repeat, lambda: reading.cancel("northshire", search_id)):
        with pytest.raises(ProbegateError) as raised:
            await way()
        assert raised.value.reason is Reason.RESULT_GONE
    await rig.crash()
    await rig.reopen()
    assert await refusal(rig, view) is Reason.RESULT_GONE
    assert rig.calls() == 1


async def test_the_log_verifies_without_what_is_gone(rig: Rig) -> None:
    view = await rig.search(("custody",))
    ahead(rig, days=LONGEST_DAYS + 1)
    await rig.broker.retention.erase()
    log = rig.broker.logs.search
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    assert [entry["type"] for entry in said] == ["search.order", "search.result"]
    assert {entry["search_id"] for entry in said} == {view.record.search_id}
    folder = rig.broker.settings.logs_dir / "search"
    while LogReader(folder).size < len(said):  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.05)
    assert verify_folder(folder).ok


async def test_what_is_under_legal_hold_stays_until_the_hold_is_lifted(rig: Rig) -> None:
    held, free = await rig.search(("custody",)), await rig.search(("custody",))
    operator = Operator.open(rig.broker.settings)
    with at_the_desk(rig):
        await operator.log(HOLD_SET, **facts_of("search", [held.record.order_index], [], "COURT/1"))
    ahead(rig, days=LONGEST_DAYS + 1)
    await rig.broker.retention.erase()
    assert (await rig.broker.reading.get("northshire", held.record.search_id)).record == held.record
    assert await refusal(rig, free) is Reason.RESULT_GONE
    # A hold that comes between the looking and the erasing stops all that one entry would name.
    connecting = rig.broker.engine.begin()
    with pytest.raises(ProbegateError) as raised, connecting as connection:
        _erasing([held.record.search_id], rig.clock())(connection, 0)
    assert raised.value.reason is Reason.LEGAL_HOLD
    with at_the_desk(rig):
        await operator.log(
            HOLD_LIFTED, **facts_of("search", [held.record.order_index], [], "COURT/1")
        )
    operator.close()
    await rig.broker.retention.erase()
    assert await refusal(rig, held) is Reason.RESULT_GONE


@contextmanager
def at_the_desk(rig: Rig) -> Iterator[None]:
    """Have the running broker put its people's entries on the log."""
    desk, clerk = Desk.open(rig.broker.engine), clerks(rig.broker.ledger)
    chore = asyncio.create_task(desk.serve(rig.broker.logs.admin, clerk, 0.01))
    try:
        yield
    finally:
        chore.cancel()


async def test_a_search_waits_for_an_answer_that_its_agency_decides_later_than_others_may_be_kept(
    rig: Rig,
) -> None:
    rig.peers["passport"].knobs.behaviour = Behaviour.HOLDS
    view = await rig.search(AGENCIES)
    with rig.broker.engine.begin() as connection:
        until = to_us(rig.clock() + timedelta(days=2 * LONGEST_DAYS))
        connection.execute(held_answers.update().values(until_us=until))
    ahead(rig, days=LONGEST_DAYS + 1)
    await rig.broker.retention.erase()
    assert erasures(rig) == []
    rig.peers["passport"].knobs.late = Behaviour.CANDIDATES
    await rig.broker.held.collect()
    kept = await rig.broker.reading.get("northshire", view.record.search_id)
    assert outcomes(kept)["passport"].state is OutcomeState.CANDIDATES
    ahead(rig, days=LONGEST_DAYS + 1)
    await rig.broker.retention.erase()
    assert await refusal(rig, view) is Reason.RESULT_GONE


async def test_what_is_given_up_keeps_nothing(rig: Rig) -> None:
    rig.peers["passport"].knobs.behaviour = Behaviour.HOLDS
    rig.peers["custody"].knobs.tokens = {"ref-1": (b"\7" * 16,)}
    view = await rig.search(AGENCIES)
    ahead(rig, days=LONGEST_DAYS + 1)
    await rig.broker.held.collect()  # for the last time
    await rig.broker.retention.erase()
    with rig.broker.engine.connect() as connection:
        for table in (held_answers, candidate_links):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0
    assert await refusal(rig, view) is Reason.RESULT_GONE


async def test_an_answer_that_comes_later_is_kept_as_long_as_one(rig: Rig) -> None:
    rig.peers["passport"].knobs.behaviour = Behaviour.HOLDS
    view = await rig.search(AGENCIES)
    rig.peers["passport"].knobs.late = Behaviour.CANDIDATES
    ahead(rig, days=7)
    await rig.broker.held.collect()
    ahead(rig, days=LONGEST_DAYS - 1)
    await rig.broker.retention.erase()
    kept = await rig.broker.reading.get("northshire", view.record.search_id)
    assert rig.result(kept).revision == 1
    ahead(rig, days=2)
    await rig.broker.retention.erase()
    assert await refusal(rig, view) is Reason.RESULT_GONE


async def test_a_search_that_runs_is_not_touched(rig: Rig) -> None:
    rig.peers["custody"].knobs.behaviour = Behaviour.HANGS
    limits = SearchLimits(timeout_ms=20_000)
    request = Request(rig.world, agencies=("custody",), limits=limits, now=rig.clock())
    view = await rig.create(request, wait_s=0)
    ahead(rig, days=4000)
    await rig.broker.retention.erase()
    assert erasures(rig) == []
    done = await rig.broker.reading.cancel("northshire", view.record.search_id)
    assert done.record.result is not None


def retention(tmp_path: Path, longest: int) -> ResultRetention:
    places = ("member_folder", "directory", "scheme_key", "bundle", "state_dir", "logs_dir")
    values: dict[str, object] = dict.fromkeys(places, tmp_path)
    settings = BrokerSettings.model_validate(values | {"results_retain_days": longest})
    nothing: Any = None
    return ResultRetention(settings, nothing, nothing, nothing, lambda: NOW)


def permitted(days: int) -> AgencyDecision:
    duties = Obligations(max_candidates=1, min_score=0.0, retention_days=days)
    return AgencyDecision(
        "a",
        permitted=True,
        code="",
        failed_clauses=(),
        agreement="",
        agreement_sha256=b"",
        obligations=duties,
    )


DENIED = AgencyDecision(
    "d",
    permitted=False,
    code="",
    failed_clauses=(),
    agreement="",
    agreement_sha256=b"",
    obligations=None,
)


@given(
    days=st.lists(st.integers(0, 36_500), max_size=5),
    denied=st.booleans(),
    longest=st.integers(1, 36_500),
)
def test_the_longest_agreement_counts_and_never_longer_than_ours(
    days: list[int], *, denied: bool, longest: int
) -> None:
    decisions = [permitted(one) for one in days] + ([DENIED] if denied else [])
    until = retention(Path("/nowhere"), longest).until(decisions, NOW)
    assert NOW + LEAST <= until <= NOW + timedelta(days=longest)
    if not days:
        assert until == NOW + timedelta(days=longest)
    elif max(days):
        assert until == NOW + timedelta(days=min(longest, *[max(days)]))
    else:
        assert until == NOW + LEAST


def test_an_entry_names_as_many_searches_as_fit() -> None:
    ids = ["00000000-0000-4000-8000-000000000000"] * SEARCHES_MAX
    assert len(json.dumps({"count": SEARCHES_MAX, "searches": ids})) < 32 * 1024
