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
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from audit.leaves import JsonValue
from audit.organisation import ADMIN, open_logs
from audit.reader import LogReader
from audit.tables import storage_failure
from audit.writer import LogWriter, NewEntry
from trust import telemetry
from trust.ceremony import MemberFolder
from trust.directory_store import DirectoryPlaces, DirectoryStore
from trust.errors import ProbegateError, Reason

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
        with _storage():
            metadata.create_all(engine)
        return cls(engine, values_kept_for)

    async def serve(self, log: LogWriter, clerk: Clerk | None, poll_s: float) -> None:
        """Put requests on the running server's admin log for ever."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.clear(log, clerk)
            except ProbegateError as error:
                telemetry.log("operators' entries wait", reason=error.reason.name)

    async def clear(self, log: LogWriter, clerk: Clerk | None) -> None:
        """Log every request that waits."""
        for request, text in self._waiting():
            leaf = json.loads(text)
            private = leaf.pop(_PRIVATE, {})
            said = leaf | private

            def also(
                connection: Connection,
                index: int,
                request: str = request,
                leaf: Leaf = leaf,
                said: Leaf = said,
            ) -> None:
                mark = update(requests).where(requests.c.id == request)
                done = {"leaf_index": index, "leaf": json.dumps(leaf)}
                connection.execute(mark.values(done))  # (1) (4)
                if clerk is not None:
                    clerk.also(connection, index, said)  # (2)

            if clerk is not None:
                clerk.before(said)  # (3)
            until = self._kept_until(leaf) if private else None
            await log.append(NewEntry(leaf, private, until, also))
            if clerk is not None:
                clerk.after(said)  # (3)

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
            ProbegateError: ``LOG_UNAVAILABLE`` if the running server did not take it in time.
        """
        request = self._ask({**leaf, _PRIVATE: dict(private)} if private else leaf)
        try:
            await self._clear_here(settings, clerk, now)
        except ProbegateError as error:
            if error.reason is not Reason.LOG_UNAVAILABLE:  # the server holds the log
                raise
        for _ in range(int(SERVER_PATIENCE_S / POLL_S)):
            index = self._index_of(request)
            if index is not None:
                await _in_files(settings.logs_dir / ADMIN, index)  # (5)
                return index
            await asyncio.sleep(POLL_S)
        self._withdraw(request)
        raise ProbegateError(Reason.LOG_UNAVAILABLE, "the running server did not log the entry")

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
        with _storage(), self.engine.begin() as connection:
            connection.execute(insert(requests), row)
        return request

    def _waiting(self) -> tuple[tuple[str, str], ...]:
        query = select(requests.c.id, requests.c.leaf).where(requests.c.leaf_index.is_(None))
        with _storage(), self.engine.connect() as connection:
            return tuple((row.id, row.leaf) for row in connection.execute(query))

    def _index_of(self, request: str) -> int | None:
        query = select(requests.c.leaf_index).where(requests.c.id == request)
        with _storage(), self.engine.connect() as connection:
            found: int | None = connection.execute(query).scalar_one_or_none()
        return found

    def _withdraw(self, request: str) -> None:
        gone = delete(requests).where(requests.c.id == request, requests.c.leaf_index.is_(None))
        with _storage(), self.engine.begin() as connection:
            connection.execute(gone)


async def _in_files(folder: Path, index: int) -> None:
    """Wait until an entry is in the log's files; it is durable and done if they do not follow."""
    for _ in range(int(SERVER_PATIENCE_S / POLL_S)):
        with suppress(ProbegateError):  # a new log may have no files yet
            if LogReader(folder).size > index:
                return
        await asyncio.sleep(POLL_S)


@contextmanager
def _storage() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error
