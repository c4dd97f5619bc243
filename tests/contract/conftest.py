"""The databases that one set of tests runs over: SQLite in a file, and a PostgreSQL of our own."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from broker.tables import open_engine
from tests.postgres import running


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, on a socket in its data folder; its URL."""
    with running(tmp_path_factory.mktemp("pg")) as socket:
        yield f"postgresql+pg8000://postgres@/postgres?unix_sock={urllib.parse.quote(str(socket))}"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres")
    if url:
        clean = open_engine(tmp_path / "clean", url)
        with clean.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        clean.dispose()
    made = open_engine(tmp_path / "state", url)
    yield made
    made.dispose()
