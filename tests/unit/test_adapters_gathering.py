"""Probes gathered into passes, and what happens when there are too many or too late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agency_adapters.galleries.files import FileGallery, ScanLimits
from agency_adapters.galleries.gallery import Found, Query
from agency_adapters.galleries.gathering import Gatherer
from tests.adapters import Scene, encoded, make_world, scene
from tests.world import Request, World
from trust.errors import ProbegateError, Reason


class Passes:
    """What a gatherer ran; each pass waits until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def run(self, asked: Sequence[int]) -> list[int]:
        self.sizes.append(len(asked))
        assert self.go.wait(10)
        if 13 in asked:
            raise ProbegateError(Reason.GALLERY_CORRUPT)
        return [2 * one for one in asked]


async def until(passes: Passes, count: int) -> None:
    while len(passes.sizes) < count:  # noqa: ASYNC110 - the pass is on another thread
        await asyncio.sleep(0.001)


async def test_what_waits_while_a_pass_runs_goes_into_the_next_together() -> None:
    passes = Passes()
    gatherer = Gatherer(passes.run, most=5, waiting=100)
    first = asyncio.ensure_future(gatherer.ask(1))
    await until(passes, 1)
    rest = [asyncio.ensure_future(gatherer.ask(n)) for n in range(2, 10)]
    await asyncio.sleep(0)
    assert gatherer.load == 8
    passes.go.set()
    assert await asyncio.gather(first, *rest) == [2 * n for n in range(1, 10)]
    assert passes.sizes == [1, 5, 3]
    await gatherer.idle()


async def test_a_pass_waits_for_most_of_the_calls_that_are_being_served() -> None:
    passes = Passes()
    passes.go.set()
    gatherer = Gatherer(passes.run, most=100, waiting=100, patience_s=60)
    first = [asyncio.ensure_future(gatherer.ask(n, company=8)) for n in range(5)]
    await asyncio.sleep(0.05)
    assert passes.sizes == [], "five of eight are too few"
    last = asyncio.ensure_future(gatherer.ask(5, company=8))
    assert await asyncio.gather(*first, last) == [2 * n for n in range(6)]
    assert passes.sizes == [6]
    assert await gatherer.ask(6, company=1) == 12, "a lone one waits for nobody"


async def test_a_pass_is_no_larger_than_it_may_be_whoever_else_is_served() -> None:
    passes = Passes()
    passes.go.set()
    gatherer = Gatherer(passes.run, most=3, waiting=100, patience_s=60)
    asked = [asyncio.ensure_future(gatherer.ask(n, company=50)) for n in range(3)]
    assert await asyncio.gather(*asked) == [0, 2, 4]
    assert passes.sizes == [3]


async def test_patience_ends_and_what_is_too_late_by_then_is_not_searched_for() -> None:
    passes = Passes()
    passes.go.set()
    gatherer = Gatherer(passes.run, most=100, waiting=100, patience_s=0.05)
    soon = asyncio.get_running_loop().time() + 0.01
    late = asyncio.ensure_future(gatherer.ask(1, deadline=soon, company=9))
    assert await gatherer.ask(2, company=9) == 4
    with pytest.raises(ProbegateError) as refused:
        await late
    assert refused.value.reason is Reason.DEADLINE_PASSED
    assert passes.sizes == [1]


async def test_more_than_may_wait_are_refused_before_anything_is_done() -> None:
    passes = Passes()
    gatherer = Gatherer(passes.run, most=1, waiting=2)
    first = asyncio.ensure_future(gatherer.ask(1))
    await until(passes, 1)
    waiting = [asyncio.ensure_future(gatherer.ask(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(ProbegateError) as refused:
        await gatherer.ask(4)
    assert refused.value.reason is Reason.SERVER_BUSY
    passes.go.set()
    assert await asyncio.gather(first, *waiting) == [2, 4, 6]


async def test_who_gave_up_and_who_is_too_late_is_not_searched_for() -> None:
    passes = Passes()
    gatherer = Gatherer(passes.run, most=10, waiting=10)
    first = asyncio.ensure_future(gatherer.ask(1))
    await until(passes, 1)
    gone = asyncio.ensure_future(gatherer.ask(2))
    late = asyncio.ensure_future(gatherer.ask(3, deadline=asyncio.get_running_loop().time()))
    last = asyncio.ensure_future(gatherer.ask(4))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    passes.go.set()
    assert await last == 8
    with pytest.raises(ProbegateError) as refused:
        await late
    assert refused.value.reason is Reason.DEADLINE_PASSED
    assert passes.sizes == [1, 1]
    assert await first == 2


async def test_a_pass_that_fails_is_told_to_its_own_callers_only() -> None:
    passes = Passes()
    passes.go.set()
    gatherer = Gatherer(passes.run, most=1, waiting=10)
    answers = await asyncio.gather(gatherer.ask(13), gatherer.ask(2), return_exceptions=True)
    assert isinstance(answers[0], ProbegateError)
    assert answers[1] == 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, tmp_path, monkeypatch, probes_per_pass=1, max_waiting_probes=1) as made:
        yield made


async def test_a_busy_adapter_says_when_to_come_back_and_counts_nothing(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, real = threading.Event(), threading.Event(), FileGallery.search_all

    def slow(gallery: FileGallery, queries: Sequence[Query]) -> list[Found]:
        begun.set()
        assert go.wait(20)
        return real(gallery, queries)

    monkeypatch.setattr(FileGallery, "search_all", slow)
    # The gallery that is open was made before: its gatherer has the method as it was.
    here.adapter.shelf.gallery = await FileGallery.open(
        Path(here.adapter.settings.gallery), limits_of(here)
    )
    papers = [await here.papers(Request(here.world)) for _ in range(4)]
    first, *others = papers
    calls = [asyncio.ensure_future(here.send(encoded(first.params())))]
    assert await asyncio.to_thread(begun.wait, 20)
    calls += [asyncio.ensure_future(here.send(encoded(one.params()))) for one in others]
    told = asyncio.as_completed(calls)
    for _ in others[1:]:  # one of them may wait; the rest are told while the scan stands still
        with pytest.raises(ProbegateError) as refused:
            await next(told)
        assert refused.value.reason is Reason.SERVER_BUSY
    go.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, ProbegateError) for one in ended) == len(others) - 1
    # Whoever was refused may come back with the very same papers.
    for one, answer in zip(papers, ended, strict=True):
        if isinstance(answer, ProbegateError):
            await here.send(encoded(one.params()))


def limits_of(here: Scene) -> ScanLimits:
    settings = here.adapter.settings
    return ScanLimits(1, settings.probes_per_pass, settings.max_waiting_probes)
