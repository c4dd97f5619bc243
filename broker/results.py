"""The result of a search, made in one place, be it the first or one that states the search anew.

1. Ranking and lanes come from verified reports alone.
2. An answer counts as received when the search first ended, or, where it came later, when it came.
   What an earlier statement ranked is ranked in every later one too, and what it did not is not,
   whatever has expired since.
3. What an agency found and nobody may keep any longer is in no later statement: not its candidates,
   and no group that had one other candidate beside them. Everything else is stated as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from broker.combination import Received, combine
from broker.models import AgencyAnswer, Replaced, SearchRecord
from trust.messages import (
    Lane,
    LaneCandidate,
    OutcomeState,
    RankedCandidate,
    SearchLimits,
    SearchResult,
)
from trust.wire import decode_report, decode_result

_Candidate = TypeVar("_Candidate", RankedCandidate, LaneCandidate)


def result_of(
    record: SearchRecord,
    answers: tuple[AgencyAnswer, ...],
    limits: SearchLimits,
    finished_at: datetime,
    replaces: Replaced | None = None,
) -> SearchResult:
    """Return what is to be signed of a search.

    Args:
        record: the search.
        answers: one for each agency of the order, in its sequence.
        limits: what the order asks for.
        finished_at: the instant of this statement.
        replaces: the end that this one replaces, if it does.
    """
    outcomes = tuple(answer.outcome for answer in answers)
    missing = tuple(a.outcome.agency for a in answers if not a.outcome.state.is_answer)
    prior = decode_result(record.result.payload) if replaces and record.result else None
    ranked = {one.agency for one in prior.ranking} if prior else set()

    def in_time(agency: str) -> datetime:
        """Return an instant that decides as the first statement did (2)."""
        if prior is None:
            return finished_at
        return record.created_at if agency in ranked else prior.ended_at

    combination = combine(  # (1)
        Received(
            report=answer.said or decode_report(answer.report.payload),
            at=answer.outcome.late_at or in_time(answer.outcome.agency),  # (2)
            links=answer.links,
        )
        for answer in answers
        if answer.report is not None and answer.outcome.state is OutcomeState.CANDIDATES
    )
    return SearchResult(
        search_id=record.search_id,
        order_sha256=record.order_sha256,
        outcomes=outcomes,
        complete=not missing,
        missing=missing,
        sufficient=limits.met_by(outcomes),
        finished_at=finished_at,
        ranking=combination.ranking,
        lanes=combination.lanes,
        revision=replaces.revision + 1 if replaces else 0,
        replaces_sha256=replaces.result_sha256 if replaces else b"",
        first_finished_at=prior.ended_at if prior else None,
    )


def result_without(
    prior: SearchResult,
    answers: tuple[AgencyAnswer, ...],
    gone: Collection[str],
    finished_at: datetime,
    replaces: Replaced,
) -> SearchResult:
    """Return what is to be signed of a search without what some agencies found (3).

    Args:
        prior: the result as it stands.
        answers: one for each agency of the order, as they are to be kept.
        gone: the agencies whose candidates are no longer kept.
        finished_at: the instant of this statement.
        replaces: the end that this one replaces.
    """
    ranking = tuple(one for one in prior.ranking if one.agency not in gone)
    lanes = tuple(lane for lane in prior.lanes if lane.agency not in gone)
    numbers = _renumbered(ranking, lanes)
    return prior.model_copy(
        update={
            "outcomes": tuple(answer.outcome for answer in answers),
            "finished_at": finished_at,
            "ranking": tuple(_grouped(one, numbers) for one in ranking),
            "lanes": tuple(
                lane.model_copy(
                    update={"candidates": tuple(_grouped(one, numbers) for one in lane.candidates)}
                )
                for lane in lanes
            ),
            "revision": replaces.revision + 1,
            "replaces_sha256": replaces.result_sha256,
            "first_finished_at": prior.ended_at,
        }
    )


def _renumbered(ranking: Sequence[RankedCandidate], lanes: Sequence[Lane]) -> Mapping[int, int]:
    """Return the new number of each group that still has two candidates, as they appear."""
    groups = [one.group for one in ranking]
    groups += [one.group for lane in lanes for one in lane.candidates]
    counted = Counter(group for group in groups if group)
    real = [group for group, count in counted.items() if count > 1]
    return {group: number for number, group in enumerate(real, 1)}


def _grouped(candidate: _Candidate, numbers: Mapping[int, int]) -> _Candidate:
    return candidate.model_copy(update={"group": numbers.get(candidate.group, 0)})
