"""Orders, grants, reports, results and what goes with them: bytes to models and back.

The rules are those of the package (``trust.wire``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from probegate.agency.v1 import match_service_pb2
from probegate.common.v1 import search_pb2

from trust.errors import Reason
from trust.messages import (
    AnswerStatement,
    Candidate,
    CandidateLink,
    CandidateLinks,
    Completeness,
    Encoding,
    ExpectedFalse,
    Justification,
    Lane,
    LaneCandidate,
    MatchReport,
    Obligations,
    Offence,
    Outcome,
    OutcomeState,
    Permit,
    Person,
    ProbeManifest,
    ProbePayload,
    RankedCandidate,
    SearchGrant,
    SearchLimits,
    SearchOrder,
    SearchResult,
    UrgentConfirmation,
)
from trust.wire.base import checked, moment, parse, timestamp

_STATE_TO_WIRE: Final[Mapping[OutcomeState, search_pb2.OutcomeState.ValueType]] = {
    state: search_pb2.OutcomeState.Value(f"OUTCOME_STATE_{state.name}") for state in OutcomeState
}
_STATE_FROM_WIRE: Final[Mapping[int, OutcomeState]] = {
    number: state for state, number in _STATE_TO_WIRE.items()
}
_COMPLETENESS_TO_WIRE: Final[Mapping[Completeness, search_pb2.Completeness.ValueType]] = {
    # The default is what says nothing, so that an order that asks for no more reads as ever.
    Completeness.BEST_EFFORT: search_pb2.COMPLETENESS_UNSPECIFIED,
    Completeness.ALL: search_pb2.COMPLETENESS_ALL,
    Completeness.MIN_N: search_pb2.COMPLETENESS_MIN_N,
}
_COMPLETENESS_FROM_WIRE: Final[Mapping[int, Completeness]] = {
    number: completeness for completeness, number in _COMPLETENESS_TO_WIRE.items()
}


# --- orders ----------------------------------------------------------------------------------


def person_to_wire(person: Person) -> search_pb2.Person:
    """Encode a person."""
    return search_pb2.Person(
        id=person.id,
        role=person.role,
        rank=person.rank,
        accreditation=person.accreditation,
        accreditation_expires=(
            person.accreditation_expires.isoformat() if person.accreditation_expires else ""
        ),
    )


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(field) from None


def _encoding(text: str) -> Encoding:
    try:
        return Encoding(text)
    except ValueError:
        raise ValueError("encoding") from None


def _completeness(number: int) -> Completeness:
    completeness = _COMPLETENESS_FROM_WIRE.get(number)
    if completeness is None:
        raise ValueError("completeness")
    return completeness


def person_from_wire(message: search_pb2.Person) -> Person:
    """Decode a person; what the model refuses is a ``ValidationError``."""
    expires = message.accreditation_expires
    return Person(
        id=message.id,
        role=message.role,
        rank=message.rank,
        accreditation=message.accreditation,
        accreditation_expires=_day(expires, "accreditation_expires") if expires else None,
    )


def order_to_wire(order: SearchOrder) -> search_pb2.SearchOrder:
    """Encode an order as a message."""
    why, probe, limits = order.justification, order.probe, order.limits
    return search_pb2.SearchOrder(
        request_id=order.request_id,
        force=order.force,
        officer=person_to_wire(order.officer),
        authoriser=person_to_wire(order.authoriser),
        authorised_at=timestamp(order.authorised_at),
        justification=search_pb2.Justification(
            purpose=why.purpose,
            legal_basis=why.legal_basis,
            schedule8_condition=why.schedule8_condition,
            aim=why.aim,
            subject_category=why.subject_category,
            offence=search_pb2.Offence(code=why.offence.code, seriousness=why.offence.seriousness),
            case_reference=why.case_reference,
            necessity=why.necessity,
            proportionality=why.proportionality,
            tried_first=why.tried_first,
            urgent=why.urgent,
        ),
        probe=search_pb2.ProbeManifest(
            source=probe.source,
            captured_at=timestamp(probe.captured_at) if probe.captured_at else None,
            quality=probe.quality,
            edits=probe.edits,
            model=probe.model,
            dims=probe.dims,
            encoding=probe.encoding.value,
            commitment=probe.commitment,
        ),
        agencies=order.agencies,
        limits=search_pb2.SearchLimits(
            max_candidates=limits.max_candidates,
            min_score=limits.min_score,
            timeout_ms=limits.timeout_ms,
            completeness=_COMPLETENESS_TO_WIRE[limits.completeness],
            min_answers=limits.min_answers,
        ),
        created_at=timestamp(order.created_at),
        expires_at=timestamp(order.expires_at),
    )


def encode_order(order: SearchOrder) -> bytes:
    """Encode an order into the payload bytes that the force signs."""
    return order_to_wire(order).SerializeToString(deterministic=True)


def order_from_wire(message: search_pb2.SearchOrder) -> SearchOrder:
    """Decode an order message.

    Raises:
        ProbegateError: ``ORDER_INVALID`` with the field's name.
    """

    def make() -> SearchOrder:
        why, probe, limits = message.justification, message.probe, message.limits
        return SearchOrder(
            request_id=message.request_id,
            force=message.force,
            officer=person_from_wire(message.officer),
            authoriser=person_from_wire(message.authoriser),
            authorised_at=moment(message.authorised_at),
            justification=Justification(
                purpose=why.purpose,
                legal_basis=why.legal_basis,
                schedule8_condition=why.schedule8_condition,
                aim=why.aim,
                subject_category=why.subject_category,
                offence=Offence(code=why.offence.code, seriousness=why.offence.seriousness),
                case_reference=why.case_reference,
                necessity=why.necessity,
                proportionality=why.proportionality,
                tried_first=tuple(why.tried_first),
                urgent=why.urgent,
            ),
            probe=ProbeManifest(
                source=probe.source,
                captured_at=moment(probe.captured_at) if probe.HasField("captured_at") else None,
                quality=probe.quality,
                edits=tuple(probe.edits),
                model=probe.model,
                dims=probe.dims,
                encoding=_encoding(probe.encoding),
                commitment=probe.commitment,
            ),
            agencies=tuple(message.agencies),
            limits=SearchLimits(
                max_candidates=limits.max_candidates,
                min_score=limits.min_score if limits.HasField("min_score") else None,
                timeout_ms=limits.timeout_ms,
                completeness=_completeness(limits.completeness),
                min_answers=limits.min_answers,
            ),
            created_at=moment(message.created_at),
            expires_at=moment(message.expires_at),
        )

    return checked(Reason.ORDER_INVALID, make)


def decode_order(payload: bytes) -> SearchOrder:
    """Decode the payload of a verified order envelope.

    Raises:
        ProbegateError: ``ORDER_INVALID`` with the field's name.
    """
    return order_from_wire(parse(search_pb2.SearchOrder, payload, Reason.ORDER_INVALID))


# --- probes ----------------------------------------------------------------------------------


def encode_probe(payload: ProbePayload) -> bytes:
    """Encode what is sealed to an agency."""
    return search_pb2.ProbePayload(template=payload.template, salt=payload.salt).SerializeToString(
        deterministic=True
    )


def decode_probe(data: bytes) -> ProbePayload:
    """Decode an opened probe.

    Raises:
        ProbegateError: ``PROBE_INVALID``.
    """
    message = parse(search_pb2.ProbePayload, data, Reason.PROBE_INVALID)
    return checked(
        Reason.PROBE_INVALID,
        lambda: ProbePayload(template=message.template, salt=message.salt),
    )


# --- grants ----------------------------------------------------------------------------------


def obligations_to_wire(duties: Obligations) -> search_pb2.Obligations:
    """Encode obligations."""
    return search_pb2.Obligations(
        max_candidates=duties.max_candidates,
        min_score=duties.min_score,
        mode=duties.mode,
        hit_no_hit=duties.hit_no_hit,
        release_by_human=duties.release_by_human,
        retention_days=duties.retention_days,
        caveats=duties.caveats,
    )


def obligations_from_wire(message: search_pb2.Obligations) -> Obligations:
    """Decode obligations; a ``ValueError`` if they are out of range."""
    return Obligations(
        max_candidates=message.max_candidates,
        min_score=message.min_score,
        mode=message.mode,
        hit_no_hit=message.hit_no_hit,
        release_by_human=message.release_by_human,
        retention_days=message.retention_days,
        caveats=tuple(message.caveats),
    )


def encode_grant(grant: SearchGrant) -> bytes:
    """Encode a grant into the payload bytes that the broker signs."""
    return search_pb2.SearchGrant(
        search_id=grant.search_id,
        order_sha256=grant.order_sha256,
        leaf_sha256=grant.leaf_sha256,
        policy_sha256=grant.policy_sha256,
        permits=[
            search_pb2.Permit(
                agency=permit.agency,
                agreement_sha256=permit.agreement_sha256,
                obligations=obligations_to_wire(permit.obligations),
            )
            for permit in grant.permits
        ],
        issued_at=timestamp(grant.issued_at),
        expires_at=timestamp(grant.expires_at),
    ).SerializeToString(deterministic=True)


def decode_grant(payload: bytes) -> SearchGrant:
    """Decode the payload of a verified grant envelope.

    Raises:
        ProbegateError: ``GRANT_INVALID`` with the field's name.
    """
    message = parse(search_pb2.SearchGrant, payload, Reason.GRANT_INVALID)

    def make() -> SearchGrant:
        return SearchGrant(
            search_id=message.search_id,
            order_sha256=message.order_sha256,
            leaf_sha256=message.leaf_sha256,
            policy_sha256=message.policy_sha256,
            permits=tuple(
                Permit(
                    agency=permit.agency,
                    agreement_sha256=permit.agreement_sha256,
                    obligations=obligations_from_wire(permit.obligations),
                )
                for permit in message.permits
            ),
            issued_at=moment(message.issued_at),
            expires_at=moment(message.expires_at),
        )

    return checked(Reason.GRANT_INVALID, make)


# --- reports ---------------------------------------------------------------------------------


def expected_to_wire(expected: ExpectedFalse | None) -> search_pb2.ExpectedFalse | None:
    """Encode an expected number of false candidates, if there is one."""
    if expected is None:
        return None
    return search_pb2.ExpectedFalse(
        expected=expected.expected, low=expected.low, high=expected.high
    )


def expected_from_wire(message: Any) -> ExpectedFalse | None:
    """Decode the ``expected_false`` of a message; a ``ValueError`` if it makes no sense."""
    if not message.HasField("expected_false"):
        return None
    said = message.expected_false
    return ExpectedFalse(expected=said.expected, low=said.low, high=said.high)


def encode_report(report: MatchReport) -> bytes:
    """Encode a report into the payload bytes that the agency signs."""
    return search_pb2.MatchReport(
        search_id=report.search_id,
        agency=report.agency,
        order_sha256=report.order_sha256,
        grant_sha256=report.grant_sha256,
        state=_STATE_TO_WIRE[report.state],
        reason=report.reason,
        failed_clauses=report.failed_clauses,
        candidates=[
            search_pb2.Candidate(
                reference=c.reference,
                score=c.score,
                rank=c.rank,
                log10_lr=c.log10_lr,
                expected_false=expected_to_wire(c.expected_false),
            )
            for c in report.candidates
        ],
        matcher=report.matcher,
        calibration=report.calibration,
        threshold=report.threshold,
        gallery_class=report.gallery_class,
        gallery_generation=report.gallery_generation,
        exact=report.exact,
        policy_sha256=report.policy_sha256,
        agency_order_leaf_sha256=report.agency_order_leaf_sha256,
        reported_at=timestamp(report.reported_at),
        calibration_sha256=report.calibration_sha256,
        calibration_expires_at=(
            timestamp(report.calibration_expires_at) if report.calibration_expires_at else None
        ),
        held_report_sha256=report.held_report_sha256,
    ).SerializeToString(deterministic=True)


def decode_report(payload: bytes) -> MatchReport:
    """Decode the payload of a verified report envelope.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` with the field's name.
    """
    message = parse(search_pb2.MatchReport, payload, Reason.OUTCOME_INVALID)

    def make() -> MatchReport:
        return MatchReport(
            search_id=message.search_id,
            agency=message.agency,
            order_sha256=message.order_sha256,
            grant_sha256=message.grant_sha256,
            state=state_from_wire(message.state),
            reason=message.reason,
            failed_clauses=tuple(message.failed_clauses),
            candidates=tuple(
                Candidate(
                    reference=c.reference,
                    score=c.score,
                    rank=c.rank,
                    log10_lr=c.log10_lr if c.HasField("log10_lr") else None,
                    expected_false=expected_from_wire(c),
                )
                for c in message.candidates
            ),
            matcher=message.matcher,
            calibration=message.calibration,
            threshold=message.threshold,
            gallery_class=message.gallery_class,
            gallery_generation=message.gallery_generation,
            exact=message.exact,
            policy_sha256=message.policy_sha256,
            agency_order_leaf_sha256=message.agency_order_leaf_sha256,
            reported_at=moment(message.reported_at),
            calibration_sha256=message.calibration_sha256,
            calibration_expires_at=(
                moment(message.calibration_expires_at)
                if message.HasField("calibration_expires_at")
                else None
            ),
            held_report_sha256=message.held_report_sha256,
        )

    return checked(Reason.OUTCOME_INVALID, make)


# --- results ---------------------------------------------------------------------------------


def state_from_wire(number: int) -> OutcomeState:
    """Decode an outcome state; a ``ValueError`` if it is not one of ours."""
    state = _STATE_FROM_WIRE.get(number)
    if state is None:
        raise ValueError("state")
    return state


def outcome_to_wire(outcome: Outcome) -> search_pb2.Outcome:
    """Encode one agency's outcome."""
    return search_pb2.Outcome(
        agency=outcome.agency,
        state=_STATE_TO_WIRE[outcome.state],
        reason=outcome.reason,
        failed_clauses=outcome.failed_clauses,
        decided_by=outcome.decided_by,
        report_sha256=outcome.report_sha256,
        latency_ms=outcome.latency_ms,
        late_at=timestamp(outcome.late_at) if outcome.late_at else None,
        erased_at=timestamp(outcome.erased_at) if outcome.erased_at else None,
    )


def outcome_from_wire(message: search_pb2.Outcome) -> Outcome:
    """Decode one agency's outcome; a ``ValueError`` if it is out of range."""
    return Outcome(
        agency=message.agency,
        state=state_from_wire(message.state),
        reason=message.reason,
        failed_clauses=tuple(message.failed_clauses),
        decided_by=message.decided_by,
        report_sha256=message.report_sha256,
        latency_ms=message.latency_ms,
        late_at=moment(message.late_at) if message.HasField("late_at") else None,
        erased_at=moment(message.erased_at) if message.HasField("erased_at") else None,
    )


def encode_result(result: SearchResult) -> bytes:
    """Encode a result into the payload bytes that the broker signs."""
    return search_pb2.SearchResult(
        search_id=result.search_id,
        order_sha256=result.order_sha256,
        outcomes=[outcome_to_wire(outcome) for outcome in result.outcomes],
        complete=result.complete,
        missing=result.missing,
        finished_at=timestamp(result.finished_at),
        ranking=[
            search_pb2.RankedCandidate(
                agency=c.agency,
                reference=c.reference,
                log10_lr=c.log10_lr,
                expected_false=expected_to_wire(c.expected_false),
                group=c.group,
            )
            for c in result.ranking
        ],
        lanes=[
            search_pb2.Lane(
                agency=lane.agency,
                matcher=lane.matcher,
                candidates=[
                    search_pb2.LaneCandidate(reference=c.reference, score=c.score, group=c.group)
                    for c in lane.candidates
                ],
            )
            for lane in result.lanes
        ],
        revision=result.revision,
        replaces_sha256=result.replaces_sha256,
        sufficient=result.sufficient,
        first_finished_at=(
            timestamp(result.first_finished_at) if result.first_finished_at else None
        ),
    ).SerializeToString(deterministic=True)


def decode_result(payload: bytes) -> SearchResult:
    """Decode the payload of a verified result envelope.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with the field's name.
    """
    message = parse(search_pb2.SearchResult, payload, Reason.RESULT_INVALID)

    def make() -> SearchResult:
        return SearchResult(
            search_id=message.search_id,
            order_sha256=message.order_sha256,
            outcomes=tuple(outcome_from_wire(outcome) for outcome in message.outcomes),
            complete=message.complete,
            missing=tuple(message.missing),
            finished_at=moment(message.finished_at),
            ranking=tuple(map(_ranked, message.ranking)),
            lanes=tuple(
                Lane(
                    agency=lane.agency,
                    matcher=lane.matcher,
                    candidates=tuple(
                        LaneCandidate(reference=c.reference, score=c.score, group=c.group)
                        for c in lane.candidates
                    ),
                )
                for lane in message.lanes
            ),
            revision=message.revision,
            replaces_sha256=message.replaces_sha256,
            sufficient=message.sufficient,
            first_finished_at=(
                moment(message.first_finished_at) if message.HasField("first_finished_at") else None
            ),
        )

    return checked(Reason.RESULT_INVALID, make)


def _ranked(message: search_pb2.RankedCandidate) -> RankedCandidate:
    expected = expected_from_wire(message)
    if expected is None:
        raise ValueError("ranking.expected_false")
    return RankedCandidate(
        agency=message.agency,
        reference=message.reference,
        log10_lr=message.log10_lr,
        expected_false=expected,
        group=message.group,
    )


# --- link tokens -------------------------------------------------------------------------------


def encode_links(links: CandidateLinks) -> bytes:
    """Encode what an agency signs of candidates' link tokens, and what a broker keeps of it."""
    return match_service_pb2.CandidateLinks(
        search_id=links.search_id,
        agency=links.agency,
        report_sha256=links.report_sha256,
        link_key_id=links.link_key_id,
        candidates=[
            match_service_pb2.CandidateLink(reference=one.reference, tokens=one.tokens)
            for one in links.candidates
        ],
    ).SerializeToString(deterministic=True)


def decode_links(payload: bytes) -> CandidateLinks:
    """Decode the payload of a verified envelope of link tokens.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` with the field's name.
    """
    message = parse(match_service_pb2.CandidateLinks, payload, Reason.OUTCOME_INVALID)
    return checked(
        Reason.OUTCOME_INVALID,
        lambda: CandidateLinks(
            search_id=message.search_id,
            agency=message.agency,
            report_sha256=message.report_sha256,
            link_key_id=message.link_key_id,
            candidates=tuple(
                CandidateLink(reference=one.reference, tokens=tuple(one.tokens))
                for one in message.candidates
            ),
        ),
    )


# --- statements and confirmations -------------------------------------------------------------


def encode_statement(statement: AnswerStatement) -> bytes:
    """Encode a statement into the payload bytes that the agency signs."""
    return search_pb2.AnswerStatement(
        search_id=statement.search_id,
        agency=statement.agency,
        order_sha256=statement.order_sha256,
        answered_at=timestamp(statement.answered_at),
        matter_sha256=statement.matter_sha256,
    ).SerializeToString(deterministic=True)


def decode_statement(payload: bytes) -> AnswerStatement:
    """Decode the payload of a verified statement envelope.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` with the field's name.
    """
    message = parse(search_pb2.AnswerStatement, payload, Reason.OUTCOME_INVALID)
    return checked(
        Reason.OUTCOME_INVALID,
        lambda: AnswerStatement(
            search_id=message.search_id,
            agency=message.agency,
            order_sha256=message.order_sha256,
            answered_at=moment(message.answered_at),
            matter_sha256=message.matter_sha256,
        ),
    )


def encode_confirmation(confirmation: UrgentConfirmation) -> bytes:
    """Encode a confirmation into the payload bytes that the force signs."""
    return search_pb2.UrgentConfirmation(
        search_id=confirmation.search_id,
        order_sha256=confirmation.order_sha256,
        force=confirmation.force,
        confirmer=person_to_wire(confirmation.confirmer),
        confirmed_at=timestamp(confirmation.confirmed_at),
        reasons=confirmation.reasons,
    ).SerializeToString(deterministic=True)


def decode_confirmation(payload: bytes) -> UrgentConfirmation:
    """Decode the payload of a verified confirmation envelope.

    Raises:
        ProbegateError: ``CONFIRMATION_INVALID`` with the field's name.
    """
    message = parse(search_pb2.UrgentConfirmation, payload, Reason.CONFIRMATION_INVALID)
    return checked(
        Reason.CONFIRMATION_INVALID,
        lambda: UrgentConfirmation(
            search_id=message.search_id,
            order_sha256=message.order_sha256,
            force=message.force,
            confirmer=person_from_wire(message.confirmer),
            confirmed_at=moment(message.confirmed_at),
            reasons=message.reasons,
        ),
    )
