"""The search store's promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, func, select

from audit.notes import note_signer
from audit.writer import LogWriter, NewEntry
from broker.models import (
    Acknowledged,
    AdmittedOrder,
    AgencyAnswer,
    AgencyDecision,
    SealedProbe,
    SearchRecord,
    SearchState,
)
from broker.store import Position, SearchStore, Times
from broker.tables import searches
from tests.scale import scaled
from tests.world import Request, World, copied_examples
from trust import dsse
from trust.clock import to_us, utc_now
from trust.errors import ProbegateError, Reason
from trust.messages import Obligations, Outcome, OutcomeState
from trust.payload_types import PayloadType

AGENCIES = ("custody", "pnd")
DECISIONS = (
    AgencyDecision(
        agency="custody",
        permitted=True,
        code="PERMITTED",
        failed_clauses=(),
        agreement="example-custody",
        agreement_sha256=bytes(range(32)),
        obligations=Obligations(max_candidates=10, min_score=0.42, caveats=("With care.",)),
    ),
    AgencyDecision(
        agency="pnd",
        permitted=False,
        code="CLAUSES_FAILED",
        failed_clauses=("core.known-codes", "pnd.purpose"),
        agreement="",
        agreement_sha256=b"",
        obligations=None,
    ),
)
BASE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("scheme")
    return World.make(root, agreements=copied_examples(root / "agreements"))


@pytest.fixture
def store(engine: Engine) -> SearchStore:
    return SearchStore(engine)


def admitted(
    world: World, force: str = "northshire", at: datetime = BASE, request_id: str = ""
) -> AdmittedOrder:
    request = Request(world, force=force, agencies=AGENCIES, request_id=request_id or _id())
    envelope = request.envelope()
    return AdmittedOrder(
        order=request.order(),
        envelope=envelope,
        sha256=hashlib.sha256(envelope.payload).digest(),
        probes=tuple(SealedProbe(a, "0" * 16, a.encode() * 100) for a in AGENCIES),
        admitted_at=at,
    )


def _id() -> str:
    return str(uuid.uuid4())


def put(engine: Engine, store: SearchStore, one: AdmittedOrder, search_id: str, at: int) -> None:
    write = store.new(search_id, one, DECISIONS)
    with engine.begin() as connection:
        write(connection, at)


async def found(store: SearchStore, force: str, search_id: str) -> SearchRecord:
    record = await store.get(force, search_id)
    assert record is not None
    return record


async def test_a_search_is_kept_exactly_and_for_its_force_alone(
    engine: Engine, store: SearchStore, world: World
) -> None:
    one, search_id = admitted(world), _id()
    put(engine, store, one, search_id, 7)
    record = await found(store, "northshire", search_id)
    assert record == SearchRecord(
        search_id=search_id,
        request_id=one.order.request_id,
        force="northshire",
        order_sha256=one.sha256,
        state=SearchState.RUNNING,
        created_at=BASE,
        decisions=DECISIONS,
        agencies=2,
        order_index=7,
    )
    assert await store.get("southmere", search_id) is None


@pytest.mark.parametrize("odd", ["", "x" * 100_000, "é", "\x00", "a\x00b", "%", "' OR 1=1 --"])
async def test_what_was_never_there_is_not_found_whatever_it_is_called(
    engine: Engine, store: SearchStore, world: World, odd: str
) -> None:
    put(engine, store, admitted(world), _id(), 0)
    assert await store.get("northshire", odd) is None


async def test_a_search_and_a_request_id_are_used_once(
    engine: Engine, store: SearchStore, world: World
) -> None:
    one, search_id = admitted(world), _id()
    put(engine, store, one, search_id, 0)
    again = admitted(world, request_id=one.order.request_id)
    for order, as_search in ((one, search_id), (admitted(world), search_id), (again, _id())):
        with pytest.raises(ProbegateError) as raised:
            put(engine, store, order, as_search, 1)
        assert raised.value.reason is Reason.ORDER_REPLAYED
    theirs = admitted(world, force="southmere", request_id=one.order.request_id)
    put(engine, store, theirs, _id(), 1)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(searches)).scalar_one() == 2


async def test_the_end_is_kept_exactly_and_drops_the_probes(
    engine: Engine, store: SearchStore, world: World
) -> None:
    one, search_id = admitted(world), _id()
    put(engine, store, one, search_id, 0)
    (waiting,) = await store.unfinished()
    assert (waiting.order, waiting.envelope, waiting.probes, waiting.order_index) == (
        one.order,
        one.envelope,
        one.probes,
        0,
    )
    assert waiting.record == await store.get("northshire", search_id)
    signer = world.folder("broker").signer()
    result = dsse.sign(PayloadType.SEARCH_RESULT, b"the result", signer)
    report = dsse.sign(PayloadType.MATCH_REPORT, b"the report", signer)
    answers = (
        AgencyAnswer(
            Outcome(
                agency="custody",
                state=OutcomeState.CANDIDATES,
                report_sha256=bytes(32),
                latency_ms=1.5,
            ),
            report,
            b"a checkpoint",
            Acknowledged(7, (3, 5)),
        ),
        AgencyAnswer(
            Outcome(
                agency="pnd",
                state=OutcomeState.DENIED,
                reason="CLAUSES_FAILED",
                failed_clauses=("pnd.purpose",),
                decided_by="broker",
            )
        ),
    )
    with engine.begin() as connection:
        times = Times(utc_now(), None)
        store.end(search_id, SearchState.FINISHED, answers, result, times)(connection, 9)
    record = await found(store, "northshire", search_id)
    assert (record.state, record.result, record.result_leaf_index) == (
        SearchState.FINISHED,
        result,
        9,
    )
    assert record.answers[0].report == report
    assert [answer.outcome for answer in record.answers] == [a.outcome for a in answers]
    assert record.answers[0].agency_checkpoint == b"a checkpoint"
    assert await store.unfinished() == ()
    with engine.connect() as connection:
        assert connection.execute(select(searches.c.sealed)).scalar_one() is None


async def test_pages_hold_everything_once_newest_first_ties_included(
    engine: Engine, store: SearchStore, world: World
) -> None:
    count = scaled(12, 400)
    rows = [(BASE + timedelta(microseconds=n // 3), _id()) for n in range(count)]
    for n, (at, search_id) in enumerate(rows):
        put(engine, store, admitted(world, at=at), search_id, n)
    put(engine, store, admitted(world, force="southmere"), _id(), count)
    newest_first = [search_id for _, search_id in sorted(rows, reverse=True)]
    for size in (1, 4, count + 1):
        seen: list[str] = []
        after: Position | None = None
        while page := await store.page("northshire", size, after):
            seen += [record.search_id for record in page]
            after = Position(to_us(page[-1].created_at), page[-1].search_id)
        assert seen == newest_first
    assert await store.page("northshire", 10, Position(0, "")) == ()
    everything = await store.page("northshire", count, Position(2**63 - 1, "z"))
    assert len(everything) == count


@pytest.fixture
async def log(engine: Engine, tmp_path: Path) -> AsyncIterator[LogWriter]:
    key = Ed25519PrivateKey.generate()
    origin = "broker.example/search"
    signer = note_signer(origin, key.sign, key.public_key().public_bytes_raw())
    writer = LogWriter.open(
        engine, name="search", origin=origin, signer=signer, folder=tmp_path / "log"
    )
    yield writer
    await writer.close()


async def test_a_search_and_its_entry_exist_together_or_not_at_all(
    engine: Engine, store: SearchStore, world: World, log: LogWriter
) -> None:
    """Through the log, in one batch with others: a replayed order costs only itself."""
    first = admitted(world)
    orders = [first, *(admitted(world) for _ in range(5))]
    orders.insert(3, admitted(world, request_id=first.order.request_id))
    ids = [_id() for _ in orders]
    results = await asyncio.gather(
        *(
            log.append(NewEntry({"search": i}, also=store.new(i, order, DECISIONS)))
            for i, order in zip(ids, orders, strict=True)
        ),
        return_exceptions=True,
    )
    refused = [one for one in results if isinstance(one, BaseException)]
    assert [one.reason for one in refused if isinstance(one, ProbegateError)] == [
        Reason.ORDER_REPLAYED
    ]
    assert log.checkpoint.checkpoint.size == len(orders) - 1
    kept = {one.record.search_id: one.order_index for one in await store.unfinished()}
    for search_id, result in zip(ids, results, strict=True):
        if isinstance(result, BaseException):
            assert search_id not in kept
        else:
            assert kept[search_id] == result.index
            assert search_id.encode() in log.leaf(result.index)


async def test_what_cannot_be_read_stops_searching(engine: Engine, store: SearchStore) -> None:
    with engine.begin() as connection:
        searches.drop(connection)
    for ask in (
        store.get("northshire", _id()),
        store.page("northshire", 1, None),
        store.unfinished(),
    ):
        with pytest.raises(ProbegateError) as raised:
            await ask
        assert raised.value.reason is Reason.STATE_UNAVAILABLE
