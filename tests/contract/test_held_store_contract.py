"""What the broker keeps of held answers, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from broker.held_store import HeldRow, HeldStore
from broker.models import AgencyAnswer, SearchRecord, SearchState
from broker.settings import BrokerSettings
from broker.store import SearchStore, Times
from broker.tables import candidate_links, searches
from trust.clock import to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Outcome, OutcomeState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SEARCH = "00000000-0000-4000-8000-000000000001"
RECORD = SearchRecord(
    search_id=SEARCH,
    request_id="00000000-0000-4000-8000-000000000002",
    force="northshire",
    order_sha256=bytes(32),
    state=SearchState.FINISHED,
    created_at=NOW,
    decisions=(),
    agencies=2,
)
AFTER = timedelta(seconds=5)


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> HeldStore:
    places = ("member_folder", "directory", "scheme_key", "bundle", "state_dir", "logs_dir")
    settings = BrokerSettings.model_validate(dict.fromkeys(places, tmp_path))
    return HeldStore(engine, settings)


def holding(agency: str) -> AgencyAnswer:
    outcome = Outcome(agency=agency, state=OutcomeState.HELD, reason="TO_BE_RELEASED")
    return AgencyAnswer(outcome, report=Envelope("type", b"held", ()))


def silent(agency: str, asked_under: bytes = b"") -> AgencyAnswer:
    outcome = Outcome(agency=agency, state=OutcomeState.TIMED_OUT, reason="DEADLINE_PASSED")
    return AgencyAnswer(outcome, asked_under=asked_under)


def put(store: HeldStore, *answers: AgencyAnswer) -> None:
    with store.engine.begin() as connection:
        store.write(connection, RECORD, answers, NOW)


def agencies(rows: tuple[HeldRow, ...]) -> list[str]:
    return sorted(row.agency for row in rows)


async def test_what_is_held_is_due_when_it_is_and_until_it_came(store: HeldStore) -> None:
    put(store, holding("pnd"), holding("passport"), silent("custody"))
    put(store)
    assert await store.due(NOW, 9) == ()
    due = await store.due(NOW + AFTER, 9)
    assert agencies(due) == ["passport", "pnd"]
    assert len(await store.due(NOW + AFTER, 1)) == 1
    first = due[0]
    assert (first.search_id, first.force, first.held_at, first.asked) == (
        SEARCH,
        "northshire",
        NOW,
        0,
    )
    assert first.until == NOW + timedelta(hours=336)
    later = NOW + timedelta(minutes=1)
    await store.asked(first, later + AFTER, later)
    assert first.agency not in agencies(await store.due(NOW + AFTER, 9))
    (again,) = [row for row in await store.due(later, 9) if row.agency == first.agency]
    assert (again.asked, again.until) == (1, later + AFTER)
    with store.engine.begin() as connection:
        store.write_came(connection, SEARCH, ["pnd"])
    assert agencies(await store.due(later, 9)) == ["passport"]
    await store.given_up((await store.due(later, 9))[0])
    assert await store.due(later, 9) == ()


async def test_what_did_not_come_is_asked_for_sooner_and_not_as_long(store: HeldStore) -> None:
    put(store, holding("pnd"), silent("passport", b"\3" * 32), silent("custody"))
    (late,) = await store.due(NOW + timedelta(seconds=2), 9)
    assert (late.agency, late.late, late.grant_sha256) == ("passport", True, b"\3" * 32)
    assert late.until == NOW + timedelta(minutes=10)
    rows = await store.due(NOW + AFTER, 9)
    assert {row.agency: row.late for row in rows} == {"passport": True, "pnd": False}


async def test_link_tokens_go_with_the_last_answer_that_is_given_up(store: HeldStore) -> None:
    put(store, holding("pnd"), holding("passport"))
    link = {"search_id": SEARCH, "agency": "custody", "links": b"tokens"}
    with store.engine.begin() as connection:
        connection.execute(insert(candidate_links), link)
    for left in (1, 0):
        await store.given_up((await store.due(NOW + AFTER, 9))[0])
        with store.engine.connect() as connection:
            assert len(connection.execute(select(candidate_links)).all()) == left


async def test_an_end_is_replaced_only_if_it_is_the_one_that_stands(engine: Engine) -> None:
    store = SearchStore(engine)
    row = {
        "search_id": SEARCH,
        "force": "northshire",
        "request_id": RECORD.request_id,
        "state": SearchState.RUNNING.value,
        "created_us": to_us(NOW),
        "order_index": 0,
        "order_sha256": bytes(32),
        "order_envelope": b"",
        "decisions": b"",
    }
    with engine.begin() as connection:
        connection.execute(insert(searches), row)

    def end(index: int, replaces: int | None) -> None:
        result = Envelope("type", b"%d" % index, ())
        write = store.end(SEARCH, SearchState.FINISHED, (), result, Times(NOW, None), replaces)
        with engine.begin() as connection:
            write(connection, index)

    with pytest.raises(ProbegateError):
        end(3, 2)  # there is none to replace
    end(3, None)
    for wrong in (None, 2, 4):
        with pytest.raises(ProbegateError) as raised:
            end(5, wrong)
        assert raised.value.reason is Reason.STATE_UNAVAILABLE
    end(7, 3)
    with engine.connect() as connection:
        assert connection.execute(select(searches.c.result_index)).scalar_one() == 7
