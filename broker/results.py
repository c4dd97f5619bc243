"""The result of a search, made in one place, be it the first or one that states the search anew.

1. Ranking and lanes come from verified reports alone.
2. An answer counts as received when the search first ended, or, where it came later, when it came.
   What an earlier statement ranked is ranked in every later one too, and what it did not is not,
   whatever has expired since.
"""

from __future__ import annotations

from datetime import datetime

from broker.combination import Received, combine
from broker.models import AgencyAnswer, Replaced, SearchRecord
from trust.messages import OutcomeState, SearchLimits, SearchResult
from trust.wire import decode_report, decode_result


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
