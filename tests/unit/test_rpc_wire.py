"""Bytes from strangers: every decoder answers with a catalogued error or a value, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probegate.broker.v1 import search_service_pb2
from probegate.common.v1 import search_pb2

from agency_adapters import wire as adapter_wire
from audit.checkpoints import open_checkpoint
from audit.leaves import parse_leaf
from audit.notes import SignatureType, VerifierKey
from audit.proofs import parse_proof
from broker import wire as broker_wire
from tests.scale import scaled
from tests.world import Request, World, copied_examples
from trust import dsse
from trust.errors import ERROR_DOMAIN, ProbegateError, Reason
from trust.messages import MatchReport, OutcomeState, SearchOrder
from trust.rpc import catalogued, to_status
from trust.wire import (
    decode_grant,
    decode_order,
    decode_probe,
    decode_report,
    decode_result,
    encode_order,
    encode_report,
    envelope_from_bytes,
    order_from_wire,
)

KEY = VerifierKey("broker.example/search", SignatureType.ED25519, bytes(range(32)))
Decoder = Callable[[bytes], object]
DECODERS: dict[str, Decoder] = {
    "order": decode_order,
    "grant": decode_grant,
    "report": decode_report,
    "result": decode_result,
    "probe": decode_probe,
    "envelope": envelope_from_bytes,
    "envelope as JSON": dsse.Envelope.from_json,
    "leaf": parse_leaf,
    "checkpoint": lambda data: open_checkpoint(data, [KEY]),
    "receipt": lambda data: parse_proof(data.decode("utf-8", "replace")),
    "dossier": adapter_wire.decode_dossier,
    "reply": broker_wire.decode_reply,
    "description": broker_wire.decode_description,
}
MESSAGES: dict[str, type[Message]] = {
    "order": search_pb2.SearchOrder,
    "grant": search_pb2.SearchGrant,
    "report": search_pb2.MatchReport,
    "result": search_pb2.SearchResult,
    "probe": search_pb2.ProbePayload,
}


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> SearchOrder:
    root: Path = tmp_path_factory.mktemp("scheme")
    world = World.make(root, agreements=copied_examples(root / "agreements"))
    return Request(world).order()


def only_catalogued(decode: Decoder, data: bytes) -> None:
    refused = None
    try:
        decode(data)
    except ProbegateError as error:
        refused = error
    if refused is not None:
        assert refused.reason is not Reason.UNEXPECTED
        assert all(len(value) <= 64 for value in refused.metadata.values())
        assert to_status(refused).details == refused.public_message


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=300))
@settings(max_examples=scaled(60, 4_000), deadline=None)
def test_any_bytes(name: str, data: bytes) -> None:
    only_catalogued(DECODERS[name], data)


text = st.text(max_size=12) | st.sampled_from(["custody", "Jane Smith", "2026-02-30", "\x00"])
integer = st.integers(-(2**31), 2**31 - 1)
unsigned = st.integers(0, 2**32 - 1)


def value_of(field: Any, depth: int) -> st.SearchStrategy[object]:
    """Return what protobuf lets a stranger put into one field."""
    kind = field.type
    if kind == field.TYPE_MESSAGE:
        return message_of(field.message_type, depth + 1)
    return {
        field.TYPE_STRING: text,
        field.TYPE_BYTES: st.binary(max_size=40),
        field.TYPE_BOOL: st.booleans(),
        field.TYPE_DOUBLE: st.floats(),
        field.TYPE_FLOAT: st.floats(width=32),
        field.TYPE_ENUM: st.integers(-3, 30),
        field.TYPE_INT32: integer,
        field.TYPE_UINT32: unsigned,
        field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.TYPE_UINT64: st.integers(0, 2**64 - 1),
    }[kind]


def message_of(descriptor: Any, depth: int = 0) -> st.SearchStrategy[dict[str, object]]:
    """Return any message of a type, as the fields that are set."""
    fields = {}
    for field in descriptor.fields:
        one = value_of(field, depth)
        fields[field.name] = st.lists(one, max_size=3) if field.is_repeated else one
    return st.fixed_dictionaries({}, optional=fields)


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
@settings(
    max_examples=scaled(60, 4_000), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_any_well_formed_message(name: str, data: st.DataObject) -> None:
    kind = MESSAGES[name]
    made = kind(**data.draw(message_of(kind.DESCRIPTOR)))
    only_catalogued(DECODERS[name], made.SerializeToString())


@given(data=st.data())
@settings(max_examples=scaled(100, 4_000), deadline=None)
def test_a_good_order_with_one_field_changed(order: SearchOrder, data: st.DataObject) -> None:
    message = search_pb2.SearchOrder.FromString(encode_order(order))
    inside = [message, message.officer, message.justification, message.probe, message.limits]
    target = data.draw(st.sampled_from(inside))
    field: Any = data.draw(st.sampled_from(list(target.DESCRIPTOR.fields)))
    target.ClearField(field.name)
    target.MergeFrom(type(target)(**{field.name: data.draw(_of_field(field))}))
    only_catalogued(decode_order, message.SerializeToString())


def _of_field(field: Any) -> st.SearchStrategy[object]:
    one = value_of(field, 0)
    return st.lists(one, max_size=3) if field.is_repeated else one


@pytest.mark.parametrize(
    ("where", "field", "content"),
    [
        ("officer", "accreditation_expires", "Jane Smith"),
        ("officer", "accreditation_expires", "20260101T00"),
        ("probe", "encoding", "Jane Smith"),
        ("officer", "rank", "Jane Smith\x00"),
        ("justification", "case_reference", "Jane\nSmith"),
        ("justification", "necessity", "Jane Smith\x07"),
    ],
)
def test_a_refusal_names_the_field_and_never_its_content(
    order: SearchOrder, where: str, field: str, content: str
) -> None:
    message = search_pb2.SearchOrder.FromString(encode_order(order))
    setattr(getattr(message, where), field, content)
    decoders: tuple[Callable[[], object], ...] = (
        lambda: decode_order(message.SerializeToString()),
        lambda: order_from_wire(message),
    )
    for decode in decoders:
        with pytest.raises(ProbegateError) as raised:
            decode()
        assert raised.value.reason is Reason.ORDER_INVALID
        said = raised.value.line() + repr(raised.value.metadata)
        assert content not in said
        assert "Smith" not in said
        assert raised.value.metadata["field"].replace(".", "").replace("_", "").isalnum()


@pytest.mark.parametrize("depth", ["top", "inside"])
def test_fields_that_are_not_known_are_refused_at_any_depth(order: SearchOrder, depth: str) -> None:
    unknown = b"\xf8\x7f\x01"  # field 2047, a varint
    payload = encode_order(order)
    if depth == "top":
        payload += unknown
    else:
        message = search_pb2.SearchOrder.FromString(payload)
        message.officer.MergeFromString(unknown)
        payload = message.SerializeToString()
    with pytest.raises(ProbegateError) as raised:
        decode_order(payload)
    assert raised.value.metadata == {"field": "unknown"}


@given(
    scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5, unique=True),
    seconds=st.integers(-60, 60),
)
@settings(max_examples=scaled(50, 5000), deadline=None)
def test_an_honest_report_comes_back_as_it_was(scores: list[float], seconds: int) -> None:
    ranked = sorted(scores, reverse=True)
    report = MatchReport(
        search_id="00000000-0000-4000-8000-000000000000",
        agency="custody",
        order_sha256=bytes(32),
        grant_sha256=bytes(32),
        state=OutcomeState.CANDIDATES if scores else OutcomeState.NO_CANDIDATE,
        candidates=tuple(
            {"reference": f"r{rank}", "score": score, "rank": rank}
            for rank, score in enumerate(ranked, 1)
        ),
        reported_at=datetime.now(UTC) + timedelta(seconds=seconds),
    )
    assert decode_report(encode_report(report)) == report


def test_too_many_probes_are_refused_before_they_are_read() -> None:
    request = search_service_pb2.CreateSearchRequest(
        probes=[search_pb2.SealedProbe(agency="a")] * 65
    )
    with pytest.raises(ProbegateError) as raised:
        broker_wire.create_params(request)
    assert raised.value.metadata == {"field": "probes"}


@given(st.binary(max_size=50))
def test_the_unforeseen_leaves_as_one_sentence(data: bytes) -> None:
    failure = catalogued(ValueError(data), "test")
    status = to_status(failure)
    assert failure.reason is Reason.UNEXPECTED
    assert status.details == Reason.UNEXPECTED.entry.message
    (_, details) = status.trailing_metadata[0]
    assert ERROR_DOMAIN.encode() in details
