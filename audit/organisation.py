"""An organisation's two logs, opened together: what became of searches, what was administered.

The log's origin is the name of its key in the directory, so that whoever holds the directory knows
which key signs which log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from sqlalchemy import Engine

from audit.leaves import JsonValue, stamp
from audit.notes import note_signer
from audit.settings import LogSettings
from audit.writer import LogWriter, NewEntry
from trust import telemetry
from trust.ceremony import MemberFolder
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner

SEARCH: Final = "search"
ADMIN: Final = "admin"
CANNOT_RECORD: Final = frozenset(
    {
        Reason.DISK_FULL,
        Reason.LOG_CORRUPT,
        Reason.LOG_UNAVAILABLE,
        Reason.SERVER_BUSY,
        Reason.STATE_UNAVAILABLE,
    }
)
"""Refusals that mean the log itself is in trouble; recording them is beside the point."""


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs of one organisation."""

    search: LogWriter
    admin: LogWriter

    def by_name(self) -> Mapping[str, LogWriter]:
        """Return them by the names the wire gives them."""
        return {SEARCH: self.search, ADMIN: self.admin}

    async def record(self, kind: str, at: datetime, **facts: JsonValue) -> None:
        """Put an administrative event on the record; durable when this returns."""
        await self.admin.append(NewEntry(leaf=admin_leaf(kind, at, **facts)))

    async def record_directory(self, directory: Directory, at: datetime) -> None:
        """Put a directory on the record, before it is taken up."""
        await self.record(
            "directory.activated", at, version=directory.version, sha256=directory.sha256.hex()
        )

    async def record_bundle(self, set_id: str, version: int, sha256: bytes, at: datetime) -> None:
        """Put an agreement bundle on the record, before it is taken up."""
        await self.record("bundle.activated", at, set=set_id, version=version, sha256=sha256.hex())

    @property
    def are_well(self) -> bool:
        """Whether both take entries; where one does not, only opening them anew helps."""
        return self.search.is_well and self.admin.is_well

    def observe(self) -> None:
        """Offer the depth of both queues as a gauge; it costs nothing when telemetry is off."""

        def queued(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(log.pending(), {"log": n}) for n, log in self.by_name().items()]

        telemetry.meter().create_observable_gauge("probegate.log.queued", [queued])

    async def close(self) -> None:
        """Flush, publish and let go of both."""
        await self.search.close()
        await self.admin.close()


def admin_leaf(kind: str, at: datetime, **facts: JsonValue) -> dict[str, JsonValue]:
    """Return what an entry of the admin log says."""
    return {"v": 1, "type": kind, "at": stamp(at), **facts}


def open_logs(
    engine: Engine,
    *,
    member_id: str,
    member_folder: MemberFolder,
    directory: Directory,
    logs_dir: Path,
    at: datetime,
    settings: LogSettings | None = None,
) -> Logs:
    """Open both logs of a member with the keys in its folder.

    Raises:
        ProbegateError: ``KEY_UNKNOWN`` if the directory does not list the key as this member's
            log key, and whatever ``LogWriter.open`` raises.
    """
    signers = {
        SEARCH: member_folder.log_search_signer(),
        ADMIN: member_folder.log_admin_signer(),
    }
    writers = {
        name: LogWriter.open(
            engine,
            name=name,
            origin=(origin := _origin(directory, member_id, signer, at)),
            signer=note_signer(origin, signer.sign, signer.public_key),
            folder=logs_dir / name,
            settings=settings,
        )
        for name, signer in signers.items()
    }
    return Logs(search=writers[SEARCH], admin=writers[ADMIN])


def _origin(directory: Directory, member_id: str, signer: FileSigner, at: datetime) -> str:
    for key in directory.keys(member_id, KeyUse.LOG, at):
        if key.kid == signer.kid and key.name:
            return key.name
    raise ProbegateError(Reason.KEY_UNKNOWN, f"{member_id!r} has no such log key")
