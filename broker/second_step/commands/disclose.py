"""Ask the owner of a reviewed candidate for its details: what is checked before it is recorded.

1. The request is signed by the force that owns the channel, and names one of its searches that has
   ended. The same signed bytes again return the same request; its id used for another is refused.
2. It is fresh: made now, and not past its end.
3. The candidate is in the agency's report in the result as it stands, by that report's digest, and
   was not recalled.
4. The requester holds a token for the part of an officer that says the same of them.
5. The reviews are settled, and this candidate as a potential one. The request names exactly the
   reviews of that agency that count, at least as many as are needed, none by the requester.
6. The agreement in force now lets these fields be disclosed, and nothing is switched off
   (``agreed``). The agency decides all of this again, by itself (promise 3).
7. The facts are sealed to a key of that agency: the broker cannot read them (promise 2).
8. It is on the log, and kept, in one commit; only then is the agency handed it (``handing``).
9. A refusal is on the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from audit.writer import LogWriter, NewEntry
from broker.leaves import sha256
from broker.models import SearchRecord
from broker.second_step import leaves
from broker.second_step.agreed import Agreed
from broker.second_step.commands.disclosures import ReadDisclosures
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.models import Disclosure, DisclosureParams, DisclosureView
from broker.second_step.notice_store import RecallStore
from broker.second_step.opening import Caller, ended_search, require_listed
from broker.second_step.orders import Orders
from broker.second_step.refusing import Refusals
from broker.second_step.standings import Standings
from broker.settings import BrokerSettings
from broker.store import SearchStore
from trust.clock import Clock
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.people import same_person
from trust.second_step import DisclosureRequest, Opinion
from trust.tokens import Part

MAX_SEALED_FACTS_BYTES: Final = 40 * 1024
"""Largest sealed facts, bytes: 8,000 characters of four, salt, the hybrid suite's overhead."""


@dataclass(frozen=True, slots=True)
class RequestDisclosure:
    """The command; one per process."""

    settings: BrokerSettings
    store: SearchStore
    orders: Orders
    standings: Standings
    agreed: Agreed
    disclosures: DisclosureStore
    recalls: RecallStore
    reading: ReadDisclosures
    refusals: Refusals
    log: LogWriter
    clock: Clock

    async def execute(
        self, params: DisclosureParams, peer: PeerIdentity, directory: Directory
    ) -> DisclosureView:
        """Record a request, or return the one these very bytes made before.

        Raises:
            ProbegateError: an envelope's or key's reason, ``DISCLOSURE_INVALID``, ``NOT_FOUND``,
                ``DISCLOSURE_REPLAYED``, ``DISCLOSURE_DENIED``, ``OFFICER_TOKEN_INVALID``,
                ``REVIEW_MISSING``, ``REVIEWER_REVOKED``, ``REVIEW_NOT_INDEPENDENT``, ``STOP_USE``,
                ``RELEASE_SWITCHED_OFF``, ``SEAL_INVALID``, or the log's own failure.
        """
        caller = Caller(peer, directory, self.clock())
        said = await self.refusals.opened(  # (1)
            caller, params.envelope, PayloadType.DISCLOSURE_REQUEST, DisclosureRequest
        )
        try:
            record = await self._recorded(caller, params, said)
        except ProbegateError as error:
            await self.refusals.note(  # (9)
                error,
                lambda reason, search_id: leaves.request_refused_by_broker(
                    said, params.envelope.payload, search_id, reason, caller.now
                ),
                said.search_id,
            )
            raise
        return await self.reading.view(record)

    async def _recorded(
        self, caller: Caller, params: DisclosureParams, said: DisclosureRequest
    ) -> Disclosure:
        earlier = await self._earlier(params, said)  # (1)
        if earlier is not None:
            return earlier
        record = await ended_search(self.store, caller.force, said, Reason.DISCLOSURE_INVALID)
        self._require_fresh(caller, said)  # (2)
        await self._require_candidate(said, record)  # (3)
        caller.require_person(params.token, Part.OFFICER, said.requester)  # (4)
        await self._require_reviews(said, record)  # (5)
        order, _ = await self.orders.of(said.search_id)
        self.agreed.require_disclosure(record, order, said.agency, said.fields, caller.now)  # (6)
        keys = caller.directory.keys(said.agency, KeyUse.SEAL, caller.now)
        if params.sealed_key_id not in {key.kid for key in keys} or not (  # (7)
            0 < len(params.sealed_facts) <= MAX_SEALED_FACTS_BYTES
        ):
            raise ProbegateError(Reason.SEAL_INVALID, field="sealed_facts")
        until = caller.now + timedelta(hours=self.settings.release_handover_h)
        entry = NewEntry(  # (8)
            leaf=leaves.disclosure_requested(said, params.envelope.payload, caller.now),
            private=leaves.disclosure_facts(said),
            retain_until=caller.now + timedelta(days=self.settings.values_retain_days),
            also=self.disclosures.recorded(params, said, caller.now, until),
        )
        try:
            await self.log.append(entry)
        except ProbegateError as error:
            if error.reason is not Reason.DISCLOSURE_REPLAYED:
                raise
        kept = await self._earlier(params, said)  # ours, or the same that came at once (1)
        if kept is None:
            raise ProbegateError(Reason.STATE_UNAVAILABLE, "a request that was recorded is gone")
        return kept

    async def _earlier(
        self, params: DisclosureParams, said: DisclosureRequest
    ) -> Disclosure | None:
        kept = await self.disclosures.get(said.force, said.request_id)
        if kept is not None and kept.request_sha256 != sha256(params.envelope.payload):
            raise ProbegateError(Reason.DISCLOSURE_REPLAYED)
        return kept

    def _require_fresh(self, caller: Caller, said: DisclosureRequest) -> None:
        skew = timedelta(seconds=self.settings.clock_skew_s)
        if said.created_at > caller.now + skew:
            raise ProbegateError(Reason.DISCLOSURE_INVALID, field="created_at")
        if caller.now >= said.expires_at:
            raise ProbegateError(Reason.DISCLOSURE_INVALID, field="expires_at")

    async def _require_candidate(self, said: DisclosureRequest, record: SearchRecord) -> None:
        listed = require_listed(record, said, (said.reference,), Reason.DISCLOSURE_INVALID)
        if said.report_sha256 != listed.report_sha256:
            raise ProbegateError(Reason.DISCLOSURE_INVALID, field="report_sha256")
        if await self.recalls.is_recalled(said.search_id, said.agency, said.reference):
            raise ProbegateError(Reason.STOP_USE)

    async def _require_reviews(self, said: DisclosureRequest, record: SearchRecord) -> None:
        """Apply rule (5)."""
        reviewed, standing = await self.standings.of(record)
        named = set(said.review_sha256s)
        if named & {one.sha256 for one in reviewed.kept if one.review_id in reviewed.revoked}:
            raise ProbegateError(Reason.REVIEWER_REVOKED)
        found = standing.of(said.agency, said.reference)
        if found is None or found.opinion is not Opinion.POTENTIAL_CANDIDATE:
            raise ProbegateError(Reason.REVIEW_MISSING)
        if named != set(found.review_sha256s) or len(named) < standing.needed:
            raise ProbegateError(Reason.REVIEW_MISSING, field="review_sha256s")
        if any(same_person(one.person, said.requester.id) for one in reviewed.kept):
            raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT, field="requester")
        await self.standings.view(record)  # what it stands on is on the log before it is
