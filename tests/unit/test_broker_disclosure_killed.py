"""A request for disclosure through a broker process that is killed (SIGKILL) at every turn."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from probegate.broker.v1 import disclosure_service_pb2 as pb

from broker.settings import BrokerSettings
from tests.release_peers import SEALED, Owner
from tests.second_steps import Case, Office, opened, searched
from tests.world import World
from trust.errors import ProbegateError, Reason

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import asyncio, sys
from broker.service import run
from broker.settings import BrokerSettings

asyncio.run(run(BrokerSettings.model_validate_json(sys.argv[1])))
"""
PATIENCE_S = 90
"""How long anything may take here, seconds; nothing gets near it."""
STARTING = frozenset({Reason.SERVICE_UNREACHABLE, Reason.UNEXPECTED})


@asynccontextmanager
async def a_process(settings: BrokerSettings) -> AsyncIterator[None]:
    """Run a broker as a process, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        settings.model_dump_json(),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"},
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    """Return once something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not await done():  # noqa: ASYNC110 - across the wire
            await asyncio.sleep(0.02)


async def answered(office: Office, method: str, request: object) -> pb.DisclosureRecord:
    """Call a method as soon as the broker serves."""
    found: list[pb.DisclosureRecord] = []

    async def serves() -> bool:
        try:
            found.append((await office.call(method, request)).disclosure)
        except ProbegateError as error:
            if error.reason not in STARTING:
                raise
            return False
        return True

    await until(serves)
    return found[0]


async def test_a_broker_that_is_killed_at_every_turn_loses_nothing_and_repeats_nothing(
    world: World,
) -> None:
    settings = world.broker_settings(release_poll_s=0.02, release_first_s=0.05)
    async with opened(world) as office:
        case = await (await searched(office)).settled()
        owner, said = office.owners["custody"], await case.disclosure()
        request, read = case.asking(said), pb.GetDisclosureRequest(request_id=said.request_id)
        await office.server.stop(0)
        await office.rig.crash()
        office.server.port = settings_port(settings)

        owner.knobs.resets = True
        async with a_process(settings):  # killed once it has acknowledged
            first = await answered(office, "RequestDisclosure", request)
        owner.knobs.resets = False
        async with a_process(settings):  # killed once the agency has it
            await until(lambda: _is(bool(owner.taken)))
        async with a_process(settings):  # killed once it has asked
            await until(lambda: _is(owner.asked > 0))
        owner.knobs.owner = Owner.RELEASES
        async with a_process(settings):  # killed as soon as the agency has answered
            asked = owner.asked
            await until(lambda: _is(owner.asked > asked))
        async with a_process(settings):
            again = await answered(office, "RequestDisclosure", request)

            async def released() -> bool:
                record = await answered(office, "GetDisclosure", read)
                return record.state == pb.DISCLOSURE_STATE_RELEASED

            await until(released)
        await office.rig.reopen()
        office.server = await office.broker.listen()
        await _nothing_lost(case, said.request_id)
        assert again.receipt.leaf == first.receipt.leaf
        sent = [one for taken in owner.taken.values() for one in taken]
        assert {one.request.payload for one in sent} == {request.request.payload}
        assert {one.sealed_facts for one in sent} == {request.sealed_facts}


async def _is(value: bool) -> bool:  # noqa: FBT001 - what it is
    return value


def settings_port(settings: BrokerSettings) -> int:
    """Return the port that a broker's settings name."""
    return int(settings.listen.rpartition(":")[2])


async def _nothing_lost(case: Case, request_id: str) -> None:
    office = case.office
    record = await case.read(request_id)
    assert (record.state, record.sealed_disclosure) == (pb.DISCLOSURE_STATE_RELEASED, SEALED)
    for kind in ("requested", "decided", "delivered"):
        assert len(office.entries(f"disclosure.{kind}")) == 1
    assert office.entries("disclosure.refused", "disclosure.disbelieved") == []
    assert office.proved(record.decision_receipt)["state"] == "released"
