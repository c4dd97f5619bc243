"""An old decision is made again from the log, and gives the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from broker.decisions import KNOWN_OBLIGATIONS
from broker.recorded import RecordedDecisions
from policy.bundle import load_bundle
from policy.decision import CompiledPolicy, compile_bundle
from policy.simulate import Kind, Redecided, redecide
from policy.store import BundleArchive
from tests.brokers import Rig, TurnedClock, rigged
from tests.world import Request, World, copied_examples, edit_agreement
from trust.errors import ProbegateError, Reason

AGENCIES = ("custody", "pnd", "passport", "nhs")


def stricter(agreement: dict[str, Any]) -> None:
    agreement["version"] = 2
    (clause,) = (c for c in agreement["clauses"] if c["id"] == "custody.probe-quality")
    clause["value"] = 80


def two_a_day(agreement: dict[str, Any]) -> None:
    agreement["quotas"][0]["most"] = 2


async def published(rig: Rig) -> None:
    """Wait until the log's files hold every entry."""
    await rig.broker.logs.search.close()


def again(rig: Rig, world: World, policy: CompiledPolicy | None = None) -> Iterator[Redecided]:
    """Decide everything again, under what was recorded or under a candidate."""
    settings = world.broker_settings()
    archive = BundleArchive(settings.state_dir)
    for record in RecordedDecisions(settings.logs_dir, rig.broker.engine):
        used = policy or compile_bundle(
            load_bundle(archive.bundle(record.policy_sha256, record.at), world.directory, record.at)
        )
        yield from redecide((record,), used, known=KNOWN_OBLIGATIONS)


async def eventful(world: World, rig: Rig, clock: TurnedClock) -> int:
    """Make searches of every sort, over two bundles; return how many."""
    for why in (
        {},
        {"purpose": "civil_penalty"},
        {"urgent": True, "purpose": "protect_life", "case_reference": "URGENT/1"},
        {"case_reference": "OTHER/1"},
        {"necessity": "Short."},
        {"tried_first": ()},
    ):
        await rig.search(AGENCIES, justification=why)
    await rig.create(Request(world, agencies=AGENCIES, manifest={"captured_at": None}))
    edit_agreement(world.root / "agreements/custody/custody.yaml", stricter)
    world.sign_bundle(world.root / "agreements", version=2)
    await rig.broker.refresh()
    await rig.search(AGENCIES)
    clock.ahead = timedelta(hours=26)  # the urgent search is late now
    await rig.search(AGENCIES)
    return 9


async def test_every_decision_comes_out_the_same_when_it_is_made_again(tmp_path: Path) -> None:
    agreements = copied_examples(tmp_path / "agreements", prior_answers=True)
    edit_agreement(agreements / "pnd/pnd.yaml", two_a_day)
    world = World.make(tmp_path, agreements=agreements)
    clock = TurnedClock()
    async with rigged(world, serving=("custody", "pnd", "passport"), clock=clock) as rig:
        searches = await eventful(world, rig, clock)
        first = world.broker_settings()
        await published(rig)
        found = list(again(rig, world))
        assert len(found) == searches * len(AGENCIES)
        assert {one.kind for one in found} == {Kind.SAME}
        reasons = {clause for one in found for clause in one.recorded.failed}
        assert reasons >= {
            "core.gateway-for-purpose",
            "core.urgent-confirmed",
            "custody.probe-quality",
            "passport.police-galleries-answered",
            "pnd.quota-officer-day",
            "nhs.owner-decision",
        }
        assert {one.recorded.permitted for one in found} == {True, False}
        assert len({one.recorded.policy_sha256 for one in found}) == 2

        # The old decisions under the new agreements: what would have been denied.
        newest = rig.broker.policies.current
        simulated = list(again(rig, world, newest))
        lost = [one for one in simulated if one.kind is Kind.ALLOW_TO_DENY]
        assert {one.recorded.agency for one in lost} == {"custody"}

        # A value that was changed is not believed, one that was erased is counted.
        with rig.broker.engine.begin() as connection:
            connection.execute(
                text("UPDATE log_values SET value = NULL, salt = NULL WHERE idx = 0")
            )
        records = RecordedDecisions(first.logs_dir, rig.broker.engine)
        assert len(list(records)) == (searches - 1) * len(AGENCIES)
        assert records.erased == 1
        with rig.broker.engine.begin() as connection:
            connection.execute(
                text("UPDATE log_values SET value = :v WHERE field = 'standing'"), {"v": b"{}"}
            )
        with pytest.raises(ProbegateError) as raised:
            list(RecordedDecisions(first.logs_dir, rig.broker.engine))
        assert raised.value.reason is Reason.LOG_PROOF_INVALID


async def test_a_period_is_read_from_its_first_instant_up_to_its_last(world: World) -> None:
    clock = TurnedClock()
    async with rigged(world, serving=("custody",), clock=clock) as rig:
        times: list[datetime] = []
        for hours in range(3):
            clock.ahead = timedelta(hours=hours)
            times.append((await rig.search(("custody",))).record.created_at)
        await published(rig)
        folder, engine = world.broker_settings().logs_dir, rig.broker.engine
        for since, until, expected in (
            (times[1], None, times[1:]),
            (None, times[1], times[:1]),
            (times[1], times[2], times[1:2]),
        ):
            found = RecordedDecisions(folder, engine, since=since, until=until)
            assert [one.at for one in found] == expected


async def test_no_search_sees_half_of_each_bundle(world: World) -> None:
    """Bundles change while searches come: each search is decided under one of them, whole."""
    agreements = world.root / "agreements"

    def raise_quality(agency: str, least: int) -> None:
        def change(agreement: dict[str, Any]) -> None:
            (one,) = (c for c in agreement["clauses"] if c["id"] == f"{agency}.probe-quality")
            one["value"] = least

        edit_agreement(agreements / agency / f"{agency}.yaml", change)

    async with rigged(world, serving=("custody", "pnd")) as rig:
        going = True

        async def activate() -> None:
            for version in range(2, 12):
                for agency in ("custody", "pnd"):
                    raise_quality(agency, 90 if version % 2 == 0 else 30)
                world.sign_bundle(agreements, version=version)
                await rig.broker.refresh()
                await asyncio.sleep(0)

        async def search() -> list[tuple[bool, ...]]:
            seen = []
            while going:
                view = await rig.search(("custody", "pnd"))
                seen.append(tuple(one.permitted for one in view.record.decisions))
            return seen

        searching = [asyncio.create_task(search()) for _ in range(4)]
        await activate()
        going = False
        seen = {one for found in await asyncio.gather(*searching) for one in found}
        assert seen <= {(True, True), (False, False)}
        admin = rig.broker.logs.admin
        kinds = [admin.leaf(i) for i in range(admin.checkpoint.checkpoint.size)]
        assert sum(b"bundle.activated" in leaf for leaf in kinds) == 11
