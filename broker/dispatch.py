"""Asks one agency, and turns whatever happens into exactly one outcome (promise 5).

1. An agency that is known to be out is not waited for: UNAVAILABLE, with the reason.
2. One call has one deadline, the agency's own; the others never wait for it.
3. Only a connection fault is tried again, and the whole call with the same bytes (``calling``).
4. An outage is counted against the agency, and nothing that is no fault of its own (``calling``).
5. Every way a call can end has its outcome, and none of them is "no candidate" but an agency's own
   signed word.
6. Where the agency was asked and the call ended without a word from it, it may have answered all
   the same: the outcome says so, for the answer to be asked for afterwards (``held``).
7. What a kill switch has turned off is not asked, whenever that was: a call may wait long for its
   turn, so it is looked at right before the call, and before each repeat of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final

import grpc
from opentelemetry import metrics

from audit.evidence import NO_EVIDENCE, Evidence
from broker import wire
from broker.backoff import AgencyBackoff
from broker.calling import OUTAGES, AgencyCall
from broker.expectations import Heard, heard_of
from broker.links import AgencyLink, LogMemory
from broker.models import AgencyAnswer, AgencyReply, SealedProbe
from broker.reports import Collected, Expectation, answer_of
from broker.settings import BrokerSettings
from trust import telemetry
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.messages import Outcome, OutcomeState
from trust.rpc import catalogued

DESCRIBE_EVERY: Final = timedelta(minutes=5)
"""How often an agency is asked what it states of itself."""
MISSING_AGAIN: Final = timedelta(seconds=5)
"""How often one that did not answer is asked again: so it is noticed to be back."""
DESCRIBE_TIMEOUT_S: Final = 5.0
"""How long that may take, seconds."""
_STATES: Final = {
    Reason.DEADLINE_PASSED: OutcomeState.TIMED_OUT,
    Reason.MESSAGE_TOO_LARGE: OutcomeState.INVALID,
    Reason.OUTCOME_INVALID: OutcomeState.INVALID,
}

SWITCHED_OFF: Final = "SWITCHED_OFF"
"""The reason of an outcome that a kill switch came before."""

ConsistencyProofs = Callable[[int, int], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One agency's part of a search, ready to be sent.

    Attributes:
        dossier: encoded once for all agencies.
        probe: sealed to this agency.
        expected: what a believable answer must fit.
        checkpoint_size: the size of the log that the dossier's proof leads to.
        timeout_s: how long the agency may take, seconds.
        is_off: whether a kill switch has turned the search off at this agency.
        evidence: what the agency is shown of the past.
    """

    dossier: bytes
    probe: SealedProbe
    expected: Expectation
    checkpoint_size: int
    timeout_s: float
    is_off: Callable[[], bool]
    evidence: Evidence = NO_EVIDENCE


class SwitchedOffError(Exception):
    """A kill switch came before the call: the agency was not asked."""


class AgencyClient:
    """One agency as dispatch knows it: a way there, its memory of our log, its availability."""

    def __init__(
        self,
        agency: str,
        link: AgencyLink,
        settings: BrokerSettings,
        directory: Callable[[], Directory],
        clock: Callable[[], datetime],
        consistency: ConsistencyProofs,
    ) -> None:
        self.agency = agency
        self.link = link
        self.memory = LogMemory()
        self.heard: Heard | None = None
        """What the agency last stated of itself, verified; how old it is, it says itself."""
        self._next_description = self._next_trial = datetime.min.replace(tzinfo=UTC)
        self.backoff = AgencyBackoff(
            agency,
            tolerated=settings.backoff_after_failures,
            first=timedelta(seconds=settings.backoff_first_s),
            longest=timedelta(seconds=settings.backoff_longest_s),
        )
        self._directory = directory
        self._clock = clock
        self._consistency = consistency
        self._skew = timedelta(seconds=settings.clock_skew_s)
        self._settings = settings
        self._room = asyncio.Semaphore(settings.max_calls_per_agency)

    async def ask(self, dispatch: Dispatch) -> AgencyAnswer:
        """Ask the agency and return its outcome; never raises but for cancellation."""
        began = perf_counter()
        with telemetry.span("ask agency", agency=self.agency):
            if not self.backoff.may_call(self._clock()):  # (1)
                return self._nothing(OutcomeState.UNAVAILABLE, Reason.SERVICE_UNREACHABLE, began)
            call = AgencyCall(self.backoff, self._settings)
            try:
                async with asyncio.timeout(dispatch.timeout_s):  # (2)
                    reply = await self._reply(dispatch, call, began + dispatch.timeout_s)
            except SwitchedOffError:  # (7)
                return AgencyAnswer(
                    Outcome(agency=self.agency, state=OutcomeState.NOT_ASKED, reason=SWITCHED_OFF)
                )
            except TimeoutError:
                failure = ProbegateError(Reason.DEADLINE_PASSED)
            except ProbegateError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - (5): a fault of ours is an outcome too
                failure = catalogued(error, "ask")
            else:
                call.answered()
                return self._answered(reply, dispatch, began)
        call.failed(failure, self._clock())  # (4)
        state = _STATES.get(failure.reason, OutcomeState.UNAVAILABLE)  # (5)
        nothing = self._nothing(state, failure.reason, began)
        silent = failure.reason in OUTAGES or call.wordless
        if call.asked and silent and state is not OutcomeState.INVALID:  # (6)
            return replace(nothing, asked_under=dispatch.expected.grant_sha256)
        return nothing

    async def collect(
        self,
        order_sha256: bytes,
        grant_sha256: bytes,
        timeout_s: float,
        *,
        is_off: Callable[[], bool],
        order: bytes = b"",
    ) -> Collected:
        """Ask for an answer that did not arrive, or what became of a held one (1) (2) (3) (7).

        Args:
            order_sha256: of the order that was answered.
            grant_sha256: of the grant it was answered under.
            order: the payload of that order, where the first answer is asked for; nothing where it
                is what followed a held one.
            timeout_s: how long the agency may take, seconds.
            is_off: whether a kill switch has turned the search off at this agency.

        Raises:
            SwitchedOffError: it was not asked.
            ProbegateError: ``SERVICE_UNREACHABLE``, ``DEADLINE_PASSED``, ``OUTCOME_INVALID`` for
                bytes that do not parse, or what the agency refuses with.
        """
        if not self.backoff.may_call(self._clock()):  # (1)
            raise ProbegateError(Reason.SERVICE_UNREACHABLE, agency=self.agency)
        request = wire.encode_collect(order_sha256, grant_sha256, order)
        call, deadline = AgencyCall(self.backoff, self._settings), perf_counter() + timeout_s

        async def asked(left: float) -> bytes:
            _require_on(call, is_off)  # (7)
            return await self.link.collect(request, left)

        try:
            async with asyncio.timeout(timeout_s), self._room:  # (2)
                data = await call.attempt(asked, deadline)
        except TimeoutError:
            failure = ProbegateError(Reason.DEADLINE_PASSED, agency=self.agency)
            call.failed(failure, self._clock())  # (4)
            raise failure from None
        except ProbegateError as error:
            call.failed(error, self._clock())  # (4)
            raise
        call.answered()
        return wire.decode_collected(data)

    async def refresh_description(self) -> None:
        """Ask what the agency states of itself, if it is time to; what fails is tried next time.

        An agency that could not be reached is asked too, whatever pause searches keep (1): one that
        answers is there again, and the next search asks it. One that was reached and did not answer
        a search in time is left alone. What it acknowledges of our log is not learnt: a search
        under way knows better.
        """
        now = self._clock()
        gone = self.backoff.last_reason is Reason.SERVICE_UNREACHABLE
        if not gone and (now < self._next_description or not self.backoff.may_call(now)):
            return
        if now < self._next_trial:
            return
        self._next_trial = now + MISSING_AGAIN
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT_S):
                data = await self.link.describe(DESCRIBE_TIMEOUT_S)
            self._next_description = now + DESCRIBE_EVERY
            if gone:
                self.backoff.answered()
            stated = wire.decode_description(data).capabilities
            if stated is not None:
                directory, at = self._directory(), self._clock()
                self.heard = heard_of(stated, self.agency, directory, at, self._skew)
        except (grpc.aio.AioRpcError, TimeoutError, ProbegateError) as error:
            failure = catalogued(error, "describe")
            telemetry.log("not described", agency=self.agency, reason=failure.reason.name)

    def _answered(self, reply: AgencyReply, dispatch: Dispatch, began: float) -> AgencyAnswer:
        answer = answer_of(
            reply,
            dispatch.expected,
            self._directory(),
            self._clock(),
            self._skew,
            _elapsed_ms(began),
        )
        if answer.outcome.state is not OutcomeState.INVALID:
            self.memory.learn(reply.acknowledged)
        return answer

    async def _reply(self, dispatch: Dispatch, call: AgencyCall, deadline: float) -> AgencyReply:
        async with self._room:
            if not self.memory.known:
                await self._learn(call, deadline)
            try:
                return await self._matched(dispatch, call, deadline)
            except ProbegateError as error:
                if error.reason not in _PROOF_WANTED:
                    raise
                refusal = error
            # The adapter's memory is not what we believed (it was restored, say): ask it, once.
            self.memory.forget()
            call.asked = False  # it refused, so what it is asked for now is all it may answer
            await self._learn(call, deadline)
            try:
                return await self._matched(dispatch, call, deadline)
            except SwitchedOffError:  # since it was asked, and refused
                raise refusal from None

    async def _learn(self, call: AgencyCall, deadline: float) -> None:
        data = await call.attempt(self.link.describe, deadline)
        self.memory.learn(wire.decode_description(data).acknowledged)

    async def _matched(self, dispatch: Dispatch, call: AgencyCall, deadline: float) -> AgencyReply:
        size = dispatch.checkpoint_size
        proofs = [(base, size, self._consistency(base, size)) for base in self.memory.bases(size)]
        self.memory.sent(size)
        request = wire.encode_match(dispatch.dossier, dispatch.probe, proofs, dispatch.evidence)

        async def match(left: float) -> bytes:
            _require_on(call, dispatch.is_off)  # (7)
            return await self.link.match(request, left)

        return wire.decode_reply(await call.attempt(match, deadline))

    def _nothing(self, state: OutcomeState, reason: Reason, began: float) -> AgencyAnswer:
        return AgencyAnswer(
            Outcome(
                agency=self.agency,
                state=state,
                reason=reason.name,
                latency_ms=_elapsed_ms(began),
            )
        )


_PROOF_WANTED: Final = frozenset({Reason.CHECKPOINT_INCONSISTENT, Reason.CHECKPOINT_UNRECONCILED})
"""Refusals that a proof from another size may cure; a real fork is refused again, and stays so."""


def _require_on(call: AgencyCall, is_off: Callable[[], bool]) -> None:
    """Let a call be made, or made again, only while no kill switch is off (7).

    Raises:
        SwitchedOffError: it was not made.
        ProbegateError: ``SERVICE_UNREACHABLE`` if it was, and is not repeated.
    """
    if is_off():
        raise ProbegateError(Reason.SERVICE_UNREACHABLE) if call.asked else SwitchedOffError
    call.asked = True


def _elapsed_ms(began: float) -> float:
    return (perf_counter() - began) * 1000.0


def outcome_metrics() -> Callable[[Sequence[AgencyAnswer]], None]:
    """Return a function that counts outcomes and their latencies; no-op when telemetry is off."""
    meter: metrics.Meter = telemetry.meter()
    outcomes = meter.create_counter(
        "probegate.outcomes", description="Outcomes by agency and state"
    )
    latency = meter.create_histogram(
        "probegate.agency.latency", unit="ms", description="How long agencies take"
    )

    def record(answers: Sequence[AgencyAnswer]) -> None:
        if not telemetry.enabled():
            return
        for answer in answers:
            labels = {"agency": answer.outcome.agency, "state": answer.outcome.state.value}
            outcomes.add(1, labels)
            latency.record(answer.outcome.latency_ms, {"agency": answer.outcome.agency})

    return record
