"""Which ended searches are erased when, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, delete, insert, select, update

from audit.tables import metadata as log_tables
from audit.tables import values
from broker.models import SearchState
from broker.retention import _erasing, _query
from broker.tables import MIGRATIONS, candidate_links, held_answers, searches
from trust.clock import to_us
from trust.errors import ProbegateError, Reason

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def search_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def row(number: int, state: SearchState, erase_at: datetime | None) -> dict[str, object]:
    return {
        "search_id": search_id(number),
        "force": "northshire",
        "request_id": search_id(number),
        "state": state.value,
        "created_us": to_us(NOW - 9 * DAY),
        "order_index": number,
        "order_sha256": bytes(32),
        "order_envelope": b"an order",
        "decisions": b"",
        "ended": b"an end",
        "result_index": 100 + number,
        "erase_us": None if erase_at is None else to_us(erase_at),
    }


def due(engine: Engine, now: datetime = NOW) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.execute(_query(now)).scalars())


@pytest.fixture
def kept(engine: Engine) -> Engine:
    """Searches 1 to 6: due, not due yet, running, due and held, cancelled and due, and one that is
    due and of which an answer is still asked for."""
    log_tables.create_all(engine)
    ended, running = SearchState.FINISHED, SearchState.RUNNING
    rows = [
        row(1, ended, NOW - DAY),
        row(2, ended, NOW + DAY),
        row(3, running, NOW - DAY),
        row(4, ended, NOW - DAY),
        row(5, SearchState.CANCELLED, NOW),
        row(6, ended, NOW - DAY),
    ]
    held = {"log": "search", "idx": 4, "field": "officer", "legal_hold": True}
    links = {"agency": "pnd", "links": b"tokens"}
    asked = {"search_id": search_id(6), "agency": "pnd", "force": "northshire"}
    times = dict.fromkeys(("held_us", "until_us", "asked", "next_us"), 0)
    with engine.begin() as connection:
        connection.execute(insert(searches), rows)
        connection.execute(insert(values), held | {"retain_until": 0})
        connection.execute(insert(held_answers), asked | times)
        for number in (1, 6):
            connection.execute(insert(candidate_links), links | {"search_id": search_id(number)})
    return engine


def test_what_is_due_is_found_and_erased_with_what_hangs_on_it(kept: Engine) -> None:
    assert due(kept) == [search_id(1), search_id(5)]
    with kept.begin() as connection:
        _erasing(due(kept), NOW)(connection, 0)
    with kept.connect() as connection:
        left = {one.search_id: one for one in connection.execute(select(searches))}
        for table in (held_answers, candidate_links):
            (kept_row,) = connection.execute(select(table.c.search_id)).scalars()
            assert kept_row == search_id(6)
    for number in (1, 5):
        gone = left[search_id(number)]
        assert (bytes(gone.order_envelope), gone.ended, gone.erase_us) == (b"", None, None)
        assert gone.result_index == 100 + number
    assert {number for number in range(1, 7) if left[search_id(number)].ended} == {2, 3, 4, 6}
    assert due(kept) == []
    assert due(kept, NOW + DAY) == [search_id(2)]
    with kept.begin() as connection:
        connection.execute(delete(held_answers))  # it came, or was given up
    assert due(kept) == [search_id(6)]


@pytest.mark.parametrize("named", [2, 3, 4, 6])
def test_what_is_not_due_stops_everything_named_with_it(kept: Engine, named: int) -> None:
    with pytest.raises(ProbegateError) as raised, kept.begin() as connection:
        _erasing([search_id(1), search_id(named)], NOW)(connection, 0)
    assert raised.value.reason is Reason.LEGAL_HOLD
    assert due(kept) == [search_id(1), search_id(5)]


def test_a_hold_that_is_lifted_lets_go(kept: Engine) -> None:
    with kept.begin() as connection:
        connection.execute(update(values).values(legal_hold=False))
    assert search_id(4) in due(kept)


def test_what_ended_under_an_earlier_version_has_an_end_too(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        for number, ended in ((1, b"an end"), (2, None)):
            given = row(number, SearchState.FINISHED, None) | {"ended": ended}
            del given["erase_us"]
            connection.execute(insert(searches), given)
        command.upgrade(config, "head")
        times = select(searches.c.erase_us, searches.c.expire_us).order_by(searches.c.search_id)
        kept = [tuple(row) for row in connection.execute(times)]
    # The first is looked at, at once, for what expires of it sooner.
    assert kept == [(to_us(NOW - 9 * DAY + 365 * DAY), 0), (None, None)]
    engine.dispose()
