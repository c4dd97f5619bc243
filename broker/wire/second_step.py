"""Between the models of what follows a search and the wire (``broker.wire`` has the rules)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from probegate.agency.v1 import match_service_pb2, release_service_pb2
from probegate.broker.v1 import disclosure_service_pb2, review_service_pb2

from audit.evidence import LoggedEntry
from broker.second_step.models import (
    Disclosure,
    DisclosureParams,
    DisclosureView,
    NumberedRecall,
    RecallView,
    Receipt,
    Released,
    ReviewsParams,
    SealedImage,
    SignedByForce,
    StatusView,
)
from broker.second_step.receipts import Proved
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_AGENCIES
from trust.wire import envelope_from_wire, envelope_to_wire, moment, opinion_to_wire, timestamp

_SERVICE: Final = "/probegate.agency.v1.ReleaseService/"
GET_IMAGES_METHOD: Final = f"{_SERVICE}GetImages"
REQUEST_RELEASE_METHOD: Final = f"{_SERVICE}RequestRelease"
GET_RELEASE_METHOD: Final = f"{_SERVICE}GetRelease"
NOTIFY_METHOD: Final = f"{_SERVICE}Notify"
LIST_RECALLS_METHOD: Final = f"{_SERVICE}ListRecalls"
MAX_RECALLS: Final = 100
"""Most recalls in one answer, an agency's or ours."""

GetImagesRequest = review_service_pb2.GetImagesRequest
GetImagesResponse = review_service_pb2.GetImagesResponse
SubmitReviewRequest = review_service_pb2.SubmitReviewRequest
SubmitReviewResponse = review_service_pb2.SubmitReviewResponse
GetReviewStatusRequest = review_service_pb2.GetReviewStatusRequest
GetReviewStatusResponse = review_service_pb2.GetReviewStatusResponse
RevokeReviewerRequest = review_service_pb2.RevokeReviewerRequest
RevokeReviewerResponse = review_service_pb2.RevokeReviewerResponse
RecordCorroborationRequest = review_service_pb2.RecordCorroborationRequest
RecordCorroborationResponse = review_service_pb2.RecordCorroborationResponse
RequestDisclosureRequest = disclosure_service_pb2.RequestDisclosureRequest
RequestDisclosureResponse = disclosure_service_pb2.RequestDisclosureResponse
GetDisclosureRequest = disclosure_service_pb2.GetDisclosureRequest
GetDisclosureResponse = disclosure_service_pb2.GetDisclosureResponse
ListDisclosuresRequest = disclosure_service_pb2.ListDisclosuresRequest
ListDisclosuresResponse = disclosure_service_pb2.ListDisclosuresResponse
ReportWrongMatchRequest = disclosure_service_pb2.ReportWrongMatchRequest
ReportWrongMatchResponse = disclosure_service_pb2.ReportWrongMatchResponse
ListRecallsRequest = disclosure_service_pb2.ListRecallsRequest
ListRecallsResponse = disclosure_service_pb2.ListRecallsResponse
AcknowledgeRecallRequest = disclosure_service_pb2.AcknowledgeRecallRequest
AcknowledgeRecallResponse = disclosure_service_pb2.AcknowledgeRecallResponse

Proofs = Sequence[tuple[int, int, tuple[bytes, ...]]]
_Message = TypeVar("_Message", bound=Message)


# --- what a force sends and reads ------------------------------------------------------------


def image_params(request: review_service_pb2.GetImagesRequest) -> SignedByForce:
    """Read a request for images; nothing is checked yet."""
    return SignedByForce(envelope_from_wire(request.request), request.reviewer_token)


def reviews_params(request: review_service_pb2.SubmitReviewRequest) -> ReviewsParams:
    """Read one reviewer's findings; nothing is checked yet but how many agencies they are of."""
    if not 0 < len(request.reviews) <= MAX_AGENCIES:
        raise ProbegateError(Reason.REVIEW_INVALID, field="reviews")
    return ReviewsParams(tuple(map(envelope_from_wire, request.reviews)), request.reviewer_token)


def revocation_params(request: review_service_pb2.RevokeReviewerRequest) -> SignedByForce:
    """Read a revocation; nothing is checked yet."""
    return SignedByForce(envelope_from_wire(request.revocation), request.person_token)


def corroboration_params(
    request: review_service_pb2.RecordCorroborationRequest,
) -> SignedByForce:
    """Read a corroboration; nothing is checked yet."""
    return SignedByForce(envelope_from_wire(request.corroboration), request.person_token)


def disclosure_params(
    request: disclosure_service_pb2.RequestDisclosureRequest,
) -> DisclosureParams:
    """Read a request for disclosure; nothing is checked yet."""
    return DisclosureParams(
        envelope=envelope_from_wire(request.request),
        sealed_key_id=request.sealed_key_id,
        sealed_facts=request.sealed_facts,
        token=request.requester_token,
    )


def wrong_match_params(
    request: disclosure_service_pb2.ReportWrongMatchRequest,
) -> SignedByForce:
    """Read a report of a wrong match; nothing is checked yet."""
    return SignedByForce(envelope_from_wire(request.wrong_match), request.reporter_token)


def acknowledgement_params(
    request: disclosure_service_pb2.AcknowledgeRecallRequest,
) -> SignedByForce:
    """Read the acknowledgement of a recall; nothing is checked yet."""
    return SignedByForce(envelope_from_wire(request.acknowledgement), request.person_token)


def receipt_message(receipt: Receipt) -> review_service_pb2.Receipt:
    """Write a receipt."""
    return review_service_pb2.Receipt(proof=receipt.proof, leaf=receipt.leaf)


def image_message(image: SealedImage) -> review_service_pb2.GetImagesResponse:
    """Write one candidate's image."""
    return review_service_pb2.GetImagesResponse(
        reference=image.reference,
        sealed_key_id=image.sealed_key_id,
        sealed_image=image.sealed,
    )


def status_message(view: StatusView) -> review_service_pb2.ReviewStatus:
    """Write how the reviews of a search stand."""
    standing = view.standing
    return review_service_pb2.ReviewStatus(
        search_id=view.search_id,
        reviews=standing.reviews,
        needed=standing.needed,
        open=standing.open,
        disagreement=standing.disagreement,
        candidates=[
            review_service_pb2.CandidateStanding(
                agency=one.agency,
                reference=one.reference,
                opinion=opinion_to_wire(one.opinion),
                review_sha256s=one.review_sha256s,
            )
            for one in standing.candidates
        ],
    )


def review_response(view: StatusView, receipt: Receipt) -> review_service_pb2.SubmitReviewResponse:
    """Write the record of somebody's findings."""
    return review_service_pb2.SubmitReviewResponse(
        status=status_message(view), receipt=receipt_message(receipt)
    )


def status_response(view: StatusView) -> review_service_pb2.GetReviewStatusResponse:
    """Write how the reviews of a search stand, with the entry that says so."""
    return review_service_pb2.GetReviewStatusResponse(
        status=status_message(view),
        receipt=receipt_message(view.receipt) if view.receipt else None,
    )


def disclosure_message(view: DisclosureView) -> disclosure_service_pb2.DisclosureRecord:
    """Write a request for disclosure as a force reads it."""
    record = view.record
    return disclosure_service_pb2.DisclosureRecord(
        request_id=record.request_id,
        search_id=record.search_id,
        agency=record.agency,
        reference=record.reference,
        state=_state(record),
        reason=record.reason or view.withheld,
        created_at=timestamp(record.created_at),
        decide_by=timestamp(record.decide_by) if record.decide_by else None,
        decision=envelope_to_wire(record.decision) if record.decision else None,
        sealed_disclosure=view.sealed,
        receipt=receipt_message(view.receipt) if view.receipt else None,
        decision_receipt=(
            receipt_message(view.decision_receipt) if view.decision_receipt else None
        ),
    )


def _state(record: Disclosure) -> disclosure_service_pb2.DisclosureState.ValueType:
    return disclosure_service_pb2.DisclosureState.Value(f"DISCLOSURE_STATE_{record.state.name}")


def recall_message(view: RecallView) -> disclosure_service_pb2.RecallRecord:
    """Write a recall as a force reads it."""
    record = view.record
    at = record.acknowledged_at
    return disclosure_service_pb2.RecallRecord(
        number=record.number,
        recall=envelope_to_wire(record.envelope),
        acknowledged_at=timestamp(at) if at else None,
        receipt=receipt_message(view.receipt),
    )


# --- what goes to an agency and comes back ---------------------------------------------------


def encode_images(order: Envelope, request: Envelope, proved: Proved, proofs: Proofs) -> bytes:
    """Encode a request for images."""
    return release_service_pb2.GetImagesRequest(
        order=envelope_to_wire(order),
        request=envelope_to_wire(request),
        recorded=_recorded(proved, proofs),
    ).SerializeToString()


def decode_image(data: bytes) -> SealedImage:
    """Decode one image; nothing in it is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    message = _parsed(release_service_pb2.GetImagesResponse, data)
    return SealedImage(message.reference, message.sealed_key_id, message.sealed_image)


def encode_release(
    order: Envelope,
    record: Disclosure,
    reviews: Sequence[tuple[Envelope, str]],
    revocations: Sequence[Envelope],
    proved: Proved,
    proofs: Proofs,
) -> bytes:
    """Encode a request for the release of details.

    Args:
        order: the search's.
        record: the request.
        reviews: those it names, in its sequence, each with its reviewer's token.
        revocations: those that the broker knows of.
        proved: the request's entry, and the entry of each review.
        proofs: that its checkpoint continues those that the agency has.
    """
    envelope = record.envelope
    return release_service_pb2.RequestReleaseRequest(
        order=envelope_to_wire(order),
        request=envelope_to_wire(envelope) if envelope else None,
        sealed_key_id=record.sealed_key_id,
        sealed_facts=record.sealed_facts,
        requester_token=record.token,
        reviews=[
            release_service_pb2.SignedReview(
                review=envelope_to_wire(review), reviewer_token=token, entry=_entry(entry)
            )
            for (review, token), entry in zip(reviews, proved.others, strict=True)
        ],
        revocations=[envelope_to_wire(one) for one in revocations],
        recorded=_recorded(proved, proofs),
    ).SerializeToString()


def decode_taken(data: bytes) -> Released:
    """Decode the acknowledgement of a request; nothing in it is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    message = _parsed(release_service_pb2.RequestReleaseResponse, data)
    return _released(None, b"", message)


def encode_get_release(request_sha256: bytes) -> bytes:
    """Encode which request is asked about."""
    return release_service_pb2.GetReleaseRequest(request_sha256=request_sha256).SerializeToString()


def decode_release(data: bytes) -> Released:
    """Decode what became of a request; nothing in it is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    message = _parsed(release_service_pb2.GetReleaseResponse, data)
    decision = envelope_from_wire(message.decision) if message.HasField("decision") else None
    return _released(decision, message.sealed_disclosure, message)


def _released(
    decision: Envelope | None,
    sealed: bytes,
    message: (release_service_pb2.RequestReleaseResponse | release_service_pb2.GetReleaseResponse),
) -> Released:
    try:
        decide_by = moment(message.decide_by) if message.HasField("decide_by") else None
    except ValueError as error:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="decide_by") from error
    return Released(decision, sealed, decide_by)


def encode_notice(notice: Envelope, proved: Proved, proofs: Proofs) -> bytes:
    """Encode something that an agency is to be told."""
    return release_service_pb2.NotifyRequest(
        notice=envelope_to_wire(notice), recorded=_recorded(proved, proofs)
    ).SerializeToString()


def decode_notified(data: bytes) -> None:
    """Check that an agency acknowledged a notice.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    _parsed(release_service_pb2.NotifyResponse, data)


def encode_list_recalls(after: int) -> bytes:
    """Encode from which number on recalls are asked for."""
    return release_service_pb2.ListRecallsRequest(after=after).SerializeToString()


def decode_recalls(data: bytes) -> tuple[NumberedRecall, ...]:
    """Decode recalls, the first so many; nothing in them is checked yet.

    Raises:
        ProbegateError: ``OUTCOME_INVALID`` if the bytes do not parse.
    """
    message = _parsed(release_service_pb2.ListRecallsResponse, data)
    return tuple(
        NumberedRecall(one.number, envelope_from_wire(one.recall)) for one in message.recalls
    )[:MAX_RECALLS]


def _parsed(kind: type[_Message], data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="response") from error


def _recorded(proved: Proved, proofs: Proofs) -> release_service_pb2.RecordedEntry:
    return release_service_pb2.RecordedEntry(
        entry=_entry(proved.entry),
        checkpoint=proved.checkpoint,
        consistency=[
            match_service_pb2.ConsistencyProof(old_size=old, new_size=new, hashes=hashes)
            for old, new, hashes in proofs
        ],
    )


def _entry(entry: LoggedEntry) -> match_service_pb2.LoggedEntry:
    return match_service_pb2.LoggedEntry(
        leaf=entry.leaf, leaf_index=entry.index, inclusion=entry.inclusion
    )
