"""Held answers at the agency: kept, reviewed, released or refused, and collected by the broker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probegate.agency.v1 import match_service_pb2 as pb
from typer.testing import CliRunner

from agency_adapters import deciding
from agency_adapters.agency import AgencyKind, Defaults, ReleaseRule
from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.importing import import_gallery
from agency_adapters.inbox import Inbox
from agency_adapters.operators import Operator
from agency_adapters.registry import kind_named
from agency_adapters.serve import Adapter
from agency_adapters.tables import DATABASE_FILE
from agency_adapters.verdicts import Verdict
from cli.adapter import app
from tests.adapters import Scene, entries, make_world, scene
from tests.unit.adapters_kit import MATE, Papers, adapter_settings
from tests.world import MODEL, Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import HIT_ONLY, OWNER_REFUSED, MatchReport, OutcomeState
from trust.payload_types import PayloadType
from trust.wire import decode_report, decode_statement, envelope_from_wire

HELD = {"obligations": {"release_by_human": True}}
NOBODY = b"\7" * 32


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, tmp_path, monkeypatch) as made:
        yield made


@dataclass(slots=True)
class Waits:
    """One search that an adapter has answered HELD."""

    here: Scene
    papers: Papers
    held: MatchReport

    @property
    def grant_sha256(self) -> bytes:
        return hashlib.sha256(self.papers.dossier.grant.payload).digest()

    async def collected(self) -> pb.CollectResponse:
        return await self.here.collect(self.papers.order_sha256, self.grant_sha256)

    async def report(self) -> MatchReport:
        """Collect the answer and check what comes with it."""
        collected = await self.collected()
        assert collected.HasField("answer")
        envelope = envelope_from_wire(collected.answer.report)
        resolve = self.here.world.directory.resolver("custody", KeyUse.SIGN, self.here.clock())
        dsse.verify(envelope, PayloadType.MATCH_REPORT, resolve)
        said = entries(self.here.adapter)[collected.answer.agency_leaf_index]
        assert said["type"] == "match.report"
        assert said["report_sha256"] == hashlib.sha256(envelope.payload).hexdigest()
        report = decode_report(envelope.payload)
        assert said["held_report_sha256"] == report.held_report_sha256.hex()
        assert collected.answer.HasField("statement") is report.state.searched
        if report.state.searched:
            stated = envelope_from_wire(collected.answer.statement)
            dsse.verify(stated, PayloadType.ANSWER_STATEMENT, resolve)
            assert decode_statement(stated.payload).answered_at == report.reported_at
        return report


async def held(here: Scene, request: Request | None = None, **more: Any) -> Waits:
    papers = await here.papers(request, **(HELD | more))
    reply = await here.ask(papers.params())
    report = decode_report(envelope_from_wire(reply.report).payload)
    assert (report.state, report.candidates) == (OutcomeState.HELD, ())
    return Waits(here, papers, report)


@asynccontextmanager
async def inbox(here: Scene) -> AsyncIterator[Inbox]:
    """The agency's own people, while the adapter runs with what runs beside it."""
    tasks = [asyncio.create_task(chore) for chore in here.adapter.chores()]
    operator = replace(Operator.open(here.adapter.settings), clock=here.clock)
    try:
        yield Inbox.of(operator)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        operator.close()
        operator.close()


def admin(here: Scene) -> list[dict[str, Any]]:
    log = here.adapter.logs.admin
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    return [entry for entry in said if entry["type"].startswith("held.")]


async def refused(reason: Reason, work: Any) -> ProbegateError:
    with pytest.raises(ProbegateError) as raised:
        await work
    assert raised.value.reason is reason
    return raised.value


async def test_what_is_released_is_what_was_withheld_and_follows_the_held_report(
    here: Scene,
) -> None:
    waits = await held(here)
    async with inbox(here) as people:
        (listed,) = await people.waiting()
        assert (listed.search_id, listed.force, listed.candidates) == (
            waits.papers.search_id,
            "northshire",
            1,
        )
        assert listed.offence.seriousness == "serious_crime"
        assert (listed.released_by, listed.needed, listed.overdue) == (0, 1, False)
        assert listed.decide_by - listed.held_at == timedelta(hours=48)
        done = await people.release(waits.papers.search_id, reviewer="R-1", reference="2026/1")
        assert (done.verdict, done.reported) == (Verdict.RELEASED, True)
        assert list(await people.waiting()) == []
    report = await waits.report()
    plain = await here.honest()
    assert report.state is OutcomeState.CANDIDATES
    assert [c.score for c in report.candidates] == [c.score for c in plain.candidates]
    ((_, found),) = here.adapter.state.resolve(reference=report.candidates[0].reference)
    assert found.record_id == MATE
    said = entries(here.adapter)[0]
    assert report.held_report_sha256.hex() == said["report_sha256"]
    assert report.reported_at > waits.held.reported_at
    # Who decided is committed to, not said; what is said is logged before it counts.
    assert [entry["type"] for entry in admin(here)] == [
        "held.listed",
        "held.released",
        "held.listed",
    ]
    assert "reviewer" in admin(here)[1]["commitments"]
    assert "R-1" not in json.dumps(admin(here))


async def test_the_same_grant_again_is_still_answered_held(here: Scene) -> None:
    waits = await held(here)
    first = await here.ask(waits.papers.params())
    async with inbox(here) as people:
        await people.release(waits.papers.search_id, reviewer="R-1", reference="r")
    assert (await here.ask(waits.papers.params())).report == first.report
    assert await waits.report() == await waits.report()


async def test_one_refusal_refuses_and_nothing_of_what_was_found_remains(here: Scene) -> None:
    found = await held(here)
    nothing = await held(here, Request(here.world, probe=template(99), now=here.clock()))
    async with inbox(here) as people:
        for waits in (found, nothing):
            done = await people.refuse(
                waits.papers.search_id, reviewer="R-1", reasons="Not proportionate."
            )
            assert (done.verdict, done.reported) == (Verdict.REFUSED, True)
        await refused(
            Reason.RELEASE_INVALID,
            people.release(found.papers.search_id, reviewer="R-2", reference="r"),
        )
    reports = [await found.report(), await nothing.report()]
    for report in reports:
        assert (report.state, report.reason) == (OutcomeState.DENIED, OWNER_REFUSED)
        assert report.candidates == ()
    # But for which search, and when, the two denials are alike: neither says if anything was found.
    varying = ("search_id", "order_sha256", "grant_sha256", "held_report_sha256", "reported_at")
    kept = [report.model_dump(exclude=set(varying)) for report in reports]
    assert kept[0] == kept[1]
    assert "Not proportionate." not in json.dumps(admin(here))


async def test_no_candidate_is_released_as_no_candidate(here: Scene) -> None:
    waits = await held(here, Request(here.world, probe=template(99), now=here.clock()))
    async with inbox(here) as people:
        (listed,) = await people.waiting()
        assert listed.candidates == 0
        await people.release(waits.papers.search_id, reviewer="R-1", reference="r")
    assert (await waits.report()).state is OutcomeState.NO_CANDIDATE


async def test_a_hit_is_released_as_a_hit_and_no_more(here: Scene) -> None:
    waits = await held(here, obligations={"release_by_human": True, "hit_no_hit": True})
    async with inbox(here) as people:
        await people.release(waits.papers.search_id, reviewer="R-1", reference="r")
    report = await waits.report()
    assert (report.state, report.reason, report.candidates) == (
        OutcomeState.CANDIDATES,
        HIT_ONLY,
        (),
    )


# --- two reviewers ---------------------------------------------------------------------------


def kind_with(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let custody's records be held under other rules: those of passports, or of PND."""
    kind: AgencyKind = replace(CUSTODY, **changes)
    for module in ("command", "deciding", "serve"):
        monkeypatch.setattr(f"agency_adapters.{module}.kind_named", lambda _name: kind)


async def test_where_two_must_release_two_different_people_do(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_with(monkeypatch, defaults=Defaults(owner_reviewers=2))
    waits = await held(here)
    search = waits.papers.search_id
    async with inbox(here) as people:
        done = await people.release(search, reviewer="R-1", reference="a")
        assert (done.verdict, done.released_by, done.needed) == (None, 1, 2)
        assert not (await waits.collected()).HasField("answer")
        for same in ("R-1", "r-1", "R-1 "):
            await refused(
                Reason.RELEASE_INVALID, people.release(search, reviewer=same, reference="b")
            )
            await refused(Reason.RELEASE_INVALID, people.refuse(search, reviewer=same, reasons="b"))
        (listed,) = await people.waiting()
        assert (listed.released_by, listed.needed) == (1, 2)
        done = await people.release(search, reviewer="R-2", reference="b")
        assert (done.verdict, done.released_by, done.reported) == (Verdict.RELEASED, 2, True)
    assert (await waits.report()).state is OutcomeState.CANDIDATES


async def test_one_refusal_stands_against_one_release_of_two(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_with(monkeypatch, defaults=Defaults(owner_reviewers=2))
    waits = await held(here)
    search = waits.papers.search_id
    async with inbox(here) as people:
        await people.release(search, reviewer="R-1", reference="a")
        done = await people.refuse(search, reviewer="R-2", reasons="The image is another's.")
        assert done.verdict is Verdict.REFUSED
    assert (await waits.report()).reason == OWNER_REFUSED


async def test_two_people_at_once_and_the_same_person_twice_at_once(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_with(monkeypatch, defaults=Defaults(owner_reviewers=2))
    waits = await held(here)
    search = waits.papers.search_id
    async with inbox(here) as people:
        done = await asyncio.gather(
            *(people.release(search, reviewer="R-1", reference=f"{n}") for n in range(4)),
            return_exceptions=True,
        )
        failed = [one for one in done if isinstance(one, ProbegateError)]
        assert {one.reason for one in failed} == {Reason.RELEASE_INVALID}
        assert len(failed) == 3
        (listed,) = await people.waiting()
        assert listed.released_by == 1
        await people.release(search, reviewer="R-2", reference="b")
    assert (await waits.report()).state is OutcomeState.CANDIDATES


# --- what forbids a release ------------------------------------------------------------------


async def test_what_is_switched_off_is_not_released_and_can_be_refused(here: Scene) -> None:
    waits = await held(here)
    search = waits.papers.search_id
    async with inbox(here) as people:
        await people.operator.switch("force:northshire", off=True, reference="R")
    async with inbox(here) as people:  # a command reads the switches when it starts
        error = await refused(
            Reason.RELEASE_SWITCHED_OFF,
            people.release(search, reviewer="R-1", reference="r"),
        )
        assert error.metadata["switch"] == "force:northshire"
        (listed,) = await people.waiting()
        assert listed.switched_off == ("force:northshire",)
        done = await people.refuse(search, reviewer="R-1", reasons="Under investigation.")
        assert done.reported
    assert (await waits.report()).reason == OWNER_REFUSED


async def test_a_switch_turned_off_after_the_release_keeps_it_until_it_is_on_again(
    here: Scene,
) -> None:
    waits = await held(here)
    operator = Operator.open(here.adapter.settings)
    desk = asyncio.create_task(here.adapter.serve_desk())
    kept = asyncio.create_task(
        Inbox.of(operator).release(waits.papers.search_id, reviewer="R-1", reference="r")
    )
    while not here.adapter.deciding.held.waiting()[0].reviews:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    here.adapter.ledger.switched("agency:custody", off=True)
    await here.adapter.deciding.settle()
    assert not (await waits.collected()).HasField("answer")
    here.adapter.ledger.switched("agency:custody", off=False)
    await here.adapter.deciding.settle()
    assert (await kept).reported
    assert (await waits.report()).state is OutcomeState.CANDIDATES
    desk.cancel()
    operator.close()


async def test_a_record_that_may_no_longer_be_searched_is_left_out(here: Scene) -> None:
    everything = {"release_by_human": True, "min_score": -1.0, "max_candidates": 5}
    request = Request(here.world, now=here.clock())
    waits = await held(here, request, obligations=everything)
    before = len(here.adapter.state.resolve(search_id=waits.papers.search_id))
    gone = {MATE}
    gallery = here.adapter.shelf.gallery

    class Since:
        """The gallery as it is on the day of the release: one record was erased."""

        facts = gallery.facts

        async def record(self, record_id: str) -> Any:
            return None if record_id in gone else await gallery.record(record_id)

    object.__setattr__(here.adapter.deciding, "gallery", Since)
    async with inbox(here) as people:
        await people.release(waits.papers.search_id, reviewer="R-1", reference="r")
    report = await waits.report()
    assert len(report.candidates) == before - 1
    assert [one.rank for one in report.candidates] == list(range(1, before))
    left = {
        found.record_id
        for one in report.candidates
        for _, found in here.adapter.state.resolve(reference=one.reference)
    }
    assert MATE not in left
    assert entries(here.adapter)[-1]["left_out"] == 1


# --- the clock -------------------------------------------------------------------------------


async def test_what_nobody_decides_is_overdue_on_the_log_once_and_stays_held(here: Scene) -> None:
    waits = await held(here)
    await here.adapter.deciding.record_overdue()
    assert [entry["type"] for entry in entries(here.adapter)] == ["match.report"]
    here.clock.ahead = timedelta(hours=49)
    for _ in range(2):
        await here.adapter.deciding.record_overdue()
    await here.restart()
    await here.adapter.deciding.record_overdue()
    said = entries(here.adapter)
    assert [entry["type"] for entry in said] == ["match.report", "held.overdue"]
    assert said[1]["search_id"] == waits.papers.search_id
    waits.here = here
    collected = await waits.collected()
    assert not collected.HasField("answer")
    assert collected.decide_by.ToDatetime() < here.clock().replace(tzinfo=None)
    async with inbox(here) as people:
        (listed,) = await people.waiting()
        assert listed.overdue
        await people.release(waits.papers.search_id, reviewer="R-1", reference="late")
    assert (await waits.report()).state is OutcomeState.CANDIDATES


# --- who may collect -------------------------------------------------------------------------


async def test_whatever_else_is_named_is_refused_alike(here: Scene) -> None:
    waits = await held(here)
    plain = await here.papers()
    await here.ask(plain.params())
    order, grant = waits.papers.order_sha256, waits.grant_sha256
    never_held = hashlib.sha256(plain.dossier.grant.payload).digest()
    said = set()
    for names in (
        (NOBODY, NOBODY),
        (order, NOBODY),
        (NOBODY, grant),
        (grant, order),
        (plain.order_sha256, never_held),
        (b"", b""),
        (order, b""),
        (order[:31], grant),
        (order, grant + b"\0"),
    ):
        with pytest.raises(ProbegateError) as raised:
            await here.collect(*names)
        said.add((raised.value.reason, tuple(raised.value.metadata.items())))
    assert said == {(Reason.NOT_FOUND, ())}
    for member in ("northshire", "inspectorate"):
        with pytest.raises(ProbegateError) as raised:
            await here.collect(order, grant, member)
        assert raised.value.reason is Reason.CHANNEL_ROLE


async def test_while_it_waits_a_hit_and_no_hit_collect_alike(here: Scene) -> None:
    hit = await held(here)
    none = await held(here, Request(here.world, probe=template(99), now=here.clock()))
    answers = [await hit.collected(), await none.collected()]
    said = [[field.name for field, _ in one.ListFields()] for one in answers]
    assert said == [["decide_by"]] * 2


# --- crashes, restarts, what is kept -----------------------------------------------------------


async def test_a_decision_made_while_the_adapter_is_down_is_carried_out_when_it_is_up(
    here: Scene,
) -> None:
    waits = await held(here)
    await here.server.stop(0)
    await here.adapter.close()
    people = Inbox.of(Operator.open(here.adapter.settings))
    done = await people.release(waits.papers.search_id, reviewer="R-1", reference="r")
    assert (done.verdict, done.reported) == (Verdict.RELEASED, False)
    people.operator.close()
    here.adapter = await Adapter.open(here.adapter.settings, here.clock)
    here.server = await here.adapter.listen()
    here.channels.clear()
    assert not (await waits.collected()).HasField("answer")
    await here.adapter.deciding.settle()
    assert (await waits.report()).state is OutcomeState.CANDIDATES


async def test_an_adapter_that_ends_between_review_and_report_makes_the_report_when_it_is_back(
    here: Scene,
) -> None:
    waits = await held(here)
    operator = Operator.open(here.adapter.settings)
    desk = asyncio.create_task(here.adapter.serve_desk())  # and nothing that would make the report
    asked = asyncio.create_task(
        Inbox.of(operator).release(waits.papers.search_id, reviewer="R-1", reference="r")
    )
    while not here.adapter.deciding.held.waiting()[0].reviews:  # noqa: ASYNC110 - the desk's turn
        await asyncio.sleep(0.01)
    desk.cancel()
    await here.restart()
    assert not (await waits.collected()).HasField("answer")
    await here.adapter.deciding.settle()
    assert (await asked).verdict is Verdict.RELEASED
    operator.close()
    assert (await waits.report()).state is OutcomeState.CANDIDATES
    await here.adapter.deciding.settle()
    made = [entry["state"] for entry in entries(here.adapter)]
    assert made == ["held", "candidates"]


async def test_nothing_of_what_was_withheld_is_left_once_it_is_decided(
    here: Scene, tmp_path: Path
) -> None:
    waits = await held(here)
    async with inbox(here) as people:
        await people.refuse(waits.papers.search_id, reviewer="R-1", reasons="No.")
    database = sqlite3.connect(tmp_path / "state" / DATABASE_FILE)
    kept = database.execute("SELECT order_payload, withheld FROM held").fetchall()
    waiting = database.execute("SELECT leaf FROM admin_requests").fetchall()
    database.close()
    assert kept == [(None, None)]
    assert not any("R-1" in leaf or "private" in leaf for (leaf,) in waiting)


# --- the command line ------------------------------------------------------------------------


async def test_the_command_line_lists_releases_and_refuses_at_80_columns(
    here: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await held(here), await held(here)
    await here.server.stop(0)
    await here.adapter.close()
    values = adapter_settings(here.world, tmp_path).model_dump(mode="json", exclude_defaults=True)
    config = tmp_path / "adapter.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
        return done.exit_code, done.output

    def in_a_thread(*arguments: str) -> Any:
        return asyncio.to_thread(run, *arguments)

    status, said = await in_a_thread("inbox")
    assert status == 0
    assert first.papers.search_id in said
    assert "released by: 0 of 1" in said
    assert max(map(len, said.splitlines())) <= 80
    status, said = await in_a_thread("inbox", "--json")
    assert [one["candidates"] for one in json.loads(said)] == [1, 1]
    search = first.papers.search_id
    release = ("release", search, "--reviewer", "R-1", "--reference", "2026/1")
    status, said = await in_a_thread(*release, "--json")
    assert (status, json.loads(said)["decided"]) == (0, "released")
    status, said = await in_a_thread(*release)
    assert status == 1
    assert "RELEASE_INVALID" in said
    refusal = ("--reviewer", "R-1", "--reasons", "No.")
    status, said = await in_a_thread("refuse", second.papers.search_id, *refusal)
    assert status == 0
    assert "is refused" in said.replace("\n", " ")
    status, said = await in_a_thread("refuse", "nothing", *refusal)
    assert status == 1
    assert "NOT_FOUND" in said
    status, said = await in_a_thread(
        "refuse", second.papers.search_id, "--reviewer", "\x1b[2J", "--reasons", "No."
    )
    assert status == 1
    assert "TEXT_INVALID" in said
    here.adapter = await Adapter.open(here.adapter.settings, here.clock)
    here.server = await here.adapter.listen()
    assert deciding.RELEASED_ENTRY in {entry["type"] for entry in admin(here)}


# --- whom a record's rule says to ask ----------------------------------------------------------


async def test_an_answer_is_held_for_whoever_must_be_asked_about_a_record_in_it(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {MATE: "southmere-police"}
    rule = ReleaseRule("custody.ask", "-", lambda record: names.get(record.record_id, ""))
    kind_with(monkeypatch, release=(rule,))
    waits = await held(here, obligations={})
    search = waits.papers.search_id
    nobody = await here.honest(Request(here.world, probe=template(99), now=here.clock()))
    assert nobody.state is OutcomeState.NO_CANDIDATE
    async with inbox(here) as people:
        (listed,) = await people.waiting()
        assert listed.ask == ("southmere-police",)
        for asked in ((), ("northshire",), ("southmere-police", "northshire")):
            error = await refused(
                Reason.RELEASE_INVALID,
                people.release(search, reviewer="R-1", reference="r", asked=asked),
            )
            assert "southmere-police" in error.detail
        await people.release(search, reviewer="R-1", reference="r", asked=("southmere-police",))
    assert (await waits.report()).state is OutcomeState.CANDIDATES
    assert [one["asked"] for one in admin(here) if "asked" in one] == [["southmere-police"]]


async def test_whoever_must_be_asked_by_now_is_asked_before_what_was_released_goes_out(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handling of a record is changed while its answer is held."""
    names: dict[str, str] = {}
    rule = ReleaseRule("custody.ask", "-", lambda record: names.get(record.record_id, ""))
    kind_with(monkeypatch, release=(rule,))
    waits = await held(here)
    search = waits.papers.search_id
    async with inbox(here) as people:
        (listed,) = await people.waiting()
        assert listed.ask == ()
        names[MATE] = "southmere-police"
        error = await refused(
            Reason.RELEASE_INVALID, people.release(search, reviewer="R-1", reference="r")
        )
        assert "southmere-police" in error.detail
        assert not (await waits.collected()).HasField("answer")
        (listed,) = await people.waiting()
        assert (listed.ask, listed.released_by, listed.decided) == (("southmere-police",), 0, None)
        done = await people.release(
            search, reviewer="R-1", reference="r", asked=("southmere-police",)
        )
        assert (done.verdict, done.reported) == (Verdict.RELEASED, True)
    assert (await waits.report()).state is OutcomeState.CANDIDATES
    (reopened,) = [one for one in entries(here.adapter) if one["type"] == "held.reopened"]
    assert (reopened["search_id"], reopened["ask"]) == (search, ["southmere-police"])


async def test_a_release_that_asked_nobody_does_not_count_once_somebody_must_be_asked(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way when the answer was opened again."""
    names: dict[str, str] = {}
    rule = ReleaseRule("custody.ask", "-", lambda record: names.get(record.record_id, ""))
    kind_with(monkeypatch, release=(rule,), defaults=Defaults(owner_reviewers=2))
    waits = await held(here)
    search, order = waits.papers.search_id, waits.papers.order_sha256.hex()
    async with inbox(here) as people:
        await people.release(search, reviewer="R-1", reference="r")
        names[MATE] = "southmere-police"
        await refused(Reason.RELEASE_INVALID, people.release(search, reviewer="R-2", reference="r"))
        for late in ("R-3", "R-4"):
            said: Any = {"search_id": search, "order_sha256": order, "reference": "r"}
            await people.operator.log("held.released", {"reviewer": late}, **said)
        (listed,) = await people.waiting()
        assert (listed.released_by, listed.decided) == (0, None)
    assert not (await waits.collected()).HasField("answer")


async def test_an_adapter_under_rules_from_outside_says_so_before_it_answers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "docs.examples.driving_licences:DRIVING_LICENCES"
    monkeypatch.setenv("PROBEGATE_AGENCY_KINDS", place)
    np.save(tmp_path / "t.npy", template()[None])
    (tmp_path / "r.csv").write_text(
        "record_id,captured_on,date_of_birth,licence_number,registry\n"
        "L1,2020-01-01,1980-01-01,MORGA657054,mainland\n"
    )
    import_gallery(
        kind=kind_named("driving_licences"),
        templates=tmp_path / "t.npy",
        records=tmp_path / "r.csv",
        model=MODEL,
        out=tmp_path / "gallery",
        now=datetime.now(UTC),
    )
    settings = adapter_settings(
        world, tmp_path, kind="driving_licences", gallery=str(tmp_path / "gallery")
    )
    adapter = await Adapter.open(settings)
    log = adapter.logs.admin
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    types = [entry["type"] for entry in said]
    assert types.index("kind.activated") < types.index("gallery.activated")
    (entry,) = [one for one in said if one["type"] == "kind.activated"]
    assert (entry["name"], entry["place"]) == ("driving_licences", place)
    await adapter.close()
