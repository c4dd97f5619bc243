"""What dispatch remembers of an agency: its availability, and what it knows of our log."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probegate.agency.v1 import match_service_pb2 as agency_pb

from audit.settings import WitnessSettings
from broker import wire
from broker.backoff import JITTER, AgencyBackoff
from broker.links import REMEMBERED_SIZES, SENT_SIZES, LogMemory
from broker.models import Acknowledged
from tests.brokers import Rig, outcomes, rigged
from tests.peers import checkpoint_size
from tests.world import World
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def backoff(tolerated: int = 3, seed: int = 1) -> AgencyBackoff:
    return AgencyBackoff(
        "pnd", tolerated, first=SECOND, longest=60 * SECOND, _draw=random.Random(seed)
    )


def test_a_few_outages_are_borne() -> None:
    memory = backoff(tolerated=3)
    for _ in range(2):
        memory.failed(Reason.SERVICE_UNREACHABLE, NOW)
        assert memory.may_call(NOW)
    memory.failed(Reason.DEADLINE_PASSED, NOW)
    assert not memory.may_call(NOW)
    assert memory.last_reason is Reason.DEADLINE_PASSED
    assert memory.last_outage_at == NOW


@given(st.integers(1, 5), st.integers(0, 100), st.integers(0, 2**32))
def test_pauses_double_with_jitter_and_have_an_end(tolerated: int, more: int, seed: int) -> None:
    memory = backoff(tolerated, seed)
    for _ in range(tolerated + more):
        memory.failed(Reason.SERVICE_UNREACHABLE, NOW)
    assert memory.not_before is not None
    pause = min(SECOND * 2 ** min(more, 10), 60 * SECOND)
    assert pause * JITTER[0] <= memory.not_before - NOW <= pause * JITTER[1]
    assert not memory.may_call(memory.not_before - SECOND / 1000)
    assert memory.may_call(memory.not_before)


def test_any_answer_clears_the_memory() -> None:
    memory = backoff(tolerated=1)
    memory.failed(Reason.SERVICE_UNREACHABLE, NOW)
    assert not memory.may_call(NOW)
    memory.answered()
    assert memory.may_call(NOW)
    assert (memory.outages, memory.last_reason, memory.last_outage_at) == (0, None, None)


sizes = st.integers(0, 2**64 - 1)
acknowledgements = st.builds(
    Acknowledged, newest_size=sizes, debts=st.lists(sizes, max_size=20).map(tuple)
)


@given(st.lists(acknowledgements, max_size=30), st.lists(sizes, max_size=10, unique=True), sizes)
def test_proofs_start_below_the_checkpoint_whatever_an_agency_claims(
    said: list[Acknowledged], sent: list[int], size: int
) -> None:
    memory = LogMemory()
    for acknowledged in said:
        memory.learn(acknowledged)
    for each in sent:
        memory.sent(each)
    bases = memory.bases(size)
    assert list(bases) == sorted(set(bases))
    assert all(0 < base < size for base in bases)
    if said:
        assert {debt for debt in said[-1].debts if 0 < debt < size} <= set(bases)
    heard = max((each.newest_size for each in said), default=0)
    on_their_way = {one for one in sent[-SENT_SIZES:] if heard < one < size}
    assert on_their_way <= set(bases)
    memory.forget()
    assert memory.bases(size) == ()
    assert not memory.known


def test_the_newest_size_below_the_checkpoint_makes_the_shortest_proof() -> None:
    memory = LogMemory()
    newest = 4 * REMEMBERED_SIZES
    for size in range(0, newest + 1, 2):
        memory.learn(Acknowledged(size))
    assert memory.bases(newest - 9) == (newest - 10,)
    assert memory.bases(2**40) == (newest,)
    assert memory.bases(newest) == ()  # acknowledged itself: there is nothing to prove
    assert memory.bases(5) == ()  # long forgotten; the agency is asked anew if it minds


def test_an_agency_cannot_make_us_prove_without_end() -> None:
    """Debts beyond what a witness ever has are not debts, and proving them would block others."""
    memory = LogMemory()
    memory.learn(Acknowledged(1, tuple(range(2, 50_000))))
    most = WitnessSettings().debt_max_count + SENT_SIZES + 1
    assert len(memory.bases(2**40)) <= most


def _proved_from(rig: Rig) -> tuple[int, ...]:
    data = rig.peers["pnd"].requests[-1]
    request = agency_pb.MatchRequest.FromString(data)
    dossier = agency_pb.Dossier.FromString(request.dossier)
    size = checkpoint_size(dossier.checkpoint)
    assert all(proof.new_size == size for proof in request.consistency)
    return tuple(proof.old_size for proof in request.consistency)


async def test_each_checkpoint_is_proved_from_what_the_agency_acknowledged(world: World) -> None:
    async with rigged(world, serving=("pnd",)) as rig:
        seen = []
        for _ in range(3):
            view = await rig.search(("pnd",))
            assert outcomes(view)["pnd"].state is OutcomeState.CANDIDATES
            seen.append(_proved_from(rig))
        assert seen == [(), (1,), (3,)]
        rig.peers["pnd"].newest_size = 2  # it lost some of its memory
        rig.broker.agencies["pnd"].memory.forget()
        await rig.search(("pnd",))
        assert _proved_from(rig) == (2,)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"\x08"])
def test_an_answer_that_does_not_parse_is_invalid(data: bytes) -> None:
    for decode in (wire.decode_reply, wire.decode_description):
        with pytest.raises(ProbegateError) as raised:
            decode(data)
        assert raised.value.reason is Reason.OUTCOME_INVALID


async def test_an_agency_listed_without_an_address_keeps_no_other_from_a_new_one(
    world: World,
) -> None:
    async with rigged(world, serving=("custody", "pnd")) as rig:
        await rig.search(("custody", "pnd"))
        nowhere = "127.0.0.1:1"
        for agency, endpoint in (("custody", None), ("pnd", nowhere)):
            card = world.folder(agency).card
            card.write_text(json.dumps(json.loads(card.read_text()) | {"endpoint": endpoint}))
        world.directory = world.scheme.publish_directory()
        await rig.broker.refresh_directory()
        await rig.broker.refresh_links()
        states = {one: end.state for one, end in outcomes(await rig.search(("pnd",))).items()}
        assert states == {"pnd": OutcomeState.UNAVAILABLE}  # nobody is at its new address
        assert rig.peers["pnd"].calls == 1
