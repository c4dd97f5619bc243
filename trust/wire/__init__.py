"""Between the signed payloads' exact bytes and the frozen models of ``trust.messages``.

Rules:

1. A payload is decoded only after its envelope verified, and is never encoded again to verify.
2. Bytes that do not parse, or parse into a model that refuses them, become one catalogued error
   that names the first offending field and never repeats its content.
3. Fields this version does not know are refused: what is not understood cannot be decided on.

``base`` has what all share, ``searching`` the first step (order to result), ``second_step`` what
follows it (reviews, releases, recalls).
"""

from __future__ import annotations

from trust.wire.base import (
    checked,
    envelope_from_bytes,
    envelope_from_wire,
    envelope_to_bytes,
    envelope_to_wire,
    moment,
    parse,
    timestamp,
)
from trust.wire.searching import (
    decode_confirmation,
    decode_grant,
    decode_links,
    decode_order,
    decode_probe,
    decode_report,
    decode_result,
    decode_statement,
    encode_confirmation,
    encode_grant,
    encode_links,
    encode_order,
    encode_probe,
    encode_report,
    encode_result,
    encode_statement,
    expected_from_wire,
    expected_to_wire,
    obligations_from_wire,
    obligations_to_wire,
    order_from_wire,
    order_to_wire,
    outcome_from_wire,
    outcome_to_wire,
    person_from_wire,
    person_to_wire,
    state_from_wire,
)
from trust.wire.second_step import decode, encode, opinion_from_wire, opinion_to_wire

__all__ = [
    "checked",
    "decode",
    "decode_confirmation",
    "decode_grant",
    "decode_links",
    "decode_order",
    "decode_probe",
    "decode_report",
    "decode_result",
    "decode_statement",
    "encode",
    "encode_confirmation",
    "encode_grant",
    "encode_links",
    "encode_order",
    "encode_probe",
    "encode_report",
    "encode_result",
    "encode_statement",
    "envelope_from_bytes",
    "envelope_from_wire",
    "envelope_to_bytes",
    "envelope_to_wire",
    "expected_from_wire",
    "expected_to_wire",
    "moment",
    "obligations_from_wire",
    "obligations_to_wire",
    "opinion_from_wire",
    "opinion_to_wire",
    "order_from_wire",
    "order_to_wire",
    "outcome_from_wire",
    "outcome_to_wire",
    "parse",
    "person_from_wire",
    "person_to_wire",
    "state_from_wire",
    "timestamp",
]
