"""The adapter's gRPC services: each method reads the wire, runs a command, writes the wire."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agency_adapters import wire
from agency_adapters.collect import CollectCommand
from agency_adapters.command import MatchCommand
from trust.directory import Role
from trust.rpc import Call, Servicer, Surroundings, unary


class MatchServicer(Servicer, wire.MatchServicerBase):
    """Matching, for the broker alone."""

    def __init__(
        self, surroundings: Surroundings, *, command: MatchCommand, collect: CollectCommand
    ) -> None:
        super().__init__(surroundings)
        self._command = command
        self._collect = collect

    @unary(Role.BROKER)
    async def Describe(  # noqa: N802 - gRPC's name
        self, request: wire.DescribeRequest, call: Call
    ) -> wire.DescribeResponse:
        """State what can be matched here."""
        del request
        return wire.describe_response(*self._command.describe(call.peer.member))

    @unary(Role.BROKER)
    async def Match(  # noqa: N802
        self, request: wire.MatchRequest, call: Call
    ) -> wire.MatchResponse:
        """Match one sealed probe under one grant."""
        params = wire.match_params(request)
        deadline = asyncio.get_running_loop().time() + call.remaining_s
        answer = await self._command.execute(replace(params, deadline=deadline), call.peer.member)
        return wire.match_response(answer)

    @unary(Role.BROKER)
    async def Collect(  # noqa: N802
        self, request: wire.CollectRequest, call: Call
    ) -> wire.CollectResponse:
        """Say what became of an answer that was held."""
        collected = await self._collect.execute(wire.collect_params(request), call.peer.member)
        return wire.collect_response(collected)
