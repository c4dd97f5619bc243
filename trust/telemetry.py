"""Traces, metrics and structured logs, off until the standard environment asks for them.

1. Nothing is exported unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or one of its per-signal forms) is
   set and the ``otel`` extra is installed; until then every call here is a no-op of the API.
2. No attribute, metric label or log field is ever personal or biometric: only ids of members and
   searches, states, catalogue reasons, counts and durations. ``SAFE_ATTRIBUTES`` is the whole list
   and anything else is dropped before it leaves the process.
3. One trace crosses force, broker and adapters by the W3C ``traceparent`` header in gRPC metadata.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace

from trust.errors import ProbegateError, Reason

_NAME: Final = "probegate"
_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
SAFE_ATTRIBUTES: Final = frozenset(
    {
        "agency",
        "attempt",
        "bundle_version",
        "count",
        "entries",
        "generation",
        "kernel",
        "log",
        "method",
        "port",
        "reason",
        "role",
        "search_id",
        "seconds",
        "service",
        "size",
        "state",
        "version",
    }
)
"""Every attribute and log field that may leave the process (2)."""

_enabled = False


def enabled() -> bool:
    """Whether anything is exported; callers skip building attributes when not."""
    return _enabled


def setup(service: str) -> bool:
    """Start exporting if the environment asks for it (1); say whether it does."""
    global _enabled  # noqa: PLW0603 - one switch for the process, set once at start
    if _enabled or not any(os.environ.get(name) for name in _ENDPOINTS):
        return _enabled
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ProbegateError(
            Reason.CONFIG_INVALID, "telemetry is asked for but the otel extra is not installed"
        ) from error
    resource = Resource.create({"service.name": service, "service.namespace": _NAME})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))
    _enabled = True
    return True


def shutdown() -> None:
    """Send what is buffered; called once when a process ends."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        stop = getattr(provider, "shutdown", None)
        if _enabled and stop is not None:
            stop()


def tracer() -> trace.Tracer:
    """Return the tracer; a no-op unless exporting."""
    return trace.get_tracer(_NAME)


def meter() -> metrics.Meter:
    """Return the meter; a no-op unless exporting."""
    return metrics.get_meter(_NAME)


def safe(attributes: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """Keep only what may leave the process (2)."""
    return {key: value for key, value in attributes.items() if key in SAFE_ATTRIBUTES}


_NO_SPAN: Final = nullcontext()


def span(name: str, **attributes: str | float) -> AbstractContextManager[None]:
    """Record a span around a block; free when nothing is exported."""
    return _span(name, **attributes) if _enabled else _NO_SPAN


@contextmanager
def _span(name: str, **attributes: str | float) -> Iterator[None]:
    with _recorded(name, trace.SpanKind.INTERNAL, safe(attributes)):
        yield


def continued(
    metadata: Iterable[tuple[str, str | bytes]] | None, name: str
) -> AbstractContextManager[None]:
    """Continue a caller's trace from gRPC metadata around a handler (3)."""
    return _continued(metadata, name) if _enabled else _NO_SPAN


@contextmanager
def _continued(metadata: Iterable[tuple[str, str | bytes]] | None, name: str) -> Iterator[None]:
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    token = otel_context.attach(propagate.extract(carrier))
    try:
        with _recorded(name, trace.SpanKind.SERVER, {}):
            yield
    finally:
        otel_context.detach(token)


@contextmanager
def _recorded(
    name: str, kind: trace.SpanKind, attributes: Mapping[str, str | float]
) -> Iterator[None]:
    """Record a span; of an exception, its catalogued or type name and never its text (2)."""
    with tracer().start_as_current_span(
        name,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(trace.StatusCode.ERROR, _named(error))
            raise


def _named(error: Exception) -> str:
    return error.reason.name if isinstance(error, ProbegateError) else type(error).__name__


def inject() -> Sequence[tuple[str, str]]:
    """Return the metadata that carries the current trace to a peer (3); empty when off."""
    if not _enabled:
        return ()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, service, event, and safe fields only (2)."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Render one record; an exception is named, never printed."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line |= safe(fields)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


def configure_logging(service: str, level: int = logging.INFO) -> None:
    """Send this process's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("grpc", "alembic", "sqlalchemy", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log(event: str, level: int = logging.INFO, **fields: str | float) -> None:
    """Write one structured line; fields outside the safe list are dropped (2)."""
    logging.getLogger(_NAME).log(level, event, extra={"fields": fields})
