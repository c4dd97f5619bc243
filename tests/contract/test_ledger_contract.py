"""The ledger on every database: what it counts, remembers and forgets, and that it names nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from policy import settings as policy_settings
from policy.ledger import Ledger, Subjects, UrgentUse
from policy.ledger.tallies import Reservation
from policy.standing import COUNTERS
from tests.world import OFFICER, Request, World, copied_examples

AT = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
AGENCIES = ("custody", "pnd")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("scheme")
    return World.make(root, agreements=copied_examples(root / "agreements"))


@pytest.fixture
def opened(engine: Engine) -> Iterator[Callable[[], Ledger]]:
    """Open the ledger, as after a restart; all are closed in the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Ledger.open(engine)))


@pytest.fixture
def ledger(opened: Callable[[], Ledger]) -> Ledger:
    return opened()


def subjects(ledger: Ledger, world: World, ref: str = "one", **why: str) -> Subjects:
    return ledger.subjects(ref, Request(world, justification=why).order())


def put(ledger: Ledger, about: Subjects, *agencies: str, at: datetime = AT) -> None:
    with ledger.engine.begin() as connection:
        ledger.write_use(connection, about, agencies, at)


async def counted(ledger: Ledger, about: Subjects, at: datetime = AT) -> dict[str, int]:
    standing = await ledger.standing(about, AGENCIES, at)
    return dict(standing.earlier_searches["custody"])


async def test_each_search_counts_where_it_was_permitted(ledger: Ledger, world: World) -> None:
    put(ledger, subjects(ledger, world, "a", case_reference="C/1"), "custody", "pnd")
    put(ledger, subjects(ledger, world, "b", case_reference="C/2"), "custody")
    put(ledger, subjects(ledger, world, "c", case_reference="C/1"))
    mine = subjects(ledger, world, "d", case_reference="C/1")
    standing = await ledger.standing(mine, (*AGENCIES, "nhs"), AT)
    assert standing.earlier_searches["custody"] == {
        "force.day": 2,
        "force.month": 2,
        "officer.day": 2,
        "officer.month": 2,
        "case.day": 1,
        "case.month": 1,
    }
    assert standing.earlier_searches["pnd"]["officer.month"] == 1
    assert standing.earlier_searches["nhs"] == dict.fromkeys(COUNTERS, 0)


async def test_a_window_is_a_calendar_day_or_month_in_utc(ledger: Ledger, world: World) -> None:
    for ref, at in {
        "day before": AT.replace(day=14, hour=23, minute=59, second=59, microsecond=999_999),
        "midnight": AT.replace(hour=0),
        "month before": AT.replace(month=5, day=31, hour=23),
        "first of month": AT.replace(day=1, hour=0),
        "year before": AT.replace(year=2025),
    }.items():
        put(ledger, subjects(ledger, world, ref), "custody", at=at)
    found = await counted(ledger, subjects(ledger, world, "now"))
    assert (found["officer.day"], found["officer.month"]) == (1, 3)
    next_day = await counted(ledger, subjects(ledger, world, "now"), AT + timedelta(days=1))
    assert (next_day["officer.day"], next_day["officer.month"]) == (0, 3)
    winter = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    put(ledger, subjects(ledger, world, "at the end of the year"), "custody", at=winter)
    assert (await counted(ledger, subjects(ledger, world, "now"), winter))["force.month"] == 1


async def test_a_reservation_counts_until_released_and_for_good_once_kept(
    ledger: Ledger, world: World
) -> None:
    about = subjects(ledger, world)
    await counted(ledger, about)
    lost = ledger.reserve(about, AGENCIES, AT)
    assert (await counted(ledger, about))["case.day"] == 1
    lost.release()
    lost.release()
    assert (await counted(ledger, about))["case.day"] == 0
    kept = ledger.reserve(about, AGENCIES, AT)
    kept.keep()
    kept.release()
    assert (await counted(ledger, about))["case.day"] == 1


async def test_of_many_at_once_exactly_as_many_pass_as_there_is_room_for(
    ledger: Ledger, world: World, opened: Callable[[], Ledger]
) -> None:
    """Also where counters are dropped from memory as soon as they may be."""
    room, passed = 10, []

    async def one(ledger: Ledger, number: int, day: datetime) -> None:
        about = subjects(ledger, world, f"{day}/{number}", case_reference=f"C/{number % 7}")
        standing = await ledger.standing(about, AGENCIES, day)
        if standing.earlier_searches["custody"]["officer.day"] >= room:
            return
        counted = ledger.reserve(about, ("custody",), day)
        passed.append(number)
        await asyncio.sleep(0)
        await asyncio.to_thread(put, ledger, about, "custody", at=day)
        counted.keep()

    await asyncio.gather(*(one(ledger, number, AT) for number in range(64)))
    assert len(passed) == room
    again = opened()
    await asyncio.gather(*(one(again, number, AT) for number in range(100, 164)))
    assert len(passed) == room
    await asyncio.gather(*(one(again, n, AT + timedelta(days=1)) for n in range(200, 264)))
    assert len(passed) == 2 * room


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PROBEGATE_POLICY_LEDGER_TALLIES", "100")
    policy_settings.limits.cache_clear()
    yield
    policy_settings.limits.cache_clear()


@pytest.mark.usefixtures("little_memory")
async def test_a_counter_dropped_from_memory_is_read_again_and_none_in_use_is(
    ledger: Ledger, world: World
) -> None:
    mine = subjects(ledger, world, "mine", case_reference="MINE")
    await counted(ledger, mine)
    under_way: Reservation = ledger.reserve(mine, ("custody",), AT)
    for number in range(60):
        await counted(ledger, subjects(ledger, world, str(number), case_reference=f"C/{number}"))
    assert (await counted(ledger, mine))["case.day"] == 1, "not on the table, yet counted"
    put(ledger, mine, "custody")
    under_way.keep()
    for number in range(60, 120):
        await counted(ledger, subjects(ledger, world, str(number), case_reference=f"C/{number}"))
    assert (await counted(ledger, mine))["case.day"] == 1, "from the table again"


async def test_earlier_answers_are_of_this_probe_case_and_force(
    ledger: Ledger, world: World
) -> None:
    for ref, why in (("same", {}), ("other case", {"case_reference": "C/9"}), ("later", {})):
        put(ledger, subjects(ledger, world, ref, **why), *AGENCIES)
        with ledger.engine.begin() as connection:
            later = AT + timedelta(minutes=ref == "later")
            ledger.write_answered(connection, ref, AGENCIES, later)
    put(ledger, subjects(ledger, world, "not answered"), *AGENCIES)
    mine = subjects(ledger, world, "mine")
    found = await ledger.earlier_answers(mine, AT - timedelta(days=1))
    assert [one.ref for one in found] == ["later", "same"]
    assert found[1].agencies == AGENCIES
    assert found[1].at == AT
    assert await ledger.earlier_answers(mine, AT + timedelta(days=1)) == ()
    other = ledger.subjects("x", Request(world, force="southmere").order())
    assert await ledger.earlier_answers(other, AT - timedelta(days=1)) == ()


async def test_the_same_reasons_in_other_cases_are_counted_and_not_in_this_one(
    ledger: Ledger, world: World
) -> None:
    for number in range(3):
        text_ = f"The man in image {number} was not known to Sergeant Example{number}."
        about = subjects(ledger, world, f"{number}", case_reference=f"C/{number}", necessity=text_)
        put(ledger, about, "custody")
        put(ledger, subjects(ledger, world, f"{number}b", case_reference=f"C/{number}"), "custody")
    mine = subjects(
        ledger,
        world,
        "m",
        case_reference="C/0",
        necessity="The man in image 77 was not known to Sergeant Other.",
    )
    assert (await ledger.standing(mine, AGENCIES, AT)).reasons_reused == 2
    old = AT + timedelta(days=91)
    assert (await ledger.standing(mine, AGENCIES, old)).reasons_reused == 0


async def test_urgent_searches_await_confirmation_over_a_restart(
    ledger: Ledger, world: World, engine: Engine, opened: Callable[[], Ledger]
) -> None:
    about = subjects(ledger, world)
    use = UrgentUse("one", "passport", about.force, about.officer, AT, "superintendent")
    with engine.begin() as connection:
        ledger.urgent.write(connection, use)
    ledger.urgent.recorded([use])
    for one in (ledger, opened()):
        assert one.urgent.late(about.force, about.officer, AT) == 0
        assert one.urgent.late(about.force, about.officer, AT + timedelta(seconds=1)) == 1
        assert one.urgent.late("southmere", about.officer, AT + timedelta(days=1)) == 0
        assert one.urgent.awaiting("one") == (use,)
        assert one.urgent.overdue(AT + timedelta(days=1)) == (use,)
    with engine.begin() as connection:
        ledger.urgent.write_flagged(connection, use)
    ledger.urgent.flagged(use)
    for one in (ledger, opened()):
        assert one.urgent.overdue(AT + timedelta(days=1)) == ()
        assert one.urgent.late(about.force, about.officer, AT + timedelta(days=1)) == 1
    with engine.begin() as connection:
        ledger.urgent.write_confirmed(connection, "one", AT + timedelta(days=2))
    ledger.urgent.confirmed("one")
    for one in (ledger, opened()):
        assert one.urgent.late(about.force, about.officer, AT + timedelta(days=3)) == 0
        (found,) = await one.urgent_uses(about, "passport", AT - timedelta(days=1))
        assert found.confirmed_at == AT + timedelta(days=2)
        assert await one.urgent_uses(about, "asylum", AT - timedelta(days=1)) == ()


async def test_switches_stay_off_over_a_restart(
    ledger: Ledger, world: World, engine: Engine, opened: Callable[[], Ledger]
) -> None:
    with engine.begin() as connection:
        ledger.write_switch(connection, "agency:pnd", off=True, leaf_index=3)
        ledger.write_switch(connection, "force:northshire", off=True, leaf_index=4)
        ledger.write_switch(connection, "agency:pnd", off=False, leaf_index=5)
    assert ledger.switched_off == frozenset()
    ledger.switched("agency:pnd", off=True)
    ledger.switched("agency:pnd", off=False)
    assert opened().switched_off == {"force:northshire"}
    standing = await opened().standing(subjects(ledger, world), AGENCIES, AT)
    assert standing.switched_off == frozenset({"force:northshire"})


async def test_what_no_decision_can_ask_for_any_more_is_taken_out(
    ledger: Ledger, world: World, engine: Engine
) -> None:
    about = subjects(ledger, world, "old", case_reference="OLD")
    put(ledger, about, "custody", at=AT - timedelta(days=401))
    put(ledger, subjects(ledger, world, "kept", case_reference="C/2"), "custody")
    late = UrgentUse(
        "late", "pnd", about.force, about.officer, AT - timedelta(days=500), "sergeant"
    )
    done = replace(late, ref="done")
    with engine.begin() as connection:
        for use in (late, done):
            ledger.urgent.write(connection, use)
        ledger.urgent.write_confirmed(connection, "done", AT - timedelta(days=450))
    assert await ledger.prune(AT) == 4  # the search, its two texts, and what was confirmed
    assert await ledger.prune(AT) == 0
    with engine.connect() as connection:
        left = connection.execute(text("SELECT ref FROM ledger_uses")).scalars().all()
        assert left == ["kept"]
        urgent = connection.execute(text("SELECT ref FROM ledger_urgent")).scalars().all()
        assert urgent == ["late"], "what nobody confirmed is not forgotten"
    assert (await counted(ledger, subjects(ledger, world, "now")))["officer.month"] == 1


def test_the_ledger_names_nobody_and_no_case(ledger: Ledger, world: World) -> None:
    about = subjects(ledger, world, case_reference="NS/2026/00777", necessity="Secret words here")
    put(ledger, about, "custody")
    tables = ("ledger_uses", "ledger_reasons", "ledger_urgent")
    with ledger.engine.connect() as connection:
        kept = [
            repr(tuple(row))
            for table in tables
            for row in connection.execute(text(f"SELECT * FROM {table}"))  # noqa: S608
        ]
    everything = " ".join(kept).lower()
    assert kept
    assert OFFICER.id.lower() not in everything
    assert "00777" not in everything
    assert "secret" not in everything


def test_two_ledgers_know_one_person_by_different_digests(
    ledger: Ledger, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from broker.tables import open_engine

    other = open_engine(tmp_path_factory.mktemp("other"))
    with closing(Ledger.open(other)) as elsewhere:
        theirs = subjects(elsewhere, world)
    mine = subjects(ledger, world)
    with closing(Ledger.open(ledger.engine)) as again:
        assert mine == subjects(again, world), "the key is kept"
    assert {mine.officer, mine.case, mine.matter}.isdisjoint(
        {theirs.officer, theirs.case, theirs.matter}
    )
    other.dispose()
