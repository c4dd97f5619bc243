"""What the broker decides on its own records: quotas, prior answers, urgency, switches, reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb
from probegate.common.v1 import search_pb2

from audit.desk import Desk
from audit.leaves import parse_leaf
from audit.merkle import leaf_hash, verify_inclusion
from broker.models import ConfirmParams, SearchView
from broker.operators import Operator
from broker.wire import search_message
from policy.core_clauses import NOT_SWITCHED_OFF
from policy.ledger import SwitchClerk
from tests.brokers import CALLER_S, Rig, TurnedClock, outcomes, rigged
from tests.peers import Behaviour, SimulatedAgency, search_log_signer
from tests.world import AUTHORISER, OFFICER, Request, World, copied_examples, edit_agreement
from trust import dsse
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState, Person, UrgentConfirmation
from trust.payload_types import PayloadType
from trust.tokens import Part
from trust.wire import decode_confirmation, decode_statement, encode_confirmation

Change = Callable[[dict[str, Any]], None]
SUPERINTENDENT = Person(
    id="superintendent-7@northshire", role="investigating_officer", rank="superintendent"
)
URGENT = {"urgent": True, "purpose": "protect_life", "schedule8_condition": "vital_interests"}


def world_of(root: Path, *, prior_answers: bool = False, **changes: Change) -> World:
    """Make a scheme whose agreements with some agencies are changed."""
    agreements = copied_examples(root / "agreements", prior_answers=prior_answers)
    for agency, change in changes.items():
        edit_agreement(agreements / agency / f"{agency}.yaml", change)
    return World.make(root, agreements=agreements)


def quota(per: str, window: str, most: int) -> Change:
    def change(agreement: dict[str, Any]) -> None:
        agreement["quotas"] = [
            {"id": "q.1", "citation": "A test", "per": per, "window": window, "most": most}
        ]

    return change


def failed(view: SearchView, agency: str) -> tuple[str, ...]:
    return outcomes(view)[agency].failed_clauses


def entries(rig: Rig, kind: str) -> list[dict[str, Any]]:
    log = rig.broker.logs.search
    leaves = (parse_leaf(log.leaf(i)) for i in range(log.checkpoint.checkpoint.size))
    return [dict(leaf) for leaf in leaves if leaf["type"] == kind]


# --- quotas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["force", "officer", "case"])
async def test_of_64_at_once_a_quota_of_10_permits_exactly_10_and_none_after_a_restart(
    tmp_path: Path, per: str
) -> None:
    world = world_of(tmp_path, custody=quota(per, "day", 10))
    async with rigged(world, serving=("custody",)) as rig:

        async def searched() -> int:
            views = await asyncio.gather(*(rig.search(("custody",)) for _ in range(64)))
            for view in views:
                if not view.record.decisions[0].permitted:
                    assert failed(view, "custody") == ("q.1",)
            return sum(view.record.decisions[0].permitted for view in views)

        assert await searched() == 10
        assert rig.peers["custody"].calls == 10
        await rig.crash()
        await rig.reopen()
        assert await searched() == 0
        # Somebody else's searches are counted for themselves.
        other = Request(
            world,
            force="southmere" if per == "force" else "northshire",
            officer=OFFICER.model_copy(update={"id": "officer-9@northshire"}),
            justification={"case_reference": "CASE/2026/999999"},
        )
        assert (await rig.create(other)).record.decisions[0].permitted


async def test_what_was_not_recorded_is_not_counted_and_a_repeat_counts_once(
    tmp_path: Path,
) -> None:
    world = world_of(tmp_path, custody=quota("officer", "month", 3))
    async with rigged(world, serving=("custody",)) as rig:
        first = Request(world)
        params = first.params(wait_s=CALLER_S)
        for _ in range(4):  # the same bytes are one search
            await rig.broker.create.execute(params, rig.identity(), world.directory, CALLER_S)
        for _ in range(3):  # another order with a used request id is refused
            with pytest.raises(ProbegateError) as raised:
                await rig.create(Request(world, request_id=first.request_id))
            assert raised.value.reason is Reason.ORDER_REPLAYED
        await rig.broker.preview.execute(first.order(), rig.identity(), world.directory)
        for permitted in (True, True, False):
            view = await rig.search(("custody",))
            assert view.record.decisions[0].permitted is permitted


async def test_a_caller_who_goes_away_leaves_no_search_half_begun(tmp_path: Path) -> None:
    world = world_of(tmp_path, custody=quota("officer", "month", 1))
    async with rigged(world, serving=("custody",)) as rig:
        request = Request(world)
        asking = asyncio.create_task(rig.create(request))
        await asyncio.sleep(0)
        while not rig.broker.create._starting:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        view = await rig.create(request)
        assert outcomes(view)["custody"].state is OutcomeState.CANDIDATES
        assert rig.peers["custody"].calls == 1
        assert failed(await rig.search(("custody",)), "custody") == ("q.1",)


async def test_a_quota_begins_anew_with_its_window(tmp_path: Path) -> None:
    world = world_of(tmp_path, custody=quota("officer", "day", 1))
    clock = TurnedClock()
    async with rigged(world, serving=("custody",), clock=clock) as rig:
        for permitted in (True, False):
            view = await rig.search(("custody",))
            assert view.record.decisions[0].permitted is permitted
        clock.ahead = timedelta(days=1)
        assert (await rig.search(("custody",))).record.decisions[0].permitted


# --- prior answers ----------------------------------------------------------------------------


async def test_passports_answer_once_custody_and_pnd_have(tmp_path: Path) -> None:
    world = world_of(tmp_path, prior_answers=True)
    agencies = ("custody", "pnd", "passport")
    async with rigged(world, serving=agencies) as rig:
        first = await rig.search(agencies)
        assert failed(first, "passport") == ("passport.police-galleries-answered",)
        again = await rig.search(agencies)
        assert outcomes(again)["passport"].state is OutcomeState.CANDIDATES
        (request,) = rig.peers["passport"].requests
        shown = agency_pb.MatchRequest.FromString(request)
        (earlier,) = shown.earlier_searches
        dossier = agency_pb.Dossier.FromString(shown.dossier)
        size, root = _checkpoint(dossier.checkpoint)
        entry = earlier.order
        verify_inclusion(entry.leaf_index, size, leaf_hash(entry.leaf), list(entry.inclusion), root)
        assert parse_leaf(entry.leaf)["search_id"] == first.record.search_id
        assert len(earlier.statements) == 2
        for statement in earlier.statements:
            said = decode_statement(statement.payload)
            assert said.matter_sha256 == Request(world).order().matter_sha256
        # Those who need not be shown are shown nothing.
        for agency in ("custody", "pnd"):
            for data in rig.peers[agency].requests:
                assert not agency_pb.MatchRequest.FromString(data).earlier_searches
        await rig.crash()
        await rig.reopen()
        assert (await rig.search(("passport",))).record.decisions[0].permitted


def _checkpoint(note: bytes) -> tuple[int, bytes]:
    import base64

    lines = note.split(b"\n")
    return int(lines[1]), base64.b64decode(lines[2])


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour.DENIES,
        Behaviour.HOLDS,
        Behaviour.REJECTS,
        Behaviour.HANGS,
        Behaviour.NO_STATEMENT,
        Behaviour.FORGED_STATEMENT,
        Behaviour.WRONG_KEY,
    ],
)
async def test_nothing_but_an_agencys_own_word_is_an_answer(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    world = world_of(tmp_path, prior_answers=True)
    async with rigged(world, serving=("custody", "pnd", "passport"), agency_timeout_s=1.0) as rig:
        rig.peers["pnd"].knobs.behaviour = behaviour
        await rig.search(("custody", "pnd"))
        view = await rig.search(("passport",))
        assert failed(view, "passport") == ("passport.police-galleries-answered",)
        assert rig.peers["passport"].calls == 0


async def test_an_answer_counts_for_the_same_probe_case_and_force_alone_and_not_for_ever(
    tmp_path: Path,
) -> None:
    def five_days(agreement: dict[str, Any]) -> None:
        agreement["answered_first"][0]["within_days"] = 5

    world = world_of(tmp_path, prior_answers=True, passport=five_days)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "pnd", "passport"), clock=clock) as rig:
        await rig.search(("custody", "pnd"))
        for other in (
            Request(
                world, agencies=("passport",), salt=b"another probe of another salt...".ljust(32)
            ),
            Request(
                world,
                agencies=("passport",),
                justification={"case_reference": "CASE/2026/000418"},
            ),
            Request(world, agencies=("passport",), force="southmere"),
        ):
            view = await rig.create(other)
            assert failed(view, "passport") == ("passport.police-galleries-answered",)
        clock.ahead = timedelta(days=4)
        assert (await rig.search(("passport",))).record.decisions[0].permitted
        clock.ahead = timedelta(days=6)
        view = await rig.search(("passport",))
        assert failed(view, "passport") == ("passport.police-galleries-answered",)


@dataclass(slots=True)
class Dated(SimulatedAgency):
    """An agency whose clock is turned with the broker's."""

    clock: TurnedClock = field(default_factory=TurnedClock)

    def report(self, dossier: agency_pb.Dossier, behaviour: Behaviour) -> search_pb2.MatchReport:
        made = SimulatedAgency.report(self, dossier, behaviour)
        made.reported_at.FromDatetime(self.clock())
        return made


async def test_an_answer_that_comes_late_makes_no_other_answer_newer_or_older(
    tmp_path: Path,
) -> None:
    def five_days(agreement: dict[str, Any]) -> None:
        agreement["answered_first"][0]["within_days"] = 5

    world, clock = world_of(tmp_path, prior_answers=True, passport=five_days), TurnedClock()

    def dated(agency: str, world: World) -> Dated:
        folder = world.folder(agency)
        other = world.folder("broker").signer()
        return Dated(agency, folder.signer(), other, log=search_log_signer(folder), clock=clock)

    serving = ("custody", "pnd", "asylum")
    async with rigged(
        world, serving=serving, peer=dated, clock=clock, held_at_most_h=24 * 20
    ) as rig:

        async def passport_sees() -> tuple[bool, dict[str, datetime]]:
            order = Request(world, agencies=("passport",), now=clock()).order()
            directory = rig.broker.directories.current
            ruling = (await rig.broker.preview.execute(order, rig.identity(), directory)).ruling
            return ruling.decisions[0].permitted, dict(ruling.standing.answered)

        await rig.search(("custody", "pnd"))
        rig.peers["asylum"].knobs.behaviour = Behaviour.HOLDS
        first = await rig.search(serving)
        assert outcomes(first)["asylum"].state is OutcomeState.HELD
        clock.ahead = timedelta(days=4)
        await rig.search(("custody", "pnd"))
        clock.ahead = timedelta(days=7)
        before = await passport_sees()
        assert before[0]
        rig.peers["asylum"].knobs.late = Behaviour.CANDIDATES
        await rig.broker.held.collect()
        done = await rig.broker.reading.get("northshire", first.record.search_id)
        assert outcomes(done)["asylum"].state is OutcomeState.CANDIDATES
        assert await passport_sees() == before
        # Nor does it keep the older ones in time for longer.
        clock.ahead = timedelta(days=10)
        assert not (await passport_sees())[0]


# --- the urgent route -------------------------------------------------------------------------


def confirmation(
    rig: Rig, view: SearchView, confirmer: Person = SUPERINTENDENT, **changes: Any
) -> UrgentConfirmation:
    facts: dict[str, Any] = {
        "search_id": view.record.search_id,
        "order_sha256": view.record.order_sha256,
        "force": "northshire",
        "confirmer": confirmer,
        "confirmed_at": rig.clock(),
        "reasons": "A life was at risk and two galleries would have taken too long.",
    }
    return UrgentConfirmation.model_validate(facts | changes)


async def confirm(
    rig: Rig,
    said: UrgentConfirmation,
    *,
    force: str = "northshire",
    part: Part = Part.AUTHORISER,
    token_of: Person | None = None,
) -> SearchView:
    envelope = dsse.sign(
        PayloadType.URGENT_CONFIRMATION, encode_confirmation(said), rig.world.folder(force).signer()
    )
    asked = Request(rig.world, force=force, now=rig.clock())
    params = ConfirmParams(envelope, asked.token(token_of or said.confirmer, part))
    return await rig.broker.confirm.execute(params, rig.identity(force), rig.world.directory)


async def urgent_search(rig: Rig) -> SearchView:
    return await rig.search(("passport",), justification=URGENT)


async def test_an_urgent_search_goes_out_is_flagged_unconfirmed_and_bars_its_officer(
    tmp_path: Path,
) -> None:
    world = world_of(tmp_path, prior_answers=True)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "passport"), clock=clock) as rig:
        view = await urgent_search(rig)
        (decision,) = view.record.decisions
        assert decision.permitted
        assert decision.waived == ("passport.police-galleries-answered",)
        assert decision.confirm_by == view.record.created_at + timedelta(hours=24)
        (order,) = entries(rig, "search.order")
        assert order["decisions"][0]["waived"] == list(decision.waived)
        await rig.broker.refresh()
        assert entries(rig, "search.unconfirmed") == []
        assert (await rig.search(("custody",))).record.decisions[0].permitted

        clock.ahead = timedelta(hours=25)
        for _ in range(2):
            await rig.broker.refresh()
        (flag,) = entries(rig, "search.unconfirmed")
        assert (flag["search_id"], flag["agency"]) == (view.record.search_id, "passport")
        for restarted in (False, True):
            if restarted:
                await rig.crash()
                await rig.reopen()
                await rig.broker.refresh()
            barred = await rig.search(("custody",))
            assert failed(barred, "custody") == ("core.urgent-confirmed",)
            other = OFFICER.model_copy(update={"id": "officer-9@northshire"})
            theirs = await rig.create(Request(world, officer=other, now=clock()))
            assert theirs.record.decisions[0].permitted
        assert len(entries(rig, "search.unconfirmed")) == 1

        late = await confirm(rig, confirmation(rig, view))
        assert late.confirmed_at == entries_at(rig, "search.confirmed")
        assert entries(rig, "search.confirmed")[0]["late"] is True
        assert (await rig.search(("custody",))).record.decisions[0].permitted


def entries_at(rig: Rig, kind: str) -> datetime:
    (entry,) = entries(rig, kind)
    return datetime.fromisoformat(entry["at"])


async def test_a_confirmation_is_signed_logged_and_shown_to_the_agency(tmp_path: Path) -> None:
    world = world_of(tmp_path, prior_answers=True)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "passport"), clock=clock) as rig:
        view = await urgent_search(rig)
        await confirm(rig, confirmation(rig, view))
        again = await confirm(rig, confirmation(rig, view))
        assert again.confirmed_at is not None
        (entry,) = entries(rig, "search.confirmed")
        assert entry["late"] is False
        assert set(entry["commitments"]) == {"confirmer", "reasons"}
        await rig.crash()
        await rig.reopen()
        clock.ahead = timedelta(hours=25)
        await rig.broker.refresh()
        assert entries(rig, "search.unconfirmed") == []
        assert (await rig.broker.reading.get("northshire", view.record.search_id)).confirmed_at
        await urgent_search(rig)
        shown = agency_pb.MatchRequest.FromString(rig.peers["passport"].requests[-1])
        (confirmed,) = shown.confirmations
        assert parse_leaf(confirmed.entry.leaf)["search_id"] == view.record.search_id
        said = decode_confirmation(confirmed.confirmation.payload)
        assert said.confirmer == SUPERINTENDENT


async def unconfirmed_nowhere(rig: Rig, clock: TurnedClock) -> None:
    """A day later nothing is missing, and the officer goes on searching."""
    clock.ahead = timedelta(hours=25)
    await rig.broker.refresh()
    assert entries(rig, "search.unconfirmed") == []
    assert (await rig.search(("custody",))).record.decisions[0].permitted


async def test_a_confirmation_counts_though_its_caller_went_away(tmp_path: Path) -> None:
    world = world_of(tmp_path, prior_answers=True)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "passport"), clock=clock) as rig:
        view = await urgent_search(rig)
        log = rig.broker.logs.search
        size = log.checkpoint.checkpoint.size
        confirming = asyncio.create_task(confirm(rig, confirmation(rig, view)))
        while not log.pending() and log.checkpoint.checkpoint.size == size:  # noqa: ASYNC110
            await asyncio.sleep(0)
        confirming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await confirming
        while not entries(rig, "search.confirmed"):  # noqa: ASYNC110 - the log's own thread
            await asyncio.sleep(0.005)
        while rig.broker.confirm._confirming:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)
        await unconfirmed_nowhere(rig, clock)


async def test_a_confirmation_that_is_repeated_counts_wherever_it_was_recorded(
    tmp_path: Path,
) -> None:
    world = world_of(tmp_path, prior_answers=True)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "passport"), clock=clock) as rig:
        view = await urgent_search(rig)
        awaited = rig.broker.ledger.urgent.awaiting(view.record.search_id)
        await confirm(rig, confirmation(rig, view))
        rig.broker.ledger.urgent.recorded(awaited)  # as another process still has it
        again = await confirm(rig, confirmation(rig, view))
        assert again.confirmed_at is not None
        await unconfirmed_nowhere(rig, clock)


async def test_a_search_whose_results_are_gone_is_confirmed_all_the_same(tmp_path: Path) -> None:
    def briefly(agreement: dict[str, Any]) -> None:
        agreement["obligations"]["retention_days"] = 1

    world = world_of(tmp_path, prior_answers=True, passport=briefly)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "passport"), clock=clock) as rig:
        view = await urgent_search(rig)
        clock.ahead = timedelta(days=3)
        await rig.broker.retention.erase()
        for _ in range(2):
            confirmed = await confirm(rig, confirmation(rig, view))
            assert confirmed.confirmed_at == entries_at(rig, "search.confirmed")
            assert (confirmed.record.answers, confirmed.record.result) == ((), None)
            sent = search_message(confirmed)
            assert sent.HasField("confirmed_at")
            assert not sent.HasField("result")
        with pytest.raises(ProbegateError) as raised:
            await rig.broker.reading.get("northshire", view.record.search_id)
        assert raised.value.reason is Reason.RESULT_GONE
        assert (await rig.search(("custody",))).record.decisions[0].permitted


async def test_who_may_not_confirm_is_told_so_and_the_bar_stays(tmp_path: Path) -> None:
    world = world_of(tmp_path, prior_answers=True)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "passport"), clock=clock) as rig:
        view = await urgent_search(rig)
        ordinary = await rig.search(("custody",))
        herself = OFFICER.model_copy(update={"rank": "superintendent"})
        spelt_otherwise = herself.model_copy(update={"id": OFFICER.id.upper()})
        digest = bytes(32)
        nowhere = "00000000-0000-4000-8000-000000000000"
        future = clock() + timedelta(minutes=5)
        before = view.record.created_at - timedelta(minutes=5)
        invalid, missing = Reason.CONFIRMATION_INVALID, Reason.NOT_FOUND
        for reason, said in (
            (invalid, confirmation(rig, view, herself)),
            (invalid, confirmation(rig, view, spelt_otherwise)),
            (invalid, confirmation(rig, view, AUTHORISER)),  # an inspector
            (
                invalid,
                confirmation(rig, view, SUPERINTENDENT.model_copy(update={"rank": "admiral"})),
            ),
            (invalid, confirmation(rig, view, confirmed_at=future)),
            (invalid, confirmation(rig, view, confirmed_at=before)),
            (invalid, confirmation(rig, ordinary)),
            (missing, confirmation(rig, view, order_sha256=digest)),
            (missing, confirmation(rig, view, search_id=nowhere)),
            (Reason.CHANNEL_ROLE, confirmation(rig, view, force="southmere")),
        ):
            with pytest.raises(ProbegateError) as raised:
                await confirm(rig, said)
            assert raised.value.reason is reason, said
        right = confirmation(rig, view)
        for refused in (
            {"part": Part.OFFICER},
            {"token_of": SUPERINTENDENT.model_copy(update={"rank": "inspector"})},
        ):
            with pytest.raises(ProbegateError) as raised:
                await confirm(rig, right, **refused)
            assert raised.value.reason is Reason.OFFICER_TOKEN_INVALID
        with pytest.raises(ProbegateError) as raised:  # signed by another force
            await confirm(rig, confirmation(rig, view, force="southmere"), force="southmere")
        assert raised.value.reason is Reason.NOT_FOUND
        assert entries(rig, "search.confirmed") == []
        clock.ahead = timedelta(hours=25)
        assert failed(await rig.search(("custody",)), "custody") == ("core.urgent-confirmed",)


# --- kill switches ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switch",
    ["agency:custody", "force:northshire", "purpose:crime_investigation", "matcher:test-model-1"],
)
async def test_a_switch_denies_from_when_the_command_returns_and_over_a_restart(
    world: World, switch: str
) -> None:
    if switch.startswith("matcher"):
        switch = f"matcher:{Request(world).order().probe.model}"
    async with rigged(world, serving=("custody",)) as rig:
        desk = Desk.open(rig.broker.engine)
        chore = asyncio.create_task(
            desk.serve(rig.broker.logs.admin, SwitchClerk(rig.broker.ledger), 0.01)
        )
        operator = Operator.open(world.broker_settings())
        assert (await rig.search(("custody",))).record.decisions[0].permitted
        index = await operator.switch(switch, off=True, reference="INC-1")
        entry = parse_leaf(rig.broker.logs.admin.leaf(index))
        assert (entry["type"], entry["switch"]) == ("switch.off", switch)
        assert failed(await rig.search(("custody",)), "custody") == (NOT_SWITCHED_OFF,)
        chore.cancel()
        await rig.crash()
        await rig.reopen()
        assert failed(await rig.search(("custody",)), "custody") == (NOT_SWITCHED_OFF,)
        await rig.crash()
        # With the broker down the command puts its entry on the log by itself.
        await operator.switch(switch, off=False, reference="INC-1")
        await rig.reopen()
        assert (await rig.search(("custody",))).record.decisions[0].permitted
        operator.close()


async def test_only_what_exists_can_be_switched(world: World) -> None:
    async with rigged(world, serving=()) as rig:
        operator = Operator.open(world.broker_settings())
        for name in ("agency:custdy", "force:", "purpose:nonsense", "officer:x", "custody", ""):
            with pytest.raises(ProbegateError) as raised:
                await operator.switch(name, off=True, reference="INC-1")
            assert raised.value.reason is Reason.USAGE, name
        assert rig.broker.ledger.switched_off == frozenset()
        operator.close()


async def test_what_was_switched_off_while_the_broker_was_down_is_not_asked(world: World) -> None:
    async with rigged(world, serving=("custody", "pnd")) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.HANGS
        request = Request(world, agencies=("custody", "pnd"))
        await rig.create(request, wait_s=0)
        await rig.called("pnd")
        await rig.crash()
        rig.peers["pnd"].knobs.behaviour = Behaviour.CANDIDATES
        operator = Operator.open(world.broker_settings())
        await operator.switch("agency:pnd", off=True, reference="INC-2")
        operator.close()
        calls = rig.peers["pnd"].calls
        await rig.reopen()
        ended = await rig.create(request)
        pnd = outcomes(ended)["pnd"]
        assert (pnd.state, pnd.reason) == (OutcomeState.NOT_ASKED, "SWITCHED_OFF")
        assert outcomes(ended)["custody"].state is OutcomeState.CANDIDATES
        assert rig.peers["pnd"].calls == calls


# --- reasons ----------------------------------------------------------------------------------


async def test_boilerplate_is_a_warning_by_default_and_a_clause_where_the_parties_want_it(
    tmp_path: Path,
) -> None:
    def strict(agreement: dict[str, Any]) -> None:
        for attribute, operator, value in (
            ("necessity_words", "ge", 6),
            ("reasons_reused", "le", 1),
        ):
            agreement["clauses"].append(
                {
                    "id": f"pnd.{attribute}",
                    "citation": "A test",
                    "attribute": attribute,
                    "operator": operator,
                    "value": value,
                }
            )

    world = world_of(tmp_path, pnd=strict)
    async with rigged(world, serving=("custody", "pnd")) as rig:
        found = []
        for number in range(3):
            why = {"case_reference": f"CASE/{number}"}
            view = await rig.search(("custody", "pnd"), justification=why)
            found.append((view.record.warnings, failed(view, "pnd"), failed(view, "custody")))
        assert found == [
            ((), (), ()),
            (("reasons.repeated",), (), ()),
            (("reasons.repeated",), ("pnd.reasons_reused",), ()),
        ]
        short = {"case_reference": "CASE/9", "necessity": "Needed."}
        view = await rig.search(("custody", "pnd"), justification=short)
        assert "necessity.short" in view.record.warnings
        assert "pnd.necessity_words" in failed(view, "pnd")
        assert failed(view, "custody") == ()
        assert entries(rig, "search.order")[-1]["warnings"] == list(view.record.warnings)
        kept = await rig.broker.reading.get("northshire", view.record.search_id)
        assert kept.record.warnings == view.record.warnings
