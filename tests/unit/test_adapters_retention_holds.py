"""What keeps an adapter's answer longer: a legal hold, a recall; and what was answered before."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, update
from typer.testing import CliRunner

from agency_adapters import subjects
from agency_adapters.erasing import erase_records
from agency_adapters.holds import answers_at
from agency_adapters.lifetimes import UNDATED
from agency_adapters.retention import _erasing
from agency_adapters.second_step.recall_desk import RecallDesk
from agency_adapters.second_step.recalling import ORDERED_ENTRY, RecallClerk
from agency_adapters.tables import (
    DATABASE_FILE,
    MIGRATIONS,
    metadata,
    open_engine,
    recall_acknowledgements,
    recalls,
)
from audit.erasing import facts_of
from audit.kinds import HOLD_LIFTED, HOLD_SET
from audit.tables import values
from cli import adapter as adapter_command
from cli import audit as audit_command
from tests.adapters import Scene, entries
from tests.kept import files_with
from tests.unit.adapters_kit import MATE
from tests.unit.retention_kit import (
    DUE_DAYS,
    LONGEST_DAYS,
    MARGIN_DAYS,
    ahead,
    at_the_desk,
    config_of,
    decided,
    erase,
    erased,
    here,
    is_kept,
    published,
    recorded,
    refused,
    reopened,
    rows,
    step,
    world,
)
from tests.unit.second_step_kit import Step, admin, at_work, inbox, searched
from tests.unit.test_adapters_held import held as held_answer
from tests.unit.test_adapters_held import inbox as held_inbox
from tests.unit.test_adapters_recalls import (
    NOTICE,
    PERSON,
    acknowledgement,
    envelope_of_recall,
    order,
    recalls_of,
)
from trust.errors import ProbegateError, Reason
from trust.second_step import RecallReason

__all__ = ["here", "step", "world"]

HALF_A_DAY = 0.5
AUTHORITY = "COURT/1"


# --- legal hold --------------------------------------------------------------------------------


async def hold(here: Scene, kind: str, log: str, entry: int, *fields: str) -> None:
    with at_the_desk(here) as operator:
        await operator.log(kind, None, **facts_of(log, [entry], fields, AUTHORITY))


def entry_of(here: Scene, kind: str, search_id: str) -> int:
    """Return where the search log says something of a search, the last time."""
    found = [
        index
        for index, entry in enumerate(entries(here.adapter))
        if (entry["type"], entry["search_id"]) == (kind, search_id)
    ]
    return found[-1]


async def test_an_answer_under_legal_hold_stays_until_the_hold_is_lifted(here: Scene) -> None:
    kept, free = await searched(here), await searched(here)
    search_id = kept.report.search_id
    entry = entry_of(here, "match.report", search_id)
    await hold(here, HOLD_SET, "search", entry)
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == [[free.report.search_id]]
    assert is_kept(here, search_id)
    await reopened(here)
    await hold(here, HOLD_SET, "search", entry, "officer")  # again: it is held already
    for log, fields in (("admin", ()), ("search", ("officer",))):  # neither lifts it
        await hold(here, HOLD_LIFTED, log, entry, *fields)
        await erase(here)
    assert len(here.adapter.state.resolve(search_id=search_id)) == 3
    await hold(here, HOLD_LIFTED, "search", entry)
    await erase(here)
    assert erased(here)[1:] == [[search_id]]


async def test_a_hold_that_comes_between_the_looking_and_the_erasing_stops_all_of_it(
    here: Scene,
) -> None:
    one, two = await searched(here), await searched(here)
    ahead(here, days=DUE_DAYS + 1)
    found = [one.report.search_id, two.report.search_id]
    await hold(here, HOLD_SET, "search", entry_of(here, "match.report", found[1]))
    engine, kept = here.adapter.state.engine, here.adapter.retention.kept
    with pytest.raises(ProbegateError) as raised, engine.begin() as connection:
        _erasing(found, here.clock(), kept)(connection, 0)
    assert raised.value.reason is Reason.LEGAL_HOLD
    assert all(is_kept(here, search_id) for search_id in found)


async def test_a_hold_on_what_was_decided_about_its_details_holds_the_answer(step: Step) -> None:
    here, search_id = step.here, step.report.search_id
    asked = await step.asking()
    await step.ask(asked)
    await decided(step, asked.said.request_id, released=False)
    entry = entry_of(here, "release.decided", search_id)
    assert answers_at(here.adapter.state.engine, "search", [entry]) == (entry,)
    await hold(here, HOLD_SET, "search", entry)
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == []
    await hold(here, HOLD_LIFTED, "search", entry)
    await erase(here)
    assert erased(here) == [[search_id]]


async def test_a_hold_on_a_report_that_followed_holds_the_answer(here: Scene) -> None:
    waits = await held_answer(here)
    async with held_inbox(here) as people:
        await people.release(waits.papers.search_id, reviewer="R-1", reference="2026/1")
        await waits.report()
    await hold(here, HOLD_SET, "search", entry_of(here, "match.report", waits.papers.search_id))
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == []
    assert (await waits.report()).candidates


@pytest.mark.parametrize("about", ["a held answer", "a request", "a recall"])
async def test_a_value_of_the_admin_log_that_is_held_keeps_what_it_is_about(
    here: Scene, about: str
) -> None:
    if about == "a held answer":
        waits = await held_answer(here)
        search_id = waits.papers.search_id
        async with held_inbox(here) as people:
            index = (await people.refuse(search_id, reviewer="R-1", reasons="No.")).index
    else:
        step = await searched(here)
        search_id = step.report.search_id
        if about == "a request":
            asked = await step.asking()
            await step.ask(asked)
            async with inbox(here) as people_:
                done = await people_.refuse(asked.said.request_id, reviewer="R-1", reasons="No.")
            index = done.index
        else:
            await order(step, record_id=MATE)
            with here.adapter.state.engine.connect() as connection:
                index = connection.execute(select(recalls.c.ordered_index)).scalar_one()
    other = await searched(here)
    await hold(here, HOLD_SET, "admin", index, *(("reviewer",) if about == "a request" else ()))
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == [[other.report.search_id]]
    with here.adapter.state.engine.begin() as connection:
        held_values = update(values).where(values.c.legal_hold)
        assert connection.execute(held_values.values(legal_hold=False)).rowcount > 0
    await erase(here)
    assert erased(here)[1:] == [[search_id]]


async def test_the_command_holds_a_search_and_lets_go_of_it(step: Step, tmp_path: Path) -> None:
    here, config = step.here, str(config_of(step.here, tmp_path))

    async def run(*words: str) -> dict[str, Any]:
        line = ["hold", "--of", "adapter", "--search", step.report.search_id, "--json"]
        line += ["--authority", AUTHORITY, "--config", config, *words]
        done = await asyncio.to_thread(CliRunner().invoke, audit_command.app, line)
        assert done.exit_code == 0, done.output
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    await published(here)
    with at_the_desk(here):
        entry = entry_of(here, "match.report", step.report.search_id)
        said = await run()
        assert (said["entries"], said["held"]) == ([entry], True)
        assert len(said["admin_entries"]) == 1
        ahead(here, days=DUE_DAYS + 1)
        await erase(here)
        assert erased(here) == []
        assert (await run("--lift"))["entries"] == [entry]
        await erase(here)
        assert erased(here) == [[step.report.search_id]]
        assert (await run())["entries"] == []


# --- recalls -----------------------------------------------------------------------------------


async def test_a_recall_reaches_whoever_may_hold_something_up_to_the_end(step: Step) -> None:
    here = step.here
    ahead(here, days=DUE_DAYS - HALF_A_DAY)
    await erase(here)
    await order(step, record_id=MATE)
    ahead(here, days=MARGIN_DAYS - HALF_A_DAY)
    await erase(here)
    assert [number for number, _ in await recalls_of(step)] == [1]
    said = acknowledgement(step, await envelope_of_recall(step))
    await step.send("Notify", await step.notice(said))
    assert files_with(here.adapter, said.action.encode()), "the positive control"
    ahead(here, days=1)
    await erase(here)
    assert erased(here) == [[step.report.search_id]]
    assert await recalls_of(step) == []
    assert files_with(here.adapter, said.action.encode()) == set()
    with here.adapter.state.engine.connect() as connection:
        assert connection.execute(select(recall_acknowledgements)).all() == []


async def test_numbers_go_on_where_they_were_when_recalls_are_gone(here: Scene) -> None:
    first = await searched(here)
    await order(first, record_id=MATE)
    recall = await envelope_of_recall(first)
    signature = recall.signatures[0].sig
    assert files_with(here.adapter, signature), "the positive control"
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert files_with(here.adapter, signature) == set()
    with here.adapter.state.engine.connect() as connection:
        (left,) = connection.execute(select(recalls)).all()
    assert (left.reference, left.record_id, left.notice, left.recall) == ("", "", "", None)
    assert here.adapter.second_step.recalling.recalls.unissued() == ()  # nor is it signed again
    notice = await first.notice(acknowledgement(first, recall))
    await recorded(here, Reason.RESULT_GONE, "notice.refused", first.send("Notify", notice))
    await reopened(here)
    second = await searched(here)
    await order(second, record_id=MATE)
    ((number, heard),) = await recalls_of(second, after=1)
    assert (number, heard.search_id) == (2, second.report.search_id)
    async with at_work(here) as operator:
        (listed,), wrong = await RecallDesk.of(operator).all()
    assert (listed.search_id, wrong) == (second.report.search_id, ())


async def test_a_recall_that_is_not_signed_yet_keeps_its_answer(step: Step) -> None:
    here, search_id = step.here, step.report.search_id
    with at_the_desk(here) as operator:
        ((answer, reference),) = RecallDesk.of(operator).answered.listing(MATE)
        one = {
            "recall_id": "4fa3c1de-0000-4000-8000-000000000001",
            "search_id": search_id,
            "order_sha256": answer.order_sha256.hex(),
            "reference": reference,
        }
        private = {"person": PERSON, "record": MATE, "notice": NOTICE}
        await operator.log(ORDERED_ENTRY, private, reason="unlawful", recalls=[one])
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == []
    await here.adapter.second_step.recalling.settle()
    assert [number for number, _ in await recalls_of(step)] == [1]
    ahead(here, days=MARGIN_DAYS - HALF_A_DAY)  # from when it could first be heard
    await erase(here)
    assert erased(here) == []
    ahead(here, days=1)
    await erase(here)
    assert erased(here) == [[search_id]]


async def test_what_is_gone_is_recalled_no_more(step: Step) -> None:
    here = step.here
    answer = step.papers.order_sha256
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    for named in ({"record_id": MATE}, {"reference": step.reference}):
        await refused(Reason.NOT_FOUND, order(step, **named))
    said = {
        "type": ORDERED_ENTRY,
        "at": here.clock().isoformat(),
        "reason": RecallReason.UNLAWFUL.value,
        "record": MATE,
        "notice": NOTICE,
        "recalls": [
            {
                "recall_id": "4fa3c1de-0000-4000-8000-000000000001",
                "search_id": step.report.search_id,
                "order_sha256": answer.hex(),
                "reference": step.reference,
            }
        ],
    }
    with here.adapter.state.engine.begin() as connection:  # ordered a moment before it went
        RecallClerk().also(connection, 0, said)
        assert connection.execute(select(recalls)).all() == []


async def test_who_erases_a_record_is_told_of_what_is_still_kept(
    here: Scene, tmp_path: Path
) -> None:
    gone = await searched(here)
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    async with at_work(here) as operator:
        assert RecallDesk.of(operator).due([MATE]) == ()
        assert await subjects.searches_of(operator, MATE, "lawfulness") == ()
        kept = await searched(here)
        assert RecallDesk.of(operator).due([MATE]) == (MATE,)
        await erase_records(operator, [MATE], "Request 2026/17")
    config = str(config_of(here, tmp_path))
    for words, text in (
        (("recalls",), "Nothing is recalled"),
        (("resolve", "--search", gone.report.search_id), "RESULT_GONE"),
        (("resolve", "--search", kept.report.search_id), kept.reference),
    ):
        with at_the_desk(here):
            line = [*words, "--config", config]
            run = CliRunner(env={"COLUMNS": "200"}).invoke
            done = await asyncio.to_thread(run, adapter_command.app, line)
        assert text in done.output + repr(done.exception)
    assert admin(here, "recall.listed")


# --- what was answered before this was kept ------------------------------------------------------


def migrated(connection: Connection, to: str) -> None:
    """Bring a database to a version, back or forth."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    move = command.upgrade if to == "head" else command.downgrade
    move(config, to)


async def as_before(here: Scene) -> None:
    """Let the adapter find its database as an earlier version left it."""
    await here.server.stop(0)
    await here.adapter.close()
    engine = open_engine(here.adapter.settings.state_dir)
    with engine.begin() as connection:
        migrated(connection, "0004")
    engine.dispose()
    database = sqlite3.connect(here.adapter.settings.state_dir / DATABASE_FILE)
    try:
        columns = {row[1] for row in database.execute("PRAGMA table_info(matches)")}
    finally:
        database.close()
    assert "erase_us" not in columns
    await reopened(here)


async def test_what_was_answered_before_counts_as_ours_from_when_it_was_made(
    here: Scene,
) -> None:
    plain, waits, open_one = await searched(here), await held_answer(here), await held_answer(here)
    ahead(here, days=3)
    async with held_inbox(here) as people:
        await people.release(waits.papers.search_id, reviewer="R-1", reference="2026/1")
        await waits.report()
    await as_before(here)
    first, second = plain.report.search_id, waits.papers.search_id
    never = open_one.papers.search_id
    assert {row.erase_us for row in rows(here).values()} == {UNDATED}
    await erase(here)
    assert erased(here) == []
    assert (await waits.report()).candidates
    ahead(here, days=LONGEST_DAYS + MARGIN_DAYS - 3 - HALF_A_DAY)
    await erase(here)
    assert erased(here) == []
    ahead(here, days=1)
    await erase(here)
    (gone,) = erased(here)
    assert set(gone) == {first, never}
    ahead(here, days=3)
    await erase(here)
    assert erased(here)[1:] == [[second]]


async def test_details_released_before_keep_their_answer_for_as_long_as_ours(step: Step) -> None:
    here = step.here
    asked, waiting = await step.asking(), await step.asking()
    for one in (asked, waiting):
        await step.ask(one)
    ahead(here, days=4)
    await decided(step, asked.said.request_id)
    released_at = (await step.decision(asked)).decided_at
    await as_before(here)
    await erase(here)
    with here.adapter.state.engine.connect() as connection:
        found = {
            row.request_sha256: (row.search_id, row.until_us)
            for row in connection.exec_driver_sql("SELECT * FROM releases")
        }
    until = released_at + timedelta(days=LONGEST_DAYS)
    assert found == {
        asked.digest: (step.report.search_id, int(until.timestamp()) * 10**6 + until.microsecond),
        waiting.digest: (step.report.search_id, None),
    }
    ahead(here, days=LONGEST_DAYS + MARGIN_DAYS - HALF_A_DAY)
    await erase(here)
    assert erased(here) == []
    ahead(here, days=1)
    await erase(here)
    assert erased(here) == [[step.report.search_id]]


async def test_what_is_recalled_before_keeps_its_number(step: Step) -> None:
    here = step.here
    await order(step, record_id=MATE)
    await as_before(here)
    assert [number for number, _ in await recalls_of(step)] == [1]
    ahead(here, days=LONGEST_DAYS + MARGIN_DAYS + 1)
    await erase(here)
    assert erased(here) == [[step.report.search_id]]
    again = await searched(here)
    await order(again, record_id=MATE)
    assert [number for number, _ in await recalls_of(again, after=1)] == [2]


def test_migrations_make_the_tables_that_the_code_has(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    ours = set(metadata.tables)

    def mine(_object: Any, name: str | None, kind: str, *_rest: Any) -> bool:
        return kind != "table" or name in ours

    options = {"version_table": "adapter_version", "include_object": mine}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()
