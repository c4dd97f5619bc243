"""The result of a search, made in one place, be it the first or one that states the search anew.

1. Ranking and lanes come from verified reports alone.
2. An answer counts as received when the search first ended, or, where it came later, when it came;
   so what was ranked at first is ranked in every later statement too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

from broker.combination import Received, combine
from broker.models import AgencyAnswer
from trust.messages import OutcomeState, SearchResult
from trust.wire import decode_report

NOTHING_LATE: Final[Mapping[str, datetime]] = MappingProxyType({})


def result_of(
    search_id: str,
    order_sha256: bytes,
    answers: Sequence[AgencyAnswer],
    finished_at: datetime,
    *,
    first_ended_at: datetime | None = None,
    late: Mapping[str, datetime] = NOTHING_LATE,
    revision: int = 0,
    replaces_sha256: bytes = b"",
) -> SearchResult:
    """Return what is to be signed of a search.

    Args:
        search_id: the broker's id of the search.
        order_sha256: of the order's payload.
        answers: one for each agency of the order, in its sequence.
        finished_at: the instant of this statement.
        first_ended_at: when the search first ended, if that was before (2).
        late: for each agency whose answer came after that, when it came (2).
        revision: how often the result was stated anew.
        replaces_sha256: of the payload of the result that this one replaces.
    """
    missing = tuple(a.outcome.agency for a in answers if not a.outcome.state.is_answer)
    ended = first_ended_at or finished_at
    combination = combine(  # (1)
        Received(
            report=decode_report(answer.report.payload),
            at=late.get(answer.outcome.agency, ended),
            links=answer.links,
        )
        for answer in answers
        if answer.report is not None and answer.outcome.state is OutcomeState.CANDIDATES
    )
    return SearchResult(
        search_id=search_id,
        order_sha256=order_sha256,
        outcomes=tuple(answer.outcome for answer in answers),
        complete=not missing,
        missing=missing,
        finished_at=finished_at,
        ranking=combination.ranking,
        lanes=combination.lanes,
        revision=revision,
        replaces_sha256=replaces_sha256,
    )
