"""Verifying the side store: is every value beside a log the one that its entry committed to?

1. Every value that is there, with its salt, hashes to the commitment of its entry's field.
2. Every commitment has a value, or is erased by an entry of the admin log that names it.
3. No value is of an entry or a field that the log does not have.

Nothing is shown but entries and names of fields, so this is no read of values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from hmac import compare_digest
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Select, select
from sqlalchemy.exc import SQLAlchemyError

from audit.kinds import EVERY_FIELD
from audit.leaves import COMMITMENTS, SALT_BYTES, commitment
from audit.opening import Erasure
from audit.reader import LogReader
from audit.tables import heads, values
from audit.verify import PROBLEMS_MAX
from trust.errors import ProbegateError, Reason


class ValueProblem(BaseModel):
    """One thing that is wrong, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: int
    field: str
    what: str


class ValuesReport(BaseModel):
    """What verifying a side store found.

    Attributes:
        ok: whether nothing is wrong.
        values: values that are as committed.
        erased: commitments whose value is gone, as the admin log says.
        problem_count: how many problems.
        problems: the first hundred.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool
    values: int
    erased: int
    problem_count: int
    problems: tuple[ValueProblem, ...]


def verify_values(
    reader: LogReader,
    connection: Connection,
    log: str,
    erasures: Mapping[tuple[int, str], Erasure],
) -> ValuesReport:
    """Verify all values beside a log. Memory holds one entry's at a time.

    Args:
        reader: the log; verify its folder as well.
        connection: to the organisation's database.
        log: the log's name in it.
        erasures: what ``audit.opening.read_erasures`` found.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` if the database cannot be read; what reading the log
            raises.
    """
    run = _Run(erasures)
    rows = itertools.groupby(_rows(connection, log, reader.size), key=lambda row: row.idx)
    there = next(rows, None)
    for index, said in reader.facts():
        mine: dict[str, Any] = {}
        if there is not None and there[0] == index:
            mine = {row.field: row for row in there[1]}
            there = next(rows, None)
        committed = said.get(COMMITMENTS, {})
        run.check(index, committed if isinstance(committed, dict) else {}, mine)
    run.beyond(_beyond(connection, log))
    return ValuesReport(
        ok=run.count == 0,
        values=run.values,
        erased=run.erased,
        problem_count=run.count,
        problems=tuple(run.problems),
    )


class _Run:
    def __init__(self, erasures: Mapping[tuple[int, str], Erasure]) -> None:
        self._erasures = erasures
        self.values = self.erased = self.count = 0
        self.problems: list[ValueProblem] = []

    def check(self, index: int, committed: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
        """Check one entry's values."""
        for field in rows.keys() - committed.keys():  # (3)
            self._wrong(index, field, "the entry commits to no such field")
        for field, digest in committed.items():
            row = rows.get(field)
            if row is None or row.value is None or row.salt is None:
                self._gone(index, field)
                continue
            value, salt = bytes(row.value), bytes(row.salt)
            made = commitment(field, salt, value)
            if len(salt) == SALT_BYTES and compare_digest(made, str(digest)):  # (1)
                self.values += 1
            else:
                self._wrong(index, field, "is not the value that the entry committed to")

    def beyond(self, rows: Iterable[Any]) -> None:
        """Count values of entries that there are not (3)."""
        for row in rows:
            self._wrong(row.idx, row.field, "there is no such entry")

    def _gone(self, index: int, field: str) -> None:
        """Count a value that is gone, if an entry says that it was erased (2)."""
        if {(index, field), (index, EVERY_FIELD)} & self._erasures.keys():
            self.erased += 1
        else:
            self._wrong(index, field, "is gone, and no entry says that it was erased")

    def _wrong(self, entry: int, field: str, what: str) -> None:
        self.count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(ValueProblem(entry=entry, field=field, what=what))


def _beyond(connection: Connection, log: str) -> Iterator[Any]:
    """Yield values beyond the log's head, which commits with them and not with its files."""
    size = select(heads.c.size).where(heads.c.log == log).scalar_subquery()
    query = (
        select(values.c.idx, values.c.field)
        .where(values.c.log == log, values.c.idx >= size)
        .order_by(values.c.idx, values.c.field)
        .execution_options(yield_per=256)
    )
    return _read(connection, query)


def _rows(connection: Connection, log: str, size: int) -> Iterator[Any]:
    query = (
        select(values.c.idx, values.c.field, values.c.value, values.c.salt)
        .where(values.c.log == log, values.c.idx < size)
        .order_by(values.c.idx, values.c.field)
        .execution_options(yield_per=256)
    )
    return _read(connection, query)


def _read(connection: Connection, query: Select[Any]) -> Iterator[Any]:
    try:
        yield from connection.execute(query)
    except SQLAlchemyError as error:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, type(error).__name__) from error
