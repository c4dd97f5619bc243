"""A force at a broker after a search: what its people sign and send, over real mTLS.

``Case`` is one search that listed candidates, with everybody's next step at hand. What varies
between tests is passed in; what does not is lawful.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import grpc
from probegate.broker.v1 import (
    disclosure_service_pb2 as disclosure_pb,
)
from probegate.broker.v1 import (
    disclosure_service_pb2_grpc as disclosure_grpc,
)
from probegate.broker.v1 import (
    review_service_pb2 as review_pb,
)
from probegate.broker.v1 import (
    review_service_pb2_grpc as review_grpc,
)

from agency_adapters.checks import search_log_key
from audit.proofs import verify_receipt
from broker.models import SearchView
from broker.second_step.opening import listed_in
from broker.service import Broker
from tests.brokers import Rig, TurnedClock, channel_to, simulated
from tests.release_peers import Owner, SimulatedOwner, serve_owners
from tests.world import AUTHORISER, World
from trust import dsse, sealing
from trust.commitment import facts_commitment
from trust.directory import KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Model, Person
from trust.payload_types import PayloadType
from trust.rpc import error_of
from trust.second_step import (
    Corroboration,
    CorroborationKind,
    DisclosureFacts,
    DisclosureRequest,
    Finding,
    ImageRequest,
    Opinion,
    RecallAcknowledgement,
    Review,
    ReviewerRevocation,
    WrongMatch,
)
from trust.server import RunningServer
from trust.tokens import Part
from trust.wire import encode, envelope_to_wire

FORCE = "northshire"
CALL_S = 20.0
"""How long a call may take, seconds; none gets near it."""
FIELDS = ("family_name", "date_of_birth")


def reviewer(number: int, **changes: Any) -> Person:
    """Return one of the force's accredited reviewers."""
    values: dict[str, Any] = {
        "id": f"reviewer-{number:04}",
        "role": "facial_examiner",
        "rank": "police_staff",
        "accreditation": "facial-review-2026",
        "accreditation_expires": date(2031, 3, 31),
    }
    return Person.model_validate(values | changes)


ONE, TWO, THREE = reviewer(1), reviewer(2), reviewer(3)
REQUESTER = Person(id="officer-2200", role="investigating_officer", rank="sergeant")
PRESENT = Opinion.POTENTIAL_CANDIDATE
ABSENT = Opinion.NO_CANDIDATE


@dataclass(slots=True)
class Office:
    """A broker that serves, owners that answer, and a force with two stubs.

    Attributes:
        rig: the broker and the matching side of the agencies.
        owners: the agencies' other side.
        server: the broker's.
    """

    rig: Rig
    owners: Mapping[str, SimulatedOwner]
    clock: TurnedClock
    server: RunningServer

    @property
    def world(self) -> World:
        """The scheme."""
        return self.rig.world

    @property
    def broker(self) -> Broker:
        """The broker as it runs now."""
        return self.rig.broker

    def ahead(self, **by: float) -> None:
        """Turn the broker's clock forward."""
        self.clock.ahead += timedelta(**by)

    async def work(self) -> None:
        """Do once everything that the broker does by itself."""
        step = self.broker.second_step
        await step.handing.work()
        await step.notifying.work()
        await step.recalling.work()

    async def restart(self) -> None:
        """End the broker where it stands, and open and serve it again."""
        await self.server.stop(0)
        await self.rig.crash()
        await self.rig.reopen()
        self.server = await self.broker.listen()

    def sign(self, said: Model, kind: PayloadType, force: str = FORCE) -> Envelope:
        """Sign as a force."""
        return dsse.sign(kind, encode(said), self.world.folder(force).signer())

    def token(self, person: Person, part: Part, force: str = FORCE, **changes: Any) -> str:
        """Issue a token for a person of a force."""
        values: dict[str, Any] = {
            "officer": person.id,
            "part": part,
            "rank": person.rank,
            "role": person.role,
            "now": self.clock(),
            "accreditation": person.accreditation or None,
            "accreditation_expires": person.accreditation_expires,
        }
        return self.world.folder(force).issue_token(**values | changes)

    async def call(self, method: str, request: Any, force: str = FORCE) -> Any:
        """Call a method of the broker as a force; what is refused is raised as it was stated."""
        async with channel_to(self.world, force, "broker", self.server.port) as channel:
            for stub in (
                review_grpc.ReviewServiceStub(channel),
                disclosure_grpc.DisclosureServiceStub(channel),
            ):
                if hasattr(stub, method):
                    try:
                        answer = getattr(stub, method)(request, timeout=CALL_S)
                        if method == "GetImages":
                            return [one async for one in answer]
                        return await answer
                    except grpc.aio.AioRpcError as error:
                        raise error_of(error) from error
        raise AssertionError(method)

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the search log's entries of some types, or of all."""
        log = self.broker.logs.search
        found = [json.loads(log.leaf(at)) for at in range(log.checkpoint.checkpoint.size)]
        return [one for one in found if not kinds or one["type"] in kinds]

    def proved(self, receipt: review_pb.Receipt) -> dict[str, Any]:
        """Return the entry that a receipt proves, offline."""
        key = search_log_key(self.world.directory, "broker", self.clock())
        verify_receipt(receipt.proof.decode(), [key], receipt.leaf, key.name)
        said: dict[str, Any] = json.loads(receipt.leaf)
        return said


@dataclass(slots=True)
class Case:
    """One search with candidates, and what the force's people do about it."""

    office: Office
    view: SearchView
    reviews: list[tuple[Person, list[Envelope], str]] = field(default_factory=list)

    @property
    def search_id(self) -> str:
        """The broker's id of the search."""
        return self.view.record.search_id

    @property
    def about(self) -> dict[str, Any]:
        """What every statement about the search says of it."""
        return {"search_id": self.search_id, "order_sha256": self.view.record.order_sha256}

    @property
    def now(self) -> datetime:
        """The broker's time."""
        return self.office.clock()

    def sitting(
        self,
        person: Person,
        opinion: Opinion | Callable[[str, str], Opinion] = PRESENT,
        *,
        change: Callable[[dict[str, Any]], object] = lambda _values: None,
        review_id: str = "",
    ) -> list[Review]:
        """Return what a person found of every candidate."""
        review_id = review_id or str(uuid.uuid4())
        finished = self.now - timedelta(seconds=1)
        started = max(finished - timedelta(minutes=5), self.view.record.created_at)
        made = []
        for one in listed_in(self.view.record):
            findings = tuple(
                Finding(
                    reference=reference,
                    opinion=opinion
                    if isinstance(opinion, Opinion)
                    else opinion(one.agency, reference),
                    reasons="Ears and brow compared.",
                    disconfirming="The light differs.",
                    side_by_side=True,
                    seconds=0,
                    shown=place,
                )
                for place, reference in enumerate(one.references, 1)
            )
            values: dict[str, Any] = {
                "review_id": review_id,
                **self.about,
                "force": FORCE,
                "agency": one.agency,
                "report_sha256": one.report_sha256,
                "reviewer": person,
                "findings": findings,
                "started_at": min(started, finished),
                "finished_at": finished,
            }
            change(values)
            made.append(Review.model_validate(values))
        return made

    def request_of(
        self, sitting: Sequence[Review], token: str = "", force: str = FORCE
    ) -> review_pb.SubmitReviewRequest:
        """Return the request that submits a sitting."""
        signed = [self.office.sign(one, PayloadType.REVIEW, force) for one in sitting]
        token = token or self.office.token(sitting[0].reviewer, Part.REVIEWER, force)
        return review_pb.SubmitReviewRequest(
            reviews=map(envelope_to_wire, signed), reviewer_token=token
        )

    async def review(
        self, person: Person, opinion: Any = PRESENT, **changes: Any
    ) -> review_pb.SubmitReviewResponse:
        """Submit what a person found."""
        request = self.request_of(self.sitting(person, opinion, **changes))
        response = await self.office.call("SubmitReview", request)
        assert isinstance(response, review_pb.SubmitReviewResponse)
        return response

    async def status(self, force: str = FORCE) -> review_pb.ReviewStatus:
        """Read how the reviews stand."""
        request = review_pb.GetReviewStatusRequest(search_id=self.search_id)
        response = await self.office.call("GetReviewStatus", request, force)
        status: review_pb.ReviewStatus = response.status
        return status

    async def settled(self) -> Case:
        """Have two people find every candidate a potential one."""
        await self.review(ONE)
        await self.review(TWO)
        return self

    async def revoke(
        self, revoked: Person, *, ago: timedelta = timedelta(hours=1), **changes: Any
    ) -> review_pb.RevokeReviewerResponse:
        """Revoke a reviewer."""
        values: dict[str, Any] = {
            "force": FORCE,
            "reviewer": revoked.id,
            "since": self.now - ago,
            "person": AUTHORISER,
            "reasons": "Trained on the wrong material.",
            "revoked_at": self.now,
        }
        said = ReviewerRevocation.model_validate(values | changes)
        request = review_pb.RevokeReviewerRequest(
            revocation=envelope_to_wire(self.office.sign(said, PayloadType.REVIEWER_REVOCATION)),
            person_token=self.office.token(AUTHORISER, Part.AUTHORISER),
        )
        response = await self.office.call("RevokeReviewer", request)
        assert isinstance(response, review_pb.RevokeReviewerResponse)
        return response

    async def counted(self, agency: str, reference: str = "ref-1") -> tuple[bytes, ...]:
        """Return the digests of the reviews that count for a candidate."""
        for one in (await self.status()).candidates:
            if (one.agency, one.reference) == (agency, reference):
                return tuple(one.review_sha256s)
        return ()

    async def disclosure(self, agency: str = "custody", **changes: Any) -> DisclosureRequest:
        """Return a lawful request for the details of a candidate."""
        listed = next(one for one in listed_in(self.view.record) if one.agency == agency)
        reference = changes.get("reference", "ref-1")
        values: dict[str, Any] = {
            "request_id": str(uuid.uuid4()),
            **self.about,
            "force": FORCE,
            "agency": agency,
            "reference": reference,
            "report_sha256": listed.report_sha256,
            "requester": REQUESTER,
            "facts_commitment": facts_commitment(bytes(32), "A robbery."),
            "fields": FIELDS,
            "created_at": self.now,
            "expires_at": self.now + timedelta(minutes=5),
        }
        if "review_sha256s" not in changes:
            values["review_sha256s"] = await self.counted(agency, reference)
        return DisclosureRequest.model_validate(values | changes)

    def asking(
        self, said: DisclosureRequest, force: str = FORCE, **changes: Any
    ) -> disclosure_pb.RequestDisclosureRequest:
        """Return the request that asks for details."""
        world = self.office.world
        key = world.directory.current_key(said.agency, KeyUse.SEAL, self.now)
        facts = encode(DisclosureFacts(facts="A robbery.", salt=bytes(32)))
        info = sealing.facts_info(said.order_sha256, said.agency, said.request_id, key.kid)
        values: dict[str, Any] = {
            "request": envelope_to_wire(
                self.office.sign(said, PayloadType.DISCLOSURE_REQUEST, force)
            ),
            "sealed_key_id": key.kid,
            "sealed_facts": sealing.seal(facts, key, info),
            "requester_token": self.office.token(said.requester, Part.OFFICER, force),
        }
        return disclosure_pb.RequestDisclosureRequest(**values | changes)

    async def ask(
        self, said: DisclosureRequest | None = None, **changes: Any
    ) -> disclosure_pb.DisclosureRecord:
        """Ask for the details of a candidate."""
        said = said or await self.disclosure()
        response = await self.office.call("RequestDisclosure", self.asking(said, **changes))
        record: disclosure_pb.DisclosureRecord = response.disclosure
        return record

    async def released(self) -> str:
        """Have custody release details that nobody has read yet; return the request's id."""
        record = await self.ask()
        self.office.owners["custody"].knobs.owner = Owner.RELEASES
        await self.office.work()
        self.office.ahead(seconds=6)
        await self.office.work()
        request_id: str = record.request_id
        return request_id

    async def read(self, request_id: str, force: str = FORCE) -> disclosure_pb.DisclosureRecord:
        """Read how a request stands."""
        request = disclosure_pb.GetDisclosureRequest(request_id=request_id)
        response = await self.office.call("GetDisclosure", request, force)
        record: disclosure_pb.DisclosureRecord = response.disclosure
        return record

    async def images(
        self, person: Person = ONE, agency: str = "custody", force: str = FORCE, **changes: Any
    ) -> list[review_pb.GetImagesResponse]:
        """Have an agency's images sent."""
        token = changes.pop("token", "")
        values: dict[str, Any] = {
            "request_id": str(uuid.uuid4()),
            **self.about,
            "force": force,
            "agency": agency,
            "references": ("ref-1", "ref-2"),
            "reviewer": person,
            "created_at": self.now,
        }
        said = ImageRequest.model_validate(values | changes)
        request = review_pb.GetImagesRequest(
            request=envelope_to_wire(self.office.sign(said, PayloadType.IMAGE_REQUEST, force)),
            reviewer_token=token or self.office.token(person, Part.REVIEWER, force),
        )
        found: list[review_pb.GetImagesResponse] = await self.office.call(
            "GetImages", request, force
        )
        return found

    def corroboration(self, **changes: Any) -> Corroboration:
        """Return lawful evidence of another kind."""
        values: dict[str, Any] = {
            "corroboration_id": str(uuid.uuid4()),
            **self.about,
            "force": FORCE,
            "agency": "custody",
            "reference": "ref-1",
            "kind": CorroborationKind.FINGERPRINTS,
            "case_material": "EXHIBIT/7",
            "person": REQUESTER,
            "recorded_at": self.now,
        }
        return Corroboration.model_validate(values | changes)

    async def corroborate(self, said: Corroboration | None = None) -> review_pb.Receipt:
        """Record evidence of another kind."""
        said = said or self.corroboration()
        request = review_pb.RecordCorroborationRequest(
            corroboration=envelope_to_wire(self.office.sign(said, PayloadType.CORROBORATION)),
            person_token=self.office.token(said.person, Part.OFFICER),
        )
        response = await self.office.call("RecordCorroboration", request)
        receipt: review_pb.Receipt = response.receipt
        return receipt

    def wrong_match(self, **changes: Any) -> WrongMatch:
        """Return a lawful report of a wrong match."""
        values: dict[str, Any] = {
            "report_id": str(uuid.uuid4()),
            **self.about,
            "force": FORCE,
            "agency": "custody",
            "reference": "ref-1",
            "reporter": REQUESTER,
            "reasons": "He was in custody elsewhere that day.",
            "reported_at": self.now,
        }
        return WrongMatch.model_validate(values | changes)

    async def report(self, said: WrongMatch | None = None) -> review_pb.Receipt:
        """Report a wrong match."""
        said = said or self.wrong_match()
        request = disclosure_pb.ReportWrongMatchRequest(
            wrong_match=envelope_to_wire(self.office.sign(said, PayloadType.WRONG_MATCH)),
            reporter_token=self.office.token(said.reporter, Part.OFFICER),
        )
        response = await self.office.call("ReportWrongMatch", request)
        receipt: review_pb.Receipt = response.receipt
        return receipt

    async def recalls(self, after: int = 0, force: str = FORCE) -> list[disclosure_pb.RecallRecord]:
        """Read what was recalled."""
        request = disclosure_pb.ListRecallsRequest(after=after)
        response = await self.office.call("ListRecalls", request, force)
        return list(response.recalls)

    async def acknowledge(
        self, record: disclosure_pb.RecallRecord, force: str = FORCE, **changes: Any
    ) -> review_pb.Receipt:
        """Acknowledge a recall."""
        token = changes.pop("token", "")
        values: dict[str, Any] = {
            "recall_id": changes.pop("recall_id", ""),
            "recall_sha256": hashlib.sha256(record.recall.payload).digest(),
            "force": force,
            "person": REQUESTER,
            "action": "Taken off the file.",
            "acknowledged_at": self.now,
        }
        said = RecallAcknowledgement.model_validate(values | changes)
        signed = self.office.sign(said, PayloadType.RECALL_ACKNOWLEDGEMENT, force)
        request = disclosure_pb.AcknowledgeRecallRequest(
            acknowledgement=envelope_to_wire(signed),
            person_token=token or self.office.token(said.person, Part.OFFICER, force),
        )
        response = await self.office.call("AcknowledgeRecall", request, force)
        receipt: review_pb.Receipt = response.receipt
        return receipt


async def refused(what: Any) -> ProbegateError:
    """Return why something was refused."""
    try:
        await what
    except ProbegateError as error:
        return error
    raise AssertionError("it was not refused")


def reason(error: ProbegateError) -> tuple[Reason, str]:
    """Return a refusal's reason and the field it names."""
    return error.reason, error.metadata.get("field", "")


@asynccontextmanager
async def opened(
    world: World, agencies: Sequence[str] = ("custody", "pnd"), **settings: object
) -> AsyncIterator[Office]:
    """Open a broker that serves forces, with owners around it, and close all of it afterwards."""
    clock = TurnedClock()
    peers = {agency: simulated(agency, world) for agency in agencies}
    owners = {
        agency: SimulatedOwner(
            agency,
            world.folder(agency).signer(),
            world.folder("broker").signer(),
            lambda: world.directory,
        )
        for agency in agencies
    }
    folders = {agency: world.folder(agency) for agency in agencies}
    servers = await serve_owners(peers, owners, folders, world.ports, lambda: world.directory)
    settings = {"agency_timeout_s": 2.0, "backoff_after_failures": 100} | settings
    broker = await Broker.open(world.broker_settings(**settings), clock)
    rig = Rig(world, broker, peers, clock, settings, servers)
    office = Office(rig, owners, clock, await broker.listen())
    try:
        yield office
    finally:
        for server in servers:
            await server.stop(0)
        await office.server.stop(0)
        await rig.broker.searches.close(0)
        await rig.broker.close()


async def searched(office: Office, agencies: Sequence[str] = ("custody", "pnd")) -> Case:
    """Search, and return the case."""
    return Case(office, await office.rig.search(agencies))
