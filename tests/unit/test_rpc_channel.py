"""Every method of every server over a real channel: who may call, how long, with what bytes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from probegate.agency.v1 import match_service_pb2, release_service_pb2
from probegate.audit.v1 import audit_service_pb2
from probegate.broker.v1 import (
    disclosure_service_pb2,
    policy_service_pb2,
    review_service_pb2,
    search_service_pb2,
)

from agency_adapters.second_step.servicer import ReleaseServicer
from agency_adapters.serve import Adapter
from agency_adapters.servicer import MatchServicer
from audit.servicer import AuditServicer
from broker.second_step.servicer import DisclosureServicer, ReviewServicer
from broker.servicer import PolicyServicer, SearchServicer
from tests.brokers import channel_to, rigged
from tests.scale import scaled
from tests.unit.adapters_kit import adapter_settings, make_world
from tests.world import Request, World
from trust.directory import Role
from trust.errors import ERROR_DOMAIN, ProbegateError, Reason
from trust.rpc import error_of, to_status
from trust.wire import order_to_wire

FORCE, BROKER, EVERYBODY = {Role.FORCE}, {Role.BROKER}, set(Role)
ROLES: Mapping[str, set[Role]] = {
    "probegate.broker.v1.SearchService/CreateSearch": FORCE,
    "probegate.broker.v1.SearchService/WatchSearch": FORCE,
    "probegate.broker.v1.SearchService/GetSearch": FORCE,
    "probegate.broker.v1.SearchService/ListSearches": FORCE,
    "probegate.broker.v1.SearchService/CancelSearch": FORCE,
    "probegate.broker.v1.SearchService/PreviewSearch": FORCE,
    "probegate.broker.v1.SearchService/ConfirmUrgent": FORCE,
    "probegate.broker.v1.PolicyService/Explain": FORCE,
    "probegate.broker.v1.ReviewService/GetImages": FORCE,
    "probegate.broker.v1.ReviewService/SubmitReview": FORCE,
    "probegate.broker.v1.ReviewService/GetReviewStatus": FORCE,
    "probegate.broker.v1.ReviewService/RevokeReviewer": FORCE,
    "probegate.broker.v1.ReviewService/RecordCorroboration": FORCE,
    "probegate.broker.v1.DisclosureService/RequestDisclosure": FORCE,
    "probegate.broker.v1.DisclosureService/GetDisclosure": FORCE,
    "probegate.broker.v1.DisclosureService/ListDisclosures": FORCE,
    "probegate.broker.v1.DisclosureService/ReportWrongMatch": FORCE,
    "probegate.broker.v1.DisclosureService/ListRecalls": FORCE,
    "probegate.broker.v1.DisclosureService/AcknowledgeRecall": FORCE,
    "probegate.agency.v1.MatchService/Describe": BROKER,
    "probegate.agency.v1.MatchService/Match": BROKER,
    "probegate.agency.v1.MatchService/Collect": BROKER,
    "probegate.agency.v1.ReleaseService/RequestRelease": BROKER,
    "probegate.agency.v1.ReleaseService/GetRelease": BROKER,
    "probegate.audit.v1.AuditService/GetCheckpoint": EVERYBODY,
    "probegate.audit.v1.AuditService/GetInclusionProof": EVERYBODY,
    "probegate.audit.v1.AuditService/GetConsistencyProof": EVERYBODY,
    "probegate.audit.v1.AuditService/ListEntries": EVERYBODY,
}
"""Who may call what. A method that is not here fails the first test below."""
SERVICERS = {
    "probegate.broker.v1.SearchService": SearchServicer,
    "probegate.broker.v1.PolicyService": PolicyServicer,
    "probegate.broker.v1.ReviewService": ReviewServicer,
    "probegate.broker.v1.DisclosureService": DisclosureServicer,
    "probegate.agency.v1.MatchService": MatchServicer,
    "probegate.agency.v1.ReleaseService": ReleaseServicer,
    "probegate.audit.v1.AuditService": AuditServicer,
}
FILES = (
    disclosure_service_pb2,
    policy_service_pb2,
    review_service_pb2,
    search_service_pb2,
    match_service_pb2,
    release_service_pb2,
    audit_service_pb2,
)
CALLERS = {
    Role.FORCE: "northshire",
    Role.BROKER: "broker",
    Role.AGENCY: "custody",
    Role.AUDITOR: "inspectorate",
}


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Yield every method of the wire contract with its name there."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"{service.full_name}/{method.name}", method


METHODS = dict(methods())


def test_the_table_has_every_method_and_the_code_says_the_same() -> None:
    assert set(ROLES) == set(METHODS)
    for name, method in METHODS.items():
        servicer = SERVICERS[method.containing_service.full_name]
        # Defined by the servicer itself: the generated base would answer UNIMPLEMENTED for it.
        handler = vars(servicer)[method.name]
        assert handler.allowed_roles == frozenset(ROLES[name]), name


@dataclass(slots=True)
class Both:
    """A broker and the custody adapter, served."""

    world: World
    ports: Mapping[str, int]
    stack: AsyncExitStack
    channels: dict[tuple[str, str], grpc.aio.Channel]

    async def call(self, name: str, member: str, data: bytes, wait_s: float | None = 10.0) -> bytes:
        """Call a method with raw bytes as a member; a failure is raised as gRPC reports it."""
        for target, port in self.ports.items():
            if not self.serves(target, name):
                continue
            if (member, target) not in self.channels:
                self.channels[member, target] = await self.stack.enter_async_context(
                    channel_to(self.world, member, target, port)
                )
            channel = self.channels[member, target]
            if METHODS[name].server_streaming:
                async for reply in channel.unary_stream(f"/{name}")(data, timeout=wait_s):
                    return bytes(reply)
                return b""
            reply = await channel.unary_unary(f"/{name}")(data, timeout=wait_s)
        return bytes(reply)

    @staticmethod
    def serves(target: str, name: str) -> bool:
        return ".audit." in name or (".broker." in name) == (target == "broker")

    async def failure(self, name: str, member: str, data: bytes, **how: Any) -> Reason | None:
        """Return the reason a call failed with, or none; whatever it is, it is a catalogued one."""
        try:
            await self.call(name, member, data, **how)
        except grpc.aio.AioRpcError as error:
            return stated(error)
        return None


def stated(error: grpc.aio.AioRpcError) -> Reason:
    """Return the one reason of a status, which must be as the catalogue has it."""
    status = rpc_status.from_call(error)
    assert status is not None, (error.code(), error.details())
    infos = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            infos.append(info)
    (info,) = infos
    assert info.domain == ERROR_DOMAIN
    reason = Reason[info.reason]
    assert error.code().name == reason.entry.status.value
    assert error.details() == reason.entry.message
    assert error.code() not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
    return reason


@pytest.fixture(scope="module")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("scheme"))


@pytest.fixture
async def both(scheme: World, tmp_path: Path) -> AsyncIterator[Both]:
    adapter = await Adapter.open(adapter_settings(scheme, tmp_path))
    adapter_server = await adapter.listen()
    state: dict[str, Any] = {
        "state_dir": tmp_path / "b",
        "logs_dir": tmp_path / "bl",
        "listen": "127.0.0.1:0",
    }
    try:
        async with rigged(scheme, serving=(), **state) as rig, AsyncExitStack() as stack:
            broker_server = await rig.broker.listen()
            ports = {"broker": broker_server.port, "custody": adapter_server.port}
            yield Both(scheme, ports, stack, {})
            await broker_server.stop(0)
    finally:
        await adapter_server.stop(0)
        await adapter.close()


async def test_each_method_is_for_its_roles_alone(both: Both) -> None:
    for name, roles in ROLES.items():
        for role, member in CALLERS.items():
            reason = await both.failure(name, member, b"")
            assert (reason is Reason.CHANNEL_ROLE) is (role not in roles) or (
                # Entries are for auditors and for the log's own organisation.
                name.endswith("/ListEntries") and reason is Reason.CHANNEL_ROLE
            ), (name, role, reason)


async def test_a_call_needs_a_deadline_within_the_limit(both: Both) -> None:
    for name, roles in ROLES.items():
        member = CALLERS[min(roles & set(CALLERS), key=str)]
        for timeout in (None, 3600.0):
            assert await both.failure(name, member, b"", wait_s=timeout) is Reason.DEADLINE_MISSING


async def test_bytes_that_are_no_message_are_refused_in_our_words(both: Both) -> None:
    rng = random.Random(11)
    garbage = [
        b"\xff",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x01\xff" * 9,
        *(rng.randbytes(rng.randrange(1, 200)) for _ in range(scaled(6, 400))),
    ]
    for name, roles in ROLES.items():
        member = CALLERS[min(roles & set(CALLERS), key=str)]
        assert await both.failure(name, member, b"\xff") is Reason.MESSAGE_INVALID
        for data in garbage:
            assert await both.failure(name, member, data) is not Reason.UNEXPECTED, (name, data)


async def test_numbers_at_their_ends_are_refused_in_our_words(both: Both) -> None:
    numbers: list[Any] = [0, 1, 2, 99]
    ends = [0, 1, 2**31 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
    audit = audit_service_pb2
    service = "probegate.audit.v1.AuditService"
    for n in ends:
        for other in ends:
            for log in numbers:
                calls = {
                    "GetInclusionProof": audit.GetInclusionProofRequest(
                        log=log, index=n, tree_size=other
                    ),
                    "GetConsistencyProof": audit.GetConsistencyProofRequest(
                        log=log, old_size=n, new_size=other
                    ),
                }
                for method, request in calls.items():
                    reason = await both.failure(
                        f"{service}/{method}", "inspectorate", request.SerializeToString()
                    )
                    assert reason is not Reason.UNEXPECTED, (method, n, other, log)
        listing = audit.ListEntriesRequest(
            log=numbers[1], start=n, page_size=min(n, 2**31 - 1), purpose=numbers[1]
        ).SerializeToString()
        reason = await both.failure(f"{service}/ListEntries", "inspectorate", listing)
        assert reason is not Reason.UNEXPECTED, n


async def test_a_preview_of_any_order_is_answered_or_refused_in_our_words(both: Both) -> None:
    """No signature guards a preview, so what it reads is a stranger's."""
    order = Request(both.world).order()
    name = "probegate.broker.v1.SearchService/PreviewSearch"
    rng = random.Random(5)
    good = search_service_pb2.PreviewSearchRequest(order=order_to_wire(order))
    assert await both.failure(name, "northshire", good.SerializeToString()) is None
    for _ in range(scaled(60, 3000)):
        raw = bytearray(good.SerializeToString())
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        reason = await both.failure(name, "northshire", bytes(raw))
        assert reason is not Reason.UNEXPECTED, bytes(raw)
    odd = search_service_pb2.PreviewSearchRequest(order=order_to_wire(order))
    odd.order.created_at.seconds = 253402300798
    odd.order.expires_at.seconds = 253402300799
    # The calendar's last second: decided (and denied) like any other.
    assert await both.failure(name, "northshire", odd.SerializeToString()) is None


async def test_a_message_beyond_the_limit_is_too_large(both: Both) -> None:
    for name in (
        "probegate.broker.v1.SearchService/CreateSearch",
        "probegate.agency.v1.MatchService/Match",
    ):
        member = "northshire" if "broker" in name else "broker"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await both.call(name, member, b"\x0a" + bytes(3 * 2**20))
        assert error_of(raised.value).reason is Reason.MESSAGE_TOO_LARGE


class Refused(grpc.aio.AioRpcError):  # type: ignore[misc] # gRPC has no types
    """A failed call as a peer of our choice would have it."""

    def __init__(self, code: grpc.StatusCode, details: str, raw: bytes | None) -> None:
        trailing = () if raw is None else (("grpc-status-details-bin", raw),)
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details, None)


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_every_reason_crosses_the_wire(reason: Reason) -> None:
    status = to_status(ProbegateError(reason, "ours alone", field="a.b", newest_size="7"))
    (_, raw) = status.trailing_metadata[0]
    assert b"ours alone" not in raw
    read = error_of(Refused(status.code, status.details, raw))
    assert read.reason is reason
    assert read.metadata == {"field": "a.b", "newest_size": "7"}


def test_a_peers_metadata_cannot_break_the_reader() -> None:
    hostile = {
        "self": "x",
        "reason": "x",
        "detail": "x",
        "not an identifier": "x",
        "field": "y" * 100_000,
        "": "x",
    }
    info = error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain=ERROR_DOMAIN, metadata=hostile)
    status = status_pb2.Status(code=5, message="x")
    status.details.add().Pack(info)
    read = error_of(Refused(grpc.StatusCode.NOT_FOUND, "x", status.SerializeToString()))
    assert read.reason is Reason.NOT_FOUND
    assert read.metadata == {"field": "y" * 256}


@pytest.mark.parametrize("raw", [None, b"", b"\xff", b"\x1a\x05hello"])
@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_a_status_without_our_reason_is_read_as_what_it_amounts_to(
    code: grpc.StatusCode, raw: bytes | None
) -> None:
    read = error_of(Refused(code, "x", raw))
    wanted = {
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_PASSED,
        grpc.StatusCode.UNAVAILABLE: Reason.SERVICE_UNREACHABLE,
        grpc.StatusCode.UNAUTHENTICATED: Reason.CERTIFICATE_INVALID,
        grpc.StatusCode.UNIMPLEMENTED: Reason.METHOD_LATER,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.SERVER_BUSY,
    }
    assert read.reason is wanted.get(code, Reason.UNEXPECTED)
