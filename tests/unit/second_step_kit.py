"""What follows a search, as a broker brings it to a real adapter: honest, or with lies.

``tests.adapters`` has the adapter on its port and the broker's side with a real log. Here are the
force's signed papers of the second step, the broker's entries that record them, and the calls.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import grpc
import pytest
from probegate.agency.v1 import match_service_pb2 as match_pb
from probegate.agency.v1 import release_service_pb2 as pb

from agency_adapters.operators import Operator
from agency_adapters.second_step.inbox import ReleaseInbox
from audit.entry import Appended
from audit.writer import NewEntry
from tests.adapters import BrokerSide, Papers, Scene, entries
from tests.brokers import CALLER_S, channel_to
from tests.world import OFFICER, Request
from trust import dsse, sealing
from trust.commitment import facts_commitment
from trust.directory import KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MatchReport, Model, OutcomeState, Person
from trust.payload_types import PayloadType
from trust.rpc import error_of
from trust.second_step import (
    CandidateImage,
    Disclosure,
    DisclosureFacts,
    DisclosureRequest,
    Finding,
    ImageRequest,
    Opinion,
    RecallAcknowledgement,
    ReleaseDecision,
    Review,
    ReviewerRevocation,
    WrongMatch,
)
from trust.tokens import Part
from trust.wire import (
    decode,
    decode_report,
    encode,
    envelope_from_bytes,
    envelope_from_wire,
    envelope_to_wire,
)

SERVICE = "/probegate.agency.v1.ReleaseService/"
YES, NO, OPEN = Opinion.POTENTIAL_CANDIDATE, Opinion.NO_CANDIDATE, Opinion.INCONCLUSIVE
FACTS = "A man took a bag from a shop in Northshire; the details are needed to find him."
SALT = bytes(range(32))
REQUESTER = Person(id="officer-2207", role="investigating_officer", rank="sergeant")
INSPECTOR = Person(id="inspector-0207", role="investigating_officer", rank="inspector")


def reviewer(number: int, **changes: Any) -> Person:
    """Return an accredited reviewer."""
    values: dict[str, Any] = {
        "id": f"reviewer-{number}",
        "role": "facial_search_operator",
        "rank": "constable",
        "accreditation": "facial-search-2026",
        "accreditation_expires": date(2031, 3, 31),
    }
    return Person(**(values | changes))


@dataclass(slots=True)
class Reviewing:
    """A review with what proves it; each part may be replaced before it is shown."""

    said: Review
    envelope: Envelope
    token: str
    entry: Appended | None

    @property
    def digest(self) -> bytes:
        """Of the payload."""
        return sha256(self.envelope.payload).digest()


@dataclass(slots=True)
class Asking:
    """A request for disclosure with what comes with it; each part may be replaced."""

    said: DisclosureRequest
    envelope: Envelope
    order: Envelope
    key_id: str
    sealed: bytes
    token: str
    reviews: Sequence[Reviewing]
    revocations: Sequence[Envelope]
    entry: Appended

    @property
    def digest(self) -> bytes:
        """Of the payload."""
        return sha256(self.envelope.payload).digest()


@dataclass(slots=True)
class Step:
    """One search that was answered with candidates, and what may follow it."""

    here: Scene
    request: Request
    papers: Papers
    report: MatchReport
    report_sha256: bytes
    side: BrokerSide
    shown: list[int] = field(default_factory=list)

    @property
    def references(self) -> tuple[str, ...]:
        """The candidates' references."""
        return tuple(one.reference for one in self.report.candidates)

    @property
    def reference(self) -> str:
        """The first candidate's; where nobody is listed, one of nobody."""
        return next(iter(self.references), "nobody")

    @property
    def now(self) -> datetime:
        """The scene's time."""
        return self.here.clock()

    @property
    def order(self) -> Envelope:
        """The order as it was sent."""
        return self.papers.dossier.order

    @property
    def common(self) -> dict[str, Any]:
        """What every paper says of the search."""
        return {
            "search_id": self.report.search_id,
            "order_sha256": self.papers.order_sha256,
            "force": self.request.force,
            "agency": "custody",
        }

    def signed(self, said: Model, kind: PayloadType, by: str = "") -> Envelope:
        """Sign as a force."""
        signer = self.here.world.folder(by or self.request.force).signer()
        return dsse.sign(kind, encode(said), signer)

    def token(self, person: Person, part: Part, **changes: Any) -> str:
        """Issue a token."""
        request = replace(self.request, now=changes.pop("at", self.now), **changes)
        return request.token(person, part)

    async def logged(
        self, kind: str, facts: Mapping[str, Any], at: datetime | None = None
    ) -> Appended:
        """Put an entry on the broker's log."""
        leaf = {"v": 1, "type": kind, "at": (at or self.now).isoformat(), **facts}
        return await self.side.logs.search.append(NewEntry(leaf=leaf))

    # --- proofs ------------------------------------------------------------------------------

    def entry(self, appended: Appended) -> match_pb.LoggedEntry:
        """Return an entry with its proof under the log's newest checkpoint."""
        log = self.side.logs.search
        size = log.checkpoint.checkpoint.size
        return match_pb.LoggedEntry(
            leaf=appended.leaf,
            leaf_index=appended.index,
            inclusion=log.inclusion(appended.index, size),
        )

    def recorded(self, appended: Appended) -> pb.RecordedEntry:
        """Return an entry with everything that proves it."""
        log = self.side.logs.search
        size = log.checkpoint.checkpoint.size
        older = {one for one in (*self.side.sent, *self.shown) if 0 < one < size}
        self.shown.append(size)
        return pb.RecordedEntry(
            entry=self.entry(appended),
            checkpoint=log.checkpoint.note,
            consistency=[
                match_pb.ConsistencyProof(
                    old_size=old, new_size=size, hashes=log.consistency(old, size)
                )
                for old in sorted(older)
            ],
        )

    # --- images ------------------------------------------------------------------------------

    async def image_request(
        self, *, by: str = "", said_in_log: Mapping[str, Any] | None = None, **changes: Any
    ) -> pb.GetImagesRequest:
        """Make a request for images, recorded."""
        values: dict[str, Any] = {
            **self.common,
            "request_id": str(uuid.uuid4()),
            "references": self.references,
            "reviewer": reviewer(1),
            "reasons": "To compare the faces.",
            "created_at": self.now,
        }
        said = ImageRequest(**(values | changes))
        envelope = self.signed(said, PayloadType.IMAGE_REQUEST, by)
        facts = {
            "search_id": said.search_id,
            "agency": said.agency,
            "request_sha256": sha256(envelope.payload).hexdigest(),
            "references": list(said.references),
        }
        appended = await self.logged("images.requested", facts | dict(said_in_log or {}))
        return pb.GetImagesRequest(
            order=envelope_to_wire(self.order),
            request=envelope_to_wire(envelope),
            recorded=self.recorded(appended),
        )

    async def images(
        self, request: pb.GetImagesRequest, member: str = "broker"
    ) -> list[pb.GetImagesResponse]:
        """Ask for images."""
        channel = await self.channel(member)
        call = channel.unary_stream(
            f"{SERVICE}GetImages",
            request_serializer=pb.GetImagesRequest.SerializeToString,
            response_deserializer=pb.GetImagesResponse.FromString,
        )
        try:
            return [one async for one in call(request, timeout=CALLER_S)]
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error

    def opened_image(self, image: pb.GetImagesResponse) -> CandidateImage:
        """Open an image as the force does, its signature checked."""
        info = sealing.image_info(
            self.papers.order_sha256, "custody", image.reference, image.sealed_key_id
        )
        return decode(
            CandidateImage,
            self._opened(
                image.sealed_key_id, image.sealed_image, info, PayloadType.CANDIDATE_IMAGE
            ),
        )

    def _opened(self, kid: str, sealed: bytes, info: bytes, kind: PayloadType) -> bytes:
        opener = self.here.world.folder(self.request.force).openers()[kid]
        envelope = envelope_from_bytes(opener.open(sealed, info))
        keys = self.here.world.directory.resolver("custody", KeyUse.SIGN, self.now)
        dsse.verify(envelope, kind, keys)
        return envelope.payload

    # --- reviews and requests ----------------------------------------------------------------

    async def review(
        self,
        person: Person,
        opinion: Opinion = YES,
        *,
        by: str = "",
        token: str | None = None,
        said_in_log: Mapping[str, Any] | None = None,
        log: bool = True,
        at: datetime | None = None,
        findings: Sequence[Finding] | None = None,
        **changes: Any,
    ) -> Reviewing:
        """Let somebody review all candidates, and the broker record it."""
        now = at or self.now
        values: dict[str, Any] = {
            **self.common,
            "review_id": str(uuid.uuid4()),
            "report_sha256": self.report_sha256,
            "reviewer": person,
            "findings": findings
            or tuple(
                Finding(
                    reference=one,
                    opinion=opinion,
                    reasons="The ears and the hairline agree.",
                    side_by_side=True,
                    seconds=20,
                    shown=place,
                )
                for place, one in enumerate(self.references, start=1)
            ),
            "started_at": now - timedelta(minutes=5),
            "finished_at": now,
        }
        said = Review(**(values | changes))
        envelope = self.signed(said, PayloadType.REVIEW, by)
        digest = sha256(envelope.payload).hexdigest()
        facts = {
            "search_id": said.search_id,
            "order_sha256": said.order_sha256.hex(),
            "review_id": said.review_id,
            "reviews": {said.agency: digest},
            "number": 1,
        } | dict(said_in_log or {})
        appended = await self.logged("review.recorded", facts, now) if log else None
        token = token if token is not None else self.token(person, Part.REVIEWER, at=now)
        return Reviewing(said, envelope, token, appended)

    async def reviews(self, *opinions: Opinion) -> list[Reviewing]:
        """Let as many people review, each with an opinion; two who agree if none is given."""
        wanted = opinions or (YES, YES)
        return [await self.review(reviewer(n), one) for n, one in enumerate(wanted, start=1)]

    async def asking(
        self,
        reviews: Sequence[Reviewing] | None = None,
        *,
        by: str = "",
        order: Envelope | None = None,
        facts: str = FACTS,
        sealed_to: str = "custody",
        requester_token: str | None = None,
        revocations: Iterable[Envelope] = (),
        said_in_log: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Asking:
        """Make a request for disclosure, recorded."""
        reviews = await self.reviews() if reviews is None else reviews
        values: dict[str, Any] = {
            **self.common,
            "request_id": str(uuid.uuid4()),
            "reference": self.reference,
            "report_sha256": self.report_sha256,
            "requester": REQUESTER,
            "review_sha256s": tuple(one.digest for one in reviews),
            "facts_commitment": facts_commitment(SALT, FACTS),
            "subject_category": "suspect",
            "fields": ("reference", "date_of_birth", "disposal"),
            "created_at": self.now,
            "expires_at": self.now + timedelta(minutes=5),
        }
        said = DisclosureRequest(**(values | changes))
        envelope = self.signed(said, PayloadType.DISCLOSURE_REQUEST, by)
        world = self.here.world
        key = world.directory.current_key(sealed_to, KeyUse.SEAL, self.now)
        info = sealing.facts_info(said.order_sha256, "custody", said.request_id, key.kid)
        sealed = sealing.seal(encode(DisclosureFacts(facts=facts, salt=SALT)), key, info)
        leaf = {
            "search_id": said.search_id,
            "order_sha256": said.order_sha256.hex(),
            "agency": said.agency,
            "reference": said.reference,
            "request_id": said.request_id,
            "request_sha256": sha256(envelope.payload).hexdigest(),
            "reviews": [one.hex() for one in said.review_sha256s],
            "fields": list(said.fields),
        } | dict(said_in_log or {})
        token = requester_token
        if token is None:
            token = self.token(said.requester, Part.OFFICER)
        return Asking(
            said,
            envelope,
            order or self.order,
            key.kid,
            sealed,
            token,
            reviews,
            tuple(revocations),
            await self.logged("disclosure.requested", leaf),
        )

    def message(self, asking: Asking) -> pb.RequestReleaseRequest:
        """Encode a request for disclosure under the log's newest checkpoint."""
        return pb.RequestReleaseRequest(
            order=envelope_to_wire(asking.order),
            request=envelope_to_wire(asking.envelope),
            sealed_key_id=asking.key_id,
            sealed_facts=asking.sealed,
            requester_token=asking.token,
            reviews=[
                pb.SignedReview(
                    review=envelope_to_wire(one.envelope),
                    reviewer_token=one.token,
                    entry=self.entry(one.entry) if one.entry is not None else None,
                )
                for one in asking.reviews
            ],
            revocations=[envelope_to_wire(one) for one in asking.revocations],
            recorded=self.recorded(asking.entry),
        )

    async def ask(self, asking: Asking, member: str = "broker") -> pb.RequestReleaseResponse:
        """Ask for details."""
        reply: pb.RequestReleaseResponse = await self.send(
            "RequestRelease", self.message(asking), member
        )
        return reply

    async def became(self, asking: Asking, member: str = "broker") -> pb.GetReleaseResponse:
        """Ask what became of a request."""
        request = pb.GetReleaseRequest(request_sha256=asking.digest)
        reply: pb.GetReleaseResponse = await self.send("GetRelease", request, member)
        return reply

    async def decision(self, asking: Asking) -> ReleaseDecision:
        """Fetch the decision, its signature and its entry checked."""
        reply = await self.became(asking)
        assert reply.HasField("decision")
        envelope = envelope_from_wire(reply.decision)
        keys = self.here.world.directory.resolver("custody", KeyUse.SIGN, self.now)
        dsse.verify(envelope, PayloadType.RELEASE_DECISION, keys)
        digest = sha256(envelope.payload).hexdigest()
        (entry,) = [
            one for one in entries(self.here.adapter) if one.get("decision_sha256") == digest
        ]
        said = decode(ReleaseDecision, envelope.payload)
        assert (entry["type"], entry["state"]) == ("release.decided", said.state.value)
        assert entry["reason"] == said.reason
        assert said.request_sha256 == asking.digest
        return said

    async def details(self, asking: Asking) -> Disclosure:
        """Fetch the details and open them as the force does."""
        reply = await self.became(asking)
        said = await self.decision(asking)
        assert sha256(reply.sealed_disclosure).digest() == said.sealed_sha256
        info = sealing.disclosure_info(
            self.papers.order_sha256, "custody", asking.said.reference, said.sealed_key_id
        )
        payload = self._opened(
            said.sealed_key_id, reply.sealed_disclosure, info, PayloadType.DISCLOSURE
        )
        return decode(Disclosure, payload)

    # --- notices -----------------------------------------------------------------------------

    async def notice(
        self,
        said: WrongMatch | RecallAcknowledgement | ReviewerRevocation,
        *,
        by: str = "",
        said_in_log: Mapping[str, Any] | None = None,
    ) -> pb.NotifyRequest:
        """Sign a notice and let the broker record it."""
        kind, entry, named, facts = _NOTICES[type(said)]
        envelope = self.signed(said, kind, by)
        leaf = {name: getattr(said, name) for name in facts}
        leaf[named] = sha256(envelope.payload).hexdigest()
        appended = await self.logged(entry, leaf | dict(said_in_log or {}))
        return pb.NotifyRequest(notice=envelope_to_wire(envelope), recorded=self.recorded(appended))

    def wrong_match(self, **changes: Any) -> WrongMatch:
        """A force found out that a candidate is somebody else."""
        values: dict[str, Any] = {
            **self.common,
            "report_id": str(uuid.uuid4()),
            "reference": self.reference,
            "reporter": OFFICER,
            "reasons": "He was in custody elsewhere on that day.",
            "reported_at": self.now,
        }
        return WrongMatch(**(values | changes))

    def revocation(self, person: Person, **changes: Any) -> ReviewerRevocation:
        """A force withdraws a reviewer's reviews."""
        values: dict[str, Any] = {
            "force": self.request.force,
            "reviewer": person.id,
            "since": self.now - timedelta(days=1),
            "person": INSPECTOR,
            "reasons": "The accreditation was given in error.",
            "revoked_at": self.now,
        }
        return ReviewerRevocation(**(values | changes))

    # --- calls -------------------------------------------------------------------------------

    async def channel(self, member: str) -> grpc.aio.Channel:
        """Open a channel with a member's certificate."""
        here = self.here
        if member not in here.channels:
            here.channels[member] = await here.stack.enter_async_context(
                channel_to(here.world, member, "custody", here.server.port)
            )
        return here.channels[member]

    async def send(self, method: str, request: Any, member: str = "broker") -> Any:
        """Call a method; a refusal is raised as the peer reads it."""
        channel = await self.channel(member)
        call = channel.unary_unary(
            SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=_REPLIES[method].FromString,
        )
        try:
            return await call(request, timeout=CALLER_S)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error

    async def refused(self, asking: Asking, reason: Reason, field_name: str = "") -> None:
        """Assert that a request is rejected for a reason, which is on the agency's log."""
        before = len(entries(self.here.adapter))
        with pytest.raises(ProbegateError) as raised:
            await self.ask(asking)
        assert raised.value.reason is reason
        if field_name:
            assert raised.value.metadata["field"] == field_name
        added = entries(self.here.adapter)[before:]
        assert [(one["type"], one["reason"]) for one in added] == [
            ("release.rejected", reason.name)
        ]


_REPLIES: dict[str, Any] = {
    "RequestRelease": pb.RequestReleaseResponse,
    "GetRelease": pb.GetReleaseResponse,
    "Notify": pb.NotifyResponse,
    "ListRecalls": pb.ListRecallsResponse,
}
_NOTICES: dict[type[Model], tuple[PayloadType, str, str, tuple[str, ...]]] = {
    WrongMatch: (
        PayloadType.WRONG_MATCH,
        "match.wrong",
        "wrong_match_sha256",
        ("search_id", "agency", "reference"),
    ),
    RecallAcknowledgement: (
        PayloadType.RECALL_ACKNOWLEDGEMENT,
        "recall.acknowledged",
        "acknowledgement_sha256",
        ("recall_id",),
    ),
    ReviewerRevocation: (
        PayloadType.REVIEWER_REVOCATION,
        "reviewer.revoked",
        "revocation_sha256",
        ("force",),
    ),
}


def three_candidates(agreement: dict[str, Any]) -> None:
    """Let custody's agreement list three candidates, however little they score."""
    agreement["obligations"] |= {"min_score": -1.0, "max_candidates": 3}


async def searched(here: Scene, request: Request | None = None, **more: Any) -> Step:
    """Search, and return what may follow."""
    request = request or Request(here.world, now=here.clock())
    papers = await here.papers(request, **more)
    reply = await here.ask(papers.params())
    envelope = envelope_from_wire(reply.report)
    report = decode_report(envelope.payload)
    assert report.state in {OutcomeState.CANDIDATES, OutcomeState.HELD}
    digest = sha256(envelope.payload).digest()
    return Step(here, request, papers, report, digest, here.broker)


@asynccontextmanager
async def at_work(here: Scene) -> AsyncIterator[Operator]:
    """The agency's own people, while the adapter runs with what runs beside it."""
    tasks = [asyncio.create_task(chore) for chore in here.adapter.chores()]
    operator = replace(Operator.open(here.adapter.settings), clock=here.clock)
    try:
        yield operator
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        operator.close()


@asynccontextmanager
async def inbox(here: Scene) -> AsyncIterator[ReleaseInbox]:
    """Their inbox of requests for details."""
    async with at_work(here) as operator:
        yield ReleaseInbox.of(operator)


def admin(here: Scene, prefix: str) -> list[dict[str, Any]]:
    """Return the entries of the agency's admin log whose type begins so."""
    log = here.adapter.logs.admin
    said = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
    return [entry for entry in said if entry["type"].startswith(prefix)]


def dated(text: str) -> datetime:
    """Return an entry's time."""
    return datetime.fromisoformat(text).astimezone(UTC)
