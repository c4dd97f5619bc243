"""How many false candidates a search is expected to yield, before it is made.

1. What an agency states is believed only under its own signature, made now, and kept in memory with
   the instant it came: an hour later it says nothing any more.
2. Nothing is expected without a calibration that is in force, and nothing for a quality of probe
   that the agency states nothing about.
3. Between two thresholds that are stated the lower one counts, where more false candidates are
   expected: the number is never too low. Below the lowest one nothing is stated.
4. The expected numbers of several agencies add up. So are the ends of their intervals added, which
   makes the sum's interval wider than it need be, on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker import wire
from broker.models import AgencyDecision
from broker.stated import StatedCapabilities
from trust import dsse
from trust.directory import Directory, KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import ExpectedFalse, SearchOrder
from trust.payload_types import PayloadType

STATED_FOR: Final = timedelta(hours=1)
"""How long after it came a statement of an agency still counts."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A verified statement and when it came."""

    stated: StatedCapabilities
    at: datetime

    def expected(self, quality: int, threshold: float, now: datetime) -> ExpectedFalse | None:
        """Return what is expected of a probe at a threshold (2) (3), or None."""
        expires = self.stated.calibration_expires_at
        if now - self.at > STATED_FOR or expires is None or expires <= now:  # (1) (2)
            return None
        for band in self.stated.bands:
            if band.quality_from <= quality <= band.quality_to:
                below = [one for one in band.at if one.score <= threshold]
                return below[-1].expected_false if below else None  # (3)
        return None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of a whole search.

    Attributes:
        by_agency: of each permitted agency that states it.
        total: of all of them; None if none states it.
        without: the permitted agencies that state nothing.
    """

    by_agency: dict[str, ExpectedFalse]
    total: ExpectedFalse | None
    without: tuple[str, ...]


def heard_of(
    envelope: Envelope, agency: str, directory: Directory, now: datetime, skew: timedelta
) -> Heard:
    """Verify what an agency states of itself (1).

    Raises:
        ProbegateError: ``OUTCOME_INVALID``, ``ENVELOPE_INVALID``, ``ENVELOPE_TAMPERED`` or what is
            wrong with the key.
    """
    dsse.verify(envelope, PayloadType.CAPABILITIES, directory.resolver(agency, KeyUse.SIGN, now))
    stated = wire.decode_capabilities(envelope.payload)
    if stated.agency != agency:
        raise ProbegateError(Reason.OUTCOME_INVALID, "of another agency", field="agency")
    if not now - STATED_FOR <= stated.stated_at <= now + skew:
        raise ProbegateError(Reason.OUTCOME_INVALID, "not of this moment", field="stated_at")
    return Heard(stated, now)


def expectation_of(
    order: SearchOrder,
    decisions: Iterable[AgencyDecision],
    heard: dict[str, Heard],
    now: datetime,
) -> Expectation:
    """Return what the permitted agencies together are expected to yield (4).

    The threshold at each is the higher of the order's and the agreement's.
    """
    by_agency: dict[str, ExpectedFalse] = {}
    without = []
    for decision in decisions:
        if not decision.permitted or decision.obligations is None:
            continue
        asked, agreed = order.limits.min_score, decision.obligations.min_score
        threshold = agreed if asked is None else max(asked, agreed)
        known = heard.get(decision.agency)
        expected = known.expected(order.probe.quality, threshold, now) if known else None
        if expected is None:
            without.append(decision.agency)
        else:
            by_agency[decision.agency] = expected
    stated = by_agency.values()
    total = ExpectedFalse(
        expected=sum(one.expected for one in stated),
        low=sum(one.low for one in stated),
        high=sum(one.high for one in stated),
    )
    return Expectation(by_agency, total if by_agency else None, tuple(without))
