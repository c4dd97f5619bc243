"""Log entries: RFC 8785 JSON that holds no personal data, only digests and commitments.

A field whose value is personal is logged as a salted commitment, and its value and salt live in
the side store beside the log. Erasing them leaves 32 bytes from which nothing can be guessed; the
log still verifies (docs/verify/README.md has the format).

    commitment = SHA-256("probegate/commit/v1" 0x00 || u32be(len(field)) || field || salt[32]
                         || RFC 8785 value)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

import orjson
import rfc8785

from audit.settings import LEAF_MAX_BYTES
from trust.errors import ProbegateError, Reason

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

COMMITMENTS: Final = "commitments"
SALT_BYTES: Final = 32
_DOMAIN: Final = b"probegate/commit/v1\x00"
_COMMITMENT: Final = re.compile(r"[0-9a-f]{64}")
_INTEGER_MAX: Final = 2**53 - 1
_LAST_BMP: Final = "\uffff"
_SCALARS: Final = frozenset({str, bool, type(None)})
_PLAIN_MAX: Final = 2**18
"""Values that are looked at for the fast way; a cycle has more, and the slow way refuses it."""
_is_ascii: Final = str.isascii


@dataclass(frozen=True, slots=True)
class PrivateValue:
    """What the side store keeps of one field: its canonical value and its salt."""

    field: str
    value: bytes
    salt: bytes


def canonical(value: JsonValue) -> bytes:
    """Return RFC 8785 bytes.

    Raises:
        ProbegateError: TEXT_INVALID for what JSON cannot say exactly (lone surrogates, NaN,
            integers beyond 2**53, other types).
    """
    try:
        # orjson writes the same bytes for everything but floats and keys beyond the basic plane, at
        # a hundredth of the cost. What it does not take (deep nesting), the slow way decides about.
        if _is_plain(value):
            try:  # suppress() is dear where a lone append comes by
                return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            except orjson.JSONEncodeError:
                pass
        return rfc8785.dumps(_thawed(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise ProbegateError(
            Reason.TEXT_INVALID, detail=f"not canonical JSON: {type(error).__name__}"
        ) from None


def _is_plain(value: object) -> bool:
    """Whether orjson writes a value canonically; TypeError for a key that is no text.

    One loop over what containers hold, without a call each: this is much of an append's price.
    """
    held: list[Any] = [value]
    for one in held:  # it grows while it is read
        kind = type(one)
        if kind in _SCALARS:
            continue
        if kind is int:
            if not -_INTEGER_MAX <= one <= _INTEGER_MAX:
                return False
            continue
        if kind is dict:
            for key in one:
                # ASCII is the common case, and known without looking at each character.
                if not _is_ascii(key) and max(key) > _LAST_BMP:
                    return False
            held += one.values()
        elif kind is list or kind is tuple:
            held += one
        else:
            return False
        if len(held) > _PLAIN_MAX:
            return False
    return True


def _thawed(value: JsonValue) -> rfc8785._impl._Value:
    if isinstance(value, Mapping):
        return {key: _thawed(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_thawed(one) for one in value]
    return value


def stamp(moment: datetime) -> str:
    """Return how an entry says an instant: ISO 8601, microseconds kept."""
    return moment.isoformat(timespec="microseconds")


def commitment(field: str, salt: bytes, value: bytes) -> str:
    """Return the commitment to a field's canonical value, as 64 hexadecimal digits."""
    name = field.encode()
    return sha256(_DOMAIN + len(name).to_bytes(4, "big") + name + salt + value).hexdigest()


def build_leaf(
    facts: Mapping[str, JsonValue], private: Mapping[str, JsonValue]
) -> tuple[bytes, tuple[PrivateValue, ...]]:
    """Return the leaf's bytes, and what of ``private`` belongs in the side store.

    Raises:
        ProbegateError: TEXT_INVALID if a value has no canonical form or ``facts`` brings its own
            commitments; MESSAGE_TOO_LARGE if the leaf is longer than 65,535 bytes.
    """
    if COMMITMENTS in facts:
        raise ProbegateError(Reason.TEXT_INVALID, detail="commitments are computed", field="leaf")
    kept: tuple[PrivateValue, ...] = ()
    if private:
        salts = os.urandom(SALT_BYTES * len(private))
        kept = tuple(
            PrivateValue(field, canonical(value), salts[at : at + SALT_BYTES])
            for at, (field, value) in zip(
                range(0, len(salts), SALT_BYTES), private.items(), strict=True
            )
        )
        committed = {one.field: commitment(one.field, one.salt, one.value) for one in kept}
        facts = {**facts, COMMITMENTS: committed}
    leaf = canonical(facts)
    if len(leaf) > LEAF_MAX_BYTES:
        raise ProbegateError(Reason.MESSAGE_TOO_LARGE, field="leaf")
    return leaf, kept


def parse_leaf(leaf: bytes) -> dict[str, JsonValue]:
    """Read a leaf.

    Raises:
        ProbegateError: LOG_CORRUPT unless it is an object in canonical form whose commitments, if
            any, are 64 hexadecimal digits each.
    """
    try:
        facts = json.loads(leaf)
        exact = isinstance(facts, dict) and canonical(facts) == leaf
    except (ValueError, RecursionError, ProbegateError):
        exact = False
    if not exact:
        raise ProbegateError(Reason.LOG_CORRUPT, detail="an entry is not canonical JSON")
    commitments = facts.get(COMMITMENTS, {})
    if not isinstance(commitments, dict) or not all(
        isinstance(one, str) and _COMMITMENT.fullmatch(one) for one in commitments.values()
    ):
        raise ProbegateError(Reason.LOG_CORRUPT, detail="an entry's commitments are malformed")
    parsed: dict[str, JsonValue] = facts
    return parsed


def verify_commitment(leaf: bytes, field: str, salt: bytes, value: JsonValue) -> None:
    """Check that ``leaf`` commits to ``value`` for ``field`` under ``salt`` (32 bytes).

    Raises:
        ProbegateError: LOG_PROOF_INVALID if it does not; LOG_CORRUPT if the leaf is malformed.
    """
    commitments = parse_leaf(leaf).get(COMMITMENTS, {})
    said = commitments.get(field) if isinstance(commitments, Mapping) else None
    expected = commitment(field, salt, canonical(value))
    if (
        len(salt) != SALT_BYTES
        or not isinstance(said, str)
        or not compare_digest(said.encode(), expected.encode())
    ):
        raise ProbegateError(Reason.LOG_PROOF_INVALID, detail="the value is not the one committed")
