"""Reviews, requests, decisions, details and recalls: bytes to models and back.

The rules are those of the package (``trust.wire``). These messages and their models have the same
fields by name, so one mapping serves them all: times, enumerations, nested messages and lists are
converted by what the protocol declares. A model refuses what its field does not allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from probegate.common.v1 import search_pb2, second_step_pb2

from trust import second_step
from trust.errors import Reason
from trust.messages import Model, Person
from trust.wire.base import checked, moment, parse, timestamp
from trust.wire.searching import person_from_wire, person_to_wire

_Model = TypeVar("_Model", bound=Model)

_MESSAGES: Final[Mapping[type[Model], tuple[type[Message], Reason]]] = MappingProxyType(
    {
        second_step.Review: (second_step_pb2.Review, Reason.REVIEW_INVALID),
        second_step.ImageRequest: (second_step_pb2.ImageRequest, Reason.REVIEW_INVALID),
        second_step.CandidateImage: (second_step_pb2.CandidateImage, Reason.RESULT_INVALID),
        second_step.DisclosureRequest: (
            second_step_pb2.DisclosureRequest,
            Reason.DISCLOSURE_INVALID,
        ),
        second_step.DisclosureFacts: (second_step_pb2.DisclosureFacts, Reason.DISCLOSURE_INVALID),
        second_step.ReleaseDecision: (second_step_pb2.ReleaseDecision, Reason.RESULT_INVALID),
        second_step.Disclosure: (second_step_pb2.Disclosure, Reason.RESULT_INVALID),
        second_step.WrongMatch: (second_step_pb2.WrongMatch, Reason.NOTICE_INVALID),
        second_step.Recall: (second_step_pb2.Recall, Reason.NOTICE_INVALID),
        second_step.RecallAcknowledgement: (
            second_step_pb2.RecallAcknowledgement,
            Reason.NOTICE_INVALID,
        ),
        second_step.ReviewerRevocation: (
            second_step_pb2.ReviewerRevocation,
            Reason.NOTICE_INVALID,
        ),
        second_step.Corroboration: (second_step_pb2.Corroboration, Reason.NOTICE_INVALID),
    }
)


def encode(model: Model) -> bytes:
    """Encode a message of the second step into the payload bytes that are signed or sealed."""
    kind, _ = _MESSAGES[type(model)]
    return _to_wire(model, kind()).SerializeToString(deterministic=True)


def decode(kind: type[_Model], payload: bytes) -> _Model:
    """Decode the payload of a verified envelope, or what was sealed.

    Raises:
        ProbegateError: the message's own reason, with the field's name.
    """
    sent, reason = _MESSAGES[kind]
    message = parse(sent, payload, reason)
    return checked(reason, lambda: kind.model_validate(_from_wire(message)))


def opinion_to_wire(opinion: second_step.Opinion) -> second_step_pb2.Opinion.ValueType:
    """Encode an opinion."""
    return second_step_pb2.Opinion.Value(f"OPINION_{opinion.name}")


def opinion_from_wire(number: int) -> second_step.Opinion:
    """Decode an opinion; an unknown one is a ``ValueError``."""
    name = second_step_pb2.Opinion.Name(number)  # type: ignore[arg-type]
    return second_step.Opinion(name.removeprefix("OPINION_").lower())


# --- models to messages ----------------------------------------------------------------------


def _to_wire(model: Model, message: Message) -> Message:
    for field in message.DESCRIPTOR.fields:
        value = getattr(model, field.name)
        if isinstance(value, tuple):
            getattr(message, field.name).extend(_one_to_wire(one, field) for one in value)
        elif field.message_type is not None:
            if value is not None:
                getattr(message, field.name).CopyFrom(_one_to_wire(value, field))
        else:
            setattr(message, field.name, _one_to_wire(value, field))
    return message


def _one_to_wire(value: Any, field: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Person):
        return person_to_wire(value)
    if isinstance(value, Model):
        return _to_wire(value, GetMessageClass(field.message_type)())
    if isinstance(value, StrEnum) and field.enum_type is not None:
        return field.enum_type.values_by_name[f"{_prefix(field)}{value.name}"].number
    return value


# --- messages to models ----------------------------------------------------------------------


def _from_wire(message: Message) -> dict[str, Any]:
    """Return a message's fields; what is not set, or has no name, is left out."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = tuple(_one_from_wire(one, field) for one in value)
        elif field.message_type is not None:
            if message.HasField(field.name):
                found[field.name] = _one_from_wire(value, field)
        elif field.enum_type is not None:
            if value:  # the zero of every enumeration is never sent
                found[field.name] = _one_from_wire(value, field)
        else:
            found[field.name] = value
    return found


def _one_from_wire(value: Any, field: Any) -> Any:
    if isinstance(value, Timestamp):
        return moment(value)
    if isinstance(value, search_pb2.Person):
        return person_from_wire(value)
    if isinstance(value, Message):
        return _from_wire(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        if known is None:
            raise ValueError(field.name)
        return known.name.removeprefix(_prefix(field)).lower()
    return value


def _prefix(field: Any) -> str:
    """Return what the names of an enumeration's values begin with (buf's STANDARD)."""
    words = "".join(f"_{c}" if c.isupper() else c for c in field.enum_type.name)
    return f"{words.lstrip('_').upper()}_"
