"""The adapter as a process: served over mTLS, administered while it runs, stopped and refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from probegate.agency.v1 import match_service_pb2, match_service_pb2_grpc

from agency_adapters.operators import Operator
from agency_adapters.serve import Adapter
from agency_adapters.wire import MatchRequest
from audit import tables
from tests.unit.adapters_kit import (
    MATE,
    BrokerSide,
    adapter_settings,
    entries,
    make_gallery,
    make_world,
)
from tests.world import Request, World
from trust import dsse
from trust.chores import beside
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.mtls import channel_credentials
from trust.payload_types import PayloadType
from trust.rpc import error_of
from trust.server import RunningServer
from trust.wire import decode_report, envelope_from_wire


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def adapter(world: World, tmp_path: Path) -> AsyncIterator[Adapter]:
    adapter = await Adapter.open(adapter_settings(world, tmp_path))
    yield adapter
    await adapter.close()


@pytest.fixture
async def server(adapter: Adapter) -> AsyncIterator[RunningServer]:
    server = await adapter.listen()
    yield server
    await server.stop(0)


def channel(world: World, member: str, port: int, *more: tuple[str, int]) -> grpc.aio.Channel:
    folder = world.folder(member)
    credentials = channel_credentials(folder.tls_cert, folder.tls_key, world.directory.ca_pem)
    name = world.directory.member("custody").server_name
    options = (("grpc.ssl_target_name_override", name), *more)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)


async def test_a_peer_that_waits_long_and_pings_as_often_as_it_may_is_not_cut_off(
    world: World, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC ends a connection on which somebody pings oftener than the server says."""
    monkeypatch.setattr("trust.server.MIN_PING_INTERVAL_MS", 20)
    server = await adapter.listen()
    pings = (("grpc.keepalive_time_ms", 1000), ("grpc.http2.max_pings_without_data", 0))
    async with channel(world, "broker", server.port, *pings) as link:
        watching = health_pb2_grpc.HealthStub(link).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        # Nothing more comes while the server serves; the third ping would be one too many.
        more = asyncio.ensure_future(watching.read())
        done, _ = await asyncio.wait({more}, timeout=4.5)
        assert not done, await more
        await server.stop(0)
        last = await more
        assert last.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_log_that_takes_nothing_more_is_said_to_whoever_asks_for_the_health(
    world: World, adapter: Adapter, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only starting it again helps, and whoever supervises it can do that."""
    monkeypatch.setattr("trust.server.HEALTH_POLL_S", 0.05)
    status = health_pb2.HealthCheckResponse
    async with (
        channel(world, "broker", server.port) as link,
        beside([server.keep_saying(lambda: adapter.logs.are_well)]),
    ):
        watching = health_pb2_grpc.HealthStub(link).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        assert (await watching.read()).status == status.SERVING
        with adapter.state.engine.begin() as connection:
            connection.execute(tables.heads.update().values(size=7))
        with pytest.raises(ProbegateError) as raised:
            await adapter.logs.record("anything", datetime.now(UTC))
        assert raised.value.reason is Reason.LOG_UNAVAILABLE
        assert (await watching.read()).status == status.NOT_SERVING


async def test_the_broker_asks_over_mtls_and_nobody_else_may(
    world: World, adapter: Adapter, server: RunningServer, tmp_path: Path
) -> None:
    broker = BrokerSide.open(world, tmp_path / "broker")
    papers = (await broker.papers(adapter, Request(world))).params()
    request = MatchRequest(
        dossier=papers.dossier,
        sealed_key_id=papers.sealed_key_id,
        sealed_probe=papers.sealed_probe,
    )
    async with channel(world, "broker", server.port) as link:
        stub = match_service_pb2_grpc.MatchServiceStub(link)
        described = await stub.Describe(match_service_pb2.DescribeRequest(), timeout=5)
        answer = await stub.Match(request, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as no_deadline:
            await stub.Match(request)
    assert error_of(no_deadline.value).reason is Reason.DEADLINE_MISSING
    resolve = world.directory.resolver("custody", KeyUse.SIGN, datetime.now(UTC))
    envelope = envelope_from_wire(described.capabilities)
    dsse.verify(envelope, PayloadType.CAPABILITIES, resolve)
    stated = match_service_pb2.Capabilities.FromString(envelope.payload)
    assert (stated.agency, stated.gallery_class, stated.exact) == ("custody", "<1k", True)
    report = decode_report(answer.report.payload)
    ((_, found),) = adapter.state.resolve(reference=report.candidates[0].reference)
    assert found.record_id == MATE
    async with channel(world, "northshire", server.port) as link:
        stub = match_service_pb2_grpc.MatchServiceStub(link)
        for call in (
            stub.Match(request, timeout=5),
            stub.Describe(match_service_pb2.DescribeRequest(), timeout=5),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert error_of(refused.value).reason is Reason.CHANNEL_ROLE
    await broker.logs.close()


async def test_fifty_at_once_are_each_answered_and_recorded(
    world: World, adapter: Adapter, tmp_path: Path
) -> None:
    broker = BrokerSide.open(world, tmp_path / "broker")
    papers = [(await broker.papers(adapter, Request(world))).params() for _ in range(50)]
    same = [papers[0]] * 4
    answers = await asyncio.gather(
        *(adapter.command.execute(params, broker.member) for params in (*papers, *same))
    )
    assert len({answer.report.payload for answer in answers}) == 50
    assert sum(entry["type"] == "match.report" for entry in entries(adapter)) == 50
    await broker.logs.close()


async def test_operators_reads_and_decisions_are_logged_before_they_take_effect(
    world: World, adapter: Adapter, tmp_path: Path
) -> None:
    broker = BrokerSide.open(world, tmp_path / "broker")
    papers = await broker.papers(adapter, Request(world))
    await adapter.command.execute(papers.params(), broker.member)
    desk = asyncio.create_task(adapter.serve_desk())
    operator = Operator.open(adapter.settings)
    ((search_id, found),) = await operator.resolve(search_id=papers.search_id)
    assert (search_id, found.record_id) == (papers.search_id, MATE)
    last = json.loads(adapter.logs.admin.leaf(adapter.logs.admin.checkpoint.checkpoint.size - 1))
    assert last["type"] == "candidates.resolved"
    assert last["references"] == [found.reference]
    with pytest.raises(ProbegateError) as raised:
        await operator.resolve(reference="nothing")
    assert raised.value.reason is Reason.NOT_FOUND
    with pytest.raises(ProbegateError) as raised:
        await operator.decide(str(uuid.uuid4()), "caldicott", "X")  # custody has no such thing
    assert raised.value.reason is Reason.CONFIG_INVALID
    nhs = replace(operator, settings=adapter.settings.model_copy(update={"kind": "nhs"}))
    request_id = str(uuid.uuid4())
    await nhs.decide(request_id, "caldicott", "CG/1")
    assert adapter.state.owner_decision(request_id, "northshire", b"\1" * 32) is not None
    desk.cancel()
    operator.close()
    await broker.logs.close()


async def test_an_operator_can_read_while_the_adapter_is_down(world: World, tmp_path: Path) -> None:
    settings = adapter_settings(world, tmp_path)
    operator = Operator.open(settings)
    assert await operator.log("held.listed", searches=[]) == 0
    operator.close()


async def test_a_new_gallery_is_taken_up_and_a_damaged_one_is_not(
    world: World, tmp_path: Path
) -> None:
    out = tmp_path / "own" / "gallery"
    out.parent.mkdir()
    make_gallery(out, rows=20)
    adapter = await Adapter.open(adapter_settings(world, tmp_path, gallery=str(out)))
    await adapter.refresh_gallery()
    assert adapter.shelf.gallery.facts.generation == 1
    make_gallery(out, rows=30)
    await adapter.refresh_gallery()
    assert adapter.shelf.gallery.facts.count == 30
    make_gallery(out, rows=40)
    (out / "segments" / "s0000003" / "templates.f32").write_bytes(b"")
    with pytest.raises(ProbegateError) as raised:
        await adapter.refresh_gallery()
    assert raised.value.reason is Reason.GALLERY_CORRUPT
    assert adapter.shelf.gallery.facts.count == 30
    await adapter.close()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "adapter", *arguments]


def test_the_process_serves_stops_on_sigterm_and_says_in_one_line_why_it_cannot(
    world: World, tmp_path: Path
) -> None:
    settings = adapter_settings(world, tmp_path, port_file=tmp_path / "port")
    config = tmp_path / "adapter.toml"
    values = settings.model_dump(mode="json", exclude_defaults=True)
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    process = subprocess.Popen(
        _command("serve", "--config", str(config)), stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if (tmp_path / "port").exists():
                break
            time.sleep(0.05)
        port = int((tmp_path / "port").read_text())
        other = dict(values, state_dir=str(tmp_path / "s2"), logs_dir=str(tmp_path / "l2"))
        other |= {"listen": f"127.0.0.1:{port}"}
        second = tmp_path / "second.toml"
        second.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in other.items()))
        taken = subprocess.run(
            _command("serve", "--config", str(second)), capture_output=True, text=True, check=False
        )
        assert taken.returncode == 1
        assert taken.stderr.strip().splitlines()[-1].startswith("probegate: PORT_IN_USE: ")
        asked = subprocess.run(
            _command("resolve", "--config", str(config), "--reference", "nothing"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (asked.returncode, asked.stderr.count("\n")) == (1, 1)
        assert asked.stderr.startswith("probegate: NOT_FOUND: ")
    finally:
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {"adapter open", "listening", "stopped"} <= {line["event"] for line in lines}
