"""What the agency's own people decided, each once, until who they were is erased.

1. A decision is kept in the transaction of its entry of the admin log, and only if it counts: while
   the matter waits, once for each person however their id is spelt, and not after a refusal; a
   release, only if it says that whoever must be asked was asked.
2. Who decided is erased with the value of that entry; not while the matter waits, for who has
   decided already is what keeps one person from deciding twice.
3. Where somebody must be asked by now who was not when a matter was released, its releases count no
   more, and it waits again, with whom to ask. Whoever released it may decide anew.
4. A release is recorded only if it stands in that very transaction: what people decided, and the
   kill switches, are read again there. A refusal or a switch that is on the log by then wins.

A matter waits as long as its row has no place in the search log (``leaf_index``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Connection,
    String,
    Table,
    and_,
    cast,
    delete,
    insert,
    literal,
    not_,
    select,
    update,
)

from audit.kinds import ERASED, EVERY_FIELD
from audit.organisation import ADMIN
from policy.ledger import Ledger
from policy.ledger.tables import switches as switches_table
from trust.errors import ProbegateError, Reason
from trust.people import plain_id

_REVIEWER = "reviewer"
"""The field of an entry that says who decided."""


class Verdict(StrEnum):
    """What one of the agency's people decided."""

    RELEASED = "released"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Review:
    """One decision of one person; ``reviewer`` is as ``plain_id`` makes it."""

    reviewer: str
    verdict: Verdict
    leaf_index: int


def releases_of(reviews: Sequence[Review]) -> int:
    """Return how many people have released a matter."""
    return sum(review.verdict is Verdict.RELEASED for review in reviews)


def verdict_of(reviews: Sequence[Review], needed: int) -> Verdict | None:
    """Return what was decided: one refusal refuses; a release takes as many as are needed."""
    if any(review.verdict is Verdict.REFUSED for review in reviews):
        return Verdict.REFUSED
    return Verdict.RELEASED if releases_of(reviews) >= needed else None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Where decisions about one kind of matter are kept.

    Attributes:
        matters: the matters; one row each.
        given: the decisions; one row for each person and matter.
        key: the column of both, and the field of an entry, that has a matter's digest.
    """

    matters: Table
    given: Table
    key: str

    def keep(
        self, connection: Connection, digest: bytes, review: Review, asked: Sequence[str]
    ) -> None:
        """Write a decision if it counts (1); one that does not leaves its entry alone."""
        matter, mine = self.matters.c[self.key], self.given.c[self.key]
        waits = select(matter).where(matter == digest, self.matters.c.leaf_index.is_(None))
        if review.verdict is Verdict.RELEASED:
            waits = waits.where(self.matters.c.ask == json.dumps(list(asked)))
        settled = select(self.given.c.reviewer).where(
            mine == digest,
            (self.given.c.reviewer == review.reviewer)
            | (self.given.c.verdict == Verdict.REFUSED.value),
        )
        row = select(
            literal(digest),
            literal(review.reviewer),
            literal(review.verdict.value),
            literal(review.leaf_index),
        ).where(and_(waits.exists(), not_(settled.exists())))
        columns = [self.key, "reviewer", "verdict", "leaf_index"]
        connection.execute(insert(self.given).from_select(columns, row))

    def ask_anew(self, connection: Connection, digest: bytes, ask: Sequence[str]) -> None:
        """Let a matter that waits wait for others to be asked, its releases void (3)."""
        matter, mine = self.matters.c[self.key], self.given.c[self.key]
        waits = (matter == digest) & self.matters.c.leaf_index.is_(None)
        connection.execute(update(self.matters).where(waits).values(ask=json.dumps(list(ask))))
        released = self.given.c.verdict == Verdict.RELEASED.value
        connection.execute(delete(self.given).where(mine == digest, released))

    def require_released(
        self,
        connection: Connection,
        digest: bytes,
        needed: int,
        switches: frozenset[str],
        ledger: Ledger,
    ) -> None:
        """Refuse to record a release that does not stand any more (4).

        Args:
            connection: the log's, in the transaction that records it.
            digest: the matter's.
            needed: how many people must release it.
            switches: the kill switches that forbid it while they are off.
            ledger: the running adapter's, which knows of a switch before the log does.

        Raises:
            ProbegateError: ``RELEASE_INVALID`` or ``RELEASE_SWITCHED_OFF``; the next turn carries
                out what stands then.
        """
        query = select(self.given).where(self.given.c[self.key] == digest)
        given = [
            Review(row.reviewer, Verdict(row.verdict), row.leaf_index)
            for row in connection.execute(query).all()
        ]
        if verdict_of(given, needed) is not Verdict.RELEASED:
            raise ProbegateError(Reason.RELEASE_INVALID, "refused meanwhile")
        recorded = select(switches_table.c.name).where(switches_table.c.name.in_(switches))
        off = ledger.switched_off & switches | set(connection.execute(recorded).scalars())
        if off:
            raise ProbegateError(Reason.RELEASE_SWITCHED_OFF, ", ".join(sorted(off)))

    def forget(self, connection: Connection, entries: Sequence[int]) -> None:
        """Erase who made the decisions of some entries of the admin log (2).

        Raises:
            ProbegateError: ``SEARCH_RUNNING`` if one of the matters still waits.
        """
        mine = self.given.c.leaf_index.in_(list(entries))
        matter = self.matters.c[self.key]
        waits = select(matter).where(
            self.matters.c.leaf_index.is_(None),
            matter.in_(select(self.given.c[self.key]).where(mine)),
        )
        if connection.execute(waits.limit(1)).first() is not None:
            raise ProbegateError(Reason.SEARCH_RUNNING, "it is still to be decided")
        erased = literal("erased ") + cast(self.given.c.leaf_index, String)
        connection.execute(update(self.given).where(mine).values(reviewer=erased))


@dataclass(frozen=True, slots=True)
class VerdictClerk:
    """Keeps what entries of the admin log say of one kind of matter.

    Attributes:
        verdicts: where.
        entries: the types of entry that decide, and what they say.
    """

    verdicts: Verdicts
    entries: Mapping[str, Verdict]

    def before(self, said: Mapping[str, Any]) -> None:
        """Nothing decides early."""

    def also(self, connection: Connection, index: int, said: Mapping[str, Any]) -> None:
        """Keep a decision with its entry (1), or erase who made it with the entry's value (2).

        Raises:
            ProbegateError: ``SEARCH_RUNNING``.
        """
        if said["type"] == ERASED and said["log"] == ADMIN:
            if not {EVERY_FIELD, _REVIEWER}.isdisjoint(said["fields"]):
                self.verdicts.forget(connection, said["entries"])
            return
        verdict = self.entries.get(said["type"])
        if verdict is not None:
            review = Review(plain_id(said[_REVIEWER]), verdict, index)
            digest = bytes.fromhex(said[self.verdicts.key])
            self.verdicts.keep(connection, digest, review, said.get("asked", ()))

    def after(self, said: Mapping[str, Any]) -> None:
        """What follows a decision is made by itself, by whatever settles such matters."""
