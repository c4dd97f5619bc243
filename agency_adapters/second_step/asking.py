"""Taking in a request for disclosure for the agency's people, and saying what became of it.

Rules 1 to 15 are in ``papers`` and ``checks``; here they are applied in order, then:

16. The candidate was not recalled. An agreement in force today, in our own bundle, lets details be
    disclosed: it is not hit/no-hit, and nothing about it is switched off.
17. The record that was listed is there (``identities``), is not being erased and may be searched
    today. What of it may be disclosed is what was asked for, is agreed, is this kind of agency's to
    disclose, and is really in the record. Where that is nothing the request is denied, alike for
    all of these reasons.
18. The facts open under this order, this agency, this request and a key of ours that is valid now,
    and they open the request's commitment.
19. The request, and what its people need to decide about it, is kept in the transaction of its
    entry, before it is acknowledged; of each detail, what it is recognised by later. The same bytes
    again are the same request, and are given the same answer, also when their time has passed; its
    id with other bytes is a replay. About one candidate no more than so many wait at once.
20. What became of it is told to the broker that brought it, by its digest, and to nobody else. The
    details are handed over until they can be opened no more, the candidate is recalled, or the
    record's erasure begins. Once the answer that listed it is gone, so is what became of it
    (``retention``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Final
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.gallery import Gallery
from agency_adapters.gone import require_there
from agency_adapters.identities import Identities
from agency_adapters.models import FoundRecord
from agency_adapters.registry import kind_named
from agency_adapters.second_step import checks
from agency_adapters.second_step.agreed import (
    Agreed,
    agreed,
    require_switched_on,
    switches_for,
)
from agency_adapters.second_step.keeping import (
    Asked,
    Releases,
    ReviewedBy,
    keep_asked,
    keep_revocations,
)
from agency_adapters.second_step.models import ReleaseParams, ReleaseStanding
from agency_adapters.second_step.papers import REQUEST_ENTRY, Papers
from agency_adapters.second_step.recording import Book, Certain
from audit import kinds
from audit.leaves import stamp
from policy.decision import CompiledPolicy
from policy.ledger import Ledger
from trust.clock import Clock
from trust.commitment import facts_commitment
from trust.directory import KeyUse, Member
from trust.errors import ProbegateError, Reason
from trust.keys import Opener
from trust.messages import SearchOrder
from trust.payload_types import PayloadType
from trust.sealing import facts_info
from trust.second_step import DisclosedField, DisclosureFacts, DisclosureRequest
from trust.wire import decode

REQUESTED_ENTRY: Final = kinds.RELEASE_REQUESTED
REJECTED_ENTRY: Final = kinds.RELEASE_REJECTED


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be disclosed of a record today, and on what terms; the details never print.

    Attributes:
        agreed: the agreement that counts.
        fields: the details.
        category: the data subject's, where the record says it.
        ask: whom the agency's people must ask first.
    """

    agreed: Agreed
    fields: tuple[DisclosedField, ...] = field(repr=False)
    category: str
    ask: tuple[str, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the details."""
        return tuple(one.name for one in self.fields)


@dataclass(frozen=True, slots=True)
class Disclosable:
    """Says what may be disclosed today (16) (17).

    Attributes:
        agency: this agency's member id.
        switches: the operator's eligibility switches that are on.
        policy: returns the agreements in force.
        gallery: returns the gallery's newest generation.
        ledger: the kill switches.
        recalled: says whether a candidate was recalled.
        candidate: returns what a reference stands for, if it is kept.
        identities: recognises records, and what was shown of them.
        clock: tells the time.
    """

    agency: str
    switches: frozenset[str]
    policy: Callable[[], CompiledPolicy]
    gallery: Callable[[], Gallery]
    ledger: Ledger
    recalled: Callable[[str], bool]
    candidate: Callable[[str], FoundRecord | None]
    identities: Identities
    clock: Clock

    @property
    def kind(self) -> AgencyKind:
        """What kind of agency this is."""
        return kind_named(self.gallery().facts.kind)

    def opens(self, reference: str) -> bool:
        """Whether details of a candidate that are sealed already may be handed over (20)."""
        found = self.candidate(reference)
        return found is not None and not found.erased and not self.recalled(reference)

    def shown(self, record_id: str, fields: Iterable[DisclosedField]) -> dict[str, bytes]:
        """Return what the details of a record are recognised by, by code (19)."""
        return {
            one.name: self.identities.of_detail(record_id, one.name, one.value) for one in fields
        }

    async def terms(self, request: DisclosureRequest, order: SearchOrder) -> Terms:
        """Return what may be disclosed of a candidate's record in answer to a request.

        Raises:
            ProbegateError: ``STOP_USE``, ``DISCLOSURE_DENIED`` or ``RELEASE_SWITCHED_OFF``.
        """
        now, gallery, kind = self.clock(), self.gallery(), self.kind
        if self.recalled(request.reference):  # (16)
            raise ProbegateError(Reason.STOP_USE)
        today = agreed(self.policy(), order, self.agency, kind, now)  # (16)
        if today is None or today.duties.hit_no_hit or kind.defaults.hit_no_hit:
            raise ProbegateError(Reason.DISCLOSURE_DENIED, "not agreed")
        require_switched_on(order, self.agency, gallery.facts.matcher, self.ledger.switched_off)
        found = self.candidate(request.reference)
        record = None if found is None else await self.identities.record(gallery, found)
        if record is None or kind.bars(record, now.date(), self.switches):  # (17)
            raise ProbegateError(Reason.DISCLOSURE_DENIED, "no record to disclose")
        fields = kind.disclosed(record, set(request.fields) & set(today.duties.fields))
        if not fields:
            raise ProbegateError(Reason.DISCLOSURE_DENIED, "nothing of it is held")
        return Terms(today, fields, kind.category(record), kind.to_ask(record))


@dataclass(frozen=True, slots=True)
class AskingCommand:
    """Takes in requests for disclosure; free of transport.

    Attributes:
        agency: this agency's member id.
        skew: how far ahead of ours another's clock may be.
        most_waiting: how many requests about one candidate may wait at once.
        papers: checks papers.
        disclosable: says what may be disclosed.
        releases: the requests there are.
        book: this agency's search log.
        openers: this agency's sealing keys, by key id.
        clock: tells the time.
    """

    agency: str
    skew: timedelta
    most_waiting: int
    papers: Papers
    disclosable: Disclosable
    releases: Releases
    book: Book
    openers: Mapping[str, Opener] = field(repr=False)
    clock: Clock
    _one_at_a_time: WeakValueDictionary[bytes, asyncio.Lock] = field(
        default_factory=WeakValueDictionary, init=False, repr=False
    )

    async def ask(self, params: ReleaseParams, peer: Member) -> datetime:
        """Take in a request and return by when it is to be decided.

        Raises:
            ProbegateError: whatever the rules raise, or the log's own failure.
        """
        digest = sha256(params.request.payload).digest()
        lock = self._one_at_a_time.setdefault(digest, asyncio.Lock())
        async with lock, self.book.refusing(REJECTED_ENTRY) as certain:
            return await self._asked(params, digest, peer, certain)

    async def standing(self, request_sha256: bytes, peer: Member) -> ReleaseStanding:
        """Return what became of a request (20).

        Raises:
            ProbegateError: ``CHANNEL_ROLE``, ``NOT_FOUND``, ``RESULT_GONE`` or
                ``STATE_UNAVAILABLE``.
        """
        async with self.book.refusing(REJECTED_ENTRY) as certain:
            self.papers.admit_channel(peer)
            found = self.releases.of(request_sha256)
            if found is None and peer.id in self.releases.brokers_of_gone(request_sha256.hex()):
                raise ProbegateError(Reason.RESULT_GONE)
            if found is None or found.broker != peer.id:
                raise ProbegateError(Reason.NOT_FOUND)
            certain.facts["request_sha256"] = request_sha256.hex()
        opens = found.opens(self.clock()) and self.disclosable.opens(found.request.reference)
        return ReleaseStanding(found.decision, found.sealed if opens else b"", found.decide_by)

    async def _asked(
        self, params: ReleaseParams, digest: bytes, peer: Member, certain: Certain
    ) -> datetime:
        self.papers.admit_channel(peer)
        shown = self.papers.shown(params.order, peer)
        certain.facts |= {
            "search_id": shown.answer.report.search_id,
            "order_sha256": shown.answer.order_sha256.hex(),
        }
        self.papers.said_by(shown.force, params.request, PayloadType.DISCLOSURE_REQUEST)
        certain.facts["request_sha256"] = digest.hex()
        request = decode(DisclosureRequest, params.request.payload)
        certain.facts["reference"] = request.reference
        checks.require_of_this_search(request, shown, self.agency, Reason.DISCLOSURE_INVALID)  # (7)
        proved = self.papers.proved(
            params.recorded, peer, checks.entry_of(request, digest, REQUEST_ENTRY)
        )
        certain.seen = proved.seen
        known = self.releases.by_id(shown.force, request.request_id)  # (19)
        if known is not None:
            if known.request_sha256 != digest:
                raise ProbegateError(Reason.DISCLOSURE_REPLAYED)
            return known.decide_by
        now, directory = self.clock(), self.papers.directory()
        checks.require_fresh(request, proved.at, now, self.skew)  # (8)
        record_id = checks.require_listed(request, shown)  # (9)
        reviews = checks.require_reviews(  # (10) to (13)
            params, request, shown, proved, directory, self.skew
        )
        told = checks.told_of(params, shown.force, self.papers.said_by)
        checks.require_none_revoked(reviews, shown.force, told, self.releases.revoked)  # (14)
        terms = await self.disclosable.terms(request, shown.order)  # (16) (17)
        checks.require_shared_opinion(  # (15)
            reviews, request.reference, terms.agreed.duties.reviewers
        )
        facts = self._facts(params, request)  # (18)
        decide_by = now + timedelta(hours=terms.agreed.duties.release_within_hours)
        asked = Asked(
            request=params.request,
            broker=peer.id,
            record_id=record_id,
            fields=terms.codes,
            shown=self.disclosable.shown(record_id, terms.fields),
            reviewers=tuple(ReviewedBy(one.reviewer, one.review.finished_at) for one in reviews),
            order=params.order.payload,
            facts=facts.facts,
            ask=terms.ask,
            switches=switches_for(
                shown.order, self.agency, self.disclosable.gallery().facts.matcher
            ),
            needed=self.disclosable.kind.defaults.owner_reviewers,
            received_at=now,
            decide_by=decide_by,
        )

        def also(connection: Connection, _index: int) -> None:  # (19)
            require_there(connection, shown.answer.order_sha256)
            keep_revocations(connection, told)
            keep_asked(connection, asked, self.most_waiting)

        await self.book.record(REQUESTED_ENTRY, certain, also, decide_by=stamp(decide_by))
        return decide_by

    def _facts(self, params: ReleaseParams, request: DisclosureRequest) -> DisclosureFacts:
        """Apply rule (18)."""
        kid = params.sealed_key_id
        opener = self.openers.get(kid)
        if opener is None:
            raise ProbegateError(Reason.SEAL_INVALID, "sealed to a key that is not ours")
        self.papers.directory().resolver(self.agency, KeyUse.SEAL, self.clock())(kid)
        info = facts_info(request.order_sha256, self.agency, request.request_id, kid)
        facts = decode(DisclosureFacts, opener.open(params.sealed_facts, info))
        expected = facts_commitment(facts.salt, facts.facts)
        if not compare_digest(expected, request.facts_commitment):
            raise ProbegateError(Reason.DISCLOSURE_INVALID, field="facts_commitment")
        return facts
