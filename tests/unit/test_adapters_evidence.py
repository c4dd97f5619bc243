"""What counts as proof of an earlier answer, and everything that only looks like it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from probegate.agency.v1 import match_service_pb2 as pb
from probegate.common.v1 import envelope_pb2

from agency_adapters.evidence import Against, answered
from agency_adapters.wire import match_params
from audit.evidence import EarlierSearch
from tests.adapters import Scene, encoded, entries, make_world, scene
from tests.unit.adapters_kit import BrokerSide, Papers
from tests.unit.adapters_past import PND_FIRST, earlier, pnd_first, showing, told
from tests.world import Request, World, template
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MatchReport, OutcomeState
from trust.payload_types import PayloadType
from trust.wire import decode_report, envelope_from_wire


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(
        tmp_path_factory.mktemp("world"), pnd_first, agencies=("custody", "pnd", "passport")
    )


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(world, tmp_path, monkeypatch) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier search on the broker's log, others beside it, and the one at hand."""

    broker: BrokerSide
    same: Papers
    other_case: Papers
    other_probe: Papers
    other_force: Papers
    other_kind: Papers
    now: Papers

    def shown(self, *statements: Envelope, past: Papers | None = None) -> EarlierSearch:
        return earlier(self.broker, past or self.same, self.now, *statements)

    def honest(self) -> EarlierSearch:
        return self.shown(told(self.broker, self.same))

    def of(self, past: Papers) -> EarlierSearch:
        return self.shown(told(self.broker, past), past=past)

    def signed_by(self, member: str) -> EarlierSearch:
        signer = self.broker.world.folder(member).signer()
        return self.shown(told(self.broker, self.same, signer=signer))


async def past_of(here: Scene) -> Past:
    world = here.world
    others = {
        "same": await here.papers(Request(world)),
        "other_case": await here.papers(
            Request(world, justification={"case_reference": "CASE/2026/000418"})
        ),
        "other_probe": await here.papers(Request(world, probe=template(2))),
        "other_force": await here.papers(Request(world, force="southmere")),
        "other_kind": await here.papers(leaf_changes={"type": "search.result"}),
    }
    return Past(here.broker, **others, now=await here.papers(Request(world)))


async def reported(here: Scene, papers: Papers) -> MatchReport:
    reply = await here.ask(papers.params())
    return decode_report(envelope_from_wire(reply.report).payload)


async def test_an_earlier_answer_that_is_proved_counts(here: Scene) -> None:
    past = await past_of(here)
    assert (await reported(here, showing(past.now, past.honest()))).state is OutcomeState.CANDIDATES


async def test_a_clock_ahead_of_ours_within_the_skew_counts(here: Scene) -> None:
    past = await past_of(here)
    soon = datetime.now(UTC) + timedelta(seconds=20)
    shown = past.shown(told(here.broker, past.same, at=soon))
    assert (await reported(here, showing(past.now, shown))).state is OutcomeState.CANDIDATES


async def test_what_does_not_verify_beside_what_does_takes_nothing_away(here: Scene) -> None:
    past = await past_of(here)
    torn = replace(past.honest(), order=replace(past.honest().order, inclusion=()))
    both = past.shown(
        told(here.broker, past.same, signer=here.world.folder("broker").signer()),
        told(here.broker, past.same),
    )
    assert (await reported(here, showing(past.now, torn, both))).state is OutcomeState.CANDIDATES


def _entry(search: EarlierSearch, **changes: object) -> EarlierSearch:
    return replace(search, order=replace(search.order, **changes))  # type: ignore[arg-type]


def _tampered(envelope: Envelope) -> Envelope:
    return replace(envelope, payload=envelope.payload.replace(b"pnd", b"pnq"))


Lie = Callable[[Past], EarlierSearch]
LIES: dict[str, Lie] = {
    "no statement": lambda past: past.shown(),
    "signed by another agency": lambda past: past.signed_by("passport"),
    "signed by this agency": lambda past: past.signed_by("custody"),
    "signed by the broker": lambda past: past.signed_by("broker"),
    "signed by the force": lambda past: past.signed_by("northshire"),
    "signed by two": lambda past: past.shown(
        replace(
            told(past.broker, past.same),
            signatures=(
                *told(past.broker, past.same).signatures,
                *told(past.broker, past.same, agency="passport").signatures,
            ),
        )
    ),
    "not signed": lambda past: past.shown(replace(told(past.broker, past.same), signatures=())),
    "changed after signing": lambda past: past.shown(_tampered(told(past.broker, past.same))),
    "of another type": lambda past: past.shown(
        told(past.broker, past.same, payload_type=PayloadType.MATCH_REPORT)
    ),
    "another agency's answer": lambda past: past.shown(
        told(past.broker, past.same, agency="passport")
    ),
    "another agency, by this one's key": lambda past: past.shown(
        told(
            past.broker,
            past.same,
            agency="passport",
            signer=past.broker.world.folder("pnd").signer(),
        )
    ),
    "another order": lambda past: past.shown(
        told(past.broker, past.same, order_sha256=past.other_case.order_sha256)
    ),
    "another search": lambda past: past.shown(
        told(past.broker, past.same, search_id=past.other_case.search_id)
    ),
    "from the future": lambda past: past.shown(
        told(past.broker, past.same, at=datetime.now(UTC) + timedelta(minutes=2))
    ),
    "from too long ago": lambda past: past.shown(
        told(past.broker, past.same, at=datetime.now(UTC) - timedelta(days=8))
    ),
    # The next two are what a lying broker would show: an answer that was really given, to an order
    # of another case or probe. Its entry may say what it likes; the agency's statement does not.
    "for another case": lambda past: past.of(past.other_case),
    "for another probe": lambda past: past.of(past.other_probe),
    "of another force": lambda past: past.of(past.other_force),
    "of another kind of entry": lambda past: past.of(past.other_kind),
    "of the order at hand": lambda past: past.of(past.now),
    "in no tree": lambda past: _entry(past.honest(), inclusion=()),
    "at another place": lambda past: _entry(past.honest(), index=1),
    "beyond the tree": lambda past: _entry(past.honest(), index=2**63),
    "another entry's proof": lambda past: _entry(
        past.of(past.other_case), leaf=past.honest().order.leaf
    ),
    "an entry rewritten": lambda past: _entry(
        past.of(past.other_force),
        leaf=past.of(past.other_force).order.leaf.replace(b"southmere", b"northshire"),
    ),
    "no JSON": lambda past: _entry(past.honest(), leaf=b"\xff"),
    "a matter of no order": lambda past: past.shown(
        told(past.broker, past.same, matter_sha256=bytes(32))
    ),
}


async def test_whatever_does_not_verify_is_no_evidence_and_the_denial_names_the_clause(
    here: Scene,
) -> None:
    for name, lie in LIES.items():
        past = await past_of(here)
        report = await reported(here, showing(past.now, lie(past)))
        assert (report.state, report.failed_clauses) == (OutcomeState.DENIED, (PND_FIRST,)), name
    assert here.scans.count == 0
    assert {entry["state"] for entry in entries(here.adapter)} == {"denied"}


async def test_the_latest_of_several_answers_counts_and_no_key_past_its_time(here: Scene) -> None:
    past = await past_of(here)
    now = datetime.now(UTC)
    times = [now - timedelta(days=2), now - timedelta(hours=1), now - timedelta(days=1)]
    shown = past.shown(*[told(here.broker, past.same, at=at) for at in times])
    against = Against(
        order=Request(here.world).order(),
        order_sha256=past.now.order_sha256.hex(),
        checkpoint=here.broker.logs.search.checkpoint.checkpoint,
        directory=here.world.directory,
        now=now,
        skew=timedelta(seconds=30),
    )
    assert answered([shown], {"pnd"}, against) == {"pnd": times[1]}
    assert answered([shown], {"passport"}, against) == {}
    assert answered([shown], {"northshire"}, against) == {}  # no agency
    assert answered([shown], {"nobody"}, against) == {}
    later = replace(against, now=now + timedelta(days=10_000))
    assert answered([shown], {"pnd"}, later) == {}


TOO_MUCH = {
    "earlier_searches": pb.MatchRequest(earlier_searches=[pb.EarlierSearch()] * 9),
    "statements": pb.MatchRequest(
        earlier_searches=[pb.EarlierSearch(statements=[envelope_pb2.Envelope()] * 65)]
    ),
    "confirmations": pb.MatchRequest(confirmations=[pb.ConfirmedSearch()] * 33),
}
UNKNOWN = b"\xf8\x7f\x01"
"""Field 2047, a varint."""


@pytest.mark.parametrize("field", TOO_MUCH)
def test_more_of_the_past_than_may_be_shown_is_refused(field: str) -> None:
    with pytest.raises(ProbegateError) as raised:
        match_params(TOO_MUCH[field])
    assert raised.value.reason is Reason.MESSAGE_INVALID
    assert raised.value.metadata == {"field": field}


def test_as_much_of_the_past_as_may_be_shown_is_read() -> None:
    most = pb.MatchRequest(
        earlier_searches=[pb.EarlierSearch(statements=[envelope_pb2.Envelope()] * 64)] * 8,
        confirmations=[pb.ConfirmedSearch()] * 32,
    )
    evidence = match_params(most).evidence
    assert [len(one.statements) for one in evidence.earlier] == [64] * 8
    assert len(evidence.confirmed) == 32


async def test_fields_that_are_not_known_are_refused_before_anything_else(here: Scene) -> None:
    honest = encoded((await here.papers()).params())
    nested = pb.EarlierSearch(order=pb.LoggedEntry.FromString(UNKNOWN))
    inside = honest + pb.MatchRequest(earlier_searches=[nested]).SerializeToString()
    for request in (honest + UNKNOWN, inside):
        with pytest.raises(ProbegateError) as raised:
            await here.send(request)
        assert raised.value.reason is Reason.MESSAGE_INVALID
        assert raised.value.metadata == {"field": "unknown"}
    assert entries(here.adapter) == []
