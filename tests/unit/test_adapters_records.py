"""An agency's own records: quotas, urgent searches, reasons, and what it states and keeps."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agency_adapters.recording import Recorder
from agency_adapters.tables import DATABASE_FILE
from tests.adapters import Scene, entries, make_world, scene
from tests.scale import scaled
from tests.unit.adapters_kit import Papers
from tests.unit.adapters_past import (
    FRESH_REASONS,
    QUOTA,
    SENIORITY,
    SUPERINTENDENT,
    confirm,
    fresh_reasons,
    quota_of,
    showing_confirmed,
    until_noon,
    urgent_route,
)
from tests.world import AUTHORISER, OFFICER, Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import HIT_ONLY, MatchReport, OutcomeState
from trust.payload_types import PayloadType
from trust.wire import decode_order, decode_report, decode_statement, envelope_from_wire

TEN = 10
URGENT = {"urgent": True}
ANOTHER = OFFICER.model_copy(update={"id": "officer-2207"})
UNCONFIRMED = "core.urgent-confirmed"


def _everything(agreement: dict[str, Any]) -> None:
    for change in (quota_of(TEN), urgent_route):
        change(agreement)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), _everything)


@asynccontextmanager
async def _at_noon(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, root, monkeypatch) as made:
        made.clock.ahead = until_noon()
        yield made


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with _at_noon(world, tmp_path, monkeypatch) as made:
        yield made


def ordinary(here: Scene, **changes: Any) -> Request:
    """A search that needs no urgent route."""
    values: dict[str, Any] = {"authoriser": SUPERINTENDENT, "now": here.clock()}
    return Request(here.world, **(values | changes))


def urgent(here: Scene, **changes: Any) -> Request:
    """A search that needs it: an inspector authorised it."""
    return ordinary(here, authoriser=AUTHORISER, justification=URGENT, **changes)


async def reported(here: Scene, papers: Papers) -> MatchReport:
    reply = await here.ask(papers.params())
    return decode_report(envelope_from_wire(reply.report).payload)


async def failed(here: Scene, request: Request) -> tuple[str, ...]:
    """Return why a request is denied; nothing if it is answered."""
    clauses: tuple[str, ...] = (await here.honest(request)).failed_clauses
    return clauses


def counted(here: Scene) -> int:
    """Return how many searches the agency's log says were made."""
    return sum(
        entry.get("state") in {"candidates", "no_candidate"} for entry in entries(here.adapter)
    )


# --- quotas ----------------------------------------------------------------------------------


async def test_of_64_searches_at_once_a_quota_of_ten_permits_ten_and_a_restart_none(
    here: Scene,
) -> None:
    papers = [await here.papers(ordinary(here)) for _ in range(64)]
    reports = await asyncio.gather(*(reported(here, one) for one in papers))
    permitted = [report for report in reports if report.state is OutcomeState.CANDIDATES]
    denied = [report.failed_clauses for report in reports if report.state is OutcomeState.DENIED]
    assert len(permitted) == TEN
    assert denied == [(QUOTA,)] * 54
    assert counted(here) == here.scans.count == TEN
    await here.restart()
    assert await failed(here, ordinary(here)) == (QUOTA,)
    assert await failed(here, ordinary(here, officer=ANOTHER)) == ()
    here.clock.ahead += timedelta(days=1)
    assert await failed(here, ordinary(here)) == ()


async def test_a_restart_in_the_middle_changes_nothing(here: Scene) -> None:
    for _ in range(6):
        assert await failed(here, ordinary(here)) == ()
    await here.restart()
    papers = [await here.papers(ordinary(here)) for _ in range(24)]
    await asyncio.gather(*(reported(here, one) for one in papers))
    assert counted(here) == TEN


async def test_only_what_was_searched_for_is_counted_and_a_replay_is_not(here: Scene) -> None:
    for _ in range(TEN + 2):
        bad = await here.honest(
            ordinary(here), sealed_template=lambda request: replace(request, probe=template(9))
        )
        assert bad.state is OutcomeState.REJECTED
        assert "test.seniority" in await failed(here, ordinary(here, authoriser=AUTHORISER))
    papers = await here.papers(ordinary(here))
    first = await here.ask(papers.params())
    for _ in range(TEN):
        assert (await here.ask(papers.params())).report == first.report
    held = await here.honest(ordinary(here), obligations={"release_by_human": True})
    assert held.state is OutcomeState.HELD
    assert await failed(here, ordinary(here)) == ()
    assert await count_of(here, ordinary(here)) == 3
    await here.restart()
    for _ in range(TEN - 3):
        assert await failed(here, ordinary(here)) == ()
    assert await failed(here, ordinary(here)) == (QUOTA,)


async def test_however_early_a_caller_gives_up_what_is_on_the_log_is_what_is_counted(
    here: Scene,
) -> None:
    command, broker = here.adapter.command, here.broker.member
    for turns in range(scaled(TEN - 1, 200)):
        papers = await here.papers(ordinary(here))
        call = asyncio.create_task(command.execute(papers.params(), broker))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
    while await failed(here, ordinary(here)) == ():
        pass
    assert counted(here) == TEN
    await here.restart()
    assert await failed(here, ordinary(here)) == (QUOTA,)


async def test_an_entry_on_its_way_is_seen_to_its_end_although_its_caller_gave_up(
    here: Scene,
) -> None:
    command, broker = here.adapter.command, here.broker.member
    request = ordinary(here)
    assert await failed(here, ordinary(here)) == ()  # the witness's memory is open from here on
    params = (await here.papers(request)).params()
    another = sqlite3.connect(here.adapter.settings.state_dir / DATABASE_FILE)
    another.execute("begin immediate")  # no entry can be written now
    gone = asyncio.create_task(command.execute(params, broker))
    while not (gone.done() or _is_recording()):  # noqa: ASYNC110 - what is waited for is inside the command
        await asyncio.sleep(0.001)
    gone.cancel()
    again = asyncio.create_task(command.execute(params, broker))
    await asyncio.sleep(0.05)
    assert not gone.done()
    assert not again.done()
    another.rollback()
    another.close()
    with pytest.raises(asyncio.CancelledError):
        await gone
    answer = await again
    assert answer.agency_leaf_index == 1
    assert (counted(here), here.scans.count, await count_of(here, request)) == (2, 2, 2)


def _is_recording() -> bool:
    name = Recorder._answer.__qualname__
    return any(getattr(t.get_coro(), "__qualname__", "") == name for t in asyncio.all_tasks())


async def count_of(here: Scene, request: Request) -> int | None:
    """Return how many searches of the officer are counted today."""
    ledger = here.adapter.ledger
    subjects = ledger.subjects("-", request.order())
    standing = await ledger.standing(subjects, ("custody",), here.clock())
    return standing.earlier("custody", "officer.day")


async def test_what_could_not_be_recorded_is_not_counted(here: Scene) -> None:
    request = ordinary(here)
    papers = await here.papers(request)
    await here.adapter.logs.search.close()
    with pytest.raises(ProbegateError) as raised:
        await here.ask(papers.params())
    assert raised.value.reason is Reason.LOG_UNAVAILABLE
    assert await count_of(here, request) == 0


# --- reasons ---------------------------------------------------------------------------------


async def test_reasons_that_another_case_gave_are_remembered_even_from_a_denial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path / "world", fresh_reasons)
    async with _at_noon(world, tmp_path, monkeypatch) as here:
        case = {"case_reference": "CASE/2026/000999"}
        for _ in range(2):
            assert await failed(here, ordinary(here)) == ()  # again in one case is no reuse
        assert await failed(here, ordinary(here, justification=case)) == (FRESH_REASONS,)
        new = {"necessity": "n " * 9, "proportionality": "p " * 9, "purpose": "civil_penalty"}
        assert FRESH_REASONS not in await failed(here, ordinary(here, justification=new))
        again = case | new | {"purpose": "crime_investigation"}
        assert await failed(here, ordinary(here, justification=again)) == (FRESH_REASONS,)
        kept = here.adapter.state.engine.raw_connection()
        text = json.dumps([str(row) for row in kept.execute("select * from ledger_reasons")])
        kept.close()
        assert "robbery" not in text


# --- urgent searches -------------------------------------------------------------------------


async def test_an_urgent_search_says_what_was_waived_and_by_when_it_is_confirmed(
    here: Scene,
) -> None:
    assert await failed(here, ordinary(here, authoriser=AUTHORISER)) == (SENIORITY,)
    assert await failed(here, urgent(here)) == ()
    assert await failed(here, ordinary(here)) == ()
    denied, waived, plain = entries(here.adapter)
    assert waived["waived"] == [SENIORITY]
    by = datetime.fromisoformat(waived["confirm_by"]) - datetime.fromisoformat(waived["at"])
    assert by == timedelta(hours=1)
    for entry in (denied, plain):
        assert entry.keys().isdisjoint({"waived", "confirm_by", "confirmed"})


async def test_past_its_deadline_it_bars_its_officer_alone_and_is_on_the_log_once(
    here: Scene,
) -> None:
    papers = await here.papers(urgent(here))
    assert (await reported(here, papers)).state is OutcomeState.CANDIDATES
    await here.adapter.record_unconfirmed()
    assert await failed(here, ordinary(here)) == ()
    here.clock.ahead += timedelta(hours=2)
    for _ in range(2):
        assert await failed(here, ordinary(here)) == (UNCONFIRMED,)
        assert await failed(here, urgent(here)) == (UNCONFIRMED,)
        assert await failed(here, ordinary(here, officer=ANOTHER)) == ()
        assert await failed(here, ordinary(here, force="southmere")) == ()
        await here.adapter.record_unconfirmed()
        await here.adapter.record_unconfirmed()
        await here.restart()
    said = [e for e in entries(here.adapter) if e["type"] == "search.unconfirmed"]
    assert [(e["search_id"], e["order_sha256"], e["agency"]) for e in said] == [
        ("", papers.order_sha256.hex(), "custody")
    ]
    assert datetime.fromisoformat(said[0]["deadline"]) < datetime.fromisoformat(said[0]["at"])


async def test_a_confirmation_lifts_the_bar_for_this_search_and_for_good(here: Scene) -> None:
    past = await here.papers(urgent(here))
    await reported(here, past)
    here.clock.ahead += timedelta(hours=2)
    assert await failed(here, ordinary(here)) == (UNCONFIRMED,)
    shown = await confirm(here.broker, past, here.clock())
    papers = showing_confirmed(here.broker, await here.papers(ordinary(here)), shown)
    assert (await reported(here, papers)).state is OutcomeState.CANDIDATES
    assert entries(here.adapter)[-1]["confirmed"] == [past.order_sha256.hex()]
    again = showing_confirmed(here.broker, await here.papers(ordinary(here)), shown)
    assert (await reported(here, again)).state is OutcomeState.CANDIDATES
    assert "confirmed" not in entries(here.adapter)[-1]
    await here.restart()
    assert await failed(here, ordinary(here)) == ()
    await here.adapter.record_unconfirmed()
    assert all(entry["type"] != "search.unconfirmed" for entry in entries(here.adapter))


async def test_a_confirmation_counts_before_its_deadline_and_with_a_denial(here: Scene) -> None:
    past = await here.papers(urgent(here))
    await reported(here, past)
    shown = await confirm(here.broker, past, here.clock())
    request = ordinary(here, justification={"purpose": "civil_penalty"}, officer=ANOTHER)
    papers = showing_confirmed(here.broker, await here.papers(request), shown)
    assert (await reported(here, papers)).state is OutcomeState.DENIED
    here.clock.ahead += timedelta(hours=2)
    assert await failed(here, ordinary(here)) == ()


async def test_another_officers_confirmation_lifts_nothing_of_this_ones(here: Scene) -> None:
    others = await here.papers(urgent(here, officer=ANOTHER))
    for papers in (await here.papers(urgent(here)), others):
        await reported(here, papers)
    here.clock.ahead += timedelta(hours=2)
    shown = await confirm(here.broker, others, here.clock())
    papers = showing_confirmed(here.broker, await here.papers(ordinary(here)), shown)
    assert (await reported(here, papers)).failed_clauses == (UNCONFIRMED,)
    assert await failed(here, ordinary(here)) == (UNCONFIRMED,)
    assert await failed(here, ordinary(here, officer=ANOTHER)) == ()


def _ranked(rank: str) -> Any:
    return SUPERINTENDENT.model_copy(update={"rank": rank})


def _as_officer(person_id: str) -> Any:
    return SUPERINTENDENT.model_copy(update={"id": person_id})


def _southmere(here: Scene) -> Any:
    return here.world.folder("southmere").signer()


Shown = tuple[int, dsse.Envelope]
FALSE: dict[str, Callable[[Scene], dict[str, Any]]] = {
    "by the officer": lambda _: {"confirmer": _as_officer(OFFICER.id)},
    "by the officer, written otherwise": lambda _: {"confirmer": _as_officer("OFFICER-1041 ")},
    "of too low a rank": lambda _: {"confirmer": _ranked("inspector")},
    "of no rank": lambda _: {"confirmer": _ranked("")},
    "of a rank that is none": lambda _: {"confirmer": _ranked("emperor")},
    "signed by another force": lambda here: {"signer": _southmere(here)},
    "by another force": lambda here: {"signer": _southmere(here), "force": "southmere"},
    "in another force's name": lambda _: {"force": "southmere"},
    "signed by the broker": lambda here: {"signer": here.broker.signer},
    "of another order": lambda _: {"order_sha256": b"\1" * 32},
    "fitted to another order": lambda _: {
        "order_sha256": b"\1" * 32,
        "leaf_changes": {"order_sha256": "x"},
    },
    "from the future": lambda here: {"confirmed_at": here.clock() + timedelta(minutes=2)},
    "an entry of another kind": lambda _: {"leaf_changes": {"type": "search.order"}},
    "an entry of another version": lambda _: {"leaf_changes": {"v": 2}},
    "an entry of another search": lambda _: {"leaf_changes": {"search_id": "x"}},
    "an entry of another confirmation": lambda _: {
        "leaf_changes": {"confirmation_sha256": "00" * 32}
    },
    "an entry of no order": lambda _: {"leaf_changes": {"order_sha256": None}},
}


async def test_a_false_confirmation_lifts_nothing(here: Scene) -> None:
    past = await here.papers(urgent(here))
    await reported(here, past)
    here.clock.ahead += timedelta(hours=2)
    for name, lie in FALSE.items():
        lies = lie(here)
        if lies.get("leaf_changes") == {"order_sha256": "x"}:
            lies["leaf_changes"] = {"order_sha256": past.order_sha256.hex()}
        shown = await confirm(here.broker, past, here.clock(), **lies)
        papers = showing_confirmed(here.broker, await here.papers(ordinary(here)), shown)
        assert (await reported(here, papers)).failed_clauses == (UNCONFIRMED,), name
    index, envelope = await confirm(here.broker, past, here.clock())
    papers = await here.papers(ordinary(here))
    for name, wrong in {
        "elsewhere": (index - 1, envelope),
        "unsigned": (index, _bare(envelope)),
    }.items():
        showing_confirmed(here.broker, papers, wrong)
        assert (await reported(here, papers)).failed_clauses == (UNCONFIRMED,), name
        papers = await here.papers(ordinary(here))
    true = showing_confirmed(here.broker, papers, (index, envelope))
    (one,) = true.evidence.confirmed
    torn = replace(one, entry=replace(one.entry, inclusion=()))
    true.evidence = replace(true.evidence, confirmed=(torn,))
    assert (await reported(here, true)).failed_clauses == (UNCONFIRMED,)
    assert all("confirmed" not in entry for entry in entries(here.adapter))


def _bare(envelope: dsse.Envelope) -> dsse.Envelope:
    return replace(envelope, signatures=())


async def test_a_confirmation_of_one_search_confirms_no_other(here: Scene) -> None:
    first, second = [await here.papers(urgent(here)) for _ in range(2)]
    for papers in (first, second):
        await reported(here, papers)
    here.clock.ahead += timedelta(hours=2)
    shown = await confirm(here.broker, first, here.clock())
    for _ in range(2):
        papers = showing_confirmed(here.broker, await here.papers(ordinary(here)), shown, shown)
        assert (await reported(here, papers)).failed_clauses == (UNCONFIRMED,)
    other = await confirm(here.broker, second, here.clock())
    papers = showing_confirmed(here.broker, await here.papers(ordinary(here)), shown, other)
    assert (await reported(here, papers)).failed_clauses == ()


# --- statements ------------------------------------------------------------------------------


async def test_an_answer_comes_with_a_statement_that_reveals_nothing_found(here: Scene) -> None:
    found = await here.papers(ordinary(here))
    none = await here.papers(ordinary(here, probe=template(77)))
    hit = await here.papers(ordinary(here), obligations={"hit_no_hit": True})
    resolve = here.world.directory.resolver("custody", KeyUse.SIGN, here.clock())
    sizes = set()
    for papers, state in (
        (found, (OutcomeState.CANDIDATES, "")),
        (none, (OutcomeState.NO_CANDIDATE, "")),
        (hit, (OutcomeState.CANDIDATES, HIT_ONLY)),
    ):
        reply = await here.ask(papers.params())
        report = decode_report(envelope_from_wire(reply.report).payload)
        assert (report.state, report.reason) == state
        statement = envelope_from_wire(reply.statement)
        dsse.verify(statement, PayloadType.ANSWER_STATEMENT, resolve)
        said = decode_statement(statement.payload)
        assert said.model_dump() == {
            "search_id": papers.search_id,
            "agency": "custody",
            "matter_sha256": decode_order(papers.dossier.order.payload).matter_sha256,
            "order_sha256": papers.order_sha256,
            "answered_at": report.reported_at,
        }
        sizes.add(len(statement.payload))
        again = await here.ask(papers.params())
        assert again.statement == reply.statement
        await here.restart()
        assert (await here.ask(papers.params())).statement == reply.statement
    assert max(sizes) - min(sizes) <= 2  # an instant takes a byte or two less now and then


@pytest.mark.parametrize(
    ("changes", "lies", "state"),
    [
        ({"justification": {"purpose": "civil_penalty"}}, {}, OutcomeState.DENIED),
        ({}, {"obligations": {"release_by_human": True}}, OutcomeState.HELD),
        (
            {},
            {"sealed_template": lambda request: replace(request, probe=template(9))},
            OutcomeState.REJECTED,
        ),
    ],
    ids=["denied", "held", "rejected"],
)
async def test_what_was_not_answered_has_no_statement(
    here: Scene, changes: dict[str, Any], lies: dict[str, Any], state: OutcomeState
) -> None:
    reply = await here.ask((await here.papers(ordinary(here, **changes), **lies)).params())
    assert decode_report(envelope_from_wire(reply.report).payload).state is state
    assert not reply.HasField("statement")
