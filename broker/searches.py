"""One search from its recording to its signed end: steps 5 to 9 of the architecture.

1. Recorded before anything is sent: the search's row, its place in the ledger and its log entry
   commit together, and only then does a grant exist (promise 1).
2. All permitted agencies are asked at once, each with its own deadline.
3. Every agency of the order ends with exactly one outcome (promise 5).
4. The result is signed, its digest logged and its row written in one commit, and only then is
   anybody told that the search has ended (promise 8).
5. If the log cannot take the end of a search, the search stays running with every answer it has,
   and its end is tried again at growing intervals until the log takes it; only who asks for the end
   is told why there is none yet. Where the broker is closed before, or what is wrong does not pass,
   the next start goes on with it.
6. A search that was running when a process died goes on at the next start under the very grant it
   had; where that has expired, what is missing is an outcome that says so, and is asked for
   afterwards (``held``): an agency may have answered the process that died.
7. What a kill switch turned off since the decision is not asked, up to the call (``dispatch``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from audit.organisation import CANNOT_RECORD
from audit.tables import storage_failure
from audit.writer import LogWriter, NewEntry
from broker import leaves, wire
from broker.backoff import pause
from broker.decisions import grant_for
from broker.dispatch import SWITCHED_OFF, AgencyClient, Dispatch
from broker.ending import Ending
from broker.history import History
from broker.models import (
    AdmittedOrder,
    AgencyAnswer,
    AgencyDecision,
    Asked,
    Ruling,
    SearchRecord,
    SearchState,
)
from broker.reports import Expectation
from broker.running import Recorded, RunningSearch
from broker.settings import BrokerSettings
from broker.store import SearchStore, Unfinished
from broker.urgency import urgent_uses
from policy.ledger import Ledger, UrgentUse
from trust import dsse, telemetry
from trust.clock import Clock
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import Outcome, OutcomeState, SearchGrant, SearchOrder
from trust.payload_types import PayloadType
from trust.wire import encode_grant

CANCELLED: Final = "SEARCH_CANCELLED"
"""The reason of an outcome that a cancelled search did not wait for."""
RESTARTED: Final = "BROKER_RESTARTED"
"""The reason of an outcome that a restart came between."""
END_FIRST_S: Final = 0.1
"""How long after it could not be recorded a search's end is tried again, seconds; it doubles."""
END_LONGEST_S: Final = 10.0
"""Longest time between two such attempts, seconds."""
_PASSING: Final = CANNOT_RECORD - {Reason.LOG_CORRUPT}
"""Why a search's end is not recorded yet, and may be later."""


class Searches:
    """Runs searches; the broker's core has one.

    Args:
        settings: limits and times.
        store: where searches are kept.
        ledger: what later decisions are made on.
        history: what an agency is shown of the past.
        log: the search log.
        signer: the broker's envelope key.
        ending: ends searches.
        agencies: every agency of the directory, ready to be asked.
        clock: the time.
    """

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        store: SearchStore,
        ledger: Ledger,
        history: History,
        log: LogWriter,
        signer: Signer,
        ending: Ending,
        agencies: Mapping[str, AgencyClient],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._history = history
        self._log = log
        self._signer = signer
        self._ending = ending
        self._agencies = agencies
        self._clock = clock
        self._running: dict[str, RunningSearch] = {}
        self._starting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._lifetime = timedelta(seconds=settings.grant_lifetime_s)

    def running(self, search_id: str) -> RunningSearch | None:
        """Return a search that this process is running, or none."""
        return self._running.get(search_id)

    @property
    def count(self) -> int:
        """How many searches are under way here."""
        return len(self._running)

    async def start(
        self, search_id: str, admitted: AdmittedOrder, ruling: Ruling, directory_version: int
    ) -> RunningSearch:
        """Record a search (1) and set it going.

        Raises:
            ProbegateError: ``SERVER_BUSY``, ``ORDER_REPLAYED``, ``LOG_UNAVAILABLE`` or
                ``DISK_FULL``; nothing was sent to anybody.
        """
        # What is being recorded counts: however many come at once, none begins beyond the limit.
        if len(self._running) + self._starting >= self._settings.max_running_searches:
            raise ProbegateError(Reason.SERVER_BUSY)
        self._starting += 1
        try:
            return await self._start(search_id, admitted, ruling, directory_version)
        finally:
            self._starting -= 1

    async def _start(
        self, search_id: str, admitted: AdmittedOrder, ruling: Ruling, directory_version: int
    ) -> RunningSearch:
        urgent = urgent_uses(search_id, ruling)
        appended = await self._log.append(  # (1)
            NewEntry(
                leaf=leaves.order_leaf(search_id, admitted, ruling, directory_version),
                private=leaves.private_facts(admitted, ruling.standing),
                retain_until=(
                    admitted.admitted_at + timedelta(days=self._settings.values_retain_days)
                ),
                also=self._recording(search_id, admitted, ruling, urgent),
            )
        )
        self._ledger.urgent.recorded(urgent)
        record = SearchRecord(
            search_id=search_id,
            request_id=admitted.order.request_id,
            force=admitted.order.force,
            order_sha256=admitted.sha256,
            state=SearchState.RUNNING,
            created_at=admitted.admitted_at,
            decisions=ruling.decisions,
            agencies=len(ruling.decisions),
            order_index=appended.index,
            warnings=ruling.warnings,
        )
        recorded = Recorded(
            leaf=appended.leaf,
            index=appended.index,
            proof=appended.proof,
            checkpoint=appended.checkpoint.note,
            checkpoint_size=appended.checkpoint.checkpoint.size,
        )
        return self._go(record, admitted, recorded, ruling.policy_sha256, ruling.asked)

    def _recording(
        self,
        search_id: str,
        admitted: AdmittedOrder,
        ruling: Ruling,
        urgent: tuple[UrgentUse, ...],
    ) -> Callable[[Connection, int], None]:
        """Return what is written in the transaction of a search's log entry (1)."""
        row = self._store.new(search_id, admitted, ruling.decisions, ruling.warnings)

        def write(connection: Connection, index: int) -> None:
            row(connection, index)
            self._ledger.write_use(
                connection, ruling.asked.subjects, ruling.permitted, admitted.admitted_at
            )
            for use in urgent:
                self._ledger.urgent.write(connection, use)

        return write

    async def resume(self) -> int:
        """Go on with every search that a dead process left running (6); return how many."""
        found = await self._store.unfinished()
        for unfinished in found:
            self._resume(unfinished)
        return len(found)

    def _resume(self, unfinished: Unfinished) -> None:
        leaf = self._log.leaf(unfinished.order_index)
        stated = json.loads(leaf)
        checkpoint = self._log.checkpoint
        size = checkpoint.checkpoint.size
        admitted = AdmittedOrder(
            order=unfinished.order,
            envelope=unfinished.envelope,
            sha256=unfinished.record.order_sha256,
            probes=unfinished.probes,
            admitted_at=datetime.fromisoformat(stated["at"]),
        )
        recorded = Recorded(
            leaf=leaf,
            index=unfinished.order_index,
            proof=self._log.inclusion(unfinished.order_index, size),
            checkpoint=checkpoint.note,
            checkpoint_size=size,
        )
        asked = self._history.asked(unfinished.record.search_id, unfinished.order)
        policy_sha256 = bytes.fromhex(stated["policy_sha256"])
        self._go(unfinished.record, admitted, recorded, policy_sha256, asked)

    def _go(
        self,
        record: SearchRecord,
        admitted: AdmittedOrder,
        recorded: Recorded,
        policy_sha256: bytes,
        asked: Asked,
    ) -> RunningSearch:
        grant = grant_for(
            record.search_id,
            record.order_sha256,
            recorded.leaf,
            policy_sha256,
            record.decisions,
            admitted.admitted_at,
            self._lifetime,
        )
        search = RunningSearch(record, grant, admitted.order.limits)
        self._running[record.search_id] = search
        for decision in record.decisions:
            if not decision.permitted:
                search.settle(_denied(decision))
        task = asyncio.get_running_loop().create_task(self._run(search, admitted, recorded, asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return search

    async def _run(
        self, search: RunningSearch, admitted: AdmittedOrder, recorded: Recorded, asked: Asked
    ) -> None:
        try:
            with telemetry.span("search", search_id=search.record.search_id):
                if search.grant is not None:
                    await self._ask_all(search, search.grant, admitted, recorded, asked)
                record = await self._ended(search)
        except Exception as error:  # (5) # noqa: BLE001 - whatever it is, the search is not ended
            failure = (
                error if isinstance(error, ProbegateError) else ProbegateError(Reason.UNEXPECTED)
            )
            self._tell(search, failure)
            search.ended.set_exception(failure)
            search.ended.exception()  # nobody may be waiting, which is no fault
        else:
            search.ended.set_result(record)
        finally:
            self._running.pop(search.record.search_id, None)
            search.ended.cancel()  # no effect unless this task itself was cancelled
            search.notify()

    async def _ask_all(
        self,
        search: RunningSearch,
        grant: SearchGrant,
        admitted: AdmittedOrder,
        recorded: Recorded,
        asked: Asked,
    ) -> None:
        payload = encode_grant(grant)
        grant_sha256 = leaves.sha256(payload)
        if self._clock() >= grant.expires_at:  # (6)
            for permit in grant.permits:
                lost = _nothing(permit.agency, OutcomeState.UNAVAILABLE, RESTARTED)
                search.settle(replace(lost, asked_under=grant_sha256))
            return
        envelope = dsse.sign(PayloadType.SEARCH_GRANT, payload, self._signer)
        dossier = wire.encode_dossier(
            admitted.envelope,
            envelope,
            recorded.leaf,
            recorded.index,
            recorded.proof,
            recorded.checkpoint,
        )
        timeout_s = min(self._settings.agency_timeout_s, admitted.order.limits.timeout_ms / 1000)
        probes = {probe.agency: probe for probe in admitted.probes}
        for permit in grant.permits:  # (2)
            client = self._agencies.get(permit.agency)
            if client is None:
                reason = Reason.AGENCY_UNKNOWN.name
                search.settle(_nothing(permit.agency, OutcomeState.UNAVAILABLE, reason))
                continue
            is_off = self._switch_of(permit.agency, admitted.order)
            if is_off():  # (7)
                search.settle(_nothing(permit.agency, OutcomeState.NOT_ASKED, SWITCHED_OFF))
                continue
            dispatch = Dispatch(
                dossier=dossier,
                probe=probes[permit.agency],
                expected=Expectation(
                    search_id=grant.search_id,
                    agency=permit.agency,
                    order_sha256=grant.order_sha256,
                    grant_sha256=grant_sha256,
                    granted_at=grant.issued_at,
                    obligations=permit.obligations,
                ),
                checkpoint_size=recorded.checkpoint_size,
                timeout_s=timeout_s,
                is_off=is_off,
            )
            search.asking[permit.agency] = asyncio.create_task(
                self._ask(search, client, dispatch, asked)
            )
        if search.cancelled:  # before this task first ran
            search.cancel()
        if search.asking:
            await asyncio.wait(search.asking.values())
        for agency, task in search.asking.items():
            if task.cancelled():
                search.settle(_nothing(agency, OutcomeState.TIMED_OUT, CANCELLED))

    def _switch_of(self, agency: str, order: SearchOrder) -> Callable[[], bool]:
        """Return what tells whether a kill switch has turned an order off at an agency (7)."""
        return lambda: self._ledger.is_switched_off(agency, order.force, order)

    async def _ask(
        self, search: RunningSearch, client: AgencyClient, dispatch: Dispatch, asked: Asked
    ) -> None:
        try:
            evidence = await self._history.evidence(
                client.agency, asked, dispatch.checkpoint_size, self._clock()
            )
        except ProbegateError as error:
            telemetry.log("evidence not read", reason=error.reason.name)
            search.settle(_nothing(client.agency, OutcomeState.UNAVAILABLE, error.reason.name))
            return
        search.settle(await client.ask(replace(dispatch, evidence=evidence)))

    async def _ended(self, search: RunningSearch) -> SearchRecord:
        """End a search, if not at once then later (5), and return it.

        Raises:
            ProbegateError: what does not pass, or anything once the broker is closing.
        """
        tried = 0
        while True:
            closing = self._closing.is_set()
            try:
                return await self._end(search)
            except (ProbegateError, SQLAlchemyError) as error:
                failure = _refused(error)
                if failure.reason not in _PASSING or closing:
                    raise failure from error
                self._tell(search, failure)
                search.refused(failure)
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    pause(tried, END_FIRST_S, END_LONGEST_S).total_seconds()
                ):
                    await self._closing.wait()
            tried += 1
            if (record := await self._ended_otherwise(search)) is not None:
                return record

    async def _ended_otherwise(self, search: RunningSearch) -> SearchRecord | None:
        """Return a search that has ended: by a commit whose fate was unknown, or elsewhere."""
        record = search.record
        with suppress(ProbegateError):  # then the end is tried again, which says what is wrong
            kept = await self._store.get(record.force, record.search_id)
            if kept is not None and kept.state is not SearchState.RUNNING:
                return kept
        return None

    def _tell(self, search: RunningSearch, failure: ProbegateError) -> None:
        telemetry.log(
            "search not ended", search_id=search.record.search_id, reason=failure.reason.name
        )

    async def _end(self, search: RunningSearch) -> SearchRecord:
        answers = tuple(  # (3)
            search.answers.get(decision.agency)
            or _nothing(decision.agency, OutcomeState.NOT_ASKED, Reason.UNEXPECTED.name)
            for decision in search.record.decisions
        )
        state = SearchState.CANCELLED if search.cancelled else SearchState.FINISHED
        return await self._ending.conclude(  # (4)
            search.record, answers, state, search.limits
        )

    async def follow(self, search: RunningSearch) -> AsyncIterator[AgencyAnswer]:
        """Yield each outcome of a running search once, as it comes, until the search ends."""
        told: set[str] = set()
        while True:
            changed = search.changed
            for agency, answer in list(search.answers.items()):
                if agency not in told:
                    told.add(agency)
                    yield answer
            if search.ended.done():
                return
            await changed.wait()

    async def close(self, grace_s: float) -> None:
        """Let searches under way end for ``grace_s`` seconds; the rest go on at the next start."""
        self._closing.set()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=grace_s)
            for task in late:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def _refused(error: ProbegateError | SQLAlchemyError) -> ProbegateError:
    """Return why an end was not recorded: the log's refusal, or the database's beside its entry."""
    if isinstance(error, SQLAlchemyError):
        return storage_failure(error, Reason.STATE_UNAVAILABLE)
    return error


def _denied(decision: AgencyDecision) -> AgencyAnswer:
    return AgencyAnswer(
        Outcome(
            agency=decision.agency,
            state=OutcomeState.DENIED,
            reason=decision.code,
            failed_clauses=decision.failed_clauses,
            decided_by="broker",
        )
    )


def _nothing(agency: str, state: OutcomeState, reason: str) -> AgencyAnswer:
    return AgencyAnswer(Outcome(agency=agency, state=state, reason=reason))
