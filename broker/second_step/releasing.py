"""Reaches one agency about what follows a search, with proof that the broker's log has it.

1. An agency that is known to be out is not called.
2. A call has one deadline; a lost connection is a failure of that call, and whoever made it decides
   when the next is.
3. What is asked is proved under the log's newest checkpoint, and that is proved to continue what
   the agency has acknowledged. Where its memory is not what we believed, the agency is asked, once.
4. What comes back is bounded, and nothing in it is believed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from broker import wire as broker_wire
from broker.calling import AgencyCall
from broker.dispatch import AgencyClient
from broker.second_step.models import Disclosure, NumberedRecall, Released, SealedImage
from broker.second_step.receipts import Proved, Receipts
from broker.settings import BrokerSettings
from broker.wire import second_step as wire
from trust.clock import Clock
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason, Status
from trust.rpc import error_of
from trust.second_step import MAX_IMAGE_BYTES

MAX_SEALED_IMAGE_BYTES: Final = MAX_IMAGE_BYTES + 16 * 1024
"""Largest sealed image, bytes: the image, its envelope and the seal."""
_PROOF_WANTED: Final = frozenset({Reason.CHECKPOINT_INCONSISTENT, Reason.CHECKPOINT_UNRECONCILED})
_PASSING_STATES: Final = frozenset(
    {
        Status.UNAVAILABLE,
        Status.RESOURCE_EXHAUSTED,
        Status.DEADLINE_EXCEEDED,
        Status.UNIMPLEMENTED,
        Status.CANCELLED,
        Status.DATA_LOSS,
    }
)
_PASSING_REASONS: Final = frozenset(
    {
        *_PROOF_WANTED,
        Reason.CERTIFICATE_INVALID,
        Reason.CHECKPOINT_INVALID,
        Reason.DIRECTORY_EXPIRED,
        Reason.OUTCOME_INVALID,
    }
)

Encode = Callable[[Proved, wire.Proofs], bytes]


def passes(failure: ProbegateError) -> bool:
    """Whether a failed call says nothing about what was asked, so that it is asked again."""
    reason = failure.reason
    return reason in _PASSING_REASONS or reason.entry.status in _PASSING_STATES


@dataclass(frozen=True, slots=True)
class Releasing:
    """Reaches agencies; the broker's core has one.

    Attributes:
        agencies: every agency of the directory, as dispatch knows them.
        receipts: proves entries.
        settings: how long an agency may take.
        clock: the time.
    """

    agencies: Mapping[str, AgencyClient]
    receipts: Receipts
    settings: BrokerSettings
    clock: Clock

    async def images(
        self, agency: str, order: Envelope, request: Envelope, index: int, timeout_s: float
    ) -> AsyncIterator[SealedImage]:
        """Ask for images and yield them as they come (1) (3) (4).

        Args:
            agency: whose.
            order: the search's.
            request: what the force signed.
            index: where in the log the request is recorded.
            timeout_s: how long it may take, seconds.

        Raises:
            ProbegateError: as ``_called``; ``MESSAGE_TOO_LARGE`` for an image beyond the limit.
        """
        client = self._client(agency)
        deadline = asyncio.get_running_loop().time() + timeout_s
        again = True
        while True:
            encoded = await self._encoded(
                client,
                self.receipts.proved(index),
                lambda proved, proofs: wire.encode_images(order, request, proved, proofs),
                forget=not again,
            )
            left = max(deadline - asyncio.get_running_loop().time(), 0.001)
            call = AgencyCall(client.backoff, self.settings)
            call.begins(left)
            came = False
            try:
                async for data in client.link.stream(wire.GET_IMAGES_METHOD, encoded, left):
                    again, came = False, True
                    image = wire.decode_image(data)
                    if len(image.sealed) > MAX_SEALED_IMAGE_BYTES:
                        raise ProbegateError(Reason.MESSAGE_TOO_LARGE, field="sealed_image")
                    yield image
            except grpc.aio.AioRpcError as error:
                failure = error_of(error)
                if not came:  # else it is there: how fast a force reads is not the agency's doing
                    call.failed(failure, self.clock())
                if failure.reason not in _PROOF_WANTED or not again:
                    raise failure from error
                again = False
            else:
                call.answered()
                return

    async def hand_over(
        self,
        order: Envelope,
        record: Disclosure,
        reviews: Sequence[tuple[Envelope, str, int]],
        revocations: Sequence[Envelope],
    ) -> Released:
        """Hand a request over and return by when it is to be decided.

        Args:
            order: the search's.
            record: the request.
            reviews: those it names, in its sequence: what was signed, the reviewer's token, and
                where in the log it is recorded.
            revocations: those that the broker knows of.

        Raises:
            ProbegateError: as ``_called``.
        """
        signed = [(envelope, token) for envelope, token, _ in reviews]
        data = await self._proved_call(
            record.agency,
            wire.REQUEST_RELEASE_METHOD,
            (record.leaf_index, *(index for _, _, index in reviews)),
            lambda proved, proofs: wire.encode_release(
                order, record, signed, revocations, proved, proofs
            ),
        )
        return wire.decode_taken(data)

    async def became(self, agency: str, request_sha256: bytes) -> Released:
        """Ask what became of a request.

        Raises:
            ProbegateError: as ``_called``.
        """
        request = wire.encode_get_release(request_sha256)
        data = await self._called(self._client(agency), wire.GET_RELEASE_METHOD, request)
        return wire.decode_release(data)

    async def tell(self, agency: str, notice: Envelope, index: int) -> None:
        """Tell an agency something that a force signed.

        Raises:
            ProbegateError: as ``_called``.
        """
        data = await self._proved_call(
            agency,
            wire.NOTIFY_METHOD,
            (index,),
            lambda proved, proofs: wire.encode_notice(notice, proved, proofs),
        )
        wire.decode_notified(data)

    async def recalls(self, agency: str, after: int) -> tuple[NumberedRecall, ...]:
        """Ask for the recalls after a number.

        That nobody answers is not held against the agency: a search is to find it as soon as it
        is back.

        Raises:
            ProbegateError: as ``_called``.
        """
        request = wire.encode_list_recalls(after)
        data = await self._called(
            self._client(agency), wire.LIST_RECALLS_METHOD, request, counts=False
        )
        return wire.decode_recalls(data)

    def may_call(self, agency: str) -> bool:
        """Whether an agency is there to be called (1)."""
        client = self.agencies.get(agency)
        return client is not None and client.backoff.may_call(self.clock())

    def _client(self, agency: str) -> AgencyClient:
        client = self.agencies.get(agency)
        if client is None or not client.backoff.may_call(self.clock()):
            raise ProbegateError(Reason.SERVICE_UNREACHABLE, agency=agency)
        return client

    async def _proved_call(
        self, agency: str, method: str, indices: tuple[int, ...], encode: Encode
    ) -> bytes:
        client = self._client(agency)
        proved = self.receipts.proved(*indices)
        try:
            request = await self._encoded(client, proved, encode)
            return await self._called(client, method, request)
        except ProbegateError as error:
            if error.reason not in _PROOF_WANTED:
                raise
        request = await self._encoded(client, proved, encode, forget=True)
        return await self._called(client, method, request)

    async def _encoded(
        self, client: AgencyClient, proved: Proved, encode: Encode, *, forget: bool = False
    ) -> bytes:
        """Encode a request with the proofs that the agency wants (3)."""
        memory, size = client.memory, proved.size
        if forget:
            memory.forget()
        if not memory.known:
            timeout_s = self.settings.agency_timeout_s
            described = await self._attempt(
                client, lambda: client.link.describe(timeout_s), counts=True
            )
            memory.learn(broker_wire.decode_description(described).acknowledged)
        consistency = self.receipts.log.consistency
        proofs = [(base, size, consistency(base, size)) for base in memory.bases(size)]
        memory.sent(size)
        return encode(proved, proofs)

    async def _called(
        self, client: AgencyClient, method: str, request: bytes, *, counts: bool = True
    ) -> bytes:
        """Call a method of an agency's (2).

        Raises:
            ProbegateError: ``SERVICE_UNREACHABLE``, ``DEADLINE_PASSED``, ``MESSAGE_TOO_LARGE``, or
                what the agency refuses with.
        """
        timeout_s = self.settings.agency_timeout_s
        return await self._attempt(
            client, lambda: client.link.call(method, request, timeout_s), counts=counts
        )

    async def _attempt(
        self, client: AgencyClient, call: Callable[[], Coroutine[Any, Any, bytes]], *, counts: bool
    ) -> bytes:
        made = AgencyCall(client.backoff, self.settings)
        made.begins(self.settings.agency_timeout_s)
        try:
            async with asyncio.timeout(self.settings.agency_timeout_s):
                data = await call()
        except TimeoutError:
            failure = ProbegateError(Reason.DEADLINE_PASSED, agency=client.agency)
            if counts:
                made.failed(failure, self.clock())
            raise failure from None
        except grpc.aio.AioRpcError as error:
            failure = error_of(error)
            if counts:
                made.failed(failure, self.clock())
            raise failure from error
        made.answered()
        return data
