"""One call to an agency: how it is made, and what its end says of whether the agency is there.

1. Only a connection fault is tried again, and the whole call with the same bytes: an adapter
   answers the same request with the same report, so a repeat cannot search twice.
2. A refusal is an answer from a living agency.
3. An outage is counted only where nobody was there: a connection that failed, or a call that was
   made, had our patience and was not answered. How little time a force gives, and how long a call
   waits here for its turn, say nothing of the agency, neither that it is out nor that it is there.
4. Calls under way at once are one outage, however many of them fail (``backoff``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import perf_counter
from typing import Final

import grpc
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from broker.backoff import AgencyBackoff
from broker.settings import BrokerSettings
from trust.errors import ProbegateError, Reason
from trust.rpc import error_of, is_connection_fault, reason_in

PATIENCE_S: Final = 5.0
"""How long an agency has to have had before its silence counts as an outage, seconds."""
PATIENCE_SHARE: Final = 0.5
"""The same as a share of the longest that an agency may take, where that is less."""
OUTAGES: Final = frozenset({Reason.DEADLINE_PASSED, Reason.SERVICE_UNREACHABLE})
"""How a call ends when nobody was there."""
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0
_SHORTEST_CALL_S: Final = 0.001


class AgencyCall:
    """A call to an agency, with what it needs to be told of first.

    Args:
        backoff: what is remembered of the agency's availability.
        settings: how long an agency may take, and how often a call is tried.
    """

    def __init__(self, backoff: AgencyBackoff, settings: BrokerSettings) -> None:
        self.asked = False
        """Whether the question itself was sent, and not only what must be known before."""
        self.wordless = False
        """Whether what ended the call is a status that states no reason of ours: a proxy's word, or
        a broken connection's, and not the agency's."""
        self._backoff = backoff
        self._attempts = settings.call_attempts
        self._patience_s = min(PATIENCE_S, settings.agency_timeout_s * PATIENCE_SHARE)
        self._since: int | None = None
        self._given_s = 0.0

    def begins(self, given_s: float) -> None:
        """Take note that the agency is called now, and has ``given_s`` seconds.

        It has them from the first time on: what follows within the same call uses them up.
        """
        if self._since is None:
            self._since, self._given_s = self._backoff.begun(), given_s

    async def attempt(self, call: Callable[[float], Awaitable[bytes]], deadline: float) -> bytes:
        """Call the agency, again after a connection fault (1), and return what it answered.

        Args:
            call: makes the call, given how long it may take, seconds.
            deadline: until when, as ``perf_counter`` counts.

        Raises:
            ProbegateError: what the agency refuses with, or what the call's end amounts to.
        """
        self.begins(deadline - perf_counter())

        async def once() -> bytes:
            return await call(max(deadline - perf_counter(), _SHORTEST_CALL_S))

        try:
            return await once()
        except grpc.aio.AioRpcError as error:
            if not is_connection_fault(error) or self._attempts == 1:
                raise self._ended(error) from error
        retrying = AsyncRetrying(
            retry=retry_if_exception(is_connection_fault),
            stop=stop_after_attempt(self._attempts - 1),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
            reraise=True,
        )
        await asyncio.sleep(_FIRST_WAIT_S)
        try:
            return await retrying(once)
        except grpc.aio.AioRpcError as error:
            raise self._ended(error) from error

    def _ended(self, error: grpc.aio.AioRpcError) -> ProbegateError:
        self.wordless = reason_in(error) is None
        return error_of(error)

    def answered(self) -> None:
        """Take note that the agency answered."""
        self._backoff.answered()

    def failed(self, failure: ProbegateError, now: datetime) -> None:
        """Take note of how the call ended instead of with an answer (2) (3) (4)."""
        if self._since is None:
            return
        if failure.reason not in OUTAGES:
            self._backoff.answered()
        elif failure.reason is not Reason.DEADLINE_PASSED or self._given_s >= self._patience_s:
            self._backoff.failed(failure.reason, now, self._since)
