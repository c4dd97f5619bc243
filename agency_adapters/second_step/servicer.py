"""The service of the second step: each method reads the wire, runs a command, writes the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agency_adapters.second_step.assembly import SecondStep
from agency_adapters.wire import ReleaseServicerBase
from agency_adapters.wire import second_step as wire
from trust.directory import Role
from trust.rpc import Call, Servicer, Surroundings, stream, unary


class ReleaseServicer(Servicer, ReleaseServicerBase):
    """Images, releases, notices and recalls, for the broker alone."""

    def __init__(self, surroundings: Surroundings, second_step: SecondStep) -> None:
        super().__init__(surroundings)
        self._step = second_step

    @stream(Role.BROKER)
    async def GetImages(  # noqa: N802 - gRPC's name
        self, request: wire.GetImagesRequest, call: Call
    ) -> AsyncIterator[wire.GetImagesResponse]:
        """Send candidates' images, one by one."""
        params = wire.images_params(request)
        async for image in self._step.images.execute(params, call.peer.member):
            yield wire.images_response(image)

    @unary(Role.BROKER)
    async def RequestRelease(  # noqa: N802
        self, request: wire.RequestReleaseRequest, call: Call
    ) -> wire.RequestReleaseResponse:
        """Take in a request for disclosure."""
        params = wire.release_params(request)
        return wire.release_response(await self._step.asking.ask(params, call.peer.member))

    @unary(Role.BROKER)
    async def GetRelease(  # noqa: N802
        self, request: wire.GetReleaseRequest, call: Call
    ) -> wire.GetReleaseResponse:
        """Say what became of a request."""
        digest = wire.get_release_digest(request)
        standing = await self._step.asking.standing(digest, call.peer.member)
        return wire.get_release_response(standing)

    @unary(Role.BROKER)
    async def Notify(  # noqa: N802
        self, request: wire.NotifyRequest, call: Call
    ) -> wire.NotifyResponse:
        """Take in what a force signed for the owner."""
        await self._step.notices.notify(wire.notice_params(request), call.peer.member)
        return wire.NotifyResponse()

    @unary(Role.BROKER)
    async def ListRecalls(  # noqa: N802
        self, request: wire.ListRecallsRequest, call: Call
    ) -> wire.ListRecallsResponse:
        """List the recalls of the broker's searches."""
        after = wire.recalls_after(request)
        recalls = await self._step.notices.recalls_after(after, call.peer.member)
        return wire.recalls_response(recalls)
