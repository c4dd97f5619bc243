"""Between the client's models and the wire: the only module here that touches the stubs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import grpc
from probegate.broker.v1 import (
    policy_service_pb2,
    policy_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from probegate.common.v1 import search_pb2

from force_client.models import (
    AgencyDecision,
    ClauseVerdict,
    Explanation,
    ReceivedAnswer,
    ReceivedSearch,
    SearchState,
    SearchSummary,
)
from force_client.orders import PreparedSearch
from force_client.second_step.wire import SecondStepStubs
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.wire import (
    checked,
    envelope_from_wire,
    envelope_to_wire,
    expected_from_wire,
    moment,
    obligations_from_wire,
    order_to_wire,
    outcome_from_wire,
)

_Made = TypeVar("_Made")

_STATES: Final[Mapping[int, SearchState]] = {
    search_service_pb2.SearchState.Value(f"SEARCH_STATE_{state.name}"): state
    for state in SearchState
}

Request = Any
"""A request message, opaque outside this module."""


class BrokerStubs:
    """The broker's methods on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        search = search_service_pb2_grpc.SearchServiceStub(channel)
        policy = policy_service_pb2_grpc.PolicyServiceStub(channel)
        self.create: Any = search.CreateSearch
        self.watch: Any = search.WatchSearch
        self.get: Any = search.GetSearch
        self.list: Any = search.ListSearches
        self.cancel: Any = search.CancelSearch
        self.preview: Any = search.PreviewSearch
        self.confirm: Any = search.ConfirmUrgent
        self.explain: Any = policy.Explain
        self.second = SecondStepStubs(channel)


# --- requests --------------------------------------------------------------------------------


def create_request(
    prepared: PreparedSearch, officer_token: str, authoriser_token: str, wait_ms: int
) -> Request:
    """Make the request that records a search."""
    return search_service_pb2.CreateSearchRequest(
        order=envelope_to_wire(prepared.order.envelope),
        probes=[
            search_pb2.SealedProbe(agency=p.agency, key_id=p.key_id, ciphertext=p.ciphertext)
            for p in prepared.probes
        ],
        officer_token=officer_token,
        authoriser_token=authoriser_token,
        wait_ms=wait_ms,
    )


def watch_request(search_id: str) -> Request:
    """Make the request that follows a search."""
    return search_service_pb2.WatchSearchRequest(search_id=search_id)


def get_request(search_id: str) -> Request:
    """Make the request that reads a search."""
    return search_service_pb2.GetSearchRequest(search_id=search_id)


def list_request(page_size: int, page_token: str) -> Request:
    """Make the request for a page of searches."""
    return search_service_pb2.ListSearchesRequest(page_size=page_size, page_token=page_token)


def cancel_request(search_id: str) -> Request:
    """Make the request that ends a search."""
    return search_service_pb2.CancelSearchRequest(search_id=search_id)


def preview_request(order: SearchOrder) -> Request:
    """Make the request for decisions without a search."""
    return search_service_pb2.PreviewSearchRequest(order=order_to_wire(order))


def confirm_request(confirmation: Envelope, confirmer_token: str) -> Request:
    """Make the request that confirms an urgent search."""
    return search_service_pb2.ConfirmUrgentRequest(
        confirmation=envelope_to_wire(confirmation), confirmer_token=confirmer_token
    )


def explain_request(order: SearchOrder) -> Request:
    """Make the request for decisions in prose."""
    return policy_service_pb2.ExplainRequest(order=order_to_wire(order))


# --- answers ---------------------------------------------------------------------------------


def read_search(response: Any) -> ReceivedSearch:
    """Read a search out of a response that holds one.

    Raises:
        ProbegateError: ``RESULT_INVALID`` if it cannot be understood.
    """
    return _read(lambda: _search(response.search))


def read_event(response: Any) -> ReceivedAnswer | ReceivedSearch:
    """Read one thing that happened to a search.

    Raises:
        ProbegateError: ``RESULT_INVALID`` if it cannot be understood.
    """
    match response.WhichOneof("event"):
        case "answer":
            return _read(lambda: _answer(response.answer))
        case "finished":
            return _read(lambda: _search(response.finished))
        case _:
            raise ProbegateError(Reason.RESULT_INVALID, "an empty event", check="event")


def read_page(response: Any) -> tuple[tuple[SearchSummary, ...], str]:
    """Read a page of searches and where the next begins.

    Raises:
        ProbegateError: ``RESULT_INVALID`` if it cannot be understood.
    """
    return _read(
        lambda: (
            tuple(
                SearchSummary(
                    search_id=one.search_id,
                    request_id=one.request_id,
                    state=_state(one.state),
                    created_at=moment(one.created_at),
                    agencies=one.agencies,
                )
                for one in response.searches
            ),
            response.next_page_token,
        )
    )


def read_explanation(response: Any) -> Explanation:
    """Read decisions, with prose where the response has any.

    Raises:
        ProbegateError: ``RESULT_INVALID`` if it cannot be understood.
    """
    return _read(
        lambda: Explanation(
            decisions=tuple(map(_decision, response.decisions)),
            prose=tuple(getattr(response, "prose", ())),
            policy_sha256=response.policy_sha256,
            warnings=tuple(response.warnings),
        )
    )


def read_preview(response: Any) -> Explanation:
    """Read decisions without prose, and how many false candidates are expected.

    Raises:
        ProbegateError: ``RESULT_INVALID`` if it cannot be understood.
    """
    explained = read_explanation(response)
    return _read(
        lambda: replace(
            explained,
            expected_false=expected_from_wire(response),
            without_expectation=tuple(response.without_expectation),
        )
    )


def _read(make: Callable[[], _Made]) -> _Made:
    return checked(Reason.RESULT_INVALID, make)


def _search(message: search_service_pb2.Search) -> ReceivedSearch:
    return ReceivedSearch(
        search_id=message.search_id,
        request_id=message.request_id,
        state=_state(message.state),
        created_at=moment(message.created_at),
        decisions=tuple(map(_decision, message.decisions)),
        answers=tuple(map(_answer, message.answers)),
        result=envelope_from_wire(message.result) if message.HasField("result") else None,
        receipt=message.receipt,
        receipt_leaf=message.receipt_leaf,
        warnings=tuple(message.warnings),
        confirmed_at=moment(message.confirmed_at) if message.HasField("confirmed_at") else None,
    )


def _state(number: int) -> SearchState:
    if number not in _STATES:
        raise ValueError("state")
    return _STATES[number]


def _answer(message: search_service_pb2.AgencyAnswer) -> ReceivedAnswer:
    return ReceivedAnswer(
        outcome=outcome_from_wire(message.outcome),
        report=envelope_from_wire(message.report) if message.HasField("report") else None,
        agency_checkpoint=message.agency_checkpoint,
        late_at=moment(message.late_at) if message.HasField("late_at") else None,
    )


def _decision(message: search_service_pb2.AgencyDecision) -> AgencyDecision:
    return AgencyDecision(
        agency=message.agency,
        permitted=message.permitted,
        code=message.code,
        failed_clauses=tuple(message.failed_clauses),
        agreement=message.agreement,
        clauses=tuple(
            ClauseVerdict(
                agreement=clause.agreement,
                clause=clause.clause,
                citation=clause.citation,
                attribute=clause.attribute,
                operator=clause.operator,
                required=clause.required,
                actual=clause.actual,
                verdict=clause.verdict,
                waived=clause.waived,
            )
            for clause in message.clauses
        ),
        obligations=(
            obligations_from_wire(message.obligations) if message.HasField("obligations") else None
        ),
        waived=tuple(message.waived),
        confirm_by=moment(message.confirm_by) if message.HasField("confirm_by") else None,
        confirmer_rank=message.confirmer_rank,
        expected_false=expected_from_wire(message),
    )
