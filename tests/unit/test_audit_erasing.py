"""After an erasure no erased value is in any file; the log verifies and says when and why.

A broker that runs, its real database and its files; the commands as an operator gives them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update
from typer.testing import CliRunner, Result

from audit import kinds
from audit.desk import Desk
from audit.erasing import chosen
from audit.opening import read_erasures
from audit.reader import LogReader
from audit.side_store import ValuesReport, verify_values
from audit.tables import values
from audit.verify import verify_folder
from broker.operators import Operator, clerks
from broker.recorded import RecordedDecisions
from cli.audit import app
from tests.brokers import Rig, rigged
from tests.peers import Behaviour
from tests.world import Request, World
from trust.errors import ProbegateError, Reason

CASE = "CASE/8151/erase-me"
NECESSITY = "The only image of the person who used the stolen card at the kiosk in Erasure Lane."
AUTHORITY = "DPO/2026/17"


@dataclass(frozen=True, slots=True)
class Bench:
    rig: Rig
    world: World
    config: Path

    async def run(self, *arguments: str) -> Result:
        """Give a command, as a process of its own would."""
        line = [arguments[0], "--config", str(self.config), *arguments[1:]]
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, line))

    async def said(self, *arguments: str) -> Any:
        result = await self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def search(self, **why: Any) -> tuple[str, int]:
        """Search for the case to be erased; return the search's id and its entry."""
        why = {"case_reference": CASE, "necessity": NECESSITY} | why
        view = await self.rig.create(Request(self.world, agencies=("custody",), justification=why))
        await self.published(view.record.order_index)
        return view.record.search_id, view.record.order_index

    async def published(self, index: int) -> None:
        """Wait until an entry is in the log's files, which follow its database."""
        folder = self.world.broker_settings().logs_dir / "search"
        while LogReader(folder).size <= index:  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.05)

    def files_with(self, *texts: str) -> set[str]:
        """Name every file of the broker that holds one of some texts."""
        wanted = [text.encode() for text in texts]
        settings = self.world.broker_settings()
        found = set()
        for folder in (settings.state_dir, settings.logs_dir):
            for path in folder.rglob("*"):
                if path.is_file() and any(text in path.read_bytes() for text in wanted):
                    found.add(path.name)
        return found


@asynccontextmanager
async def benched(world: World, tmp_path: Path) -> AsyncIterator[Bench]:
    given = world.broker_settings().model_dump(mode="json", exclude_unset=True)
    config = tmp_path / "broker.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
    async with rigged(world, serving=("custody",)) as rig:
        desk = Desk.open(rig.broker.engine)
        chore = asyncio.create_task(
            desk.serve(rig.broker.logs.admin, clerks(rig.broker.ledger), 0.01)
        )
        try:
            yield Bench(rig, world, config)
        finally:
            chore.cancel()


def forced(world: World, bench: Bench, index: int, field: str) -> Reason:
    """Carry out an entry that erases whatever it names; return why it was refused."""
    operator = Operator.open(world.broker_settings())
    leaf: dict[str, Any] = {
        "type": kinds.ERASED,
        "log": "search",
        "entries": [index],
        "fields": [field],
    }
    clerk = clerks(bench.rig.broker.ledger)
    with operator.desk.engine.connect() as connection, pytest.raises(ProbegateError) as raised:
        clerk.also(connection, 0, leaf)
    operator.close()
    return raised.value.reason


def values_report(world: World, connection: Connection) -> ValuesReport:
    """Verify the side store as it is seen within a transaction."""
    logs = world.broker_settings().logs_dir
    erasures = read_erasures(logs / "admin", "search")
    return verify_values(LogReader(logs / "search"), connection, "search", erasures)


async def test_an_erased_search_leaves_no_byte_behind_and_the_log_verifies(
    world: World, tmp_path: Path
) -> None:
    async with benched(world, tmp_path) as bench:
        search_id, index = await bench.search()
        other, _ = await bench.search(case_reference="CASE/8151/keep-me")
        assert bench.files_with(CASE), "the positive control"
        done = await bench.said("erase", "--search", search_id, "--authority", AUTHORITY)
        assert done["erased_entries"] == [index]
        assert done["held_entries"] == []
        assert bench.files_with(CASE) == set()
        assert bench.files_with("CASE/8151/keep-me")

        shown = await bench.run(
            "search",
            "--search",
            search_id,
            "--purpose",
            "self_monitoring",
            "--type",
            "search.order",
        )
        assert shown.exit_code == 0, shown.output
        words = " ".join(shown.output.split())
        assert f"case_reference: erased {datetime.now(UTC):%Y-%m-%d}" in words
        assert f"under {AUTHORITY} (entry {done['admin_entries'][0]} of the admin log)" in words

        kept = await bench.said(
            "search", "--search", other, "--purpose", "self_monitoring", "--type", "search.order"
        )
        assert kept["values"]["case_reference"] == "CASE/8151/keep-me"
        # The force still finds its search, with its result.
        view = await bench.rig.broker.reading.get("northshire", search_id)
        assert view.record.result is not None
    settings = world.broker_settings()
    for log in ("search", "admin"):
        assert verify_folder(settings.logs_dir / log).ok
    with closing(Operator.open(settings)) as operator:
        records = RecordedDecisions(settings.logs_dir, operator.desk.engine)
        assert {one.search_id for one in records} == {other}
        assert records.erased == 1


@pytest.mark.parametrize("command", ["erase", "hold"])
async def test_only_a_whole_id_names_a_search(world: World, tmp_path: Path, command: str) -> None:
    """An empty variable of a script must not erase everything, nor a short id whoever has it."""
    async with benched(world, tmp_path) as bench:
        search_id, _ = await bench.search()
        for named in ("", search_id[:1], search_id[:-1], search_id.upper() + " "):
            done = await bench.run(command, "--search", named, "--authority", AUTHORITY)
            assert done.exit_code == 1
            assert done.output.startswith("probegate: NOT_FOUND"), done.output
        assert bench.files_with(CASE)


async def test_why_something_was_erased_is_read_as_soon_as_it_is_erased(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that follow the database slowly: whoever erased finds the entry in them."""
    monkeypatch.setenv("PROBEGATE_LOG_PUBLISH_INTERVAL_S", "2")
    async with benched(world, tmp_path) as bench:
        search_id, index = await bench.search()
        done = await bench.said("erase", "--search", search_id, "--authority", AUTHORITY)
        erasures = read_erasures(world.broker_settings().logs_dir / "admin", "search")
    (entry,) = done["admin_entries"]
    assert {one.entry for (erased, _), one in erasures.items() if erased == index} == {entry}


async def test_a_value_that_was_changed_lost_or_added_is_found(
    world: World, tmp_path: Path
) -> None:
    async with benched(world, tmp_path) as bench:
        search_id, index = await bench.search()
        other, erased = await bench.search(case_reference="CASE/8151/erased")
        await bench.said("erase", "--search", other, "--authority", AUTHORITY)
        sound = await bench.said("verify-values")
        assert (sound["ok"], sound["problem_count"]) == (True, 0)
        assert sound["values"] == sound["erased"] == 6
        engine = bench.rig.broker.engine
        mine = (values.c.idx == index, values.c.field == "case_reference")
        with engine.connect() as connection:
            row = connection.execute(select(values).where(*mine)).one()
        for column in ("value", "salt"):
            whole = bytes(getattr(row, column))
            for at in range(len(whole)):
                flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
                with engine.begin() as connection:
                    connection.execute(update(values).where(*mine).values({column: flipped}))
                    report = values_report(world, connection)
                    connection.execute(update(values).where(*mine).values({column: whole}))
                (problem,) = report.problems
                assert (problem.entry, problem.field) == (index, "case_reference")
        with engine.begin() as connection:
            connection.execute(update(values).where(*mine).values(value=None))
        found = await bench.run("verify-values")
        assert found.exit_code == 1
        assert f"entry {index}, case_reference: is gone" in found.output
        with engine.begin() as connection:
            connection.execute(update(values).where(*mine).values(value=row.value, field="extra"))
            report = values_report(world, connection)
        assert {one.what for one in report.problems} == {
            "the entry commits to no such field",
            "is gone, and no entry says that it was erased",
        }
        del search_id, erased
        planted = {"log": "search", "idx": 999, "field": "name", "value": b'"X"', "salt": row.salt}
        with engine.begin() as connection:
            connection.execute(insert(values), planted)
            report = values_report(world, connection)
        assert (999, "name", "there is no such entry") in {
            (one.entry, one.field, one.what) for one in report.problems
        }


async def test_values_under_legal_hold_stay_until_it_is_lifted(
    world: World, tmp_path: Path
) -> None:
    async with benched(world, tmp_path) as bench:
        search_id, index = await bench.search()
        held = await bench.said("hold", "--search", search_id, "--authority", "COURT/4")
        assert held["entries"] == [index]
        done = await bench.said("erase", "--search", search_id, "--authority", AUTHORITY)
        assert (done["erased_entries"], done["held_entries"]) == ([], [index])
        assert bench.files_with(CASE)
        # An entry that would erase it all the same is not logged, and nothing is erased.
        assert forced(world, bench, index, "case_reference") is Reason.LEGAL_HOLD
        lifted = await bench.said("hold", "--lift", "--search", search_id, "--authority", "COURT/5")
        assert lifted["held"] is False
        await bench.said("erase", "--search", search_id, "--authority", AUTHORITY)
        assert bench.files_with(CASE, NECESSITY) == set()


async def test_what_is_past_its_time_is_erased_and_nothing_else(
    world: World, tmp_path: Path
) -> None:
    async with benched(world, tmp_path) as bench:
        _, old = await bench.search()
        _, young = await bench.search(case_reference="CASE/8151/keep-me")
        engine = bench.rig.broker.engine
        ends = {one.index: one for one in chosen(engine, "search", None)}
        assert set(ends) == {old, young}
        assert chosen(engine, "search", None, expired_at=datetime.now(UTC)) == ()
        later = datetime.now(UTC) + timedelta(days=2191)
        assert len(chosen(engine, "search", None, expired_at=later)) == 2
        with engine.begin() as connection:
            connection.execute(update(values).where(values.c.idx == old).values(retain_until=1))
        done = await bench.said("erase", "--expired", "--authority", "RETENTION/1")
        assert done["erased_entries"] == [old]
        assert bench.files_with(CASE, NECESSITY) <= bench.files_with(NECESSITY)
        assert bench.files_with(CASE) == set()
        assert bench.files_with("CASE/8151/keep-me")


async def test_a_search_that_runs_is_not_erased(world: World, tmp_path: Path) -> None:
    async with benched(world, tmp_path) as bench:
        bench.rig.peers["custody"].knobs.behaviour = Behaviour.HANGS
        why = {"case_reference": CASE}
        request = Request(world, agencies=("custody",), justification=why)
        view = await bench.rig.create(request, wait_s=0)
        assert forced(world, bench, view.record.order_index, "*") is Reason.SEARCH_RUNNING
        assert bench.files_with(CASE)


async def test_reading_values_needs_a_purpose_and_is_logged_before_it_shows(
    world: World, tmp_path: Path
) -> None:
    async with benched(world, tmp_path) as bench:
        search_id, index = await bench.search()
        for purpose in ("", "curiosity"):
            refused = await bench.run("search", "--case", CASE, "--purpose", purpose)
            assert refused.exit_code == 1
            assert CASE not in refused.output
        before = bench.rig.broker.logs.admin.checkpoint.checkpoint.size
        found = await bench.said("search", "--case", CASE, "--purpose", "lawfulness")
        assert (found["index"], found["entry"]["search_id"]) == (index, search_id)
        assert found["values"]["justification"]["necessity"] == NECESSITY
        read = json.loads(bench.rig.broker.logs.admin.leaf(before))
        assert (read["type"], read["purpose"], read["reader"]) == (
            "log.read",
            "lawfulness",
            "broker",
        )
