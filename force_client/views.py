"""From checked reports to what people are shown: outcomes, ranking, lanes, and the whole search.

What is calibrated is in one ranking. A raw score stays in its agency's own lane, and lanes are
never ranked against each other (promise 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from force_client.models import (
    AgencyOutcome,
    Lane,
    LanedCandidate,
    ReceivedSearch,
    SearchView,
)
from force_client.orders import SignedOrder
from trust.messages import Lane as StatedLane
from trust.messages import MatchReport, Outcome, RankedCandidate, SearchResult
from trust.ranking import calibrated_at, lanes_of, ranking_of


@dataclass(frozen=True, slots=True)
class Combined:
    """Ranking and lanes as a checked result states them, or as far as they are known."""

    ranking: tuple[RankedCandidate, ...]
    lanes: tuple[StatedLane, ...]


def shown(stated: Outcome, report: MatchReport | None) -> AgencyOutcome:
    """Return an outcome with what its report, already checked, says."""
    if report is None:
        return AgencyOutcome(
            agency=stated.agency,
            state=stated.state,
            reason=stated.reason,
            failed_clauses=stated.failed_clauses,
            decided_by=stated.decided_by,
            latency_ms=stated.latency_ms,
            late_at=stated.late_at,
            erased_at=stated.erased_at,
        )
    return AgencyOutcome(
        agency=stated.agency,
        state=stated.state,
        reason=stated.reason,
        failed_clauses=stated.failed_clauses,
        decided_by=stated.decided_by,
        latency_ms=stated.latency_ms,
        candidates=tuple(
            LanedCandidate(
                stated.agency,
                one.reference,
                one.score,
                one.rank,
                "" if report.calibration else stated.agency,
                one.log10_lr,
                one.expected_false,
            )
            for one in report.candidates
        ),
        matcher=report.matcher,
        calibration=report.calibration,
        threshold=report.threshold,
        gallery_class=report.gallery_class,
        exact=report.exact,
        report=report,
        released=bool(report.held_report_sha256),
        late_at=stated.late_at,
    )


def provisional(outcomes: Sequence[AgencyOutcome], now: datetime) -> Combined:
    """Return ranking and lanes of what has come so far; groups are not known before the end."""
    reports = [one.report for one in outcomes if one.report is not None]
    return Combined(
        ranking_of(one for one in reports if calibrated_at(one, now)),
        lanes_of(one for one in reports if not calibrated_at(one, now)),
    )


def running_view(
    received: ReceivedSearch,
    order: SignedOrder,
    outcomes: tuple[AgencyOutcome, ...],
    now: datetime,
) -> SearchView:
    """Return a search that has not ended: nothing of it is final."""
    heard = {one.agency for one in outcomes if one.state.is_answer}
    missing = tuple(agency for agency in order.order.agencies if agency not in heard)
    return _view(
        received, order, outcomes, provisional(outcomes, now), missing, ended=False, enough=False
    )


def ended_view(
    received: ReceivedSearch,
    order: SignedOrder,
    outcomes: tuple[AgencyOutcome, ...],
    result: SearchResult,
) -> SearchView:
    """Return an ended search, everything of which was verified."""
    combined = Combined(result.ranking, result.lanes)
    return _view(
        received,
        order,
        outcomes,
        combined,
        result.missing,
        ended=True,
        enough=result.sufficient,
    )


def _view(
    received: ReceivedSearch,
    order: SignedOrder,
    outcomes: tuple[AgencyOutcome, ...],
    combined: Combined,
    missing: tuple[str, ...],
    *,
    ended: bool,
    enough: bool,
) -> SearchView:
    found = {(one.agency, c.reference): c for one in outcomes for c in one.candidates}
    return SearchView(
        search_id=received.search_id,
        request_id=received.request_id,
        state=received.state,
        order_sha256=order.sha256,
        decisions=received.decisions,
        outcomes=outcomes,
        ranking=tuple(
            replace(found[one.agency, one.reference], lane="", group=one.group)
            for one in combined.ranking
        ),
        lanes=tuple(
            Lane(
                agency=lane.agency,
                matcher=lane.matcher,
                candidates=tuple(
                    # A calibration that had expired says nothing.
                    replace(
                        found[lane.agency, one.reference],
                        lane=lane.agency,
                        group=one.group,
                        log10_lr=None,
                        expected_false=None,
                    )
                    for one in lane.candidates
                ),
            )
            for lane in combined.lanes
        ),
        complete=ended and not missing,
        missing=missing,
        sufficient=enough,
        limits=order.order.limits,
        verified=ended,
        receipt=received.receipt.decode() if ended else "",
        receipt_leaf=received.receipt_leaf if ended else b"",
        received=received,
    )
