"""An agency that answers the broker and has no gallery: the other side, with knobs.

It really signs and really keeps count, and it can misbehave in every way a peer can: be slow, hang,
reset, send garbage, sign with a wrong key, answer another search, overstep its obligations. Used by
the broker's tests and, as an honest fast peer, by its benchmark.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp
from probegate.agency.v1 import match_service_pb2 as agency_pb
from probegate.common.v1 import envelope_pb2, search_pb2

from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.notes import NoteSigner, note_signer
from trust import dsse
from trust.ceremony import MemberFolder
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.mtls import server_credentials
from trust.payload_types import PayloadType
from trust.rpc import to_status
from trust.wire import decode_order, envelope_to_wire


class Behaviour(StrEnum):
    """What a simulated agency does when it is asked."""

    CANDIDATES = "candidates"
    EMPTY = "empty"
    DENIES = "denies"
    HOLDS = "holds"
    REJECTS = "rejects"
    HANGS = "hangs"
    LATE = "late"
    RESETS = "resets"
    REFUSES = "refuses"
    BUSY = "busy"
    GARBAGE = "garbage"
    NOTHING = "nothing"
    WRONG_KEY = "wrong key"
    TAMPERED = "tampered"
    OVERSIZED = "oversized"
    OTHER_SEARCH = "other search"
    OTHER_AGENCY = "other agency"
    OTHER_GRANT = "other grant"
    TOO_MANY = "too many"
    TOO_LOW = "too low"
    UNSORTED = "unsorted"
    NOT_A_NUMBER = "not a number"
    STALE = "stale"
    STALE_CALIBRATION = "stale calibration"
    DUPLICATES = "duplicates"
    NO_CHECKPOINT = "no checkpoint"
    FORGED_CHECKPOINT = "forged checkpoint"
    CHECKPOINT_SIGNED_TWICE = "checkpoint signed twice"
    NO_STATEMENT = "no statement"
    FORGED_STATEMENT = "forged statement"


@dataclass(slots=True)
class Knobs:
    """How one simulated agency behaves; may be turned while it runs."""

    behaviour: Behaviour = Behaviour.CANDIDATES
    delay_s: float = 0.0
    resets_left: int = 0
    """How many calls fail as a lost connection before one gets through."""
    late: Behaviour | None = None
    """How it answers when a held answer, or one that did not arrive, is asked for; until this is
    set the one waits and the other is not there."""
    follows: bytes | None = None
    """The digest of the HELD report that a late answer names, instead of the right one."""
    decide_by: datetime | None = None
    """By when it says that it will have decided."""
    strengths: Sequence[float] = ()
    """The log10 LR of each candidate; raw scores if there are none."""
    expires_in: timedelta = timedelta(days=30)
    """When the calibration of the strengths expires."""
    tokens: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    """The link tokens of some candidates, by reference."""
    spoil: Callable[[agency_pb.CandidateLinks], object] | None = None
    """What is done to the link tokens before they are signed."""
    links_forged: bool = False
    """Whether the link tokens are signed by another's key."""
    capabilities: Callable[[agency_pb.Capabilities], object] | None = None
    """What is stated of the agency, if anything is."""


@dataclass(slots=True)
class SimulatedAgency:
    """One agency's side of the wire."""

    agency: str
    signer: Signer
    other_signer: Signer
    knobs: Knobs = field(default_factory=Knobs)
    calls: int = 0
    requests: MutableSequence[bytes] = field(default_factory=list)
    collects: int = 0
    asked: dict[tuple[bytes, bytes], agency_pb.Dossier] = field(default_factory=dict)
    held: dict[tuple[bytes, bytes], tuple[agency_pb.Dossier, bytes]] = field(default_factory=dict)
    newest_size: int = 0
    log: NoteSigner | None = None
    """The key of its search log; without one it sends no checkpoint."""

    async def match(self, data: bytes, context: Any) -> bytes:
        """Answer one match request as the knobs say."""
        self.calls += 1
        self.requests.append(data)
        if self.knobs.delay_s:
            await asyncio.sleep(self.knobs.delay_s)
        behaviour = self.knobs.behaviour
        if self.knobs.resets_left > 0:
            self.knobs.resets_left -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        request = agency_pb.MatchRequest.FromString(data)
        dossier = agency_pb.Dossier.FromString(request.dossier)
        self.asked[names_of(dossier)] = dossier
        if (instead := await self._instead_of_an_answer(behaviour, context)) is not None:
            return instead
        self.newest_size = max(self.newest_size, checkpoint_size(dossier.checkpoint))
        report = self.report(dossier, behaviour)
        answer = self._answer(report, dossier, behaviour)
        if behaviour is Behaviour.HOLDS:
            self.held[names_of(dossier)] = (dossier, answer.report.payload)
        return answer.SerializeToString()

    async def collect(self, data: bytes, context: Any) -> bytes:
        """Answer one request for a held answer as the knobs say."""
        self.collects += 1
        request = agency_pb.CollectRequest.FromString(data)
        if request.order:
            return await self._given(request, context)
        kept = self.held.get((request.order_sha256, request.grant_sha256))
        if kept is None:
            await context.abort_with_status(to_status(ProbegateError(Reason.NOT_FOUND)))
            raise AssertionError
        behaviour = self.knobs.late
        response = agency_pb.CollectResponse()
        if self.knobs.decide_by is not None:
            response.decide_by.FromDatetime(self.knobs.decide_by)
        if behaviour is None:
            return response.SerializeToString()
        if (instead := await self._instead_of_an_answer(behaviour, context)) is not None:
            return instead
        dossier, held = kept
        report = self.report(dossier, behaviour)
        follows = self.knobs.follows
        report.held_report_sha256 = hashlib.sha256(held).digest() if follows is None else follows
        response.answer.CopyFrom(self._answer(report, dossier, behaviour))
        return response.SerializeToString()

    async def _given(self, request: agency_pb.CollectRequest, context: Any) -> bytes:
        """Hand over a first answer that did not arrive, as the knobs say."""
        name = (request.order_sha256, request.grant_sha256)
        dossier, behaviour = self.asked.get(name), self.knobs.late
        shown = hashlib.sha256(request.order).digest() == request.order_sha256
        if dossier is None or behaviour is None or not shown:
            await context.abort_with_status(to_status(ProbegateError(Reason.NOT_FOUND)))
            raise AssertionError
        if (instead := await self._instead_of_an_answer(behaviour, context)) is not None:
            return instead
        report = self.report(dossier, behaviour)
        if self.knobs.follows is not None:
            report.held_report_sha256 = self.knobs.follows
        answer = self._answer(report, dossier, behaviour)
        if behaviour is Behaviour.HOLDS:
            self.held[name] = (dossier, answer.report.payload)
        return agency_pb.CollectResponse(answer=answer).SerializeToString()

    def _answer(
        self, report: search_pb2.MatchReport, dossier: agency_pb.Dossier, behaviour: Behaviour
    ) -> agency_pb.MatchResponse:
        signer = self.other_signer if behaviour is Behaviour.WRONG_KEY else self.signer
        envelope = dsse.sign(PayloadType.MATCH_REPORT, report.SerializeToString(), signer)
        payload = envelope.payload
        if behaviour is Behaviour.TAMPERED:
            payload = payload.replace(b"simulated", b"simulates")
        return agency_pb.MatchResponse(
            report=envelope_to_wire(replace(envelope, payload=payload)),
            acknowledged=agency_pb.Acknowledged(newest_size=self.newest_size),
            agency_checkpoint=self.checkpoint(behaviour),
            agency_leaf_index=self.calls,
            statement=self.statement(report, dossier, behaviour),
            links=self.links(report, envelope.payload),
        )

    def checkpoint(self, behaviour: Behaviour) -> bytes:
        """Sign a checkpoint of its search log, of as many entries as it was called."""
        if self.log is None or behaviour is Behaviour.NO_CHECKPOINT:
            return b""
        root = hashlib.sha256(b"%d" % self.calls).digest()
        made = Checkpoint(self.log.name, self.calls, root)
        note = sign_checkpoint(made, self.log).note
        if behaviour is Behaviour.FORGED_CHECKPOINT:
            return note.replace(f"\n{self.calls}\n".encode(), b"\n99\n")
        if behaviour is Behaviour.CHECKPOINT_SIGNED_TWICE:
            key = Ed25519PrivateKey.generate()
            public = key.public_key().public_bytes_raw()
            stranger = note_signer(made.origin, key.sign, public)
            return note + sign_checkpoint(made, stranger).note.rpartition(b"\n\n")[2]
        return note

    def links(self, report: search_pb2.MatchReport, payload: bytes) -> envelope_pb2.Envelope | None:
        """Sign the link tokens that the knobs give the candidates, if any."""
        if not self.knobs.tokens:
            return None
        said = agency_pb.CandidateLinks(
            search_id=report.search_id,
            agency=self.agency,
            report_sha256=hashlib.sha256(payload).digest(),
            link_key_id="link-1",
            candidates=[
                agency_pb.CandidateLink(reference=reference, tokens=tokens)
                for reference, tokens in self.knobs.tokens.items()
            ],
        )
        if self.knobs.spoil is not None:
            self.knobs.spoil(said)
        signer = self.other_signer if self.knobs.links_forged else self.signer
        return envelope_to_wire(
            dsse.sign(PayloadType.CANDIDATE_LINKS, said.SerializeToString(), signer)
        )

    def statement(
        self, report: search_pb2.MatchReport, dossier: agency_pb.Dossier, behaviour: Behaviour
    ) -> envelope_pb2.Envelope | None:
        """Sign that this agency searched, where it did."""
        searched = {
            search_pb2.OUTCOME_STATE_CANDIDATES,
            search_pb2.OUTCOME_STATE_NO_CANDIDATE,
        }
        if report.state not in searched or behaviour is Behaviour.NO_STATEMENT:
            return None
        said = search_pb2.AnswerStatement(
            search_id=report.search_id,
            agency=self.agency,
            order_sha256=report.order_sha256,
            answered_at=report.reported_at,
            matter_sha256=decode_order(dossier.order.payload).matter_sha256,
        )
        forged = behaviour is Behaviour.FORGED_STATEMENT
        signer = self.other_signer if forged else self.signer
        envelope = dsse.sign(PayloadType.ANSWER_STATEMENT, said.SerializeToString(), signer)
        return envelope_to_wire(envelope)

    @staticmethod
    async def _instead_of_an_answer(behaviour: Behaviour, context: Any) -> bytes | None:
        match behaviour:
            case Behaviour.HANGS | Behaviour.LATE:
                await asyncio.sleep(3600)
            case Behaviour.RESETS:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            case Behaviour.REFUSES:
                await context.abort_with_status(to_status(ProbegateError(Reason.GRANT_INVALID)))
            case Behaviour.BUSY:
                await context.abort_with_status(to_status(ProbegateError(Reason.SERVER_BUSY)))
            case Behaviour.GARBAGE:
                return b"\xff\xfe garbage \x00" * 64
            case Behaviour.NOTHING:
                return b""
            case Behaviour.OVERSIZED:
                return b"\x1a" + b"\xff" * (1 << 20)
            case _:
                return None
        return None

    async def describe(self, data: bytes, context: Any) -> bytes:
        """Say what of the broker's log was acknowledged."""
        del data, context
        known = agency_pb.Acknowledged(newest_size=self.newest_size)
        response = agency_pb.DescribeResponse(acknowledged=known)
        if self.knobs.capabilities is not None:
            said = agency_pb.Capabilities(agency=self.agency, matcher="simulated 1")
            said.stated_at.FromDatetime(datetime.now(UTC))
            self.knobs.capabilities(said)
            signed = dsse.sign(PayloadType.CAPABILITIES, said.SerializeToString(), self.signer)
            response.capabilities.CopyFrom(envelope_to_wire(signed))
        return response.SerializeToString()

    def _strengths(self, behaviour: Behaviour) -> Sequence[float]:
        stale = behaviour is Behaviour.STALE_CALIBRATION
        return self.knobs.strengths or ((9.0, 8.0) if stale else ())

    def _calibration(self, now: datetime, behaviour: Behaviour) -> dict[str, Any]:
        if not self._strengths(behaviour):
            return {}
        stale = behaviour is Behaviour.STALE_CALIBRATION
        expires = Timestamp()
        expires.FromDatetime(now + (timedelta(hours=-1) if stale else self.knobs.expires_in))
        return {
            "calibration": "simulated calibration",
            "calibration_sha256": hashlib.sha256(b"calibration").digest(),
            "calibration_expires_at": expires,
        }

    def report(self, dossier: agency_pb.Dossier, behaviour: Behaviour) -> search_pb2.MatchReport:
        """Make the report that ``behaviour`` calls for."""
        grant = search_pb2.SearchGrant.FromString(dossier.grant.payload)
        duties = next(p.obligations for p in grant.permits if p.agency == self.agency)
        strengths = self._strengths(behaviour)
        count = len(strengths) or 2
        if behaviour is Behaviour.TOO_MANY:
            count = duties.max_candidates + 1
        best = max(duties.min_score, 0.5) + 0.3
        if behaviour is Behaviour.TOO_LOW:
            best = duties.min_score - 0.1
        scores = [best - 0.05 * place / count for place in range(count)]
        if behaviour is Behaviour.UNSORTED:
            scores.reverse()
        if behaviour is Behaviour.NOT_A_NUMBER:
            scores[0] = float("nan")
        state = {
            Behaviour.EMPTY: search_pb2.OUTCOME_STATE_NO_CANDIDATE,
            Behaviour.DENIES: search_pb2.OUTCOME_STATE_DENIED,
            Behaviour.HOLDS: search_pb2.OUTCOME_STATE_HELD,
            Behaviour.REJECTS: search_pb2.OUTCOME_STATE_REJECTED,
        }.get(behaviour, search_pb2.OUTCOME_STATE_CANDIDATES)
        now = datetime.now(UTC)
        if behaviour is Behaviour.STALE:
            now -= timedelta(hours=1)
        made = Timestamp()
        made.FromDatetime(now)
        other = hashlib.sha256(b"another").digest()
        return search_pb2.MatchReport(
            search_id=(
                "00000000-0000-4000-8000-000000000000"
                if behaviour is Behaviour.OTHER_SEARCH
                else grant.search_id
            ),
            agency="another" if behaviour is Behaviour.OTHER_AGENCY else self.agency,
            order_sha256=grant.order_sha256,
            grant_sha256=(
                other
                if behaviour is Behaviour.OTHER_GRANT
                else hashlib.sha256(dossier.grant.payload).digest()
            ),
            state=state,
            reason={
                Behaviour.DENIES: "CLAUSES_FAILED",
                Behaviour.HOLDS: "TO_BE_RELEASED",
                Behaviour.REJECTS: "PROBE_INVALID",
            }.get(behaviour, ""),
            failed_clauses=["simulated.clause"] if behaviour is Behaviour.DENIES else [],
            candidates=[
                search_pb2.Candidate(
                    reference=f"ref-{1 if behaviour is Behaviour.DUPLICATES else rank}",
                    score=score,
                    rank=rank,
                    log10_lr=strengths[rank - 1] if strengths else None,
                    expected_false=(
                        search_pb2.ExpectedFalse(expected=0.3, low=0.1, high=0.9)
                        if strengths
                        else None
                    ),
                )
                for rank, score in enumerate(scores, 1)
            ]
            if state == search_pb2.OUTCOME_STATE_CANDIDATES
            else [],
            **self._calibration(now, behaviour),
            matcher="simulated 1",
            threshold=duties.min_score,
            gallery_class="<1k",
            gallery_generation=1,
            exact=True,
            reported_at=made,
        )


def names_of(dossier: agency_pb.Dossier) -> tuple[bytes, bytes]:
    """Return the digests of order and grant, by which an answer is asked for afterwards."""
    order, grant = dossier.order.payload, dossier.grant.payload
    return hashlib.sha256(order).digest(), hashlib.sha256(grant).digest()


def search_log_signer(folder: MemberFolder) -> NoteSigner:
    """Return what signs the checkpoints of a member's search log."""
    signer = folder.log_search_signer()
    origin = next(key.name for key in folder.member().keys if key.kid == signer.kid)
    return note_signer(origin or "", signer.sign, signer.public_key)


def checkpoint_size(note: bytes) -> int:
    """Read the size out of a checkpoint's second line."""
    return int(note.split(b"\n", 2)[1])


async def serve_simulated(
    agencies: dict[str, SimulatedAgency],
    folders: dict[str, MemberFolder],
    ports: dict[str, int],
    directory: Callable[[], Directory],
) -> list[grpc.aio.Server]:
    """Serve each simulated agency on its own port with its own certificate."""
    servers = []
    for name, simulated in agencies.items():
        server = grpc.aio.server()
        handlers = {
            "Match": grpc.unary_unary_rpc_method_handler(simulated.match),
            "Collect": grpc.unary_unary_rpc_method_handler(simulated.collect),
            "Describe": grpc.unary_unary_rpc_method_handler(simulated.describe),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("probegate.agency.v1.MatchService", handlers),)
        )
        folder = folders[name]
        credentials = server_credentials(folder.tls_cert, folder.tls_key, directory)
        server.add_secure_port(f"127.0.0.1:{ports[name]}", credentials)
        await server.start()
        servers.append(server)
    return servers
