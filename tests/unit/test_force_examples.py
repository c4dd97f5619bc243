"""The examples of the second step's methods, run: every public method has one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import force_client
from force_client import AsyncForceClient, Part, read_findings
from force_client.second_step.calls_disclosing import DisclosingCalls
from force_client.second_step.calls_recalls import RecallingCalls
from force_client.second_step.calls_reviewing import ReviewingCalls
from force_client.second_step.calls_submitting import SubmittingCalls
from force_client.second_step.sync import BlockingSecondStep
from tests.examples import examples_of, run_examples
from tests.unit.force_second_peer import (
    AUTHORISER,
    OFFICER,
    REVIEWERS,
    RunningSecondPeer,
    SecondPeer,
    asked,
    searched,
)
from tests.unit.second_kit import client, running, second
from tests.unit.test_force_disclosing import corroborated
from tests.unit.test_force_reviewing import opened, written
from trust.second_step import Opinion

__all__ = ["client", "running", "second"]
RECALL = "4fa3c1de-0000-4000-8000-000000000001"
BEFORE_ANY_REVIEW = {"kept_findings", "review", "review_status", "submit_findings"}


def methods() -> Iterator[tuple[str, Any]]:
    for kind in (ReviewingCalls, SubmittingCalls, DisclosingCalls, RecallingCalls):
        for name, method in vars(kind).items():
            if not name.startswith("_") and callable(method):
                yield name, method


NAMES = dict(methods())


def test_both_clients_have_every_method() -> None:
    blocking = {name for name in vars(BlockingSecondStep) if not name.startswith("_")}
    assert blocking == set(NAMES)
    for name in NAMES:
        ours = inspect.signature(getattr(BlockingSecondStep, name)).parameters
        theirs = inspect.signature(getattr(AsyncForceClient, name)).parameters
        assert set(ours) <= set(theirs)
        assert set(theirs) - set(ours) <= {"ticks"}


async def namespace(
    name: str, client: AsyncForceClient, running: RunningSecondPeer, tmp_path: Path
) -> dict[str, Any]:
    """What the example of one method stands on."""
    names: dict[str, Any] = {one: getattr(force_client, one) for one in force_client.__all__}
    names |= {"client": client, "OFFICER": OFFICER, "AUTHORISER": AUTHORISER}
    names |= {"REVIEWER": REVIEWERS[0], "probe_image": running.probe_image, "folder": tmp_path}
    names |= {"agency": "custody", "reference": "custody-a"}
    names |= {"yesterday": datetime.now(UTC) - timedelta(days=1)}
    view = await searched(client)
    names |= {"search_id": view.search_id}
    if name in BEFORE_ANY_REVIEW:
        if name == "kept_findings":
            async with opened(client, view, running) as sitting:
                for one in sitting.candidates:
                    sitting.record(one, Opinion.INCONCLUSIVE, reasons="Blurred.")
                await sitting.keep()
            names |= {"review_id": sitting.review_id}
        if name == "submit_findings":
            async with opened(client, view, running) as sitting:
                await sitting.keep()
            path = tmp_path / "findings.json"
            path.write_text(written(sitting).model_dump_json())
            assert read_findings(path).review_id == sitting.review_id
            names |= {"findings_file": path}
        return names
    request = await asked(client, running, view=view)
    running.second.release(request.request_id)
    await corroborated(client, request)
    if name in {"recalls", "take_recalls", "acknowledge_recall"}:
        running.second.recall(view, "custody", "custody-b", RECALL)
    if name == "acknowledge_recall":
        assert await client.take_recalls() == 1
    return names | {"request_id": request.request_id, "recall_id": RECALL, "Part": Part}


@pytest.mark.parametrize("name", NAMES)
async def test_an_example_does_what_it_says(
    name: str,
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
) -> None:
    assert examples_of(NAMES[name].__doc__), f"{name} has no example"
    names = await namespace(name, client, running, tmp_path)
    assert await run_examples(NAMES[name].__doc__, names)
