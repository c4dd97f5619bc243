"""What stands between a gRPC method and the code behind it, the same for every server.

For every call, in this order:

1. The peer's certificate carries exactly one SPIFFE identity that the directory knows.
2. Its role may call this method: a method without roles is refused (default deny).
3. The call has a deadline, and it is within the server's limit.
4. What the code raises leaves as a ``google.rpc.Status`` from the catalogue with one ``ErrorInfo``;
   anything unforeseen leaves as ``UNEXPECTED`` with the catalogue's sentence, never a traceback
   and never INTERNAL.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from trust import telemetry
from trust.directory import Directory, Role
from trust.errors import ERROR_DOMAIN, ProbegateError, Reason
from trust.mtls import PeerIdentity, peer_identity

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

RETRY_AFTER_S: Final = 1
"""What a busy server tells callers to wait, seconds."""
_STATUS_KEY: Final = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Call:
    """Who is calling and how long they will wait, seconds."""

    peer: PeerIdentity
    remaining_s: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every servicer needs: the directory as it is now and the longest deadline, seconds."""

    directory: Callable[[], Directory]
    max_deadline_s: float


class Servicer:
    """Base of every servicer; its methods are wrapped by ``unary`` or ``stream``."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings

    def admit(self, context: Any, roles: frozenset[Role]) -> Call:
        """Apply rules (1) to (3)."""
        directory = self.surroundings.directory()
        peer = peer_identity(context.auth_context(), directory)  # (1)
        if peer.member.role not in roles:  # (2)
            raise ProbegateError(Reason.CHANNEL_ROLE)
        remaining = context.time_remaining()
        if remaining is None or remaining > self.surroundings.max_deadline_s:  # (3)
            raise ProbegateError(
                Reason.DEADLINE_MISSING, limit_seconds=f"{self.surroundings.max_deadline_s:g}"
            )
        return Call(peer, remaining)


def unary(
    *roles: Role,
) -> Callable[
    [Callable[[Any, _Request, Call], Awaitable[_Response]]],
    Callable[[Any, _Request, Any], Awaitable[_Response]],
]:
    """Wrap ``async def Method(self, request, call)`` as a unary gRPC handler for these roles."""
    allowed = frozenset(roles)

    def decorate(
        method: Callable[[Any, _Request, Call], Awaitable[_Response]],
    ) -> Callable[[Any, _Request, Any], Awaitable[_Response]]:
        @functools.wraps(method)
        async def handler(self: Any, request: _Request, context: Any) -> _Response:
            with telemetry.continued(
                context.invocation_metadata() if telemetry.enabled() else None, method.__name__
            ):
                try:
                    return await method(self, request, self.admit(context, allowed))
                except Exception as error:  # noqa: BLE001 - rule (4): nothing leaves uncatalogued
                    failure = catalogued(error, method.__name__)
                await context.abort_with_status(to_status(failure))
                raise failure  # pragma: no cover - abort_with_status always raises

        handler.allowed_roles = allowed  # type: ignore[attr-defined]
        return handler

    return decorate


def stream(
    *roles: Role,
) -> Callable[
    [Callable[[Any, _Request, Call], AsyncIterator[_Response]]],
    Callable[[Any, _Request, Any], AsyncIterator[_Response]],
]:
    """Wrap an async generator ``Method(self, request, call)`` as a server-streaming handler."""
    allowed = frozenset(roles)

    def decorate(
        method: Callable[[Any, _Request, Call], AsyncIterator[_Response]],
    ) -> Callable[[Any, _Request, Any], AsyncIterator[_Response]]:
        @functools.wraps(method)
        async def handler(self: Any, request: _Request, context: Any) -> AsyncIterator[_Response]:
            try:
                async for response in method(self, request, self.admit(context, allowed)):
                    yield response
            except Exception as error:  # noqa: BLE001 - rule (4)
                failure = catalogued(error, method.__name__)
            else:
                return
            await context.abort_with_status(to_status(failure))

        handler.allowed_roles = allowed  # type: ignore[attr-defined]
        return handler

    return decorate


def catalogued(error: Exception, where: str) -> ProbegateError:
    """Turn anything raised into a catalogued failure (4); the unforeseen is logged by type only."""
    if isinstance(error, ProbegateError):
        if error.reason in _OUR_FAULT:
            telemetry.log("refused", logging.ERROR, method=where, reason=error.reason.name)
        return error
    if isinstance(error, asyncio.TimeoutError):
        return ProbegateError(Reason.DEADLINE_PASSED)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ProbegateError(Reason.DISK_FULL)
    logging.getLogger("probegate").error(
        "unexpected", exc_info=error, extra={"fields": {"method": where}}
    )
    return ProbegateError(Reason.UNEXPECTED)


_OUR_FAULT: Final = frozenset(
    {
        Reason.CHECKPOINT_INCONSISTENT,
        Reason.DISK_FULL,
        Reason.GALLERY_CORRUPT,
        Reason.LOG_CORRUPT,
        Reason.LOG_UNAVAILABLE,
        Reason.STATE_UNAVAILABLE,
    }
)
"""Refusals the operator must hear of even when nobody asks."""


def to_status(failure: ProbegateError) -> Any:
    """Encode a failure as a gRPC status: one ``ErrorInfo``, and the detail that fits it."""
    details = [
        error_details_pb2.ErrorInfo(
            reason=failure.reason.name, domain=ERROR_DOMAIN, metadata=failure.metadata
        )
    ]
    packed = [_packed(detail) for detail in details]
    field = failure.metadata.get("field")
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=field, description=failure.reason.entry.remedy
        )
        packed.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if failure.reason is Reason.SERVER_BUSY:
        delay = duration_pb2.Duration(seconds=RETRY_AFTER_S)
        packed.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(
        code=code_pb2.Code.Value(failure.reason.entry.status.value),
        message=failure.public_message,
        details=packed,
    )
    return rpc_status.to_status(status)


def _packed(detail: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def reason_in(error: grpc.aio.AioRpcError) -> tuple[Reason, dict[str, str]] | None:
    """Return the catalogue reason a peer stated and its metadata, or None if it stated none."""
    raw = next(
        (value for key, value in error.trailing_metadata() or () if key == _STATUS_KEY), None
    )
    if raw is None:
        return None
    try:
        status = status_pb2.Status.FromString(raw)
    except Exception:  # noqa: BLE001 - a peer's garbage is no reason at all
        return None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        ours = detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN
        if ours and info.reason in Reason.__members__:
            return Reason[info.reason], dict(info.metadata)
    return None


def is_connection_fault(error: BaseException) -> bool:
    """Whether a call failed before any peer answered it: the only kind that may be retried."""
    return (
        isinstance(error, grpc.aio.AioRpcError)
        and error.code() is grpc.StatusCode.UNAVAILABLE
        and reason_in(error) is None
    )


_WITHOUT_REASON: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_PASSED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.MESSAGE_TOO_LARGE,
    grpc.StatusCode.UNIMPLEMENTED: Reason.METHOD_LATER,
    grpc.StatusCode.UNAVAILABLE: Reason.SERVICE_UNREACHABLE,
    grpc.StatusCode.UNAUTHENTICATED: Reason.CERTIFICATE_INVALID,
}


_PARAMETERS: Final = frozenset({"self", "reason", "detail"})
"""Names a peer's metadata may not have: ``ProbegateError`` has them for itself."""


def error_of(error: grpc.aio.AioRpcError) -> ProbegateError:
    """Decode a failed call into the catalogued failure it carries or, without one, amounts to."""
    stated = reason_in(error)
    if stated is not None:
        reason, metadata = stated
        facts = {
            key: value[:256]
            for key, value in metadata.items()
            if key.isidentifier() and key not in _PARAMETERS
        }
        return ProbegateError(reason, **facts)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger" not in (
        error.details() or ""
    ):
        return ProbegateError(Reason.SERVER_BUSY)
    return ProbegateError(_WITHOUT_REASON.get(error.code(), Reason.UNEXPECTED))
