"""Planted misuse is found with its numbers; an innocent population gives few signals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, update
from typer.testing import CliRunner, Result

from audit.desk import Desk
from audit.opening import PURPOSES
from audit.organisation import SEARCH
from audit.peers import Far, far_counts, far_shares
from audit.reader import LogReader
from audit.signals import CATALOGUE, ENTRIES_MAX, LEAD, About, Kind, Signal
from audit.tables import values as values_table
from audit.watch_limits import Limits, Quota, Watched
from audit.watching import watch
from broker.operators import clerks
from cli.audit import app
from cli.audit_watch import opener
from tests.brokers import rigged
from tests.logs import MadeLog
from tests.population import FORCES, OFFICERS_EACH, START, Population
from tests.scale import scaled
from tests.world import Request, World
from trust.errors import ProbegateError, Reason

DAYS = 60
PURPOSE = "self_monitoring"
NOON = timedelta(hours=12)
WHO = "northshire-99"
COLUMNS = 80
SUSPECT = "ab" * 32


def day(number: int, hour: int = 12, minute: int = 0) -> datetime:
    """A Monday of the population's life and the days after it, at an hour."""
    return START + timedelta(days=number, hours=hour, minutes=minute)


def watched(people: Population, limits: Limits | None = None) -> Watched:
    return watch(
        people.feed(),
        limits,
        open_values=lambda index, _said: people.private.get(index, {}),
        record_read=lambda _purpose, _what: None,
        purpose=PURPOSE,
    )


def one(found: Watched, kind: Kind, about: About = About.OFFICER) -> Signal:
    mine = [signal for signal in found.signals if (signal.kind, signal.about) == (kind, about)]
    assert len(mine) == 1, found.signals
    return mine[0]


@pytest.fixture
def people() -> Population:
    return Population(seed=5).live(DAYS)


def test_an_innocent_population_gives_few_signals() -> None:
    populations = scaled(8, 60)
    officers = len(FORCES) * OFFICERS_EACH * populations
    found = [watched(Population(seed).live(DAYS)) for seed in range(populations)]
    signals = sum(len(each.signals) for each in found)
    assert signals <= officers / 100
    assert all(each.searches == each.opened > 1000 for each in found)


def test_a_probe_again_and_again(people: Population) -> None:
    for number in range(5):
        people.search(WHO, day(10 + number), probe=SUSPECT, case="CASE/FISHING")
    signal = one(watched(people), Kind.REPEATED_PROBE, About.PROBE)
    assert signal.who == f"northshire {SUSPECT[:16]}"
    assert signal.numbers == {"searches": 5, "cases": 1, "officers": 1, "days": 5, "by": WHO}
    assert signal.entries == tuple(range(len(people.entries) - 5, len(people.entries)))


def test_a_probe_for_two_cases_and_one_asked_again_after_an_outage(people: Population) -> None:
    for case in ("CASE/A", "CASE/B"):
        people.search(WHO, day(20), probe=SUSPECT, case=case)
    for _ in range(2):
        people.search(WHO, day(20), probe="cd" * 32, case="CASE/C")  # ordinary
    assert one(watched(people), Kind.REPEATED_PROBE, About.PROBE).numbers["cases"] == 2


def test_a_probe_is_forgotten_after_a_while() -> None:
    people = Population()
    for number in range(6):
        people.search(WHO, day(32 * number), probe=SUSPECT, case="CASE/COLD")
    assert watched(people).signals == ()
    assert watched(people, Limits(within_days=32)).signals != ()


def test_one_force_s_probe_is_not_anothers() -> None:
    people = Population()
    for force in FORCES:
        people.search(f"{force}-1", day(1), force, probe=SUSPECT, case=f"CASE/{force}")
    assert watched(people).signals == ()


def test_far_more_searches_than_peers(people: Population) -> None:
    before = len(people.entries)
    for number in range(160):
        people.search(WHO, day(number % 5, 10, number % 60))
    signal = one(watched(people), Kind.MANY_SEARCHES)
    assert signal.who == WHO
    assert signal.numbers["searches"] == 160
    assert len(people.entries) - before == 160
    assert len(signal.entries) == ENTRIES_MAX


def test_out_of_hours(people: Population) -> None:
    for number in range(20):
        people.search(WHO, day(number % 5, 2 if number < 15 else 12, number))
    signal = one(watched(people), Kind.OUT_OF_HOURS)
    assert (signal.who, signal.numbers["searches"], signal.numbers["out of hours"]) == (WHO, 20, 15)
    assert signal.numbers["share"] == 0.75


def test_office_hours_are_where_the_office_is() -> None:
    """Half past six UTC in July is half past seven in London."""
    july = datetime(2026, 7, 1, 6, 30, tzinfo=UTC)
    people = Population()
    for officer in range(9):
        for number in range(12):
            at = july if officer == 0 else july + timedelta(hours=4)
            people.search(f"northshire-{officer}", at + timedelta(minutes=number))
    assert watched(people).signals == ()
    signal = one(watched(people, Limits(zone="UTC")), Kind.OUT_OF_HOURS)
    assert (signal.who, signal.numbers["share"]) == ("northshire-0", 1.0)


def test_boilerplate(people: Population) -> None:
    for number in range(20):
        signs = ("reasons.repeated",) if number % 2 else ()
        people.search(WHO, day(number % 5, 12, number), warnings=signs)
    signal = one(watched(people), Kind.BOILERPLATE)
    assert (signal.who, signal.numbers["boilerplate"], signal.numbers["share"]) == (WHO, 10, 0.5)


def test_the_urgent_route_too_often_and_left_unconfirmed(people: Population) -> None:
    for number in range(20):
        search = people.search(WHO, day(number % 5, 12, number), urgent=number < 12)
        if number < 4:
            for agency in ("custody", "passport"):  # once for each agency, of one search
                at = day(number % 5, 20)
                people.add("search.unconfirmed", at, search_id=search, agency=agency)
        elif number < 12:
            at = day(number % 5, 14)
            people.add("search.confirmed", at, search_id=search, late=False)
    found = watched(people)
    assert one(found, Kind.URGENT_OFTEN).numbers["urgent"] == 12
    assert one(found, Kind.UNCONFIRMED).numbers == {"times": 4, "urgent": 12}


def test_a_confirmation_that_came_late_was_missing_before(people: Population) -> None:
    for number in range(2):
        search = people.search(WHO, day(1, 9, number), urgent=True)
        people.add("search.unconfirmed", day(1, 15), search_id=search, agency="custody")
        people.add("search.confirmed", day(1, 18), search_id=search, late=True)
    assert one(watched(people), Kind.UNCONFIRMED).numbers == {"times": 2, "urgent": 2}


def test_one_case_of_many_officers(people: Population) -> None:
    for officer in range(4):
        people.search(f"northshire-0{officer}", day(3, 11, officer), case="CASE/BORROWED")
        people.search(f"southshire-0{officer % 3}", day(3, 11), "southshire", case="CASE/BORROWED")
    signal = one(watched(people), Kind.CASE_OF_MANY, About.CASE)  # the other force has three
    assert signal.who == "northshire CASE/BORROWED"
    assert signal.numbers == {"officers": 4, "searches": 4, "days": 1}


def test_the_edge_of_a_quota_and_beyond(people: Population) -> None:
    quota = Quota("custody", "officer.day", 20)
    for number in range(3):
        for earlier in range(16, 20):  # the 18th search of a day is nine tenths of twenty
            people.search(
                WHO, day(number, 12, earlier), earlier={"custody": {"officer.day": earlier}}
            )
        people.search(
            WHO,
            day(number, 13),
            agencies=("custody",),
            denied={"custody": ("custody.quota-officer-day",)},
            earlier={"custody": {"officer.day": 20}},
        )
    found = watched(people, Limits(quotas=(quota,)))
    edge = one(found, Kind.QUOTA_EDGE)
    assert edge.who == WHO
    assert edge.numbers == {
        "times": 3,
        "agency": "custody",
        "counter": "officer.day",
        "most": 20,
    }
    assert one(found, Kind.QUOTA_DENIED).numbers == {"times": 3, "searches": 15}
    assert Kind.QUOTA_EDGE not in {signal.kind for signal in watched(people).signals}


def test_a_force_beside_its_peers_needs_no_values() -> None:
    people = Population()
    for force in range(9):
        for number in range(400 if force == 5 else 40):  # a large force is no signal
            urgent = number < (20 if force == 3 else 2)
            search = people.search("", day(0, 9, number), f"force-{force}", urgent=urgent)
            if urgent and force == 3 and number < 5:
                people.add("search.unconfirmed", day(0, 20), search_id=search, agency="custody")
    found = watch(people.feed())
    assert not found.asked_values
    assert one(found, Kind.URGENT_OFTEN, About.FORCE).who == "force-3"
    assert one(found, Kind.UNCONFIRMED, About.FORCE).numbers == {"times": 5, "urgent": 20}
    assert {signal.about for signal in found.signals} == {About.FORCE}


def test_few_peers_are_not_compared_and_that_is_said() -> None:
    people = Population()
    for number in range(50):
        people.search(WHO, day(0, 3, number))
    found = watched(people)
    assert found.signals == ()
    assert found.not_judged == (
        "officers: 1, too few to compare (8 needed)",
        "forces: 1, too few to compare (8 needed)",
    )


def test_distances_by_hand() -> None:
    counts = {str(number): 10 for number in range(9)} | {"far": 40}
    # 2 sqrt(40.375) - 2 sqrt(10.375) = 12.708 - 6.442, over the least spread, 1
    assert list(far_counts(counts, 10)) == [Far("far", 40, 10, 6.3)]
    assert list(far_counts(counts, 41)) == []
    shares = {str(number): (1, 20) for number in range(9)} | {"far": (10, 20)}
    # (0.5 - 0.05) / sqrt(0.05 * 0.95 / 20) = 0.45 / 0.04873
    assert list(far_shares(shares, 5)) == [Far("far", 0.5, 0.05, 9.2)]
    # Spread over more than chance: median 30, deviations 20 10 0 10 20, so 1.4826 * 10 in counts.
    wide = {str(number): 10 * number for number in range(1, 6)}
    assert list(far_counts(wide, 10)) == []


def test_the_read_is_recorded_before_any_value_is_opened() -> None:
    people = Population().live(3)
    done: list[str] = []

    def open_values(index: int, _said: Mapping[str, Any]) -> Mapping[str, Any]:
        done.append("opened")
        return people.private.get(index, {})

    def record(purpose: str, what: str) -> None:
        done.append(f"recorded {purpose} {what}")

    watch(people.feed(), open_values=open_values, record_read=record, purpose=PURPOSE, what="log")
    assert done[0] == f"recorded {PURPOSE} log"
    assert done.count("opened") == len(done) - 1 > 10


def unavailable(_purpose: str, _what: str) -> None:
    raise ProbegateError(Reason.LOG_UNAVAILABLE)


def recorded(_purpose: str, _what: str) -> None:
    return


@pytest.mark.parametrize(
    ("record", "purpose", "reason"),
    [
        (unavailable, PURPOSE, Reason.LOG_UNAVAILABLE),
        (recorded, "curiosity", Reason.READ_PURPOSE_MISSING),
        (recorded, "", Reason.READ_PURPOSE_MISSING),
        (None, PURPOSE, Reason.READ_PURPOSE_MISSING),
    ],
)
def test_nothing_is_read_that_is_not_recorded(
    record: Callable[[str, str], None] | None, purpose: str, reason: Reason
) -> None:
    def open_values(_index: int, _said: Mapping[str, Any]) -> Mapping[str, Any]:
        raise AssertionError("opened")

    with pytest.raises(ProbegateError) as caught:
        watch(
            Population().live(2).feed(),
            open_values=open_values,
            record_read=record,
            purpose=purpose,
        )
    assert caught.value.reason is reason


def test_every_kind_says_what_else_it_can_be() -> None:
    assert set(CATALOGUE) == set(Kind)
    assert all(meaning.or_else and meaning.may_be for meaning in CATALOGUE.values())


def test_an_entry_that_is_not_of_its_type_is_a_corrupt_log() -> None:
    with pytest.raises(ProbegateError) as caught:
        watch([(0, {"v": 1, "type": "search.order", "at": "2026-01-05"})])
    assert caught.value.reason is Reason.LOG_CORRUPT


@pytest.fixture
def kept(tmp_path: Path) -> MadeLog:
    people = Population(seed=1).live(2)
    for number in range(4):
        people.search(WHO, day(1, 12, number), probe=SUSPECT, case="CASE/FISHING")
    log = MadeLog(tmp_path / SEARCH, "broker.example/search")
    log.write(people.entries, [people.private.get(at, {}) for at in range(len(people.entries))])
    return log


def test_erased_values_are_not_missed_silently_and_false_ones_are_found(kept: MadeLog) -> None:
    engine = create_engine(kept.database)
    reader = LogReader(kept.folder)
    newest = reader.size - 1

    def found() -> Watched:
        with engine.connect() as connection:
            return watch(
                reader.facts(),
                open_values=opener(connection, SEARCH),
                record_read=recorded,
                purpose=PURPOSE,
            )

    def change(**to: Any) -> None:
        mine = (values_table.c.idx == newest, values_table.c.field == "officer")
        with engine.begin() as connection:
            connection.execute(update(values_table).where(*mine).values(**to))

    assert found().opened == found().searches
    change(value=b'{"id":"northshire-01","rank":"constable","role":"investigator"}')
    with pytest.raises(ProbegateError) as caught:
        found()
    assert caught.value.reason is Reason.LOG_PROOF_INVALID
    change(value=None, salt=None)
    assert found().opened == found().searches - 1
    assert one(found(), Kind.REPEATED_PROBE, About.PROBE).numbers["searches"] == 4
    engine.dispose()


def test_without_values_the_command_says_what_it_cannot_tell(kept: MadeLog) -> None:
    shown = CliRunner().invoke(app, ["watch", str(kept.folder)])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= COLUMNS
    words = " ".join(shown.output.split())
    assert LEAD in words
    assert "was not read: only forces are looked at" in words
    assert WHO not in words
    said = json.loads(CliRunner().invoke(app, ["watch", str(kept.folder), "--json"]).stdout)
    assert (said["note"], said["values_asked"], said["signals"]) == (LEAD, False, [])


@pytest.mark.parametrize(
    "options",
    [[], ["{log}", "--zone", "Nowhere/Here"], ["{log}", "--quota", "custody:year=3"]],
)
def test_what_cannot_be_understood_is_refused(kept: MadeLog, options: list[str]) -> None:
    given = [str(kept.folder) if option == "{log}" else option for option in options]
    refused = CliRunner().invoke(app, ["watch", *given])
    assert refused.exit_code == 1
    assert "USAGE" in refused.output


async def test_a_running_broker_logs_the_read_first_and_then_shows_who(
    world: World, tmp_path: Path
) -> None:
    told = world.broker_settings().model_dump(mode="json", exclude_unset=True)
    config = tmp_path / "broker.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    logs = world.broker_settings().logs_dir

    async def run(*options: str) -> Result:
        line = ["watch", "--config", str(config), *options]
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, line))

    def reads() -> list[dict[str, Any]]:
        return [dict(said) for _, said in LogReader(logs / "admin").facts() if _is_read(said)]

    async with rigged(world, serving=("custody",)) as rig:
        desk = Desk.open(rig.broker.engine)
        chore = asyncio.create_task(
            desk.serve(rig.broker.logs.admin, clerks(rig.broker.ledger), 0.01)
        )
        index = 0
        for number in range(2):
            case = {"case_reference": f"CASE/WATCHED/{number}"}
            view = await rig.create(Request(world, agencies=("custody",), justification=case))
            index = view.record.order_index
        while LogReader(logs / SEARCH).size <= index:  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.05)
        refused = await run()
        assert (refused.exit_code, "READ_PURPOSE_MISSING" in refused.output) == (1, True)
        assert reads() == []
        shown = await run("--purpose", PURPOSE)
        chore.cancel()
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= COLUMNS
    assert "the same probe again and again" in shown.output
    assert PURPOSE in PURPOSES
    assert [(read["purpose"], read["log"]) for read in reads()] == [(PURPOSE, SEARCH)]


def _is_read(said: Mapping[str, Any]) -> bool:
    return bool(said["type"] == "log.read")
