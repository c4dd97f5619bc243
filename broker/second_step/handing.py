"""Hands recorded requests for disclosure to their owners, and asks what became of them.

1. A request is handed over with everything needed to refuse it: the order, the reviews with their
   reviewers' tokens, the revocations we know of, and the proof that all of it is on our log.
2. It is tried at growing intervals until the agency takes or refuses it, then asked about until the
   owner has decided, or a while after it was to. What is tried, when and until when is in the
   database: a restart changes nothing, and what is repeated are the same signed bytes.
3. An agency's refusal ends it as REFUSED, with that reason. A failure that says nothing about the
   request does not.
4. A decision is believed only if it verifies (``decisions``). One that does not is on the log,
   changes nothing, and is asked for again.
5. A request that stands on a revoked reviewer's review ends as REFUSED before anything else is done
   with it; details that came meanwhile are not kept.
6. What a kill switch has turned off is left alone while it is off.
7. When nothing came in time, it has lapsed, whatever its agency says of it meanwhile. Every end is
   on the log in the commit that makes it.
8. Sealed details are erased once they are past their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from audit.leaves import JsonValue
from audit.writer import LogWriter, NewEntry
from broker.backoff import pause
from broker.second_step import leaves
from broker.second_step.agreed import Agreed
from broker.second_step.decisions import decision_of
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.models import Disclosure, DisclosureState, Released
from broker.second_step.orders import Orders
from broker.second_step.releasing import Releasing, passes
from broker.second_step.review_store import ReviewStore
from broker.settings import BrokerSettings
from broker.storing import Write
from trust import telemetry
from trust.clock import Clock
from trust.directory import Directory
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.rpc import catalogued

AT_ONCE: Final = 32
"""Most requests worked on at once."""
MAX_REVOCATIONS: Final = 64
"""Most revocations shown with one request, the newest."""
ERASED: Final = "ERASED"
"""The reason of a request whose order or own text was erased before its end."""


@dataclass(frozen=True, slots=True)
class Handing:
    """Works on requests; the broker's core has one.

    Attributes:
        settings: how often and how long.
        disclosures: the requests.
        reviews: what they stand on.
        orders: the searches' orders.
        agreed: the kill switches.
        releasing: reaches agencies.
        log: the search log.
        directory: returns the directory in force.
        clock: the time.
    """

    settings: BrokerSettings
    disclosures: DisclosureStore
    reviews: ReviewStore
    orders: Orders
    agreed: Agreed
    releasing: Releasing
    log: LogWriter
    directory: Callable[[], Directory]
    clock: Clock

    async def work(self) -> None:
        """Do once what is due, and erase what is past its end (8).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        await self.disclosures.erase_expired(self.clock())
        due = await self.disclosures.due(self.clock(), AT_ONCE)
        await asyncio.gather(*(self._one(record) for record in due))

    async def refuse_revoked(self, force: str) -> None:
        """End every open request of a force that stands on a revoked reviewer's review (5).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or the log's own failure.
        """
        for record in await self.disclosures.open_of(force):
            await self._refused_if_revoked(record)

    async def _one(self, record: Disclosure) -> None:
        """Work on one request; what fails is tried again, and keeps no other waiting."""
        try:
            await self._work_on(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, others go on
            failure = catalogued(error, "hand over")
            telemetry.log(
                "disclosure not worked on", agency=record.agency, reason=failure.reason.name
            )

    async def _work_on(self, record: Disclosure) -> None:
        if await self._refused_if_revoked(record):  # (5)
            return
        try:
            order, envelope = await self.orders.of(record.search_id)
        except ProbegateError as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            await self._refused(record, ERASED, leaves.BROKER)
            return
        if record.said is None:
            await self._refused(record, ERASED, leaves.BROKER)
            return
        if not self.agreed.is_switched_off(order, record.agency):  # (6)
            waiting = record.state is DisclosureState.WAITING
            ended = await (self._asked(record) if waiting else self._handed(record, envelope))
            if ended:
                return
        elif self.clock() < record.until:
            await self._again(record)
            return
        if self.clock() >= record.until:
            now = self.clock()
            await self._end(  # (7)
                leaves.disclosure_lapsed(record, now),
                self.disclosures.ended(record, DisclosureState.LAPSED, ""),
            )

    async def _handed(self, record: Disclosure, order: Envelope) -> bool:
        """Hand a request over (1); say whether nothing is left to do with it for now."""
        try:
            taken = await self.releasing.hand_over(
                order, record, await self._reviews(record), await self._revocations(record.force)
            )
        except ProbegateError as error:
            return await self._failed(record, error)
        first = timedelta(seconds=self.settings.release_first_s)
        decide_by = self._decide_by(record, taken)
        await self.disclosures.waits(
            record, taken.decide_by and decide_by, self._until(decide_by), self.clock() + first
        )
        return True

    async def _asked(self, record: Disclosure) -> bool:
        """Ask what became of a request; say whether nothing is left to do with it for now."""
        try:
            came = await self.releasing.became(record.agency, record.request_sha256)
        except ProbegateError as error:
            if error.reason is Reason.NOT_FOUND:  # it was restored from before it took it, say
                await self.disclosures.hand_over_again(record, self._next(record))
                return False
            self._tell(record, error)
            await self._again(record)
            return False
        if came.decision is None:
            if came.decide_by is not None:
                await self._again(record, self._until(self._decide_by(record, came)))
            else:
                await self._again(record)
            return False
        return await self._believed(record, came)

    async def _believed(self, record: Disclosure, came: Released) -> bool:
        """Keep a decision if it can be believed (4); say whether it was."""
        now, skew = self.clock(), timedelta(seconds=self.settings.clock_skew_s)
        payload = came.decision.payload if came.decision else b""
        try:
            said = decision_of(came, record, self.directory(), now, skew)
        except ProbegateError as error:
            leaf = leaves.disclosure_disbelieved(record, payload, error.reason.name, now)
            await self.log.append(NewEntry(leaf=leaf))
            self._tell(record, error)
            await self._again(record)
            return False
        try:
            await self.log.append(
                NewEntry(
                    leaf=leaves.disclosure_decided(record, said, payload, now),
                    also=self.disclosures.decided(record, said, came),
                )
            )
        except ProbegateError as error:
            if error.reason is not Reason.REVIEWER_REVOKED:
                raise
            await self._refused(record, error.reason.name, leaves.BROKER)  # (5)
        return True

    async def _failed(self, record: Disclosure, error: ProbegateError) -> bool:
        """Take in why a request was not taken; say whether that ends it (3)."""
        self._tell(record, error)
        if passes(error):
            await self._again(record)
            return False
        await self._refused(record, error.reason.name, leaves.AGENCY)
        return True

    async def _refused_if_revoked(self, record: Disclosure) -> bool:
        said = record.said
        if said is None:
            return False
        if await self.disclosures.still_stands(said):
            return False
        await self._refused(record, Reason.REVIEWER_REVOKED.name, leaves.BROKER)
        return True

    async def _refused(self, record: Disclosure, reason: str, by: str) -> None:
        await self._end(
            leaves.disclosure_refused(record, reason, by, self.clock()),
            self.disclosures.ended(record, DisclosureState.REFUSED, reason),
        )

    async def _end(self, leaf: dict[str, JsonValue], also: Write) -> None:
        """Put a request's end on the log, in the commit that makes it (7)."""
        try:
            await self.log.append(NewEntry(leaf=leaf, also=also))
        except ProbegateError as error:
            if error.reason is not Reason.SERVER_BUSY:  # it has ended otherwise, or will next time
                raise

    async def _reviews(self, record: Disclosure) -> list[tuple[Envelope, str, int]]:
        """Return the reviews that a request names, in its sequence (1)."""
        reviewed = await self.reviews.of(record.force, record.search_id)
        by_digest = {one.sha256: one for one in reviewed.kept}
        named = record.said.review_sha256s if record.said else ()
        found = [by_digest[digest] for digest in named]
        return [(one.envelope, one.token, one.leaf_index) for one in found]

    async def _revocations(self, force: str) -> list[Envelope]:
        kept = await self.reviews.revocations(force)
        return [one.envelope for one in kept if one.envelope.payload][-MAX_REVOCATIONS:]

    async def _again(self, record: Disclosure, until: datetime | None = None) -> None:
        await self.disclosures.asked(record, self._next(record), until or record.until)

    def _next(self, record: Disclosure) -> datetime:
        first, longest = self.settings.release_first_s, self.settings.release_longest_s
        return self.clock() + pause(record.asked + 1, first, longest)

    def _decide_by(self, record: Disclosure, said: Released) -> datetime:
        """Return by when an owner is to decide, within limits of our own (2)."""
        last = record.created_at + timedelta(hours=self.settings.release_at_most_h)
        # Ours first: what an agency says may lie at either end of the calendar.
        return max(min(said.decide_by or last, last), record.created_at)

    def _until(self, decide_by: datetime) -> datetime:
        return decide_by + timedelta(hours=self.settings.release_margin_h)

    def _tell(self, record: Disclosure, error: ProbegateError) -> None:
        telemetry.log(
            "disclosure not advanced",
            agency=record.agency,
            search_id=record.search_id,
            reason=error.reason.name,
        )
