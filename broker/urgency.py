"""Urgent searches at the broker: what must be confirmed, and what is late."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from audit.writer import LogWriter, NewEntry
from broker import leaves
from broker.models import Ruling
from policy.ledger import Ledger, UrgentUse


def urgent_uses(search_id: str, ruling: Ruling) -> tuple[UrgentUse, ...]:
    """Return the permits of a ruling that must be confirmed in writing."""
    subjects = ruling.asked.subjects
    return tuple(
        UrgentUse(
            ref=search_id,
            agency=decision.agency,
            force=subjects.force,
            officer=subjects.officer,
            deadline=decision.confirm_by,
            confirmer_rank=decision.confirmer_rank,
        )
        for decision in ruling.decisions
        if decision.confirm_by is not None
    )


async def flag_unconfirmed(ledger: Ledger, log: LogWriter, now: datetime) -> int:
    """Put urgent searches past their deadline on the log, each once; return how many.

    Raises:
        ProbegateError: the log's own failure.
    """
    late = ledger.urgent.overdue(now)
    for use in late:

        def also(connection: Connection, _index: int, use: UrgentUse = use) -> None:
            ledger.urgent.write_flagged(connection, use)

        await log.append(NewEntry(leaf=leaves.unconfirmed_leaf(use, now), also=also))
        ledger.urgent.flagged(use)
    return len(late)
