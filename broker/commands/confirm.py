"""Confirm in writing a search that was made on the urgent route.

1. The confirmation is signed by the force that owns the channel, and names it and one of its
   searches by its id and its order's digest.
2. That search needed an agency's urgent route. One that is confirmed already is returned as it is.
3. The confirmer holds a token of the force for the part of an authoriser, bound to this channel,
   and the confirmation says of them what the token says.
4. The confirmer is not the officer who searched, and of the rank that every agreement used asks.
5. It is of this moment: not before the search, not from the future.
6. It is on the log, lateness and all, before the bar on the officer's searches is lifted; and once
   it is, that is lifted even if the caller has gone away meanwhile.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from sqlalchemy import Connection

from audit.writer import LogWriter, NewEntry
from broker import leaves
from broker.admission import says_the_same
from broker.commands.read import Reading
from broker.models import ConfirmParams, SearchRecord, SearchView
from broker.settings import MAX_ORDER_BYTES, MAX_TOKEN_CHARS, BrokerSettings
from broker.store import SearchStore
from policy.ledger import Ledger, UrgentUse
from trust import dsse
from trust.clock import Clock
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import UrgentConfirmation
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.tokens import Part, verify_token
from trust.wire import decode_confirmation


class ConfirmUrgent:
    """The command; one per process."""

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        store: SearchStore,
        ledger: Ledger,
        log: LogWriter,
        reading: Reading,
        clock: Clock,
    ) -> None:
        self._skew = timedelta(seconds=settings.clock_skew_s)
        self._kept_for = timedelta(days=settings.values_retain_days)
        self._store = store
        self._ledger = ledger
        self._log = log
        self._reading = reading
        self._clock = clock
        self._confirming: set[asyncio.Task[None]] = set()

    async def execute(
        self, params: ConfirmParams, peer: PeerIdentity, directory: Directory
    ) -> SearchView:
        """Confirm a search and return it, without its results where they are gone.

        Raises:
            ProbegateError: an envelope's or key's reason, ``CHANNEL_ROLE``, ``NOT_FOUND``,
                ``OFFICER_TOKEN_INVALID``, ``CONFIRMATION_INVALID``, or the log's own failure.
        """
        now = self._clock()
        directory.require_current(now)
        said = self._opened(params, peer, directory, now)  # (1)
        record = await self._store.get(peer.member.id, said.search_id)
        if record is None or record.order_sha256 != said.order_sha256:
            raise ProbegateError(Reason.NOT_FOUND)
        if await self._store.confirmation(record.search_id) is not None:  # (2)
            self._ledger.urgent.confirmed(record.search_id)
            return await self._reading.confirmed(record)
        uses = self._ledger.urgent.awaiting(record.search_id)
        if not uses:
            raise ProbegateError(Reason.CONFIRMATION_INVALID, field="search_id")
        _require_token(params, said, peer, directory, now)  # (3)
        confirmer = self._ledger.officer(said.force, said.confirmer.id)
        _require_confirmer(said, confirmer, uses)  # (4)
        if not record.created_at <= said.confirmed_at + self._skew or (  # (5)
            said.confirmed_at > now + self._skew
        ):
            raise ProbegateError(Reason.CONFIRMATION_INVALID, field="confirmed_at")
        task = asyncio.create_task(self._record(params, said, record, uses, now))  # (6)
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)
        task.add_done_callback(_heard)
        await asyncio.shield(task)
        return await self._reading.confirmed(record)

    def _opened(
        self, params: ConfirmParams, peer: PeerIdentity, directory: Directory, now: datetime
    ) -> UrgentConfirmation:
        if len(params.confirmation.payload) > MAX_ORDER_BYTES:
            raise ProbegateError(Reason.MESSAGE_TOO_LARGE, field="confirmation")
        resolve = directory.resolver(peer.member.id, KeyUse.SIGN, now)
        dsse.verify(params.confirmation, PayloadType.URGENT_CONFIRMATION, resolve)
        said = decode_confirmation(params.confirmation.payload)
        if said.force != peer.member.id:
            raise ProbegateError(Reason.CHANNEL_ROLE, field="force")
        return said

    async def _record(
        self,
        params: ConfirmParams,
        said: UrgentConfirmation,
        record: SearchRecord,
        uses: tuple[UrgentUse, ...],
        now: datetime,
    ) -> None:
        kept = self._store.confirmed(record.search_id, params.confirmation, now)

        def also(connection: Connection, index: int) -> None:
            kept(connection, index)
            self._ledger.urgent.write_confirmed(connection, record.search_id, now)

        late = any(use.deadline < now for use in uses)
        try:
            await self._log.append(
                NewEntry(
                    leaf=leaves.confirmed_leaf(said, params.confirmation.payload, now, late=late),
                    private=leaves.confirmer_facts(said),
                    retain_until=now + self._kept_for,
                    also=also,
                )
            )
        except ProbegateError as error:
            # Two confirmations at once: the first one stands, and either caller is told so.
            if error.reason is not Reason.CONFIRMATION_INVALID:
                raise
        self._ledger.urgent.confirmed(record.search_id)


def _heard(task: asyncio.Task[None]) -> None:
    """Take note of how a recording ended, for the caller may have gone away."""
    if not task.cancelled():
        task.exception()


def _require_token(
    params: ConfirmParams,
    said: UrgentConfirmation,
    peer: PeerIdentity,
    directory: Directory,
    now: datetime,
) -> None:
    """Apply rule (3)."""
    if len(params.confirmer_token) > MAX_TOKEN_CHARS:
        raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check="format")
    claims = verify_token(
        params.confirmer_token,
        resolve=directory.resolver(peer.member.id, KeyUse.IDENTITY, now),
        force_id=peer.member.id,
        channel_cert_sha256=peer.certificate_sha256,
        now=now,
        part=Part.AUTHORISER,
    )
    if not says_the_same(claims, said.confirmer):
        raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check="confirmer")


def _require_confirmer(
    said: UrgentConfirmation, known_as: bytes, uses: tuple[UrgentUse, ...]
) -> None:
    """Apply rule (4); the ledger knows the confirmer as ``known_as``."""
    if any(use.officer == known_as for use in uses):
        raise ProbegateError(Reason.CONFIRMATION_INVALID, field="confirmer")
    if not all(use.rank_suffices(said.confirmer.rank) for use in uses):
        raise ProbegateError(Reason.CONFIRMATION_INVALID, field="confirmer.rank")
