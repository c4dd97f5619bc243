"""From checked reports to what people are shown: outcomes, lanes, and the search as a whole.

Scores share a lane only where their reports name the same calibration. A raw score stays in its
agency's own lane, and lanes are never ranked against each other (promise 7).
"""

from __future__ import annotations

from collections.abc import Sequence

from force_client.models import (
    AgencyOutcome,
    Lane,
    LanedCandidate,
    ReceivedSearch,
    SearchView,
)
from force_client.orders import SignedOrder
from trust.messages import MatchReport, Outcome


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
        )
    lane = report.calibration or stated.agency
    return AgencyOutcome(
        agency=stated.agency,
        state=stated.state,
        reason=stated.reason,
        failed_clauses=stated.failed_clauses,
        decided_by=stated.decided_by,
        latency_ms=stated.latency_ms,
        candidates=tuple(
            LanedCandidate(stated.agency, one.reference, one.score, one.rank, lane)
            for one in report.candidates
        ),
        matcher=report.matcher,
        calibration=report.calibration,
        threshold=report.threshold,
        gallery_class=report.gallery_class,
        exact=report.exact,
        report=report,
        released=bool(report.held_report_sha256),
    )


def _lanes(outcomes: Sequence[AgencyOutcome]) -> tuple[Lane, ...]:
    gathered: dict[tuple[str, bool], list[AgencyOutcome]] = {}
    for outcome in outcomes:
        if outcome.candidates:
            # An agency's id can't be taken for a calibration's name: the flag keeps them apart.
            name = outcome.calibration or outcome.agency
            gathered.setdefault((name, bool(outcome.calibration)), []).append(outcome)
    return tuple(
        Lane(
            name=name,
            calibration=name if calibrated else "",
            agencies=tuple(one.agency for one in members),
            candidates=tuple(
                sorted(
                    (candidate for one in members for candidate in one.candidates),
                    key=lambda candidate: (-candidate.score, candidate.rank),
                )
            ),
        )
        for (name, calibrated), members in gathered.items()
    )


def running_view(
    received: ReceivedSearch, order: SignedOrder, outcomes: tuple[AgencyOutcome, ...]
) -> SearchView:
    """Return a search that has not ended: nothing of it is final."""
    heard = {one.agency for one in outcomes if one.state.is_answer}
    missing = tuple(agency for agency in order.order.agencies if agency not in heard)
    return _view(received, order, outcomes, missing, ended=False)


def ended_view(
    received: ReceivedSearch,
    order: SignedOrder,
    outcomes: tuple[AgencyOutcome, ...],
    missing: tuple[str, ...],
) -> SearchView:
    """Return an ended search, everything of which was verified."""
    return _view(received, order, outcomes, missing, ended=True)


def _view(
    received: ReceivedSearch,
    order: SignedOrder,
    outcomes: tuple[AgencyOutcome, ...],
    missing: tuple[str, ...],
    *,
    ended: bool,
) -> SearchView:
    return SearchView(
        search_id=received.search_id,
        request_id=received.request_id,
        state=received.state,
        order_sha256=order.sha256,
        decisions=received.decisions,
        outcomes=outcomes,
        lanes=_lanes(outcomes),
        complete=ended and not missing,
        missing=missing,
        verified=ended,
        receipt=received.receipt.decode() if ended else "",
        receipt_leaf=received.receipt_leaf if ended else b"",
        received=received,
    )
