"""The one place that reads the wall clock; everything else is told the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

Clock = Callable[[], datetime]
"""Anything that says what time it is, as an aware UTC ``datetime``."""
MAX_CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far ahead of this process's clock an honest signer's may be."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
