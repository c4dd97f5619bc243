"""An answer that was given and did not arrive, handed over again to the broker that asked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agency_adapters.models import CollectParams
from broker.links import DialledLink
from tests.adapters import Scene, entries, make_world, scene
from tests.brokers import TurnedClock, outcomes, rigged
from tests.unit.adapters_kit import Papers
from tests.unit.test_broker_held import ahead
from tests.world import Request, World
from trust.ceremony import Scheme
from trust.directory import Role
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState, SearchLimits
from trust.wire import decode_report

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


def grant_of(papers: Papers) -> bytes:
    return hashlib.sha256(papers.dossier.grant.payload).digest()


def order_of(papers: Papers) -> bytes:
    return papers.dossier.order.payload


async def test_an_answer_is_handed_over_as_it_was_given_and_nothing_is_searched_again(
    here: Scene,
) -> None:
    papers = await here.papers()
    given = await here.ask(papers.params())
    before, scans = entries(here.adapter), here.scans.count
    again = await here.collect(papers.order_sha256, grant_of(papers), order=order_of(papers))
    assert again.answer == given
    assert not again.HasField("decide_by")
    assert (entries(here.adapter), here.scans.count) == (before, scans)
    assert decode_report(again.answer.report.payload).state is OutcomeState.CANDIDATES


async def test_a_held_answer_is_handed_over_as_held_and_says_by_when(here: Scene) -> None:
    papers = await here.papers(obligations={"release_by_human": True})
    given = await here.ask(papers.params())
    names = (papers.order_sha256, grant_of(papers))
    again = await here.collect(*names, order=order_of(papers))
    assert again.answer == given
    assert again.HasField("decide_by")
    assert decode_report(again.answer.report.payload).state is OutcomeState.HELD
    followed = await here.collect(*names)
    assert [field.name for field, _ in followed.ListFields()] == ["decide_by"]


async def test_whatever_else_is_named_is_refused_alike(here: Scene) -> None:
    papers, other = await here.papers(), await here.papers()
    await here.ask(papers.params())
    await here.ask(other.params())
    unasked = await here.papers(Request(here.world, now=here.clock()))
    names, payload = (papers.order_sha256, grant_of(papers)), order_of(papers)
    said = set()
    for order_sha256, grant_sha256, order in (
        (NOBODY, NOBODY, payload),
        (NOBODY, names[1], payload),
        (names[0], NOBODY, payload),
        (*names, order_of(other)),
        (*names, b"\xff"),
        (*names, payload + b"\0"),
        (names[0], grant_of(other), payload),
        (names[0][:31], names[1], payload),
        (names[0], names[1] + b"\0", payload),
        (unasked.order_sha256, grant_of(unasked), order_of(unasked)),
        (*names, b""),  # it was never held
    ):
        with pytest.raises(ProbegateError) as raised:
            await here.collect(order_sha256, grant_sha256, order=order)
        said.add((raised.value.reason, tuple(raised.value.metadata.items())))
    assert said == {(Reason.NOT_FOUND, ())}
    for member in ("northshire", "inspectorate"):
        with pytest.raises(ProbegateError) as raised:
            await here.collect(*names, member, payload)
        assert raised.value.reason is Reason.CHANNEL_ROLE


async def test_another_broker_gets_nothing_whatever_it_names(here: Scene, tmp_path: Path) -> None:
    papers = await here.papers()
    await here.ask(papers.params())
    scheme = Scheme.create(tmp_path / "two brokers", "Test Scheme", "probegate.test")
    scheme.add_member("other", Role.BROKER, endpoint="127.0.0.1:1")
    directory = scheme.publish_directory()
    params = CollectParams(papers.order_sha256, grant_of(papers), order_of(papers))
    theirs = replace(here.adapter.collect, directory=lambda: directory)
    with pytest.raises(ProbegateError) as raised:
        await theirs.execute(params, directory.member("other"))
    assert raised.value.reason is Reason.NOT_FOUND
    ours = await here.adapter.collect.execute(params, here.world.directory.member("broker"))
    assert ours.answer is not None


async def test_a_restart_forgets_no_answer(here: Scene) -> None:
    papers = await here.papers()
    given = await here.ask(papers.params())
    await here.restart()
    again = await here.collect(papers.order_sha256, grant_of(papers), order=order_of(papers))
    assert again.answer.report == given.report
    assert again.answer.statement == given.statement


class LosingLink(DialledLink):
    """A way to the agency on which answers to searches are lost, and nothing else is."""

    async def match(self, request: bytes, timeout_s: float) -> bytes:
        """Let the agency answer, and hear nothing of it."""
        await DialledLink.match(self, request, timeout_s)
        await asyncio.sleep(timeout_s + 1)
        raise AssertionError


async def test_a_real_broker_gets_what_was_lost_on_the_way_from_a_real_adapter(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = f"127.0.0.1:{world.ports['custody']}"
    async with (
        scene(world, tmp_path, monkeypatch, listen=listen) as here,
        rigged(world, serving=(), clock=TurnedClock()) as rig,
    ):
        folder = world.folder("broker")
        tls = (folder.tls_cert, folder.tls_key)
        link = LosingLink(tls, "custody", lambda: world.directory)
        rig.broker.agencies["custody"].link = link
        limits = SearchLimits(timeout_ms=3000)
        first = await rig.search(("custody",), limits=limits)
        assert outcomes(first)["custody"].state is OutcomeState.TIMED_OUT
        assert [entry["type"] for entry in entries(here.adapter)] == ["match.report"]
        scans = here.scans.count
        ahead(rig, seconds=3)
        await rig.broker.held.collect()
        done = await rig.broker.reading.get("northshire", first.record.search_id)
        (answer,) = done.record.answers
        assert answer.outcome.state is OutcomeState.CANDIDATES
        assert answer.outcome.late_at == rig.result(done).finished_at
        assert answer.statement is not None
        (entry,) = entries(here.adapter)
        assert entry["report_sha256"] == answer.outcome.report_sha256.hex()
        assert here.scans.count == scans
        await link.close()
