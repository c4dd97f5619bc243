"""How stores read the broker's database, and write to it by themselves.

Writes that belong to a log entry are handed to the log writer instead (``NewEntry.also``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from audit.tables import storage_failure
from trust.clock import from_us, to_us
from trust.errors import Reason

Write = Callable[[Connection, int], None]
_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Storage:
    """The broker's database."""

    engine: Engine

    async def rows(self, statement: Any) -> Sequence[Any]:
        """Return what a query finds.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        return await self.run(lambda connection: connection.execute(statement).all())

    async def run(self, work: Callable[[Connection], _Done]) -> _Done:
        """Do something in a transaction of its own.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
        """

        def done() -> _Done:
            with self.engine.begin() as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(done)
        except SQLAlchemyError as error:
            raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error


def moment_of(microseconds: int | None) -> datetime | None:
    """Return the instant a column says, if it says one."""
    return None if microseconds is None else from_us(microseconds)


def microseconds_of(moment: datetime | None) -> int | None:
    """Return an instant as a column says it, if there is one: the inverse of ``moment_of``."""
    return None if moment is None else to_us(moment)


def largest(connection: Connection, column: Any, *where: Any) -> int:
    """Return the largest value of a numbered column, 0 if there is none."""
    found = connection.execute(select(func.coalesce(func.max(column), 0)).where(*where))
    return int(found.scalar_one())


def together(*writes: Write) -> Write:
    """Return one write that makes all of them, in their order."""

    def write(connection: Connection, index: int) -> None:
        for one in writes:
            one(connection, index)

    return write
