"""The database that an organisation's logs share with its own tables, opened so that commits last.

Importing this needs alembic, which an auditor's machine does without.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from audit.tables import storage_failure
from trust import files
from trust.errors import Reason

LOCK_TIMEOUT_S: Final = 30
"""How long one writer waits for another of the same SQLite file, seconds."""


def open_database(state_dir: Path, file_name: str, migrations: Path, url: str = "") -> Engine:
    """Open a database and bring its tables up to date.

    Args:
        state_dir: where the SQLite file lies if no URL is given.
        file_name: that file's name.
        migrations: the folder of alembic migrations.
        url: an SQLAlchemy URL, such as one for PostgreSQL.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=files.PRIVATE_FOLDER_MODE)
        engine = create_engine(url or f"sqlite:///{state_dir / file_name}")
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _durable)
        _upgrade(engine, migrations)
    except (SQLAlchemyError, OSError) as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error
    return engine


def _upgrade(engine: Engine, migrations: Path) -> None:
    """Run the migrations that this database has not seen."""
    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _durable(connection: sqlite3.Connection, _record: object) -> None:
    """Make every commit reach the disk before it returns, and erased rows leave no bytes behind."""
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        f"busy_timeout = {LOCK_TIMEOUT_S * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")
