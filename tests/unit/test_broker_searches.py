"""A search as a resource: made once, read by its owner alone, and going on after a restart."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb
from sqlalchemy import update

from audit.notes import VerifierKey
from audit.proofs import verify_receipt
from broker.models import SearchState, SearchSummary, SearchView
from broker.searches import RESTARTED
from broker.tables import searches
from tests.brokers import CALLER_S, PERMITTED, TurnedClock, outcomes, rigged
from tests.peers import Behaviour
from tests.world import Request, World
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState, SearchLimits
from trust.payload_types import PayloadType
from trust.wire import encode_order

# --- the same order makes one search ----------------------------------------------------------


async def test_the_same_bytes_are_the_same_search_whatever_the_time(world: World) -> None:
    clock = TurnedClock()
    async with rigged(world, clock=clock) as rig:
        params = Request(world, agencies=PERMITTED).params(wait_s=CALLER_S)
        first = await rig.broker.create.execute(params, rig.identity(), world.directory, CALLER_S)
        calls, size = rig.calls(), rig.broker.logs.search.checkpoint.checkpoint.size
        assert (calls, size) == (4, 2)
        for ahead, tokens in ((0, True), (0, False), (3600, True), (3600, False)):
            clock.ahead = timedelta(seconds=ahead)
            again = params if tokens else replace(params, officer_token="", authoriser_token="")
            view = await rig.broker.create.execute(again, rig.identity(), world.directory, CALLER_S)
            assert view.record == first.record
        assert (rig.calls(), rig.broker.logs.search.checkpoint.checkpoint.size) == (calls, size)


async def test_the_same_order_sent_many_times_at_once_is_one_search(world: World) -> None:
    async with rigged(world) as rig:
        params = Request(world, agencies=PERMITTED).params(wait_s=CALLER_S)
        views = await asyncio.gather(
            *(
                rig.broker.create.execute(params, rig.identity(), world.directory, CALLER_S)
                for _ in range(20)
            )
        )
        assert len({view.record.search_id for view in views}) == 1
        ended = await rig.broker.create.execute(params, rig.identity(), world.directory, CALLER_S)
        assert rig.result(ended).complete
        assert {agency: peer.calls for agency, peer in rig.peers.items()} == dict.fromkeys(
            PERMITTED, 1
        )
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 2


async def test_the_same_search_is_joined_while_it_runs(world: World) -> None:
    async with rigged(world, serving=("pnd",)) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        params = Request(world, agencies=("pnd",)).params()
        first = await rig.broker.create.execute(params, rig.identity(), world.directory, 10)
        joined = await rig.broker.create.execute(params, rig.identity(), world.directory, 10)
        assert joined.record.search_id == first.record.search_id
        assert joined.record.state is SearchState.RUNNING
        assert rig.broker.searches.count == 1


async def test_a_request_id_is_used_once(world: World) -> None:
    async with rigged(world) as rig:
        one = Request(world)
        await rig.create(one)
        other = Request(world, request_id=one.request_id, limits=SearchLimits(max_candidates=3))
        for _ in range(2):
            with pytest.raises(ProbegateError) as raised:
                await rig.create(other)
            assert raised.value.reason is Reason.ORDER_REPLAYED
        assert rig.calls() == 1
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 2
        # A request id is its force's own: another may use the same one.
        theirs = await rig.create(Request(world, force="southmere", request_id=one.request_id))
        assert rig.result(theirs).complete


async def test_one_replayed_order_in_a_crowd_costs_only_itself(world: World) -> None:
    async with rigged(world) as rig:
        one = Request(world)
        await rig.create(one)
        replayed = Request(world, request_id=one.request_id, limits=SearchLimits(max_candidates=3))
        crowd = [Request(world) for _ in range(8)]
        results = await asyncio.gather(
            *(rig.create(request) for request in (*crowd[:4], replayed, *crowd[4:])),
            return_exceptions=True,
        )
        bad = [one for one in results if isinstance(one, BaseException)]
        assert [one.reason for one in bad if isinstance(one, ProbegateError)] == [
            Reason.ORDER_REPLAYED
        ]
        assert sum(isinstance(one, SearchView) for one in results) == len(crowd)


async def test_beyond_the_limit_callers_are_told_to_wait_and_nothing_is_recorded(
    world: World,
) -> None:
    async with rigged(world, serving=("pnd",), max_running_searches=1) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        await rig.create(Request(world, agencies=("pnd",)), wait_s=0)
        with pytest.raises(ProbegateError) as raised:
            await rig.search(("pnd",))
        assert raised.value.reason is Reason.SERVER_BUSY
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 1


async def test_of_many_at_once_no_more_run_than_the_limit_says(world: World) -> None:
    async with rigged(world, serving=("pnd",), max_running_searches=4) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        made = await asyncio.gather(
            *(rig.create(Request(world, agencies=("pnd",)), wait_s=0) for _ in range(20)),
            return_exceptions=True,
        )
        refused = [one.reason for one in made if isinstance(one, ProbegateError)]
        assert refused == [Reason.SERVER_BUSY] * 16
        assert rig.broker.searches.count == 4
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 4
        for running in list(rig.broker.searches._running.values()):
            running.cancel()
            await running.ended
        view = await rig.create(Request(world, agencies=("pnd",)), wait_s=0)
        assert view.record.state is SearchState.RUNNING


# --- reading ----------------------------------------------------------------------------------


async def test_a_receipt_proves_the_end_offline(world: World) -> None:
    async with rigged(world) as rig:
        view = await rig.search()
    key = next(
        VerifierKey.listed(k)
        for k in world.directory.keys("broker", KeyUse.LOG, view.record.created_at)
        if k.name is not None and k.name.endswith("/search")
    )
    verify_receipt(view.receipt.decode(), [key], view.receipt_leaf, key.name)
    with pytest.raises(ProbegateError):
        verify_receipt(view.receipt.decode(), [key], view.receipt_leaf + b" ", key.name)


async def test_anothers_search_does_not_exist(world: World) -> None:
    async with rigged(world, serving=("custody", "pnd")) as rig:
        ended = await rig.search(("custody",))
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        running = await rig.create(Request(world, agencies=("pnd",)), wait_s=0)
        reading = rig.broker.reading
        nonsense = ["", "x", "\x00", "../..", "é" * 5000, "00000000-0000-4000-8000-000000000000"]
        for search_id in (ended.record.search_id, running.record.search_id, *nonsense):
            for ask in (reading.get, reading.cancel):
                with pytest.raises(ProbegateError) as raised:
                    await ask("southmere", search_id)
                assert (raised.value.reason, raised.value.metadata) == (Reason.NOT_FOUND, {})
            with pytest.raises(ProbegateError) as raised:
                await anext(reading.watch("southmere", search_id))
            assert raised.value.reason is Reason.NOT_FOUND
        assert rig.broker.searches.count == 1  # and it was not cancelled
        assert (await reading.page("southmere", 10, ""))[0] == ()
        mine = await reading.get("northshire", ended.record.search_id)
        assert mine.record == ended.record


async def test_pages_are_newest_first_and_hold_everything_once(world: World) -> None:
    async with rigged(world, default_page_size=2, max_page_size=4) as rig:
        made = [(await rig.search(("custody",))).record.search_id for _ in range(5)]
        await rig.create(Request(world, force="southmere"))
        for size, wanted in ((0, 2), (1, 1), (3, 3), (100, 4)):
            seen, token, pages = list[str](), "", 0
            while True:
                shown, token = await rig.broker.reading.page("northshire", size, token)
                seen += [record.search_id for record in shown]
                pages += 1
                assert len(shown) <= wanted
                if not token:
                    break
            assert seen == made[::-1]
            assert pages == -(-len(made) // wanted)


async def test_a_list_says_what_a_search_says_of_itself_and_reads_nothing_of_its_end(
    world: World,
) -> None:
    async with rigged(world) as rig:
        view = await rig.search((*PERMITTED, "dwp"))
        with rig.broker.engine.begin() as connection:  # so that whoever reads it is found out
            connection.execute(update(searches).values(ended=b"\xff not an end", sealed=b"\xff"))
        ((listed,), token) = await rig.broker.reading.page("northshire", 10, "")
        assert listed == SearchSummary(
            search_id=view.record.search_id,
            request_id=view.record.request_id,
            state=SearchState.FINISHED,
            created_at=view.record.created_at,
            agencies=5,
        )
        assert token == ""


def _token(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode()


TOKENS = (
    "x",
    "====",
    "é",
    _token(b"\xff"),
    _token(b"x.y"),
    _token(b".y"),
    _token(b"1.\x00"),
    _token(b"1" * 5000 + b".00000000-0000-4000-8000-000000000000"),
    _token(b"99999999999999999999.00000000-0000-4000-8000-000000000000"),
    _token(b"-1.00000000-0000-4000-8000-000000000000"),
)


async def test_a_page_token_is_taken_as_it_was_given_or_not_at_all(world: World) -> None:
    async with rigged(world, serving=()) as rig:
        for size, token in ((-1, ""), *((10, token) for token in TOKENS)):
            with pytest.raises(ProbegateError) as raised:
                await rig.broker.reading.page("northshire", size, token)
            assert raised.value.reason is Reason.PAGE_INVALID


# --- preview ----------------------------------------------------------------------------------


async def test_a_preview_says_what_a_search_would_and_leaves_nothing(world: World) -> None:
    async with rigged(world) as rig:
        request = Request(world, agencies=world.agencies)
        directory = rig.broker.directories.current
        preview = await rig.broker.preview.execute(request.order(), rig.identity(), directory)
        before = preview.ruling
        assert all(one.full is not None and one.full.clauses for one in before.decisions)
        assert before.policy_sha256 == rig.broker.policies.current.bundle.sha256
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 0
        assert rig.calls() == 0
        view = await rig.create(request)
        assert [replace(one, full=None) for one in before.decisions] == list(view.record.decisions)
        with pytest.raises(ProbegateError) as raised:
            await rig.broker.preview.execute(request.order(), rig.identity("southmere"), directory)
        assert raised.value.reason is Reason.CHANNEL_ROLE


# --- after a restart --------------------------------------------------------------------------


async def test_what_was_running_goes_on_after_a_crash_under_the_very_grant_it_had(
    world: World,
) -> None:
    async with rigged(world, serving=("custody", "pnd")) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour = Behaviour.HANGS
        request = Request(world, agencies=("custody", "pnd", "dwp"))
        started = await rig.create(request, wait_s=0)
        await rig.called("pnd")
        await rig.crash()
        pnd.knobs.behaviour = Behaviour.CANDIDATES
        await rig.reopen()
        ended = await rig.create(request)
        assert ended.record.search_id == started.record.search_id
        assert ended.record.state is SearchState.FINISHED
        states = {name: one.state for name, one in outcomes(ended).items()}
        assert states == {
            "custody": OutcomeState.CANDIDATES,
            "pnd": OutcomeState.CANDIDATES,
            "dwp": OutcomeState.DENIED,
        }
        dossiers = [
            agency_pb.Dossier.FromString(agency_pb.MatchRequest.FromString(data).dossier)
            for data in pnd.requests
        ]
        assert len(dossiers) == 2
        assert len({one.grant.SerializeToString() for one in dossiers}) == 1
        assert len({one.leaf for one in dossiers}) == 1
        log = rig.broker.logs.search
        assert log.checkpoint.checkpoint.size == 2  # one order, one result


async def test_a_grant_that_expired_meanwhile_asks_nobody_and_says_so(world: World) -> None:
    async with rigged(world, serving=("pnd",)) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour = Behaviour.HANGS
        request = Request(world, agencies=("pnd", "dwp"))
        started = await rig.create(request, wait_s=0)
        await rig.called("pnd")
        await rig.crash()
        await rig.reopen(TurnedClock(timedelta(seconds=61)))
        ended = await rig.create(request)
        assert ended.record.search_id == started.record.search_id
        one = outcomes(ended)["pnd"]
        assert (one.state, one.reason) == (OutcomeState.UNAVAILABLE, RESTARTED)
        assert outcomes(ended)["dwp"].state is OutcomeState.DENIED
        assert rig.result(ended).missing == ("pnd",)
        assert pnd.calls == 1


async def test_what_had_ended_reads_the_same_after_a_restart(world: World) -> None:
    async with rigged(world) as rig:
        view = await rig.search()
        await rig.crash()
        await rig.reopen()
        kept = await rig.broker.reading.get("northshire", view.record.search_id)
        assert kept.record == view.record
        assert kept.receipt_leaf == view.receipt_leaf
        watched = [e async for e in rig.broker.reading.watch("northshire", kept.record.search_id)]
        assert watched == [*view.record.answers, watched[-1]]
        assert isinstance(watched[-1], SearchView)
        assert rig.calls() == 4


async def test_an_order_used_before_a_restart_is_used_after_it(world: World) -> None:
    async with rigged(world) as rig:
        request = Request(world)
        await rig.create(request)
        await rig.crash()
        await rig.reopen()
        order = request.order().model_copy(update={"limits": SearchLimits(max_candidates=2)})
        signer = world.folder("northshire").signer()
        envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(order), signer)
        with pytest.raises(ProbegateError) as raised:
            await rig.create(request, envelope=envelope)
        assert raised.value.reason is Reason.ORDER_REPLAYED
