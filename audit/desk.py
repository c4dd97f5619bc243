"""What an organisation's own people do at a running server: each of it an entry of the admin log.

A log has one writer. If the server is running, it is the server: a command leaves its entry in the
database, the server puts it on the log, and only then is anything shown or changed. If it is not
running, the command opens the log itself.

1. A request is marked as done in the transaction that logs its entry, so it is logged once.
2. What an entry changes besides (a ``Clerk``'s part) commits with it or not at all.
3. A clerk acts ``before`` an entry is logged where acting early is the safe side, and ``after`` it
   where acting late is.
4. What of an entry is personal (who decided, in whose words) is committed to by the entry and kept
   beside the log, from the entry's time for as long as the server's settings say; a request keeps
   it no longer than it waits.
5. Requests are taken in the order they came, each for itself: one that is refused is marked with
   its reason, which its command is told, and keeps no other waiting. Only what ails the log itself
   stops them all.
6. A command that gives up, is refused or is interrupted takes its request back, so that nothing is
   done of which its people were told that it failed. What was logged by then is told as done.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    select,
    update,
)

from audit.leaves import JsonValue, build_leaf
from audit.organisation import ADMIN, CANNOT_RECORD, open_logs
from audit.reader import LogReader
from audit.tables import state_storage
from audit.writer import LogWriter, NewEntry
from trust import telemetry
from trust.ceremony import MemberFolder
from trust.directory_store import DirectoryPlaces, DirectoryStore
from trust.errors import ProbegateError, Reason
from trust.rpc import catalogued

SERVER_PATIENCE_S: Final = 15.0
"""How long a command waits for the running server to log its entry, seconds."""
POLL_S: Final = 0.1
"""How often it looks, seconds."""

metadata: Final = MetaData()

requests: Final = Table(
    "admin_requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("leaf", Text, nullable=False),
    Column("leaf_index", BigInteger),
)
"""Entries that a command asks the running server to put on the admin log."""

Leaf = Mapping[str, JsonValue]
_REFUSED: Final = -1
"""The index of a request that was refused; its leaf says why."""
_PRIVATE: Final = "private"
"""Where a request that waits keeps what its entry only commits to (4)."""


class Clerk(Protocol):
    """Carries out what an entry says, what it only commits to included."""

    def before(self, leaf: Leaf) -> None:
        """Act before the entry is on the log."""

    def also(self, connection: Connection, index: int, leaf: Leaf) -> None:
        """Write what commits with the entry."""

    def after(self, leaf: Leaf) -> None:
        """Act once the entry is durable."""


@dataclass(frozen=True, slots=True)
class Clerks:
    """Several clerks as one, each minding its own entries."""

    each: tuple[Clerk, ...]

    def before(self, leaf: Leaf) -> None:
        """Let each act before the entry is on the log."""
        for clerk in self.each:
            clerk.before(leaf)

    def also(self, connection: Connection, index: int, leaf: Leaf) -> None:
        """Let each write what commits with the entry."""
        for clerk in self.each:
            clerk.also(connection, index, leaf)

    def after(self, leaf: Leaf) -> None:
        """Let each act once the entry is durable."""
        for clerk in self.each:
            clerk.after(leaf)


class MemberSettings(DirectoryPlaces, Protocol):
    """What of a server's settings says where its keys, its directory and its logs are."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def member_folder(self) -> Path: ...  # noqa: D102
    @property
    def logs_dir(self) -> Path: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Desk:
    """Requests of an organisation's own people in one database; made by ``open``.

    Attributes:
        engine: the database.
        values_kept_for: how long what entries only commit to is kept (4); None for no end.
    """

    engine: Engine
    values_kept_for: timedelta | None = None

    @classmethod
    def open(cls, engine: Engine, *, values_kept_for: timedelta | None = None) -> Desk:
        """Open the desk, making its table once.

        Args:
            engine: the database.
            values_kept_for: how long what entries only commit to is kept (4).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
        """
        with state_storage():
            metadata.create_all(engine)
        return cls(engine, values_kept_for)

    async def serve(self, log: LogWriter, clerk: Clerk | None, poll_s: float) -> None:
        """Put requests on the running server's admin log for ever."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.clear(log, clerk)
            except Exception as error:  # noqa: BLE001 - whatever it is, this loop must go on
                failure = catalogued(error, "desk")
                telemetry.log("operators' entries wait", reason=failure.reason.name)

    async def clear(self, log: LogWriter, clerk: Clerk | None) -> None:
        """Log every request that waits (5).

        Raises:
            ProbegateError: what ails the log itself.
        """
        for request, leaf in self._waiting():
            try:
                await self._log(request, leaf, log, clerk)
            except Exception as error:
                failure = catalogued(error, str(leaf["type"]))
                if failure.reason in CANNOT_RECORD:
                    raise failure from error
                self._refuse(request, failure)

    async def _log(
        self, request: str, leaf: dict[str, JsonValue], log: LogWriter, clerk: Clerk | None
    ) -> None:
        private: Any = leaf.pop(_PRIVATE, {})
        said = leaf | private
        build_leaf(leaf, private)  # nobody acts early on what the log will not take

        def also(connection: Connection, index: int) -> None:
            mark = update(requests).where(_waits(request))
            done = {"leaf_index": index, "leaf": json.dumps(leaf)}
            if not connection.execute(mark.values(done)).rowcount:  # (1) (4)
                raise ProbegateError(Reason.NOT_FOUND, "the request was taken back")  # (6)
            if clerk is not None:
                clerk.also(connection, index, said)  # (2)

        if clerk is not None:
            clerk.before(said)  # (3)
        until = self._kept_until(leaf) if private else None
        await log.append(NewEntry(leaf, private, until, also))
        if clerk is not None:
            clerk.after(said)  # (3)

    def _refuse(self, request: str, failure: ProbegateError) -> None:
        """Mark a request that waits as refused; what it said is not kept (4) (5)."""
        why = [failure.reason.name, failure.detail, failure.metadata]
        mark = update(requests).where(_waits(request))
        with state_storage(), self.engine.begin() as connection:
            connection.execute(mark.values(leaf_index=_REFUSED, leaf=json.dumps(why)))

    def _kept_until(self, leaf: Leaf) -> datetime | None:
        if self.values_kept_for is None:
            return None
        return datetime.fromisoformat(str(leaf["at"])) + self.values_kept_for

    async def put(
        self,
        leaf: Leaf,
        settings: MemberSettings,
        clerk: Clerk | None,
        now: datetime,
        private: Leaf | None = None,
    ) -> int:
        """Have an entry logged by the running server, or log it here; return its index.

        Args:
            leaf: what the entry says.
            settings: where the server's keys and logs are.
            clerk: carries out what it says.
            now: this machine's clock.
            private: what the entry only commits to (4).

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE`` if the running server did not take it in time;
                ``TEXT_INVALID`` or ``MESSAGE_TOO_LARGE``; whatever carrying it out raises.
        """
        build_leaf(leaf, private or {})
        failure = ProbegateError(Reason.LOG_UNAVAILABLE, "the running server did not log the entry")
        request = self._ask({**leaf, _PRIVATE: dict(private)} if private else leaf)
        try:
            await self._clear_here(settings, clerk, now)
        except ProbegateError as error:
            if error.reason is not Reason.LOG_UNAVAILABLE:
                failure = error
            else:  # the server holds the log
                await self._taken(request)
        finally:
            self._take_back(request)  # (6)
        index = self._index_of(request)
        if index is None:
            raise failure
        await _in_files(settings.logs_dir / ADMIN, index)
        return index

    async def _taken(self, request: str) -> None:
        """Wait until the running server has taken a request, or until the patience is over."""
        for _ in range(int(SERVER_PATIENCE_S / POLL_S)):
            if self._index_of(request) is not None:
                return
            await asyncio.sleep(POLL_S)

    async def _clear_here(
        self, settings: MemberSettings, clerk: Clerk | None, now: datetime
    ) -> None:
        directory = DirectoryStore.of(settings).load(now)
        logs = open_logs(
            self.engine,
            member_id=settings.id,
            member_folder=MemberFolder(settings.member_folder),
            directory=directory,
            logs_dir=settings.logs_dir,
            at=now,
        )
        try:
            await self.clear(logs.admin, clerk)
        finally:
            await logs.close()

    def _ask(self, leaf: Leaf) -> str:
        request = str(uuid.uuid4())
        row = {"id": request, "leaf": json.dumps(leaf), "leaf_index": None}
        with state_storage(), self.engine.begin() as connection:
            connection.execute(insert(requests), row)
        return request

    def _waiting(self) -> list[tuple[str, dict[str, JsonValue]]]:
        query = select(requests.c.id, requests.c.leaf).where(requests.c.leaf_index.is_(None))
        with state_storage(), self.engine.connect() as connection:
            there = [(row.id, json.loads(row.leaf)) for row in connection.execute(query)]
        return sorted(there, key=lambda one: (str(one[1]["at"]), one[0]))  # (5)

    def _index_of(self, request: str) -> int | None:
        """Return the entry of a request, or None while it waits or if it was taken back.

        Raises:
            ProbegateError: what it was refused with (5).
        """
        query = select(requests.c.leaf_index, requests.c.leaf).where(requests.c.id == request)
        with state_storage(), self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.leaf_index is None:
            return None
        if row.leaf_index == _REFUSED:
            reason, detail, metadata = json.loads(row.leaf)
            raise ProbegateError(Reason[reason], detail, **metadata)
        return int(row.leaf_index)

    def _take_back(self, request: str) -> None:
        """Take back a request that still waits (6)."""
        with state_storage(), self.engine.begin() as connection:
            connection.execute(delete(requests).where(_waits(request)))


def _waits(request: str) -> ColumnElement[bool]:
    return and_(requests.c.id == request, requests.c.leaf_index.is_(None))


async def _in_files(folder: Path, index: int) -> None:
    """Wait until an entry is in the log's files; it is durable and done if they do not follow."""
    for _ in range(int(SERVER_PATIENCE_S / POLL_S)):
        with suppress(ProbegateError):  # a new log may have no files yet
            if LogReader(folder).size > index:
                return
        await asyncio.sleep(POLL_S)
