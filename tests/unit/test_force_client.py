from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from force_client import (
    AgencyOutcome,
    AsyncForceClient,
    ForceClient,
    ForceSettings,
    Part,
    ProbegateError,
    Reason,
    SearchState,
    SearchView,
)
from force_client.models import ReceivedSearch
from force_client.orders import SignedOrder
from tests.unit.force_peer import RunningPeer
from tests.unit.force_scene import AGENCIES, FORCE, Scene, draft, probe, silent
from trust import dsse
from trust.directory import KeyUse
from trust.messages import OutcomeState, Person
from trust.payload_types import PayloadType
from trust.tokens import verify_token
from trust.wire import decode_confirmation


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    peer = RunningPeer(tmp_path_factory.mktemp("peer"))
    yield peer
    peer.stop()


@pytest.fixture(autouse=True)
def _fresh(running: RunningPeer) -> None:
    running.peer.__init__(running.scene)  # type: ignore[misc]


@pytest.fixture
async def client(running: RunningPeer) -> AsyncForceClient:  # type: ignore[misc]
    async with AsyncForceClient(running.settings()) as opened:
        yield opened


TOKENS: Any = {"officer_token": "o", "authoriser_token": "a"}


async def test_a_search_is_made_and_verified(client: AsyncForceClient) -> None:
    view = await client.search(draft(), probe(), **TOKENS)
    assert view.verified
    assert view.state is SearchState.FINISHED
    assert [one.agency for one in view.outcomes] == list(AGENCIES)


async def test_a_search_is_watched_to_its_verified_end(client: AsyncForceClient) -> None:
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    assert not view.verified
    events = [event async for event in client.watch(view.search_id)]
    *outcomes, last = events
    assert [one.agency for one in outcomes if isinstance(one, AgencyOutcome)] == list(AGENCIES)
    assert isinstance(last, SearchView)
    assert last.verified


async def test_a_cut_watch_is_renewed_and_tells_nothing_twice(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    running.peer.cut_watch = 2
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE]
    events = [event async for event in client.watch(view.search_id)]
    assert [type(event) for event in events] == [AgencyOutcome] * 3 + [SearchView]


async def test_a_watch_that_comes_to_nothing_ends(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    running.peer.cut_watch = 100
    with pytest.raises(ProbegateError) as caught:
        [event async for event in client.watch(view.search_id)]
    assert caught.value.reason is Reason.DEADLINE_PASSED


async def test_a_connection_fault_is_retried_with_the_same_bytes(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    assert (await client.search(draft(), probe(), **TOKENS)).verified
    assert len(running.peer.requests) == 3
    assert len(set(running.peer.requests)) == 1


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Reason.LOG_UNAVAILABLE, Reason.LOG_UNAVAILABLE),
        (Reason.ORDER_INVALID, Reason.ORDER_INVALID),
        (Reason.SERVER_BUSY, Reason.SERVER_BUSY),
        (grpc.StatusCode.UNKNOWN, Reason.UNEXPECTED),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.METHOD_LATER),
    ],
)
async def test_a_reason_is_never_retried(
    client: AsyncForceClient,
    running: RunningPeer,
    failure: Reason | grpc.StatusCode,
    reason: Reason,
) -> None:
    running.peer.failures = [failure]
    with pytest.raises(ProbegateError) as caught:
        await client.search(draft(), probe(), **TOKENS)
    assert caught.value.reason is reason
    assert len(running.peer.requests) == 1


async def test_a_broker_that_is_gone_is_an_error_when_the_calls_time_is_over(
    running: RunningPeer,
) -> None:
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE] * 1000
    async with AsyncForceClient(running.settings(call_timeout_s=0.2)) as client:
        with pytest.raises(ProbegateError) as caught:
            await client.create(client.prepare(draft(), probe()), **TOKENS)
    assert caught.value.reason is Reason.SERVICE_UNREACHABLE
    assert len(set(running.peer.requests)) == 1


async def test_a_client_may_be_told_to_try_no_oftener(running: RunningPeer) -> None:
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE] * 50
    async with AsyncForceClient(running.settings(call_attempts=3)) as client:
        with pytest.raises(ProbegateError) as caught:
            await client.search(draft(), probe(), **TOKENS)
    assert caught.value.reason is Reason.SERVICE_UNREACHABLE
    assert len(running.peer.requests) == 3


async def test_a_broker_that_is_away_for_a_while_ends_no_call(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE] * 12
    assert (await client.search(draft(), probe(), **TOKENS)).verified
    assert len(running.peer.requests) == 13
    assert len(set(running.peer.requests)) == 1


async def test_a_broker_that_is_away_for_a_while_ends_no_watch(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE] * 12
    events = [event async for event in client.watch(view.search_id)]
    assert isinstance(events[-1], SearchView)


async def test_a_broker_that_does_not_come_back_ends_a_watch(running: RunningPeer) -> None:
    async with AsyncForceClient(running.settings(watch_timeout_s=0.2)) as client:
        view = await client.create(client.prepare(draft(), probe()), **TOKENS)
        running.peer.failures = [grpc.StatusCode.UNAVAILABLE] * 1000
        with pytest.raises(ProbegateError) as caught:
            [event async for event in client.watch(view.search_id)]
    assert caught.value.reason is Reason.SERVICE_UNREACHABLE


async def test_a_watch_that_is_cut_again_and_again_ends(running: RunningPeer) -> None:
    """What is known comes each time, and is no news."""
    settings = running.settings(watch_timeout_s=0.3, retry_longest_s=1.0)
    async with AsyncForceClient(settings) as client:
        view = await client.create(client.prepare(draft(), probe()), **TOKENS)
        running.peer.cut_watch, running.peer.cut_with = 10**6, grpc.StatusCode.UNAVAILABLE
        with pytest.raises(ProbegateError) as caught:
            [event async for event in client.watch(view.search_id)]
    assert caught.value.reason is Reason.SERVICE_UNREACHABLE


async def test_a_broker_that_is_gone_is_not_taken_for_a_slow_one(running: RunningPeer) -> None:
    """The last attempt may begin when the call's time is over."""
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE] * 3 + [grpc.StatusCode.DEADLINE_EXCEEDED]
    async with AsyncForceClient(running.settings()) as client:
        with pytest.raises(ProbegateError) as caught:
            await client.create(client.prepare(draft(), probe()), **TOKENS)
    assert caught.value.reason is Reason.SERVICE_UNREACHABLE


async def test_a_lie_over_the_wire_is_refused(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    def lying(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
        answers = scene.honest_answers(order, search_id)
        no_match = silent("passport", OutcomeState.NO_CANDIDATE, "")
        return scene.ended(order, [*answers[:2], no_match], search_id=search_id)

    running.peer.answering = lying
    with pytest.raises(ProbegateError) as caught:
        await client.search(draft(), probe(), **TOKENS)
    assert caught.value.reason is Reason.RESULT_INVALID
    assert caught.value.metadata["agency"] == "passport"


async def test_the_same_request_is_the_same_search(client: AsyncForceClient) -> None:
    prepared = client.prepare(draft(), probe())
    first = await client.create(prepared, **TOKENS, wait=1)
    assert (await client.create(prepared, **TOKENS, wait=1)).search_id == first.search_id
    another = client.prepare(draft(), probe(1), request_id=prepared.order.order.request_id)
    with pytest.raises(ProbegateError) as caught:
        await client.create(another, **TOKENS)
    assert caught.value.reason is Reason.ORDER_REPLAYED


async def test_a_search_is_read_and_verified_after_a_restart(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    view = await client.search(draft(), probe(), **TOKENS)
    async with AsyncForceClient(running.settings()) as restarted:
        again = await restarted.get(view.search_id)
        assert again.verified
        assert again.outcomes == view.outcomes
    forgetful = running.settings(keep_orders=False)
    async with AsyncForceClient(forgetful) as other:
        with pytest.raises(ProbegateError) as caught:
            await other.get(view.search_id)
        assert caught.value.reason is Reason.FILE_MISSING


async def test_another_search_than_asked_for_is_refused(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    first = await client.search(draft(), probe(), **TOKENS)
    second = await client.search(draft(), probe(), **TOKENS)
    running.peer.searches[first.search_id] = running.peer.searches[second.search_id]
    with pytest.raises(ProbegateError) as caught:
        await client.get(first.search_id)
    assert caught.value.reason is Reason.RESULT_INVALID


async def test_a_request_id_from_afar_never_becomes_a_path(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    view = await client.search(draft(), probe(), **TOKENS)
    stored = running.peer.searches[view.search_id]
    running.peer.searches[view.search_id] = replace(stored, request_id="../../officers")
    with pytest.raises(ProbegateError) as caught:
        await client.get(view.search_id)
    assert caught.value.reason is Reason.RESULT_INVALID


async def test_searches_are_listed_page_by_page(client: AsyncForceClient) -> None:
    made = [(await client.search(draft(), probe(), **TOKENS)).search_id for _ in range(5)]
    assert [one.search_id async for one in client.list()] == made
    assert [one.search_id async for one in client.list(page_size=4)] == made


async def test_a_search_can_be_cancelled(client: AsyncForceClient) -> None:
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    ended = await client.cancel(view.search_id)
    assert ended.state is SearchState.CANCELLED
    assert ended.verified


async def test_a_preview_names_what_is_not_met(client: AsyncForceClient) -> None:
    custody, pnd, _ = (await client.preview(draft())).decisions
    assert custody.permitted
    assert pnd.failed_clauses == ("rank.inspector",)
    assert [one.required for one in pnd.clauses if not one.met] == ["chief_inspector"]
    assert (await client.explain(draft())).prose[0] == "custody would be asked."


async def test_tokens_are_bound_to_this_forces_channel(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    folder = running.scene.scheme.member_folder(FORCE)
    claims = verify_token(
        client.issue_token("ns-2087", Part.AUTHORISER),
        resolve=lambda _: folder.identity_signer().public_key,
        force_id=FORCE,
        channel_cert_sha256=folder.certificate_sha256(),
        now=running.scene.now,
        part=Part.AUTHORISER,
    )
    assert (claims.sub, claims.rank, claims.unit) == ("ns-2087", "inspector", "major-crime")
    with pytest.raises(ProbegateError) as caught:
        client.issue_token("ns-0000", Part.OFFICER)
    assert caught.value.reason is Reason.ORDER_INVALID


async def test_a_new_certificate_comes_into_use(running: RunningPeer) -> None:
    async with AsyncForceClient(running.settings(reload_interval_s=1e-9)) as client:
        await client.search(draft(), probe(), **TOKENS)
        running.scene.scheme.issue_certificate(FORCE)
        await client.search(draft(), probe(), **TOKENS)
    before, after = running.peer.peers
    assert before != after


async def test_an_older_directory_is_refused(tmp_path: Path, running: RunningPeer) -> None:
    scheme = running.scene.scheme
    old = scheme.directory_path.read_bytes()
    settings = running.settings(reload_interval_s=1e-9, state_dir=tmp_path)
    async with AsyncForceClient(settings) as client:
        scheme.publish_directory()
        await client.preview(draft())
        scheme.directory_path.write_bytes(old)
        with pytest.raises(ProbegateError) as caught:
            await client.preview(draft())
        assert caught.value.reason is Reason.DIRECTORY_ROLLBACK
    with pytest.raises(ProbegateError):
        async with AsyncForceClient(settings):
            pass


def test_the_blocking_client_does_the_same(running: RunningPeer) -> None:
    with ForceClient(running.settings()) as client:
        assert client.force == FORCE
        assert client.agencies == tuple(sorted(AGENCIES))
        view = client.search(draft(), probe(), **TOKENS)
        assert client.get(view.search_id).outcomes == view.outcomes
        started = client.create(client.prepare(draft(), probe()), **TOKENS)
        events = list(client.watch(started.search_id))
        assert len(events) == 4
        first = next(iter(client.watch(started.search_id)))
        assert isinstance(first, AgencyOutcome)
        assert len(list(client.list())) == 2
        assert client.cancel(started.search_id).state is SearchState.CANCELLED
        assert len(client.preview(draft()).decisions) == 3
        assert client.explain(draft()).prose
        assert client.officers.person("ns-4411", option="officer").rank == "constable"
        with pytest.raises(ProbegateError):
            client.get("00000000-0000-4000-8000-000000000000")


def test_a_client_that_cannot_open_leaves_nothing_running(running: RunningPeer) -> None:
    settings = running.settings(directory=Path("missing.json"))
    with pytest.raises(ProbegateError) as caught, ForceClient(settings):
        pass
    assert caught.value.reason is Reason.FILE_MISSING


def test_settings_come_from_a_file_with_paths_beside_it(running: RunningPeer) -> None:
    settings = ForceSettings.load(running.write_toml())
    assert settings.member_folder == running.folder / "scheme/members/northshire"
    bad = running.folder / "bad.toml"
    bad.write_text("member_folder = 1\n")
    with pytest.raises(ProbegateError) as caught:
        ForceSettings.load(bad)
    assert caught.value.reason is Reason.CONFIG_INVALID
    bad.write_text("= nothing")
    with pytest.raises(ProbegateError) as caught:
        ForceSettings.load(bad)
    assert caught.value.reason is Reason.CONFIG_INVALID


async def test_a_confirmation_is_signed_once_and_sent_again_as_it_was(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    def urgently(scene: Scene, order: SignedOrder, search_id: str) -> ReceivedSearch:
        search = scene.ended(order, search_id=search_id)
        first, *rest = search.decisions
        by = order.order.created_at + timedelta(hours=24)
        urgent = replace(first, waived=("a.b",), confirm_by=by, confirmer_rank="superintendent")
        return replace(search, decisions=(urgent, *rest), warnings=("necessity.short",))

    running.peer.answering = urgently
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    assert view.confirm_by == view.decisions[0].confirm_by
    assert view.warnings == ("necessity.short",)
    running.peer.failures = [grpc.StatusCode.UNAVAILABLE]
    confirmer = Person(id="ns-9@northshire", rank="superintendent")
    confirmed = await client.confirm_urgent(
        view.search_id, confirmer, confirmer_token="t", reasons="A life was at risk."
    )
    assert confirmed.confirm_by is None
    first, again = running.peer.confirmations
    assert first == again
    resolve = client.directory.resolver(FORCE, KeyUse.SIGN, running.scene.now)
    dsse.verify(first, PayloadType.URGENT_CONFIRMATION, resolve)
    said = decode_confirmation(first.payload)
    assert (said.confirmer, said.order_sha256) == (confirmer, view.order_sha256)
    with pytest.raises(ProbegateError) as raised:
        await client.confirm_urgent(view.search_id, confirmer, confirmer_token="t", reasons="")
    assert raised.value.reason is Reason.CONFIRMATION_INVALID


async def test_a_search_whose_results_are_gone_is_confirmed_by_whoever_has_its_order(
    client: AsyncForceClient, running: RunningPeer
) -> None:
    """Its officer's later searches are denied until then, however long ago it was."""
    made = [await client.create(client.prepare(draft(), probe()), **TOKENS) for _ in range(3)]
    running.peer.gone.add(made[0].search_id)
    confirmer = Person(id="ns-9@northshire", rank="superintendent")
    async with AsyncForceClient(client.settings) as another:
        confirmed = await another.confirm_urgent(
            made[0].search_id, confirmer, confirmer_token="t", reasons="A life was at risk."
        )
    assert confirmed.received.confirmed_at is not None
    assert (confirmed.outcomes, confirmed.candidates, confirmed.verified) == ((), (), False)


@pytest.mark.parametrize(
    "confirming",
    [lambda _: None, lambda at: at - timedelta(days=1), lambda at: at + timedelta(days=1)],
    ids=["at no time", "before the search", "in the future"],
)
async def test_nothing_is_confirmed_by_an_answer_that_does_not_say_so(
    client: AsyncForceClient,
    running: RunningPeer,
    confirming: Callable[[datetime], datetime | None],
) -> None:
    view = await client.create(client.prepare(draft(), probe()), **TOKENS)
    running.peer.confirming = confirming
    confirmer = Person(id="ns-9@northshire", rank="superintendent")
    with pytest.raises(ProbegateError) as raised:
        await client.confirm_urgent(
            view.search_id, confirmer, confirmer_token="t", reasons="A life was at risk."
        )
    assert raised.value.reason is Reason.RESULT_INVALID
    assert raised.value.metadata["check"] == "confirmation"
