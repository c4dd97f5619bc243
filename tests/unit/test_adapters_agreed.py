"""What the agency's own bundle says of a search that was answered: today, and of that order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agency_adapters.galleries.editing import editing
from agency_adapters.inbox import Inbox
from tests.adapters import Scene, make_world, scene
from tests.unit.adapters_kit import MATE, make_gallery
from tests.unit.second_step_kit import (
    Step,
    at_work,
    reviewer,
    searched,
    three_candidates,
)
from tests.world import Request, edit_agreement
from trust.errors import Reason
from trust.messages import OutcomeState
from trust.wire import decode_report, envelope_from_wire

Change = Callable[[dict[str, Any]], None]


def obliges(**changes: object) -> Change:
    """Change what the agreement obliges to."""

    def change(agreement: dict[str, Any]) -> None:
        agreement["obligations"] |= changes

    return change


def for_prosecution_only(agreement: dict[str, Any]) -> None:
    agreement["gateways"] = [
        {"purpose": "prosecution", "code": "pace_s64a", "citation": "PACE 1984 s.64A(4)"}
    ]
    agreement.pop("urgent", None)


def from_superintendents_only(agreement: dict[str, Any]) -> None:
    agreement["clauses"].append(
        {
            "id": "custody.superintendent",
            "citation": "An invented clause",
            "attribute": "authoriser_rank",
            "operator": "ge",
            "value": "superintendent",
        }
    )


def documents_lapsed(agreement: dict[str, Any]) -> None:
    agreement["documents"]["dpia"] |= {"date": date(2020, 1, 1), "expires": date(2020, 12, 31)}


async def new_bundle(here: Scene, root: Path, change: Change) -> None:
    """Let the parties sign another version, and the adapter take it up."""
    agreements = root / "agreements"

    def newer(agreement: dict[str, Any]) -> None:
        agreement["version"] += 1
        change(agreement)

    edit_agreement(agreements / "custody" / "custody.yaml", newer)
    here.world.sign_bundle(agreements, version=2)
    before = here.adapter.policies.current.bundle.version
    await here.adapter.refresh_bundle()
    assert here.adapter.policies.current.bundle.version == before + 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (for_prosecution_only, Reason.DISCLOSURE_DENIED),
        (from_superintendents_only, Reason.DISCLOSURE_DENIED),
        (documents_lapsed, Reason.DISCLOSURE_DENIED),
        (obliges(fields=["family_name"]), Reason.DISCLOSURE_DENIED),
        (obliges(hit_no_hit=True, fields=[], images="never"), Reason.DISCLOSURE_DENIED),
        (obliges(target_fpir=0.01), Reason.DISCLOSURE_DENIED),
        (obliges(reviewers=3), Reason.REVIEW_MISSING),
    ],
    ids=["gateway", "clause", "documents", "fields", "hit", "unknown duty", "reviewers"],
)
async def test_an_agreement_that_changed_since_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, reason: Reason
) -> None:
    world = make_world(tmp_path / "world", three_candidates)
    async with scene(world, tmp_path, monkeypatch) as here:
        step = await searched(here)
        asking = await step.asking()
        await new_bundle(here, tmp_path / "world", change)
        await step.refused(asking, reason)
        if reason is Reason.REVIEW_MISSING:
            third = await step.review(reviewer(3))
            await step.ask(await step.asking([*asking.reviews, third]))


async def test_the_owner_has_as_long_as_the_agreement_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path / "world", three_candidates)
    async with scene(world, tmp_path, monkeypatch) as here:
        step = await searched(here)
        await new_bundle(here, tmp_path / "world", obliges(release_within_hours=2))
        reply = await step.ask(await step.asking())
        left = reply.decide_by.seconds - step.now.timestamp()
        assert timedelta(hours=1.9).total_seconds() < left <= timedelta(hours=2).total_seconds()


async def test_of_an_answer_that_was_held_what_was_released_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path / "world", three_candidates)
    make_gallery(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=str(tmp_path / "gallery")) as here:
        papers = await here.papers(
            Request(world, now=here.clock()), obligations={"release_by_human": True}
        )
        held = decode_report(envelope_from_wire((await here.ask(papers.params())).report).payload)
        assert held.state is OutcomeState.HELD
        with editing(tmp_path / "gallery") as editor:
            editor.erase([MATE], here.clock())
        await here.adapter.refresh_gallery()
        async with at_work(here) as operator:
            await Inbox.of(operator).release(papers.search_id, reviewer="R-1", reference="a")
        grant = sha256(papers.dossier.grant.payload).digest()
        collected = await here.collect(papers.order_sha256, grant)
        envelope = envelope_from_wire(collected.answer.report)
        report = decode_report(envelope.payload)
        step = Step(
            here,
            Request(world, now=here.clock()),
            papers,
            report,
            sha256(envelope.payload).digest(),
            here.broker,
        )
        ((_, withheld),) = [
            one
            for one in here.adapter.state.resolve(search_id=papers.search_id)
            if one[1].record_id == MATE
        ]
        assert len(step.references) == 2
        assert withheld.reference not in step.references
        reviews = await step.reviews()
        left_out = await step.asking(reviews, reference=withheld.reference)
        await step.refused(left_out, Reason.DISCLOSURE_INVALID, "reference")
        original = await step.asking(reviews, report_sha256=report.held_report_sha256)
        await step.refused(original, Reason.DISCLOSURE_INVALID, "report_sha256")
        assert (await step.ask(await step.asking(reviews))).HasField("decide_by")
