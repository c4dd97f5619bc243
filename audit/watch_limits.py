"""From where on something is a misuse signal, and what watching finds.

The limits are defaults for a federation of police forces, to be set by whoever watches: too low and
nobody reads the signals, too high and there are none.
"""

from __future__ import annotations

from dataclasses import dataclass

from audit.signals import Signal


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota whose edge is watched: the agency, its counter (``officer.day``), and its most."""

    agency: str
    counter: str
    most: int


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is signalled.

    Attributes:
        probe_searches: searches of one probe.
        case_officers: officers of one case.
        within_days: a probe or case not searched for so long begins anew.
        searches_min: fewer searches of an officer or force are not compared.
        times: how often at a quota's edge, or denied for it.
        unconfirmed: urgent searches of an officer that nobody confirmed in time; of a force, that
            and ``unconfirmed_share`` of its urgent ones.
        unconfirmed_share: which part.
        share_times: how often out of hours, urgent or boilerplate before shares are compared.
        edge: from which part of a quota on it is its edge.
        opens: the hour at which office hours begin.
        closes: the hour at which they end.
        zone: where; Saturdays and Sundays are out of hours.
        quotas: whose edges are watched.
    """

    probe_searches: int = 4
    case_officers: int = 4
    within_days: int = 31
    searches_min: int = 10
    times: int = 3
    unconfirmed: int = 2
    unconfirmed_share: float = 0.2
    share_times: int = 5
    edge: float = 0.9
    opens: int = 7
    closes: int = 19
    zone: str = "Europe/London"
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True)
class Watched:
    """What was found.

    Attributes:
        signals: the leads, gravest kinds in the catalogue's order.
        searches: how many searches were looked at.
        opened: of how many the officer was known.
        asked_values: whether values were to be opened at all.
        not_judged: what could not be compared, and why.
    """

    signals: tuple[Signal, ...]
    searches: int
    opened: int
    asked_values: bool
    not_judged: tuple[str, ...]
