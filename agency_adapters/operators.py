"""What the agency's own people do at an adapter, each of it an entry of the admin log first.

A log has one writer. If the adapter is running, it is the adapter: the command leaves its entry in
the database, the adapter puts it on the log (``AdminDesk``), and only then is anything shown or
changed. If it is not running, the command opens the log itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from agency_adapters.agency import OwnerDecision
from agency_adapters.models import FoundRecord
from agency_adapters.registry import kind_named
from agency_adapters.settings import AdapterSettings
from agency_adapters.state import AdapterState, request_logged
from agency_adapters.tables import open_engine
from audit.leaves import JsonValue
from audit.organisation import open_logs
from audit.writer import LogWriter, NewEntry
from trust import telemetry
from trust.ceremony import MemberFolder
from trust.clock import Clock, utc_now
from trust.directory_store import DirectoryStore
from trust.errors import ProbegateError, Reason

ADAPTER_PATIENCE_S: Final = 15.0
"""How long a command waits for the running adapter to log its entry, seconds."""
POLL_S: Final = 0.1
"""How often it looks, seconds."""


@dataclass(frozen=True, slots=True)
class AdminDesk:
    """Puts entries that operators' commands left in the database on the running adapter's log."""

    state: AdapterState
    log: LogWriter

    async def serve(self, poll_s: float) -> None:
        """Look for entries for ever."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.clear()
            except ProbegateError as error:
                telemetry.log("operators' entries wait", reason=error.reason.name)

    async def clear(self) -> None:
        """Log every entry that waits."""
        for request, leaf in self.state.asked():

            def also(connection: Connection, index: int, request: str = request) -> None:
                request_logged(connection, request, index)

            await self.log.append(NewEntry(leaf=json.loads(leaf), also=also))


@dataclass(frozen=True, slots=True)
class Operator:
    """One command of the agency's own people."""

    settings: AdapterSettings
    state: AdapterState
    clock: Clock = utc_now

    @classmethod
    def open(cls, settings: AdapterSettings) -> Operator:
        """Open the adapter's database.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        return cls(settings, AdapterState(open_engine(settings.state_dir)))

    async def resolve(
        self, *, search_id: str | None = None, reference: str | None = None
    ) -> Sequence[tuple[str, FoundRecord]]:
        """Return the records behind a reference or a search, once the read is on the log.

        Raises:
            ProbegateError: ``USAGE`` unless exactly one is given; ``NOT_FOUND``;
                ``LOG_UNAVAILABLE``.
        """
        if (search_id is None) == (reference is None):
            raise ProbegateError(Reason.USAGE, "give a search or a reference")
        found = self.state.resolve(search_id=search_id, reference=reference)
        await self.log(
            "candidates.resolved",
            search_id=found[0][0] if found else "",
            references=[record.reference for _, record in found],
        )
        if not found:
            raise ProbegateError(Reason.NOT_FOUND)
        return found

    async def decide(self, request_id: str, authority: str, reference: str) -> None:
        """Record the owner's decision to answer a request that is to come.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` for an authority this kind of agency does not have;
                ``LOG_UNAVAILABLE``.
        """
        known = kind_named(self.settings.kind).authorities
        if authority not in known:
            names = ", ".join(known) or "none"
            raise ProbegateError(Reason.CONFIG_INVALID, f"known are: {names}", field="authority")
        index = await self.log(
            "owner.decision", request_id=request_id, authority=authority, reference=reference
        )
        self.state.decided(request_id, OwnerDecision(authority, reference), index)

    async def log(self, kind: str, **facts: JsonValue) -> int:
        """Put an entry on the admin log, through the running adapter if there is one."""
        leaf = {"v": 1, "type": kind, "at": _stamp(self.clock()), **facts}
        request = self.state.ask(leaf)
        try:
            await self._log_here()
        except ProbegateError as error:
            if error.reason is not Reason.LOG_UNAVAILABLE:  # the adapter holds the log
                raise
        for _ in range(int(ADAPTER_PATIENCE_S / POLL_S)):
            index = self.state.index_of(request)
            if index is not None:
                return index
            await asyncio.sleep(POLL_S)
        self.state.withdraw(request)
        raise ProbegateError(Reason.LOG_UNAVAILABLE, "the running adapter did not log the entry")

    async def _log_here(self) -> None:
        settings, now = self.settings, self.clock()
        directory = DirectoryStore(
            settings.directory, settings.scheme_key, settings.state_dir / "directory.json"
        ).load(now)
        logs = open_logs(
            self.state.engine,
            member_id=settings.id,
            member_folder=MemberFolder(settings.member_folder),
            directory=directory,
            logs_dir=settings.logs_dir,
            at=now,
        )
        try:
            await AdminDesk(self.state, logs.admin).clear()
        finally:
            await logs.close()


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
