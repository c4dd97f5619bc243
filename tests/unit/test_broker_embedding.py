"""Whoever has the broker's log alone can hold each agency to the checkpoint that it showed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from audit.embedded import note_of, open_embedded, search_log_keys
from audit.leaves import parse_leaf
from tests.brokers import PERMITTED, rigged
from tests.peers import Behaviour
from tests.world import World


async def test_a_result_embeds_what_each_agency_signed(world: World) -> None:
    async with rigged(world) as rig:
        rig.peers["pnd"].knobs.behaviour = Behaviour.FORGED_CHECKPOINT
        view = await rig.search()
        index = view.record.result_leaf_index
        assert index is not None
        said: Any = parse_leaf(rig.broker.logs.search.leaf(index))
        answers = {one.outcome.agency: one for one in view.record.answers}
    by_agency = {one["agency"]: one for one in said["outcomes"]}
    assert set(by_agency) >= set(PERMITTED)
    for agency, outcome in by_agency.items():
        if agency == "pnd" or agency not in PERMITTED:
            assert "checkpoint" not in outcome
            continue
        keys = search_log_keys(world.directory, agency, datetime.now(UTC))
        signed = open_embedded(outcome["checkpoint"], keys)
        assert signed.checkpoint.origin.startswith(f"{agency}.")
        assert note_of(outcome["checkpoint"]) == answers[agency].agency_checkpoint
