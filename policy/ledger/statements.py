"""The ledger's hot statements as text for the driver, rendered once.

Each search runs them, and building a statement anew would cost more than running it. SQLite and
PostgreSQL say all of them alike, but for how a parameter is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from policy.standing import Per

_INSERT_USE: Final = (
    "INSERT INTO ledger_uses (ref, force, officer, case_key, matter, at_us, agencies, answered) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_REMEMBER_REASONS: Final = (
    "INSERT INTO ledger_reasons (text_key, case_key, last_us) VALUES (?, ?, ?) "
    "ON CONFLICT (text_key, case_key) DO UPDATE SET last_us = excluded.last_us"
)
_UPDATE_ANSWERED: Final = "UPDATE ledger_uses SET answered = ?, answered_us = ? WHERE ref = ?"
_COUNT_REUSES: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM ledger_reasons "
    "WHERE text_key = ? AND case_key <> ? AND last_us >= ? LIMIT ?) AS others"
)
_COUNT_USES: Final = (
    "SELECT agencies, count(*) FROM ledger_uses "
    "WHERE {column} = ? AND at_us >= ? AND at_us < ? GROUP BY agencies"
)
_COLUMNS: Final = {Per.FORCE: "force", Per.OFFICER: "officer", Per.CASE: "case_key"}
"""Whose searches a counter counts, as columns."""


@dataclass(frozen=True, slots=True)
class Statements:
    """Text with its parameters in order."""

    insert_use: str
    """(ref, force, officer, case, matter, at, agencies, answered)."""
    remember_reasons: str
    """(text, case, at)."""
    update_answered: str
    """(agencies, at, ref)."""
    count_reuses: str
    """(text, case, since, most): in how many other cases, counted no further than ``most``."""

    count_uses: Mapping[Per, str]
    """(subject, from, before): how often searches of each set of agencies were permitted."""

    @classmethod
    def of(cls, engine: Engine) -> Statements:
        """Render for the engine's driver."""
        mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
        return cls(
            insert_use=_INSERT_USE.replace("?", mark),
            remember_reasons=_REMEMBER_REASONS.replace("?", mark),
            update_answered=_UPDATE_ANSWERED.replace("?", mark),
            count_reuses=_COUNT_REUSES.replace("?", mark),
            count_uses={
                per: _COUNT_USES.format(column=column).replace("?", mark)
                for per, column in _COLUMNS.items()
            },
        )
