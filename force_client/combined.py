"""Whether a result ranks as its reports say: the ranking is made again from them (rule 8).

1. What must be ranked is: a report whose calibration had not expired when the report was made, nor
   when it counts as received, which is when the search first ended or, for one marked late, when it
   came. What must not be is not: a report without a calibration, or with one that had expired when
   it was made. Between the two the broker alone knows when the report came, and either is believed.
2. Of those reports, ranking and lanes are exactly what ``trust.ranking`` makes.
3. Groups are the broker's word, made from tokens that no force may see. They must make sense: each
   has at least two candidates, and they are numbered from 1 as they first appear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from trust.errors import ProbegateError, Reason
from trust.messages import Lane, LaneCandidate, MatchReport, RankedCandidate, SearchResult
from trust.ranking import calibrated_at, lanes_of, ranking_of


def check_combined(result: SearchResult, reports: Iterable[MatchReport]) -> None:
    """Refuse a result that ranks other than its reports say.

    Args:
        result: whose signature is checked.
        reports: the reports behind its outcomes, each checked.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check`` "ranking", "lanes" or "group".
    """
    said = {one.agency for one in result.ranking}
    late = {one.agency: one.late_at for one in result.outcomes}
    ranked: list[MatchReport] = []
    apart: list[MatchReport] = []
    for report in reports:
        received_by = late.get(report.agency) or result.ended_at
        counts = calibrated_at(report, report.reported_at) and (  # (1)
            calibrated_at(report, received_by) or report.agency in said
        )
        (ranked if counts else apart).append(report)
    if tuple(map(_alone, result.ranking)) != ranking_of(ranked):  # (2)
        raise _invalid("not what the reports say", "ranking")
    if tuple(map(_lane_alone, result.lanes)) != lanes_of(apart):
        raise _invalid("not what the reports say", "lanes")
    _check_groups(
        [one.group for one in result.ranking]
        + [one.group for lane in result.lanes for one in lane.candidates]
    )


def _check_groups(groups: Sequence[int]) -> None:  # (3)
    counted = Counter(group for group in groups if group)
    if list(counted) != list(range(1, len(counted) + 1)):
        raise _invalid("not numbered as they appear", "group")
    if any(count == 1 for count in counted.values()):
        raise _invalid("a group of one", "group")


def _alone(candidate: RankedCandidate) -> RankedCandidate:
    return candidate.model_copy(update={"group": 0})


def _lane_alone(lane: Lane) -> Lane:
    alone: tuple[LaneCandidate, ...] = tuple(
        one.model_copy(update={"group": 0}) for one in lane.candidates
    )
    return lane.model_copy(update={"candidates": alone})


def _invalid(why: str, check: str) -> ProbegateError:
    return ProbegateError(Reason.RESULT_INVALID, why, check=check)
