"""How calibrated candidates rank across agencies: one way, which broker and force both follow.

1. Calibrated candidates of all agencies are in one ranking: the strongest evidence (log10 LR)
   first, then the fewest expected false candidates, then the agency's id, then the agency's own
   rank. So the ranking does not depend on who answered first.
2. Agencies without a calibration are each in a lane of their own, by agency id, in their own order:
   a raw score is ranked against nobody else's (promise 7).
3. A calibration counts that had not expired when the report was made, nor when it was received.
4. Evidence of several agencies for one probe is not independent and is never multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from trust.messages import Lane, LaneCandidate, MatchReport, RankedCandidate


def calibrated_at(report: MatchReport, received_at: datetime) -> bool:
    """Whether a report's candidates may be ranked (3)."""
    expires = report.calibration_expires_at
    return expires is not None and expires > max(received_at, report.reported_at)


def ranking_of(reports: Iterable[MatchReport]) -> tuple[RankedCandidate, ...]:
    """Return the candidates of calibrated reports in one ranking, without groups (1)."""
    placed = [
        (
            (-one.log10_lr, one.expected_false.expected, report.agency, one.rank),
            RankedCandidate(
                agency=report.agency,
                reference=one.reference,
                log10_lr=one.log10_lr,
                expected_false=one.expected_false,
            ),
        )
        for report in reports
        for one in report.candidates
        if one.log10_lr is not None and one.expected_false is not None
    ]
    placed.sort(key=lambda pair: pair[0])
    return tuple(candidate for _, candidate in placed)


def lanes_of(reports: Iterable[MatchReport]) -> tuple[Lane, ...]:
    """Return the lanes of reports that are not ranked, without groups (2)."""
    return tuple(
        Lane(
            agency=report.agency,
            matcher=report.matcher,
            candidates=tuple(
                LaneCandidate(reference=one.reference, score=one.score) for one in report.candidates
            ),
        )
        for report in sorted(reports, key=lambda report: report.agency)
        if report.candidates
    )
