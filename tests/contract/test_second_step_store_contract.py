"""What the broker keeps of what follows a search, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select

from audit.kinds import ERASED
from broker.second_step import tables
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.erasing import SecondStepClerk
from broker.second_step.models import (
    DisclosureParams,
    DisclosureState,
    Released,
    ReviewsParams,
)
from broker.second_step.notice_store import NoticeStore, RecallStore, StatementStore
from broker.second_step.review_store import ReviewStore
from broker.second_step.rules import Listed, standing_of
from broker.store import Position
from broker.storing import Storage, Write
from trust.clock import to_us
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.second_step import (
    DisclosureRequest,
    Finding,
    Opinion,
    Recall,
    RecallReason,
    ReleaseDecision,
    ReleaseState,
    Review,
    ReviewerRevocation,
)
from trust.wire import encode

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SEARCH = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
FORCE = "northshire"
PERSON = Person(id="reviewer-1")
LISTED = (Listed("custody", bytes(32), ("a",)), Listed("pnd", bytes(32), ("b",)))
SECOND = timedelta(seconds=1)


@pytest.fixture
def storage(engine: Engine) -> Storage:
    return Storage(engine)


@pytest.fixture
def commit(engine: Engine) -> Callable[[Write, int], None]:
    def write(one: Write, index: int) -> None:
        with engine.begin() as connection:
            one(connection, index)

    return write


Commit = Callable[[Write, int], None]


def envelope(said: Any, kind: str = "type") -> Envelope:
    return Envelope(kind, encode(said), ())


def sitting(
    person: str, number: int, search_id: str = SEARCH, finished: datetime = NOW
) -> tuple[ReviewsParams, dict[str, Review], int]:
    review_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{person}{number}{search_id}"))
    reviews = {
        one.agency: Review(
            review_id=review_id,
            search_id=search_id,
            order_sha256=bytes(32),
            force=FORCE,
            agency=one.agency,
            report_sha256=one.report_sha256,
            reviewer=Person(id=person),
            findings=tuple(
                Finding(
                    reference=reference,
                    opinion=Opinion.POTENTIAL_CANDIDATE,
                    reasons="compared",
                    side_by_side=True,
                    seconds=0,
                    shown=1,
                )
                for reference in one.references
            ),
            started_at=finished,
            finished_at=finished,
        )
        for one in LISTED
    }
    return ReviewsParams(tuple(map(envelope, reviews.values())), "token"), reviews, number


def revocation(person: str, since: datetime) -> ReviewerRevocation:
    return ReviewerRevocation(
        force=FORCE,
        reviewer=person,
        since=since,
        person=PERSON,
        reasons="why",
        revoked_at=NOW,
    )


def refused(commit: Commit, write: Write, index: int = 99) -> Reason:
    with pytest.raises(ProbegateError) as raised:
        commit(write, index)
    return raised.value.reason


async def test_sittings_are_kept_whole_once_and_in_turn(storage: Storage, commit: Commit) -> None:
    store = ReviewStore(storage)
    assert (await store.of(FORCE, SEARCH)).newest == 0
    commit(store.recorded(*sitting("p1", 1)), 5)
    read = await store.of(FORCE, SEARCH)
    assert (read.newest, len(read.sittings), len(read.kept)) == (1, 1, 2)
    assert {one.leaf_index for one in read.kept} == {5}
    assert set(read.sittings[0].reviews) == {"custody", "pnd"}
    assert refused(commit, store.recorded(*sitting("P1", 2))) is Reason.REVIEW_NOT_INDEPENDENT
    assert refused(commit, store.recorded(*sitting("p2", 1))) is Reason.SERVER_BUSY
    assert refused(commit, store.recorded(*sitting("p2", 3))) is Reason.SERVER_BUSY
    commit(store.recorded(*sitting("p2", 2)), 6)
    commit(store.recorded(*sitting("p1", 1, OTHER)), 7)
    assert (await store.of(FORCE, SEARCH)).newest == 2
    for force, search_id in (("southmere", SEARCH), (FORCE, "x\x00")):
        assert (await store.of(force, search_id)).kept == ()


async def test_a_standing_is_settled_once(storage: Storage, commit: Commit) -> None:
    store = ReviewStore(storage)
    for number, person in enumerate(("p1", "p2"), 1):
        commit(store.recorded(*sitting(person, number)), number)
    standing = standing_of(LISTED, 2, (await store.of(FORCE, SEARCH)).sittings)
    assert standing.settled
    assert await store.settlement(SEARCH, standing) is None
    commit(store.settled(SEARCH, standing), 8)
    assert await store.settlement(SEARCH, standing) == 8
    assert refused(commit, store.settled(SEARCH, standing)) is Reason.SERVER_BUSY
    stricter = standing_of(LISTED[:1], 2, (await store.of(FORCE, SEARCH)).sittings)
    assert await store.settlement(SEARCH, stricter) is None


async def test_who_is_revoked_no_longer_counts_from_that_instant_on(
    storage: Storage, commit: Commit
) -> None:
    store = ReviewStore(storage)
    commit(store.recorded(*sitting("p1", 1)), 1)
    commit(store.recorded(*sitting("p2", 2)), 2)
    commit(store.recorded(*sitting("p1", 1, OTHER, NOW - SECOND)), 3)
    said = revocation(" P1", NOW)
    assert await store.would_revoke(said) == 1
    commit(store.revoked(said, envelope(said), 1), 4)
    assert refused(commit, store.revoked(said, envelope(said), 1)) is Reason.SERVER_BUSY
    assert await store.would_revoke(said) == 0
    assert len((await store.of(FORCE, SEARCH)).sittings) == 1
    assert len((await store.of(FORCE, SEARCH)).kept) == 4
    assert len((await store.of(FORCE, OTHER)).sittings) == 1
    earlier = revocation("p1", NOW - SECOND)
    assert await store.would_revoke(earlier) == 1
    commit(store.revoked(earlier, envelope(earlier), 1), 5)
    assert (await store.of(FORCE, OTHER)).sittings == ()
    assert [one.leaf_index for one in await store.revocations(FORCE)] == [4, 5]
    assert await store.revocations("southmere") == ()


async def request(
    storage: Storage, commit: Commit, request_id: str = SEARCH, **changes: Any
) -> tuple[DisclosureParams, DisclosureRequest]:
    """Return a request for the candidate of two reviews, which are kept."""
    reviews = ReviewStore(storage)
    if not (await reviews.of(FORCE, SEARCH)).kept:
        for number, person in enumerate(("p1", "p2"), 1):
            commit(reviews.recorded(*sitting(person, number)), number)
    kept = (await reviews.of(FORCE, SEARCH)).kept
    values: dict[str, Any] = {
        "request_id": request_id,
        "search_id": SEARCH,
        "order_sha256": bytes(32),
        "force": FORCE,
        "agency": "custody",
        "reference": "a",
        "report_sha256": bytes(32),
        "requester": PERSON,
        "review_sha256s": tuple(one.sha256 for one in kept if one.agency == "custody"),
        "facts_commitment": bytes(32),
        "fields": ("reference",),
        "created_at": NOW,
        "expires_at": NOW + 60 * SECOND,
    }
    said = DisclosureRequest.model_validate(values | changes)
    return DisclosureParams(envelope(said), "key", b"sealed facts", "token"), said


def decision(said: DisclosureRequest) -> ReleaseDecision:
    return ReleaseDecision(
        request_sha256=bytes(32),
        request_id=said.request_id,
        search_id=said.search_id,
        agency=said.agency,
        reference=said.reference,
        state=ReleaseState.RELEASED,
        sealed_sha256=bytes(32),
        sealed_key_id="key",
        decided_at=NOW,
        expires_at=NOW + 60 * SECOND,
    )


async def test_a_request_goes_forward_only(storage: Storage, commit: Commit) -> None:
    store = DisclosureStore(storage)
    params, said = await request(storage, commit)
    commit(store.recorded(params, said, NOW, NOW + 60 * SECOND), 10)
    write = store.recorded(params, said, NOW, NOW)
    assert refused(commit, write) is Reason.DISCLOSURE_REPLAYED
    (record,) = await store.due(NOW, 9)
    assert await store.due(NOW - SECOND, 9) == ()
    assert (record.state, record.asked, record.leaf_index) == (DisclosureState.RECORDED, 0, 10)
    assert record.said == said
    await store.asked(record, NOW + SECOND, NOW + 70 * SECOND)
    assert await store.due(NOW, 9) == ()
    (record,) = await store.due(NOW + SECOND, 9)
    assert (record.asked, record.until) == (1, NOW + 70 * SECOND)
    await store.waits(record, NOW + 9 * SECOND, NOW + 99 * SECOND, NOW + 2 * SECOND)
    (waiting,) = await store.due(NOW + 2 * SECOND, 9)
    assert (waiting.state, waiting.asked, waiting.decide_by) == (
        DisclosureState.WAITING,
        0,
        NOW + 9 * SECOND,
    )
    await store.asked(record, NOW, NOW)  # over a state that it has left: nothing
    assert await store.due(NOW, 9) == ()
    came = Released(envelope(decision(said)), b"sealed", None)
    commit(store.decided(waiting, decision(said), came), 11)
    for late in (
        store.decided(waiting, decision(said), came),
        store.ended(waiting, DisclosureState.LAPSED, ""),
    ):
        assert refused(commit, late) is Reason.SERVER_BUSY
    done = await store.get(FORCE, said.request_id)
    assert done is not None
    assert (done.state, done.sealed, done.decision_index) == (
        DisclosureState.RELEASED,
        b"sealed",
        11,
    )
    assert (done.sealed_facts, done.token) == (b"", "")
    assert await store.open_of(FORCE) == ()
    assert await store.due(NOW + timedelta(days=900), 9) == ()
    commit(store.delivered(done, NOW), 12)
    assert refused(commit, store.delivered(done, NOW)) is Reason.SERVER_BUSY
    assert await store.erase_expired(NOW + 59 * SECOND) == 0
    assert await store.erase_expired(NOW + 60 * SECOND) == 1
    assert await store.erase_expired(NOW + 60 * SECOND) == 0
    gone = await store.get(FORCE, said.request_id)
    assert gone is not None
    assert (gone.sealed, gone.delivered, gone.decision is not None) == (b"", True, True)


async def test_a_revoked_review_is_nothing_to_stand_on_in_the_very_commit(
    storage: Storage, commit: Commit
) -> None:
    store, reviews = DisclosureStore(storage), ReviewStore(storage)
    params, said = await request(storage, commit)
    commit(store.recorded(params, said, NOW, NOW), 10)
    (record,) = await store.due(NOW, 9)
    revoked = revocation("p2", NOW)
    commit(reviews.revoked(revoked, envelope(revoked), 1), 11)
    other = await request(storage, commit, OTHER)
    assert refused(commit, store.recorded(*other, NOW, NOW)) is Reason.REVIEWER_REVOKED
    came = Released(envelope(decision(said)), b"sealed", None)
    assert refused(commit, store.decided(record, decision(said), came)) is Reason.REVIEWER_REVOKED
    again = await store.get(FORCE, said.request_id)
    assert again is not None
    assert again.state is DisclosureState.RECORDED


async def test_requests_are_listed_newest_first_and_once(storage: Storage, commit: Commit) -> None:
    store = DisclosureStore(storage)
    ids = [str(uuid.UUID(int=place, version=4)) for place in range(5)]
    for place, request_id in enumerate(ids):
        params, said = await request(storage, commit, request_id)
        at = NOW + (place // 2) * SECOND
        commit(store.recorded(params, said, at, at), 20 + place)
    found: list[str] = []
    after = None
    for _ in range(5):
        page = await store.page(FORCE, "", 2, after)
        if not page:
            break
        found += [one.request_id for one in page]
        after = Position(to_us(page[-1].created_at), page[-1].request_id)
    assert sorted(found) == sorted(ids)
    assert len(found) == 5
    assert found[0] == ids[4]
    assert len(await store.page(FORCE, SEARCH, 9, None)) == 5
    for force, search_id in ((FORCE, OTHER), (FORCE, "\x00"), ("southmere", "")):
        assert await store.page(force, search_id, 9, None) == ()
    assert await store.get("southmere", ids[0]) is None
    assert await store.get(FORCE, "\x00") is None
    assert len(await store.open_of(FORCE)) == 5
    assert len(await store.due(NOW + 9 * SECOND, 3)) == 3


async def test_a_statements_id_is_used_once(storage: Storage, commit: Commit) -> None:
    store = StatementStore(storage)
    said = envelope(revocation("p1", NOW), "a-type")
    commit(store.recorded(FORCE, OTHER, SEARCH, said), 3)
    kept = await store.get(FORCE, "a-type", OTHER)
    assert kept is not None
    assert kept.leaf_index == 3
    assert refused(commit, store.recorded(FORCE, OTHER, SEARCH, said)) is Reason.NOTICE_INVALID
    for force, kind in (("southmere", "a-type"), (FORCE, "b-type")):
        assert await store.get(force, kind, OTHER) is None
        commit(store.recorded(force, OTHER, SEARCH, Envelope(kind, b"other", ())), 4)


async def test_notices_are_due_until_they_are_done(storage: Storage, commit: Commit) -> None:
    store = NoticeStore(storage)
    said = envelope(revocation("p1", NOW))
    commit(store.to_tell((), said, NOW, NOW), 1)
    commit(store.to_tell(("custody", "pnd"), said, NOW, NOW + 60 * SECOND), 2)
    assert refused(commit, store.to_tell(("pnd",), said, NOW, NOW)) is Reason.SERVER_BUSY
    first, second = await store.due(NOW, 9)
    assert len(await store.due(NOW, 1)) == 1
    await store.again(first, NOW + SECOND)
    assert [one.agency for one in await store.due(NOW, 9)] == [second.agency]
    await store.done(second, "delivered")
    (again,) = await store.due(NOW + SECOND, 9)
    assert (again.agency, again.asked, again.leaf_index) == (first.agency, 1, 2)
    commit(store.given_up(again, "NOTICE_INVALID"), 3)
    assert await store.due(NOW + timedelta(days=99), 9) == ()


def a_recall(recall_id: str, agency: str = "custody") -> Recall:
    return Recall(
        recall_id=recall_id,
        search_id=SEARCH,
        order_sha256=bytes(32),
        agency=agency,
        reference="a",
        reason=RecallReason.ERASED,
        recalled_at=NOW,
    )


async def test_recalls_are_numbered_for_their_force_and_acknowledged_once(
    storage: Storage, commit: Commit
) -> None:
    store = RecallStore(storage)
    assert await store.after("custody") == 0
    for place, (force, recall_id) in enumerate(
        ((FORCE, SEARCH), ("southmere", OTHER), (FORCE, str(uuid.UUID(int=7)))), 1
    ):
        said = a_recall(recall_id)
        commit(store.received(force, said, envelope(said)), place)
        commit(store.heard("custody", place), place)
    assert await store.after("custody") == 3
    await store.pass_over("custody", 2)  # never back
    assert await store.after("custody") == 3
    await store.pass_over("custody", 2**53 - 1)
    assert await store.after("custody") == 2**53 - 1
    assert await store.after("pnd") == 0
    said = a_recall(SEARCH)
    assert refused(commit, store.received(FORCE, said, envelope(said))) is Reason.SERVER_BUSY
    assert await store.known("custody", SEARCH)
    assert not await store.known("pnd", SEARCH)
    assert [one.number for one in await store.page(FORCE, 0, 9)] == [1, 2]
    assert [one.number for one in await store.page("southmere", 0, 9)] == [1]
    assert [one.number for one in await store.page(FORCE, 1, 9)] == [2]
    (mine, _) = await store.page(FORCE, 0, 9)
    assert await store.get("southmere", SEARCH, mine.sha256) is None
    assert await store.get(FORCE, SEARCH, bytes(32)) is None
    assert await store.get(FORCE, SEARCH, mine.sha256) == mine
    commit(store.acknowledged(mine, b"signed", NOW), 9)
    assert refused(commit, store.acknowledged(mine, b"signed", NOW)) is Reason.NOTICE_INVALID
    read = await store.get(FORCE, SEARCH, mine.sha256)
    assert read is not None
    assert (read.acknowledged_at, read.acknowledgement_index) == (NOW, 9)
    assert await store.is_recalled(SEARCH, "custody", "a")
    assert not await store.is_recalled(SEARCH, "custody", "b")


async def test_what_was_signed_goes_with_the_first_value_that_is_erased(
    storage: Storage, commit: Commit
) -> None:
    reviews, store = ReviewStore(storage), DisclosureStore(storage)
    params, said = await request(storage, commit)
    commit(store.recorded(params, said, NOW, NOW), 10)
    revoked = revocation("p9", NOW)
    commit(reviews.revoked(revoked, envelope(revoked), 0), 11)
    commit(StatementStore(storage).recorded(FORCE, OTHER, SEARCH, envelope(revoked)), 12)
    commit(NoticeStore(storage).to_tell(("pnd",), envelope(revoked), NOW, NOW), 11)

    def erase(*entries: int) -> None:
        leaf = {"type": ERASED, "log": "search", "entries": list(entries)}

        def also(connection: Connection, index: int) -> None:
            SecondStepClerk().also(connection, index, leaf)

        commit(also, 50)

    erase(77)
    assert len((await reviews.of(FORCE, SEARCH)).sittings) == 2
    erase(1, 2, 10, 11, 12)
    read = await reviews.of(FORCE, SEARCH)
    assert (read.sittings, len(read.kept)) == ((), 4)
    assert {(one.envelope.payload, one.token) for one in read.kept} == {(b"", "")}
    assert {one.person for one in read.kept} == {"erased 1", "erased 2"}
    record = await store.get(FORCE, said.request_id)
    assert record is not None
    assert (record.said, record.sealed_facts, record.token) == (None, b"", "")
    (kept,) = await reviews.revocations(FORCE)
    assert (kept.envelope.payload, kept.person) == (b"", "p9")
    with storage.engine.connect() as connection:
        assert connection.execute(select(tables.force_statements.c.envelope)).scalar_one() == b""
        assert connection.execute(select(tables.notices.c.next_us)).scalar_one() is None
