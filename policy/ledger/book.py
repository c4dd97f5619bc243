"""The ledger itself: what it is asked for a decision, and what is written with a log entry."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    Table,
    and_,
    delete,
    insert,
    select,
    tuple_,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from policy.ledger.statements import Statements
from policy.ledger.subjects import KEY_BYTES, SubjectKey, Subjects
from policy.ledger.tables import keys, metadata, reason_uses, switches, urgent_searches, uses
from policy.ledger.tallies import Reservation, Tallies
from policy.ledger.urgent import UrgentRegister, UrgentUse, read_uses, uses_since
from policy.standing import Standing, switches_of
from trust import telemetry
from trust.clock import Clock, from_us, to_us
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder

REASONS_MEMORY: Final = timedelta(days=90)
"""How long the reasons of a search count against the same words in another case."""
MOST_REUSES: Final = 100
"""Where counting the reuses of a text stops."""
MOST_EARLIER: Final = 64
"""Most earlier searches with one probe and case that are looked at."""
USES_MEMORY: Final = timedelta(days=400)
"""How long a search stays on the ledger: longer than any quota or prior answer can look back."""
PRUNE_INTERVAL_S: Final = 3_600.0
"""How long between prunings, seconds."""
PRUNED_AT_ONCE: Final = 5_000
"""Most rows of a table that one pruning takes out, so that no writer waits long."""
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """A search with the same probe and case that agencies answered."""

    ref: str
    agencies: tuple[str, ...]
    at: datetime


@dataclass(slots=True)
class Ledger:
    """The ledger in one database. Made by ``open``; used from one event loop; closed at the end."""

    engine: Engine
    urgent: UrgentRegister
    _key: SubjectKey
    _switches: frozenset[str]
    _said: Statements
    _tallies: Tallies
    _reader: Connection | None = None

    @classmethod
    def open(cls, engine: Engine) -> Ledger:
        """Open the ledger, making its tables and its key once.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        urgent = UrgentRegister()
        try:
            metadata.create_all(engine)
            key = _the_key(engine)
            with engine.connect() as connection:
                urgent.load(connection)
                off = frozenset(connection.scalars(select(switches.c.name)))
        except SQLAlchemyError as error:
            raise _unavailable(error) from error
        said = Statements.of(engine)
        return cls(engine, urgent, SubjectKey(key), off, said, Tallies(said))

    def close(self) -> None:
        """Let go of the database; a later read opens it again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def subjects(self, ref: str, order: SearchOrder) -> Subjects:
        """Return what a search is about; ``ref`` is its own id here."""
        return self._key.subjects(ref, order)

    def officer(self, force: str, officer_id: str) -> bytes:
        """Return how a person of a force is known here, as in ``Subjects.officer``."""
        return self._key.officer(force, officer_id)

    # ------------------------------------------------------------ for a decision

    async def standing(
        self,
        subjects: Subjects,
        agencies: Sequence[str],
        at: datetime,
        answered: Mapping[str, datetime] | None = None,
    ) -> Standing:
        """Return what is on record about a search that is being decided.

        The counters hold at the instant this returns: decide and ``reserve`` without waiting (2).

        Args:
            subjects: what the search is about.
            agencies: whose counters are wanted.
            at: the instant of the decision.
            answered: when each agency last answered, as the caller has seen it proved.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` (4).
        """
        reused = await self._run(lambda connection: self._reuses(connection, subjects, at))
        tallies = await self._tallies.ready(subjects, at, self._run)
        # Not validated: every value is our own, and this is on the path of each search.
        return Standing.model_construct(
            earlier_searches={
                agency: {name: tally.by_agency[agency] for name, tally in tallies.items()}
                for agency in agencies
            },
            answered=dict(answered or {}),
            unconfirmed_urgent=self.urgent.late(subjects.force, subjects.officer, at),
            switched_off=self._switches,
            reasons_reused=reused,
        )

    def reserve(self, subjects: Subjects, agencies: Iterable[str], at: datetime) -> Reservation:
        """Count a permitted search, right after the standing it was decided on (2)."""
        return self._tallies.reserve(subjects, agencies, at)

    async def earlier_answers(
        self, subjects: Subjects, since: datetime
    ) -> tuple[EarlierAnswer, ...]:
        """Return the other searches with this probe and case that were answered, newest first.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        query = (
            select(uses.c.ref, uses.c.answered, uses.c.answered_us)
            .where(
                uses.c.matter == subjects.matter,
                uses.c.answered != "",
                uses.c.answered_us >= to_us(since),
                uses.c.ref != subjects.ref,
            )
            .order_by(uses.c.answered_us.desc(), uses.c.ref)
            .limit(MOST_EARLIER)
        )
        rows = await self._run(lambda connection: connection.execute(query).all())
        return tuple(
            EarlierAnswer(row.ref, tuple(row.answered.split(",")), from_us(row.answered_us))
            for row in rows
        )

    async def urgent_uses(
        self, subjects: Subjects, agency: str, since: datetime
    ) -> tuple[UrgentUse, ...]:
        """Return the officer's urgent searches at an agency, confirmed or not, newest first.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        if not self.urgent.ever_used(subjects.force, subjects.officer, agency):
            return ()
        query = uses_since(subjects.force, subjects.officer, agency, since)
        return await self._run(lambda connection: read_uses(connection, query))

    async def _run(self, read: Callable[[Connection], _Read]) -> _Read:
        try:
            if self.engine.dialect.name == "sqlite":
                # A local read takes less time than a thread's turn; the log's writer has its own.
                return read(self._held())
            return await asyncio.to_thread(self._apart, read)
        except SQLAlchemyError as error:
            self.close()
            raise _unavailable(error) from error  # (4)

    def _held(self) -> Connection:
        """Return a connection that is kept for reading, each statement on its own."""
        if self._reader is None:
            held = self.engine.connect()
            self._reader = held.execution_options(isolation_level="AUTOCOMMIT")
        return self._reader

    def _apart(self, read: Callable[[Connection], _Read]) -> _Read:
        with self.engine.connect() as connection:
            return read(connection)

    def _reuses(self, connection: Connection, subjects: Subjects, at: datetime) -> int:
        """Return in how many other cases either text was used; the larger of the two."""
        since = to_us(at - REASONS_MEMORY)
        about = (subjects.case, since, MOST_REUSES)
        counted = [
            connection.exec_driver_sql(self._said.count_reuses, (key, *about)).scalar_one()
            for key in subjects.texts
        ]
        return max(counted, default=0)

    # ------------------------------------------------------------ with a log entry (1)

    def write_use(
        self, connection: Connection, subjects: Subjects, agencies: Iterable[str], at: datetime
    ) -> None:
        """Record a search and the agencies it was permitted at."""
        connection.exec_driver_sql(
            self._said.insert_use,
            (
                subjects.ref,
                subjects.force,
                subjects.officer,
                subjects.case,
                subjects.matter,
                to_us(at),
                ",".join(agencies),
                "",
            ),
        )
        for key in dict.fromkeys(subjects.texts):
            connection.exec_driver_sql(self._said.remember_reasons, (key, subjects.case, to_us(at)))

    def write_answered(
        self, connection: Connection, ref: str, agencies: Iterable[str], at: datetime
    ) -> None:
        """Record which agencies answered a search."""
        connection.exec_driver_sql(self._said.update_answered, (",".join(agencies), to_us(at), ref))

    def write_switch(
        self, connection: Connection, name: str, *, off: bool, leaf_index: int
    ) -> None:
        """Record that a kill switch was turned; then call ``switched``."""
        connection.execute(delete(switches).where(switches.c.name == name))
        if off:
            connection.execute(insert(switches), {"name": name, "leaf_index": leaf_index})

    async def prune(self, now: datetime) -> int:
        """Take out what no decision can ask for any more (6); return how many rows went.

        Call it again while it returns ``PRUNED_AT_ONCE`` or more.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        old, stale = to_us(now - USES_MEMORY), to_us(now - REASONS_MEMORY)

        def run() -> int:
            with self.engine.begin() as connection:
                return sum(
                    connection.execute(statement).rowcount
                    for statement in (
                        _oldest(uses, uses.c.at_us < old),
                        _oldest(reason_uses, reason_uses.c.last_us < stale),
                        _oldest(
                            urgent_searches,
                            and_(
                                urgent_searches.c.confirmed_us < old,
                                urgent_searches.c.deadline_us < old,
                            ),
                        ),
                    )
                )

        try:
            return await asyncio.to_thread(run)
        except SQLAlchemyError as error:
            raise _unavailable(error) from error

    async def keep_pruned(self, clock: Clock) -> None:
        """Prune for ever, an hour apart."""
        while True:
            await asyncio.sleep(PRUNE_INTERVAL_S)
            try:
                while await self.prune(clock()) >= PRUNED_AT_ONCE:
                    pass
            except ProbegateError as error:
                telemetry.log("ledger not pruned", reason=error.reason.name)

    def switched(self, name: str, *, off: bool) -> None:
        """Turn a kill switch that is on the log: no decision from here on misses it (5)."""
        self._switches = self._switches | {name} if off else self._switches - {name}

    @property
    def switched_off(self) -> frozenset[str]:
        """Every kill switch that is off, as ``kind:name``."""
        return self._switches

    def is_switched_off(self, agency: str, force: str, order: SearchOrder | None) -> bool:
        """Whether a kill switch stops what concerns a search at an agency.

        Args:
            agency: whom it would reach.
            force: whose search it is.
            order: the search; without it only switches of the agency and the force are known of.
        """
        purpose = order.justification.purpose if order is not None else None
        matcher = order.probe.model if order is not None else None
        return not self._switches.isdisjoint(switches_of(agency, force, purpose, matcher))


def _oldest(table: Table, where: ColumnElement[bool]) -> Delete:
    """Return what deletes some rows of a table, not too many at once."""
    key = tuple(table.primary_key.columns)
    some = select(*key).where(where).limit(PRUNED_AT_ONCE)
    return delete(table).where(tuple_(*key).in_(some))


def _the_key(engine: Engine) -> bytes:
    """Return this database's key, made once; of two processes that make it one wins."""
    for _ in range(2):
        with engine.connect() as connection:
            found = connection.execute(select(keys.c.key)).scalar_one_or_none()
        if found is not None:
            return bytes(found)
        with suppress(IntegrityError), engine.begin() as connection:
            connection.execute(insert(keys), {"id": 1, "key": secrets.token_bytes(KEY_BYTES)})
    raise ProbegateError(Reason.STATE_UNAVAILABLE, "the ledger's key")


def _unavailable(error: SQLAlchemyError) -> ProbegateError:
    return ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__)
