"""What the broker remembers of an agency's availability, so that a dead one is not waited for.

An agency that *refuses* is alive: a refusal, a denial or a malformed answer clears the memory. Only
an *outage* (no connection, no answer in time) counts. After a few in a row the agency is left alone
for a pause that doubles each time, with jitter so that brokers do not return in step; a search in
that time gets its UNAVAILABLE outcome at once, with the reason.

Calls that were under way at once fail at once, and are not in a row: once one of them is counted,
only a call that began after that is. So a pause begins and doubles once, however many were waiting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from trust.errors import Reason

JITTER = (0.8, 1.4)
"""Factors between which each pause is drawn."""

_MOST_DOUBLINGS: Final = 32


def pause(asked: int, first_s: float, longest_s: float) -> timedelta:
    """Return how long to wait before an agency is asked again: it doubles, up to the longest."""
    return timedelta(seconds=min(first_s * 2 ** min(asked, _MOST_DOUBLINGS), longest_s))


@dataclass(slots=True)
class AgencyBackoff:
    """One agency's availability as the broker has seen it.

    Attributes:
        agency: the directory id.
        tolerated: outages in a row before the first pause.
        first: the first pause.
        longest: the longest pause.
    """

    agency: str
    tolerated: int
    first: timedelta
    longest: timedelta
    outages: int = 0
    counted: int = 0
    """How many outages were ever counted: what tells when a call began."""
    last_reason: Reason | None = None
    last_outage_at: datetime | None = None
    not_before: datetime | None = None
    _draw: random.Random = field(default_factory=random.SystemRandom, repr=False)

    def may_call(self, now: datetime) -> bool:
        """Whether the agency may be called now."""
        return self.not_before is None or now >= self.not_before

    def answered(self) -> None:
        """The agency answered or refused: either way it is alive."""
        self.outages = 0
        self.last_reason = self.last_outage_at = self.not_before = None

    def begun(self) -> int:
        """Return what tells, when a call that begins now has failed, whether it counts."""
        return self.counted

    def failed(self, reason: Reason, now: datetime, since: int | None = None) -> None:
        """No answer came, for ``reason``.

        Args:
            reason: how the call ended.
            now: when.
            since: what ``begun`` returned when it began; without it no other was under way.
        """
        if since is not None and since != self.counted:
            return
        self.counted += 1
        self.outages += 1
        self.last_reason = reason
        self.last_outage_at = now
        if self.outages >= self.tolerated:
            first_s, longest_s = self.first.total_seconds(), self.longest.total_seconds()
            alone = pause(self.outages - self.tolerated, first_s, longest_s)
            self.not_before = now + alone * self._draw.uniform(*JITTER)
