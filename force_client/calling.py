"""One call to the broker, and following a stream of it: deadlines, and what is tried again.

1. What is sent is made once. A retry sends the same bytes, and only after a connection fault that
   no peer gave a reason for; so a retry can never do a thing twice.
2. Every call has a deadline. Until then it is tried again after such a fault: a broker that starts
   anew is away for seconds, and whoever waits for hours is not sent away for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import Any, Final

import grpc
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)

from force_client.connection import Connection
from force_client.settings import ForceSettings
from force_client.wire import BrokerStubs
from trust import telemetry
from trust.errors import ProbegateError, Reason
from trust.rpc import error_of, is_connection_fault

MAX_FRUITLESS: Final = 4
"""Most times in a row that a stream may end without a word."""
_LEAST_TIMEOUT_S: Final = 0.001
_MOST_DOUBLINGS: Final = 32
"""Most doublings of a pause; more would not fit into a number."""


class Caller:
    """Calls of one client.

    Args:
        settings: the client's.
        connection: the broker, refreshed by whoever calls.
    """

    def __init__(self, settings: ForceSettings, connection: Connection) -> None:
        self._settings, self._connection = settings, connection

    async def call(
        self, method: Callable[[BrokerStubs], Any], request: Any, waited: float = 0.0
    ) -> Any:
        """Return a method's answer.

        Args:
            method: picks the method.
            request: what is sent.
            waited: how long the broker was told to wait, seconds.

        Raises:
            ProbegateError: the broker's reason, or what the failure amounts to.
        """
        timeout_s = waited + self._settings.call_timeout_s  # (2)
        deadline = monotonic() + timeout_s
        attempts = self._settings.call_attempts
        retrying = AsyncRetrying(  # (1) (2)
            retry=retry_if_exception(is_connection_fault),
            stop=stop_any(
                stop_before_delay(timeout_s), *([stop_after_attempt(attempts)] if attempts else ())
            ),
            wait=wait_random_exponential(
                multiplier=self._settings.retry_first_s, max=self._settings.retry_longest_s
            ),
            reraise=True,
        )

        faults: list[grpc.aio.AioRpcError] = []

        async def attempt() -> Any:
            left = max(deadline - monotonic(), _LEAST_TIMEOUT_S)
            call = method(self._connection.stubs)
            try:
                return await call(request, timeout=left, metadata=telemetry.inject())
            except grpc.aio.AioRpcError as error:
                if is_connection_fault(error):
                    faults[:] = [error]
                raise

        try:
            return await retrying(attempt)
        except grpc.aio.AioRpcError as error:
            # The last attempt may begin when there is no time left, after all others met nobody.
            met_nobody = faults and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            raise error_of(faults[-1] if met_nobody else error) from None

    async def stream(
        self, method: Callable[[BrokerStubs], Any], request: Any
    ) -> AsyncGenerator[Any, None]:
        """Yield what a method sends, for ``watch_timeout_s`` at most; gRPC's errors are raised."""
        call = method(self._connection.stubs)(
            request, timeout=self._settings.watch_timeout_s, metadata=telemetry.inject()
        )
        try:
            async for event in call:
                yield event
        finally:
            call.cancel()


class Renewing:
    """How often a stream that ended is begun again, and after which pauses.

    Args:
        settings: the client's.
    """

    def __init__(self, settings: ForceSettings) -> None:
        self._settings = settings
        self._fruitless = 0
        self._away = 0
        self._until = 0.0
        self._begun = 0.0

    def begins(self) -> None:
        """Note that the stream is begun, once more or for the first time."""
        self._begun = monotonic()

    def told(self) -> None:
        """Note that something new came; what is known comes again each time."""
        self._fruitless = self._away = 0

    async def pause(self, fault: grpc.aio.AioRpcError | None) -> None:
        """Wait before the next time.

        Args:
            fault: what ended the stream, if anything did.

        Raises:
            ProbegateError: the broker's reason; ``SERVICE_UNREACHABLE`` when it has been away for
                ``watch_timeout_s``; ``DEADLINE_PASSED`` after ``MAX_FRUITLESS`` times in vain.
        """
        if fault is not None and is_connection_fault(fault):  # (2)
            now = monotonic()
            if now - self._begun > self._settings.retry_longest_s:
                self._away = 0  # it was there for a while
            if not self._away:
                self._until = now + self._settings.watch_timeout_s
            self._away += 1
            if now >= self._until:
                raise error_of(fault)
            await self._sleep(self._away)
            return
        if fault is not None and fault.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise error_of(fault)
        self._fruitless += 1
        if self._fruitless >= MAX_FRUITLESS:
            raise ProbegateError(Reason.DEADLINE_PASSED)
        await self._sleep(self._fruitless)

    async def _sleep(self, times: int) -> None:
        doubled: float = 2.0 ** min(times - 1, _MOST_DOUBLINGS)
        first, longest = self._settings.retry_first_s, self._settings.retry_longest_s
        await asyncio.sleep(min(first * doubled, longest))
