"""Instants as the ledger keeps them, and the calendar windows that quotas count over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from policy.standing import Window

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LONGER_THAN_A_MONTH: Final = timedelta(days=32)


def to_us(moment: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return the instant that is so many microseconds after 1970."""
    return _EPOCH + microseconds * _MICROSECOND


def window_of(window: Window, at: datetime) -> tuple[int, int]:
    """Return the calendar window (UTC) that ``at`` falls in: its first microsecond, and its end."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if window is Window.DAY:
        return to_us(day), to_us(day + timedelta(days=1))
    first = day.replace(day=1)
    return to_us(first), to_us((first + _LONGER_THAN_A_MONTH).replace(day=1))
