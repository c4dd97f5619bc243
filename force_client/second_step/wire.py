"""Between the second step's models and the wire: the only module here that touches the stubs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import grpc
from probegate.broker.v1 import (
    disclosure_service_pb2,
    disclosure_service_pb2_grpc,
    review_service_pb2,
    review_service_pb2_grpc,
)

from force_client.second_step.models import (
    CandidateStanding,
    DisclosureState,
    Receipt,
    ReceivedDisclosure,
    ReceivedImage,
    ReceivedRecall,
    ReviewStatus,
    SealedFacts,
)
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_CANDIDATES
from trust.wire import checked, envelope_from_wire, envelope_to_wire, moment
from trust.wire.second_step import opinion_from_wire

_Made = TypeVar("_Made")
Request = Any
"""A request message, opaque outside this module."""

_STATES: Final[Mapping[int, DisclosureState]] = {
    disclosure_service_pb2.DisclosureState.Value(f"DISCLOSURE_STATE_{state.name}"): state
    for state in DisclosureState
}


class SecondStepStubs:
    """The broker's methods of the second step on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        review = review_service_pb2_grpc.ReviewServiceStub(channel)
        disclosure = disclosure_service_pb2_grpc.DisclosureServiceStub(channel)
        self._images: Any = review.GetImages
        self.review: Any = review.SubmitReview
        self.review_status: Any = review.GetReviewStatus
        self.revoke: Any = review.RevokeReviewer
        self.corroborate: Any = review.RecordCorroboration
        self.request: Any = disclosure.RequestDisclosure
        self.disclosure: Any = disclosure.GetDisclosure
        self.disclosures: Any = disclosure.ListDisclosures
        self.wrong_match: Any = disclosure.ReportWrongMatch
        self.recalls: Any = disclosure.ListRecalls
        self.acknowledge: Any = disclosure.AcknowledgeRecall

    async def images(self, request: Request, **options: Any) -> tuple[Any, ...]:
        """Return all images of one request; a stream that was cut off is asked for again whole."""
        call = self._images(request, **options)
        gathered: list[Any] = []
        try:
            async for response in call:
                gathered.append(response)
                if len(gathered) > MAX_CANDIDATES:
                    raise ProbegateError(Reason.RESULT_INVALID, "too many", check="images")
        finally:
            call.cancel()
        return tuple(gathered)


# --- requests --------------------------------------------------------------------------------


def images_request(request: Envelope, reviewer_token: str) -> Request:
    """Make the request for candidates' images."""
    return review_service_pb2.GetImagesRequest(
        request=envelope_to_wire(request), reviewer_token=reviewer_token
    )


def review_request(reviews: tuple[Envelope, ...], reviewer_token: str) -> Request:
    """Make the request that records one reviewer's findings."""
    return review_service_pb2.SubmitReviewRequest(
        reviews=[envelope_to_wire(one) for one in reviews], reviewer_token=reviewer_token
    )


def status_request(search_id: str) -> Request:
    """Make the request that asks how reviews stand."""
    return review_service_pb2.GetReviewStatusRequest(search_id=search_id)


def revoke_request(revocation: Envelope, person_token: str) -> Request:
    """Make the request that withdraws a reviewer's reviews."""
    return review_service_pb2.RevokeReviewerRequest(
        revocation=envelope_to_wire(revocation), person_token=person_token
    )


def corroboration_request(corroboration: Envelope, person_token: str) -> Request:
    """Make the request that records independent evidence."""
    return review_service_pb2.RecordCorroborationRequest(
        corroboration=envelope_to_wire(corroboration), person_token=person_token
    )


def disclosure_request(request: Envelope, facts: SealedFacts, requester_token: str) -> Request:
    """Make the request for the details behind a reference."""
    return disclosure_service_pb2.RequestDisclosureRequest(
        request=envelope_to_wire(request),
        sealed_key_id=facts.key_id,
        sealed_facts=facts.ciphertext,
        requester_token=requester_token,
    )


def get_disclosure_request(request_id: str) -> Request:
    """Make the request that reads how one stands."""
    return disclosure_service_pb2.GetDisclosureRequest(request_id=request_id)


def list_disclosures_request(search_id: str, page_size: int, page_token: str) -> Request:
    """Make the request for a page of them."""
    return disclosure_service_pb2.ListDisclosuresRequest(
        search_id=search_id, page_size=page_size, page_token=page_token
    )


def wrong_match_request(wrong_match: Envelope, reporter_token: str) -> Request:
    """Make the request that reports a wrong match."""
    return disclosure_service_pb2.ReportWrongMatchRequest(
        wrong_match=envelope_to_wire(wrong_match), reporter_token=reporter_token
    )


def recalls_request(after: int) -> Request:
    """Make the request for recalls."""
    return disclosure_service_pb2.ListRecallsRequest(after=after)


def acknowledge_request(acknowledgement: Envelope, person_token: str) -> Request:
    """Make the request that acknowledges a recall."""
    return disclosure_service_pb2.AcknowledgeRecallRequest(
        acknowledgement=envelope_to_wire(acknowledgement), person_token=person_token
    )


# --- answers ---------------------------------------------------------------------------------
# Each raises ``RESULT_INVALID`` for what cannot be understood; nothing is verified yet.


def read_images(responses: tuple[Any, ...]) -> tuple[ReceivedImage, ...]:
    """Read candidates' images."""
    return tuple(
        ReceivedImage(one.reference, one.sealed_key_id, one.sealed_image) for one in responses
    )


def read_status(response: Any) -> ReviewStatus:
    """Read how reviews stand."""
    return _read(lambda: _status(response.status))


def read_receipt(response: Any, name: str = "receipt") -> Receipt | None:
    """Read the receipt of a response, if it has one."""
    if not response.HasField(name):
        return None
    held = getattr(response, name)
    return Receipt(held.proof, held.leaf)


def read_disclosure(response: Any) -> ReceivedDisclosure:
    """Read how one request stands."""
    return _read(lambda: _disclosure(response.disclosure))


def read_disclosures(response: Any) -> tuple[tuple[ReceivedDisclosure, ...], str]:
    """Read a page of requests and where the next begins."""
    return _read(lambda: (tuple(map(_disclosure, response.disclosures)), response.next_page_token))


def read_recalls(response: Any) -> tuple[ReceivedRecall, ...]:
    """Read some recalls."""
    return _read(
        lambda: tuple(
            ReceivedRecall(
                number=one.number,
                recall=envelope_from_wire(one.recall),
                acknowledged_at=(
                    moment(one.acknowledged_at) if one.HasField("acknowledged_at") else None
                ),
                receipt=read_receipt(one),
            )
            for one in response.recalls
        )
    )


def _read(make: Callable[[], _Made]) -> _Made:
    return checked(Reason.RESULT_INVALID, make)


def _status(message: Any) -> ReviewStatus:
    return ReviewStatus(
        search_id=message.search_id,
        reviews=message.reviews,
        needed=message.needed,
        open=message.open,
        disagreement=message.disagreement,
        candidates=tuple(
            CandidateStanding(
                agency=one.agency,
                reference=one.reference,
                opinion=opinion_from_wire(one.opinion),
                review_sha256s=tuple(one.review_sha256s),
            )
            for one in message.candidates
        ),
    )


def _disclosure(message: Any) -> ReceivedDisclosure:
    if message.state not in _STATES:
        raise ValueError("state")
    return ReceivedDisclosure(
        request_id=message.request_id,
        search_id=message.search_id,
        agency=message.agency,
        reference=message.reference,
        state=_STATES[message.state],
        reason=message.reason,
        created_at=moment(message.created_at),
        decide_by=moment(message.decide_by) if message.HasField("decide_by") else None,
        decision=envelope_from_wire(message.decision) if message.HasField("decision") else None,
        sealed=message.sealed_disclosure,
        receipt=read_receipt(message),
        decision_receipt=read_receipt(message, "decision_receipt"),
    )
