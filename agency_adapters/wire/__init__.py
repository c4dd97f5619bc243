"""Between the adapter's models and the wire: only this and ``second_step`` touch the stubs.

A request that shows more of the past than it may, or holds a field this version does not know, is
``MESSAGE_INVALID`` before anything of it is looked at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from google.protobuf.message import Message
from probegate.agency.v1 import (
    match_service_pb2,
    match_service_pb2_grpc,
    release_service_pb2,
    release_service_pb2_grpc,
)

from agency_adapters.models import (
    Capabilities,
    Collected,
    CollectParams,
    Dossier,
    MatchAnswer,
    MatchParams,
)
from audit.evidence import ConfirmedSearch, EarlierSearch, Evidence, LoggedEntry
from audit.witness import Acknowledged, ConsistencyProof
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_AGENCIES, Encoding
from trust.wire import (
    envelope_from_wire,
    envelope_to_wire,
    expected_to_wire,
    parse,
    timestamp,
)

MatchServicerBase = match_service_pb2_grpc.MatchServiceServicer
ReleaseServicerBase = release_service_pb2_grpc.ReleaseServiceServicer
register_match = match_service_pb2_grpc.add_MatchServiceServicer_to_server
register_release = release_service_pb2_grpc.add_ReleaseServiceServicer_to_server
SERVICES: Final = (
    match_service_pb2.DESCRIPTOR.services_by_name["MatchService"].full_name,
    release_service_pb2.DESCRIPTOR.services_by_name["ReleaseService"].full_name,
)

MAX_EARLIER_SEARCHES: Final = 8
"""Most earlier searches that one request may show."""
MAX_STATEMENTS: Final = MAX_AGENCIES
"""Most statements that may come with one of them."""
MAX_CONFIRMATIONS: Final = 32
"""Most confirmations that one request may show."""

DescribeRequest = match_service_pb2.DescribeRequest
DescribeResponse = match_service_pb2.DescribeResponse
MatchRequest = match_service_pb2.MatchRequest
MatchResponse = match_service_pb2.MatchResponse
CollectRequest = match_service_pb2.CollectRequest
CollectResponse = match_service_pb2.CollectResponse


def match_params(request: match_service_pb2.MatchRequest) -> MatchParams:
    """Read a request to match; the dossier is parsed by the gate.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for too much of the past, or unknown fields.
    """
    require_known(request)
    return MatchParams(
        dossier=request.dossier,
        sealed_key_id=request.sealed_key_id,
        sealed_probe=request.sealed_probe,
        consistency=tuple(
            ConsistencyProof(proof.old_size, proof.new_size, tuple(proof.hashes))
            for proof in request.consistency
        ),
        evidence=_evidence(request),
    )


def collect_params(request: match_service_pb2.CollectRequest) -> CollectParams:
    """Read which held answer is asked for.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for unknown fields.
    """
    require_known(request)
    return CollectParams(request.order_sha256, request.grant_sha256)


def require_known(request: Message) -> None:
    """Refuse a request with fields that this version does not know.

    Raises:
        ProbegateError: ``MESSAGE_INVALID``.
    """
    size = request.ByteSize()
    request.DiscardUnknownFields()
    if request.ByteSize() != size:
        raise ProbegateError(Reason.MESSAGE_INVALID, field="unknown")


def _evidence(request: match_service_pb2.MatchRequest) -> Evidence:
    """Read what the broker shows of its log; ``evidence`` judges it."""
    statements = max((len(one.statements) for one in request.earlier_searches), default=0)
    for field, count, most in (
        ("earlier_searches", len(request.earlier_searches), MAX_EARLIER_SEARCHES),
        ("statements", statements, MAX_STATEMENTS),
        ("confirmations", len(request.confirmations), MAX_CONFIRMATIONS),
    ):
        if count > most:
            raise ProbegateError(Reason.MESSAGE_INVALID, f"{count}, at most {most}", field=field)
    return Evidence(
        earlier=tuple(
            EarlierSearch(
                order=_logged_entry(one.order),
                statements=tuple(map(envelope_from_wire, one.statements)),
            )
            for one in request.earlier_searches
        ),
        confirmed=tuple(
            ConfirmedSearch(_logged_entry(one.entry), envelope_from_wire(one.confirmation))
            for one in request.confirmations
        ),
    )


def _logged_entry(entry: match_service_pb2.LoggedEntry) -> LoggedEntry:
    return LoggedEntry(entry.leaf, entry.leaf_index, tuple(entry.inclusion))


def decode_dossier(data: bytes) -> Dossier:
    """Read a dossier.

    Raises:
        ProbegateError: ``GRANT_INVALID`` for bytes that do not parse or hold unknown fields.
    """
    message = parse(match_service_pb2.Dossier, data, Reason.GRANT_INVALID)
    return Dossier(
        order=envelope_from_wire(message.order),
        grant=envelope_from_wire(message.grant),
        leaf=message.leaf,
        leaf_index=message.leaf_index,
        inclusion=tuple(message.inclusion),
        checkpoint=message.checkpoint,
    )


def encode_dossier(dossier: Dossier) -> bytes:
    """Write a dossier, for tests and tools that stand in for a broker."""
    return match_service_pb2.Dossier(
        order=envelope_to_wire(dossier.order),
        grant=envelope_to_wire(dossier.grant),
        leaf=dossier.leaf,
        leaf_index=dossier.leaf_index,
        inclusion=dossier.inclusion,
        checkpoint=dossier.checkpoint,
    ).SerializeToString()


def match_response(answer: MatchAnswer) -> match_service_pb2.MatchResponse:
    """Write an answer."""
    return match_service_pb2.MatchResponse(
        report=envelope_to_wire(answer.report),
        acknowledged=_acknowledged(answer.acknowledged),
        agency_checkpoint=answer.agency_checkpoint,
        agency_leaf_index=answer.agency_leaf_index,
        statement=envelope_to_wire(answer.statement) if answer.statement else None,
        links=envelope_to_wire(answer.links) if answer.links else None,
    )


def collect_response(collected: Collected) -> match_service_pb2.CollectResponse:
    """Write what became of a held answer."""
    answer = collected.answer
    return match_service_pb2.CollectResponse(
        answer=match_response(answer) if answer is not None else None,
        decide_by=timestamp(collected.decide_by),
    )


def encode_capabilities(stated: Capabilities, at: datetime) -> bytes:
    """Encode what is signed of the capabilities."""
    return match_service_pb2.Capabilities(
        agency=stated.agency,
        models=[
            match_service_pb2.TemplateModel(
                model=stated.model,
                dims=stated.dims,
                encodings=[encoding.value for encoding in Encoding],
            )
        ],
        matcher=stated.matcher,
        gallery_class=stated.gallery_class,
        gallery_generation=stated.gallery_generation,
        exact=stated.exact,
        policy_sha256=stated.policy_sha256,
        stated_at=timestamp(at),
        calibration=stated.calibration,
        calibration_expires_at=(
            timestamp(stated.calibration_expires_at) if stated.calibration_expires_at else None
        ),
        expected_false=[
            match_service_pb2.ExpectedForQuality(
                quality_from=band.quality_from,
                quality_to=band.quality_to,
                at=[
                    match_service_pb2.ExpectedAtScore(
                        score=score, expected_false=expected_to_wire(expected)
                    )
                    for score, expected in band.at
                ],
            )
            for band in stated.expected_false
        ],
        gallery_changed_at=timestamp(stated.gallery_changed_at),
    ).SerializeToString(deterministic=True)


def describe_response(
    capabilities: Envelope, acknowledged: Acknowledged
) -> match_service_pb2.DescribeResponse:
    """Write the signed capabilities."""
    return match_service_pb2.DescribeResponse(
        capabilities=envelope_to_wire(capabilities), acknowledged=_acknowledged(acknowledged)
    )


def _acknowledged(known: Acknowledged) -> match_service_pb2.Acknowledged:
    return match_service_pb2.Acknowledged(newest_size=known.newest_size, debts=known.debts)
