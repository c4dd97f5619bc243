"""A vendor's matcher over OSIA: honest, failing and lying; by answer and by callback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.gallery import Query
from agency_adapters.galleries.opening import open_gallery
from agency_adapters.galleries.osia import OsiaGallery, OsiaSettings
from agency_adapters.galleries.templates import unit_rows
from agency_adapters.pnd import PND
from tests.adapters import Scene, make_world, scene, the_operator
from tests.galleries import DAY, unit
from tests.osia_server import TOKEN, Matcher, matcher
from tests.unit.second_step_kit import searched
from tests.world import MODEL, Request, World, template
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState

DIMS = 16
ROWS = unit_rows(np.random.default_rng(4).standard_normal((9, DIMS)))
PEOPLE = {f"P{n}": row.astype(float) for n, row in enumerate(ROWS)}
VENDOR: dict[str, Any] = {
    "model": "m-1",
    "dims": DIMS,
    "matcher": "vendor-face/7.2",
    "template_format": "VENDOR_F32",
    "algorithm": "face-7",
    "vendor": "Invented Matchers",
    "count": 9,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def engines(tmp_path: Path) -> EngineSettings:
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o600)
    return EngineSettings(engine_secret_file=secret, engine_timeout_s=5.0)


@asynccontextmanager
async def opened(
    engines: EngineSettings, knobs: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[OsiaGallery, Matcher]]:
    async with matcher(PEOPLE, **(knobs or {})) as vendor:
        location = f"osia+http://127.0.0.1:{vendor.port}/national"
        made = OsiaSettings.model_validate(VENDOR | settings)
        gallery = await OsiaGallery.open(location, CUSTODY, engines, made)
        try:
            yield gallery, vendor
        finally:
            await gallery.close()


def query(threshold: float = -1.0, limit: int = 5, deadline: float | None = None) -> Query:
    return Query(unit(ROWS[3].astype(np.float64)), threshold, limit, DAY, deadline=deadline)


async def refusal(gallery: OsiaGallery, asked: Query | None = None) -> ProbegateError:
    with pytest.raises(ProbegateError) as refused:
        await gallery.search(asked or query())
    assert TOKEN not in refused.value.line() + refused.value.detail + repr(refused.value)
    return refused.value


MODES = pytest.mark.parametrize("mode", [{}, {"callback_listen": "127.0.0.1:0"}])


@MODES
async def test_a_mate_is_found_and_the_answer_claims_nothing_that_is_not_so(
    engines: EngineSettings, mode: dict[str, Any]
) -> None:
    async with opened(engines, **mode) as (gallery, vendor):
        found = await gallery.search(query(threshold=0.5))
        assert [one.record_id for one in found.candidates] == ["P3"]
        assert found.eligible == 9
        facts = gallery.facts
        assert (facts.exact, facts.matcher, facts.keeps_records) == (
            False,
            "vendor-face/7.2",
            False,
        )
        asked = vendor.seen[0]["asked"]
        assert (asked["maxNbCand"], asked["threshold"]) == (["5"], ["0.5"])
        (data,) = json.loads(vendor.seen[0]["data"])["biometricData"]
        assert (data["templateFormat"], data["vendor"]) == ("VENDOR_F32", "Invented Matchers")
        several = await gallery.search(query())
        scores = [one.score for one in several.candidates]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 5


def said(*candidates: dict[str, Any]) -> bytes:
    return json.dumps(candidates).encode()


GOOD = {"personId": "P1", "rank": 1, "score": 0.9}
LIES: dict[str, bytes] = {
    "not JSON": b"<html>",
    "no list": b"{}",
    "nested": b"[" * 50_000,
    "a NaN": b'[{"personId": "P1", "rank": 1, "score": NaN}]',
    "an infinity": b'[{"personId": "P1", "rank": 1, "score": 1e999}]',
    "a key twice": b'[{"personId": "P1", "personId": "P2", "rank": 1, "score": 0.9}]',
    "a field too many": said(GOOD | {"name": "somebody"}),
    "a field too few": said({"personId": "P1", "rank": 1}),
    "another type": said(GOOD | {"score": "0.9"}),
    "no record id": said(GOOD | {"personId": "../../etc"}),
    "somebody twice": said(GOOD, GOOD | {"rank": 2}),
    "below the threshold": said(GOOD | {"score": 0.1}),
    "ranks against scores": said(GOOD, {"personId": "P2", "rank": 2, "score": 0.95}),
    "more than were asked for": said(
        *[{"personId": f"P{n}", "rank": n, "score": 0.9} for n in range(1, 8)]
    ),
    "too long": b" " * 70_000 + said(GOOD),
}


@MODES
@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_matcher_is_not_believed(
    engines: EngineSettings, lie: str, mode: dict[str, str]
) -> None:
    async with opened(engines, {"body": LIES[lie]}, max_answer_bytes=65_536, **mode) as (
        gallery,
        vendor,
    ):
        asked = query(threshold=0.5)
        if lie == "too long" and mode:  # the callback is refused, and nothing else comes
            asked = query(0.5, deadline=asyncio.get_running_loop().time() + 0.5)
            assert (await refusal(gallery, asked)).reason is Reason.DEADLINE_PASSED
            assert vendor.posted == [413]
            return
        failure = await refusal(gallery, asked)
        assert failure.reason is Reason.GALLERY_UNAVAILABLE
        assert "somebody" not in failure.line() + failure.detail


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.GALLERY_UNAVAILABLE),
        (401, Reason.GALLERY_UNAVAILABLE),
        (403, Reason.GALLERY_UNAVAILABLE),
        (404, Reason.GALLERY_MISSING),
        (500, Reason.GALLERY_UNAVAILABLE),
        (202, Reason.GALLERY_UNAVAILABLE),
        (302, Reason.GALLERY_UNAVAILABLE),
    ],
)
async def test_every_refusal_is_catalogued_and_no_request_is_repeated(
    engines: EngineSettings, status: int, reason: Reason
) -> None:
    async with opened(engines, {"status": status}) as (gallery, vendor):
        assert (await refusal(gallery)).reason is reason
        assert len(vendor.seen) == 1


async def test_a_wrong_token_is_refused_by_the_matcher(tmp_path: Path) -> None:
    async with opened(EngineSettings(), {}) as (gallery, _):
        assert (await refusal(gallery)).reason is Reason.GALLERY_UNAVAILABLE


async def test_nobody_waits_beyond_the_deadline(engines: EngineSettings) -> None:
    async with opened(engines, {"delay_s": 30.0}) as (gallery, _):
        soon = asyncio.get_running_loop().time() + 0.2
        assert (await refusal(gallery, query(deadline=soon))).reason is Reason.DEADLINE_PASSED
        assert gallery.load == 0


async def test_more_calls_than_are_allowed_are_refused(engines: EngineSettings) -> None:
    async with opened(engines, {"delay_s": 0.3}, calls=1) as (gallery, _):
        first = asyncio.ensure_future(gallery.search(query()))
        await asyncio.sleep(0.05)
        assert (await refusal(gallery)).reason is Reason.SERVER_BUSY
        assert (await first).candidates


async def test_a_matcher_that_is_not_there_is_unavailable(engines: EngineSettings) -> None:
    settings = OsiaSettings.model_validate(VENDOR | {"attempts": 2})
    gallery = await OsiaGallery.open("osia+http://127.0.0.1:1/national", CUSTODY, engines, settings)
    assert (await refusal(gallery)).reason is Reason.GALLERY_UNAVAILABLE
    await gallery.close()


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"task": "another"}, Reason.GALLERY_UNAVAILABLE),
        ({"callback_error": True}, Reason.GALLERY_UNAVAILABLE),
        ({"callback_delay_s": 30.0}, Reason.DEADLINE_PASSED),
    ],
)
async def test_callbacks_that_go_wrong(
    engines: EngineSettings, knobs: dict[str, Any], reason: Reason
) -> None:
    async with opened(engines, knobs, callback_listen="127.0.0.1:0") as (gallery, _):
        left_s = 0.5 if reason is Reason.DEADLINE_PASSED else 20.0
        soon = asyncio.get_running_loop().time() + left_s
        assert (await refusal(gallery, query(deadline=soon))).reason is reason


async def test_a_callback_that_comes_twice_counts_once_and_a_strangers_not_at_all(
    engines: EngineSettings,
) -> None:
    async with opened(
        engines, {"callbacks": 2, "delay_s": 0.05}, callback_listen="127.0.0.1:0"
    ) as (gallery, vendor):
        assert (await gallery.search(query(threshold=0.5))).candidates[0].record_id == "P3"
        address = vendor.seen[0]["asked"]["callback"][0]
        await asyncio.gather(*vendor.tasks)
        assert vendor.posted[0] == 204
        assert vendor.posted[1] in {204, 403}  # 403 if the search had ended by then
        async with httpx.AsyncClient() as client:
            for method, where in (("POST", address), ("POST", address[:-3]), ("GET", address)):
                reply = await client.request(method, where, content=said(GOOD))
                assert reply.status_code in {403, 405}


@asynccontextmanager
async def served(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    engines: EngineSettings,
    **changes: str,
) -> AsyncIterator[tuple[Scene, Matcher]]:
    """A whole adapter before a vendor's matcher, its settings in the environment."""
    people = {"V1": template().astype(float), "V2": template(9).astype(float)}
    given = VENDOR | {"model": MODEL, "dims": 512, **changes}
    for name, value in given.items():
        monkeypatch.setenv(f"PROBEGATE_OSIA_{name.upper()}", str(value))
    async with matcher(people) as vendor:
        location = f"osia+http://127.0.0.1:{vendor.port}/national"
        secret = engines.engine_secret_file
        async with scene(
            world, tmp_path, monkeypatch, gallery=location, engine_secret_file=secret
        ) as here:
            yield here, vendor


@pytest.mark.parametrize("name", ["vendor-face/7.2", "vendor-face", MODEL])
async def test_a_vendors_matcher_is_switched_off_by_its_name_whatever_ails_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    engines: EngineSettings,
    name: str,
) -> None:
    """With a listener of the adapter's own, which a command cannot open a second time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"matcher": "Vendor-Face/7.2", "callback_listen": listen}
    async with served(tmp_path, monkeypatch, world, engines, **settings) as (here, vendor):
        vendor.knobs.status = 500
        async with the_operator(here) as operator:
            with pytest.raises(ProbegateError) as refused:
                await operator.switch("matcher:probegate-cosine", off=True, reference="R")
            assert refused.value.reason is Reason.USAGE
            await operator.switch(f"matcher:{name}", off=True, reference="R")
        report = await here.honest(Request(world, now=here.clock()))
        assert report.failed_clauses == ("core.not-switched-off",)
        assert vendor.seen == []


async def test_a_held_answer_of_a_vendors_matcher_waits_while_that_is_switched_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    engines: EngineSettings,
) -> None:
    async with served(tmp_path, monkeypatch, world, engines) as (here, _):
        report = await here.honest(
            Request(world, now=here.clock()), obligations={"release_by_human": True}
        )
        assert report.state is OutcomeState.HELD
        (answer,) = here.adapter.deciding.held.waiting()
        assert {"matcher:vendor-face/7.2", "matcher:vendor-face"} <= answer.switches
        assert "matcher:probegate-cosine" not in answer.switches


async def test_nothing_follows_a_search_by_a_vendors_matcher_that_is_switched_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    engines: EngineSettings,
) -> None:
    async with served(tmp_path, monkeypatch, world, engines) as (here, _):
        step = await searched(here)
        async with the_operator(here) as operator:
            await operator.switch("matcher:vendor-face", off=True, reference="R")
        for deed in (
            step.images(await step.image_request()),
            step.ask(await step.asking(fields=("reference",))),
        ):
            with pytest.raises(ProbegateError) as refused:
                await deed
            assert refused.value.reason is Reason.RELEASE_SWITCHED_OFF


@pytest.mark.parametrize("target", ["http://[bad", "//[::1", "/%ff", "/a?%"])
async def test_whatever_is_sent_to_the_listener_is_answered(
    engines: EngineSettings, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(engines, callback_listen="127.0.0.1:0") as (gallery, vendor):
        await gallery.search(query(threshold=0.5))
        told = urlsplit(vendor.seen[0]["asked"]["callback"][0])
        reader, writer = await asyncio.open_connection(told.hostname, told.port)
        writer.write(f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert reply.split(b" ", 2)[1] in {b"400", b"403"}
    assert [one.getMessage() for one in caplog.records if one.name == "asyncio"] == []


@pytest.mark.parametrize(
    "location",
    [
        "osia+http://matcher.example/national",
        "osia+https://matcher.example/",
        "osia+https://matcher.example/a/b",
        "osia+https://me:hunter2@matcher.example/national",
    ],
)
async def test_an_address_that_makes_no_sense_is_refused(
    engines: EngineSettings, location: str
) -> None:
    with pytest.raises(ProbegateError) as refused:
        await OsiaGallery.open(location, CUSTODY, engines, OsiaSettings.model_validate(VENDOR))
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert "hunter2" not in refused.value.line() + refused.value.detail


async def test_what_cannot_be_kept_over_it_is_refused(engines: EngineSettings) -> None:
    with pytest.raises(ProbegateError) as refused:
        await open_gallery("osia+https://matcher.example/national", PND, engines=engines)
    assert refused.value.reason is Reason.CONFIG_INVALID
    with pytest.raises(ProbegateError) as refused:  # no PROBEGATE_OSIA_* at all
        await open_gallery("osia+https://matcher.example/national", CUSTODY, engines=engines)
    assert refused.value.reason is Reason.CONFIG_INVALID
    away = OsiaSettings.model_validate(VENDOR | {"callback_listen": "0.0.0.0:0"})
    with pytest.raises(ProbegateError) as refused:
        await OsiaGallery.open("osia+https://matcher.example/n", CUSTODY, engines, away)
    assert refused.value.reason is Reason.CONFIG_INVALID


@pytest.mark.parametrize(("count", "said_class"), [("9", "<1k"), ("", ""), ("0", "")])
async def test_a_whole_adapter_answers_from_a_vendors_gallery(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    engines: EngineSettings,
    count: str,
    said_class: str,
) -> None:
    people = {"V1": template().astype(float), "V2": template(9).astype(float)}
    given: dict[str, Callable[[], object] | object] = VENDOR | {"model": MODEL, "dims": 512}
    for name, value in given.items():
        monkeypatch.setenv(f"PROBEGATE_OSIA_{name.upper()}", str(value))
    if count:
        monkeypatch.setenv("PROBEGATE_OSIA_COUNT", count)
    else:
        monkeypatch.delenv("PROBEGATE_OSIA_COUNT")
    async with matcher(people) as vendor:
        location = f"osia+http://127.0.0.1:{vendor.port}/national"
        async with scene(
            world,
            tmp_path,
            monkeypatch,
            gallery=location,
            engine_secret_file=engines.engine_secret_file,
        ) as here:
            report = await here.honest(Request(world))
            assert (report.exact, report.matcher) == (False, "vendor-face/7.2")
            assert len(report.candidates) == 1
            ((_, record),) = here.adapter.state.resolve(reference=report.candidates[0].reference)
            assert record.record_id == "V1"
            assert report.gallery_class == said_class
            said_of_it = here.adapter.command.describe(here.broker.member)[0].payload
            assert (b"<1k" in said_of_it) == bool(said_class)
            assert here.adapter.shelf.gallery.facts.counted == bool(said_class)
