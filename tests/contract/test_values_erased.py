"""Erased values leave the database's own files, on SQLite and on PostgreSQL."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, text

from audit.erasing import REMAINS_POSTGRES, ValuesClerk, chosen, facts_of, scrub
from audit.kinds import ERASED
from audit.notes import note_signer
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


async def test_no_file_holds_what_was_erased(engine: Engine, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    origin = "broker.example/search"
    log = LogWriter.open(
        engine,
        name="search",
        origin=origin,
        signer=note_signer(origin, key.sign, key.public_key().public_bytes_raw()),
        folder=tmp_path / "log",
    )
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
