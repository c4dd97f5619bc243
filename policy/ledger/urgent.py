"""Urgent searches that must be confirmed in writing, and which of them are late.

What awaits confirmation is held in memory, so that a decision needs no read; it changes only after
the log entry that changes it is durable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, insert, or_, select, update

from policy.codes import REGISTRY
from policy.ledger.tables import urgent_searches
from trust.clock import from_us, to_us

UNCONFIRMED_ENTRY: Final = "search.unconfirmed"
"""The type of the entry that records a missing confirmation, at broker and agency."""


@dataclass(frozen=True, slots=True)
class UrgentUse:
    """A permit that needed an agency's urgent route, and how it must be confirmed."""

    ref: str
    agency: str
    force: str
    officer: bytes
    deadline: datetime
    confirmer_rank: str
    confirmed_at: datetime | None = None
    flagged: bool = False

    def rank_suffices(self, rank: str) -> bool:
        """Whether somebody of a rank may confirm; one beside the scale confirms nothing."""
        scale = REGISTRY["rank"].scale
        place, least = scale.get(rank), scale.get(self.confirmer_rank)
        return place is not None and least is not None and place >= least


@dataclass(slots=True)
class UrgentRegister:
    """The urgent searches of one ledger. Writes run in the log's transaction."""

    _waiting: dict[tuple[str, str], UrgentUse] = field(default_factory=dict)
    _officers: set[tuple[str, bytes, str]] = field(default_factory=set)

    def load(self, connection: Connection) -> None:
        """Read what awaits confirmation, and who ever used an urgent route."""
        query = select(urgent_searches).where(urgent_searches.c.confirmed_us.is_(None))
        self.recorded(_use(row) for row in connection.execute(query))
        who = (urgent_searches.c.force, urgent_searches.c.officer, urgent_searches.c.agency)
        for row in connection.execute(select(*who).distinct()):
            self._officers.add((row.force, bytes(row.officer), row.agency))

    def write(self, connection: Connection, use: UrgentUse) -> None:
        """Record a permit that needed an urgent route; then call ``recorded``."""
        connection.execute(
            insert(urgent_searches),
            {
                "ref": use.ref,
                "agency": use.agency,
                "force": use.force,
                "officer": use.officer,
                "deadline_us": to_us(use.deadline),
                "confirmer_rank": use.confirmer_rank,
                "flagged": False,
            },
        )

    def write_confirmed(self, connection: Connection, ref: str, at: datetime) -> None:
        """Record that a search was confirmed; then call ``confirmed``."""
        connection.execute(
            update(urgent_searches)
            .where(urgent_searches.c.ref == ref, urgent_searches.c.confirmed_us.is_(None))
            .values(confirmed_us=to_us(at))
        )

    def write_flagged(self, connection: Connection, use: UrgentUse) -> None:
        """Record that a missing confirmation is on the log; then call ``flagged``."""
        connection.execute(
            update(urgent_searches)
            .where(urgent_searches.c.ref == use.ref, urgent_searches.c.agency == use.agency)
            .values(flagged=True)
        )

    def recorded(self, uses: Iterable[UrgentUse]) -> None:
        """Await the confirmation of searches that are on the log."""
        for use in uses:
            self._waiting[use.ref, use.agency] = use
            self._officers.add((use.force, use.officer, use.agency))

    def confirmed(self, ref: str) -> None:
        """Await no more confirmation of a search."""
        for key in [key for key in self._waiting if key[0] == ref]:
            del self._waiting[key]

    def flagged(self, use: UrgentUse) -> None:
        """Flag a search once only."""
        key = (use.ref, use.agency)
        if key in self._waiting:
            self._waiting[key] = replace(use, flagged=True)

    def late(self, force: str, officer: bytes, at: datetime) -> int:
        """Return how many searches of an officer are past their deadline unconfirmed."""
        found = {
            use.ref
            for use in self._waiting.values()
            if use.officer == officer and use.force == force and use.deadline < at
        }
        return len(found)

    def ever_used(self, force: str, officer: bytes, agency: str) -> bool:
        """Whether an officer ever used an agency's urgent route."""
        return (force, officer, agency) in self._officers

    def awaiting(self, ref: str) -> tuple[UrgentUse, ...]:
        """Return the permits of a search that await confirmation."""
        return tuple(use for use in self._waiting.values() if use.ref == ref)

    def overdue(self, at: datetime) -> tuple[UrgentUse, ...]:
        """Return the permits past their deadline that were not flagged yet, oldest first."""
        late = [u for u in self._waiting.values() if u.deadline < at and not u.flagged]
        return tuple(sorted(late, key=lambda use: (use.deadline, use.ref, use.agency)))


def uses_since(force: str, officer: bytes, agency: str, since: datetime) -> Select[Any]:
    """Return the query for an officer's urgent searches at an agency, newest first."""
    table = urgent_searches.c
    return (
        select(urgent_searches)
        .where(
            table.force == force,
            table.officer == officer,
            table.agency == agency,
            or_(table.deadline_us >= to_us(since), table.confirmed_us >= to_us(since)),
        )
        .order_by(table.deadline_us.desc(), table.ref)
    )


def read_uses(connection: Connection, query: Select[Any]) -> tuple[UrgentUse, ...]:
    """Return what a query for urgent searches finds."""
    return tuple(_use(row) for row in connection.execute(query))


def _use(row: Any) -> UrgentUse:
    return UrgentUse(
        ref=row.ref,
        agency=row.agency,
        force=row.force,
        officer=bytes(row.officer),
        deadline=from_us(row.deadline_us),
        confirmer_rank=row.confirmer_rank,
        confirmed_at=from_us(row.confirmed_us) if row.confirmed_us is not None else None,
        flagged=bool(row.flagged),
    )
