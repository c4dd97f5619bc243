"""Requests for disclosure as they are kept, and what the agency's people decided about them.

1. A request is kept in the transaction of its own entry, once; at most so many wait about one
   candidate, counted in that transaction.
2. A person's decision is kept in the transaction of its entry, and only if it counts
   (``verdicts``).
3. What was decided is kept in the transaction of its entry, once. The facts, the order, who
   reviewed and what the details said are erased by the same write.
4. Sealed details that can be opened no more are erased; so are those of a candidate that was
   recalled, and of a record that is itself erased (``erased``).
5. The rest goes with the answer that listed the candidate (``retention``); until when the force may
   hold what was released is kept for that.

Reads raise ``STATE_UNAVAILABLE``; writes run inside the log's transaction (``NewEntry.also``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agency_adapters.gone import brokers_of_gone
from agency_adapters.state import reading
from agency_adapters.tables import release_reviews, releases, revoked_reviewers
from agency_adapters.verdicts import Review, Verdict, Verdicts, releases_of, verdict_of
from audit.tables import storage_failure
from trust.clock import from_us, to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.people import plain_id
from trust.second_step import DisclosureRequest, ReleaseDecision, ReviewerRevocation
from trust.wire import decode, decode_order, envelope_from_bytes, envelope_to_bytes

RELEASE_VERDICTS: Final = Verdicts(releases, release_reviews, "request_sha256")
"""What was decided about requests."""


@dataclass(frozen=True, slots=True)
class ReviewedBy:
    """Who made a review that a request stands on, by plain id, and when it ended."""

    reviewer: str
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """What is kept of a request when it comes.

    Attributes:
        request: as the force signed it.
        broker: the member id of the broker that may ask what became of it.
        record_id: the record it is about.
        fields: the details that may be disclosed of it, by code.
        shown: what each of them is recognised by, keyed digests.
        reviewers: on whose reviews it stands.
        order: the order, encoded, for the people who decide.
        facts: why, in the force's words, for the people who decide.
        ask: whom they must have asked, such as a record's contributor.
        switches: the kill switches that forbid its release while they are off.
        needed: how many different people must release it.
        received_at: when it came.
        decide_by: by when it is to be decided.
    """

    request: Envelope
    broker: str
    record_id: str
    fields: tuple[str, ...]
    shown: Mapping[str, bytes]
    reviewers: tuple[ReviewedBy, ...]
    order: bytes = field(repr=False)
    facts: str = field(repr=False)
    ask: tuple[str, ...]
    switches: tuple[str, ...]
    needed: int
    received_at: datetime
    decide_by: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """One request as it stands; what is none was erased with the decision."""

    request_sha256: bytes
    request: DisclosureRequest
    broker: str
    record_id: str
    fields: tuple[str, ...]
    shown: Mapping[str, bytes] | None
    reviewers: tuple[ReviewedBy, ...]
    order: SearchOrder | None = field(repr=False)
    facts: str | None = field(repr=False)
    ask: tuple[str, ...]
    switches: frozenset[str]
    needed: int
    received_at: datetime
    decide_by: datetime
    flagged: bool
    reviews: tuple[Review, ...]
    decision: Envelope | None
    sealed: bytes = field(repr=False)
    leaf_index: int | None

    @property
    def releases(self) -> int:
        """How many people have released it."""
        return releases_of(self.reviews)

    @property
    def verdict(self) -> Verdict | None:
        """What was decided: one refusal refuses; a release takes as many as are needed."""
        return verdict_of(self.reviews, self.needed)

    @property
    def outcome(self) -> ReleaseDecision | None:
        """What this agency said in the end."""
        return None if self.decision is None else decode(ReleaseDecision, self.decision.payload)

    def opens(self, now: datetime) -> bool:
        """Whether there are details that can be opened."""
        said = self.outcome
        return said is not None and said.expires_at is not None and now < said.expires_at


@dataclass(frozen=True, slots=True)
class Releases:
    """The requests for disclosure in the adapter's database."""

    engine: Engine

    def waiting(self) -> tuple[Release, ...]:
        """Return every request that is not decided, the oldest first."""
        return self._where(releases.c.leaf_index.is_(None))

    def reviewed(self) -> tuple[Release, ...]:
        """Return those of them that somebody has decided about, in part or whole."""
        reviews = select(release_reviews.c.reviewer).where(
            release_reviews.c.request_sha256 == releases.c.request_sha256
        )
        return self._where(releases.c.leaf_index.is_(None) & reviews.exists())

    def revocations(self) -> int:
        """Return how many revocations of reviewers are kept."""
        with reading(self.engine) as connection:
            query = select(func.count()).select_from(revoked_reviewers)
            return connection.execute(query).scalar_one()

    def overdue(self, now: datetime) -> tuple[Release, ...]:
        """Return those that nobody decided in time, and of which the log does not say so yet."""
        late = releases.c.decide_by_us <= to_us(now)
        return self._where(releases.c.leaf_index.is_(None) & late & ~releases.c.flagged)

    def of(self, request_sha256: bytes) -> Release | None:
        """Return the request with this digest, if there is one."""
        found = self._where(releases.c.request_sha256 == request_sha256)
        return found[0] if found else None

    def by_id(self, force: str, request_id: str) -> Release | None:
        """Return a force's request by its id, if there is one."""
        mine = (releases.c.force == force) & (releases.c.request_id == request_id)
        found = self._where(mine)
        return found[0] if found else None

    def named(self, name: str) -> tuple[Release, ...]:
        """Return the requests of an id, or of a digest in hexadecimal."""
        try:
            digest = bytes.fromhex(name)
        except ValueError:
            digest = b""
        named = (releases.c.request_id == name) | (releases.c.request_sha256 == digest)
        return self._where(named)

    def revoked(self, force: str, reviewer: str, finished_at: datetime) -> bool:
        """Whether a review of a force's reviewer that ended then no longer counts."""
        with reading(self.engine) as connection:
            return is_revoked(connection, force, ReviewedBy(reviewer, finished_at))

    def knows_revocation(self, digest: bytes) -> bool:
        """Whether a revocation is kept already."""
        query = select(revoked_reviewers.c.force).where(
            revoked_reviewers.c.revocation_sha256 == digest
        )
        with reading(self.engine) as connection:
            return connection.execute(query).first() is not None

    def brokers_of_gone(self, name: str) -> tuple[str, ...]:
        """Return who brought the requests, of an id or digest, that went with their answers (5)."""
        with reading(self.engine) as connection:
            return brokers_of_gone(connection, name)

    def erase_expired(self, now: datetime, recalled: Callable[[str], bool]) -> bool:
        """Erase sealed details whose time has passed, or whose candidate was recalled (4).

        Returns:
            whether there were any.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        gone = [
            one.request_sha256
            for one in self._where(releases.c.sealed.is_not(None))
            if not one.opens(now) or recalled(one.request.reference)
        ]
        if gone:
            _erase_sealed(self.engine, releases.c.request_sha256.in_(gone))
        return bool(gone)

    def _where(self, condition: Any) -> tuple[Release, ...]:
        query = (
            select(releases)
            .where(condition)
            .order_by(releases.c.received_us, releases.c.request_sha256)
        )
        reviewed = select(release_reviews).order_by(release_reviews.c.leaf_index)
        with reading(self.engine) as connection:
            return tuple(
                _release(
                    row,
                    connection.execute(
                        reviewed.where(release_reviews.c.request_sha256 == row.request_sha256)
                    ).all(),
                )
                for row in connection.execute(query).all()
            )


def _release(row: Any, reviews: Any) -> Release:
    request = envelope_from_bytes(row.request)
    return Release(
        request_sha256=row.request_sha256,
        request=decode(DisclosureRequest, request.payload),
        broker=row.broker,
        record_id=row.record_id,
        fields=tuple(json.loads(row.fields)),
        shown=_shown(row.shown),
        reviewers=tuple(
            ReviewedBy(one["reviewer"], from_us(one["finished_us"]))
            for one in json.loads(row.reviewers or "[]")
        ),
        order=decode_order(row.order_payload) if row.order_payload else None,
        facts=row.facts,
        ask=tuple(json.loads(row.ask)),
        switches=frozenset(json.loads(row.switches)),
        needed=row.needed,
        received_at=from_us(row.received_us),
        decide_by=from_us(row.decide_by_us),
        flagged=row.flagged,
        reviews=tuple(Review(r.reviewer, Verdict(r.verdict), r.leaf_index) for r in reviews),
        decision=envelope_from_bytes(row.decision) if row.decision else None,
        sealed=row.sealed or b"",
        leaf_index=row.leaf_index,
    )


def _shown(text: str | None) -> Mapping[str, bytes] | None:
    if text is None:
        return None
    return {code: bytes.fromhex(digest) for code, digest in json.loads(text).items()}


def is_revoked(connection: Connection, force: str, review: ReviewedBy) -> bool:
    """Whether a review of a force's reviewer no longer counts."""
    query = select(revoked_reviewers.c.since_us).where(
        revoked_reviewers.c.force == force,
        revoked_reviewers.c.reviewer == review.reviewer,
        revoked_reviewers.c.since_us <= to_us(review.finished_at),
    )
    return connection.execute(query).first() is not None


def keep_asked(connection: Connection, asked: Asked, most: int) -> None:
    """Write a request (1).

    Args:
        connection: the log's.
        asked: the request.
        most: how many may wait about one candidate.

    Raises:
        ProbegateError: ``DISCLOSURE_PENDING`` if as many do; ``REVIEWER_REVOKED`` if somebody it
            stands on was revoked meanwhile; ``DISCLOSURE_REPLAYED``.
    """
    request = decode(DisclosureRequest, asked.request.payload)
    if any(is_revoked(connection, request.force, one) for one in asked.reviewers):
        raise ProbegateError(Reason.REVIEWER_REVOKED)
    theirs = select(func.count()).where(
        releases.c.search_id == request.search_id,
        releases.c.record_id == asked.record_id,
        releases.c.leaf_index.is_(None),
    )
    if connection.execute(theirs).scalar_one() >= most:
        raise ProbegateError(Reason.DISCLOSURE_PENDING)
    row = {
        "request_sha256": sha256(asked.request.payload).digest(),
        "request": envelope_to_bytes(asked.request),
        "force": request.force,
        "request_id": request.request_id,
        "broker": asked.broker,
        "record_id": asked.record_id,
        "fields": json.dumps(asked.fields),
        "shown": json.dumps({code: digest.hex() for code, digest in asked.shown.items()}),
        "reviewers": json.dumps(
            [
                {"reviewer": one.reviewer, "finished_us": to_us(one.finished_at)}
                for one in asked.reviewers
            ]
        ),
        "order_payload": asked.order,
        "facts": asked.facts,
        "ask": json.dumps(asked.ask),
        "switches": json.dumps(asked.switches),
        "needed": asked.needed,
        "received_us": to_us(asked.received_at),
        "decide_by_us": to_us(asked.decide_by),
        "flagged": False,
        "search_id": request.search_id,
    }
    try:
        connection.execute(insert(releases), row)
    except IntegrityError as error:
        # Another request with this id came in between; the lock is of the digest alone.
        raise ProbegateError(Reason.DISCLOSURE_REPLAYED) from error


def keep_decision(
    connection: Connection,
    request_sha256: bytes,
    decision: Envelope,
    sealed: bytes,
    leaf_index: int,
    until: datetime,
) -> None:
    """Write what was decided, and erase what it was decided on (3).

    Args:
        connection: the log's.
        request_sha256: of the request.
        decision: what was decided, signed.
        sealed: the details, if they are released.
        leaf_index: where the search log has it.
        until: until when the force may hold them (5); of a refusal, when that was.
    """
    changed = connection.execute(
        update(releases)
        .where(releases.c.request_sha256 == request_sha256, releases.c.leaf_index.is_(None))
        .values(
            decision=envelope_to_bytes(decision),
            sealed=sealed or None,
            leaf_index=leaf_index,
            until_us=to_us(until),
            order_payload=None,
            facts=None,
            reviewers=None,
            shown=None,
        )
    )
    if changed.rowcount != 1:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, "a request was decided twice")


def _erase_sealed(engine: Engine, condition: Any) -> None:
    try:
        with engine.begin() as connection:
            connection.execute(update(releases).where(condition).values(sealed=None))
    except SQLAlchemyError as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error


def keep_flagged(connection: Connection, request_sha256: bytes) -> None:
    """Write that it is on the log that nobody decided in time."""
    mine = releases.c.request_sha256 == request_sha256
    connection.execute(update(releases).where(mine).values(flagged=True))


def keep_revocations(
    connection: Connection, told: Sequence[tuple[bytes, ReviewerRevocation]]
) -> None:
    """Write which reviewers are revoked; what is kept already stays."""
    for digest, said in told:
        known = select(revoked_reviewers.c.force).where(
            revoked_reviewers.c.revocation_sha256 == digest
        )
        if connection.execute(known).first() is None:
            row = {
                "revocation_sha256": digest,
                "force": said.force,
                "reviewer": plain_id(said.reviewer),
                "since_us": to_us(said.since),
            }
            connection.execute(insert(revoked_reviewers), row)
