"""What of the second step goes on this agency's search log, and how.

1. An entry and what it stands for commit in one transaction, before anything is answered.
2. A caller that gives up meanwhile changes nothing: an entry on its way is seen to its end.
3. A refusal is an entry too, with its reason and what is certain of the request.
4. An entry says nothing personal: ids of searches, references, digests, codes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from agency_adapters.recording import Seen, to_its_end
from audit.leaves import JsonValue, stamp
from audit.organisation import CANNOT_RECORD
from audit.writer import Appended, LogWriter, NewEntry
from trust import telemetry
from trust.clock import Clock
from trust.errors import ProbegateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Also = Callable[[Connection, int], None]


@dataclass(slots=True)
class Certain:
    """What is certain of a request so far; what of it fails is recorded with it (3)."""

    facts: dict[str, JsonValue] = field(default_factory=dict)
    seen: Seen | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """Records what becomes of requests.

    Attributes:
        log: this agency's search log.
        clock: tells the time.
    """

    log: LogWriter
    clock: Clock

    async def record(
        self, kind: str, certain: Certain, also: Also | None = None, **facts: JsonValue
    ) -> Appended:
        """Put an entry on the log with what it stands for (1) (2)."""
        return await to_its_end(self._record(kind, certain, also, facts))

    @asynccontextmanager
    async def refusing(self, kind: str) -> AsyncIterator[Certain]:
        """Let a request be tried; if it is refused, put that on the log (3)."""
        certain = Certain()
        try:
            yield certain
        except ProbegateError as error:
            if error.reason not in CANNOT_RECORD:
                await self.record(kind, certain, reason=error.reason.name)
                telemetry.log(kind, logging.INFO, reason=error.reason.name)
            raise

    async def _record(
        self, kind: str, certain: Certain, also: Also | None, facts: dict[str, JsonValue]
    ) -> Appended:
        seen = certain.seen
        leaf: dict[str, JsonValue] = {"v": 1, "type": kind, "at": stamp(self.clock())}
        leaf |= {"search_id": "", **certain.facts, **facts}
        if seen is not None:
            leaf["broker_checkpoint"] = dict(seen.checkpoint)

        def write(connection: Connection, index: int) -> None:
            if seen is not None:
                seen.admission.persist(connection)
            if also is not None:
                also(connection, index)

        return await self.log.append(NewEntry(leaf=leaf, also=write))
