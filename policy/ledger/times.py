"""The calendar windows that quotas count over, in instants as the ledger keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from policy.standing import Window
from trust.clock import to_us

_LONGER_THAN_A_MONTH: Final = timedelta(days=32)


def window_of(window: Window, at: datetime) -> tuple[int, int]:
    """Return the calendar window (UTC) that ``at`` falls in: its first microsecond, and its end."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if window is Window.DAY:
        return to_us(day), to_us(day + timedelta(days=1))
    first = day.replace(day=1)
    return to_us(first), to_us((first + _LONGER_THAN_A_MONTH).replace(day=1))
