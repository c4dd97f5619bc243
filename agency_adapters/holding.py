"""Answers that wait for the agency's own people, as they are kept.

1. What is withheld is kept in the transaction of the HELD answer's log entry.
2. A review is kept in the transaction of its own entry, and only if it counts (``verdicts``).
3. The report that follows a decision is kept in the transaction of its entry, once; what was
   withheld, and the order it was withheld from, are erased by the same write.

Reads raise ``STATE_UNAVAILABLE``; writes run inside the log's transaction (``NewEntry.also``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert, select, update

from agency_adapters.lifetimes import Until, keep_until
from agency_adapters.models import Hold
from agency_adapters.state import reading
from agency_adapters.tables import held, held_reviews, matches
from agency_adapters.verdicts import Review, Verdict, Verdicts, releases_of, verdict_of
from trust.clock import from_us, to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MatchReport, SearchOrder
from trust.wire import (
    decode_order,
    decode_report,
    encode_report,
    envelope_from_bytes,
    envelope_to_bytes,
)

HELD_VERDICTS: Final = Verdicts(held, held_reviews, "order_sha256")
"""What was decided about held answers."""


@dataclass(frozen=True, slots=True)
class HeldAnswer:
    """One held answer as it stands.

    Attributes:
        order_sha256: of the order that was answered.
        grant_sha256: of the grant it was answered under.
        search_id: the broker's id of the search.
        broker: who may collect the answer.
        held_at: since when it waits.
        decide_by: by when the agency is to decide.
        needed: how many different people must release it.
        ask: whom they must have asked.
        switches: the kill switches that forbid its release while they are off.
        reviews: what was decided so far.
        flagged: whether it is on the log that nobody decided in time.
        order: what was asked; none once the decision's report is there.
        withheld: the report that would have been made; none once there is another.
        report: the report that followed the decision, signed.
        statement: the statement that goes with it, where there is one.
        leaf_index: where in the search log that report is.
        retention_days: how long that report's recipients may keep it; none if it was not said.
    """

    order_sha256: bytes
    grant_sha256: bytes
    search_id: str
    broker: str
    held_at: datetime
    decide_by: datetime
    needed: int
    ask: tuple[str, ...]
    switches: frozenset[str]
    reviews: tuple[Review, ...]
    flagged: bool
    order: SearchOrder | None = field(repr=False)
    withheld: MatchReport | None = field(repr=False)
    report: Envelope | None
    statement: Envelope | None
    leaf_index: int | None
    retention_days: int | None

    @property
    def releases(self) -> int:
        """How many people have released it."""
        return releases_of(self.reviews)

    @property
    def verdict(self) -> Verdict | None:
        """What was decided: one refusal refuses; a release takes as many as are needed."""
        return verdict_of(self.reviews, self.needed)


@dataclass(frozen=True, slots=True)
class HeldAnswers:
    """The held answers in the adapter's database."""

    engine: Engine

    def waiting(self) -> tuple[HeldAnswer, ...]:
        """Return every answer without its decision's report, the oldest first."""
        return self._where(held.c.leaf_index.is_(None))

    def reviewed(self) -> tuple[HeldAnswer, ...]:
        """Return those of them that somebody has decided about, in part or whole."""
        reviews = select(held_reviews.c.reviewer).where(
            held_reviews.c.order_sha256 == held.c.order_sha256
        )
        return self._where(held.c.leaf_index.is_(None) & reviews.exists())

    def overdue(self, now: datetime) -> tuple[HeldAnswer, ...]:
        """Return those that nobody decided in time, and of which the log does not say so yet."""
        late = held.c.decide_by_us <= to_us(now)
        return self._where(held.c.leaf_index.is_(None) & late & ~held.c.flagged)

    def named(self, name: str) -> tuple[HeldAnswer, ...]:
        """Return the answers of a search id, or of an order's digest in hexadecimal."""
        try:
            digest = bytes.fromhex(name)
        except ValueError:
            digest = b""
        return self._where((held.c.search_id == name) | (held.c.order_sha256 == digest))

    def of_order(self, order_sha256: bytes) -> HeldAnswer | None:
        """Return the answer that was held to an order, if one was."""
        found = self._where(held.c.order_sha256 == order_sha256)
        return found[0] if found else None

    def held_report(self, order_sha256: bytes) -> Envelope:
        """Return the HELD report itself, signed.

        Raises:
            ProbegateError: ``RESULT_GONE`` if it was erased since.
        """
        query = select(matches.c.report).where(matches.c.order_sha256 == order_sha256)
        with reading(self.engine) as connection:
            report = connection.execute(query).scalar_one()
        if not report:
            raise ProbegateError(Reason.RESULT_GONE)
        return envelope_from_bytes(report)

    def _where(self, condition: Any) -> tuple[HeldAnswer, ...]:
        query = select(held).where(condition).order_by(held.c.held_us, held.c.order_sha256)
        reviewed = select(held_reviews).order_by(held_reviews.c.leaf_index)
        with reading(self.engine) as connection:
            return tuple(
                _answer(
                    row,
                    connection.execute(
                        reviewed.where(held_reviews.c.order_sha256 == row.order_sha256)
                    ).all(),
                )
                for row in connection.execute(query).all()
            )


def _answer(row: Any, reviews: Any) -> HeldAnswer:
    return HeldAnswer(
        order_sha256=row.order_sha256,
        grant_sha256=row.grant_sha256,
        search_id=row.search_id,
        broker=row.broker,
        held_at=from_us(row.held_us),
        decide_by=from_us(row.decide_by_us),
        needed=row.needed,
        ask=tuple(json.loads(row.ask)),
        switches=frozenset(json.loads(row.switches)),
        reviews=tuple(Review(r.reviewer, Verdict(r.verdict), r.leaf_index) for r in reviews),
        flagged=row.flagged,
        order=decode_order(row.order_payload) if row.order_payload else None,
        withheld=decode_report(row.withheld) if row.withheld else None,
        report=envelope_from_bytes(row.report) if row.report else None,
        statement=envelope_from_bytes(row.statement) if row.statement else None,
        leaf_index=row.leaf_index,
        retention_days=row.retention_days,
    )


def keep_held(connection: Connection, report: MatchReport, hold: Hold, retention_days: int) -> None:
    """Write what is withheld (1)."""
    row = {
        "order_sha256": report.order_sha256,
        "grant_sha256": report.grant_sha256,
        "search_id": report.search_id,
        "broker": hold.broker,
        "held_us": to_us(report.reported_at),
        "decide_by_us": to_us(hold.decide_by),
        "needed": hold.needed,
        "ask": json.dumps(hold.ask),
        "switches": json.dumps(hold.switches),
        "order_payload": hold.order,
        "withheld": encode_report(hold.withheld),
        "flagged": False,
        "retention_days": retention_days,
    }
    connection.execute(insert(held), row)


def keep_decided(
    connection: Connection,
    order_sha256: bytes,
    report: Envelope,
    statement: Envelope | None,
    leaf_index: int,
    until: Until,
) -> None:
    """Write the report that followed a decision, and erase what was withheld (3)."""
    changed = connection.execute(
        update(held)
        .where(held.c.order_sha256 == order_sha256, held.c.leaf_index.is_(None))
        .values(
            report=envelope_to_bytes(report),
            statement=envelope_to_bytes(statement) if statement is not None else None,
            leaf_index=leaf_index,
            order_payload=None,
            withheld=None,
        )
    )
    if changed.rowcount != 1:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, "a held answer was decided twice")
    keep_until(connection, order_sha256, until)


def keep_flagged(connection: Connection, order_sha256: bytes) -> None:
    """Write that it is on the log that nobody decided in time."""
    connection.execute(update(held).where(held.c.order_sha256 == order_sha256).values(flagged=True))
