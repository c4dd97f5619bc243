"""Officers and forces beside their peers: how much, when, how urgently and with what reasons."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from audit.peers import DEVIATIONS, PEERS_MIN, Far, far_counts, far_shares
from audit.signals import ENTRIES_MAX, About, Kind, Signal
from audit.watch_limits import Limits

SEARCHES: Final = "searches"
OUT_OF_HOURS: Final = "out of hours"
BOILERPLATE: Final = "boilerplate"
URGENT: Final = "urgent"
QUOTA_DENIED: Final = "denied for a quota"
UNCONFIRMED: Final = "unconfirmed"
_SHARES: Final = {
    OUT_OF_HOURS: Kind.OUT_OF_HOURS,
    BOILERPLATE: Kind.BOILERPLATE,
    URGENT: Kind.URGENT_OFTEN,
}
Numbers = Mapping[str, float | int | str]


@dataclass(slots=True)
class Conduct:
    """How often an officer or a force did what, and the newest entries of each."""

    counts: Counter[str] = field(default_factory=Counter)
    entries: dict[str, deque[int]] = field(default_factory=dict)

    def note(self, what: str, index: int) -> None:
        """Count one."""
        self.counts[what] += 1
        self.entries.setdefault(what, deque(maxlen=ENTRIES_MAX)).append(index)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Those of one sort, side by side."""

    about: About
    ones: Mapping[str, Conduct]
    limits: Limits

    def signals(self) -> Iterator[Signal]:
        """Yield who stands out, and who did too often what should be rare."""
        yield from self._too_often()
        if len(self.ones) < PEERS_MIN:
            return
        if self.about is About.OFFICER:  # forces differ in size, so how much says nothing of them
            counts = {who: one.counts[SEARCHES] for who, one in self.ones.items()}
            limit = f"{DEVIATIONS} deviations above the median of {len(counts)} officers"
            for far in far_counts(counts, self.limits.searches_min):
                yield self._far(Kind.MANY_SEARCHES, far, limit, SEARCHES)
        shared = self._shared
        if len(shared) < PEERS_MIN:
            return
        limit = f"{DEVIATIONS} deviations above the usual share of {len(shared)} {self.about}s"
        for sign, kind in _SHARES.items():
            parts = {who: (one.counts[sign], one.counts[SEARCHES]) for who, one in shared.items()}
            for far in far_shares(parts, self.limits.share_times):
                yield self._far(kind, far, limit, sign)

    def not_judged(self) -> Iterator[str]:
        """Say what is not compared, and why."""
        few, shared = len(self.ones), len(self._shared)
        if 0 < few < PEERS_MIN:
            yield f"{self.about}s: {few}, too few to compare ({PEERS_MIN} needed)"
        elif few and shared < PEERS_MIN:
            yield (
                f"shares of {self.about}s: {shared} with {self.limits.searches_min} searches, too "
                f"few to compare ({PEERS_MIN} needed)"
            )

    @property
    def _shared(self) -> dict[str, Conduct]:
        least = self.limits.searches_min
        return {who: one for who, one in self.ones.items() if one.counts[SEARCHES] >= least}

    def _too_often(self) -> Iterator[Signal]:
        limits, officer = self.limits, self.about is About.OFFICER
        for who, one in self.ones.items():
            denied, missing = one.counts[QUOTA_DENIED], one.counts[UNCONFIRMED]
            urgent = one.counts[URGENT]
            if officer and denied >= limits.times:
                numbers = {"times": denied, SEARCHES: one.counts[SEARCHES]}
                yield self._signal(
                    Kind.QUOTA_DENIED, who, numbers, f"{limits.times} times", QUOTA_DENIED
                )
            least = limits.unconfirmed if officer else urgent * limits.unconfirmed_share
            if missing >= max(least, limits.unconfirmed):
                share = "" if officer else f" and {limits.unconfirmed_share:.0%} of the urgent"
                yield self._signal(
                    Kind.UNCONFIRMED,
                    who,
                    {"times": missing, URGENT: urgent},
                    f"{limits.unconfirmed} times{share}",
                    UNCONFIRMED,
                )

    def _far(self, kind: Kind, far: Far, limit: str, what: str) -> Signal:
        numbers: dict[str, float | int | str] = {SEARCHES: self.ones[far.who].counts[SEARCHES]}
        if what != SEARCHES:
            numbers |= {what: self.ones[far.who].counts[what], "share": far.value}
        numbers |= {"usual": far.usual, "deviations": far.distance}
        return self._signal(kind, far.who, numbers, limit, what)

    def _signal(self, kind: Kind, who: str, numbers: Numbers, limit: str, what: str) -> Signal:
        entries = tuple(self.ones[who].entries.get(what, ()))
        return Signal(kind, self.about, who, numbers, limit, entries)
