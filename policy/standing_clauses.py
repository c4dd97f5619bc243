"""Quotas and prior answers as clauses over the decider's own records (``policy.standing``).

1. A quota is satisfied while fewer searches than its most were permitted before this one; a counter
   that is not known is indeterminate.
2. A prior answer is satisfied if every agency named is proved to have answered, after the earliest
   instant that counts and not after the decision; one that is not proved is indeterminate, and one
   that answered too long ago is violated.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from policy.agreements import Agreement, AnsweredFirst, Quota
from policy.clauses import (
    INDETERMINATE,
    SATISFIED,
    VIOLATED,
    CompiledClause,
    Verdict,
    render,
)
from policy.facts import Facts

EARLIER_SEARCHES = "earlier_searches"
ANSWERED = "answered"


def standing_clauses(agreement: Agreement) -> tuple[CompiledClause, ...]:
    """Return an agreement's quotas and prior answers as clauses, in that order."""
    return (
        *[_quota(agreement.agency, quota) for quota in agreement.quotas],
        *[_answered_first(rule) for rule in agreement.answered_first],
    )


def _quota(agency: str, quota: Quota) -> CompiledClause:  # (1)
    name, most = quota.counter, quota.most

    def earlier(facts: Facts) -> int | None:
        return None if facts.standing is None else facts.standing.earlier(agency, name)

    def test(facts: Facts, _at: datetime) -> Verdict:
        count = earlier(facts)
        if count is None:
            return INDETERMINATE
        return SATISFIED if count < most else VIOLATED

    def show(facts: Facts, _at: datetime) -> str | None:
        count = earlier(facts)
        return None if count is None else str(count)

    return CompiledClause(
        id=quota.id,
        citation=quota.citation,
        attribute=f"{EARLIER_SEARCHES}.{name}",
        operator="le",
        required=str(most - 1),
        test=test,
        show=show,
        key=(EARLIER_SEARCHES, agency, name, most),
        count=(agency, name, most),
    )


def _answered_first(rule: AnsweredFirst) -> CompiledClause:  # (2)
    agencies, reach = rule.agencies, timedelta(days=rule.within_days)
    earliest = datetime.min.replace(tzinfo=UTC) + reach

    def proved(facts: Facts) -> list[datetime | None]:
        answered = facts.standing.answered if facts.standing else {}
        return [answered.get(agency) for agency in agencies]

    def test(facts: Facts, at: datetime) -> Verdict:
        # Where the calendar begins within reach, no answer is too old.
        since = at - reach if at >= earliest else None
        times = proved(facts)
        given = [time for time in times if time is not None]
        if any(time > at or (since is not None and time < since) for time in given):
            return VIOLATED
        return SATISFIED if len(given) == len(times) else INDETERMINATE

    def show(facts: Facts, _at: datetime) -> str | None:
        named = zip(agencies, proved(facts), strict=True)
        found = [f"{agency} at {render(time)}" for agency, time in named if time is not None]
        return "; ".join(found) or None

    return CompiledClause(
        id=rule.id,
        citation=rule.citation,
        attribute=ANSWERED,
        operator="present",
        required=f"{render(agencies)} within {rule.within_days} days, by entries of the log",
        test=test,
        show=show,
        key=(ANSWERED, agencies, rule.within_days),
    )
