"""Have candidates' images sent to the force for review, sealed to it by their agency.

1. The request is signed by the force that owns the channel, and of this moment.
2. It is about one of its searches that has ended, and candidates that the agency's report lists in
   the result as it stands.
3. The agreement lets images be sent: with the candidates, or on request where reasons are given.
4. The reviewer holds a token for that part, and may review this search (``reviewers``).
5. It is on the log before the agency is asked, and what it is asked carries the proof.
6. What the agency sends goes on as it comes: once for each candidate that was asked for, bounded,
   and nothing else. The broker cannot open it (promise 2).
7. A refusal, ours or the agency's, is on the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from audit.writer import LogWriter, NewEntry
from broker.second_step import leaves
from broker.second_step.agreed import Agreed
from broker.second_step.models import SealedImage, SignedByForce
from broker.second_step.opening import Caller, ended_search, require_listed
from broker.second_step.orders import Orders
from broker.second_step.refusing import Refusals
from broker.second_step.releasing import Releasing, passes
from broker.second_step.review_store import ReviewStore
from broker.second_step.reviewers import require_reviewer
from broker.settings import BrokerSettings
from broker.store import SearchStore
from trust.clock import Clock
from trust.directory import Directory
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.second_step import ImageRequest
from trust.tokens import Part


@dataclass(frozen=True, slots=True)
class GetImages:
    """The command; one per process."""

    settings: BrokerSettings
    store: SearchStore
    orders: Orders
    reviews: ReviewStore
    agreed: Agreed
    releasing: Releasing
    refusals: Refusals
    log: LogWriter
    clock: Clock

    async def execute(
        self, params: SignedByForce, peer: PeerIdentity, directory: Directory, remaining_s: float
    ) -> AsyncIterator[SealedImage]:
        """Yield the images as they come.

        Raises:
            ProbegateError: an envelope's or key's reason, ``REVIEW_INVALID``, ``NOT_FOUND``,
                ``IMAGES_NOT_AGREED``, ``RELEASE_SWITCHED_OFF``, ``OFFICER_TOKEN_INVALID``, what
                ``require_reviewer`` raises, the log's own failure, or the agency's refusal.
        """
        caller = Caller(peer, directory, self.clock())
        said = await self.refusals.opened(  # (1)
            caller, params.envelope, PayloadType.IMAGE_REQUEST, ImageRequest
        )
        try:
            order = await self._checked(caller, params, said)
        except ProbegateError as error:
            await self._refused(error, said, params, leaves.BROKER)
            raise
        entry = NewEntry(  # (5)
            leaf=leaves.images_requested(said, params.envelope.payload, caller.now),
            private={
                "reviewer": leaves.person_facts(said.reviewer),
                "reasons": said.reasons,
            },
            retain_until=caller.now + timedelta(days=self.settings.values_retain_days),
        )
        index = (await self.log.append(entry)).index
        timeout_s = min(remaining_s, self.settings.images_timeout_s)
        sent = self.releasing.images(said.agency, order, params.envelope, index, timeout_s)
        try:
            async for image in _wanted(said, sent):
                yield image
        except ProbegateError as error:
            by = leaves.BROKER if passes(error) else leaves.AGENCY
            await self._refused(error, said, params, by)
            raise

    async def _checked(self, caller: Caller, params: SignedByForce, said: ImageRequest) -> Envelope:
        """Apply rules (1) to (4) and return the search's signed order."""
        skew = timedelta(seconds=self.settings.clock_skew_s)
        record = await ended_search(self.store, caller.force, said, Reason.REVIEW_INVALID)  # (2)
        caller.require_fresh(said.created_at, skew, Reason.REVIEW_INVALID, "created_at")  # (1)
        require_listed(record, said, said.references, Reason.REVIEW_INVALID, "references")
        order, envelope = await self.orders.of(said.search_id)
        self.agreed.require_images(record, order, said.agency, said.reasons, caller.now)  # (3)
        caller.require_person(params.token, Part.REVIEWER, said.reviewer)  # (4)
        revocations = await self.reviews.revocations(caller.force)
        require_reviewer(said.reviewer, order, revocations, caller.now)
        return envelope

    async def _refused(
        self, error: ProbegateError, said: ImageRequest, params: SignedByForce, by: str
    ) -> None:
        """Record why images were not sent (7)."""
        await self.refusals.note(
            error,
            lambda reason, search_id: leaves.images_refused(
                said, params.envelope.payload, search_id, reason, by, self.clock()
            ),
            said.search_id,
        )


async def _wanted(
    said: ImageRequest, sent: AsyncIterator[SealedImage]
) -> AsyncIterator[SealedImage]:
    """Pass on what was asked for, all of it, each once, and nothing else (6)."""
    wanted = set(said.references)
    async for image in sent:
        if image.reference not in wanted or bool(image.sealed) != bool(image.sealed_key_id):
            raise ProbegateError(Reason.OUTCOME_INVALID, field="reference")
        wanted.remove(image.reference)
        yield image
    if wanted:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="references")
