"""What an adapter's answers found is kept for its time; then whoever asks is told it is gone."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.schema import Table

from agency_adapters import gone, retention
from agency_adapters.agency import OwnerDecision
from agency_adapters.inbox import Inbox
from agency_adapters.lifetimes import KeptFor
from agency_adapters.models import CollectParams
from agency_adapters.second_step.asking import Disclosable
from agency_adapters.second_step.inbox import ReleaseInbox
from agency_adapters.second_step.papers import Papers
from agency_adapters.settings import AdapterSettings
from agency_adapters.tables import (
    DATABASE_FILE,
    candidate_links,
    candidates,
    gone_requests,
    held,
    held_reviews,
    matches,
    recipients,
    release_reviews,
    releases,
    wrong_matches,
)
from audit import scrubbing
from audit.scrubbing import Scrubber
from audit.verify import verify_folder
from tests.adapters import Scene, entries, scene
from tests.kept import files_with
from tests.unit.adapters_kit import MATE, adapter_settings, make_gallery
from tests.unit.retention_kit import (
    DUE_DAYS,
    LONGEST_DAYS,
    MARGIN_DAYS,
    RETENTION_DAYS,
    TIMES,
    ahead,
    at_the_desk,
    decided,
    erase,
    erased,
    grant_of,
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
from tests.unit.second_step_kit import FACTS, Step, at_work, searched
from tests.unit.test_adapters_held import held as held_answer
from tests.unit.test_adapters_held import inbox as held_inbox
from tests.unit.test_adapters_linking import named_gallery
from tests.world import Request, World
from trust.ceremony import Scheme
from trust.clock import to_us
from trust.config import load_settings
from trust.directory import Role
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState
from trust.second_step import ReleaseState
from trust.wire import envelope_from_bytes

__all__ = ["here", "step", "world"]

HALF_A_DAY = 0.5


def count(here: Scene, table: Table) -> int:
    with here.adapter.state.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


# --- when ------------------------------------------------------------------------------------


async def test_it_is_gone_when_its_time_is_over_and_not_before(step: Step) -> None:
    here, search_id = step.here, step.report.search_id
    before = rows(here)[search_id]
    signature = envelope_from_bytes(before.report).signatures[0].sig
    only_here = (signature, step.reference.encode(), MATE.encode())
    assert all(files_with(here.adapter, one) for one in only_here), "the positive control"
    ahead(here, days=DUE_DAYS - HALF_A_DAY)
    await erase(here)
    assert erased(here) == []
    assert [found.record_id for _, found in here.adapter.state.resolve(search_id=search_id)][
        :1
    ] == [MATE]
    ahead(here, days=1)
    later = await searched(here)
    mine = {one.encode() for one in step.references}
    await erase(here)
    assert erased(here) == [[search_id]]
    assert files_with(here.adapter, signature, *mine) == set()
    after = rows(here)[search_id]
    stays = ("order_sha256", "grant_sha256", "search_id", "leaf_index")
    assert [getattr(after, name) for name in stays] == [getattr(before, name) for name in stays]
    assert (after.report, after.erase_us, after.latest_us) == (b"", None, None)
    await erase(here)
    assert len(erased(here)) == 1
    # Whatever came later stands.
    assert is_kept(here, later.report.search_id)
    assert len(here.adapter.state.resolve(search_id=later.report.search_id)) == 3
    assert {one for table in (candidates, recipients) for one in [count(here, table)]} == {3, 1}


async def test_no_byte_of_a_record_is_left_in_any_file(step: Step) -> None:
    records = [
        one.record_id.encode()
        for _, one in step.here.adapter.state.resolve(search_id=step.report.search_id)
    ]
    assert all(files_with(step.here.adapter, one) for one in records), "the positive control"
    ahead(step.here, days=DUE_DAYS + 1)
    await erase(step.here)
    assert files_with(step.here.adapter, *records) == set()


async def test_the_log_verifies_without_what_is_gone(step: Step) -> None:
    before = entries(step.here.adapter)
    ahead(step.here, days=DUE_DAYS + 1)
    await erase(step.here)
    assert entries(step.here.adapter) == before
    await published(step.here)
    assert verify_folder(step.here.adapter.settings.logs_dir / "search").ok


@pytest.mark.parametrize("granted", [0, 1, RETENTION_DAYS + 9])
async def test_a_broker_cannot_shorten_what_an_agency_remembers(here: Scene, granted: int) -> None:
    step = await searched(here, obligations={"retention_days": granted})
    ahead(here, days=DUE_DAYS - HALF_A_DAY)
    await erase(here)
    assert is_kept(here, step.report.search_id)
    assert [found.record_id for _, found in here.adapter.state.of_record(MATE)] == [MATE]
    ahead(here, days=1)
    await erase(here)
    assert erased(here) == [[step.report.search_id]]


async def test_a_broker_cannot_shorten_what_is_remembered_of_a_held_answer(here: Scene) -> None:
    step = await searched(here, obligations={"retention_days": 0, "release_by_human": True})
    async with held_inbox(here) as people:
        await people.release(step.report.search_id, reviewer="R-1", reference="2026/1")
    ahead(here, days=DUE_DAYS - HALF_A_DAY)
    await erase(here)
    assert is_kept(here, step.report.search_id)


async def test_the_grant_counts_where_nothing_was_found(here: Scene) -> None:
    denied = await here.papers(
        Request(here.world, now=here.clock(), justification={"necessity": " "}),
        obligations={"retention_days": 3},
    )
    await here.ask(denied.params())
    assert entries(here.adapter)[-1]["state"] == OutcomeState.DENIED.value
    expected = here.clock() + timedelta(days=3 + MARGIN_DAYS)
    assert abs(rows(here)[denied.search_id].erase_us - to_us(expected)) < 60_000_000


@given(
    days=st.integers(0, 36_500),
    longest=st.integers(1, 36_500),
    margin=st.integers(1, 3_650),
)
def test_less_of_the_duties_and_ours_counts_and_the_margin_always(
    days: int, longest: int, margin: int
) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    kept = KeptFor(timedelta(days=longest), timedelta(days=margin))
    until = kept.until(now, days)
    assert until.due == now + timedelta(days=min(days, longest) + margin)
    assert until.latest == kept.until(now).due == now + timedelta(days=longest + margin)


def told_settings(world: World, folder: Path, **settings: float) -> AdapterSettings:
    """Read settings as the commands do."""
    given = adapter_settings(world, folder).model_dump(mode="json", exclude_unset=True) | settings
    config = folder / "told.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
    return load_settings(AdapterSettings, config)


@pytest.mark.parametrize(
    "settings",
    [
        {"decide_within_h": 720, "answers_retain_days": 1},
        {"decide_within_h": 720, "answers_retain_days": 1, "answers_margin_days": 28},
        {"decide_within_h": 48.5, "answers_retain_days": 1, "answers_margin_days": 1},
    ],
)
def test_no_answer_goes_before_its_people_had_their_time_to_decide(
    world: World, tmp_path: Path, settings: dict[str, float]
) -> None:
    with pytest.raises(ProbegateError) as raised:
        told_settings(world, tmp_path, **settings)
    assert raised.value.reason is Reason.CONFIG_INVALID
    assert raised.value.metadata["setting"] == "answers_margin_days"
    assert "decide_within_h" in raised.value.detail


@pytest.mark.parametrize("settings", [{"decide_within_h": 720, "answers_margin_days": 29}, {}])
def test_an_answer_may_go_when_its_people_have_had_their_time(
    world: World, tmp_path: Path, settings: dict[str, float]
) -> None:
    short = {"answers_retain_days": 1, "answers_margin_days": 1} | settings
    assert told_settings(world, tmp_path, **short).answers_retain_days == 1


async def test_answers_of_one_search_go_together(here: Scene) -> None:
    first = await searched(here)
    ahead(here, days=5)
    second = await here.papers(obligations={"min_score": 0.999})
    report = await here.ask(second.params())
    assert report.HasField("report")
    same = update(matches).where(matches.c.search_id == second.search_id)
    with here.adapter.state.engine.begin() as connection:  # as an earlier version took them
        connection.execute(same.values(search_id=first.report.search_id))
    ahead(here, days=DUE_DAYS - 5 + HALF_A_DAY)
    await erase(here)
    assert erased(here) == []
    assert len(here.adapter.state.resolve(search_id=first.report.search_id)) == 3
    ahead(here, days=5)
    await erase(here)
    assert erased(here) == [[first.report.search_id]]
    assert count(here, candidates) == 0
    assert count(here, matches) == 2


async def test_more_than_one_entry_can_name_is_erased_in_one_turn(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SEARCHES_MAX", 2)
    made = [(await searched(here)).report.search_id for _ in range(3)]
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == [made[:2], made[2:]]


# --- whoever asks again ------------------------------------------------------------------------


async def test_the_same_order_again_is_told_and_nothing_is_searched(here: Scene) -> None:
    papers = await here.papers()
    await here.ask(papers.params())
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    here.clock.ahead = timedelta()  # a clock that is put back: the grant is of this minute again
    await here.refused(papers.params(), Reason.RESULT_GONE)
    request = Request(here.world, now=here.clock())
    again = await here.papers(request)
    await here.ask(again.params())
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    here.clock.ahead = timedelta()
    await here.refused((await here.papers(request)).params(), Reason.ORDER_REPLAYED)
    await reopened(here)
    await here.refused(papers.params(), Reason.RESULT_GONE)


async def test_a_late_answer_is_told_of_to_the_broker_that_asked_and_to_nobody_else(
    here: Scene, tmp_path: Path
) -> None:
    papers, other = await here.papers(), await here.papers()
    for one in (papers, other):
        await here.ask(one.params())
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    names, payload = (papers.order_sha256, grant_of(papers)), papers.dossier.order.payload
    for order in (payload, b""):
        await refused(Reason.RESULT_GONE, here.collect(*names, order=order))
    for order_sha256, grant_sha256, order in (
        (names[0], grant_of(other), payload),
        (names[0], grant_of(other), b""),
        (*names, other.dossier.order.payload),
        (bytes(32), names[1], b""),
    ):
        await refused(Reason.NOT_FOUND, here.collect(order_sha256, grant_sha256, order=order))
    scheme = Scheme.create(tmp_path / "two brokers", "Test Scheme", "probegate.test")
    scheme.add_member("other", Role.BROKER, endpoint="127.0.0.1:1")
    directory = scheme.publish_directory()
    theirs = replace(here.adapter.collect, directory=lambda: directory)
    at_theirs = replace(here.adapter.second_step.asking.papers, directory=lambda: directory)
    stranger = directory.member("other")
    for order in (payload, b""):
        await refused(Reason.NOT_FOUND, theirs.execute(CollectParams(*names, order), stranger))
    with pytest.raises(ProbegateError) as raised:
        at_theirs.answer_to(names[0], stranger)
    assert raised.value.reason is Reason.NOT_FOUND


async def test_what_follows_a_search_is_told_that_it_is_gone(step: Step) -> None:
    here = step.here
    asked = await step.asking()
    await step.ask(asked)
    await decided(step, asked.said.request_id, released=False)
    await step.send("Notify", await step.notice(step.wrong_match()))
    reasons = step.wrong_match().reasons.encode()
    assert files_with(here.adapter, reasons), "the positive control"
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == [[step.report.search_id]]
    assert (
        files_with(here.adapter, reasons, MATE.encode(), asked.envelope.signatures[0].sig) == set()
    )
    gone = Reason.RESULT_GONE
    await recorded(here, gone, "images.refused", step.images(await step.image_request()))
    await recorded(here, gone, "release.rejected", step.ask(await step.asking()))
    await recorded(here, gone, "release.rejected", step.ask(asked))
    await recorded(here, gone, "release.rejected", step.became(asked))
    notice = await step.notice(step.wrong_match())
    await recorded(here, gone, "notice.refused", step.send("Notify", notice))
    for table in (releases, release_reviews, wrong_matches, candidates, recipients):
        assert count(here, table) == 0
    assert count(here, gone_requests) == 1


async def test_a_request_is_told_of_to_the_broker_that_brought_it_alone(step: Step) -> None:
    asked = await step.asking()
    await step.ask(asked)
    await decided(step, asked.said.request_id, released=False)
    ahead(step.here, days=DUE_DAYS + 1)
    await erase(step.here)
    asking = step.here.adapter.second_step.asking
    other = step.here.world.directory.member("broker").model_copy(update={"id": "other"})
    await refused(Reason.NOT_FOUND, asking.standing(asked.digest, other))
    await refused(Reason.RESULT_GONE, step.became(asked))


async def test_nothing_is_kept_about_what_goes_meanwhile(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, real = step.here, Disclosable.terms
    ahead(here, days=DUE_DAYS - HALF_A_DAY)
    asked = await step.asking()

    async def slow(self: Disclosable, *about: Any) -> Any:
        terms = await real(self, *about)
        ahead(here, days=1)
        await erase(here)
        return terms

    monkeypatch.setattr(Disclosable, "terms", slow)
    await recorded(here, Reason.RESULT_GONE, "release.rejected", step.ask(asked))
    assert count(here, releases) == 0


async def test_a_wrong_match_is_not_kept_of_what_goes_meanwhile(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, real = step.here, Papers.proved

    def slow(self: Papers, *about: Any) -> Any:
        proved = real(self, *about)
        with here.adapter.state.engine.begin() as connection:
            gone.erase_answers(connection, [step.report.search_id])
        return proved

    notice = await step.notice(step.wrong_match())
    monkeypatch.setattr(Papers, "proved", slow)
    await recorded(here, Reason.RESULT_GONE, "notice.refused", step.send("Notify", notice))
    assert count(here, wrong_matches) == 0


async def test_link_tokens_go_with_their_reports(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named_gallery(tmp_path / "gallery")
    gallery = str(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=gallery, **TIMES) as here:
        plain, waits = await searched(here), await held_answer(here)
        async with held_inbox(here) as people:
            await people.release(waits.papers.search_id, reviewer="R-1", reference="2026/1")
            await waits.report()
        assert count(here, candidate_links) == 2, "the positive control"
        ahead(here, days=DUE_DAYS + 1)
        later = await searched(here)
        await erase(here)
        assert set(erased(here)[0]) == {plain.report.search_id, waits.papers.search_id}
        assert count(here, candidate_links) == 1
        assert is_kept(here, later.report.search_id)


# --- held answers ------------------------------------------------------------------------------


async def test_a_held_answer_counts_from_its_release(here: Scene) -> None:
    waits = await held_answer(here)
    search_id = waits.papers.search_id
    ahead(here, days=4)
    async with held_inbox(here) as people:
        await people.release(search_id, reviewer="R-1", reference="2026/1")
        report = await waits.report()
    with here.adapter.state.engine.connect() as connection:
        row = connection.execute(select(held)).one()
    followed = envelope_from_bytes(row.report).signatures[0].sig
    stated = envelope_from_bytes(row.statement).signatures[0].sig
    assert all(files_with(here.adapter, one) for one in (followed, stated)), "the positive control"
    ahead(here, days=DUE_DAYS - HALF_A_DAY)
    await erase(here)
    assert (await waits.report()) == report
    ahead(here, days=1)
    await erase(here)
    assert erased(here) == [[search_id]]
    assert files_with(here.adapter, followed, stated) == set()
    assert [count(here, table) for table in (held, held_reviews, candidate_links)] == [0, 0, 0]
    await refused(Reason.RESULT_GONE, waits.collected())
    names = (waits.papers.order_sha256, waits.grant_sha256)
    order = waits.papers.dossier.order.payload
    await refused(Reason.RESULT_GONE, here.collect(*names, order=order))
    await refused(Reason.NOT_FOUND, here.collect(names[0], bytes(32)))


async def test_what_nobody_decides_stays_held_for_as_long_as_ours_and_no_longer(
    here: Scene,
) -> None:
    waits = await held_answer(here)
    ahead(here, days=LONGEST_DAYS + MARGIN_DAYS - HALF_A_DAY)
    await erase(here)
    assert not (await waits.collected()).HasField("answer")
    ahead(here, days=1)
    await erase(here)
    assert erased(here) == [[waits.papers.search_id]]
    await refused(Reason.RESULT_GONE, waits.collected())
    with at_the_desk(here) as operator:
        people = Inbox.of(operator)
        assert list(await people.waiting()) == []
        for name in (waits.papers.search_id, waits.papers.order_sha256.hex()):
            release = people.release(name, reviewer="R-1", reference="2026/1")
            await refused(Reason.RESULT_GONE, release)
    await here.adapter.deciding.settle()
    await here.adapter.deciding.record_overdue()
    assert [entry["type"] for entry in entries(here.adapter)] == ["match.report"]


# --- what follows a search keeps it ------------------------------------------------------------


async def test_a_request_that_is_not_decided_keeps_it_but_not_for_ever(step: Step) -> None:
    here = step.here
    asked = await step.asking()
    await step.ask(asked)
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert (await step.became(asked)).HasField("decide_by")
    assert files_with(here.adapter, FACTS.encode()), "the positive control"
    ahead(here, days=LONGEST_DAYS + MARGIN_DAYS - DUE_DAYS)
    await erase(here)
    assert erased(here) == [[step.report.search_id]]
    await refused(Reason.RESULT_GONE, step.became(asked))
    assert files_with(here.adapter, FACTS.encode()) == set()
    with at_the_desk(here) as operator:
        people = ReleaseInbox.of(operator)
        assert list(await people.waiting()) == []
        for name in (asked.said.request_id, asked.digest.hex()):
            await refused(Reason.RESULT_GONE, people.show(name))
            await refused(Reason.RESULT_GONE, people.release(name, reviewer="R-1", reasons="r"))


async def test_a_refusal_can_be_asked_for_as_long_as_the_margin(step: Step) -> None:
    asked = await step.asking()
    await step.ask(asked)
    ahead(step.here, days=DUE_DAYS + 1)
    await decided(step, asked.said.request_id, released=False)
    await erase(step.here)
    assert (await step.decision(asked)).state is ReleaseState.REFUSED
    ahead(step.here, days=MARGIN_DAYS - HALF_A_DAY)
    await erase(step.here)
    assert erased(step.here) == []
    ahead(step.here, days=1)
    await erase(step.here)
    assert erased(step.here) == [[step.report.search_id]]


async def test_released_details_keep_it_until_they_must_be_deleted_and_the_margin(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gallery(tmp_path / "gallery")
    short = {"answers_retain_days": 3, "answers_margin_days": 1, "release_opens_h": 24}
    gallery = str(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=gallery, **short) as here:
        step = await searched(here)
        ahead(here, days=2)
        asked = await step.asking()
        await step.ask(asked)
        await decided(step, asked.said.request_id)
        details = await step.details(asked)
        assert details.delete_by - details.released_at == timedelta(days=RETENTION_DAYS)
        ahead(here, days=RETENTION_DAYS + 1 - HALF_A_DAY)
        await erase(here)
        assert erased(here) == []
        assert is_kept(here, step.report.search_id)
        ahead(here, days=1)
        await erase(here)
        assert erased(here) == [[step.report.search_id]]


async def test_sealed_details_are_gone_from_every_file_once_they_can_not_be_opened(
    here: Scene,
) -> None:
    step = await searched(here)
    asked = await step.asking()
    await step.ask(asked)
    await decided(step, asked.said.request_id)
    sealed = (await step.became(asked)).sealed_disclosure[-64:]
    assert len(sealed) == 64
    ahead(here, hours=167)
    await here.adapter.second_step.deciding.erase_expired()
    assert files_with(here.adapter, sealed), "the positive control"
    ahead(here, hours=2)
    await here.adapter.second_step.deciding.erase_expired()
    assert files_with(here.adapter, sealed) == set()
    assert (await step.decision(asked)).state is ReleaseState.RELEASED


# --- all of it or nothing ------------------------------------------------------------------------


async def test_what_fails_in_between_erases_nothing_and_is_on_no_log(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, search_id, real = step.here, step.report.search_id, gone.erase_answers
    ahead(here, days=DUE_DAYS + 1)

    def cut_short(*about: Any) -> None:
        real(*about)
        raise ProbegateError(Reason.STATE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(retention, "erase_answers", cut_short)
        await refused(Reason.STATE_UNAVAILABLE, erase(here))
    assert erased(here) == []
    assert is_kept(here, search_id)
    assert len(here.adapter.state.resolve(search_id=search_id)) == 3
    await erase(here)
    assert erased(here) == [[search_id]]


KILLED = """
import os, signal, sys
from pathlib import Path
from agency_adapters.gone import erase_answers
from agency_adapters.tables import open_engine

with open_engine(Path(sys.argv[1])).begin() as connection:
    erase_answers(connection, [sys.argv[2]])
    left = connection.exec_driver_sql("SELECT count(*) FROM candidates").scalar_one()
    sys.stdout.write(str(left))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_who_is_killed_in_between_has_erased_nothing(step: Step) -> None:
    here, search_id = step.here, step.report.search_id
    before = rows(here)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(here.adapter.settings.state_dir), search_id],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"0")
    assert rows(here) == before
    await reopened(here)
    assert len(here.adapter.state.resolve(search_id=search_id)) == 3
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    assert erased(here) == [[search_id]]


async def test_bytes_that_another_process_left_behind_go_at_the_first_turn(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, mine = step.here, step.reference.encode()
    ahead(here, days=DUE_DAYS + 1)

    def ended(*_about: Any, **_how: Any) -> tuple[str, ...]:
        raise ProbegateError(Reason.STATE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(scrubbing, "scrub", ended)
        await refused(Reason.STATE_UNAVAILABLE, erase(here))
    assert erased(here) == [[step.report.search_id]]
    assert files_with(here.adapter, mine), "the positive control"
    adapter = here.adapter
    another = retention.AnswerRetention(
        adapter.retention.kept,
        adapter.state.engine,
        adapter.logs.admin,
        Scrubber(adapter.state.engine),
        here.clock,
    )
    await another.erase_answers()
    assert files_with(here.adapter, mine) == set()
    assert len(erased(here)) == 1


async def test_the_running_adapter_does_it_by_itself_beside_its_loop_and_survives_failures(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.adapter.settings = here.adapter.settings.model_copy(update={"answers_poll_s": 0.02})
    step = await searched(here)
    ahead(here, days=DUE_DAYS + 1)
    threads: list[threading.Thread] = []
    failures = [ProbegateError(Reason.STATE_UNAVAILABLE), RuntimeError("unexpected")]

    def watched(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def stepped(*about: Any, **how: Any) -> Any:
            threads.append(threading.current_thread())
            if failures:
                raise failures.pop()
            return real(*about, **how)

        monkeypatch.setattr(module, name, stepped)

    watched(retention, "date_earlier")
    watched(retention, "_query")
    watched(scrubbing, "scrub")
    async with at_work(here):
        for _ in range(500):
            if erased(here) and not files_with(here.adapter, step.reference.encode()):
                break
            await asyncio.sleep(0.02)
    assert erased(here) == [[step.report.search_id]]
    assert failures == []
    assert len(threads) > 3
    assert threading.main_thread() not in threads


# --- the commands ------------------------------------------------------------------------------


async def test_people_who_look_for_what_is_gone_are_told_so(step: Step) -> None:
    here = step.here
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    with at_the_desk(here) as operator:
        await refused(Reason.RESULT_GONE, operator.resolve(search_id=step.report.search_id))
        # A reference alone no longer says of which search it was.
        await refused(Reason.NOT_FOUND, operator.resolve(reference=step.reference))
        await refused(
            Reason.NOT_FOUND, operator.resolve(search_id="4fa3c1de-0000-4000-8000-000000000001")
        )
    looked = [json.loads(line) for line in _admin_lines(here) if b"candidates.resolved" in line]
    assert len(looked) == 3


def _admin_lines(here: Scene) -> list[bytes]:
    log = here.adapter.logs.admin
    return [log.leaf(at) for at in range(log.checkpoint.checkpoint.size)]


async def test_an_owners_decision_stays_for_the_order_that_may_still_come(here: Scene) -> None:
    request_id = "4fa3c1de-0000-4000-8000-000000000001"
    with at_the_desk(here) as operator:
        await operator.log(
            "owner.decision",
            request_id=request_id,
            authority="caldicott",
            reference="2026/17",
            force="",
        )
    await searched(here)
    ahead(here, days=DUE_DAYS + 1)
    await erase(here)
    decision = here.adapter.state.owner_decision(request_id, "northshire", b"\1" * 32)
    assert decision == OwnerDecision("caldicott", "2026/17")


async def test_what_stays_of_an_answer_says_nothing_of_it(step: Step) -> None:
    ahead(step.here, days=DUE_DAYS + 1)
    await erase(step.here)
    database = sqlite3.connect(step.here.adapter.settings.state_dir / DATABASE_FILE)
    try:
        (row,) = database.execute("SELECT * FROM matches").fetchall()
    finally:
        database.close()
    papers = step.papers
    assert row == (papers.order_sha256, grant_of(papers), papers.search_id, b"", 0, None, None)
