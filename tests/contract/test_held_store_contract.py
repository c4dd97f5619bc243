"""What the broker keeps of held answers, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from broker.held_store import HeldRow, HeldStore
from broker.models import SearchRecord, SearchState
from broker.settings import BrokerSettings
from broker.store import SearchStore
from broker.tables import searches
from trust.clock import to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason

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


def put(store: HeldStore, *agencies: str) -> None:
    with store.engine.begin() as connection:
        store.write(connection, RECORD, agencies, NOW)


def agencies(rows: tuple[HeldRow, ...]) -> list[str]:
    return sorted(row.agency for row in rows)


async def test_what_is_held_is_due_when_it_is_and_until_it_came(store: HeldStore) -> None:
    put(store, "pnd", "passport")
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
        write = store.end(SEARCH, SearchState.FINISHED, (), result, replaces)
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
