"""What is counted of the second step: reviews, requests for details, wrong matches and recalls.

1. A search counts in the month in which its reviews were settled, once, as it was settled last.
2. A request for details counts in the month in which it was recorded, with what became of it.
3. The broker's log tells of them; an agency's own entries are counted as the agency's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from audit import kinds

Cells = Counter[tuple[str, str]]

WITH: Final = "with a potential candidate"
WITHOUT: Final = "without one"
SETTLED: Final = (WITH, WITHOUT)
RELEASED: Final = "released"
WAITING: Final = "waiting"
LAPSED: Final = "not decided in time"
FATES: Final = (RELEASED, LAPSED, WAITING)
"""What became of a request, refusals with their reasons besides."""
THIRD: Final = "took another reviewer"
WRONG: Final = "wrong matches reported"
RECALLED: Final = "recalls"
ACKNOWLEDGED: Final = "recalls acknowledged"
WRONGS: Final = (WRONG, RECALLED, ACKNOWLEDGED)
REVIEWS: Final = "reviews"
FALSE_MATCHES: Final = "false matches"
RECALLS: Final = "recalls"
OF_AGENCIES: Final = frozenset(
    {
        kinds.IMAGES_SENT,
        kinds.RELEASE_REQUESTED,
        kinds.RELEASE_REJECTED,
        kinds.RELEASE_DECIDED,
        kinds.RECALL_ISSUED,
    }
)
"""Entries of an agency's search log that tell of the second step (3)."""


@dataclass(slots=True)
class SecondStep:
    """Exact counts while they are made, whatever the order in which entries come.

    Attributes:
        settled: searches whose reviews were settled: when, how, and whether two had disagreed.
        requested: requests for details: agency and month.
        ended: what became of those that ended; agency and month of the end, and the fate.
        wrong: wrong matches reported, by agency.
        recalls: who issued which recall.
        acknowledged: the recalls that were acknowledged.
        told: which of these things any entry told of.
    """

    settled: dict[str, tuple[str, str, bool]] = field(default_factory=dict)
    requested: dict[str, str] = field(default_factory=dict)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)
    wrong: Cells = field(default_factory=Cells)
    recalls: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)

    def take(self, month: str, said: Mapping[str, Any]) -> bool:
        """Count an entry of the broker's log if it is of the second step; say whether it was."""
        match said["type"]:
            case kinds.REVIEWED | kinds.REVIEW_REFUSED | kinds.REVOKED | kinds.CORROBORATED:
                self.told.add(REVIEWS)
            case kinds.SETTLED:
                self._settled(said)
            case kinds.DISCLOSURE_REQUESTED:
                self.requested[said["request_sha256"]] = f"{said['agency']} {month}"
            case kinds.DISCLOSURE_REFUSED | kinds.DISCLOSURE_DECIDED | kinds.DISCLOSURE_LAPSED:
                row = f"{said['agency']} {month}"
                self.ended[said["request_sha256"]] = (row, _fate(said))
            case kinds.DISCLOSURE_DELIVERED | kinds.IMAGES_REQUESTED:
                pass
            case kinds.WRONG_MATCH:
                self.told.add(FALSE_MATCHES)
                self.wrong[said["agency"], WRONG] += 1
            case kinds.RECALL_RECEIVED:
                self.told.add(RECALLS)
                self.recalls[said["recall_id"]] = said["agency"]
            case kinds.RECALL_ACKNOWLEDGED:
                self.acknowledged.add(said["recall_id"])
            case _:
                return False
        return True

    def _settled(self, said: Mapping[str, Any]) -> None:
        self.told.add(REVIEWS)
        how = WITH if said["counts"]["potential_candidate"] else WITHOUT
        now = (said["at"], how, bool(said["disagreement"]))
        self.settled[said["search_id"]] = max(now, self.settled.get(said["search_id"], now))  # (1)

    def by_month(self) -> Cells:
        """Return the searches that were settled, by month and how."""
        return Counter((at[:7], how) for at, how, _ in self.settled.values())

    def third_reviews(self) -> Cells:
        """Return how many of them took another reviewer, by month."""
        again = (at[:7] for at, _, disagreed in self.settled.values() if disagreed)
        return Counter((month, THIRD) for month in again)

    def fates(self) -> Cells:
        """Return the requests, by agency and month and what became of them (2)."""
        digests = self.requested.keys() | self.ended.keys()
        return Counter(self._fate_of(digest) for digest in digests)

    def _fate_of(self, digest: str) -> tuple[str, str]:
        row, fate = self.ended.get(digest, ("", WAITING))
        return self.requested.get(digest, row), fate

    def wrongs(self) -> Cells:
        """Return wrong matches, recalls and acknowledgements, by agency."""
        counts = self.wrong.copy()
        for recall, agency in self.recalls.items():
            counts[agency, RECALLED] += 1
            counts[agency, ACKNOWLEDGED] += recall in self.acknowledged
        return counts


def _fate(said: Mapping[str, Any]) -> str:
    if said["type"] == kinds.DISCLOSURE_LAPSED:
        return LAPSED
    if said["type"] == kinds.DISCLOSURE_DECIDED and said["state"] == RELEASED:
        return RELEASED
    return f"refused, {said['reason']}"
