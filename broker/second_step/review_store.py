"""Reviews, the standings that are on the log as settled, and revoked reviewers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from broker.second_step import tables
from broker.second_step.models import KeptReview, KeptRevocation, ReviewsParams
from broker.second_step.rules import Sitting, Standing
from broker.store import NUL
from broker.storing import Storage, Write, largest
from trust.clock import to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.people import plain_id
from trust.second_step import Review, ReviewerRevocation
from trust.wire import decode, envelope_from_bytes, envelope_to_bytes


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Every sitting of a search, and which of them count.

    Attributes:
        kept: every agency's part of every sitting, by number and agency.
        sittings: those that count.
        revoked: the review ids of those that do not.
    """

    kept: tuple[KeptReview, ...]
    sittings: tuple[Sitting, ...]
    revoked: frozenset[str]

    @property
    def newest(self) -> int:
        """The number of the last sitting, 0 if there is none."""
        return max((one.number for one in self.kept), default=0)


@dataclass(frozen=True, slots=True)
class ReviewStore:
    """Reads reviews, and makes the writes that the log commits."""

    storage: Storage

    async def of(self, force: str, search_id: str) -> Reviewed:
        """Return the reviews of a search.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """

        def read(connection: Connection) -> Reviewed:
            return read_reviews(connection, force, search_id)

        return await self.storage.run(read)

    def recorded(
        self,
        params: ReviewsParams,
        reviews: Mapping[str, Review],
        number: int,
    ) -> Write:
        """Return the write that keeps a sitting with its log entry.

        The write raises ``SERVER_BUSY`` if another sitting came first, and
        ``REVIEW_NOT_INDEPENDENT`` if the person has reviewed the search.
        """
        rows = [
            {
                "search_id": review.search_id,
                "agency": agency,
                "number": number,
                "review_id": review.review_id,
                "force": review.force,
                "person": plain_id(review.reviewer.id),
                "finished_us": to_us(review.finished_at),
                "sha256": sha256(envelope.payload).digest(),
                "envelope": envelope_to_bytes(envelope),
                "token": params.token,
            }
            for (agency, review), envelope in zip(reviews.items(), params.envelopes, strict=True)
        ]
        first = rows[0]

        def write(connection: Connection, index: int) -> None:
            mine = tables.reviews.c.search_id == first["search_id"]
            person = tables.reviews.c.person == first["person"]
            if connection.execute(select(tables.reviews.c.number).where(mine, person)).first():
                raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT, field="reviewer")
            if largest(connection, tables.reviews.c.number, mine) != number - 1:
                raise ProbegateError(Reason.SERVER_BUSY, "another sitting came first")
            try:
                connection.execute(
                    insert(tables.reviews), [row | {"leaf_index": index} for row in rows]
                )
            except IntegrityError as error:
                raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT, "recorded already") from error

        return write

    async def settlement(self, search_id: str, standing: Standing) -> int | None:
        """Return where in the log a standing is recorded as settled, if it is."""
        found = await self.storage.rows(
            select(tables.review_settlements.c.leaf_index).where(
                tables.review_settlements.c.search_id == search_id,
                tables.review_settlements.c.standing_sha256 == standing_digest(standing),
            )
        )
        return found[0].leaf_index if found else None

    def settled(self, search_id: str, standing: Standing) -> Write:
        """Return the write that keeps that a standing is on the log as settled.

        The write raises ``SERVER_BUSY`` if it is already.
        """
        row = {"search_id": search_id, "standing_sha256": standing_digest(standing)}

        def write(connection: Connection, index: int) -> None:
            try:
                connection.execute(insert(tables.review_settlements), row | {"leaf_index": index})
            except IntegrityError as error:
                raise ProbegateError(Reason.SERVER_BUSY, "settled already") from error

        return write

    async def revocations(self, force: str) -> tuple[KeptRevocation, ...]:
        """Return what a force revoked, in the log's order."""
        return await self.storage.run(lambda connection: read_revocations(connection, force))

    async def would_revoke(self, said: ReviewerRevocation) -> int:
        """Return how many sittings a revocation takes out that still count."""

        def read(connection: Connection) -> int:
            rows = connection.execute(
                select(tables.reviews.c.search_id, tables.reviews.c.finished_us)
                .where(
                    tables.reviews.c.force == said.force,
                    tables.reviews.c.person == plain_id(said.reviewer),
                    tables.reviews.c.finished_us >= to_us(said.since),
                )
                .distinct()
            ).all()
            earlier = _since(read_revocations(connection, said.force), said.reviewer)
            return sum(earlier is None or row.finished_us < earlier for row in rows)

        return await self.storage.run(read)

    def revoked(self, said: ReviewerRevocation, envelope: Envelope, reviews: int) -> Write:
        """Return the write that keeps a revocation with its log entry.

        The write raises ``SERVER_BUSY`` if it is kept already.
        """
        row = {
            "force": said.force,
            "sha256": sha256(envelope.payload).digest(),
            "person": plain_id(said.reviewer),
            "since_us": to_us(said.since),
            "reviews": reviews,
            "envelope": envelope_to_bytes(envelope),
        }

        def write(connection: Connection, index: int) -> None:
            try:
                connection.execute(insert(tables.reviewer_revocations), row | {"leaf_index": index})
            except IntegrityError as error:
                raise ProbegateError(Reason.SERVER_BUSY, "revoked already") from error

        return write


def read_reviews(connection: Connection, force: str, search_id: str) -> Reviewed:
    """Return the reviews of a force's search; who was revoked does not count."""
    if NUL in search_id:
        return Reviewed((), (), frozenset())
    rows = connection.execute(
        select(tables.reviews)
        .where(tables.reviews.c.search_id == search_id, tables.reviews.c.force == force)
        .order_by(tables.reviews.c.number, tables.reviews.c.agency)
    ).all()
    revocations = read_revocations(connection, force)
    kept = tuple(map(_review, rows))
    revoked = frozenset(
        row.review_id
        for row in rows
        if (since := _since(revocations, row.person)) is not None and row.finished_us >= since
    )
    by_sitting: dict[str, list[KeptReview]] = {}
    for one in kept:
        # What was erased can no longer be read, and so cannot count.
        if one.review_id not in revoked and one.envelope.payload:
            by_sitting.setdefault(one.review_id, []).append(one)
    sittings = tuple(
        Sitting(
            review_id,
            {one.agency: decode(Review, one.envelope.payload) for one in parts},
            {one.agency: one.sha256 for one in parts},
        )
        for review_id, parts in by_sitting.items()
    )
    return Reviewed(kept, sittings, revoked)


def read_revocations(connection: Connection, force: str) -> tuple[KeptRevocation, ...]:
    """Return what a force revoked, in the log's order."""
    rows = connection.execute(
        select(tables.reviewer_revocations)
        .where(tables.reviewer_revocations.c.force == force)
        .order_by(tables.reviewer_revocations.c.leaf_index)
    ).all()
    return tuple(
        KeptRevocation(
            person=row.person,
            since_us=row.since_us,
            sha256=row.sha256,
            envelope=envelope_from_bytes(row.envelope),
            leaf_index=row.leaf_index,
            reviews=row.reviews,
        )
        for row in rows
    )


def standing_digest(standing: Standing) -> bytes:
    """Return what tells one standing of a search from another: who counts, of what, for what."""
    said = (
        standing.needed,
        standing.review_ids,
        [(c.agency, c.reference, c.opinion.value) for c in standing.candidates],
    )
    return sha256(repr(said).encode()).digest()


def is_revoked(revocations: Sequence[KeptRevocation], person: str, finished_us: int) -> bool:
    """Whether what a person did at an instant no longer counts."""
    since = _since(revocations, person)
    return since is not None and finished_us >= since


def _since(revocations: Sequence[KeptRevocation], person: str) -> int | None:
    """Return since when a person is revoked, microseconds; none if they are not."""
    mine = [one.since_us for one in revocations if one.person == plain_id(person)]
    return min(mine, default=None)


def _review(row: Any) -> KeptReview:
    return KeptReview(
        review_id=row.review_id,
        agency=row.agency,
        number=row.number,
        person=row.person,
        sha256=row.sha256,
        envelope=envelope_from_bytes(row.envelope),
        token=row.token,
        leaf_index=row.leaf_index,
    )
