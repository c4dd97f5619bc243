"""What every message shares on its way between bytes and models: parsing, times, envelopes.

The rules are those of the package (``trust.wire``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from probegate.common.v1 import envelope_pb2
from pydantic import ValidationError

from trust.dsse import Envelope, Signature
from trust.errors import ProbegateError, Reason

_Made = TypeVar("_Made")
_Sent = TypeVar("_Sent", bound=Message)

_FIELD: Final = re.compile(r"[a-z0-9_.]{1,64}")
_NANOS_PER_SECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(moment: datetime) -> Timestamp:
    """Encode an aware datetime, microseconds kept."""
    delta = moment - _EPOCH
    return Timestamp(
        seconds=delta.days * 86_400 + delta.seconds,
        nanos=delta.microseconds * 1000,
    )


def moment(stamp: Timestamp) -> datetime:
    """Decode a timestamp; out of range is a ``ValueError``."""
    if not 0 <= stamp.nanos < _NANOS_PER_SECOND:
        raise ValueError("nanos")
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError as error:
        raise ValueError("seconds") from error


def parse(kind: type[_Sent], payload: bytes, reason: Reason) -> _Sent:
    """Parse bytes into a message (2), refusing unknown fields at any depth (3)."""
    try:
        message = kind.FromString(payload)
    except DecodeError as error:
        raise ProbegateError(reason, "the bytes do not parse", field="payload") from error
    if _has_unknown(message):
        raise ProbegateError(reason, "unknown fields are refused", field="unknown")
    return message


def _has_unknown(message: Message) -> bool:
    # The library discards unknown fields at every depth, in C; any there were had a length.
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() != size


def checked(reason: Reason, make: Callable[[], _Made]) -> _Made:
    """Run ``make``; what a model refuses becomes ``reason`` with the first field's name (2)."""
    try:
        return make()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        field = place or first["msg"].removeprefix("Value error, ")
        raise ProbegateError(reason, first["type"], field=field) from None
    except ValueError as error:
        said = str(error)  # a field's name from us, or a library's words, which may repeat content
        field = said if _FIELD.fullmatch(said) else "payload"
        raise ProbegateError(reason, field=field) from None


# --- envelopes -------------------------------------------------------------------------------


def envelope_to_wire(envelope: Envelope) -> envelope_pb2.Envelope:
    """Encode an envelope for gRPC; on disk it is DSSE JSON instead."""
    return envelope_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        signatures=[
            envelope_pb2.Signature(key_id=s.keyid, signature=s.sig) for s in envelope.signatures
        ],
    )


def envelope_from_wire(message: envelope_pb2.Envelope) -> Envelope:
    """Decode an envelope; nothing is verified yet."""
    return Envelope(
        payload_type=message.payload_type,
        payload=message.payload,
        signatures=tuple(Signature(s.key_id, s.signature) for s in message.signatures),
    )


def envelope_to_bytes(envelope: Envelope) -> bytes:
    """Encode an envelope for storage beside the log."""
    return envelope_to_wire(envelope).SerializeToString()


def envelope_from_bytes(data: bytes) -> Envelope:
    """Decode a stored envelope.

    Raises:
        ProbegateError: ``ENVELOPE_INVALID``.
    """
    return envelope_from_wire(parse(envelope_pb2.Envelope, data, Reason.ENVELOPE_INVALID))
