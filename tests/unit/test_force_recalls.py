"""What is taken back: believed of its agency, marked before it is told, then used no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from force_client import AsyncForceClient, ForceClient, Part, SearchView
from force_client.second_step.models import RecallView
from tests.unit.force_second_peer import (
    OFFICER,
    RunningSecondPeer,
    SecondPeer,
    asked,
    person,
    searched,
)
from tests.unit.second_kit import (
    FIRST,
    LATER,
    client,
    forge_recall,
    kept_files,
    refusal,
    reported,
    running,
    second,
)
from tests.unit.test_force_disclosing import corroborated
from trust.errors import Reason
from trust.second_step import RecallAcknowledgement, WrongMatch

__all__ = ["client", "running", "second"]
THIRD = "4fa3c1de-0000-4000-8000-000000000003"


async def recalls(client: AsyncForceClient) -> list[RecallView]:
    return [one async for one in client.recalls()]


async def acknowledge(client: AsyncForceClient, recall_id: str) -> None:
    await client.acknowledge_recall(
        recall_id,
        person=person(client, OFFICER),
        person_token=client.issue_token(OFFICER, Part.OFFICER),
        action="The officer in the case was told, and the copy destroyed.",
    )


async def test_a_recall_is_marked_and_shown_on_the_search(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    assert view.stop_use == frozenset()
    second.recall(view, "custody", "custody-a", FIRST)
    (found,) = await recalls(client)
    assert (found.recall.recall_id, found.recall.reference) == (FIRST, "custody-a")
    (mark,) = kept_files(client, "stop-use")
    assert mark.stat().st_mode & 0o777 == 0o600
    again = await client.get(view.search_id)
    assert again.stop_use == {("custody", "custody-a")}
    # It is on the disk: another process, and this one after a restart, know it too.
    async with AsyncForceClient(client.settings) as another:
        assert (await another.get(view.search_id)).stop_use == again.stop_use


async def test_recalls_come_over_pages_in_their_order(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    for number, reference in enumerate(("custody-a", "custody-b"), 1):
        second.recall(view, "custody", reference, FIRST[:-1] + str(number))
    second.recall(view, "pnd", "pnd-x", THIRD)
    found = await recalls(client)
    assert [one.number for one in found] == [1, 2, 3]
    assert await recalls(client) == found


async def test_what_was_recalled_is_neither_read_nor_exported_nor_asked_for(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    search = await searched(client)
    view = await asked(client, running, view=search)
    second.release(view.request_id)
    await corroborated(client, view)
    await client.open_disclosure(view.request_id)
    second.recall(search, "custody", "custody-a", FIRST)
    await recalls(client)
    calls = len(second.sent)
    with refusal(Reason.STOP_USE):
        await client.open_disclosure(view.request_id)
    with refusal(Reason.STOP_USE):
        await client.export(view.request_id, tmp_path / "out.json")
    assert len(second.sent) == calls
    assert not (tmp_path / "out.json").exists()
    with refusal(Reason.STOP_USE):
        await asked(client, running, view=search, request_id=THIRD)
    await acknowledge(client, FIRST)  # and that lifts nothing
    with refusal(Reason.STOP_USE):
        await client.open_disclosure(view.request_id)


@pytest.mark.parametrize("opened_before", [False, True])
async def test_what_is_recalled_meanwhile_is_heard_of_before_details_are_read_or_exported(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
    *,
    opened_before: bool,
) -> None:
    """A program that never looks for recalls is as safe as one that does."""
    search = await searched(client)
    view = await asked(client, running, view=search)
    second.release(view.request_id)
    await corroborated(client, view)
    if opened_before:
        await client.open_disclosure(view.request_id)
    second.recall(search, "custody", "custody-a", FIRST)
    with refusal(Reason.STOP_USE):
        await client.export(view.request_id, tmp_path / "out.json")
    with refusal(Reason.STOP_USE):
        await client.open_disclosure(view.request_id)
    assert not (tmp_path / "out.json").exists()
    assert len(kept_files(client, "stop-use")) == 1
    await acknowledge(client, FIRST)


async def test_a_recall_found_by_opening_stops_that_very_reading(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched(client)
    view = await asked(client, running, view=search)
    second.release(view.request_id)
    await client.open_disclosure(view.request_id)
    second.recall(search, "custody", "custody-a", FIRST)
    with refusal(Reason.STOP_USE):
        await client.open_disclosure(view.request_id)


async def test_no_details_are_read_or_exported_while_recalls_cannot_be_heard_of(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    view = await asked(client, running)
    second.release(view.request_id)
    await corroborated(client, view)
    await client.open_disclosure(view.request_id)
    second.fails["ListRecallsRequest"] = [Reason.LOG_UNAVAILABLE] * 2
    with refusal(Reason.LOG_UNAVAILABLE):
        await client.open_disclosure(view.request_id)
    with refusal(Reason.LOG_UNAVAILABLE):
        await client.export(view.request_id, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    await client.export(view.request_id, tmp_path / "out.json")


async def test_nothing_is_acknowledged_before_it_is_marked(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    second.recall(view, "custody", "custody-a", FIRST)
    with refusal(Reason.NOTICE_INVALID, field="recall_id"):
        await acknowledge(client, FIRST)
    assert second.notices == []
    await recalls(client)
    await acknowledge(client, FIRST)
    (notice,) = second.notices
    assert isinstance(notice, RecallAcknowledgement)
    assert notice.recall_id == FIRST
    second.spoil["leaf"] = lambda it: it | {"recall_id": LATER}
    with refusal(Reason.RESULT_INVALID, check="receipt_leaf"):
        await acknowledge(client, FIRST)


@pytest.mark.parametrize(
    ("spoil", "signers"),
    [
        ({}, {"recall": "broker"}),
        ({}, {"recall": "northshire"}),
        ({}, {"recall": "pnd"}),
        ({"recall": lambda it: it.model_copy(update={"agency": "northshire"})}, {}),
        ({"recall": lambda it: it.model_copy(update={"order_sha256": bytes(32)})}, {}),
        ({"recall": lambda it: it.model_copy(update={"reference": "another"})}, {}),
        ({"recall": lambda it: it.model_copy(update={"agency": "pnd"})}, {"recall": "pnd"}),
        ({"leaf": lambda it: it | {"recall_sha256": "00" * 32}}, {}),
        ({"leaf": lambda it: it | {"type": "recall.issued"}}, {}),
        ({"log": lambda _: "log_admin"}, {}),
    ],
)
async def test_a_forged_recall_marks_nothing(
    client: AsyncForceClient, second: SecondPeer, spoil: dict[str, Any], signers: dict[str, str]
) -> None:
    view = await searched(client)
    forge_recall(second, view, spoil, signers)
    with refusal(Reason.RESULT_INVALID):
        await recalls(client)
    assert kept_files(client, "stop-use") == []
    assert (await client.get(view.search_id)).stop_use == frozenset()
    with refusal(Reason.NOTICE_INVALID):
        await acknowledge(client, FIRST)


async def test_recalls_that_run_in_a_circle_are_refused(
    client: AsyncForceClient, second: SecondPeer
) -> None:
    view = await searched(client)
    second.recall(view, "custody", "custody-a", FIRST)
    second.recalled.append(second.recalled[0])
    with refusal(Reason.RESULT_INVALID, check="recall"):
        await recalls(client)


async def test_a_wrong_match_is_reported(client: AsyncForceClient, second: SecondPeer) -> None:
    view = await searched(client)
    report_id = await reported(client, view.search_id, "custody-a")
    (notice,) = second.notices
    assert isinstance(notice, WrongMatch)
    assert (notice.report_id, notice.order_sha256) == (report_id, view.order_sha256)
    with refusal(Reason.NOTICE_INVALID, field="reference"):
        await reported(client, view.search_id, "another")
    second.spoil["leaf"] = lambda it: it | {"wrong_match_sha256": "00" * 32}
    with refusal(Reason.RESULT_INVALID, check="receipt_leaf"):
        await reported(client, view.search_id, "custody-a")


def test_the_blocking_client_does_it_too(
    running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    from tests.unit.force_scene import draft, probe

    with ForceClient(running.settings(state_dir=tmp_path / "state")) as blocking:
        view: SearchView = blocking.search(
            draft(),
            probe(),
            officer_token=blocking.issue_token(OFFICER, Part.OFFICER),
            authoriser_token=blocking.issue_token("ns-2087", Part.AUTHORISER),
        )
        who = blocking.officers.person(OFFICER, option="officer")
        token = blocking.issue_token(OFFICER, Part.OFFICER)
        blocking.report_wrong_match(
            view.search_id,
            "custody",
            "custody-a",
            reporter=who,
            reporter_token=token,
            reasons="He was in prison on the day.",
        )
        second.recall(view, "custody", "custody-a", FIRST)
        assert [one.recall.recall_id for one in blocking.recalls()] == [FIRST]
        blocking.acknowledge_recall(FIRST, person=who, person_token=token, action="Destroyed.")
    assert len(second.notices) == 2
