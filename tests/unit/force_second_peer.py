"""The broker and the agencies of the second step at the other end of the wire, with knobs.

They serve the real contract with their real keys, so that what a force must refuse is refused for
what is in it. ``spoil`` changes one thing before it is signed, sealed, proved or sent; ``signers``
says who signs it instead of whom it should be.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

import grpc
from probegate.broker.v1 import (
    disclosure_service_pb2 as disclosure_pb,
)
from probegate.broker.v1 import (
    disclosure_service_pb2_grpc,
    review_service_pb2_grpc,
)
from probegate.broker.v1 import (
    review_service_pb2 as review_pb,
)

from audit.leaves import canonical, stamp
from force_client import AsyncForceClient, Part, SearchView
from force_client.models import ReceivedSearch
from force_client.orders import SignedOrder
from force_client.second_step.models import DisclosureState
from tests.unit.force_peer import Peer, RunningPeer
from tests.unit.force_scene import FORCE, Scene, answer_of, draft, expired, probe, silent
from trust import dsse, sealing
from trust.commitment import facts_commitment
from trust.directory import KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Candidate, Model, Person
from trust.payload_types import PayloadType
from trust.rpc import to_status
from trust.second_step import (
    CandidateImage,
    Corroboration,
    DisclosedField,
    Disclosure,
    DisclosureFacts,
    DisclosureRequest,
    ImageRequest,
    Nature,
    Opinion,
    Recall,
    RecallAcknowledgement,
    RecallReason,
    ReleaseDecision,
    ReleaseState,
    Review,
    ReviewerRevocation,
    WrongMatch,
)
from trust.wire import (
    decode,
    encode,
    envelope_from_wire,
    envelope_to_bytes,
    envelope_to_wire,
    opinion_to_wire,
    timestamp,
)

REVIEWERS: Final = ("ns-3310", "ns-3311", "ns-3312")
OFFICER, AUTHORISER = "ns-4411", "ns-2087"
OFFICERS: Final = """
ns-4411: {role: facial_search_operator, rank: constable}
ns-2087: {role: investigating_officer, rank: inspector, unit: major-crime}
ns-3310: {role: reviewer, rank: constable, accreditation: face-2, accreditation_expires: 2031-03-31}
ns-3311: {role: reviewer, rank: constable, accreditation: face-2, accreditation_expires: 2031-03-31}
ns-3312: {role: reviewer, rank: sergeant, accreditation: face-2, accreditation_expires: 2031-03-31}
"""
NEEDED: Final = 2
NAME: Final = "Invented Person-Name"
"""A detail that must be nowhere but where it is opened."""


def png(shade: int = 128, side: int = 48) -> bytes:
    """A small grey image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = b"".join(b"\x00" + bytes([shade]) * side for _ in range(side))
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def listing(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
    """Custody and pnd each list candidates, passport is silent."""
    other = (
        Candidate(reference="pnd-x", score=0.77, rank=1),
        Candidate(reference="pnd-y", score=0.61, rank=2),
    )
    made = {
        "custody": answer_of(scene.report(order, search_id, "custody")),
        "pnd": answer_of(scene.report(order, search_id, "pnd", candidates=other)),
        "passport": silent("passport"),
    }
    answers = [made[agency] for agency in order.order.agencies]
    return scene.ended(order, answers, search_id=search_id)


@dataclass
class Asked:
    """One request for disclosure at the broker."""

    request: DisclosureRequest
    envelope: Envelope
    facts: DisclosureFacts
    made_at: datetime
    state: DisclosureState = DisclosureState.WAITING
    reason: str = ""
    decision: Envelope | None = None
    sealed: bytes = b""


@dataclass
class SecondPeer(
    review_service_pb2_grpc.ReviewServiceServicer,
    disclosure_service_pb2_grpc.DisclosureServiceServicer,
):
    """The other end of the second step.

    Attributes:
        peer: the first step's.
        spoil: what is done to a thing, by its name, before it goes on.
        signers: who signs a thing instead.
        failures: what the next calls fail with, one each.
        fails: the same, of one kind of request, by its message's name.
        without_images: references that have none.
        sent: every request's bytes.
        ahead: how far the peer's clock is ahead.
    """

    peer: Peer
    spoil: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    signers: dict[str, str] = field(default_factory=dict)
    failures: list[Reason | grpc.StatusCode] = field(default_factory=list)
    fails: dict[str, list[Reason | grpc.StatusCode]] = field(default_factory=dict)
    images_refused: set[str] = field(default_factory=set)
    without_images: set[str] = field(default_factory=set)
    sent: list[bytes] = field(default_factory=list)
    image_requests: list[ImageRequest] = field(default_factory=list)
    sittings: dict[str, dict[str, dict[str, tuple[Review, Envelope]]]] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    recalled: list[tuple[int, Envelope]] = field(default_factory=list)
    notices: list[Model] = field(default_factory=list)
    page: int = 2
    ahead: timedelta = timedelta()

    @property
    def scene(self) -> Scene:
        return self.peer.scene

    def _spoilt(self, name: str, value: Any) -> Any:
        return self.spoil.get(name, lambda it: it)(value)

    def _signed(self, name: str, kind: PayloadType, model: Model, by: str) -> Envelope:
        payload = encode(self._spoilt(name, model))
        return dsse.sign(kind, payload, self.scene.signer(self.signers.get(name, by)))

    def _sealed(
        self, name: str, signed: Envelope, info: Callable[[str], bytes]
    ) -> tuple[str, bytes]:
        key = self.scene.directory.current_key(FORCE, KeyUse.SEAL, datetime.now(self._zone))
        content = self._spoilt(f"{name}.content", envelope_to_bytes(signed))
        return key.kid, sealing.seal(content, key, info(key.kid))

    def expire(self, view: SearchView, agency: str) -> None:
        """Have the broker erase what an agency found, and state the search anew without it."""
        before = self.peer.searches[view.search_id]
        assert before.result is not None
        replaced = sha256(before.result.payload).digest()
        self.peer.searches[view.search_id] = self.scene.ended(
            self.peer.order_of(before),
            [
                expired(one, self.scene.now) if one.outcome.agency == agency else one
                for one in before.answers
            ],
            search_id=view.search_id,
            result={
                "revision": view.revision + 1,
                "replaces_sha256": replaced,
                "first_finished_at": self.scene.now,
            },
            leaf={"revision": view.revision + 1, "replaces_sha256": replaced.hex()},
        )

    @property
    def _zone(self) -> Any:
        return self.scene.now.tzinfo

    def _now(self) -> datetime:
        return datetime.now(self._zone) + self.ahead

    def receipt(self, facts: Mapping[str, Any]) -> Any:
        leaf = canonical(self._spoilt("leaf", {"v": 1, "at": stamp(self._now()), **facts}))
        proof = self.scene.receipt(leaf, self._spoilt("log", "log_search")).encode()
        return review_pb.Receipt(proof=self._spoilt("proof", proof), leaf=leaf)

    async def _arrived(self, request: Any, context: Any) -> None:
        self.sent.append(request.SerializeToString())
        pending = self.fails.get(type(request).__name__) or self.failures
        if pending:
            failure = pending.pop(0)
            if isinstance(failure, Reason):
                await context.abort_with_status(to_status(ProbegateError(failure)))
            await context.abort(failure, "for a test")

    # --- reviews ------------------------------------------------------------------------------

    async def GetImages(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._arrived(request, context)
        asked = decode(ImageRequest, request.request.payload)
        self.image_requests.append(asked)
        if asked.agency in self.images_refused:
            await context.abort_with_status(to_status(ProbegateError(Reason.IMAGES_NOT_AGREED)))
        for reference in self._spoilt("images", asked.references):
            if reference in self.without_images:
                yield review_pb.GetImagesResponse(reference=reference)
                continue
            image = CandidateImage(
                search_id=asked.search_id,
                order_sha256=asked.order_sha256,
                agency=asked.agency,
                reference=reference,
                media_type="image/png",
                image=png(shade=sum(reference.encode()) % 200),
                sent_at=self._now(),
            )
            signed = self._signed("image", PayloadType.CANDIDATE_IMAGE, image, asked.agency)
            kid, sealed = self._sealed(
                "image",
                signed,
                lambda kid, name=reference: sealing.image_info(  # type: ignore[misc]
                    asked.order_sha256, asked.agency, name, kid
                ),
            )
            yield review_pb.GetImagesResponse(
                reference=reference, sealed_key_id=kid, sealed_image=sealed
            )

    async def SubmitReview(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        envelopes = [envelope_from_wire(one) for one in request.reviews]
        reviews = [decode(Review, one.payload) for one in envelopes]
        first = reviews[0]
        sittings = self.sittings.setdefault(first.search_id, {})
        for known in list(sittings.values()):
            for review, envelope in known.values():
                if review.reviewer.id == first.reviewer.id and envelope not in envelopes:
                    refused = ProbegateError(Reason.REVIEW_NOT_INDEPENDENT)
                    await context.abort_with_status(to_status(refused))
        sittings[first.review_id] = {
            review.agency: (review, envelope)
            for review, envelope in zip(reviews, envelopes, strict=True)
        }
        facts = {
            "type": "review.recorded",
            "search_id": first.search_id,
            "order_sha256": first.order_sha256.hex(),
            "review_id": first.review_id,
            "reviews": {one.agency: _digest(e) for one, e in zip(reviews, envelopes, strict=True)},
            "number": len(sittings),
        }
        return review_pb.SubmitReviewResponse(
            status=self._spoilt("status", self._status(first.search_id)),
            receipt=self.receipt(facts),
        )

    async def GetReviewStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        status = self._status(request.search_id)
        settled = not status.open
        response = review_pb.GetReviewStatusResponse()
        if settled:
            counts = Counter(one.opinion for one in status.candidates)
            facts = {
                "type": "review.settled",
                "search_id": request.search_id,
                "reviews": sorted(self.sittings.get(request.search_id, {})),
                "counts": {one.value: counts[opinion_to_wire(one)] for one in Opinion},
                "disagreement": status.disagreement,
            }
            response.receipt.CopyFrom(self.receipt(facts))
        response.status.CopyFrom(self._spoilt("status", status))
        return response

    def _status(self, search_id: str) -> Any:
        sittings = list(self.sittings.get(search_id, {}).values())
        status = review_pb.ReviewStatus(
            search_id=search_id, reviews=len(sittings), needed=NEEDED, open=len(sittings) < NEEDED
        )
        if status.open:
            return status
        for agency, (review, _) in sittings[0].items():
            for finding in review.findings:
                said = [one[agency][0].opinion_on(finding.reference) for one in sittings]
                counted = Counter(said).most_common(1)[0]
                status.disagreement = status.disagreement or len(set(said)) > 1
                agreed = counted[0] if counted[1] >= NEEDED else Opinion.INCONCLUSIVE
                status.candidates.add(
                    agency=agency,
                    reference=finding.reference,
                    opinion=opinion_to_wire(agreed or Opinion.INCONCLUSIVE),
                    review_sha256s=[sha256(one[agency][1].payload).digest() for one in sittings],
                )
        if status.disagreement and len(sittings) == NEEDED:
            status.open = True
            del status.candidates[:]
        return status

    async def RevokeReviewer(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        said = decode(ReviewerRevocation, request.revocation.payload)
        self.notices.append(said)
        gone = 0
        for sittings in self.sittings.values():
            for review_id, reviews in list(sittings.items()):
                review = next(iter(reviews.values()))[0]
                if review.reviewer.id == said.reviewer and review.finished_at >= said.since:
                    del sittings[review_id]
                    gone += 1
        facts = {
            "type": "reviewer.revoked",
            "force": said.force,
            "revocation_sha256": _digest(request.revocation),
            "reviews": [],
        }
        return review_pb.RevokeReviewerResponse(reviews=gone, receipt=self.receipt(facts))

    async def RecordCorroboration(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        said = decode(Corroboration, request.corroboration.payload)
        self.notices.append(said)
        facts = {
            "type": "corroboration.recorded",
            "search_id": said.search_id,
            "agency": said.agency,
            "reference": said.reference,
            "corroboration_sha256": _digest(request.corroboration),
            "kind": said.kind.value,
        }
        return review_pb.RecordCorroborationResponse(receipt=self.receipt(facts))

    # --- details ------------------------------------------------------------------------------

    async def RequestDisclosure(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        envelope = envelope_from_wire(request.request)
        said = decode(DisclosureRequest, envelope.payload)
        known = self.asked.get(said.request_id)
        if known is not None and known.envelope != envelope:
            replayed = ProbegateError(Reason.DISCLOSURE_REPLAYED)
            await context.abort_with_status(to_status(replayed))
        if known is None and self._now() >= said.expires_at:
            late = ProbegateError(Reason.DISCLOSURE_INVALID, field="expires_at")
            await context.abort_with_status(to_status(late))
        if known is None:
            opener = self.scene.scheme.member_folder(said.agency).openers()[request.sealed_key_id]
            info = sealing.facts_info(
                said.order_sha256, said.agency, said.request_id, request.sealed_key_id
            )
            facts = decode(DisclosureFacts, opener.open(request.sealed_facts, info))
            assert said.facts_commitment == facts_commitment(facts.salt, facts.facts)
            self.asked[said.request_id] = Asked(said, envelope, facts, self._now())
        record = self._record(self.asked[said.request_id])
        return disclosure_pb.RequestDisclosureResponse(disclosure=record)

    async def GetDisclosure(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        if request.request_id not in self.asked:
            await context.abort_with_status(to_status(ProbegateError(Reason.NOT_FOUND)))
        record = self._record(self.asked[request.request_id])
        return disclosure_pb.GetDisclosureResponse(disclosure=record)

    async def ListDisclosures(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        wanted = [
            one
            for one in reversed(list(self.asked.values()))
            if request.search_id in {"", one.request.search_id}
        ]
        start = int(request.page_token or 0)
        end = start + (request.page_size or self.page)
        return disclosure_pb.ListDisclosuresResponse(
            disclosures=[self._record(one, whole=False) for one in wanted[start:end]],
            next_page_token=str(end) if end < len(wanted) else "",
        )

    def _record(self, asked: Asked, *, whole: bool = True) -> Any:
        request = asked.request
        record = disclosure_pb.DisclosureRecord(
            request_id=request.request_id,
            search_id=request.search_id,
            agency=request.agency,
            reference=request.reference,
            state=disclosure_pb.DisclosureState.Value(f"DISCLOSURE_STATE_{asked.state.name}"),
            reason=asked.reason,
            created_at=timestamp(asked.made_at),
            decide_by=timestamp(asked.made_at + timedelta(hours=24)),
        )
        if asked.decision is not None:
            record.decision.CopyFrom(envelope_to_wire(asked.decision))
        if not whole:
            return record
        about = {
            "search_id": request.search_id,
            "agency": request.agency,
            "reference": request.reference,
            "request_id": request.request_id,
            "request_sha256": _digest(asked.envelope),
        }
        requested = {
            "type": "disclosure.requested",
            "order_sha256": request.order_sha256.hex(),
            "reviews": [one.hex() for one in request.review_sha256s],
            "fields": list(request.fields),
        }
        record.receipt.CopyFrom(self.receipt(about | requested))
        record.sealed_disclosure = asked.sealed
        if asked.decision is not None:
            said = decode(ReleaseDecision, asked.decision.payload)
            decided = {
                "type": "disclosure.decided",
                "decision_sha256": _digest(asked.decision),
                "state": said.state.value,
                "reason": said.reason,
            }
            record.decision_receipt.CopyFrom(self.receipt(about | decided))
        return self._spoilt("record", record)

    def release(self, request_id: str, *, opens_for: timedelta = timedelta(hours=1)) -> None:
        """The owner's people let the details go."""
        asked = self.asked[request_id]
        request, now = asked.request, self._now()
        values = {"name": NAME, "date_of_birth": "1990-01-02", "warning": "<b>may run</b>"}
        details = Disclosure(
            request_sha256=sha256(asked.envelope.payload).digest(),
            search_id=request.search_id,
            agency=request.agency,
            reference=request.reference,
            fields=tuple(
                DisclosedField(
                    name=one,
                    value=values.get(one, "invented"),
                    nature=Nature.ASSESSMENT if one == "warning" else Nature.FACT,
                )
                for one in request.fields
            ),
            subject_category="suspect",
            caveats=("Held under PACE 1984. Not to be used for a caution.",),
            delete_by=now + timedelta(days=90),
            onward_transfer="only_with_consent",
            released_at=now,
            expires_at=now + opens_for,
        )
        signed = self._signed("details", PayloadType.DISCLOSURE, details, request.agency)
        kid, sealed = self._sealed(
            "details",
            signed,
            lambda kid: sealing.disclosure_info(
                request.order_sha256, request.agency, request.reference, kid
            ),
        )
        decision = ReleaseDecision(
            request_sha256=details.request_sha256,
            request_id=request.request_id,
            search_id=request.search_id,
            agency=request.agency,
            reference=request.reference,
            state=ReleaseState.RELEASED,
            sealed_sha256=sha256(sealed).digest(),
            sealed_key_id=kid,
            decided_at=now,
            expires_at=now + opens_for,
        )
        asked.decision = self._signed(
            "decision", PayloadType.RELEASE_DECISION, decision, request.agency
        )
        asked.sealed, asked.state = sealed, DisclosureState.RELEASED

    def refuse(self, request_id: str) -> None:
        """The owner's people do not."""
        asked = self.asked[request_id]
        request = asked.request
        decision = ReleaseDecision(
            request_sha256=sha256(asked.envelope.payload).digest(),
            request_id=request.request_id,
            search_id=request.search_id,
            agency=request.agency,
            reference=request.reference,
            state=ReleaseState.REFUSED,
            reason="DISCLOSURE_DENIED",
            decided_at=self._now(),
        )
        asked.decision = self._signed(
            "decision", PayloadType.RELEASE_DECISION, decision, request.agency
        )
        asked.state = DisclosureState.REFUSED

    # --- what is taken back -------------------------------------------------------------------

    async def ReportWrongMatch(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        said = decode(WrongMatch, request.wrong_match.payload)
        self.notices.append(said)
        facts = {
            "type": "match.wrong",
            "search_id": said.search_id,
            "agency": said.agency,
            "reference": said.reference,
            "wrong_match_sha256": _digest(request.wrong_match),
        }
        return disclosure_pb.ReportWrongMatchResponse(receipt=self.receipt(facts))

    def recall(self, view: SearchView, agency: str, reference: str, recall_id: str) -> None:
        """An agency takes a candidate back."""
        said = Recall(
            recall_id=recall_id,
            search_id=view.search_id,
            order_sha256=view.order_sha256,
            agency=agency,
            reference=reference,
            reason=RecallReason.WRONG_RECORD,
            notice="Another person's image was on this record.",
            recalled_at=self._now(),
        )
        signed = self._signed("recall", PayloadType.RECALL, said, agency)
        self.recalled.append((len(self.recalled) + 1, signed))

    async def ListRecalls(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        found = [one for one in self.recalled if one[0] > request.after][: self.page]
        return disclosure_pb.ListRecallsResponse(
            recalls=[self._recall_record(number, signed) for number, signed in found]
        )

    def _recall_record(self, number: int, signed: Envelope) -> Any:
        said = decode(Recall, signed.payload)
        facts = {
            "type": "recall.received",
            "search_id": said.search_id,
            "agency": said.agency,
            "reference": said.reference,
            "recall_id": said.recall_id,
            "recall_sha256": _digest(signed),
            "reason": said.reason.value,
            "at": stamp(said.recalled_at),
        }
        return disclosure_pb.RecallRecord(
            number=number, recall=envelope_to_wire(signed), receipt=self.receipt(facts)
        )

    async def AcknowledgeRecall(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._arrived(request, context)
        said = decode(RecallAcknowledgement, request.acknowledgement.payload)
        self.notices.append(said)
        facts = {
            "type": "recall.acknowledged",
            "recall_id": said.recall_id,
            "acknowledgement_sha256": _digest(request.acknowledgement),
        }
        return disclosure_pb.AcknowledgeRecallResponse(receipt=self.receipt(facts))


def _digest(envelope: Any) -> str:
    return sha256(envelope.payload).hexdigest()


class RunningSecondPeer(RunningPeer):
    """Both steps, listening, with a force's people and a probe's image."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "officers.yaml").write_text(OFFICERS)
        self.probe_image = folder / "probe.png"
        # What it shows does not matter; that no part of it is anywhere else does.
        self.probe_image.write_bytes(b"\x89PNG\r\n\x1a\n" + Random(7).randbytes(4096))

    def _add_second_step(self, server: Any) -> None:
        self.peer.answering = listing
        self.second = SecondPeer(self.peer)
        review_service_pb2_grpc.add_ReviewServiceServicer_to_server(self.second, server)
        disclosure_service_pb2_grpc.add_DisclosureServiceServicer_to_server(self.second, server)

    def begin_anew(self) -> None:
        """Forget what a test turned and what was sent."""
        self.peer.__init__(self.scene)  # type: ignore[misc]
        self.peer.answering = listing
        self.second.__init__(self.peer)  # type: ignore[misc]


async def searched(client: AsyncForceClient) -> SearchView:
    """An ended search."""
    return await client.search(
        draft(),
        probe(),
        officer_token=client.issue_token(OFFICER, Part.OFFICER),
        authoriser_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
    )


def person(client: AsyncForceClient, person_id: str) -> Person:
    """One of the force's people."""
    return client.officers.person(person_id, option="person")


async def reviewed(
    client: AsyncForceClient,
    view: SearchView,
    reviewer: str,
    probe_image: Path,
    opinions: Mapping[str, Opinion] | None = None,
) -> Any:
    """One reviewer's sitting: all are potential candidates but where ``opinions`` say otherwise."""
    async with client.review(
        view.search_id,
        reviewer=person(client, reviewer),
        reviewer_token=lambda: client.issue_token(reviewer, Part.REVIEWER),
        probe_image=probe_image,
    ) as sitting:
        references = {one.candidate.label: one.reference for one in sitting.seats}
        for one in sitting.candidates:
            image = sitting.look(one)
            usual = Opinion.POTENTIAL_CANDIDATE if image else Opinion.INCONCLUSIVE
            opinion = (opinions or {}).get(references[one.label], usual)
            sitting.record(one, opinion, reasons="Ears and nose, as far as they show.")
        return await sitting.submit()


async def asked(client: AsyncForceClient, running: RunningSecondPeer, **changes: Any) -> Any:
    """A request for disclosure on a candidate that two people have reviewed."""
    view = changes.pop("view", None) or await searched(client)
    for reviewer in REVIEWERS[:2]:
        if not changes.get("request_id"):
            await reviewed(client, view, reviewer, running.probe_image)
    values: dict[str, Any] = {
        "requester": person(client, OFFICER),
        "requester_token": client.issue_token(OFFICER, Part.OFFICER),
        "facts": "A robbery in the High Street; the face was seen by two witnesses.",
        "fields": ("name", "date_of_birth", "warning"),
    }
    return await client.request_disclosure(
        view.search_id, "custody", "custody-a", **values | changes
    )
