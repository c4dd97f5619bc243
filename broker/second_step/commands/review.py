"""Record what one reviewer found of every candidate of a search, and say how the reviews stand.

1. Each review is signed by the force that owns the channel; together they are one sitting of one
   person: one for each agency that listed candidates, in the order's sequence.
2. It is about one of the force's searches, that has ended. The same signed bytes again return what
   they recorded, whatever time it is.
3. The sitting covers every candidate of the result as it stands, and no other, of the very reports
   that list them.
4. The reviewer holds a token for that part that says the same of them. It was valid when the
   sitting ended, too: an agency that is shown it has nothing else to go by.
5. The reviewer may review this search (``reviewers``), and has not reviewed it.
6. Another review is needed; who comes when nothing is open is turned away.
7. The sitting is of this moment, and began after the search.
8. It is on the log before it counts. Entries hold digests; what was found is a value beside the
   log, and nobody is told of it before every candidate is settled (``standings``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from audit.writer import LogWriter, NewEntry
from broker.leaves import sha256
from broker.models import SearchRecord
from broker.second_step import leaves
from broker.second_step.models import Receipt, ReviewsParams, StatusView
from broker.second_step.opening import Caller, ended_search, listed_still, results_are_gone
from broker.second_step.orders import Orders
from broker.second_step.receipts import Receipts
from broker.second_step.refusing import Refusals
from broker.second_step.review_store import Reviewed, ReviewStore
from broker.second_step.reviewers import require_reviewer
from broker.second_step.standings import Standings
from broker.settings import BrokerSettings
from broker.store import SearchStore
from trust.clock import Clock
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.people import same_person
from trust.second_step import Review
from trust.tokens import Part, verify_recorded_token

_ATTEMPTS: Final = 8
"""How often a sitting is tried to be recorded while others of the same search come first."""


@dataclass(frozen=True, slots=True)
class SubmitReview:
    """The command; one per process."""

    settings: BrokerSettings
    store: SearchStore
    orders: Orders
    reviews: ReviewStore
    standings: Standings
    refusals: Refusals
    receipts: Receipts
    log: LogWriter
    clock: Clock

    async def execute(
        self, params: ReviewsParams, peer: PeerIdentity, directory: Directory
    ) -> tuple[StatusView, Receipt]:
        """Record a sitting and return how the reviews stand, and its receipt.

        Raises:
            ProbegateError: an envelope's or key's reason, ``REVIEW_INVALID``, ``NOT_FOUND``,
                ``OFFICER_TOKEN_INVALID``, ``REVIEW_NOT_NEEDED``, what ``require_reviewer`` raises,
                or the log's own failure.
        """
        caller = Caller(peer, directory, self.clock())
        said = [
            await self.refusals.opened(caller, one, PayloadType.REVIEW, Review)  # (1)
            for one in params.envelopes
        ]
        try:
            _require_one_sitting(said)  # (1)
            record = await ended_search(  # (2)
                self.store, caller.force, said[0], Reason.REVIEW_INVALID
            )
            index = await self._recorded(caller, params, said, record)
        except ProbegateError as error:
            await self.refusals.note(
                error,
                lambda reason, search_id: leaves.review_refused(
                    caller.force, search_id, reason, caller.now
                ),
                said[0].search_id,
            )
            raise
        return await self.standings.view(record), self.receipts.of(index)

    async def _recorded(
        self,
        caller: Caller,
        params: ReviewsParams,
        said: Sequence[Review],
        record: SearchRecord,
    ) -> int:
        """Apply rules (2) to (8) and return where in the log the sitting is."""
        for _ in range(_ATTEMPTS):
            reviewed, standing = await self.standings.of(record)
            earlier = _recorded_before(params, said, reviewed)
            if earlier is not None:  # (2)
                return earlier
            _require_every_candidate(said, record)  # (3)
            await self._require_reviewer(caller, params, said[0], reviewed)  # (4) (5)
            if not standing.open:  # (6)
                raise ProbegateError(Reason.REVIEW_NOT_NEEDED)
            self._require_time(caller, said[0], record)  # (7)
            try:
                return await self._append(caller, params, said, reviewed.newest + 1)  # (8)
            except ProbegateError as error:
                if error.reason is not Reason.SERVER_BUSY:
                    raise
        raise ProbegateError(Reason.SERVER_BUSY)

    async def _append(
        self, caller: Caller, params: ReviewsParams, said: Sequence[Review], number: int
    ) -> int:
        reviews = {one.agency: one for one in said}
        digests = {
            one.agency: sha256(envelope.payload)
            for one, envelope in zip(said, params.envelopes, strict=True)
        }
        appended = await self.log.append(
            NewEntry(
                leaf=leaves.review_recorded(reviews, digests, number, caller.now),
                private=leaves.review_facts(reviews),
                retain_until=caller.now + timedelta(days=self.settings.values_retain_days),
                also=self.reviews.recorded(params, reviews, number),
            )
        )
        return appended.index

    async def _require_reviewer(
        self, caller: Caller, params: ReviewsParams, said: Review, reviewed: Reviewed
    ) -> None:
        caller.require_person(params.token, Part.REVIEWER, said.reviewer)  # (4)
        verify_recorded_token(
            params.token,
            resolve=caller.directory.resolver(caller.force, KeyUse.IDENTITY, said.finished_at),
            force_id=caller.force,
            used_at=said.finished_at,
            part=Part.REVIEWER,
        )
        order, _ = await self.orders.of(said.search_id)
        revocations = await self.reviews.revocations(caller.force)
        require_reviewer(said.reviewer, order, revocations, caller.now)  # (5)
        require_reviewer(said.reviewer, order, revocations, said.finished_at)
        if any(same_person(one.person, said.reviewer.id) for one in reviewed.kept):
            raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT, field="reviewer")

    def _require_time(self, caller: Caller, said: Review, record: SearchRecord) -> None:
        skew = timedelta(seconds=self.settings.clock_skew_s)
        caller.require_fresh(said.finished_at, skew, Reason.REVIEW_INVALID, "finished_at")
        if said.started_at < record.created_at - skew:
            raise ProbegateError(Reason.REVIEW_INVALID, field="started_at")


def _require_one_sitting(said: Sequence[Review]) -> None:
    """Apply rule (1): one person's one sitting, each agency once."""
    first = said[0]
    for field in (
        "review_id",
        "search_id",
        "order_sha256",
        "reviewer",
        "started_at",
        "finished_at",
    ):
        if any(getattr(one, field) != getattr(first, field) for one in said):
            raise ProbegateError(Reason.REVIEW_INVALID, field=field)
    if len({one.agency for one in said}) != len(said):
        raise ProbegateError(Reason.REVIEW_INVALID, field="agency")


def _require_every_candidate(said: Sequence[Review], record: SearchRecord) -> None:
    """Apply rule (3)."""
    listed = listed_still(record)
    if not listed:
        raise ProbegateError(Reason.REVIEW_NOT_NEEDED)
    if [one.agency for one in said] != [one.agency for one in listed]:
        raise ProbegateError(Reason.REVIEW_INVALID, field="agency")
    for review, one in zip(said, listed, strict=True):
        if review.report_sha256 != one.report_sha256:
            raise ProbegateError(Reason.REVIEW_INVALID, field="report_sha256")
        if {finding.reference for finding in review.findings} != set(one.references):
            raise ProbegateError(Reason.REVIEW_INVALID, field="findings.reference")


def _recorded_before(
    params: ReviewsParams, said: Sequence[Review], reviewed: Reviewed
) -> int | None:
    """Return where these very bytes are in the log, if they are (2).

    Raises:
        ProbegateError: ``REVIEW_INVALID`` if the id was used for another sitting of the search.
    """
    mine = [one for one in reviewed.kept if one.review_id == said[0].review_id]
    if not mine:
        return None
    if {one.sha256 for one in mine} != {sha256(one.payload) for one in params.envelopes}:
        raise ProbegateError(Reason.REVIEW_INVALID, field="review_id")
    return mine[0].leaf_index


@dataclass(frozen=True, slots=True)
class GetReviewStatus:
    """The command; one per process."""

    store: SearchStore
    standings: Standings

    async def execute(self, force: str, search_id: str) -> StatusView:
        """Return how the reviews of a search stand.

        Raises:
            ProbegateError: ``NOT_FOUND``; ``REVIEW_INVALID`` for a search that has not ended;
                ``RESULT_GONE``.
        """
        record = await self.store.get(force, search_id)
        if record is None:
            raise ProbegateError(Reason.NOT_FOUND)
        if results_are_gone(record):
            raise ProbegateError(Reason.RESULT_GONE)
        if record.result is None:
            raise ProbegateError(Reason.REVIEW_INVALID, field="search_id")
        listed_still(record)
        return await self.standings.view(record)
