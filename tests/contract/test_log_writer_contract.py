"""The log writer's promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from audit import merkle, tables
from audit.checkpoints import open_checkpoint
from audit.leaves import JsonValue, parse_leaf, verify_commitment
from audit.notes import NoteSigner, VerifierKey, note_signer
from audit.reader import LogReader
from audit.settings import LogSettings
from audit.verify import verify_folder
from audit.writer import Appended, LogWriter, NewEntry
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"
Open = Callable[..., LogWriter]


@pytest.fixture(params=["sqlite", "sqlite-begun-by-us", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param.startswith("sqlite"):
        made = create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    else:
        made = create_engine(request.getfixturevalue("postgres"))
        with made.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    if request.param == "sqlite-begun-by-us":
        # SQLAlchemy's recipe for exact transactions; a caller's engine may be made like this.
        event.listen(made, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    yield made
    made.dispose()


@pytest.fixture
def signer() -> NoteSigner:
    key = Ed25519PrivateKey.generate()
    return note_signer(ORIGIN, key.sign, key.public_key().public_bytes_raw())


@pytest.fixture
def opened(engine: Engine, signer: NoteSigner, tmp_path: Path) -> Open:
    def open_(**changes: object) -> LogWriter:
        given = {"name": "search", "origin": ORIGIN, "signer": signer, "folder": tmp_path / "log"}
        return LogWriter.open(engine, **(given | changes))  # type: ignore[arg-type] # as given

    return open_


def check(one: Appended, signer: NoteSigner) -> None:
    """What an adapter would check: this leaf, in this log, under this signature."""
    signed = open_checkpoint(one.checkpoint.note, [VerifierKey.of(signer)], ORIGIN)
    at = signed.checkpoint
    assert merkle.leaf_hash(one.leaf) == one.leaf_hash
    merkle.verify_inclusion(one.index, at.size, one.leaf_hash, one.proof, at.root)


async def test_what_returned_is_durable_proved_and_consistent(
    opened: Open, signer: NoteSigner, tmp_path: Path
) -> None:
    writer = opened()
    assert writer.checkpoint.checkpoint.size == 0

    async def caller(who: int) -> list[Appended]:
        return [await writer.append(NewEntry({"who": who, "n": n})) for n in range(20)]

    done = [one for some in await asyncio.gather(*map(caller, range(30))) for one in some]
    for one in done:
        check(one, signer)
    assert sorted(one.index for one in done) == list(range(600))
    newest = writer.checkpoint.checkpoint
    for one in done:
        old = one.checkpoint.checkpoint
        proof = writer.consistency(old.size, newest.size)
        merkle.verify_consistency(old.size, newest.size, old.root, newest.root, proof)
    assert writer.pending() == 0
    await writer.close()

    again = opened()
    assert again.checkpoint.checkpoint == newest
    for one in done:
        assert again.leaf(one.index) == one.leaf
        proof = again.inclusion(one.index, newest.size)
        merkle.verify_inclusion(one.index, newest.size, one.leaf_hash, proof, newest.root)
        old = one.checkpoint.checkpoint
        proof = again.consistency(old.size, newest.size)
        merkle.verify_consistency(old.size, newest.size, old.root, newest.root, proof)
    more = await again.append(NewEntry({"after": "reopening"}))
    assert more.index == 600
    check(more, signer)
    await again.close()
    report = verify_folder(tmp_path / "log", VerifierKey.of(signer))
    assert (report.ok, report.entries, report.problems) == (True, 601, ())
    assert [leaf for _, leaf in LogReader(tmp_path / "log").leaves(0, 600)] == [
        one.leaf for one in sorted(done, key=lambda one: one.index)
    ]


async def test_staged_entries_go_only_once_their_bundle_is_on_disk(
    opened: Open, engine: Engine, tmp_path: Path
) -> None:
    writer = opened(settings=LogSettings(publish_interval_s=0.01))
    await asyncio.gather(*(writer.append(NewEntry({"n": n})) for n in range(300)))
    await writer.close()
    with engine.connect() as connection:
        kept = select(func.min(tables.entries.c.idx), func.count())
        assert tuple(connection.execute(kept).one()) == (256, 44)
    assert not (tmp_path / "log/tile/entries/000.p").exists()
    assert (tmp_path / "log/tile/entries/001.p/44").exists()


async def test_private_values_go_beside_the_log_and_open_their_commitment(
    opened: Open, engine: Engine
) -> None:
    writer = opened()
    one = await writer.append(NewEntry({"type": "order"}, {"officer": "PC 1234", "n": [1, None]}))
    await writer.close()
    assert b"PC 1234" not in one.leaf  # not a string that a digest could hold by chance
    assert parse_leaf(one.leaf)["type"] == "order"
    with engine.connect() as connection:
        rows = connection.execute(select(tables.values)).all()
    assert {row.field: bytes(row.value) for row in rows} == {
        "officer": b'"PC 1234"',
        "n": b"[1,null]",
    }
    salts = {row.field: bytes(row.salt) for row in rows}
    verify_commitment(one.leaf, "officer", salts["officer"], "PC 1234")
    for field, salt, value in (
        ("officer", salts["officer"], "PC 1235"),
        ("officer", salts["n"], "PC 1234"),
        ("n", salts["officer"], "PC 1234"),
        ("officer", b"", "PC 1234"),
    ):
        with pytest.raises(ProbegateError):
            verify_commitment(one.leaf, field, salt, value)


async def test_state_and_entry_commit_together_or_not_at_all(
    opened: Open, engine: Engine, signer: NoteSigner
) -> None:
    orders = Table(
        "orders", MetaData(), Column("id", String, primary_key=True), Column("idx", Integer)
    )
    orders.create(engine)
    writer = opened()

    def order(name: str) -> NewEntry:
        def also(connection: Connection, index: int) -> None:
            connection.execute(insert(orders), {"id": name, "idx": index})

        return NewEntry({"order": name}, {"secret": name}, also=also)

    names = ["a", "b", "a", "c", "b", "d"]
    results = await asyncio.gather(*map(writer.append, map(order, names)), return_exceptions=True)
    done = [one for one in results if isinstance(one, Appended)]
    failed = [one for one in results if not isinstance(one, Appended)]
    assert [type(one) for one in failed] == [IntegrityError, IntegrityError]
    for one in done:
        check(one, signer)
    await writer.append(NewEntry({"the": "writer is well"}))
    await writer.close()
    with engine.connect() as connection:
        rows = {row.id: row.idx for row in connection.execute(select(orders))}
        fields = connection.execute(select(func.count()).select_from(tables.values)).scalar_one()
    assert rows == {str(parse_leaf(one.leaf)["order"]): one.index for one in done}
    assert sorted(rows.values()) == [0, 1, 2, 3]
    assert fields == 4
    again = opened()
    assert again.checkpoint.checkpoint.size == 5
    await again.close()


async def test_what_is_in_the_files_counts_no_more_towards_what_they_lack(
    opened: Open, tmp_path: Path
) -> None:
    """A log takes entries for ever, however many bytes of them there have been."""
    limits = LogSettings(publish_interval_s=0.01, unpublished_max_bytes=2**20)
    log = opened(settings=limits)
    large = "x" * 60_000
    for n in range(60):  # three times as much as may be missing from the files
        await log.append(NewEntry({"n": n, "words": large}))
        while LogReader(tmp_path / "log").size <= n:  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.002)
    assert log.checkpoint.checkpoint.size == 60
    await log.close()


async def test_a_log_whose_files_cannot_be_written_stops_at_its_limit_of_bytes(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    limits = LogSettings(publish_interval_s=0.01, unpublished_max_bytes=2**20)
    log = opened(settings=limits)
    with monkeypatch.context() as patch:
        patch.setattr("audit.writer.publish", full)
        for n in range(60):
            try:
                await log.append(NewEntry({"n": n, "words": "x" * 60_000}))
            except ProbegateError as error:
                refused = error
                break
        assert refused.reason in {Reason.LOG_UNAVAILABLE, Reason.DISK_FULL}
        assert 17 <= log.checkpoint.checkpoint.size <= 19
    async with asyncio.timeout(30):
        while True:  # there is room again, and it goes on by itself
            try:
                await log.append(NewEntry({"n": -1}))
                break
            except ProbegateError:
                await asyncio.sleep(0.01)
    assert log.checkpoint.checkpoint.size in {18, 19, 20}
    await log.close()


async def test_one_sequencer_at_a_time(opened: Open, tmp_path: Path) -> None:
    writer = opened()
    with pytest.raises(ProbegateError) as refused:
        opened()
    assert refused.value.reason is Reason.LOG_UNAVAILABLE
    await writer.close()
    await writer.close()
    with pytest.raises(ProbegateError) as closed:
        await writer.append(NewEntry({}))
    assert closed.value.reason is Reason.LOG_UNAVAILABLE
    await opened().close()


async def test_a_database_that_is_anothers_for_too_long_refuses_an_entry_and_no_more(
    opened: Open, engine: Engine
) -> None:
    """Nothing was begun, so nothing is in doubt."""
    writer = opened(settings=LogSettings(lock_timeout_s=0.05))
    await writer.append(NewEntry({"n": 0}))
    with engine.connect() as connection:
        connection.execute(tables.heads.update().values(origin=tables.heads.c.origin))
        waits = asyncio.create_task(writer.append(NewEntry({"n": 1})))
        if tables.is_postgres(engine):  # which has no lock of the whole database
            await asyncio.sleep(0.2)
            assert not waits.done()
        else:
            with pytest.raises(ProbegateError) as refused:
                await waits
            assert refused.value.reason is Reason.LOG_UNAVAILABLE
        connection.rollback()
    assert writer.is_well
    if tables.is_postgres(engine):
        assert (await waits).index == 1
    done = await writer.append(NewEntry({"n": 2}))
    assert done.index == 1 + tables.is_postgres(engine)
    await writer.close()


async def test_a_head_moved_by_someone_else_poisons_the_writer(
    opened: Open, engine: Engine
) -> None:
    writer = opened()
    await writer.append(NewEntry({"n": 0}))
    with engine.begin() as connection:
        connection.execute(tables.heads.update().values(size=7))
    for _ in range(2):
        with pytest.raises(ProbegateError) as refused:
            await writer.append(NewEntry({"n": 1}))
        assert refused.value.reason is Reason.LOG_UNAVAILABLE
    assert writer.checkpoint.checkpoint.size == 1
    await writer.close()
    with pytest.raises(ProbegateError) as corrupt:
        opened()
    assert corrupt.value.reason is Reason.LOG_CORRUPT


async def test_an_older_database_is_not_signed_on(
    opened: Open, engine: Engine, signer: NoteSigner
) -> None:
    writer = opened()
    await asyncio.gather(*(writer.append(NewEntry({"n": n})) for n in range(5)))
    await writer.close()
    with engine.begin() as connection:
        connection.execute(tables.heads.delete())
        connection.execute(tables.entries.delete())
    with pytest.raises(ProbegateError) as refused:
        opened()
    assert refused.value.reason is Reason.LOG_CORRUPT


async def test_an_altered_stage_is_noticed_at_opening(opened: Open, engine: Engine) -> None:
    writer = opened()
    await writer.append(NewEntry({"n": 0}))
    await writer.close()
    with engine.begin() as connection:
        connection.execute(tables.entries.update().values(leaf=b'{"n":1}'))
    with pytest.raises(ProbegateError) as refused:
        opened()
    assert refused.value.reason is Reason.LOG_CORRUPT


async def test_another_key_or_origin_does_not_take_over_a_log(opened: Open) -> None:
    await opened().close()
    other = Ed25519PrivateKey.generate()
    stranger = note_signer(ORIGIN, other.sign, other.public_key().public_bytes_raw())
    for changes in ({"signer": stranger}, {"origin": "other.example/log"}):
        with pytest.raises(ProbegateError) as refused:
            opened(**changes)
        assert refused.value.reason is Reason.LOG_CORRUPT
    await opened().close()


async def test_leaves_that_cannot_be_logged_are_refused_one_by_one(opened: Open) -> None:
    writer = opened()
    unsayable: list[dict[str, JsonValue]] = [
        {"x": "\ud800"},
        {"x": float("nan")},
        {"x": 2**60},
        {"commitments": {}},
    ]
    for leaf in unsayable:
        with pytest.raises(ProbegateError) as refused:
            await writer.append(NewEntry(leaf))
        assert refused.value.reason is Reason.TEXT_INVALID
    with pytest.raises(ProbegateError) as long:
        await writer.append(NewEntry({"x": "y" * 65_536}))
    assert long.value.reason is Reason.MESSAGE_TOO_LARGE
    one = await writer.append(NewEntry({"x": "y" * 65_000}))
    assert one.index == 0
    await writer.close()


async def test_a_caller_that_went_away_harms_nobody(opened: Open) -> None:
    writer = opened()
    gone = asyncio.create_task(writer.append(NewEntry({"n": 0})))
    await asyncio.sleep(0)
    gone.cancel()
    one = await writer.append(NewEntry({"n": 1}))
    assert one.index in {0, 1}
    await writer.close()
