"""Between the broker's models and the wire: the only module here that touches the stubs.

Also the form in which searches are stored: the same messages, so that there is one encoding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError
from probegate.agency.v1 import match_service_pb2
from probegate.broker.v1 import (
    disclosure_service_pb2,
    disclosure_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    review_service_pb2,
    review_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from probegate.common.v1 import search_pb2

from audit.evidence import EarlierSearch, Evidence, LoggedEntry
from broker.models import (
    Acknowledged,
    AgencyAnswer,
    AgencyDecision,
    AgencyReply,
    ConfirmParams,
    CreateParams,
    Description,
    Preview,
    SealedProbe,
    SearchState,
    SearchSummary,
    SearchView,
)
from broker.reports import Collected
from broker.stated import ExpectedAt, QualityBand, StatedCapabilities
from policy.decision import Decision
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_AGENCIES, ExpectedFalse
from trust.wire import (
    checked,
    envelope_from_wire,
    envelope_to_wire,
    expected_from_wire,
    expected_to_wire,
    moment,
    obligations_from_wire,
    obligations_to_wire,
    outcome_from_wire,
    outcome_to_wire,
    parse,
    timestamp,
)

SearchServicerBase = search_service_pb2_grpc.SearchServiceServicer
PolicyServicerBase = policy_service_pb2_grpc.PolicyServiceServicer
ReviewServicerBase = review_service_pb2_grpc.ReviewServiceServicer
DisclosureServicerBase = disclosure_service_pb2_grpc.DisclosureServiceServicer
register_search = search_service_pb2_grpc.add_SearchServiceServicer_to_server
register_policy = policy_service_pb2_grpc.add_PolicyServiceServicer_to_server
register_review = review_service_pb2_grpc.add_ReviewServiceServicer_to_server
register_disclosure = disclosure_service_pb2_grpc.add_DisclosureServiceServicer_to_server
SERVICES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (search_service_pb2, "SearchService"),
        (policy_service_pb2, "PolicyService"),
        (review_service_pb2, "ReviewService"),
        (disclosure_service_pb2, "DisclosureService"),
    )
)
MATCH_METHOD: Final = "/probegate.agency.v1.MatchService/Match"
COLLECT_METHOD: Final = "/probegate.agency.v1.MatchService/Collect"
DESCRIBE_METHOD: Final = "/probegate.agency.v1.MatchService/Describe"
DESCRIBE_REQUEST: Final = match_service_pb2.DescribeRequest().SerializeToString()

CreateSearchRequest = search_service_pb2.CreateSearchRequest
CreateSearchResponse = search_service_pb2.CreateSearchResponse
WatchSearchRequest = search_service_pb2.WatchSearchRequest
WatchSearchResponse = search_service_pb2.WatchSearchResponse
GetSearchRequest = search_service_pb2.GetSearchRequest
GetSearchResponse = search_service_pb2.GetSearchResponse
ListSearchesRequest = search_service_pb2.ListSearchesRequest
ListSearchesResponse = search_service_pb2.ListSearchesResponse
CancelSearchRequest = search_service_pb2.CancelSearchRequest
CancelSearchResponse = search_service_pb2.CancelSearchResponse
PreviewSearchRequest = search_service_pb2.PreviewSearchRequest
PreviewSearchResponse = search_service_pb2.PreviewSearchResponse
ConfirmUrgentRequest = search_service_pb2.ConfirmUrgentRequest
ConfirmUrgentResponse = search_service_pb2.ConfirmUrgentResponse
ExplainRequest = policy_service_pb2.ExplainRequest
ExplainResponse = policy_service_pb2.ExplainResponse

_STATES: Final = {
    state: search_service_pb2.SearchState.Value(f"SEARCH_STATE_{state.name}")
    for state in SearchState
}
_CACHED_PROOFS: Final = 1024
"""Most consistency proofs kept encoded."""


# --- what a force sends and reads ------------------------------------------------------------


def create_params(request: search_service_pb2.CreateSearchRequest) -> CreateParams:
    """Read a request to create a search; nothing is checked yet but its size."""
    if len(request.probes) > MAX_AGENCIES:
        raise ProbegateError(Reason.ORDER_INVALID, field="probes")
    return CreateParams(
        order=envelope_from_wire(request.order),
        probes=tuple(SealedProbe(p.agency, p.key_id, p.ciphertext) for p in request.probes),
        officer_token=request.officer_token,
        authoriser_token=request.authoriser_token,
        wait_s=request.wait_ms / 1000,
    )


def confirm_params(request: search_service_pb2.ConfirmUrgentRequest) -> ConfirmParams:
    """Read a request to confirm an urgent search; nothing is checked yet."""
    return ConfirmParams(envelope_from_wire(request.confirmation), request.confirmer_token)


def search_message(view: SearchView) -> search_service_pb2.Search:
    """Write a search as a force reads it."""
    record = view.record
    return search_service_pb2.Search(
        search_id=record.search_id,
        request_id=record.request_id,
        state=_STATES[record.state],
        decisions=[decision_message(decision) for decision in record.decisions],
        answers=[answer_message(answer) for answer in record.answers],
        result=envelope_to_wire(record.result) if record.result else None,
        receipt=view.receipt,
        receipt_leaf=view.receipt_leaf,
        created_at=timestamp(record.created_at),
        warnings=record.warnings,
        confirmed_at=timestamp(view.confirmed_at) if view.confirmed_at else None,
    )


def summary_message(summary: SearchSummary) -> search_service_pb2.SearchSummary:
    """Write a search as it shows in a list."""
    return search_service_pb2.SearchSummary(
        search_id=summary.search_id,
        request_id=summary.request_id,
        state=_STATES[summary.state],
        created_at=timestamp(summary.created_at),
        agencies=summary.agencies,
    )


def decision_message(decision: AgencyDecision) -> search_service_pb2.AgencyDecision:
    """Write one agency's decision, with every clause where it is at hand."""
    return search_service_pb2.AgencyDecision(
        agency=decision.agency,
        permitted=decision.permitted,
        code=decision.code,
        failed_clauses=decision.failed_clauses,
        agreement=decision.agreement,
        agreement_sha256=decision.agreement_sha256,
        clauses=_clauses(decision.full) if decision.full else (),
        obligations=obligations_to_wire(decision.obligations) if decision.obligations else None,
        waived=decision.waived,
        confirm_by=timestamp(decision.confirm_by) if decision.confirm_by else None,
        confirmer_rank=decision.confirmer_rank,
        expected_false=expected_to_wire(decision.expected_false),
    )


def preview_message(preview: Preview) -> search_service_pb2.PreviewSearchResponse:
    """Write what would be decided and what is expected."""
    return search_service_pb2.PreviewSearchResponse(
        decisions=[decision_message(one) for one in preview.ruling.decisions],
        policy_sha256=preview.ruling.policy_sha256,
        warnings=preview.ruling.warnings,
        expected_false=expected_to_wire(preview.expected_false),
        without_expectation=preview.without_expectation,
    )


def _clauses(decision: Decision) -> list[search_service_pb2.ClauseVerdict]:
    return [
        search_service_pb2.ClauseVerdict(
            agreement=clause.agreement_id,
            clause=clause.clause_id,
            citation=clause.citation,
            attribute=clause.attribute,
            operator=clause.operator,
            required=_text(clause.required),
            actual=_text(clause.actual),
            verdict=clause.verdict,
            waived=clause.waived,
        )
        for clause in decision.clauses
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def answer_message(answer: AgencyAnswer) -> search_service_pb2.AgencyAnswer:
    """Write one agency's answer."""
    known = answer.acknowledged
    return search_service_pb2.AgencyAnswer(
        outcome=outcome_to_wire(answer.outcome),
        report=envelope_to_wire(answer.report) if answer.report else None,
        agency_checkpoint=answer.agency_checkpoint,
        acknowledged=(
            match_service_pb2.Acknowledged(newest_size=known.newest_size, debts=known.debts)
            if known
            else None
        ),
        statement=envelope_to_wire(answer.statement) if answer.statement else None,
    )


def _answer(message: search_service_pb2.AgencyAnswer) -> AgencyAnswer:
    return AgencyAnswer(
        outcome=outcome_from_wire(message.outcome),
        report=envelope_from_wire(message.report) if message.HasField("report") else None,
        agency_checkpoint=message.agency_checkpoint,
        acknowledged=(
            _acknowledged(message.acknowledged) if message.HasField("acknowledged") else None
        ),
        statement=envelope_from_wire(message.statement) if message.HasField("statement") else None,
    )


# --- what is stored --------------------------------------------------------------------------


def encode_decisions(decisions: Sequence[AgencyDecision], warnings: Sequence[str]) -> bytes:
    """Encode decisions for keeping, without their clauses, with the warnings on the order."""
    return search_service_pb2.Search(
        decisions=[decision_message(decision) for decision in decisions], warnings=warnings
    ).SerializeToString()


def decode_decisions(data: bytes) -> tuple[tuple[AgencyDecision, ...], tuple[str, ...]]:
    """Decode kept decisions and warnings."""
    kept = search_service_pb2.Search.FromString(data)
    decisions = tuple(
        AgencyDecision(
            agency=d.agency,
            permitted=d.permitted,
            code=d.code,
            failed_clauses=tuple(d.failed_clauses),
            agreement=d.agreement,
            agreement_sha256=d.agreement_sha256,
            obligations=obligations_from_wire(d.obligations) if d.permitted else None,
            waived=tuple(d.waived),
            confirm_by=moment(d.confirm_by) if d.HasField("confirm_by") else None,
            confirmer_rank=d.confirmer_rank,
        )
        for d in kept.decisions
    )
    return decisions, tuple(kept.warnings)


def count_decisions(data: bytes) -> int:
    """Return how many agencies kept decisions are of, without making anything of them."""
    return len(search_service_pb2.Search.FromString(data).decisions)


def encode_sealed(probes: Sequence[SealedProbe]) -> bytes:
    """Encode sealed probes for keeping until the search ends."""
    return search_service_pb2.CreateSearchRequest(
        probes=[
            search_pb2.SealedProbe(agency=p.agency, key_id=p.key_id, ciphertext=p.ciphertext)
            for p in probes
        ]
    ).SerializeToString()


def decode_sealed(data: bytes) -> tuple[SealedProbe, ...]:
    """Decode kept sealed probes."""
    return create_params(search_service_pb2.CreateSearchRequest.FromString(data)).probes


def encode_ended(answers: Sequence[AgencyAnswer], result: Envelope) -> bytes:
    """Encode how a search ended, for keeping."""
    return search_service_pb2.Search(
        answers=[answer_message(answer) for answer in answers], result=envelope_to_wire(result)
    ).SerializeToString()


def decode_ended(data: bytes) -> tuple[tuple[AgencyAnswer, ...], Envelope]:
    """Decode how a search ended."""
    kept = search_service_pb2.Search.FromString(data)
    return tuple(_answer(answer) for answer in kept.answers), envelope_from_wire(kept.result)


# --- what goes to an agency and comes back ---------------------------------------------------


def encode_dossier(
    order: Envelope,
    grant: Envelope,
    leaf: bytes,
    leaf_index: int,
    inclusion: Sequence[bytes],
    checkpoint: bytes,
) -> bytes:
    """Encode once what every agency of a search gets, ready to stand in a ``MatchRequest``."""
    dossier = match_service_pb2.Dossier(
        order=envelope_to_wire(order),
        grant=envelope_to_wire(grant),
        leaf=leaf,
        leaf_index=leaf_index,
        inclusion=inclusion,
        checkpoint=checkpoint,
    )
    return match_service_pb2.MatchRequest(dossier=dossier.SerializeToString()).SerializeToString()


def encode_match(
    dossier: bytes,
    probe: SealedProbe,
    consistency: Sequence[tuple[int, int, tuple[bytes, ...]]],
    evidence: Evidence,
) -> bytes:
    """Encode one agency's request around the shared dossier (protobuf fields concatenate)."""
    own = match_service_pb2.MatchRequest(
        sealed_key_id=probe.key_id,
        sealed_probe=probe.ciphertext,
        earlier_searches=[_earlier_search(one) for one in evidence.earlier],
        confirmations=[
            match_service_pb2.ConfirmedSearch(
                entry=_logged_entry(one.entry), confirmation=envelope_to_wire(one.confirmation)
            )
            for one in evidence.confirmed
        ],
    ).SerializeToString()
    return b"".join((dossier, own, *[_encode_proof(*proof) for proof in consistency]))


def _logged_entry(entry: LoggedEntry) -> match_service_pb2.LoggedEntry:
    return match_service_pb2.LoggedEntry(
        leaf=entry.leaf, leaf_index=entry.index, inclusion=entry.inclusion
    )


def _earlier_search(earlier: EarlierSearch) -> match_service_pb2.EarlierSearch:
    return match_service_pb2.EarlierSearch(
        order=_logged_entry(earlier.order),
        statements=[envelope_to_wire(statement) for statement in earlier.statements],
    )


@lru_cache(_CACHED_PROOFS)
def _encode_proof(old: int, new: int, hashes: tuple[bytes, ...]) -> bytes:
    # Most agencies acknowledge the same sizes, so one encoding serves them all.
    proof = match_service_pb2.ConsistencyProof(old_size=old, new_size=new, hashes=hashes)
    return match_service_pb2.MatchRequest(consistency=[proof]).SerializeToString()


def decode_reply(data: bytes) -> AgencyReply:
    """Decode an agency's answer; nothing in it is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    try:
        message = match_service_pb2.MatchResponse.FromString(data)
    except DecodeError as error:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="response") from error
    return _reply(message)


def _reply(message: match_service_pb2.MatchResponse) -> AgencyReply:
    return AgencyReply(
        report=envelope_from_wire(message.report),
        acknowledged=_acknowledged(message.acknowledged),
        agency_checkpoint=message.agency_checkpoint,
        statement=envelope_from_wire(message.statement) if message.HasField("statement") else None,
        links=envelope_from_wire(message.links) if message.HasField("links") else None,
    )


def encode_collect(order_sha256: bytes, grant_sha256: bytes, order: bytes) -> bytes:
    """Encode which answer is asked for: what followed a held one or, with the order, the first."""
    return match_service_pb2.CollectRequest(
        order_sha256=order_sha256, grant_sha256=grant_sha256, order=order
    ).SerializeToString()


def decode_collected(data: bytes) -> Collected:
    """Decode what became of an answer; nothing in it is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    try:
        message = match_service_pb2.CollectResponse.FromString(data)
        decide_by = moment(message.decide_by) if message.HasField("decide_by") else None
    except (DecodeError, ValueError) as error:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="response") from error
    reply = _reply(message.answer) if message.HasField("answer") else None
    return Collected(reply, decide_by)


def decode_description(data: bytes) -> Description:
    """Read an agency's description; nothing in it is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    try:
        message = match_service_pb2.DescribeResponse.FromString(data)
    except DecodeError as error:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="response") from error
    stated = message.HasField("capabilities")
    return Description(
        acknowledged=_acknowledged(message.acknowledged),
        capabilities=envelope_from_wire(message.capabilities) if stated else None,
    )


def decode_capabilities(payload: bytes) -> StatedCapabilities:
    """Decode the payload of a verified envelope of capabilities.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` with the field's name.
    """
    message = parse(match_service_pb2.Capabilities, payload, Reason.OUTCOME_INVALID)
    calibrated = message.HasField("calibration_expires_at")
    return checked(
        Reason.OUTCOME_INVALID,
        lambda: StatedCapabilities(
            agency=message.agency,
            stated_at=moment(message.stated_at),
            calibration_expires_at=moment(message.calibration_expires_at) if calibrated else None,
            bands=tuple(map(_band, message.expected_false)),
        ),
    )


def _band(message: match_service_pb2.ExpectedForQuality) -> QualityBand:
    return QualityBand(
        quality_from=message.quality_from,
        quality_to=message.quality_to,
        at=tuple(ExpectedAt(score=one.score, expected_false=_expected(one)) for one in message.at),
    )


def _expected(message: match_service_pb2.ExpectedAtScore) -> ExpectedFalse:
    expected = expected_from_wire(message)
    if expected is None:
        raise ValueError("expected_false")
    return expected


def _acknowledged(message: match_service_pb2.Acknowledged) -> Acknowledged:
    return Acknowledged(message.newest_size, tuple(message.debts))
