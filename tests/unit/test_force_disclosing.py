"""Details at the force: asked for once, believed of their owner alone, exported by rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from force_client import AsyncForceClient, ForceClient, Part, SearchView
from force_client.second_step.disclosing import Wanted
from force_client.second_step.exporting import BANNER
from force_client.second_step.models import DisclosureState, DisclosureView
from tests.killed import killed_writing
from tests.unit.force_second_peer import (
    NAME,
    OFFICER,
    REVIEWERS,
    RunningSecondPeer,
    SecondPeer,
    asked,
    person,
    reviewed,
    searched,
)
from tests.unit.second_kit import client, kept_files, refusal, running, second, until
from trust.errors import ProbegateError, Reason
from trust.messages import Offence
from trust.second_step import CorroborationKind, Nature, Opinion
from trust.wire import envelope_from_bytes, envelope_to_bytes

__all__ = ["client", "running", "second"]
OTHER_ID = "4fa3c1de-0000-4000-8000-000000000001"


async def released(
    client: AsyncForceClient, running: RunningSecondPeer, **changes: Any
) -> DisclosureView:
    view: DisclosureView = await asked(client, running)
    running.second.release(view.request_id, **changes)
    return view


async def corroborated(client: AsyncForceClient, view: DisclosureView, **changes: Any) -> Any:
    request = view.request
    values: dict[str, Any] = {
        "agency": request.agency,
        "reference": request.reference,
        "kind": CorroborationKind.WITNESS,
        "case_material": "NS/2026/004411, statement 12",
        "person": person(client, OFFICER),
        "person_token": client.issue_token(OFFICER, Part.OFFICER),
    } | changes
    return await client.corroborate(request.search_id, **values)


def opened_files(client: AsyncForceClient) -> list[Path]:
    return [one for one in kept_files(client, "disclosures") if ".request." not in one.name]


# --- asking ------------------------------------------------------------------------------------


async def test_a_request_stands_on_its_reviews_and_hides_its_facts(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched(client)
    view = await asked(client, running, view=search)
    (held,) = second.asked.values()
    assert held.facts.facts.startswith("A robbery in the High Street")
    assert view.state is DisclosureState.WAITING
    assert view.request == held.request
    request = held.request
    assert (request.force, request.agency, request.reference) == (
        "northshire",
        "custody",
        "custody-a",
    )
    assert request.offence == Offence(code="Robbery", seriousness="serious_crime")
    recorded = second.sittings[search.search_id].values()
    assert len(request.review_sha256s) == len(recorded) == 2
    assert not [one for one in second.sent if b"High Street" in one]
    assert "High Street" not in repr(view) + repr(held.request)


async def test_details_are_opened_read_again_and_never_printed(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await released(client, running)
    assert (await client.disclosure(view.request_id)).state is DisclosureState.RELEASED
    assert opened_files(client) == []  # to look how it stands opens nothing
    opened = await client.open_disclosure(view.request_id)
    values = {one.name: (one.value, one.nature) for one in opened.details.fields}
    assert values["name"] == (NAME, Nature.FACT)
    assert values["warning"][1] is Nature.ASSESSMENT
    assert NAME not in repr(opened) + str(opened) + repr(opened.details) + repr(view)
    (kept,) = opened_files(client)
    assert kept.stat().st_mode & 0o777 == 0o600
    calls = len(second.sent)
    again = await client.open_disclosure(view.request_id)
    assert again == opened
    assert len(second.sent) == calls + 2  # recalls, and how it stands; the kept ones are read
    assert NAME.encode() not in b"".join(second.sent)


@pytest.mark.parametrize("others", [0, 1])
async def test_nothing_is_asked_before_enough_people_reviewed(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, others: int
) -> None:
    search = await searched(client)
    for reviewer in REVIEWERS[:others]:
        await reviewed(client, search, reviewer, running.probe_image)
    with refusal(Reason.REVIEW_MISSING):
        await asked(client, running, view=search, request_id=str(uuid4()))
    assert second.asked == {}
    assert kept_files(client, "disclosures") == []


@pytest.mark.parametrize("opinion", [Opinion.NO_CANDIDATE, Opinion.INCONCLUSIVE])
async def test_only_a_potential_candidate_is_asked_for(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, opinion: Opinion
) -> None:
    search = await searched(client)
    for reviewer in REVIEWERS[:2]:
        found = {"custody-a": opinion}
        await reviewed(client, search, reviewer, running.probe_image, found)
    with refusal(Reason.REVIEW_MISSING):
        await asked(client, running, view=search, request_id=str(uuid4()))
    assert second.asked == {}


async def test_what_is_no_candidate_is_not_asked_for(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    for agency, reference in (("custody", "pnd-x"), ("passport", "custody-a"), ("", "")):
        with refusal(Reason.DISCLOSURE_INVALID, field="reference"):
            await client.request_disclosure(
                (await searched_and_reviewed(client, running)).search_id,
                agency,
                reference,
                requester=person(client, OFFICER),
                requester_token="",
                facts="A robbery.",
                fields=("name",),
            )


async def searched_and_reviewed(client: AsyncForceClient, running: RunningSecondPeer) -> SearchView:
    search = await searched(client)
    for reviewer in REVIEWERS[:2]:
        await reviewed(client, search, reviewer, running.probe_image)
    return search


def later(client: AsyncForceClient, second: SecondPeer, by: timedelta) -> None:
    """Let time pass for the force and its broker."""
    second.ahead = by
    client._clock = lambda: datetime.now(UTC) + by


async def test_a_request_that_never_arrived_is_made_again_under_its_id(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched_and_reviewed(client, running)
    request_id = str(uuid4())
    second.fails["RequestDisclosureRequest"] = [Reason.LOG_UNAVAILABLE]
    with refusal(Reason.LOG_UNAVAILABLE):
        await asked(client, running, view=search, request_id=request_id)
    (first,) = kept_files(client, "disclosures")
    before = first.read_bytes()
    later(client, second, timedelta(minutes=6))
    view = await asked(client, running, view=search, request_id=request_id)
    assert view.request_id == request_id
    assert first.read_bytes() != before
    assert kept_files(client, "disclosures") == [first]
    with refusal(Reason.DISCLOSURE_REPLAYED):  # it is still for the same, or not at all
        await asked(client, running, view=search, request_id=request_id, facts="Another robbery.")
    second.release(request_id)
    assert (await client.open_disclosure(request_id)).details.fields


async def test_a_request_that_arrived_is_never_made_again(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched_and_reviewed(client, running)
    request_id = str(uuid4())
    first = await asked(client, running, view=search, request_id=request_id)
    later(client, second, timedelta(minutes=6))
    again = await asked(client, running, view=search, request_id=request_id)
    assert again.request == first.request
    second.fails["GetDisclosureRequest"] = [Reason.LOG_UNAVAILABLE]
    with refusal(Reason.LOG_UNAVAILABLE):  # nobody knows whether it arrived
        await asked(client, running, view=search, request_id=request_id)


async def test_the_same_request_id_is_the_same_request(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    search = await searched_and_reviewed(client, running)
    request_id = str(uuid4())
    before = len(second.sent)
    first = await asked(client, running, view=search, request_id=request_id)
    again = await asked(client, running, view=search, request_id=request_id)
    assert first.request == again.request
    sent = [one for one in second.sent[before:] if request_id.encode() in one]
    assert len(sent) == 2
    (held,) = second.asked.values()
    # Another process of the force knows it too.
    async with AsyncForceClient(client.settings) as another:
        third = await asked(another, running, view=search, request_id=request_id)
        assert third.request == held.request
        for changed in (
            {"facts": "Another story."},
            {"fields": ("name",)},
            {"offence": Offence(code="Theft")},
            {"requester": person(another, "ns-2087")},
        ):
            with refusal(Reason.DISCLOSURE_REPLAYED, field="request_id"):
                await asked(another, running, view=search, request_id=request_id, **changed)


async def test_a_retry_sends_the_same_bytes(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched_and_reviewed(client, running)
    request_id = str(uuid4())
    second.fails["RequestDisclosureRequest"] = [grpc.StatusCode.UNAVAILABLE] * 2
    await asked(client, running, view=search, request_id=request_id)
    requests = [one for one in second.sent if request_id.encode() in one]
    assert (len(requests), len(set(requests))) == (3, 1)
    assert len(second.asked) == 1


async def test_a_request_that_was_cut_off_can_be_made_again(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched_and_reviewed(client, running)
    request_id = str(uuid4())
    second.fails["RequestDisclosureRequest"] = [Reason.LOG_UNAVAILABLE]
    with refusal(Reason.LOG_UNAVAILABLE):
        await asked(client, running, view=search, request_id=request_id)
    view = await asked(client, running, view=search, request_id=request_id)
    assert view.request_id == request_id
    requests = [one for one in second.sent if request_id.encode() in one]
    envelopes = {len(one) for one in requests}
    assert len(requests) == 2
    assert len(envelopes) == 1  # all but the token is the same
    assert len(second.asked) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"facts": ""}, "facts"),
        ({"facts": "x" * 8001}, "facts"),
        ({"facts": "a\0b"}, "facts"),
        ({"fields": ()}, "fields"),
        ({"fields": ("name", "name")}, "fields"),
        ({"fields": ("Not A Code",)}, "fields.0"),
        ({"request_id": "not-a-uuid"}, None),
    ],
)
async def test_a_request_that_says_nothing_is_not_sent(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    changes: dict[str, Any],
    field: str | None,
) -> None:
    search = await searched_and_reviewed(client, running)
    with pytest.raises(ProbegateError) as refused:
        await asked(client, running, view=search, **{"request_id": str(uuid4())} | changes)
    if field is not None:
        assert refused.value.reason is Reason.DISCLOSURE_INVALID
        assert refused.value.metadata["field"] == field
    assert second.asked == {}
    assert kept_files(client, "disclosures") == []


def test_what_is_wanted_never_prints_its_facts() -> None:
    from tests.unit.force_scene import draft

    wanted = Wanted(
        "custody", "a", draft().officer, "a secret story", ("name",), Offence(), "suspect"
    )
    assert "secret" not in repr(wanted)


# --- following ---------------------------------------------------------------------------------


async def test_a_refusal_says_why(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await asked(client, running)
    second.refuse(view.request_id)
    refused = await client.disclosure(view.request_id)
    assert (refused.state, refused.reason) == (DisclosureState.REFUSED, "DISCLOSURE_DENIED")
    with refusal(Reason.NOT_FOUND):
        await client.open_disclosure(view.request_id)


async def test_a_refusal_before_any_person_says_why(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await asked(client, running)
    held = second.asked[view.request_id]
    held.state, held.reason = DisclosureState.REFUSED, "REVIEWER_REVOKED"
    refused = await client.disclosure(view.request_id)
    assert refused.reason == "REVIEWER_REVOKED"
    assert refused.decision is None
    held.state, held.reason = DisclosureState.LAPSED, ""
    assert (await client.disclosure(view.request_id)).state is DisclosureState.LAPSED


async def test_progress_is_told_until_it_is_decided(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from force_client.second_step import calls_disclosing

    monkeypatch.setattr(calls_disclosing, "FIRST_POLL_S", 0.01)
    view = await asked(client, running)
    told = []
    async for one in client.await_disclosure(view.request_id, 20):
        told.append(one.state)
        if one.state is DisclosureState.WAITING:
            second.release(view.request_id)
    assert told == [DisclosureState.WAITING, DisclosureState.RELEASED]


async def test_a_broker_that_is_away_ends_no_wait_for_a_decision(
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from force_client.second_step import calls_disclosing

    monkeypatch.setattr(calls_disclosing, "FIRST_POLL_S", 0.01)
    settings = running.settings(state_dir=tmp_path / "state", call_attempts=1)
    async with AsyncForceClient(settings) as client:
        view = await asked(client, running)
        away = [grpc.StatusCode.UNAVAILABLE] * 3
        second.fails["GetDisclosureRequest"] = [*away]
        told = []
        async for one in client.await_disclosure(view.request_id, 20):
            told.append(one.state)
            if one.state is DisclosureState.WAITING:
                second.fails["GetDisclosureRequest"] = [*away]
                second.release(view.request_id)
        assert told == [DisclosureState.WAITING, DisclosureState.RELEASED]
        second.fails["GetDisclosureRequest"] = [*away]
        with refusal(Reason.SERVICE_UNREACHABLE):
            [one async for one in client.await_disclosure(view.request_id, 0.0)]
        second.fails["GetDisclosureRequest"] = [Reason.LOG_UNAVAILABLE]
        with refusal(Reason.LOG_UNAVAILABLE):  # a reason is no fault of the connection
            [one async for one in client.await_disclosure(view.request_id, 20)]


async def test_nobody_waits_for_ever(client: AsyncForceClient, running: RunningSecondPeer) -> None:
    view = await asked(client, running)
    told = []
    with refusal(Reason.DEADLINE_PASSED):
        async for one in client.await_disclosure(view.request_id, 0.0):
            told.append(one.state)  # noqa: PERF401 - what was told before the end counts
    assert told == [DisclosureState.WAITING]


async def test_requests_are_listed_newest_first_over_pages(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    search = await searched_and_reviewed(client, running)
    made = []
    for reference in ("custody-a", "custody-b"):
        for _ in range(2):
            request_id = str(uuid4())
            made.append(request_id)
            await client.request_disclosure(
                search.search_id,
                "custody",
                reference,
                requester=person(client, OFFICER),
                requester_token=client.issue_token(OFFICER, Part.OFFICER),
                facts="A robbery.",
                fields=("name",),
                request_id=request_id,
            )
    assert [one.request_id async for one in client.disclosures(page_size=3)] == made[::-1]
    assert [one.request_id async for one in client.disclosures(OTHER_ID)] == []


async def test_a_request_that_is_not_ours_cannot_be_verified(client: AsyncForceClient) -> None:
    for request_id in (OTHER_ID, "../../etc/passwd", ""):
        with refusal(Reason.FILE_MISSING):
            await client.disclosure(request_id)


# --- what is not to be believed ------------------------------------------------------------------


def changed(**changes: Any) -> Callable[[Any], Any]:
    return lambda model: model.model_copy(update=changes)


def set_on(**changes: Any) -> Callable[[Any], Any]:
    def change(record: Any) -> Any:
        for name, value in changes.items():
            setattr(record, name, value)
        return record

    return change


def cleared(name: str) -> Callable[[Any], Any]:
    def change(record: Any) -> Any:
        record.ClearField(name)
        return record

    return change


def unsigned(content: bytes) -> bytes:
    return envelope_to_bytes(replace(envelope_from_bytes(content), signatures=()))


PAST, FUTURE = datetime.now(UTC) - timedelta(days=2), datetime.now(UTC) + timedelta(days=2)

FORGED_DECISIONS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"decision": "broker"}),
    ({}, {"decision": "northshire"}),
    ({}, {"decision": "pnd"}),
    ({"decision": changed(request_sha256=bytes(32))}, {}),
    ({"decision": changed(request_id=OTHER_ID)}, {}),
    ({"decision": changed(search_id=OTHER_ID)}, {}),
    ({"decision": changed(reference="custody-b")}, {}),
    ({"decision": changed(agency="pnd")}, {}),
    ({"decision": changed(decided_at=PAST)}, {}),
    ({"decision": changed(decided_at=FUTURE)}, {}),
    ({"decision": changed(expires_at=PAST)}, {}),
    ({"decision": changed(sealed_sha256=bytes(32))}, {}),
]
FORGED_RECORDS: list[dict[str, Any]] = [
    {"record": set_on(request_id=OTHER_ID)},
    {"record": set_on(reference="custody-b")},
    {"record": set_on(agency="pnd")},
    {"record": set_on(state=4)},
    {"record": set_on(state=2)},
    {"record": set_on(state=5)},
    {"record": set_on(state=0)},
    {"record": set_on(state=77)},
    {"record": set_on(sealed_disclosure=b"something else")},
    {"record": cleared("decision")},
    {"record": cleared("receipt")},
    {"record": cleared("decision_receipt")},
    {"leaf": lambda it: it | {"request_sha256": "00" * 32}},
    {"leaf": lambda it: it | {"reviews": []} if it["type"] == "disclosure.requested" else it},
    {"leaf": lambda it: it | {"decision_sha256": "00" * 32}},
    {"leaf": lambda it: it | {"state": "refused"}},
    {"log": lambda _: "log_admin"},
    {"proof": lambda it: it.replace(b"index 2", b"index 1")},
]
FORGED_DETAILS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"details": "broker"}),
    ({}, {"details": "northshire"}),
    ({}, {"details": "pnd"}),
    ({"details.content": unsigned}, {}),
    ({"details.content": lambda _: b"{}"}, {}),
    ({"details": changed(request_sha256=bytes(32))}, {}),
    ({"details": changed(reference="custody-b")}, {}),
    ({"details": changed(search_id=OTHER_ID)}, {}),
    ({"details": changed(agency="pnd")}, {}),
    ({"details": changed(expires_at=FUTURE)}, {}),
    ({"details": changed(released_at=PAST)}, {}),
    ({"details": changed(delete_by=PAST)}, {}),
    (
        {
            "details": lambda it: it.model_copy(
                update={"fields": (*it.fields, it.fields[0].model_copy(update={"name": "dna"}))}
            )
        },
        {},
    ),
    ({"details": lambda it: it.model_copy(update={"fields": (it.fields[0],) * 2})}, {}),
]


async def refuses_everything(
    client: AsyncForceClient, view: DisclosureView, tmp_path: Path, *, only_opening: bool
) -> None:
    await corroborated(client, view)
    if only_opening:
        await client.disclosure(view.request_id)
    else:
        with refusal(Reason.RESULT_INVALID):
            await client.disclosure(view.request_id)
    for attempt in (
        lambda: client.open_disclosure(view.request_id),
        lambda: client.export(view.request_id, tmp_path / "out.json"),
    ):
        with pytest.raises(ProbegateError) as refused:
            await attempt()
        assert refused.value.reason is Reason.RESULT_INVALID
        assert refused.value.metadata["check"]
    assert opened_files(client) == []
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(("spoil", "signers"), FORGED_DECISIONS)
async def test_a_forged_decision_opens_nothing(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
    spoil: dict[str, Any],
    signers: dict[str, str],
) -> None:
    view = await asked(client, running)
    second.spoil |= spoil
    second.signers |= signers
    second.release(view.request_id)
    second.spoil.clear()
    await refuses_everything(client, view, tmp_path, only_opening=False)


async def test_the_decision_of_another_request_opens_nothing(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    """A real decision with its real details, of the same candidate, asked for before."""
    search = await searched_and_reviewed(client, running)
    first, later = str(uuid4()), str(uuid4())
    for request_id in (first, later):
        view = await asked(client, running, view=search, request_id=request_id)
    second.release(first)
    ours, theirs = second.asked[later], second.asked[first]
    ours.decision, ours.sealed, ours.state = theirs.decision, theirs.sealed, theirs.state
    await refuses_everything(client, view, tmp_path, only_opening=False)


@pytest.mark.parametrize("spoil", FORGED_RECORDS)
async def test_a_record_that_contradicts_itself_opens_nothing(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
    spoil: dict[str, Any],
) -> None:
    view = await released(client, running)
    await corroborated(client, view)
    second.spoil |= spoil
    for attempt in (
        lambda: client.disclosure(view.request_id),
        lambda: client.open_disclosure(view.request_id),
        lambda: client.export(view.request_id, tmp_path / "out.json"),
    ):
        with pytest.raises(ProbegateError) as refused:
            await attempt()
        assert refused.value.reason is Reason.RESULT_INVALID
    assert opened_files(client) == []


@pytest.mark.parametrize(("spoil", "signers"), FORGED_DETAILS)
async def test_false_details_are_not_opened_nor_kept(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
    spoil: dict[str, Any],
    signers: dict[str, str],
) -> None:
    """What the broker sealed itself, or the agency signed of something else."""
    view = await asked(client, running)
    second.spoil |= spoil
    second.signers |= signers
    second.release(view.request_id)
    second.spoil.clear()
    await refuses_everything(client, view, tmp_path, only_opening=True)


async def test_a_request_that_the_log_does_not_hold_is_not_told_as_made(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    search = await searched_and_reviewed(client, running)
    await client.review_status(search.search_id)
    second.spoil["leaf"] = lambda it: it | {"request_id": OTHER_ID}
    with refusal(Reason.RESULT_INVALID, check="receipt_leaf"):
        await asked(client, running, view=search, request_id=str(uuid4()))


# --- time --------------------------------------------------------------------------------------


async def test_details_past_their_end_are_not_opened(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer
) -> None:
    view = await released(client, running, opens_for=timedelta(microseconds=1))
    with refusal(Reason.RELEASE_EXPIRED):
        await client.open_disclosure(view.request_id)
    second.asked[view.request_id].sealed = b""  # as a broker that has erased them
    assert (await client.disclosure(view.request_id)).state is DisclosureState.RELEASED
    with refusal(Reason.RELEASE_EXPIRED):
        await client.open_disclosure(view.request_id)
    assert opened_files(client) == []


@pytest.mark.parametrize(
    ("reason", "raised"),
    [
        ("STOP_USE", Reason.STOP_USE),
        ("REVIEWER_REVOKED", Reason.REVIEWER_REVOKED),
        ("RELEASE_SWITCHED_OFF", Reason.RELEASE_SWITCHED_OFF),
        ("", Reason.RELEASE_EXPIRED),
        ("DISK_FULL", Reason.RELEASE_EXPIRED),
        ("of its own making", Reason.RELEASE_EXPIRED),
    ],
)
async def test_why_details_are_withheld_is_said(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    reason: str,
    raised: Reason,
) -> None:
    view = await released(client, running)
    kept = second.asked[view.request_id]
    sealed, kept.sealed, kept.reason = kept.sealed, b"", reason
    shown = await client.disclosure(view.request_id)
    assert (shown.state, shown.reason) == (DisclosureState.RELEASED, reason)
    with refusal(raised):
        await client.open_disclosure(view.request_id)
    assert opened_files(client) == []
    kept.sealed, kept.reason = sealed, ""
    await client.open_disclosure(view.request_id)


@pytest.mark.parametrize("reason", [Reason.REVIEWER_REVOKED, Reason.RELEASE_SWITCHED_OFF])
async def test_details_that_lie_here_are_withheld_too(
    client: AsyncForceClient,
    running: RunningSecondPeer,
    second: SecondPeer,
    tmp_path: Path,
    reason: Reason,
) -> None:
    """A review that counts no more, or a kill switch: it is asked for at every use."""
    view = await released(client, running)
    await corroborated(client, view)
    opened = await client.open_disclosure(view.request_id)
    kept = second.asked[view.request_id]
    kept.sealed, kept.reason = b"", reason.name
    with refusal(reason):
        await client.open_disclosure(view.request_id)
    with refusal(reason):
        await client.export(view.request_id, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    kept.reason = ""  # past the time to fetch them, and not past their own
    assert await client.open_disclosure(view.request_id) == opened
    await client.export(view.request_id, tmp_path / "out.json")


async def test_kept_details_go_when_their_time_has_come(
    client: AsyncForceClient, running: RunningSecondPeer, tmp_path: Path
) -> None:
    view = await released(client, running)
    await corroborated(client, view)
    opened = await client.open_disclosure(view.request_id)
    assert await client.forget_expired() == 0
    later = opened.details.delete_by
    client._clock = lambda: later
    with refusal(Reason.RELEASE_EXPIRED):
        await client.open_disclosure(view.request_id)
    assert opened_files(client) == []


async def test_opening_the_client_forgets(
    client: AsyncForceClient, running: RunningSecondPeer
) -> None:
    view = await released(client, running)
    await client.open_disclosure(view.request_id)
    (kept,) = opened_files(client)
    document = json.loads(kept.read_text())
    document["delete_by"] = "2026-01-01T00:00:00Z"
    kept.write_text(json.dumps(document))
    async with AsyncForceClient(client.settings):
        assert opened_files(client) == []


async def test_a_client_that_stays_open_forgets_in_time(
    client: AsyncForceClient, running: RunningSecondPeer, caplog: pytest.LogCaptureFixture
) -> None:
    view = await released(client, running)
    opened = await client.open_disclosure(view.request_id)
    settings = client.settings.model_copy(update={"forget_interval_s": 0.01})
    (kept,) = opened_files(client)
    whole, now = kept.read_bytes(), datetime.now(UTC)
    async with AsyncForceClient(settings, clock=lambda: now) as standing:
        kept.write_bytes(b"{")
        now = opened.details.delete_by
        await until(lambda: "not taken up" in caplog.text)  # and it is tried again
        assert opened_files(standing) == [kept]
        kept.write_bytes(whole)
        await until(lambda: not opened_files(standing))


# --- exporting -----------------------------------------------------------------------------------


async def test_nothing_is_exported_on_faces_alone(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    view = await released(client, running)
    calls = len(second.sent)
    with refusal(Reason.CORROBORATION_MISSING):
        await client.export(view.request_id, tmp_path / "out.json")
    assert len(second.sent) == calls  # nothing was even opened
    await corroborated(client, view, reference="custody-b")  # of another candidate
    with refusal(Reason.CORROBORATION_MISSING):
        await client.export(view.request_id, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


async def test_evidence_that_the_log_does_not_hold_lets_nothing_out(
    client: AsyncForceClient, running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    view = await released(client, running)
    second.spoil["leaf"] = lambda it: it | {"reference": "custody-b"}
    with refusal(Reason.RESULT_INVALID, check="receipt_leaf"):
        await corroborated(client, view)
    second.spoil.clear()
    assert kept_files(client, "corroborations") == []
    with refusal(Reason.CORROBORATION_MISSING):
        await client.export(view.request_id, tmp_path / "out.json")


@pytest.mark.parametrize("end", [".json", ".txt", ".html"])
async def test_an_export_carries_its_terms(
    client: AsyncForceClient, running: RunningSecondPeer, tmp_path: Path, end: str
) -> None:
    view = await released(client, running)
    await corroborated(client, view)
    (tmp_path / "case").mkdir()
    path = tmp_path / "case" / f"out{end}"
    killed_writing(path)  # an earlier export
    await client.export(view.request_id, path)
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_text()
    for said in (
        BANNER,
        NAME,
        "Held under PACE 1984. Not to be used for a caution.",
        "only_with_consent",
        "suspect",
        "assessment" if end == ".json" else "Assessments",
        "fact" if end == ".json" else "Facts",
        "statement 12",
        "custody-a",
    ):
        assert said in content
    assert content.index(BANNER) < content.index(NAME)
    with refusal(Reason.FILE_EXISTS):
        await client.export(view.request_id, path)


async def test_what_an_agency_wrote_is_never_markup(
    client: AsyncForceClient, running: RunningSecondPeer, tmp_path: Path
) -> None:
    view = await released(client, running)
    await corroborated(client, view, case_material="<img src=x onerror=alert(1)>")
    await client.export(view.request_id, tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert "&lt;b&gt;may run&lt;/b&gt;" in page
    assert "<img" not in page
    assert "<script" not in page


async def test_another_end_of_a_name_is_refused_before_anything_is_opened(
    client: AsyncForceClient, running: RunningSecondPeer, tmp_path: Path
) -> None:
    view = await released(client, running)
    with refusal(Reason.USAGE, option="out"):
        await client.export(view.request_id, tmp_path / "out.docx")
    assert opened_files(client) == []


def test_the_blocking_client_does_it_too(
    running: RunningSecondPeer, second: SecondPeer, tmp_path: Path
) -> None:
    settings = running.settings(state_dir=tmp_path / "state")

    async def before() -> DisclosureView:
        async with AsyncForceClient(settings) as client:
            return await released(client, running)

    request_id = asyncio.run(before()).request_id
    with ForceClient(settings) as blocking:
        assert [one.request_id for one in blocking.disclosures()] == [request_id]
        states = [one.state for one in blocking.await_disclosure(request_id, 5)]
        assert states == [DisclosureState.RELEASED]
        request = blocking.disclosure(request_id).request
        blocking.corroborate(
            request.search_id,
            request.agency,
            request.reference,
            kind=CorroborationKind.DNA,
            case_material="exhibit 3",
            person=blocking.officers.person(OFFICER, option="officer"),
            person_token=blocking.issue_token(OFFICER, Part.OFFICER),
        )
        assert blocking.open_disclosure(request_id).details.fields[0].value == NAME
        blocking.export(request_id, tmp_path / "out.txt")
        assert blocking.forget_expired() == 0
    assert NAME in (tmp_path / "out.txt").read_text()
