"""The owner's side of what follows a search, with knobs: no gallery, no inbox, real signatures.

It checks the broker's proofs as an agency does (the entry under a signed checkpoint, and that this
continues the newest it has seen), keeps what it was asked, and can misbehave in every way a peer
can. Served beside the matching of ``tests.peers``, on the same port.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import grpc
from probegate.agency.v1 import release_service_pb2 as pb

from agency_adapters.checks import search_log_key
from audit.checkpoints import open_checkpoint
from audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from tests.peers import SimulatedAgency
from trust import dsse
from trust.ceremony import MemberFolder
from trust.directory import Directory, KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.mtls import server_credentials
from trust.payload_types import PayloadType
from trust.rpc import to_status
from trust.second_step import (
    DisclosureRequest,
    ImageRequest,
    Recall,
    RecallReason,
    ReleaseDecision,
    ReleaseState,
)
from trust.wire import decode, encode, envelope_to_wire

SEALED = b"sealed: nobody in these tests opens it"


class Owner(StrEnum):
    """What the owner's people make of a request, or the peer instead of them."""

    WAITS = "waits"
    RELEASES = "releases"
    REFUSES = "refuses"
    FORGED = "forged signature"
    REPLAYED = "the decision on another request"
    WRONG_DIGEST = "details of another digest"
    NOTHING_SEALED = "released, with nothing"
    REFUSED_WITH_DETAILS = "refused, with details"
    OTHERS_KEY = "sealed to a key that is not the force's"
    ENDED = "an end before the decision"
    FROM_BEFORE = "decided before it was asked"
    FROM_THE_FUTURE = "decided in the future"
    OTHER_REFERENCE = "of another reference"
    OTHER_SEARCH = "of another search"
    GARBAGE = "garbage"
    NOT_A_DECISION = "an envelope of another type"
    OVERSIZED = "too large"


@dataclass(slots=True)
class ReleaseKnobs:
    """How one simulated owner behaves; may be turned while it runs."""

    owner: Owner = Owner.WAITS
    rejects: Reason | None = None
    """The reason with which a request is turned away at once."""
    asks: Reason | None = None
    """The reason with which every question about a request is answered."""
    silent: bool = False
    resets: bool = False
    decide_by: datetime | None = None
    keeps_for: timedelta = timedelta(days=7)
    """How long details may be opened."""
    notify: Reason | None = None
    """The reason with which a notice is refused."""
    images: Callable[[str], pb.GetImagesResponse | bytes] | None = None
    """What is sent for a reference, instead of an image."""
    images_refused: Reason | None = None
    more_images: int = 0
    """How many are sent besides those that were asked for."""
    fewer_images: int = 0


@dataclass(slots=True)
class SimulatedOwner:
    """One agency's side of ``ReleaseService``."""

    agency: str
    signer: Signer
    other_signer: Signer
    directory: Callable[[], Directory]
    knobs: ReleaseKnobs = field(default_factory=ReleaseKnobs)
    taken: dict[bytes, list[pb.RequestReleaseRequest]] = field(default_factory=dict)
    """Every request as it came, by digest, each time it came."""
    notices: list[pb.NotifyRequest] = field(default_factory=list)
    image_requests: list[pb.GetImagesRequest] = field(default_factory=list)
    recalls: list[tuple[int, Envelope]] = field(default_factory=list)
    asked: int = 0
    calls: int = 0
    listed: int = 0
    size: int = 0
    root: bytes = b""

    def prove(self, recorded: pb.RecordedEntry) -> dict[str, Any]:
        """Check that the broker's log has an entry, and return it."""
        key = search_log_key(self.directory(), "broker", datetime.now(UTC))
        checkpoint = open_checkpoint(recorded.checkpoint, [key], key.name).checkpoint
        self._included(recorded.entry, checkpoint.size, checkpoint.root)
        if self.size and self.size < checkpoint.size:
            proof = next((p for p in recorded.consistency if p.old_size == self.size), None)
            if proof is None:
                raise ProbegateError(Reason.CHECKPOINT_INCONSISTENT)
            verify_consistency(
                self.size, checkpoint.size, self.root, checkpoint.root, tuple(proof.hashes)
            )
        if checkpoint.size >= self.size:
            self.size, self.root = checkpoint.size, checkpoint.root
        said: dict[str, Any] = json.loads(recorded.entry.leaf)
        return said

    @staticmethod
    def _included(entry: Any, size: int, root: bytes) -> None:
        hashes = tuple(entry.inclusion)
        verify_inclusion(entry.leaf_index, size, leaf_hash(entry.leaf), hashes, root)

    async def get_images(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        self.calls += 1
        request = pb.GetImagesRequest.FromString(data)
        self.image_requests.append(request)
        try:
            await self._misbehaves(context)
            said = self.prove(request.recorded)
            digest = hashlib.sha256(request.request.payload).hexdigest()
            _turned_away(
                Reason.LOG_PROOF_INVALID
                if (said["type"], said["request_sha256"]) != ("images.requested", digest)
                else None
            )
            _turned_away(self.knobs.images_refused)
        except ProbegateError as error:
            await context.abort_with_status(to_status(error))
        wanted = list(decode(ImageRequest, request.request.payload).references)
        wanted = wanted[: len(wanted) - self.knobs.fewer_images]
        for reference in wanted + [wanted[0]] * self.knobs.more_images:
            made: pb.GetImagesResponse | bytes
            if self.knobs.images is not None:
                made = self.knobs.images(reference)
            else:
                made = pb.GetImagesResponse(
                    reference=reference, sealed_key_id="k", sealed_image=SEALED
                )
            yield made if isinstance(made, bytes) else made.SerializeToString()

    async def request_release(self, data: bytes, context: Any) -> bytes:
        self.calls += 1
        request = pb.RequestReleaseRequest.FromString(data)
        digest = hashlib.sha256(request.request.payload).digest()
        try:
            await self._misbehaves(context)
            said = self.prove(request.recorded)
            _turned_away(
                Reason.LOG_PROOF_INVALID
                if (said["type"], said["request_sha256"]) != ("disclosure.requested", digest.hex())
                else None
            )
            for review in request.reviews:
                self._included(review.entry, self.size, self.root)
                _turned_away(
                    Reason.LOG_PROOF_INVALID
                    if review.entry.leaf_index >= request.recorded.entry.leaf_index
                    else None
                )
            _turned_away(self.knobs.rejects)
        except ProbegateError as error:
            await context.abort_with_status(to_status(error))
        self.taken.setdefault(digest, []).append(request)
        response = pb.RequestReleaseResponse()
        if self.knobs.decide_by is not None:
            response.decide_by.FromDatetime(self.knobs.decide_by)
        return response.SerializeToString()

    async def get_release(self, data: bytes, context: Any) -> bytes:
        self.asked += 1
        request = pb.GetReleaseRequest.FromString(data)
        try:
            await self._misbehaves(context)
            _turned_away(self.knobs.asks)
            _turned_away(Reason.NOT_FOUND if request.request_sha256 not in self.taken else None)
        except ProbegateError as error:
            await context.abort_with_status(to_status(error))
        match self.knobs.owner:
            case Owner.WAITS:
                return pb.GetReleaseResponse().SerializeToString()
            case Owner.GARBAGE:
                return b"\xff\xfe garbage \x00" * 64
        taken = self.taken[request.request_sha256][0]
        return self._decided(decode(DisclosureRequest, taken.request.payload), taken)

    def _decided(self, request: DisclosureRequest, taken: pb.RequestReleaseRequest) -> bytes:
        owner, now = self.knobs.owner, datetime.now(UTC)
        refused = owner in {Owner.REFUSES, Owner.REFUSED_WITH_DETAILS}
        kid = self.directory().current_key(request.force, KeyUse.SEAL, now).kid
        values: dict[str, Any] = {
            "request_sha256": hashlib.sha256(taken.request.payload).digest(),
            "request_id": request.request_id,
            "search_id": request.search_id,
            "agency": self.agency,
            "reference": request.reference,
            "state": ReleaseState.RELEASED,
            "sealed_sha256": hashlib.sha256(SEALED).digest(),
            "sealed_key_id": kid,
            "decided_at": now,
            "expires_at": now + self.knobs.keeps_for,
        }
        if refused:
            values |= {
                "state": ReleaseState.REFUSED,
                "reason": "OWNER_REFUSED",
                "sealed_sha256": b"",
                "sealed_key_id": "",
                "expires_at": None,
            }
        other = "00000000-0000-4000-8000-000000000000"
        own = self.directory().current_key(self.agency, KeyUse.SEAL, now).kid
        spoilt: dict[Owner, dict[str, Any]] = {
            Owner.REPLAYED: {"request_sha256": bytes(32), "request_id": other},
            Owner.WRONG_DIGEST: {"sealed_sha256": bytes(32)},
            Owner.OTHERS_KEY: {"sealed_key_id": own},
            Owner.ENDED: {"expires_at": now - timedelta(hours=1)},
            Owner.FROM_BEFORE: {"decided_at": now - timedelta(hours=9)},
            Owner.FROM_THE_FUTURE: {"decided_at": now + timedelta(hours=9)},
            Owner.OTHER_REFERENCE: {"reference": "another"},
            Owner.OTHER_SEARCH: {"search_id": other},
        }
        values |= spoilt.get(owner, {})
        signer = self.other_signer if owner is Owner.FORGED else self.signer
        kind = PayloadType.RELEASE_DECISION
        if owner is Owner.NOT_A_DECISION:
            kind = PayloadType.RECALL
        payload = encode(ReleaseDecision.model_construct(**values))
        sealed = b"" if owner in {Owner.REFUSES, Owner.NOTHING_SEALED} else SEALED
        if owner is Owner.OVERSIZED:
            sealed = bytes(300 * 1024)
        return pb.GetReleaseResponse(
            decision=envelope_to_wire(dsse.sign(kind, payload, signer)), sealed_disclosure=sealed
        ).SerializeToString()

    async def notify(self, data: bytes, context: Any) -> bytes:
        request = pb.NotifyRequest.FromString(data)
        try:
            await self._misbehaves(context)
            said = self.prove(request.recorded)
            digest = hashlib.sha256(request.notice.payload).hexdigest()
            _turned_away(Reason.LOG_PROOF_INVALID if digest not in said.values() else None)
            _turned_away(self.knobs.notify)
        except ProbegateError as error:
            await context.abort_with_status(to_status(error))
        self.notices.append(request)
        return pb.NotifyResponse().SerializeToString()

    async def list_recalls(self, data: bytes, context: Any) -> bytes:
        self.listed += 1
        request = pb.ListRecallsRequest.FromString(data)
        try:
            await self._misbehaves(context)
        except ProbegateError as error:
            await context.abort_with_status(to_status(error))
        return pb.ListRecallsResponse(
            recalls=[
                pb.NumberedRecall(number=number, recall=envelope_to_wire(envelope))
                for number, envelope in self.recalls
                if number > request.after
            ]
        ).SerializeToString()

    def recall(self, said: Recall, *, forged: bool = False) -> None:
        """Have a recall listed, with the next number."""
        signer = self.other_signer if forged else self.signer
        envelope = dsse.sign(PayloadType.RECALL, encode(said), signer)
        number = max((one for one, _ in self.recalls), default=0) + 1
        self.recalls.append((number, envelope))

    async def _misbehaves(self, context: Any) -> None:
        if self.knobs.silent:
            await asyncio.sleep(3600)
        if self.knobs.resets:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")


def _turned_away(reason: Reason | None) -> None:
    if reason is not None:
        raise ProbegateError(reason)


def recall_of(
    search_id: str, order_sha256: bytes, agency: str, reference: str, **changes: Any
) -> Recall:
    """Return a recall of a candidate."""
    values: dict[str, Any] = {
        "recall_id": "6f0c7a52-28d1-4c92-9b56-0d7a4b5f3c11",
        "search_id": search_id,
        "order_sha256": order_sha256,
        "agency": agency,
        "reference": reference,
        "reason": RecallReason.WRONG_RECORD,
        "notice": "The record was another's.",
        "recalled_at": datetime.now(UTC),
    }
    return Recall.model_validate(values | changes)


async def serve_owners(
    agencies: Mapping[str, SimulatedAgency],
    owners: Mapping[str, SimulatedOwner],
    folders: Mapping[str, MemberFolder],
    ports: Mapping[str, int],
    directory: Callable[[], Directory],
) -> list[grpc.aio.Server]:
    """Serve each agency's matching and what follows on its own port with its own certificate."""
    servers = []
    unary = grpc.unary_unary_rpc_method_handler
    for name, matching in agencies.items():
        owner, server = owners[name], grpc.aio.server()
        services = {
            "probegate.agency.v1.MatchService": {
                "Match": unary(matching.match),
                "Collect": unary(matching.collect),
                "Describe": unary(matching.describe),
            },
            "probegate.agency.v1.ReleaseService": {
                "GetImages": grpc.unary_stream_rpc_method_handler(owner.get_images),
                "RequestRelease": unary(owner.request_release),
                "GetRelease": unary(owner.get_release),
                "Notify": unary(owner.notify),
                "ListRecalls": unary(owner.list_recalls),
            },
        }
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(*one) for one in services.items())
        )
        folder = folders[name]
        credentials = server_credentials(folder.tls_cert, folder.tls_key, directory)
        server.add_secure_port(f"127.0.0.1:{ports[name]}", credentials)
        await server.start()
        servers.append(server)
    return servers
