"""The one place that reads the wall clock, and how a database keeps what it said.

Everything else is told the time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

Clock = Callable[[], datetime]
"""Anything that says what time it is, as an aware UTC ``datetime``."""
MAX_CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far ahead of this process's clock an honest signer's may be."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return the instant that is so many microseconds after 1970."""
    return _EPOCH + microseconds * _MICROSECOND
