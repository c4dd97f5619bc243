"""A broker's end of the wire that does what a test says: honest, lying, failing or cut off.

It serves the real contract over the real mTLS with the broker's real keys, on a loop of its own, so
that both clients and the command line can be run against it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from probegate.broker.v1 import (
    disclosure_service_pb2,
    disclosure_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)

from force_client.models import AgencyDecision, ReceivedAnswer, ReceivedSearch, SearchState
from force_client.orders import SignedOrder
from force_client.settings import ForceSettings
from tests.unit.force_scene import BROKER, FORCE, Scene, make_scene
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.mtls import server_credentials
from trust.rpc import to_status
from trust.wire import (
    decode_confirmation,
    decode_order,
    envelope_from_wire,
    envelope_to_wire,
    order_from_wire,
    outcome_to_wire,
    timestamp,
)

Answering = Callable[[Scene, SignedOrder, str], ReceivedSearch]
OFFICERS = """
ns-4411: {role: facial_search_operator, rank: constable}
ns-2087: {role: investigating_officer, rank: inspector, unit: major-crime}
"""


def honestly(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
    return scene.ended(order, search_id=search_id)


class Peer(
    search_service_pb2_grpc.SearchServiceServicer, policy_service_pb2_grpc.PolicyServiceServicer
):
    """A broker at the other end.

    Attributes:
        failures: what the next calls fail with, one each: a reason, or a bare gRPC status.
        requests: every CreateSearch request, as bytes.
        confirmations: every confirmation of an urgent search.
        answering: makes the ended search.
        searches: what was answered, by search id.
        gone: searches whose results are erased.
        cut_watch: how many watch streams end after their first event.
        cut_with: what they end with, if not well.
        confirming: what the answer says of when a search was confirmed, given when it was.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.failures: list[Reason | grpc.StatusCode] = []
        self.requests: list[bytes] = []
        self.confirmations: list[Envelope] = []
        self.answering: Answering = honestly
        self.searches: dict[str, ReceivedSearch] = {}
        self.gone: set[str] = set()
        self.cut_watch = 0
        self.cut_with: grpc.StatusCode | None = None
        self.confirming: Callable[[datetime], datetime | None] = lambda at: at
        self.peers: list[bytes] = []

    def order_of(self, search: ReceivedSearch) -> SignedOrder:
        """The order that a search was made for."""
        for sent in self.requests:
            envelope = envelope_from_wire(
                search_service_pb2.CreateSearchRequest.FromString(sent).order
            )
            order = SignedOrder(decode_order(envelope.payload), envelope)
            if order.order.request_id == search.request_id:
                return order
        raise AssertionError("nobody asked for it")

    async def _maybe_fail(self, context: Any) -> None:
        self.peers.append(context.auth_context()["x509_pem_cert"][0])
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Reason):
                await context.abort_with_status(to_status(ProbegateError(failure, field="order")))
            await context.abort(failure, "for a test")

    async def CreateSearch(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's
        self.requests.append(request.SerializeToString())
        await self._maybe_fail(context)
        envelope = envelope_from_wire(request.order)
        order = SignedOrder(decode_order(envelope.payload), envelope)
        known = [one for one in self.searches.values() if one.request_id == order.order.request_id]
        search = known[0] if known else self.answering(self.scene, order, str(uuid4()))
        self.searches[search.search_id] = search
        shown = search if request.wait_ms else _running(search)
        return search_service_pb2.CreateSearchResponse(search=_search(shown))

    async def WatchSearch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._maybe_fail(context)
        search = self.searches[request.search_id]
        for answer in search.answers:
            yield search_service_pb2.WatchSearchResponse(answer=_answer(answer))
            if self.cut_watch:
                self.cut_watch -= 1
                if self.cut_with is not None:
                    await context.abort(self.cut_with, "for a test")
                return
        yield search_service_pb2.WatchSearchResponse(finished=_search(search))

    async def GetSearch(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail(context)
        if request.search_id not in self.searches:
            await context.abort_with_status(to_status(ProbegateError(Reason.NOT_FOUND)))
        if request.search_id in self.gone:
            await context.abort_with_status(to_status(ProbegateError(Reason.RESULT_GONE)))
        found = self.searches[request.search_id]
        return search_service_pb2.GetSearchResponse(search=_search(found))

    async def ListSearches(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail(context)
        known = list(self.searches.values())
        start = int(request.page_token or 0)
        end = start + (request.page_size or 2)
        return search_service_pb2.ListSearchesResponse(
            searches=[
                search_service_pb2.SearchSummary(
                    search_id=one.search_id,
                    request_id=one.request_id,
                    state=_state(one.state),
                    created_at=timestamp(one.created_at),
                    agencies=len(one.decisions),
                )
                for one in known[start:end]
            ],
            next_page_token=str(end) if end < len(known) else "",
        )

    async def CancelSearch(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail(context)
        ended = replace(self.searches[request.search_id], state=SearchState.CANCELLED)
        self.searches[request.search_id] = ended
        return search_service_pb2.CancelSearchResponse(search=_search(ended))

    async def ConfirmUrgent(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.confirmations.append(envelope_from_wire(request.confirmation))
        await self._maybe_fail(context)
        said = decode_confirmation(request.confirmation.payload)
        at = self.confirming(said.confirmed_at)
        search = replace(self.searches[said.search_id], confirmed_at=at)
        if said.search_id in self.gone:
            search = replace(search, answers=(), result=None, receipt=b"", receipt_leaf=b"")
        return search_service_pb2.ConfirmUrgentResponse(search=_search(search))

    async def PreviewSearch(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail(context)
        made = _thought(request)
        response = search_service_pb2.PreviewSearchResponse(decisions=made)
        permitted = [one for one in response.decisions if one.permitted]
        for one in permitted:
            for said in (one.expected_false, response.expected_false):
                said.expected, said.low, said.high = 1.25, 0.5, 3.0
        if permitted:
            response.without_expectation.append("asylum")
        return response

    async def Explain(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._maybe_fail(context)
        made = _thought(request)
        prose = [f"{one.agency} would be asked." for one in made]
        return policy_service_pb2.ExplainResponse(
            decisions=made, prose=prose, policy_sha256=sha256(b"bundle").digest()
        )


def _thought(request: Any) -> list[Any]:
    """Permit every agency but those whose id begins with p, which want an inspector."""
    order = order_from_wire(request.order)
    made = []
    for agency in order.agencies:
        denied = agency.startswith("p")
        clause = search_service_pb2.ClauseVerdict(
            agreement=f"{FORCE}-{agency}",
            clause="rank.inspector",
            citation="Home Office staff guidance",
            attribute="authoriser_rank",
            operator="at_least",
            required="chief_inspector",
            actual=order.authoriser.rank,
            verdict="violated" if denied else "satisfied",
        )
        made.append(
            search_service_pb2.AgencyDecision(
                agency=agency,
                permitted=not denied,
                code="CLAUSES_FAILED" if denied else "PERMITTED",
                failed_clauses=["rank.inspector"] if denied else [],
                agreement="" if denied else f"{FORCE}-{agency}",
                clauses=[clause],
            )
        )
    return made


def _running(search: ReceivedSearch) -> ReceivedSearch:
    return replace(
        search, state=SearchState.RUNNING, answers=(), result=None, receipt=b"", receipt_leaf=b""
    )


def _state(state: SearchState) -> Any:
    return search_service_pb2.SearchState.Value(f"SEARCH_STATE_{state.name}")


def _decision(decision: AgencyDecision) -> Any:
    return search_service_pb2.AgencyDecision(
        agency=decision.agency,
        permitted=decision.permitted,
        code=decision.code,
        failed_clauses=decision.failed_clauses,
        agreement=decision.agreement,
        waived=decision.waived,
        confirm_by=timestamp(decision.confirm_by) if decision.confirm_by else None,
        confirmer_rank=decision.confirmer_rank,
    )


def _answer(answer: ReceivedAnswer) -> Any:
    return search_service_pb2.AgencyAnswer(
        outcome=outcome_to_wire(answer.outcome),
        report=envelope_to_wire(answer.report) if answer.report else None,
    )


def _search(search: ReceivedSearch) -> Any:
    return search_service_pb2.Search(
        search_id=search.search_id,
        request_id=search.request_id,
        state=_state(search.state),
        decisions=[_decision(one) for one in search.decisions],
        answers=[_answer(one) for one in search.answers],
        result=envelope_to_wire(search.result) if search.result else None,
        receipt=search.receipt,
        receipt_leaf=search.receipt_leaf,
        created_at=timestamp(search.created_at),
        warnings=search.warnings,
        confirmed_at=timestamp(search.confirmed_at) if search.confirmed_at else None,
    )


class NothingRecalled(disclosure_service_pb2_grpc.DisclosureServiceServicer):
    """What every reading of a search asks of the second step."""

    async def ListRecalls(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the contract's
        return disclosure_service_pb2.ListRecallsResponse()


class RunningPeer:
    """A peer that is listening, with a scheme made for its port and a force's settings for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Any = None
        self.port = self._run(self._bind())
        self.scene = make_scene(folder / "scheme", f"127.0.0.1:{self.port}")
        self.peer = Peer(self.scene)
        self._run(self._serve())
        (folder / "officers.yaml").write_text(OFFICERS)

    def settings(self, **changes: Any) -> ForceSettings:
        scheme = self.scene.scheme
        values: dict[str, Any] = {
            "member_folder": scheme.member_folder(FORCE).path,
            "directory": scheme.directory_path,
            "scheme_key": scheme.pinned_path,
            "state_dir": self.folder / "state",
            "officers": self.folder / "officers.yaml",
            "retry_first_s": 0.01,
            "retry_longest_s": 0.02,
        }
        return ForceSettings(**values | changes)

    def write_toml(self) -> Path:
        path = self.folder / "force.toml"
        lines = [
            'member_folder = "scheme/members/northshire"',
            'directory = "scheme/directory.json"',
            'scheme_key = "scheme/scheme.json"',
            'state_dir = "state"',
            'officers = "officers.yaml"',
        ]
        path.write_text("\n".join(lines))
        return path

    def stop(self) -> None:
        self._run(self._server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _bind(self) -> int:
        """Find a free port: the directory must name it before the certificate is made."""
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return port

    def _add_services(self, server: Any) -> None:
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(self.peer, server)
        policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(self.peer, server)
        self._add_second_step(server)

    def _add_second_step(self, server: Any) -> None:
        nothing = NothingRecalled()  # type: ignore[abstract] # the rest is not offered
        disclosure_service_pb2_grpc.add_DisclosureServiceServicer_to_server(nothing, server)

    async def _serve(self) -> None:
        self._server = grpc.aio.server()
        self._add_services(self._server)
        folder = self.scene.scheme.member_folder(BROKER)
        credentials = server_credentials(folder.tls_cert, folder.tls_key, self.scene.directory)
        self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()
