"""Asks agencies for recalls, and keeps those that concern a search of ours for its force.

1. Every agency that is there is asked for what came after the last number it was heard on. How far
   that is commits with the entry that records what was heard.
2. A recall is believed only if it is signed by keys that the directory lists for that agency, now,
   is by that agency, of this moment or before, of a search of ours by its order's digest, and of a
   reference in that agency's report. Once what that agency found is gone it is enough that it was
   permitted to answer: details of a candidate are kept for longer than what listed it.
3. One that is not believed is on the log and passed over. The agency is then left alone for a
   growing while: it cannot fill the log.
4. One that is known already changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from audit.writer import LogWriter, NewEntry
from broker.backoff import pause
from broker.second_step import leaves
from broker.second_step.models import NumberedRecall
from broker.second_step.notice_store import RecallStore
from broker.second_step.opening import found_is_gone, require_listed
from broker.second_step.orders import Orders
from broker.second_step.releasing import Releasing
from broker.settings import BrokerSettings
from broker.store import SearchStore
from broker.storing import together
from trust import dsse, telemetry
from trust.clock import Clock
from trust.directory import Directory, KeyUse, Role
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType
from trust.rpc import catalogued
from trust.second_step import Recall
from trust.wire import decode

MAX_NUMBER: Final = 2**53 - 1
"""Largest number of a recall that an entry of the log can state."""
MAX_RECALL_BYTES: Final = 64 * 1024
"""Largest payload of a recall, bytes."""
_OURS: Final = frozenset({Reason.LOG_UNAVAILABLE, Reason.STATE_UNAVAILABLE, Reason.DISK_FULL})


@dataclass(slots=True)
class _Patience:
    """How an agency that sent what is not believed is left alone: pace, not state."""

    times: int = 0
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recalling:
    """Asks for recalls; the broker's core has one."""

    settings: BrokerSettings
    store: SearchStore
    orders: Orders
    recalls: RecallStore
    releasing: Releasing
    log: LogWriter
    directory: Callable[[], Directory]
    clock: Clock
    _patience: dict[str, _Patience] = field(default_factory=dict)

    async def work(self) -> None:
        """Ask once every agency that is there (1)."""
        agencies = [member.id for member in self.directory().members(Role.AGENCY)]
        await asyncio.gather(*(self._one(agency) for agency in agencies))

    async def _one(self, agency: str) -> None:
        patience = self._patience.setdefault(agency, _Patience())
        now = self.clock()
        if not self.releasing.may_call(agency) or (
            patience.not_before is not None and now < patience.not_before
        ):
            return
        try:
            believed = await self._ask(agency)
        except Exception as error:  # noqa: BLE001 - whatever it is, others go on
            failure = catalogued(error, "recalls")
            telemetry.log("recalls not heard", agency=agency, reason=failure.reason.name)
            return
        if believed:
            patience.times, patience.not_before = 0, None
        else:  # (3)
            patience.times += 1
            first, longest = self.settings.release_first_s, self.settings.release_longest_s
            patience.not_before = self.clock() + pause(patience.times, first, longest)

    async def _ask(self, agency: str) -> bool:
        """Hear an agency; say whether all that it sent was believed."""
        after = await self.recalls.after(agency)
        for one in await self.releasing.recalls(agency, after):
            if not after < one.number <= MAX_NUMBER:
                telemetry.log("recall out of turn", agency=agency)
                return False
            if not await self._heard(agency, one):
                return False
            after = one.number
        return True

    async def _heard(self, agency: str, one: NumberedRecall) -> bool:
        now = self.clock()
        heard = self.recalls.heard(agency, one.number)
        try:
            said, force = await self._believed(agency, one, now)
        except ProbegateError as error:
            if error.reason in _OURS:
                raise
            leaf = leaves.recall_disbelieved(
                agency, one.number, one.envelope.payload, error.reason.name, now
            )
            await self.log.append(NewEntry(leaf=leaf, also=heard))
            return False
        if await self.recalls.known(agency, said.recall_id):  # (4)
            await self.recalls.pass_over(agency, one.number)
            return True
        received = self.recalls.received(force, said, one.envelope)
        leaf = leaves.recall_received(said, one.envelope.payload, now)
        await self.log.append(NewEntry(leaf=leaf, also=together(received, heard)))
        telemetry.log("recall received", agency=agency, search_id=said.search_id)
        return True

    async def _believed(
        self, agency: str, one: NumberedRecall, now: datetime
    ) -> tuple[Recall, str]:
        """Return a recall and the force it concerns (2).

        Raises:
            ProbegateError: an envelope's or key's reason, ``NOTICE_INVALID``, or
                ``MESSAGE_TOO_LARGE``.
        """
        if len(one.envelope.payload) > MAX_RECALL_BYTES:
            raise ProbegateError(Reason.MESSAGE_TOO_LARGE)
        resolve = self.directory().resolver(agency, KeyUse.SIGN, now)
        dsse.verify(one.envelope, PayloadType.RECALL, resolve)
        said = decode(Recall, one.envelope.payload)
        if said.agency != agency:
            raise ProbegateError(Reason.NOTICE_INVALID, field="agency")
        if said.recalled_at > now + timedelta(seconds=self.settings.clock_skew_s):
            raise ProbegateError(Reason.NOTICE_INVALID, field="recalled_at")
        force = await self.orders.force_of(said.search_id)
        record = await self.store.get(force, said.search_id) if force else None
        if record is None or record.order_sha256 != said.order_sha256:
            raise ProbegateError(Reason.NOTICE_INVALID, field="search_id")
        if not found_is_gone(record, agency):
            require_listed(record, said, (said.reference,), Reason.NOTICE_INVALID)
        elif not any(one.agency == agency and one.permitted for one in record.decisions):
            raise ProbegateError(Reason.NOTICE_INVALID, field="agency")
        return said, record.force
