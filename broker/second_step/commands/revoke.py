"""Take a reviewer's reviews out of the count, from an instant on.

1. The revocation is signed by the force that owns the channel, and of this moment.
2. Whoever revokes holds a token for the part of an authoriser that says the same of them.
3. The same signed bytes again return what they recorded.
4. It is on the log before it counts. Reviews that ended since do not count from then on, and what
   was settled by them is open again.
5. Requests for disclosure that stand on such a review, and are not released, end as REFUSED.
6. Every agency with an open request of the force is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from audit.writer import LogWriter, NewEntry
from broker.leaves import sha256
from broker.second_step import leaves
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.handing import Handing
from broker.second_step.models import KeptRevocation, Receipt, SignedByForce
from broker.second_step.notice_store import NoticeStore
from broker.second_step.opening import Caller
from broker.second_step.receipts import Receipts
from broker.second_step.refusing import Refusals
from broker.second_step.review_store import ReviewStore
from broker.settings import BrokerSettings
from broker.storing import together
from trust.clock import Clock
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.people import plain_id
from trust.second_step import ReviewerRevocation
from trust.tokens import Part

_PERSON: Final = re.compile(r"[a-z0-9][a-z0-9@._:/ -]{0,127}")
"""Every id that a token may name, in its one form; no other can be a reviewer's."""


@dataclass(frozen=True, slots=True)
class RevokeReviewer:
    """The command; one per process."""

    settings: BrokerSettings
    reviews: ReviewStore
    disclosures: DisclosureStore
    notices: NoticeStore
    handing: Handing
    refusals: Refusals
    receipts: Receipts
    log: LogWriter
    clock: Clock

    async def execute(
        self, params: SignedByForce, peer: PeerIdentity, directory: Directory
    ) -> tuple[int, Receipt]:
        """Revoke, and return how many sittings no longer count, and the receipt.

        Raises:
            ProbegateError: an envelope's or key's reason, ``NOTICE_INVALID``,
                ``OFFICER_TOKEN_INVALID``, or the log's own failure.
        """
        caller = Caller(peer, directory, self.clock())
        said = await self.refusals.opened(  # (1)
            caller, params.envelope, PayloadType.REVIEWER_REVOCATION, ReviewerRevocation
        )
        kept = await self._kept(caller, params)  # (3)
        if kept is None:
            try:
                self._require(caller, params, said)
            except ProbegateError as error:
                await self.refusals.note_statement(error, caller, params.envelope)
                raise
            kept = await self._append(caller, params, said)
        await self.handing.refuse_revoked(caller.force)  # (5)
        return kept.reviews, self.receipts.of(kept.leaf_index)

    def _require(self, caller: Caller, params: SignedByForce, said: ReviewerRevocation) -> None:
        skew = timedelta(seconds=self.settings.clock_skew_s)
        if not _PERSON.fullmatch(plain_id(said.reviewer)):
            raise ProbegateError(Reason.NOTICE_INVALID, field="reviewer")
        caller.require_fresh(said.revoked_at, skew, Reason.NOTICE_INVALID, "revoked_at")
        caller.require_person(params.token, Part.AUTHORISER, said.person)  # (2)

    async def _kept(self, caller: Caller, params: SignedByForce) -> KeptRevocation | None:
        digest = sha256(params.envelope.payload)
        found = await self.reviews.revocations(caller.force)
        return next((one for one in found if one.sha256 == digest), None)

    async def _append(
        self, caller: Caller, params: SignedByForce, said: ReviewerRevocation
    ) -> KeptRevocation:
        count = await self.reviews.would_revoke(said)
        agencies = sorted({one.agency for one in await self.disclosures.open_of(caller.force)})
        until = caller.now + timedelta(hours=self.settings.notice_at_most_h)
        entry = NewEntry(  # (4) (6)
            leaf=leaves.reviewer_revoked(said, params.envelope.payload, count, caller.now),
            private=leaves.revocation_facts(said),
            retain_until=caller.now + timedelta(days=self.settings.values_retain_days),
            also=together(
                self.reviews.revoked(said, params.envelope, count),
                self.notices.to_tell(agencies, params.envelope, caller.now, until),
            ),
        )
        try:
            await self.log.append(entry)
        except ProbegateError as error:
            if error.reason is not Reason.SERVER_BUSY:
                raise
        kept = await self._kept(caller, params)  # ours, or the same that came at once (3)
        if kept is None:
            raise ProbegateError(Reason.SERVER_BUSY)
        return kept
