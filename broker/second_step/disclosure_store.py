"""Requests for disclosure in the database; no process remembers one.

A request is recorded, then waits for its owner's people, then is released, refused or lapsed; it
never goes back. Each of these steps commits with its log entry, over the very state it goes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from broker.second_step.models import Disclosure, DisclosureParams, DisclosureState, Released
from broker.second_step.review_store import read_reviews
from broker.second_step.tables import disclosures
from broker.store import NUL, Position
from broker.storing import Storage, Write, microseconds_of, moment_of
from trust.clock import from_us, to_us
from trust.errors import ProbegateError, Reason
from trust.second_step import DisclosureRequest, ReleaseDecision
from trust.wire import decode, envelope_from_bytes, envelope_to_bytes

_OPEN: Final = tuple(state.value for state in DisclosureState if state.is_open)


@dataclass(frozen=True, slots=True)
class DisclosureStore:
    """Reads requests, and makes the writes that the log commits."""

    storage: Storage

    async def get(self, force: str, request_id: str) -> Disclosure | None:
        """Return one of a force's requests, or none: another force's does not exist for it.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        if NUL in request_id:
            return None
        rows = await self.storage.rows(select(disclosures).where(_is(force, request_id)))
        return _disclosure(rows[0]) if rows else None

    async def page(
        self, force: str, search_id: str, size: int, after: Position | None
    ) -> tuple[Disclosure, ...]:
        """Return a force's requests, newest first, from after a position on."""
        where: Any = disclosures.c.force == force
        if search_id:
            if NUL in search_id:
                return ()
            where = and_(where, disclosures.c.search_id == search_id)
        if after is not None:
            earlier = disclosures.c.created_us < after.created_us
            tied = and_(
                disclosures.c.created_us == after.created_us,
                disclosures.c.request_id < after.search_id,
            )
            where = and_(where, or_(earlier, tied))
        rows = await self.storage.rows(
            select(disclosures)
            .where(where)
            .order_by(disclosures.c.created_us.desc(), disclosures.c.request_id.desc())
            .limit(size)
        )
        return tuple(map(_disclosure, rows))

    async def was_released(self, force: str, search_id: str, agency: str, reference: str) -> bool:
        """Whether details of a candidate were released to a force, whatever is kept of them."""
        rows = await self.storage.rows(
            select(disclosures.c.request_id)
            .where(
                disclosures.c.force == force,
                disclosures.c.search_id == search_id,
                disclosures.c.agency == agency,
                disclosures.c.reference == reference,
                disclosures.c.state == DisclosureState.RELEASED.value,
            )
            .limit(1)
        )
        return bool(rows)

    async def still_stands(self, said: DisclosureRequest) -> bool:
        """Whether every review that a request stands on still counts."""
        try:
            await self.storage.run(lambda connection: require_reviews(connection, said))
        except ProbegateError as error:
            if error.reason is not Reason.REVIEWER_REVOKED:
                raise
            return False
        return True

    async def due(self, now: datetime, most: int) -> tuple[Disclosure, ...]:
        """Return the open requests that are to be worked on now, the longest due first."""
        rows = await self.storage.rows(
            select(disclosures)
            .where(disclosures.c.next_us <= to_us(now))
            .order_by(disclosures.c.next_us)
            .limit(most)
        )
        return tuple(map(_disclosure, rows))

    async def open_of(self, force: str) -> tuple[Disclosure, ...]:
        """Return a force's requests of which something may still come."""
        rows = await self.storage.rows(
            select(disclosures)
            .where(disclosures.c.force == force, disclosures.c.state.in_(_OPEN))
            .order_by(disclosures.c.created_us)
        )
        return tuple(map(_disclosure, rows))

    def recorded(
        self, params: DisclosureParams, said: DisclosureRequest, now: datetime, until: datetime
    ) -> Write:
        """Return the write that keeps a request with its log entry, due at once.

        The write raises ``DISCLOSURE_REPLAYED`` if its id was used, and ``REVIEWER_REVOKED`` if
        a review that it stands on no longer counts.
        """
        row = {
            "force": said.force,
            "request_id": said.request_id,
            "search_id": said.search_id,
            "agency": said.agency,
            "reference": said.reference,
            "created_us": to_us(now),
            "sha256": sha256(params.envelope.payload).digest(),
            "envelope": envelope_to_bytes(params.envelope),
            "sealed_key_id": params.sealed_key_id,
            "sealed_facts": params.sealed_facts,
            "token": params.token,
            "state": DisclosureState.RECORDED.value,
            "reason": "",
            "asked": 0,
            "next_us": to_us(now),
            "until_us": to_us(until),
        }

        def write(connection: Connection, index: int) -> None:
            require_reviews(connection, said)
            try:
                connection.execute(insert(disclosures), row | {"leaf_index": index})
            except IntegrityError as error:
                raise ProbegateError(Reason.DISCLOSURE_REPLAYED) from error

        return write

    async def waits(
        self, record: Disclosure, decide_by: datetime | None, until: datetime, again: datetime
    ) -> None:
        """Keep that the owner's people have a request, and when to ask what became of it."""
        values = {
            "state": DisclosureState.WAITING.value,
            "decide_by_us": microseconds_of(decide_by),
            "asked": 0,
            "next_us": to_us(again),
            "until_us": to_us(until),
        }
        await self._values(record, values)

    async def asked(self, record: Disclosure, again: datetime, until: datetime) -> None:
        """Keep that an agency was asked and nothing came of it, and when it is next."""
        values = {"asked": record.asked + 1, "next_us": to_us(again), "until_us": to_us(until)}
        await self._values(record, values)

    async def hand_over_again(self, record: Disclosure, again: datetime) -> None:
        """Keep that an agency does not know of a request it took: it is handed over again."""
        values = {
            "state": DisclosureState.RECORDED.value,
            "asked": record.asked + 1,
            "next_us": to_us(again),
        }
        await self._values(record, values)

    async def _values(self, record: Disclosure, values: dict[str, Any]) -> None:
        of = (_is(record.force, record.request_id), disclosures.c.state == record.state.value)
        statement = update(disclosures).where(*of).values(values)
        await self.storage.run(lambda connection: connection.execute(statement))

    def ended(self, record: Disclosure, state: DisclosureState, reason: str) -> Write:
        """Return the write that ends an open request without an owner's decision."""
        return _ends(record, {"state": state.value, "reason": reason}, None)

    def decided(self, record: Disclosure, said: ReleaseDecision, came: Released) -> Write:
        """Return the write that keeps an owner's decision with its log entry.

        The write raises ``REVIEWER_REVOKED`` if details were released and a review that the
        request stands on no longer counts.
        """
        released = said.expires_at is not None
        assert came.decision is not None  # noqa: S101 - it was verified
        values = {
            "state": (DisclosureState.RELEASED if released else DisclosureState.REFUSED).value,
            "reason": "",
            "decision": envelope_to_bytes(came.decision),
            "sealed": came.sealed if released else None,
            "expires_us": to_us(said.expires_at) if said.expires_at is not None else None,
        }
        return _ends(record, values, record.said if released else None)

    def delivered(self, record: Disclosure, now: datetime) -> Write:
        """Return the write that keeps that details went to the force.

        The write raises ``SERVER_BUSY`` if they did before.
        """
        statement = (
            update(disclosures)
            .where(
                _is(record.force, record.request_id),
                disclosures.c.delivered_us.is_(None),
                disclosures.c.state == DisclosureState.RELEASED.value,
            )
            .values(delivered_us=to_us(now))
        )

        def write(connection: Connection, _index: int) -> None:
            if connection.execute(statement).rowcount != 1:
                raise ProbegateError(Reason.SERVER_BUSY, "delivered already")

        return write

    def withheld(self, record: Disclosure, reason: str) -> Write:
        """Return the write that keeps why released details did not go to the force.

        The write raises ``SERVER_BUSY`` if the same was kept meanwhile.
        """
        statement = (
            update(disclosures)
            .where(_is(record.force, record.request_id), disclosures.c.withheld == record.withheld)
            .values(withheld=reason)
        )

        def write(connection: Connection, _index: int) -> None:
            if connection.execute(statement).rowcount != 1:
                raise ProbegateError(Reason.SERVER_BUSY, "told already")

        return write

    async def withheld_no_more(self, record: Disclosure) -> None:
        """Keep that released details go to the force again: the next time they do not is told."""
        await self._values(record, {"withheld": ""})

    async def erase_expired(self, now: datetime) -> int:
        """Erase sealed details that are past their end; return of how many requests."""
        statement = (
            update(disclosures)
            .where(disclosures.c.expires_us <= to_us(now), disclosures.c.sealed.is_not(None))
            .values(sealed=None)
        )
        return await self.storage.run(lambda connection: connection.execute(statement).rowcount)


def require_reviews(connection: Connection, said: DisclosureRequest) -> None:
    """Check, in the transaction at hand, that every review a request stands on still counts.

    Raises:
        ProbegateError: ``REVIEWER_REVOKED``.
    """
    found = read_reviews(connection, said.force, said.search_id)
    counted = {digest for sitting in found.sittings for digest in sitting.sha256s.values()}
    if not set(said.review_sha256s) <= counted:
        raise ProbegateError(Reason.REVIEWER_REVOKED)


def _ends(record: Disclosure, values: dict[str, Any], stands_on: DisclosureRequest | None) -> Write:
    """Return the write that ends an open request: nothing is left to do or to send.

    It raises ``SERVER_BUSY`` if the request has ended otherwise.
    """
    last = {"next_us": None, "sealed_facts": b"", "token": ""}
    of = (_is(record.force, record.request_id), disclosures.c.state.in_(_OPEN))
    by_owner = "decision" in values

    def write(connection: Connection, index: int) -> None:
        if stands_on is not None:
            require_reviews(connection, stands_on)
        where = {"decision_index": index} if by_owner else {}
        statement = update(disclosures).where(*of).values(values | last | where)
        if connection.execute(statement).rowcount != 1:
            raise ProbegateError(Reason.SERVER_BUSY, "it has ended otherwise")

    return write


def _is(force: str, request_id: str) -> Any:
    return and_(disclosures.c.force == force, disclosures.c.request_id == request_id)


def _disclosure(row: Any) -> Disclosure:
    envelope = envelope_from_bytes(row.envelope) if row.envelope else None
    return Disclosure(
        force=row.force,
        request_id=row.request_id,
        search_id=row.search_id,
        agency=row.agency,
        reference=row.reference,
        created_at=from_us(row.created_us),
        request_sha256=row.sha256,
        said=decode(DisclosureRequest, envelope.payload) if envelope else None,
        envelope=envelope,
        sealed_key_id=row.sealed_key_id,
        sealed_facts=row.sealed_facts,
        token=row.token,
        state=DisclosureState(row.state),
        reason=row.reason,
        leaf_index=row.leaf_index,
        decide_by=moment_of(row.decide_by_us),
        decision=envelope_from_bytes(row.decision) if row.decision else None,
        sealed=row.sealed or b"",
        expires_at=moment_of(row.expires_us),
        decision_index=row.decision_index,
        delivered=row.delivered_us is not None,
        withheld=row.withheld,
        asked=row.asked,
        until=from_us(row.until_us),
    )
