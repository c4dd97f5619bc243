"""The second step on the wire: requests for images and details, notices, recalls.

A request that shows more than it may, or holds a field this version does not know, is
``MESSAGE_INVALID`` before anything of it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from probegate.agency.v1 import match_service_pb2, release_service_pb2

from agency_adapters.second_step.models import (
    ImagesParams,
    NoticeParams,
    NumberedRecall,
    Recorded,
    ReleaseParams,
    ReleaseStanding,
    SentImage,
    ShownReview,
)
from agency_adapters.wire import require_known
from audit.evidence import LoggedEntry
from audit.witness import ConsistencyProof
from trust.errors import ProbegateError, Reason
from trust.second_step import MAX_REVIEWS
from trust.wire import envelope_from_wire, envelope_to_wire, timestamp

MAX_REVOCATIONS: Final = 64
"""Most revocations of reviewers that one request may show."""

GetImagesRequest = release_service_pb2.GetImagesRequest
GetImagesResponse = release_service_pb2.GetImagesResponse
RequestReleaseRequest = release_service_pb2.RequestReleaseRequest
RequestReleaseResponse = release_service_pb2.RequestReleaseResponse
GetReleaseRequest = release_service_pb2.GetReleaseRequest
GetReleaseResponse = release_service_pb2.GetReleaseResponse
NotifyRequest = release_service_pb2.NotifyRequest
NotifyResponse = release_service_pb2.NotifyResponse
ListRecallsRequest = release_service_pb2.ListRecallsRequest
ListRecallsResponse = release_service_pb2.ListRecallsResponse


def images_params(request: release_service_pb2.GetImagesRequest) -> ImagesParams:
    """Read a request for images.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for unknown fields.
    """
    require_known(request)
    return ImagesParams(
        order=envelope_from_wire(request.order),
        request=envelope_from_wire(request.request),
        recorded=_recorded(request.recorded),
    )


def images_response(image: SentImage) -> release_service_pb2.GetImagesResponse:
    """Write one image."""
    return release_service_pb2.GetImagesResponse(
        reference=image.reference,
        sealed_key_id=image.sealed_key_id,
        sealed_image=image.sealed_image,
    )


def release_params(request: release_service_pb2.RequestReleaseRequest) -> ReleaseParams:
    """Read a request for disclosure.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for too many reviews or revocations, or unknown fields.
    """
    require_known(request)
    for field, count, most in (
        ("reviews", len(request.reviews), MAX_REVIEWS),
        ("revocations", len(request.revocations), MAX_REVOCATIONS),
    ):
        if count > most:
            raise ProbegateError(Reason.MESSAGE_INVALID, f"{count}, at most {most}", field=field)
    return ReleaseParams(
        order=envelope_from_wire(request.order),
        request=envelope_from_wire(request.request),
        sealed_key_id=request.sealed_key_id,
        sealed_facts=request.sealed_facts,
        requester_token=request.requester_token,
        reviews=tuple(
            ShownReview(
                envelope_from_wire(one.review), one.reviewer_token, _logged_entry(one.entry)
            )
            for one in request.reviews
        ),
        revocations=tuple(map(envelope_from_wire, request.revocations)),
        recorded=_recorded(request.recorded),
    )


def release_response(decide_by: datetime) -> release_service_pb2.RequestReleaseResponse:
    """Write by when a request is to be decided."""
    return release_service_pb2.RequestReleaseResponse(decide_by=timestamp(decide_by))


def get_release_digest(request: release_service_pb2.GetReleaseRequest) -> bytes:
    """Read which request is asked after.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for unknown fields.
    """
    require_known(request)
    return request.request_sha256


def get_release_response(standing: ReleaseStanding) -> release_service_pb2.GetReleaseResponse:
    """Write how a request stands."""
    decision = standing.decision
    return release_service_pb2.GetReleaseResponse(
        decision=envelope_to_wire(decision) if decision is not None else None,
        sealed_disclosure=standing.sealed,
        decide_by=timestamp(standing.decide_by),
    )


def notice_params(request: release_service_pb2.NotifyRequest) -> NoticeParams:
    """Read a notice.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for unknown fields.
    """
    require_known(request)
    return NoticeParams(envelope_from_wire(request.notice), _recorded(request.recorded))


def recalls_after(request: release_service_pb2.ListRecallsRequest) -> int:
    """Read the number after which recalls are asked for.

    Raises:
        ProbegateError: ``MESSAGE_INVALID`` for unknown fields.
    """
    require_known(request)
    return request.after


def recalls_response(recalls: Sequence[NumberedRecall]) -> release_service_pb2.ListRecallsResponse:
    """Write some recalls."""
    return release_service_pb2.ListRecallsResponse(
        recalls=[
            release_service_pb2.NumberedRecall(
                number=one.number, recall=envelope_to_wire(one.recall)
            )
            for one in recalls
        ]
    )


def _recorded(recorded: release_service_pb2.RecordedEntry) -> Recorded:
    return Recorded(
        entry=_logged_entry(recorded.entry),
        checkpoint=recorded.checkpoint,
        consistency=tuple(
            ConsistencyProof(one.old_size, one.new_size, tuple(one.hashes))
            for one in recorded.consistency
        ),
    )


def _logged_entry(entry: match_service_pb2.LoggedEntry) -> LoggedEntry:
    return LoggedEntry(entry.leaf, entry.leaf_index, tuple(entry.inclusion))
