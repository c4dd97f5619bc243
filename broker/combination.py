"""What several agencies found, put side by side: one ranking, lanes apart, groups (step 9). Pure.

1. Ranking and lanes are those of ``trust.ranking``, so that the force can make them again from the
   signed reports. What an agency sent in which sequence changes nothing.
2. Two candidates with an equal token under one link key are said by their agencies to be one
   person. Groups are what hangs together so, numbered from 1 by first appearance in the ranking,
   then in the lanes; a candidate that hangs together with no other has no group, which is 0.
3. A group changes no number: its evidence is never multiplied, added or ranked higher. What it is
   worth is what its strongest candidate is worth; that several agencies hold a person says that
   they enrolled them, not that they are the one in the image.
4. The tokens end here; the groups go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from trust.messages import CandidateLinks, Lane, LaneCandidate, MatchReport, RankedCandidate
from trust.ranking import calibrated_at, lanes_of, ranking_of

_Candidate = TypeVar("_Candidate", RankedCandidate, LaneCandidate)
_Named = tuple[str, str]
"""A candidate: its agency and its reference there."""


@dataclass(frozen=True, slots=True)
class Received:
    """One agency's verified report.

    Attributes:
        report: what it says.
        at: when it counts as received; a calibration that had expired by then ranks nothing.
        links: its verified link tokens, if any came.
    """

    report: MatchReport
    at: datetime
    links: CandidateLinks | None = None


@dataclass(frozen=True, slots=True)
class Combination:
    """What goes into the signed result."""

    ranking: tuple[RankedCandidate, ...]
    lanes: tuple[Lane, ...]


def combine(received: Iterable[Received]) -> Combination:
    """Combine verified reports, in whatever sequence they came; one of each agency."""
    every = tuple(received)
    ranked = [one.report for one in every if calibrated_at(one.report, one.at)]
    apart = [one.report for one in every if not calibrated_at(one.report, one.at)]
    ranking, lanes = ranking_of(ranked), lanes_of(apart)  # (1)
    sequence = [(one.agency, one.reference) for one in ranking]
    sequence += [(lane.agency, one.reference) for lane in lanes for one in lane.candidates]
    groups = _groups(sequence, (one.links for one in every if one.links is not None))  # (2)
    if not groups:
        return Combination(ranking, lanes)
    return Combination(
        ranking=tuple(_grouped(one, groups.get((one.agency, one.reference))) for one in ranking),
        lanes=tuple(
            lane.model_copy(
                update={
                    "candidates": tuple(
                        _grouped(one, groups.get((lane.agency, one.reference)))
                        for one in lane.candidates
                    )
                }
            )
            for lane in lanes
        ),
    )


def _grouped(candidate: _Candidate, group: int | None) -> _Candidate:
    return candidate.model_copy(update={"group": group or 0})


def _groups(sequence: list[_Named], links: Iterable[CandidateLinks]) -> Mapping[_Named, int]:
    """Return the group of each candidate that has one (2)."""
    known = set(sequence)
    leader: dict[_Named, _Named] = {}

    def find(one: _Named) -> _Named:
        while leader.setdefault(one, one) != one:
            leader[one] = one = leader[leader[one]]
        return one

    holders: dict[tuple[str, bytes], _Named] = {}
    for link in links:
        for candidate in link.candidates:
            named = (link.agency, candidate.reference)
            if named in known:
                for token in candidate.tokens:
                    holder = holders.setdefault((link.link_key_id, token), named)
                    leader[find(named)] = find(holder)
    together: dict[_Named, list[_Named]] = {}
    for named in sequence:
        together.setdefault(find(named), []).append(named)
    real = [members for members in together.values() if len(members) > 1]
    return {named: number for number, members in enumerate(real, 1) for named in members}
