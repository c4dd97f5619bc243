"""JSON read without leniency and written canonically (RFC 8785).

Two readers of one signed text must see the same thing, so a repeated object key, a number that
JSON does not have (``NaN``) and text that is not UTF-8 are all refused.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import rfc8785


def parse(text: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not one JSON text in UTF-8, repeats a key, holds ``NaN``, an infinity
            or a number beyond every float,
            or nests too deeply.
    """
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 form of a JSON value.

    Raises:
        ValueError: the value has no canonical form.
    """
    return rfc8785.dumps(value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object repeats a key")
    return result


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        _refuse(number[:20])
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
