"""The gRPC services of what follows a search: read the wire, run a command, write the wire.

Forces alone call them, each for its own searches.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker import wire as broker_wire
from broker.second_step.assembly import SecondStep
from broker.wire import second_step as wire
from trust.directory import Role
from trust.rpc import Call, Servicer, Surroundings, stream, unary


class ReviewServicer(Servicer, broker_wire.ReviewServicerBase):
    """Reviews and what belongs to them, for forces."""

    def __init__(self, surroundings: Surroundings, step: SecondStep) -> None:
        super().__init__(surroundings)
        self._step = step

    @stream(Role.FORCE)
    async def GetImages(  # noqa: N802 - gRPC's name
        self, request: wire.GetImagesRequest, call: Call
    ) -> AsyncIterator[wire.GetImagesResponse]:
        """Stream candidates' sealed images."""
        directory = self.surroundings.directory()
        async for image in self._step.images.execute(
            wire.image_params(request), call.peer, directory, call.remaining_s
        ):
            yield wire.image_message(image)

    @unary(Role.FORCE)
    async def SubmitReview(  # noqa: N802
        self, request: wire.SubmitReviewRequest, call: Call
    ) -> wire.SubmitReviewResponse:
        """Record one reviewer's findings."""
        view, receipt = await self._step.submit.execute(
            wire.reviews_params(request), call.peer, self.surroundings.directory()
        )
        return wire.review_response(view, receipt)

    @unary(Role.FORCE)
    async def GetReviewStatus(  # noqa: N802
        self, request: wire.GetReviewStatusRequest, call: Call
    ) -> wire.GetReviewStatusResponse:
        """Say how the reviews of a search stand."""
        view = await self._step.status.execute(call.peer.member.id, request.search_id)
        return wire.status_response(view)

    @unary(Role.FORCE)
    async def RevokeReviewer(  # noqa: N802
        self, request: wire.RevokeReviewerRequest, call: Call
    ) -> wire.RevokeReviewerResponse:
        """Take a reviewer's reviews out of the count."""
        count, receipt = await self._step.revoke.execute(
            wire.revocation_params(request), call.peer, self.surroundings.directory()
        )
        return wire.RevokeReviewerResponse(reviews=count, receipt=wire.receipt_message(receipt))

    @unary(Role.FORCE)
    async def RecordCorroboration(  # noqa: N802
        self, request: wire.RecordCorroborationRequest, call: Call
    ) -> wire.RecordCorroborationResponse:
        """Record evidence that does not come from comparing faces."""
        receipt = await self._step.statements.corroborate(
            wire.corroboration_params(request), call.peer, self.surroundings.directory()
        )
        return wire.RecordCorroborationResponse(receipt=wire.receipt_message(receipt))


class DisclosureServicer(Servicer, broker_wire.DisclosureServicerBase):
    """Requests for disclosure, wrong matches and recalls, for forces."""

    def __init__(self, surroundings: Surroundings, step: SecondStep) -> None:
        super().__init__(surroundings)
        self._step = step

    @unary(Role.FORCE)
    async def RequestDisclosure(  # noqa: N802
        self, request: wire.RequestDisclosureRequest, call: Call
    ) -> wire.RequestDisclosureResponse:
        """Record a request, for its owner to decide."""
        view = await self._step.disclose.execute(
            wire.disclosure_params(request), call.peer, self.surroundings.directory()
        )
        return wire.RequestDisclosureResponse(disclosure=wire.disclosure_message(view))

    @unary(Role.FORCE)
    async def GetDisclosure(  # noqa: N802
        self, request: wire.GetDisclosureRequest, call: Call
    ) -> wire.GetDisclosureResponse:
        """Read one request."""
        view = await self._step.disclosures.get(call.peer.member.id, request.request_id)
        return wire.GetDisclosureResponse(disclosure=wire.disclosure_message(view))

    @unary(Role.FORCE)
    async def ListDisclosures(  # noqa: N802
        self, request: wire.ListDisclosuresRequest, call: Call
    ) -> wire.ListDisclosuresResponse:
        """List the caller's requests."""
        views, token = await self._step.disclosures.page(
            call.peer.member.id, request.search_id, request.page_size, request.page_token
        )
        return wire.ListDisclosuresResponse(
            disclosures=map(wire.disclosure_message, views), next_page_token=token
        )

    @unary(Role.FORCE)
    async def ReportWrongMatch(  # noqa: N802
        self, request: wire.ReportWrongMatchRequest, call: Call
    ) -> wire.ReportWrongMatchResponse:
        """Record that a candidate is not the person sought."""
        receipt = await self._step.statements.report_wrong_match(
            wire.wrong_match_params(request), call.peer, self.surroundings.directory()
        )
        return wire.ReportWrongMatchResponse(receipt=wire.receipt_message(receipt))

    @unary(Role.FORCE)
    async def ListRecalls(  # noqa: N802
        self, request: wire.ListRecallsRequest, call: Call
    ) -> wire.ListRecallsResponse:
        """List what agencies recalled of the caller's searches."""
        views = await self._step.recalls.execute(call.peer.member.id, request.after)
        return wire.ListRecallsResponse(recalls=map(wire.recall_message, views))

    @unary(Role.FORCE)
    async def AcknowledgeRecall(  # noqa: N802
        self, request: wire.AcknowledgeRecallRequest, call: Call
    ) -> wire.AcknowledgeRecallResponse:
        """Record that a recalled candidate is no longer used."""
        receipt = await self._step.acknowledge.execute(
            wire.acknowledgement_params(request), call.peer, self.surroundings.directory()
        )
        return wire.AcknowledgeRecallResponse(receipt=wire.receipt_message(receipt))
