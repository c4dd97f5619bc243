"""What expires of ended searches, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, insert, select, update

from audit.tables import metadata as log_tables
from audit.tables import values
from broker.expiring_store import ExpiringStore
from broker.models import AgencyAnswer, Replaced, SearchState
from broker.store import SearchStore
from broker.tables import candidate_links, searches
from broker.wire import decode_ended, encode_decisions, encode_ended
from tests.contract.test_retention_contract import DAY, NOW, row, search_id
from trust.clock import from_us, to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Outcome, OutcomeState

REPORT = Envelope("type", b"a report", ())
RESULT = Envelope("type", b"a result", ())
AGENCIES = ("custody", "passport")


def answers(gone: Sequence[str] = ()) -> tuple[AgencyAnswer, ...]:
    return tuple(
        AgencyAnswer(
            Outcome(
                agency=agency,
                state=OutcomeState.CANDIDATES,
                report_sha256=bytes(32),
                erased_at=NOW if agency in gone else None,
            ),
            report=None if agency in gone else REPORT,
        )
        for agency in AGENCIES
    )


@pytest.fixture
def store(engine: Engine) -> ExpiringStore:
    """Searches 1 to 5: due, not due yet, running, due and held, with nothing that expires."""
    log_tables.create_all(engine)
    ended = SearchState.FINISHED
    times = (NOW - DAY, NOW + DAY, NOW - DAY, NOW - 2 * DAY, None)
    states = (ended, ended, SearchState.RUNNING, ended, ended)
    kept = {"ended": encode_ended(answers(), RESULT), "decisions": encode_decisions((), ())}
    rows = [
        row(number, state, NOW + 9 * DAY) | kept | {"expire_us": time and to_us(time)}
        for number, (state, time) in enumerate(zip(states, times, strict=True), 1)
    ]
    hold = {"log": "search", "idx": 4, "field": "officer", "legal_hold": True, "retain_until": 0}
    links = [
        {"search_id": search_id(number), "agency": agency, "links": b"tokens"}
        for number in (1, 2)
        for agency in AGENCIES
    ]
    with engine.begin() as connection:
        connection.execute(insert(searches), rows)
        connection.execute(insert(values), hold)
        connection.execute(insert(candidate_links), links)
    return ExpiringStore(engine)


def replaced(number: int) -> Replaced:
    return Replaced(0, bytes(32), 100 + number, NOW, NOW)


async def due(store: ExpiringStore, at: int = 0) -> list[str]:
    return [one for _, one in await store.due(NOW + at * DAY, 10)]


def linked(store: ExpiringStore) -> set[tuple[str, str]]:
    with store.engine.connect() as connection:
        query = select(candidate_links.c.search_id, candidate_links.c.agency)
        return {(found, agency) for found, agency in connection.execute(query)}


async def test_what_is_due_is_found_the_longest_due_first(store: ExpiringStore) -> None:
    assert await store.due(NOW, 10) == (("northshire", search_id(1)),)
    assert await due(store, 1) == [search_id(1), search_id(2)]
    with store.engine.begin() as connection:
        connection.execute(update(values).values(legal_hold=False))
    assert await due(store) == [search_id(4), search_id(1)]
    assert len(await store.due(NOW, 1)) == 1


async def test_a_search_is_kept_without_what_is_gone_and_nothing_else_of_it_changes(
    store: ExpiringStore,
) -> None:
    write = store.expired(search_id(1), answers(["custody"]), RESULT, NOW + 2 * DAY, replaced(1))
    with store.engine.begin() as connection:
        before = connection.execute(select(searches).where(searches.c.result_index == 101)).one()
        write(connection, 200)
    with store.engine.connect() as connection:
        after = connection.execute(select(searches).where(searches.c.result_index == 200)).one()
    kept, _ = decode_ended(after.ended)
    assert [one.report for one in kept] == [None, REPORT]
    assert from_us(after.expire_us) == NOW + 2 * DAY
    changed = {"ended", "result_index", "expire_us"}
    assert {
        name for name in before._mapping if before._mapping[name] != after._mapping[name]
    } == changed
    every = {(search_id(number), agency) for number in (1, 2) for agency in AGENCIES}
    assert linked(store) == every - {(search_id(1), "custody")}
    found = await SearchStore(store.engine).get("northshire", search_id(1))
    assert found is not None
    assert found.answers == kept
    assert await due(store) == []


@pytest.mark.parametrize(
    ("number", "end", "reason"),
    [(1, 100, Reason.STATE_UNAVAILABLE), (4, 104, Reason.LEGAL_HOLD)],
)
async def test_another_end_and_a_legal_hold_stop_it(
    store: ExpiringStore, number: int, end: int, reason: Reason
) -> None:
    before = linked(store)
    over = Replaced(0, bytes(32), end, NOW, NOW)
    write = store.expired(search_id(number), answers(["custody"]), RESULT, None, over)
    with pytest.raises(ProbegateError) as raised, store.engine.begin() as connection:
        write(connection, 200)
    assert raised.value.reason is reason
    assert linked(store) == before


async def test_when_it_is_looked_at_next_is_kept_of_the_end_that_stands(
    store: ExpiringStore,
) -> None:
    searches_store = SearchStore(store.engine)
    record = await searches_store.get("northshire", search_id(1))
    assert record is not None
    await store.looked_at(record, NOW + 3 * DAY)
    assert await due(store) == []
    assert await due(store, 3) == [search_id(1), search_id(2)][::-1]
    write = store.expired(search_id(1), answers(["custody"]), RESULT, NOW, replaced(1))
    with store.engine.begin() as connection:
        write(connection, 200)
    await store.looked_at(record, None)  # it read an end that has been replaced since
    assert await due(store) == [search_id(1)]
