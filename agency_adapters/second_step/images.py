"""Sending candidates' images for review, before anybody has a name.

1. to 6. The papers are in order (``papers``): a broker's channel, an order that was answered here,
   signed by its force; a request signed by that same force now; an entry of the broker's log that
   says the same, proved under a checkpoint that continues what was seen of that log.
7. The request is of this search, this order and this agency.
8. It was made now: not from the future beyond the clock skew, and not longer ago than a request
   lives.
9. Every reference is a candidate of the very report that was handed out; what was withheld is not.
10. An agreement in force today, in our own bundle, lets images be sent: with the answer, or on
    request and reasons are given.
11. Nothing about it is switched off.
12. A candidate that was recalled, and a record that is gone (``identities``) or that may not be
    searched today, has no image to send. That is said as it is of a record that never had one.
13. What is sent is on this agency's log before the first byte leaves.
14. Each image is signed, then sealed to the newest sealing key of the force, bound to the order,
    this agency and its reference, and sent by itself: only one is held in memory at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from agency_adapters.galleries.gallery import Gallery
from agency_adapters.identities import Identities
from agency_adapters.images import ImageStore
from agency_adapters.registry import kind_named
from agency_adapters.second_step.agreed import agreed, require_switched_on
from agency_adapters.second_step.checks import require_of_this_search
from agency_adapters.second_step.models import ImagesParams, SentImage
from agency_adapters.second_step.papers import IMAGES_ENTRY, Papers, Shown
from agency_adapters.second_step.recording import Book, Certain
from audit import kinds
from policy.agreements import IMAGES_WITH_ANSWER, NO_IMAGES
from policy.decision import CompiledPolicy
from policy.ledger import Ledger
from trust import dsse
from trust.clock import Clock
from trust.directory import Member
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.payload_types import PayloadType
from trust.sealing import image_info, seal
from trust.second_step import MAX_REQUEST_LIFETIME, CandidateImage, ImageRequest
from trust.wire import decode, encode, envelope_to_bytes

SENT_ENTRY: Final = kinds.IMAGES_SENT
REFUSED_ENTRY: Final = "images.refused"


@dataclass(frozen=True, slots=True)
class ImagesCommand:
    """Answers requests for images; free of transport.

    Attributes:
        agency: this agency's member id.
        skew: how far ahead of ours another's clock may be.
        switches: the operator's eligibility switches that are on.
        papers: checks papers.
        policy: returns the agreements in force.
        gallery: returns the gallery's newest generation.
        identities: recognises records.
        images: the agency's own store.
        ledger: the kill switches.
        recalled: says whether a candidate was recalled.
        book: this agency's search log.
        signer: signs images.
        clock: tells the time.
    """

    agency: str
    skew: timedelta
    switches: frozenset[str]
    papers: Papers
    policy: Callable[[], CompiledPolicy]
    gallery: Callable[[], Gallery]
    identities: Identities
    images: ImageStore
    ledger: Ledger
    recalled: Callable[[str], bool]
    book: Book
    signer: Signer
    clock: Clock

    async def execute(self, params: ImagesParams, peer: Member) -> AsyncIterator[SentImage]:
        """Send the images that were asked for, one by one.

        Raises:
            ProbegateError: whatever the rules raise, or the log's own failure.
        """
        async with self.book.refusing(REFUSED_ENTRY) as certain:
            request, shown = self._admitted(params, peer, certain)
            sendable = await self._sendable(request, shown)  # (12)
            key = self.papers.directory().sealing_key(shown.force, self.agency, self.clock())
            await self.book.record(  # (13)
                SENT_ENTRY,
                certain,
                references=[one for one in request.references if one in sendable],
                without=[one for one in request.references if one not in sendable],
            )
        for reference in request.references:
            record_id = sendable.get(reference)
            found = None
            if record_id is not None:
                found = await asyncio.to_thread(self.images.find, record_id)
            if found is None:
                yield SentImage(reference)
                continue
            image = CandidateImage(  # (14)
                search_id=request.search_id,
                order_sha256=request.order_sha256,
                agency=self.agency,
                reference=reference,
                media_type=found.media_type,
                image=found.content,
                sent_at=self.clock(),
            )
            signed = dsse.sign(PayloadType.CANDIDATE_IMAGE, encode(image), self.signer)
            info = image_info(request.order_sha256, self.agency, reference, key.kid)
            yield SentImage(reference, key.kid, seal(envelope_to_bytes(signed), key, info))

    def _admitted(
        self, params: ImagesParams, peer: Member, certain: Certain
    ) -> tuple[ImageRequest, Shown]:
        """Apply rules (1) to (11)."""
        self.papers.admit_channel(peer)
        shown = self.papers.shown(params.order, peer)
        certain.facts |= {
            "search_id": shown.answer.report.search_id,
            "order_sha256": shown.answer.order_sha256.hex(),
        }
        digest = self.papers.said_by(shown.force, params.request, PayloadType.IMAGE_REQUEST)
        certain.facts["request_sha256"] = digest.hex()
        request = decode(ImageRequest, params.request.payload)
        require_of_this_search(request, shown, self.agency, Reason.REVIEW_INVALID)  # (7)
        proved = self.papers.proved(
            params.recorded,
            peer,
            {
                "type": IMAGES_ENTRY,
                "search_id": request.search_id,
                "agency": self.agency,
                "request_sha256": digest.hex(),
                "references": list(request.references),
            },
        )
        certain.seen = proved.seen
        now = self.clock()
        if not now - MAX_REQUEST_LIFETIME <= request.created_at <= now + self.skew:  # (8)
            raise ProbegateError(Reason.REVIEW_INVALID, "not made now", field="created_at")
        if any(shown.answer.record_of(one) is None for one in request.references):  # (9)
            raise ProbegateError(Reason.REVIEW_INVALID, "no candidate", field="references")
        facts = self.gallery().facts
        kind = kind_named(facts.kind)
        today = agreed(self.policy(), shown.order, self.agency, kind, now)  # (10)
        images = today.duties.images if today is not None else NO_IMAGES
        if images == NO_IMAGES or (images != IMAGES_WITH_ANSWER and not request.reasons.strip()):
            raise ProbegateError(Reason.IMAGES_NOT_AGREED, images)
        off = self.ledger.switched_off
        require_switched_on(shown.order, self.agency, facts.matcher, off)  # (11)
        return request, shown

    async def _sendable(self, request: ImageRequest, shown: Shown) -> dict[str, str]:
        """Return the records that have an image to send, by reference (12)."""
        gallery, today = self.gallery(), self.clock().date()
        kind = kind_named(gallery.facts.kind)
        sendable = {}
        for reference in request.references:
            found = shown.answer.candidate(reference)
            if found is None or found.erased:
                continue
            record = await self.identities.record(gallery, found)
            barred = record is None or kind.bars(record, today, self.switches)
            # Where no records are kept, who may be searched is decided where they are.
            if self.recalled(reference) or (barred and gallery.facts.keeps_records):
                continue
            if await asyncio.to_thread(self.images.has, found.record_id):
                sendable[reference] = found.record_id
        return sendable
