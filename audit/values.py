"""Reading the side store: values and salts of the fields that entries commit to."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from audit.leaves import PrivateValue
from audit.tables import values


def read_values(connection: Connection, log: str, index: int) -> Mapping[str, PrivateValue]:
    """Return the private values of one entry by field; what was erased is not there.

    Args:
        connection: to the database the log commits to.
        log: the log's name in that database.
        index: the entry's index.
    """
    table = values.c
    query = select(table.field, table.value, table.salt).where(
        table.log == log,
        table.idx == index,
        table.value.is_not(None),
        table.salt.is_not(None),
    )
    return {
        row.field: PrivateValue(row.field, bytes(row.value), bytes(row.salt))
        for row in connection.execute(query)
    }
