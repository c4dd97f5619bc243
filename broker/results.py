"""The result of a search, made in one place, be it the first or one that states the search anew.

1. Ranking and lanes come from verified reports alone.
2. An answer counts as received when the search was made, which its report is later than, or, where
   it came after the search had first ended, when it came; so what was ranked at first is ranked in
   every later statement too.
"""

from __future__ import annotations

from datetime import datetime

from broker.combination import Received, combine
from broker.models import AgencyAnswer, Replaced, SearchRecord
from trust.messages import OutcomeState, SearchResult
from trust.wire import decode_report


def result_of(
    record: SearchRecord,
    answers: tuple[AgencyAnswer, ...],
    finished_at: datetime,
    replaces: Replaced | None = None,
) -> SearchResult:
    """Return what is to be signed of a search.

    Args:
        record: the search.
        answers: one for each agency of the order, in its sequence.
        finished_at: the instant of this statement.
        replaces: the end that this one replaces, if it does.
    """
    missing = tuple(a.outcome.agency for a in answers if not a.outcome.state.is_answer)
    combination = combine(  # (1)
        Received(
            report=decode_report(answer.report.payload),
            at=answer.late_at or record.created_at,  # (2)
            links=answer.links,
        )
        for answer in answers
        if answer.report is not None and answer.outcome.state is OutcomeState.CANDIDATES
    )
    return SearchResult(
        search_id=record.search_id,
        order_sha256=record.order_sha256,
        outcomes=tuple(answer.outcome for answer in answers),
        complete=not missing,
        missing=missing,
        finished_at=finished_at,
        ranking=combination.ranking,
        lanes=combination.lanes,
        revision=replaces.revision + 1 if replaces else 0,
        replaces_sha256=replaces.result_sha256 if replaces else b"",
    )
