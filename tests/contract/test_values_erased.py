"""Erased values leave the database's own files, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text

from audit.erasing import ValuesClerk, chosen, facts_of
from audit.kinds import ERASED
from audit.notes import note_signer
from audit.scrubbing import (
    REMAINS_POSTGRES,
    REMAINS_TABLE_BUSY,
    REMAINS_WAL_BUSY,
    Scrubber,
    scrub,
)
from audit.tables import is_postgres
from audit.writer import LogWriter, NewEntry

SECRET = "a necessity that nobody else has written down"


def files_of(engine: Engine) -> list[Path]:
    """Every file that the database calls its own; of PostgreSQL, without what ``remains`` names."""
    if not is_postgres(engine):
        database = Path(str(engine.url.database))
        return list(database.parent.glob(f"{database.name}*"))
    socket = Path(urllib.parse.unquote(str(engine.url.query["unix_sock"])))
    return [
        path for path in socket.parent.rglob("*") if path.is_file() and "pg_wal" not in path.parts
    ]


def held_in(engine: Engine) -> list[str]:
    return [path.name for path in files_of(engine) if SECRET.encode() in path.read_bytes()]


def open_log(engine: Engine, folder: Path) -> LogWriter:
    key = Ed25519PrivateKey.generate()
    origin = "broker.example/search"
    return LogWriter.open(
        engine,
        name="search",
        origin=origin,
        signer=note_signer(origin, key.sign, key.public_key().public_bytes_raw()),
        folder=folder,
    )


async def test_no_file_holds_what_was_erased(engine: Engine, tmp_path: Path) -> None:
    log = open_log(engine, tmp_path / "log")
    private = {"necessity": SECRET, "case": "kept"}
    done = await log.append(NewEntry({"v": 1, "type": "search.order"}, private=private))
    if is_postgres(engine):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CHECKPOINT"))
    assert held_in(engine), "the positive control"
    leaf = {"v": 1, "type": ERASED, **facts_of("search", [done.index], ["necessity"], "DPO/1")}

    def also(connection: object, index: int) -> None:
        ValuesClerk().also(connection, index, leaf)  # type: ignore[arg-type]

    await log.append(NewEntry(leaf, also=also))
    remains = scrub(engine)
    assert held_in(engine) == []
    assert (REMAINS_POSTGRES in remains) == is_postgres(engine)
    assert [one.fields for one in chosen(engine, "search", None)] == [("case",)]
    await log.close()


@asynccontextmanager
async def somebody_reads(engine: Engine) -> AsyncIterator[None]:
    """As ``probegate audit verify-values`` does, which leaves its cursor open as it goes."""
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM log_values")).all()
        if not is_postgres(engine):
            connection.exec_driver_sql("BEGIN")
        connection.execute(text("SELECT count(*) FROM log_values")).all()
        yield


async def test_the_log_never_waits_for_a_reader_while_erased_bytes_are_removed(
    engine: Engine, tmp_path: Path
) -> None:
    """Removing them waits for readers, and whoever writes would wait behind it."""
    log = open_log(engine, tmp_path / "log")
    await log.append(NewEntry({"v": 1, "type": "x"}, private={"necessity": SECRET}))
    async with somebody_reads(engine):
        await log.append(NewEntry({"v": 1, "type": "x"}, private={"necessity": SECRET}))
        removing = asyncio.create_task(asyncio.to_thread(partial(scrub, engine, patience_s=2.0)))
        appended = 0
        while not removing.done():
            async with asyncio.timeout(10):  # its own patience is longer than the log's
                await log.append(NewEntry({"v": 1, "type": "x"}, private={"necessity": "more"}))
            appended += 1
        busy = REMAINS_TABLE_BUSY if is_postgres(engine) else REMAINS_WAL_BUSY
        assert busy in await removing
        assert appended > 1
    assert busy not in scrub(engine)
    await log.close()


async def test_what_could_not_be_removed_is_removed_at_another_turn(
    engine: Engine, tmp_path: Path
) -> None:
    log = open_log(engine, tmp_path / "log")
    done = await log.append(NewEntry({"v": 1, "type": "x"}, private={"necessity": SECRET}))
    files = Scrubber(engine)
    await files.scrub()
    leaf = {"v": 1, "type": ERASED, **facts_of("search", [done.index], ["necessity"], "DPO/1")}
    files.erased()
    async with somebody_reads(engine):
        also = lambda connection, index: ValuesClerk().also(connection, index, leaf)  # noqa: E731
        await log.append(NewEntry(leaf, also=also))
        await files.scrub()
        assert is_postgres(engine) or held_in(engine), "the positive control"
    await files.scrub()
    if not is_postgres(engine):  # whose dead rows are its own vacuum's
        assert held_in(engine) == []
    await log.close()
