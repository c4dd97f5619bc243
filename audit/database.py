"""The database that an organisation's logs share with its own tables, opened so that commits last.

Importing this needs alembic, which an auditor's machine does without.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from audit.durable import durable_engine
from audit.tables import storage_failure
from trust import files
from trust.errors import Reason


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
        engine = durable_engine(url or f"sqlite:///{state_dir / file_name}")
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
