"""What a witness remembers, in SQLite or PostgreSQL: newest checkpoints, and evidence.

1. Every function but ``open_memory`` and ``survey`` works inside its caller's transaction.
2. ``hold`` takes a log's row by a write that changes nothing, before it is read: from then to the
   commit nobody else judges this log, in this process or in another one.
3. The newest checkpoint is one row, which is replaced. Earlier ones are kept by size, up to a
   number, only to make contradictions plain.
4. Evidence is kept in the same table as an adapter's witness keeps it, and never deleted.
5. A commit has reached the disk when it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from audit.checkpoints import Checkpoint
from audit.durable import durable_engine
from audit.merkle import EMPTY_ROOT
from audit.tables import state_storage
from audit.witness import evidence
from trust import files

DATABASE: Final = "witness.db"
_metadata: Final = MetaData()

cosigned: Final = Table(
    "witness_cosigned",
    _metadata,
    Column("origin", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("cosigned_at", BigInteger, nullable=False),
)
"""One row per log: the newest checkpoint with the log's signature and ours."""

history: Final = Table(
    "witness_history",
    _metadata,
    Column("origin", String, primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
)
"""Earlier checkpoints, by size."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The newest checkpoint of a log; ``note`` is empty if none was cosigned yet."""

    origin: str
    size: int
    root: bytes
    note: bytes
    cosigned_at: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two notes that contradict each other; times in Unix seconds."""

    notes: tuple[bytes, bytes]
    seen_at: int
    resolved_at: int | None


@dataclass(frozen=True, slots=True)
class LogMemory:
    """All that is remembered of one log, for people."""

    newest: Remembered
    evidence: tuple[Evidence, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it with notes as text."""
        return {
            "origin": self.newest.origin,
            "size": self.newest.size,
            "note": self.newest.note.decode(),
            "cosigned_at": self.newest.cosigned_at,
            "evidence": [
                {
                    "notes": [note.decode() for note in one.notes],
                    "seen_at": one.seen_at,
                    "resolved_at": one.resolved_at,
                }
                for one in self.evidence
            ],
        }


def open_memory(state_dir: Path, url: str = "") -> Engine:
    """Open a witness's database, making it if it is new.

    Args:
        state_dir: where the SQLite file lies if no URL is given.
        url: an SQLAlchemy URL, such as one for PostgreSQL.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    with state_storage():
        files.make_folder(state_dir, mode=files.PRIVATE_FOLDER_MODE)
        engine = durable_engine(url or f"sqlite:///{state_dir / DATABASE}")
        _metadata.create_all(engine)
        evidence.create(engine, checkfirst=True)
    return engine


def begin(connection: Connection, origins: frozenset[str]) -> None:
    """Make a row for each log that has none: the empty tree, not cosigned."""
    known = set(connection.execute(select(cosigned.c.origin)).scalars())
    for origin in sorted(origins - known):
        row = {"origin": origin, "size": 0, "root": EMPTY_ROOT, "note": b"", "cosigned_at": 0}
        connection.execute(insert(cosigned), row)


def hold(connection: Connection, origin: str) -> Remembered:
    """Lock a log's row (2) and read it."""
    mine = cosigned.c.origin == origin
    connection.execute(update(cosigned).where(mine).values(size=cosigned.c.size))
    return newest(connection, origin)


def newest(connection: Connection, origin: str) -> Remembered:
    """Read a log's row."""
    row = connection.execute(select(cosigned).where(cosigned.c.origin == origin)).one()
    return Remembered(row.origin, row.size, bytes(row.root), bytes(row.note), row.cosigned_at)


def survey(engine: Engine) -> list[LogMemory]:
    """Read everything, by origin.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    with state_storage(), engine.connect() as connection:
        kept = connection.execute(select(evidence).order_by(evidence.c.seen_at)).all()
        rows = connection.execute(select(cosigned).order_by(cosigned.c.origin)).all()
    return [
        LogMemory(
            Remembered(row.origin, row.size, bytes(row.root), bytes(row.note), row.cosigned_at),
            tuple(
                Evidence((bytes(one.note_a), bytes(one.note_b)), one.seen_at, one.resolved_at)
                for one in kept
                if one.origin == row.origin
            ),
        )
        for row in rows
    ]


def contradicted(connection: Connection, held: Remembered, new: Checkpoint) -> bytes | None:
    """Return the note of the same size and another root, if one is remembered."""
    root, note = held.root, held.note
    if held.size != new.size:
        query = select(history.c.root, history.c.note).where(
            history.c.origin == new.origin, history.c.size == new.size
        )
        found = connection.execute(query).first()
        if found is None:
            return None
        root, note = bytes(found.root), bytes(found.note)
    return note if note and root != new.root else None


def remember(
    connection: Connection, new: Checkpoint, note: bytes, now: datetime, history_max: int
) -> None:
    """Replace the newest checkpoint, and forget the earliest ones beyond ``history_max`` (3)."""
    of_log = history.c.origin == new.origin
    connection.execute(delete(history).where(of_log, history.c.size == new.size))
    row = {"origin": new.origin, "size": new.size, "root": new.root, "note": note}
    connection.execute(insert(history), row)
    beyond = select(history.c.size).where(of_log).order_by(history.c.size.desc())
    forgotten = connection.execute(beyond.offset(history_max).limit(1)).scalar_one_or_none()
    if forgotten is not None:
        connection.execute(delete(history).where(of_log, history.c.size <= forgotten))
    connection.execute(
        update(cosigned)
        .where(cosigned.c.origin == new.origin)
        .values(size=new.size, root=new.root, note=note, cosigned_at=int(now.timestamp()))
    )


def keep_evidence(
    connection: Connection, origin: str, pair: tuple[bytes, bytes], now: datetime, most: int
) -> bool:
    """Keep two contradicting notes unless ``most`` are (4); say whether they were new."""
    digest = sha256(b"".join(pair)).hexdigest()
    count = select(func.count()).where(evidence.c.origin == origin)
    again = select(func.count()).where(evidence.c.digest == digest)
    if connection.execute(again).scalar_one():
        return False
    if connection.execute(count).scalar_one() >= most:
        return True
    row = {"digest": digest, "origin": origin, "seen_at": int(now.timestamp())}
    connection.execute(insert(evidence), {**row, "note_a": pair[0], "note_b": pair[1]})
    return True


def accused(connection: Connection, origin: str) -> bool:
    """Whether unresolved evidence is kept against a log."""
    query = select(func.count()).where(
        evidence.c.origin == origin, evidence.c.resolved_at.is_(None)
    )
    return connection.execute(query).scalar_one() > 0
