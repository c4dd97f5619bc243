"""One search as a collector sees it: one trace across three organisations, and nothing personal.

The servers and the command line are told of a collector on loopback by the standard environment
variable. Without it nothing opens a connection to anybody but the broker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from deploy.local.demo import AUTHORISER, OFFICER, ROBBERY
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from force_client.probes import load_salt_key, salted
from tests.forces import ROOT, Ended, facts_options, probe_of, probegate, settings_of
from trust.telemetry import SAFE_ATTRIBUTES

WATCHED = ("custody", "passport", BROKER)
ASKED = ("custody", "passport", "nhs")
RESOURCE_PREFIXES = ("service.", "telemetry.sdk.")
METRICS = {
    "probegate.outcomes",
    "probegate.agency.latency",
    "probegate.log.queued",
    "probegate.log.size",
    "probegate.searches.running",
}


@dataclass(slots=True)
class Collector:
    """What an OTLP collector was sent."""

    endpoint: str
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> bytes:
        """Keep one export and return the answer to it."""
        self.bodies.append(body)
        match path:
            case "/v1/traces":
                self.traces.append(ExportTraceServiceRequest.FromString(body))
                return ExportTraceServiceResponse().SerializeToString()
            case "/v1/metrics":
                self.metrics.append(ExportMetricsServiceRequest.FromString(body))
                return ExportMetricsServiceResponse().SerializeToString()
            case _:
                self.unknown.append(path)
                return b""

    def spans(self) -> Iterator[tuple[str, Any]]:
        """Yield each span with the service it came from."""
        for export in self.traces:
            for of_resource in export.resource_spans:
                service = _attributes(of_resource.resource.attributes)["service.name"]
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        yield service, span

    def points(self) -> Iterator[tuple[str, Any]]:
        """Yield each metric's name with a data point of it."""
        for export in self.metrics:
            for of_resource in export.resource_metrics:
                for scope in of_resource.scope_metrics:
                    for metric in scope.metrics:
                        data = getattr(metric, str(metric.WhichOneof("data")))
                        for point in data.data_points:
                            yield metric.name, point

    def resources(self) -> Iterator[Any]:
        """Yield every resource."""
        for export in self.traces:
            yield from (one.resource for one in export.resource_spans)
        for counted in self.metrics:
            yield from (one.resource for one in counted.resource_metrics)


def _attributes(pairs: Iterable[Any]) -> dict[str, str]:
    return {pair.key: str(getattr(pair.value, pair.value.WhichOneof("value"))) for pair in pairs}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = kept.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


def searching(place: Place, *more: str, env: Mapping[str, str] | None = None) -> Ended:
    probe = place.probes / "suspect-good.npy"
    options = facts_options(place, ASKED)
    return probegate("search", "--probe", probe, *options, "--json", *more, env=env)


@pytest.fixture(scope="module")
def observed(place: Place, federation: Processes, collector: Collector) -> dict[str, Any]:
    """A search while everybody exports, and one that is refused; then the federation as it was."""
    telling = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in telling.items():
            patch.setenv(name, value)
        federation.stop(WATCHED)
        federation.start(WATCHED)
        ended = searching(place, env=telling)
        assert ended.returncode == 0, ended.stderr
        refused = probegate(
            "search", "--probe", place.probes / "suspect-good.npy",
            *facts_options(place, ASKED, authorised_at="2099-01-01"), env=telling,
        )  # fmt: skip
        assert refused.returncode == 1, refused.stderr
        federation.stop(WATCHED)  # which sends what they have
    federation.start()
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def test_force_broker_and_agencies_share_one_trace(
    observed: dict[str, Any], collector: Collector
) -> None:
    assert observed["verified"]
    of_search = {
        span.trace_id
        for _, span in collector.spans()
        if _attributes(span.attributes).get("search_id") == observed["search_id"]
    }
    assert len(of_search) == 1
    (trace,) = of_search
    services = {service for service, span in collector.spans() if span.trace_id == trace}
    assert services >= {
        "probegate-force",
        "probegate-broker",
        "probegate-adapter-custody",
        "probegate-adapter-passport",
    }
    spans = [span for _, span in collector.spans() if span.trace_id == trace]
    roots = [span for span in spans if not span.parent_span_id]
    assert len(roots) == 1  # the force's
    ids = {span.span_id for span in spans}
    assert all(span.parent_span_id in ids for span in spans if span.parent_span_id)


def test_the_metrics_of_searches_outcomes_and_logs_arrive(
    observed: dict[str, Any], collector: Collector
) -> None:
    names = {name for name, _ in collector.points()}
    assert names >= METRICS
    outcomes = {
        (said["agency"], said["state"])
        for name, point in collector.points()
        if name == "probegate.outcomes"
        for said in [_attributes(point.attributes)]
    }
    expected = {(one["agency"], one["state"]) for one in observed["outcomes"]}
    assert expected <= outcomes


def test_nothing_leaves_but_what_is_on_the_safe_list(
    observed: dict[str, Any], collector: Collector
) -> None:
    assert not collector.unknown
    for _, span in collector.spans():
        assert _attributes(span.attributes).keys() <= SAFE_ATTRIBUTES
        assert not span.events  # an exception's text would be one
    for _, point in collector.points():
        assert _attributes(point.attributes).keys() <= SAFE_ATTRIBUTES
    for resource in collector.resources():
        for name in _attributes(resource.attributes):
            assert name.startswith(RESOURCE_PREFIXES)


def test_a_failure_is_told_by_its_catalogued_name_alone(
    observed: dict[str, Any], collector: Collector
) -> None:
    said = {span.status.message for _, span in collector.spans() if span.status.message}
    assert "ORDER_STALE" in said
    assert all(one.isidentifier() for one in said)


def test_nothing_personal_leaves(
    observed: dict[str, Any], collector: Collector, place: Place
) -> None:
    probe, _ = probe_of(place)
    salt = salted(probe, load_salt_key(settings_of(place).salt_key)).salt
    secrets = [
        OFFICER,
        AUTHORISER,
        ROBBERY.case_reference,
        ROBBERY.purpose,
        ROBBERY.necessity,
        ROBBERY.proportionality,
        ROBBERY.offence.code,
        *(one["reference"] for one in observed["candidates"]),
    ]
    assert observed["candidates"]
    everything = b"\n".join(collector.bodies)
    for secret in [one.encode() for one in secrets]:
        assert secret not in everything
    for value in (probe.template, salt):
        assert value[:16] not in everything
    assert observed["search_id"].encode() in everything  # so it would have been found


LISTENING = """
import sys

def hook(event, given):
    if event == "socket.connect" and isinstance(given[1], tuple):
        print("connects to", given[1][1], file=sys.stderr)

sys.addaudithook(hook)
from cli.main import run
run()
"""


def connections(place: Place, env: Mapping[str, str]) -> tuple[Ended, list[str]]:
    """Search in a process that says whom Python connects to; gRPC's core does so by itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    words = ("search", "--probe", str(place.probes / "suspect-good.npy"))
    ended = subprocess.run(
        [sys.executable, "-c", LISTENING, *words, *facts_options(place, ASKED), "--json"],
        cwd=ROOT,
        env=kept | dict(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    prefix = "connects to "
    said = [line for line in ended.stderr.splitlines() if line.startswith(prefix)]
    return ended, [line.removeprefix(prefix) for line in said]


def test_without_the_variable_nothing_is_exported(
    observed: dict[str, Any], place: Place, collector: Collector
) -> None:
    count = len(collector.bodies)
    ended, reached = connections(place, {})
    assert json.loads(ended.stdout)["verified"]
    assert reached == []
    assert len(collector.bodies) == count  # nor from the servers, which are as they were again
    _, reached = connections(place, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint})
    assert set(reached) == {collector.endpoint.rpartition(":")[2]}  # so it would have shown
    assert len(collector.bodies) > count
