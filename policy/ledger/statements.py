"""The ledger's hot statements as text for the driver, rendered once.

Each search runs them, and building a statement anew would cost more than running it. SQLite and
PostgreSQL say all of them alike, but for how a parameter is marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

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

    @classmethod
    def of(cls, engine: Engine) -> Statements:
        """Render for the engine's driver."""
        mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
        said = (_INSERT_USE, _REMEMBER_REASONS, _UPDATE_ANSWERED, _COUNT_REUSES)
        return cls(*(statement.replace("?", mark) for statement in said))
