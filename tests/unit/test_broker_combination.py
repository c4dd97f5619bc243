"""The broker puts answers side by side: groups by tokens, which go no further than itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb

from broker import wire
from broker.combination import Received, combine
from broker.models import Replaced, SearchView
from broker.results import result_of
from tests.brokers import Rig, outcomes, rigged
from tests.peers import Behaviour, Knobs, SimulatedAgency, search_log_signer
from tests.promises.test_honest_numbers import NOW, SEARCH, report
from tests.world import World
from trust.messages import CandidateLink, CandidateLinks, MatchReport, OutcomeState, SearchLimits
from trust.wire import decode_report

ONE, TWO, THREE = (bytes([number]) * 16 for number in (0x91, 0x92, 0x93))


def linked(one: MatchReport, *tokens: Sequence[bytes], key: str = "link-1") -> Received:
    """A received report whose candidates have these tokens, in their order."""
    links = CandidateLinks(
        search_id=SEARCH,
        agency=one.agency,
        report_sha256=bytes(32),
        link_key_id=key,
        candidates=tuple(
            CandidateLink(reference=candidate.reference, tokens=tuple(given))
            for candidate, given in zip(one.candidates, tokens, strict=False)
            if given
        ),
    )
    return Received(one, NOW, links)


def groups_of(*received: Received) -> dict[str, int]:
    made = combine(received)
    ranked = {one.reference: one.group for one in made.ranking}
    return ranked | {c.reference: c.group for lane in made.lanes for c in lane.candidates}


def test_who_shares_a_token_is_one_group_numbered_as_it_appears() -> None:
    custody = report("custody", [(0.9, 1.0), (0.8, 0.5)])
    pnd = report("pnd", [(0.9, 3.0), (0.8, 2.0)])
    passport = report("passport", [(0.7, 0.0)], calibrated=False)
    assert groups_of(
        linked(custody, [ONE], [TWO]), linked(pnd, [TWO], [THREE]), linked(passport, [ONE])
    ) == {
        "pnd-1": 1,
        "pnd-2": 0,
        "custody-1": 2,
        "custody-2": 1,
        "passport-1": 2,
    }


def test_a_group_is_everything_that_hangs_together() -> None:
    custody = report("custody", [(0.9, 1.0)])
    pnd = report("pnd", [(0.9, 3.0)])
    passport = report("passport", [(0.9, 2.0)])
    assert set(
        groups_of(linked(custody, [ONE]), linked(pnd, [ONE, TWO]), linked(passport, [TWO])).values()
    ) == {1}


def test_two_images_of_one_person_at_one_agency_are_one_group_too() -> None:
    assert groups_of(linked(report("custody", [(0.9, 2.0), (0.8, 1.0)]), [ONE], [ONE])) == {
        "custody-1": 1,
        "custody-2": 1,
    }


def test_tokens_of_two_keys_never_match() -> None:
    custody, pnd = report("custody", [(0.9, 1.0)]), report("pnd", [(0.9, 3.0)])
    assert groups_of(linked(custody, [ONE]), linked(pnd, [ONE], key="link-2")) == {
        "custody-1": 0,
        "pnd-1": 0,
    }


# --- through a whole broker -------------------------------------------------------------------

CALIBRATED = {"custody": (2.0, 1.0), "pnd": (3.0, 1.5)}
TOKENS: dict[str, dict[str, tuple[bytes, ...]]] = {
    "custody": {"ref-1": (ONE, TWO)},
    "pnd": {"ref-2": (TWO,)},
    "passport": {"ref-1": (ONE,), "ref-2": (THREE,)},
}


def linking(agency: str, world: World) -> SimulatedAgency:
    knobs = Knobs(strengths=CALIBRATED.get(agency, ()), tokens=TOKENS.get(agency, {}))
    folder = world.folder(agency)
    other = world.folder("broker").signer()
    return SimulatedAgency(agency, folder.signer(), other, knobs, log=search_log_signer(folder))


AGENCIES = ("custody", "pnd", "passport")


async def test_agencies_answers_become_one_ranking_lanes_and_groups(world: World) -> None:
    async with rigged(world, serving=AGENCIES, peer=linking) as rig:
        result = rig.result(await rig.search(AGENCIES))
        assert [(one.agency, one.log10_lr, one.group) for one in result.ranking] == [
            ("pnd", 3.0, 0),
            ("custody", 2.0, 1),
            ("pnd", 1.5, 1),
            ("custody", 1.0, 0),
        ]
        (lane,) = result.lanes
        assert lane.agency == "passport"
        assert [one.group for one in lane.candidates] == [1, 0]


async def test_a_calibration_that_expired_before_the_end_is_a_lane(world: World) -> None:
    async with rigged(world, serving=AGENCIES, peer=linking) as rig:
        rig.peers["pnd"].knobs.expires_in = timedelta(microseconds=1)
        result = rig.result(await rig.search(AGENCIES))
        assert {one.agency for one in result.ranking} == {"custody"}
        assert [lane.agency for lane in result.lanes] == ["passport", "pnd"]


async def everything_a_force_reads(rig: Rig, view: SearchView) -> bytes:
    """Every message and log entry that a force is given of a search."""
    events = [wire.answer_message(answer) for answer in view.record.answers]
    listed, _ = await rig.broker.reading.page(view.record.force, 100, "")
    parts = [wire.search_message(view), *events, *map(wire.summary_message, listed)]
    log = rig.broker.logs.search
    entries = [log.leaf(index) for index in range(log.checkpoint.checkpoint.size)]
    return b"".join([*(one.SerializeToString() for one in parts), *entries])


def assert_no_token(data: bytes) -> None:
    for token in (ONE, TWO, THREE):
        assert token not in data
        assert token.hex().encode() not in data


async def test_no_token_reaches_a_force_by_any_way(world: World) -> None:
    async with rigged(world, serving=AGENCIES, peer=linking) as rig:
        view = await rig.search(AGENCIES)
        given = await everything_a_force_reads(rig, view)
        assert b"ref-1" in given  # the scan sees what there is
        assert_no_token(given)
        force = view.record.force
        kept = await rig.broker.reading.get(force, view.record.search_id)
        assert_no_token(await everything_a_force_reads(rig, kept))
        events = [e async for e in rig.broker.reading.watch(force, view.record.search_id)]
        assert len(events) == len(AGENCIES) + 1
        assert_no_token(repr(events).encode())
        assert any(one.links is not None for one in view.record.answers)
        assert_no_token(repr(view).encode())
        assert ONE.hex() not in json.dumps([repr(one) for one in view.record.answers])
        assert await rig.broker.reading._store.links(view.record.search_id) == {}


async def test_tokens_are_kept_while_an_answer_is_held_and_the_result_can_be_made_anew(
    world: World,
) -> None:
    serving = (*AGENCIES, "asylum")
    async with rigged(world, serving=serving, peer=linking) as rig:
        rig.peers["asylum"].knobs.behaviour = Behaviour.HOLDS
        view = await rig.search(serving)
        record, first = view.record, rig.result(view)
        assert outcomes(view)["asylum"].state is OutcomeState.HELD
        store = rig.broker.reading._store
        links = await store.links(record.search_id)
        assert links.keys() == set(AGENCIES)
        stored = await store.get(record.force, record.search_id)
        assert stored is not None
        assert_no_token(repr(stored).encode())
        assert_no_token(await everything_a_force_reads(rig, await rig.broker.reading.view(stored)))
        answers = tuple(replace(one, links=links.get(one.outcome.agency)) for one in stored.answers)
        anew = result_of(
            stored,
            answers,
            SearchLimits(),
            first.finished_at + timedelta(days=90),  # the calibrations have expired since
            Replaced(0, bytes(32), 1, first.finished_at, first.ended_at),
        )
        assert (anew.ranking, anew.lanes) == (first.ranking, first.lanes)
        assert (anew.revision, anew.replaces_sha256) == (1, bytes(32))


def _other_reference(said: agency_pb.CandidateLinks) -> None:
    said.candidates[0].reference = "ref-9"


def _set(**values: Any) -> Callable[[agency_pb.CandidateLinks], None]:
    def spoil(said: agency_pb.CandidateLinks) -> None:
        for name, value in values.items():
            setattr(said, name, value)

    return spoil


SPOILT: dict[str, Callable[[agency_pb.CandidateLinks], object]] = {
    "another search": _set(search_id="00000000-0000-4000-8000-000000000000"),
    "another agency": _set(agency="pnd"),
    "another report": _set(report_sha256=bytes(32)),
    "no digest": _set(report_sha256=b""),
    "a key id out of form": _set(link_key_id="Link 1"),
    "a candidate that is not listed": _other_reference,
    "a candidate twice": lambda s: s.candidates.append(s.candidates[0]),
    "a short token": lambda s: s.candidates[0].tokens.append(b"short"),
    "a long token": lambda s: s.candidates[0].tokens.append(bytes(17)),
    "a token twice": lambda s: s.candidates[0].tokens.append(s.candidates[0].tokens[0]),
    "too many tokens": lambda s: s.candidates[0].tokens.extend(bytes([n] * 16) for n in range(8)),
    "no token": lambda s: s.candidates[0].ClearField("tokens"),
}


@pytest.mark.parametrize("how", [*SPOILT, "signed by another"])
async def test_tokens_that_do_not_verify_group_nothing_and_spoil_no_report(
    world: World, how: str
) -> None:
    async with rigged(world, serving=AGENCIES, peer=linking) as rig:
        rig.peers["custody"].knobs.spoil = SPOILT.get(how)
        rig.peers["custody"].knobs.links_forged = how not in SPOILT
        view = await rig.search(AGENCIES)
        assert outcomes(view)["custody"].state is OutcomeState.CANDIDATES
        result = rig.result(view)
        custody = next(a for a in view.record.answers if a.outcome.agency == "custody")
        assert custody.links is None
        assert custody.report is not None
        assert len(decode_report(custody.report.payload).candidates) == 2
        assert len(result.ranking) == 4
        assert all(one.group == 0 for one in result.ranking if one.agency == "custody")
