"""What reviewers together make of the candidates of a search: a pure function of their findings.

1. Only sittings that count are given: whoever was revoked is left out before.
2. A candidate needs as many people as the strictest agreement asks (``needed``, at least two). Two
   sittings of one person, however they are spelt, are one.
3. With fewer it is open. Once there are as many and all share one opinion, it is settled.
4. If they do not, there is a disagreement and one more person must review. After that the opinion
   that at least ``needed`` of them share stands; where none is, or more than one, it is
   inconclusive.
5. A search is settled when every candidate is. Before that no opinion is in what is returned.
6. The order of sittings does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trust.people import plain_id
from trust.second_step import Opinion, Review

MIN_NEEDED: Final = 2
"""Fewest people who must review, whatever an agreement says."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The candidates of one agency, as its report lists them."""

    agency: str
    report_sha256: bytes
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sitting:
    """What one person found, by agency, with the digests of the payloads that say so."""

    review_id: str
    reviews: Mapping[str, Review]
    sha256s: Mapping[str, bytes]

    @property
    def person(self) -> str:
        """Who it was, in the one form of the id."""
        return plain_id(next(iter(self.reviews.values())).reviewer.id)


@dataclass(frozen=True, slots=True)
class CandidateStanding:
    """What came of one candidate."""

    agency: str
    reference: str
    opinion: Opinion
    review_sha256s: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How the reviews of a search stand.

    Attributes:
        reviews: how many people's reviews count for every candidate.
        needed: how many people must review at least.
        open: whether another person must review.
        disagreement: whether as many as are needed reviewed a candidate and disagree.
        candidates: what came of every candidate; empty while anything is open (5).
        review_ids: the sittings that count, sorted.
    """

    reviews: int
    needed: int
    open: bool
    disagreement: bool
    candidates: tuple[CandidateStanding, ...]
    review_ids: tuple[str, ...]

    @property
    def settled(self) -> bool:
        """Whether there were candidates and nothing about them is open."""
        return bool(self.candidates)

    def of(self, agency: str, reference: str) -> CandidateStanding | None:
        """Return what came of a candidate; none while anything is open."""
        return next(
            (c for c in self.candidates if (c.agency, c.reference) == (agency, reference)), None
        )


def standing_of(listed: Sequence[Listed], needed: int, sittings: Iterable[Sitting]) -> Standing:
    """Return how the reviews of a search stand.

    Args:
        listed: the candidates of the search's result, in the order's sequence.
        needed: how many people the strictest of the agreements asks for.
        sittings: those that count (1).
    """
    needed = max(needed, MIN_NEEDED)
    counted = _one_a_person(sittings)
    heard = [
        (one, reference, _heard(one, reference, counted))
        for one in listed
        for reference in one.references
    ]
    opinions = [[opinion for opinion, _ in found] for _, _, found in heard]
    reviews = min((len(found) for found in opinions), default=0)
    is_open = any(_is_open(found, needed) for found in opinions)
    candidates = (
        ()
        if is_open
        else tuple(  # (5)
            CandidateStanding(
                agency=one.agency,
                reference=reference,
                opinion=_outcome([opinion for opinion, _ in found], needed),
                review_sha256s=tuple(sha256 for _, sha256 in found),
            )
            for one, reference, found in heard
        )
    )
    return Standing(
        reviews=reviews,
        needed=needed,
        open=is_open,
        disagreement=any(len(f) >= needed and len(set(f)) > 1 for f in opinions),
        candidates=candidates,
        review_ids=tuple(sitting.review_id for sitting in counted),
    )


def _one_a_person(sittings: Iterable[Sitting]) -> list[Sitting]:
    """Return one sitting for each person (2), in an order that is theirs alone (6)."""
    by_person: dict[str, Sitting] = {}
    for sitting in sorted(sittings, key=lambda one: one.review_id):
        by_person.setdefault(sitting.person, sitting)
    return sorted(by_person.values(), key=lambda one: one.review_id)


def _heard(one: Listed, reference: str, sittings: Iterable[Sitting]) -> list[tuple[Opinion, bytes]]:
    """Return the opinions on a candidate, of this very report, with their reviews' digests."""
    found = []
    for sitting in sittings:
        review = sitting.reviews.get(one.agency)
        if review is None or review.report_sha256 != one.report_sha256:
            continue
        opinion = review.opinion_on(reference)
        if opinion is not None:
            found.append((opinion, sitting.sha256s[one.agency]))
    return found


def _is_open(opinions: Sequence[Opinion], needed: int) -> bool:
    if len(opinions) < needed:  # (3)
        return True
    return len(opinions) == needed and len(set(opinions)) > 1  # (4)


def _outcome(opinions: Sequence[Opinion], needed: int) -> Opinion:
    shared = [opinion for opinion, count in Counter(opinions).items() if count >= needed]
    return shared[0] if len(shared) == 1 else Opinion.INCONCLUSIVE
