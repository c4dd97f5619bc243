"""The broker's gRPC services: each method reads the wire, runs a command, writes the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker import wire
from broker.commands.confirm import ConfirmUrgent
from broker.commands.create import CreateSearch
from broker.commands.preview import PreviewSearch
from broker.commands.read import Reading
from broker.models import AgencyAnswer
from policy.explain import lines
from trust.directory import Role
from trust.rpc import Call, Servicer, Surroundings, stream, unary
from trust.wire import order_from_wire


class SearchServicer(Servicer, wire.SearchServicerBase):
    """Searches, for forces."""

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        create: CreateSearch,
        reading: Reading,
        preview: PreviewSearch,
        confirm: ConfirmUrgent,
    ) -> None:
        super().__init__(surroundings)
        self._create = create
        self._confirm = confirm
        self._reading = reading
        self._preview = preview

    @unary(Role.FORCE)
    async def CreateSearch(  # noqa: N802 - gRPC's name
        self, request: wire.CreateSearchRequest, call: Call
    ) -> wire.CreateSearchResponse:
        """Record a search and start it."""
        view = await self._create.execute(
            wire.create_params(request),
            call.peer,
            self.surroundings.directory(),
            call.remaining_s,
        )
        return wire.CreateSearchResponse(search=wire.search_message(view))

    @stream(Role.FORCE)
    async def WatchSearch(  # noqa: N802
        self, request: wire.WatchSearchRequest, call: Call
    ) -> AsyncIterator[wire.WatchSearchResponse]:
        """Stream a search's outcomes until it ends."""
        async for event in self._reading.watch(call.peer.member.id, request.search_id):
            if isinstance(event, AgencyAnswer):
                yield wire.WatchSearchResponse(answer=wire.answer_message(event))
            else:
                yield wire.WatchSearchResponse(finished=wire.search_message(event))

    @unary(Role.FORCE)
    async def GetSearch(  # noqa: N802
        self, request: wire.GetSearchRequest, call: Call
    ) -> wire.GetSearchResponse:
        """Read one search."""
        view = await self._reading.get(call.peer.member.id, request.search_id)
        return wire.GetSearchResponse(search=wire.search_message(view))

    @unary(Role.FORCE)
    async def ListSearches(  # noqa: N802
        self, request: wire.ListSearchesRequest, call: Call
    ) -> wire.ListSearchesResponse:
        """List the caller's searches."""
        records, token = await self._reading.page(
            call.peer.member.id, request.page_size, request.page_token
        )
        return wire.ListSearchesResponse(
            searches=[wire.summary_message(record) for record in records], next_page_token=token
        )

    @unary(Role.FORCE)
    async def CancelSearch(  # noqa: N802
        self, request: wire.CancelSearchRequest, call: Call
    ) -> wire.CancelSearchResponse:
        """End a search now."""
        view = await self._reading.cancel(call.peer.member.id, request.search_id)
        return wire.CancelSearchResponse(search=wire.search_message(view))

    @unary(Role.FORCE)
    async def PreviewSearch(  # noqa: N802
        self, request: wire.PreviewSearchRequest, call: Call
    ) -> wire.PreviewSearchResponse:
        """Decide without searching."""
        preview = await self._preview.execute(
            order_from_wire(request.order), call.peer, self.surroundings.directory()
        )
        return wire.preview_message(preview)

    @unary(Role.FORCE)
    async def ConfirmUrgent(  # noqa: N802
        self, request: wire.ConfirmUrgentRequest, call: Call
    ) -> wire.ConfirmUrgentResponse:
        """Confirm an urgent search in writing."""
        view = await self._confirm.execute(
            wire.confirm_params(request), call.peer, self.surroundings.directory()
        )
        return wire.ConfirmUrgentResponse(search=wire.search_message(view))


class PolicyServicer(Servicer, wire.PolicyServicerBase):
    """Explanations of decisions, for forces."""

    def __init__(self, surroundings: Surroundings, *, preview: PreviewSearch) -> None:
        super().__init__(surroundings)
        self._preview = preview

    @unary(Role.FORCE)
    async def Explain(  # noqa: N802
        self, request: wire.ExplainRequest, call: Call
    ) -> wire.ExplainResponse:
        """Explain a decision clause by clause."""
        preview = await self._preview.execute(
            order_from_wire(request.order), call.peer, self.surroundings.directory()
        )
        ruling = preview.ruling
        return wire.ExplainResponse(
            decisions=[wire.decision_message(d) for d in ruling.decisions],
            prose=["\n".join(lines(d.full)) for d in ruling.decisions if d.full],
            policy_sha256=ruling.policy_sha256,
            warnings=ruling.warnings,
        )
