"""Asks for answers after a search has ended, and completes the searches they belong to.

1. Only answers of searches that have ended are asked for: those that say HELD under the agency's
   own signature, and those that did not come in time, or were lost on the way, and may have been
   given all the same. A cancelled search waits for nobody.
2. They are asked for at growing intervals: a held one until a while after the agency was to decide,
   and never longer than a limit of our own, whatever the agency says; a missing one for minutes.
   What is asked for, when and until when is in the database, so that a restart changes nothing.
3. What comes is believed exactly as a first answer is (``reports``): in the place of a HELD report
   only what follows that very one, in the place of nothing only a first answer to the very grant.
   What is not believed changes nothing, and is asked for again.
4. What is believed ends the search anew, by the code that first ended it (``ending``), and is
   marked late. A late answer may be HELD; then it is asked for on as held.
5. What a kill switch has turned off is not asked while it is off.
6. When nothing came in time, the search stays as it is: HELD, TIMED_OUT or UNAVAILABLE, never "no
   candidate" (promise 5).
7. What fails on one search is logged and tried again at the same intervals, and keeps no other from
   its answer. It is no fault of the agency's, so there is a day more for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker import leaves
from broker.backoff import pause
from broker.dispatch import AgencyClient, SwitchedOffError
from broker.ending import Ending, replaced
from broker.held_store import HeldRow, HeldStore
from broker.models import AgencyAnswer, SearchRecord
from broker.reports import Collected, Expectation, answer_of
from broker.settings import BrokerSettings
from broker.store import SearchStore
from policy.ledger import Ledger
from trust import telemetry
from trust.clock import Clock
from trust.directory import Directory
from trust.errors import ProbegateError
from trust.messages import OutcomeState, SearchLimits
from trust.rpc import catalogued
from trust.wire import decode_order, decode_report

AT_ONCE: Final = 32
"""Most answers asked for at once."""
OUR_FAULT: Final = timedelta(days=1)
"""How long an answer is asked for beyond its time where we failed to keep it, days."""
_MISSING: Final = frozenset({OutcomeState.TIMED_OUT, OutcomeState.UNAVAILABLE})
"""How an agency has ended whose answer did not come."""


@dataclass(frozen=True, slots=True)
class HeldAnswers:
    """Asks for held and late answers; the broker's core has one.

    Attributes:
        settings: how often and how long.
        held: which are asked for.
        store: the searches they belong to.
        ledger: the kill switches.
        ending: ends those anew.
        agencies: every agency of the directory, ready to be asked.
        directory: returns the directory in force.
        clock: the time.
    """

    settings: BrokerSettings
    held: HeldStore
    store: SearchStore
    ledger: Ledger
    ending: Ending
    agencies: Mapping[str, AgencyClient]
    directory: Callable[[], Directory]
    clock: Clock

    async def collect(self) -> None:
        """Ask once for every answer that is due.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        rows = await self.held.due(self.clock(), AT_ONCE)
        asking = (self._asked(row) for row in rows)
        collected = await asyncio.gather(*asking, return_exceptions=True)
        for row, said in zip(rows, collected, strict=True):
            try:
                await self._done_with(row, said)
            except Exception as error:  # noqa: BLE001 - (7): whatever it is, others go on
                await self._failed(row, error)

    async def _done_with(self, row: HeldRow, said: Collected | BaseException | None) -> None:
        """Complete the search with what came, or ask again later."""
        if isinstance(said, BaseException):
            raise said
        if said is None or not await self._completed(row, said):
            await self._wait(row, said)

    async def _failed(self, row: HeldRow, error: Exception) -> None:
        """Ask again later (7)."""
        failure = catalogued(error, "collect")
        telemetry.log(
            "answer not kept",
            agency=row.agency,
            search_id=row.search_id,
            reason=failure.reason.name,
        )
        with suppress(ProbegateError):  # then it is due still
            if self.clock() < row.until + OUR_FAULT:
                await self.held.asked(row, row.until, self._next(row))
            else:
                await self._given_up(row)

    async def _given_up(self, row: HeldRow) -> None:
        await self.held.given_up(row)
        telemetry.log("answer given up", agency=row.agency, search_id=row.search_id)

    async def _asked(self, row: HeldRow) -> Collected | None:
        """Ask for one answer; nothing where nobody could be asked, or nothing came of it."""
        record = await self.store.get(row.force, row.search_id)
        client = self.agencies.get(row.agency)
        expected = _expectation(record, row) if record is not None else None
        payload = await self.store.order_payload(row.search_id)
        if client is None or expected is None or payload is None:
            return None
        order = decode_order(payload)

        def is_off() -> bool:
            return self.ledger.is_switched_off(row.agency, row.force, order)

        if is_off():  # (5)
            return None
        try:
            return await client.collect(
                expected.order_sha256,
                expected.grant_sha256,
                self.settings.agency_timeout_s,
                is_off=is_off,
                order=payload if row.late else b"",
            )
        except SwitchedOffError:  # (5), while it waited for its turn
            return None
        except ProbegateError as error:
            telemetry.log(
                "answer not collected",
                agency=row.agency,
                search_id=row.search_id,
                reason=error.reason.name,
            )
            return None

    async def _completed(self, row: HeldRow, said: Collected) -> bool:
        """Complete the search with what came, if that can be believed (3) (4)."""
        if said.reply is None:
            return False
        # Read again: another agency's answer may have ended it anew since.
        record = await self.store.get(row.force, row.search_id)
        expected = _expectation(record, row) if record is not None else None
        order = await self.store.order(row.search_id)
        if record is None or expected is None or order is None:
            return False
        now = self.clock()
        skew = timedelta(seconds=self.settings.clock_skew_s)
        before = next(a for a in record.answers if a.outcome.agency == row.agency)
        answer = answer_of(
            said.reply, expected, self.directory(), now, skew, before.outcome.latency_ms
        )
        if answer.outcome.state is OutcomeState.INVALID:
            telemetry.log(
                "answer not believed",
                agency=row.agency,
                search_id=row.search_id,
                reason=answer.outcome.reason,
            )
            return False
        await self._complete(record, answer, order.limits)
        return True

    async def _complete(
        self, record: SearchRecord, late: AgencyAnswer, limits: SearchLimits
    ) -> None:
        """End a search anew with an answer that came after its end (4)."""
        agency = late.outcome.agency
        kept = await self.store.links(record.search_id)
        answers = tuple(
            late if a.outcome.agency == agency else replace(a, links=kept.get(a.outcome.agency))
            for a in record.answers
        )
        await self.ending.conclude(
            record, answers, record.state, limits, replaces=replaced(record), came={agency}
        )
        telemetry.log(
            "answer came",
            agency=agency,
            search_id=record.search_id,
            state=late.outcome.state.value,
        )

    async def _wait(self, row: HeldRow, said: Collected | None) -> None:
        """Ask again later, unless it is late enough to give up (2) (6)."""
        now, until = self.clock(), row.until
        if said is not None and said.decide_by is not None and not row.late:
            margin, last = timedelta(hours=self.settings.held_margin_h), self._last(row)
            # Ours first: what an agency says may lie at the end of the calendar.
            until = min(last, min(last, said.decide_by) + margin)
        if now >= until:
            await self._given_up(row)
            return
        await self.held.asked(row, until, self._next(row))

    def _next(self, row: HeldRow) -> datetime:
        first, longest = self.settings.held_first_s, self.settings.held_longest_s
        if row.late:
            first, longest = self.settings.late_first_s, self.settings.late_longest_s
        return self.clock() + pause(row.asked + 1, first, longest)

    def _last(self, row: HeldRow) -> datetime:
        return row.held_at + timedelta(hours=self.settings.held_at_most_h)


def _expectation(record: SearchRecord, row: HeldRow) -> Expectation | None:
    """Return what a believable answer must fit, or None if none is to come there (1) (3)."""
    answer = next((a for a in record.answers if a.outcome.agency == row.agency), None)
    decision = next((d for d in record.decisions if d.agency == row.agency), None)
    if answer is None or decision is None or decision.obligations is None:
        return None
    if row.late:
        if answer.outcome.state not in _MISSING:
            return None
        grant_sha256, held_sha256 = row.grant_sha256, b""
    elif answer.outcome.state is OutcomeState.HELD and answer.report is not None:
        grant_sha256 = decode_report(answer.report.payload).grant_sha256
        held_sha256 = leaves.sha256(answer.report.payload)
    else:
        return None
    return Expectation(
        search_id=record.search_id,
        agency=row.agency,
        order_sha256=record.order_sha256,
        grant_sha256=grant_sha256,
        granted_at=record.created_at,
        obligations=decision.obligations,
        held_sha256=held_sha256,
    )
