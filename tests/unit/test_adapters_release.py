"""Requests for details at the agency: every rule attacked, and what its people decide."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from agency_adapters import registry
from agency_adapters.agency import EVERY_DAY, Defaults, ReleaseRule
from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.editing import editing
from agency_adapters.operators import Operator
from agency_adapters.second_step.deciding import RELEASE_CLERK
from agency_adapters.second_step.inbox import ReleaseInbox
from agency_adapters.second_step.keeping import Releases
from agency_adapters.serve import Adapter
from agency_adapters.tables import DATABASE_FILE
from agency_adapters.verdicts import Verdict
from audit.embedded import note_of
from audit.kinds import ERASED
from audit.writer import NewEntry
from tests.adapters import Scene, entries, make_world, scene
from tests.unit.adapters_kit import MATE, make_gallery
from tests.unit.second_step_kit import (
    FACTS,
    NO,
    OPEN,
    REQUESTER,
    YES,
    Asking,
    Reviewing,
    Step,
    admin,
    at_work,
    inbox,
    reviewer,
    searched,
    three_candidates,
)
from tests.world import AUTHORISER, OFFICER, Request, World
from trust import dsse
from trust.errors import ProbegateError, Reason
from trust.messages import OWNER_REFUSED
from trust.payload_types import PayloadType
from trust.second_step import Nature, ReleaseState
from trust.tokens import Part
from trust.wire import encode

LONG_AGO = timedelta(minutes=20)
OTHER_ID = "4fa3c1de-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), three_candidates)


@pytest.fixture
async def here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    make_gallery(tmp_path / "gallery")
    async with scene(world, tmp_path, monkeypatch, gallery=str(tmp_path / "gallery")) as made:
        yield made


@pytest.fixture
async def step(here: Scene) -> Step:
    return await searched(here)


def kind_with(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let custody be a kind of agency with other rules of its own."""
    kinds = {**registry.KINDS, "custody": replace(CUSTODY, **changes)}
    patch.setattr(registry, "KINDS", MappingProxyType(kinds))


async def refused(reason: Reason, deed: Any) -> ProbegateError:
    with pytest.raises(ProbegateError) as raised:
        await deed
    assert raised.value.reason is reason
    return raised.value


# --- the honest way, without which the rest would prove nothing ------------------------------


async def test_two_reviews_a_request_and_a_release_disclose_what_is_agreed(step: Step) -> None:
    asking = await step.asking(fields=("reference", "date_of_birth", "disposal", "capture_offence"))
    reply = await step.ask(asking)
    decide_by = reply.decide_by.ToDatetime(UTC)
    assert timedelta(hours=47) < decide_by - step.now <= timedelta(hours=48)
    (entry,) = [e for e in entries(step.here.adapter) if e["type"] == "release.requested"]
    assert entry["request_sha256"] == asking.digest.hex()
    shown = entry["broker_checkpoint"]
    assert shown["size"] == step.side.logs.search.checkpoint.checkpoint.size
    assert note_of(shown).splitlines()[0] == shown["origin"].encode()  # signed, so it binds
    waiting = await step.became(asking)
    assert not waiting.HasField("decision")
    assert waiting.decide_by == reply.decide_by
    async with inbox(step.here) as people:
        (wanted,) = await people.waiting()
        assert wanted.fields == ("reference", "date_of_birth", "disposal")
        assert (wanted.facts, wanted.record_id) == (FACTS, MATE)
        done = await people.release(asking.said.request_id, reviewer="R-1", reasons="Needed.")
        assert (done.verdict, done.state) == (Verdict.RELEASED, "released")
    details = await step.details(asking)
    assert [(one.name, one.value, one.nature) for one in details.fields] == [
        ("reference", MATE, Nature.FACT),
        ("date_of_birth", "1980-01-01", Nature.FACT),
        ("disposal", "convicted", Nature.FACT),
    ]
    assert details.subject_category == "convicted"
    assert details.onward_transfer == "within_prosecution"
    assert details.delete_by - details.released_at == timedelta(days=31)
    assert details.expires_at - details.released_at == timedelta(hours=168)
    assert any("investigative lead" in caveat for caveat in details.caveats)
    (listed, decided) = admin(step.here, "release.")
    assert listed["type"] == "release.listed"
    assert decided["type"] == "release.released"
    assert set(decided["commitments"]) == {"reviewer", "reasons"}


async def test_whoever_must_be_asked_by_now_is_asked_before_details_are_released(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handling of the record is changed while the request waits."""
    names: dict[str, str] = {}
    rule = ReleaseRule("custody.ask", "-", lambda record: names.get(record.record_id, ""))
    kind_with(monkeypatch, release=(rule,))
    asking = await step.asking()
    await step.ask(asking)
    name = asking.said.request_id
    async with inbox(step.here) as people:
        names[MATE] = "southmere-police"
        error = await refused(
            Reason.RELEASE_INVALID, people.release(name, reviewer="R-1", reasons="Needed.")
        )
        assert "southmere-police" in error.detail
        assert not (await step.became(asking)).HasField("decision")
        (wanted,) = await people.waiting()
        assert (wanted.ask, wanted.released_by) == (("southmere-police",), 0)
        done = await people.release(
            name, reviewer="R-1", reasons="Needed.", asked=("southmere-police",)
        )
        assert (done.verdict, done.state) == (Verdict.RELEASED, "released")
    (reopened,) = [one for one in entries(step.here.adapter) if one["type"] == "release.reopened"]
    assert (reopened["request_sha256"], reopened["ask"]) == (
        asking.digest.hex(),
        ["southmere-police"],
    )


async def test_the_same_request_again_is_given_the_same_answer_and_no_second_entry(
    step: Step,
) -> None:
    asking = await step.asking()
    replies = await asyncio.gather(*(step.ask(asking) for _ in range(3)))
    step.here.clock.ahead += timedelta(minutes=8)  # past its own end: it is known
    replies.append(await step.ask(asking))
    assert len({one.decide_by.ToNanoseconds() for one in replies}) == 1
    requested = [e for e in entries(step.here.adapter) if e["type"] == "release.requested"]
    assert len(requested) == 1


async def test_its_id_with_other_bytes_is_a_replay(step: Step) -> None:
    reviews = await step.reviews()
    first = await step.asking(reviews)
    await step.ask(first)
    second = await step.asking(reviews, request_id=first.said.request_id, fields=("reference",))
    await step.refused(second, Reason.DISCLOSURE_REPLAYED)


# --- the papers ------------------------------------------------------------------------------


async def test_nobody_but_a_broker_may_ask(step: Step) -> None:
    asking = await step.asking()
    for member in ("northshire", "custody", "inspectorate"):
        for call in (step.ask(asking, member), step.became(asking, member)):
            await refused(Reason.CHANNEL_ROLE, call)


async def test_an_order_that_was_never_answered_here(step: Step) -> None:
    other = Request(step.here.world, now=step.now)
    await step.refused(await step.asking(order=other.envelope()), Reason.NOT_FOUND)


async def test_an_order_with_another_forces_signature(step: Step) -> None:
    signer = step.here.world.folder("southmere").signer()
    forged = dsse.sign(PayloadType.SEARCH_ORDER, step.order.payload, signer)
    await step.refused(await step.asking(order=forged), Reason.ORDER_INVALID)
    unsigned = replace(forged, signatures=())
    await step.refused(await step.asking(order=unsigned), Reason.KEY_UNKNOWN)


async def test_a_request_that_another_force_signed(step: Step) -> None:
    await step.refused(await step.asking(by="southmere"), Reason.KEY_UNKNOWN)


async def test_a_request_that_was_changed_after_it_was_signed(step: Step) -> None:
    asking = await step.asking()
    said = asking.said.model_copy(update={"fields": ("reference", "family_name")})
    changed = replace(asking.envelope, payload=encode(said))
    await step.refused(replace(asking, envelope=changed), Reason.ENVELOPE_TAMPERED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("search_id", OTHER_ID),
        ("order_sha256", bytes(32)),
        ("force", "southmere"),
        ("agency", "pnd"),
    ],
)
async def test_a_request_about_something_else(step: Step, field: str, value: Any) -> None:
    asking = await step.asking(**{field: value})
    await step.refused(asking, Reason.DISCLOSURE_INVALID, field)


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "review.recorded"},
        {"request_sha256": "00" * 32},
        {"reviews": []},
        {"fields": ["reference"]},
        {"reference": "another"},
        {"agency": "pnd"},
        {"at": "yesterday"},
        {"at": "2026-11-23T12:00:00"},
        {"v": 2},
    ],
)
async def test_an_entry_that_does_not_say_the_same(step: Step, changed: dict[str, Any]) -> None:
    await step.refused(await step.asking(said_in_log=changed), Reason.LOG_PROOF_INVALID)


async def test_no_proof_of_inclusion(step: Step) -> None:
    asking = await step.asking()
    message = step.message(asking)
    for inclusion in ([], [bytes(32) for _ in message.recorded.entry.inclusion]):
        del message.recorded.entry.inclusion[:]
        message.recorded.entry.inclusion.extend(inclusion)
        await refused(Reason.LOG_PROOF_INVALID, step.send("RequestRelease", message))
    message.recorded.checkpoint = b""
    await refused(Reason.CHECKPOINT_INVALID, step.send("RequestRelease", message))
    reasons = [e["reason"] for e in entries(step.here.adapter) if e["type"] == "release.rejected"]
    assert reasons == ["LOG_PROOF_INVALID", "LOG_PROOF_INVALID", "CHECKPOINT_INVALID"]


async def test_another_history_of_the_brokers_log(step: Step) -> None:
    await step.ask(await step.asking())
    fork = await step.here.another_broker("fork")
    await fork.logs.search.append(NewEntry({"n": 0}))  # where the first has the order
    liar = replace(step, side=fork, shown=[])
    asking = await liar.asking()
    await liar.refused(asking, Reason.CHECKPOINT_INCONSISTENT)


# --- the request ------------------------------------------------------------------------------


async def test_a_stale_request_and_one_of_the_future(step: Step) -> None:
    ahead = await step.asking(
        created_at=step.now + timedelta(minutes=2), expires_at=step.now + timedelta(minutes=4)
    )
    await step.refused(ahead, Reason.DISCLOSURE_INVALID, "created_at")
    stale = await step.asking(
        created_at=step.now - timedelta(minutes=6), expires_at=step.now - timedelta(minutes=1)
    )
    await step.refused(stale, Reason.DISCLOSURE_INVALID, "expires_at")
    early = await step.asking(
        created_at=step.now, said_in_log={"at": (step.now - timedelta(hours=1)).isoformat()}
    )
    await step.refused(early, Reason.DISCLOSURE_INVALID, "expires_at")


async def test_a_request_that_was_recorded_in_time_may_come_late_but_not_after_a_day(
    step: Step,
) -> None:
    reviews = await step.reviews()
    first, second = await step.asking(reviews), await step.asking(reviews)
    step.here.clock.ahead += timedelta(hours=23)
    await step.ask(first)
    step.here.clock.ahead += timedelta(hours=1)
    await step.refused(second, Reason.DISCLOSURE_INVALID, "expires_at")


async def test_another_report(step: Step) -> None:
    asking = await step.asking(report_sha256=bytes(32))
    await step.refused(asking, Reason.DISCLOSURE_INVALID, "report_sha256")


async def test_a_reference_of_another_search_and_one_of_nobody(step: Step) -> None:
    other = await searched(step.here)
    for reference in (other.reference, "a" * 20):
        asking = await step.asking(reference=reference)
        await step.refused(asking, Reason.DISCLOSURE_INVALID, "reference")


async def test_what_is_still_held_was_handed_out_to_nobody(here: Scene) -> None:
    step = await searched(here, obligations={"release_by_human": True})
    ((_, found), *_) = here.adapter.state.resolve(search_id=step.report.search_id)
    asking = await step.asking(reviews=await _of_nothing(step), reference=found.reference)
    await step.refused(asking, Reason.NOT_FOUND)


async def _of_nothing(step: Step) -> list[Reviewing]:
    """Reviews of a report that lists nobody cannot be made; those of another search are shown."""
    return await (await searched(step.here)).reviews()


# --- the reviews ------------------------------------------------------------------------------


async def test_reviews_that_are_not_those_named(step: Step) -> None:
    one, two, three = await step.reviews(YES, YES, YES)
    asking = await step.asking([one, two])
    for shown in ([], [one], [two, one], [one, three], [one, two, three]):
        await step.refused(replace(asking, reviews=shown), Reason.DISCLOSURE_INVALID, "reviews")


async def test_a_review_that_another_force_signed(step: Step) -> None:
    reviews = [await step.review(reviewer(1)), await step.review(reviewer(2), by="southmere")]
    await step.refused(await step.asking(reviews), Reason.KEY_UNKNOWN)


@pytest.mark.parametrize(
    ("field", "value"),
    [("force", "southmere"), ("agency", "pnd"), ("report_sha256", bytes(32))],
)
async def test_a_review_of_something_else(step: Step, field: str, value: Any) -> None:
    bad = await step.review(reviewer(2), said_in_log=None, **{field: value})
    if field == "agency":  # the entry speaks of the other agency alone
        await step.refused(
            await step.asking([await step.review(reviewer(1)), bad]), Reason.REVIEW_INVALID, field
        )
        return
    asking = await step.asking([await step.review(reviewer(1)), bad])
    await step.refused(asking, Reason.REVIEW_INVALID, field)


async def test_a_review_that_leaves_a_candidate_out(step: Step) -> None:
    whole = await step.review(reviewer(2))
    part = await step.review(reviewer(2), findings=whole.said.findings[:1])
    asking = await step.asking([await step.review(reviewer(1)), part])
    await step.refused(asking, Reason.REVIEW_INVALID, "findings")


async def test_a_review_that_is_not_on_the_log(step: Step) -> None:
    good, unlogged = await step.review(reviewer(1)), await step.review(reviewer(2), log=False)
    await step.refused(await step.asking([good, unlogged]), Reason.LOG_PROOF_INVALID)
    borrowed = replace(unlogged, entry=good.entry)
    await step.refused(await step.asking([good, borrowed]), Reason.LOG_PROOF_INVALID)


@pytest.mark.parametrize(
    "changed",
    [
        {"reviews": {"custody": "00" * 32}},
        {"reviews": {}},
        {"reviews": []},
        {"review_id": OTHER_ID},
        {"search_id": OTHER_ID},
        {"type": "search.order"},
    ],
)
async def test_an_entry_that_does_not_record_the_review(
    step: Step, changed: dict[str, Any]
) -> None:
    bad = await step.review(reviewer(2), said_in_log=changed)
    asking = await step.asking([await step.review(reviewer(1)), bad])
    await step.refused(asking, Reason.LOG_PROOF_INVALID)


async def test_a_review_that_was_recorded_after_the_request(step: Step) -> None:
    good, late = await step.review(reviewer(1)), await step.review(reviewer(2), log=False)
    asking = await step.asking([good, late])
    facts = {
        "search_id": late.said.search_id,
        "order_sha256": late.said.order_sha256.hex(),
        "review_id": late.said.review_id,
        "reviews": {"custody": late.digest.hex()},
        "number": 2,
    }
    late.entry = await step.logged("review.recorded", facts)
    await step.refused(asking, Reason.LOG_PROOF_INVALID, "leaf_index")


async def test_a_review_that_ended_after_it_was_recorded(step: Step) -> None:
    early = await step.review(
        reviewer(2), finished_at=step.now + timedelta(minutes=3), started_at=step.now
    )
    asking = await step.asking([await step.review(reviewer(1)), early])
    await step.refused(asking, Reason.REVIEW_INVALID, "finished_at")


async def test_a_reviewers_token_that_is_not_good(step: Step) -> None:
    person, at = reviewer(2), step.now
    bad = {
        "none": "",
        "another person's": step.token(reviewer(3), Part.REVIEWER),
        "another force's": step.token(person, Part.REVIEWER, force="southmere"),
        "for another part": step.token(person, Part.OFFICER),
        "expired when it was recorded": step.token(person, Part.REVIEWER, at=at - LONG_AGO),
        "not yet issued then": step.token(person, Part.REVIEWER, at=at + LONG_AGO),
        "of another rank": step.token(reviewer(2, rank="inspector"), Part.REVIEWER),
        "of another accreditation": step.token(
            reviewer(2, accreditation_expires=date(2035, 1, 1)), Part.REVIEWER
        ),
    }
    good = await step.review(reviewer(1))
    for token in bad.values():
        shown = await step.review(person, token=token)
        asking = await step.asking([good, shown])
        await step.refused(asking, Reason.OFFICER_TOKEN_INVALID)


async def test_a_requesters_token_that_is_not_good(step: Step) -> None:
    reviews = await step.reviews()
    for token in (
        "",
        step.token(OFFICER, Part.OFFICER),
        step.token(REQUESTER, Part.REVIEWER),
        step.token(REQUESTER, Part.OFFICER, force="southmere"),
        step.token(REQUESTER, Part.OFFICER, at=step.now - LONG_AGO),
    ):
        asking = await step.asking(reviews, requester_token=token)
        await step.refused(asking, Reason.OFFICER_TOKEN_INVALID)


@pytest.mark.parametrize(
    "changes",
    [
        {"accreditation": "", "accreditation_expires": None},
        {"accreditation_expires": None},
        {"accreditation_expires": date(2026, 1, 31)},
    ],
)
async def test_a_reviewer_without_accreditation(step: Step, changes: dict[str, Any]) -> None:
    shown = await step.review(reviewer(2, **changes))
    asking = await step.asking([await step.review(reviewer(1)), shown])
    await step.refused(asking, Reason.REVIEWER_NOT_ACCREDITED)


async def test_one_review_is_not_enough_however_often_it_is_shown(step: Step) -> None:
    one = await step.review(reviewer(1))
    with pytest.raises(ValueError, match="review_sha256s"):
        await step.asking([one])
    for same in ("reviewer-1", "Reviewer-1", "reviewer-1 "):
        if same != same.strip():
            continue  # a person's id has no trailing space on the wire
        again = await step.review(reviewer(1, id=same))
        await step.refused(await step.asking([one, again]), Reason.REVIEW_NOT_INDEPENDENT)
    other = await step.review(reviewer(2), review_id=one.said.review_id)
    await step.refused(await step.asking([one, other]), Reason.REVIEW_NOT_INDEPENDENT)


@pytest.mark.parametrize("person", [OFFICER.id, AUTHORISER.id, REQUESTER.id, OFFICER.id.upper()])
async def test_who_has_another_part_does_not_review(step: Step, person: str) -> None:
    shown = await step.review(reviewer(2, id=person))
    asking = await step.asking([await step.review(reviewer(1)), shown])
    await step.refused(asking, Reason.REVIEW_NOT_INDEPENDENT)


@pytest.mark.parametrize(
    "opinions", [(YES, NO), (YES, OPEN), (NO, NO), (OPEN, OPEN), (YES, NO, NO), (YES, YES, NO, NO)]
)
async def test_too_few_share_the_opinion(step: Step, opinions: Any) -> None:
    reviews = await step.reviews(*opinions)
    await step.refused(await step.asking(reviews), Reason.REVIEW_MISSING)


@pytest.mark.parametrize("opinions", [(YES, NO, YES), (OPEN, YES, YES), (YES, YES, YES)])
async def test_a_third_opinion_settles_it(step: Step, opinions: Any) -> None:
    assert (await step.ask(await step.asking(await step.reviews(*opinions)))).HasField("decide_by")


async def test_the_opinion_is_on_this_candidate_and_not_on_another(step: Step) -> None:
    whole = await step.review(reviewer(1))
    findings = tuple(
        one.model_copy(update={"opinion": NO if one.reference == step.reference else YES})
        for one in whole.said.findings
    )
    reviews = [await step.review(reviewer(n), findings=findings) for n in (1, 2)]
    await step.refused(await step.asking(reviews), Reason.REVIEW_MISSING)
    other = await step.asking(reviews, reference=step.references[1])
    assert (await step.ask(other)).HasField("decide_by")


# --- revoked reviewers ------------------------------------------------------------------------


async def test_a_revoked_reviewer_before_the_request(step: Step) -> None:
    reviews = await step.reviews()
    told = step.signed(step.revocation(reviewer(2)), PayloadType.REVIEWER_REVOCATION)
    await step.refused(await step.asking(reviews, revocations=[told]), Reason.REVIEWER_REVOKED)
    later = step.revocation(reviewer(2), since=step.now + timedelta(seconds=5))
    harmless = step.signed(later, PayloadType.REVIEWER_REVOCATION)
    await step.ask(await step.asking(reviews, revocations=[harmless]))
    await step.send("Notify", await step.notice(step.revocation(reviewer(1, id="REVIEWER-1"))))
    again = await step.asking(reviews)
    await step.refused(again, Reason.REVIEWER_REVOKED)


async def test_a_revocation_that_another_force_signed(step: Step) -> None:
    forged = step.signed(
        step.revocation(reviewer(2)), PayloadType.REVIEWER_REVOCATION, by="southmere"
    )
    await step.refused(await step.asking(revocations=[forged]), Reason.KEY_UNKNOWN)
    theirs = step.revocation(reviewer(2), force="southmere")
    signed = step.signed(theirs, PayloadType.REVIEWER_REVOCATION)
    await step.refused(await step.asking(revocations=[signed]), Reason.NOTICE_INVALID, "force")


async def test_a_reviewer_revoked_while_it_waits(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    await step.send("Notify", await step.notice(step.revocation(reviewer(2))))
    await step.here.adapter.second_step.deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, "REVIEWER_REVOKED")
    assert not (await step.became(asking)).sealed_disclosure
    async with inbox(step.here) as people:
        release = people.release(asking.said.request_id, reviewer="R-1", reasons="x")
        await refused(Reason.RELEASE_INVALID, release)


# --- what is agreed, held and switched on -----------------------------------------------------


async def test_fields_that_are_not_agreed_or_not_held(step: Step) -> None:
    reviews = await step.reviews()
    for fields in (("passport_number",), ("nationality", "gender"), ("image",), ("pnc_id",)):
        await step.refused(await step.asking(reviews, fields=fields), Reason.DISCLOSURE_DENIED)
    # Agreed, and the record says nothing of it.
    for fields in (("capture_offence",), ("family_name",)):
        await step.refused(await step.asking(reviews, fields=fields), Reason.DISCLOSURE_DENIED)


async def test_what_is_switched_off_is_not_taken_in(step: Step) -> None:
    asking = await step.asking()
    async with at_work(step.here) as operator:
        for name in ("agency:custody", "force:northshire", "purpose:crime_investigation"):
            await operator.switch(name, off=True, reference="2026/17")
            await step.refused(asking, Reason.RELEASE_SWITCHED_OFF)
            await operator.switch(name, off=False, reference="2026/17")
    await step.ask(asking)


async def test_a_record_that_was_erased_since(step: Step, tmp_path: Path) -> None:
    asking = await step.asking()
    with editing(tmp_path / "gallery") as editor:
        editor.erase([MATE], step.now)
    await step.here.adapter.refresh_gallery()
    await step.refused(asking, Reason.DISCLOSURE_DENIED)


async def test_hit_no_hit_discloses_nothing(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = await step.asking()
    kind_with(monkeypatch, defaults=Defaults(hit_no_hit=True))
    await step.refused(asking, Reason.DISCLOSURE_DENIED)
    hit = await searched(step.here)
    assert hit.references == ()
    other = await hit.asking(await step.reviews(), reference=step.reference)
    await hit.refused(other, Reason.DISCLOSURE_INVALID, "reference")


# --- the facts --------------------------------------------------------------------------------


async def test_facts_that_do_not_open(step: Step) -> None:
    reviews = await step.reviews()
    asking = await step.asking(reviews)
    other = await step.asking(reviews)
    await step.refused(replace(asking, sealed=asking.sealed[:-1]), Reason.SEAL_INVALID)
    await step.refused(replace(asking, sealed=other.sealed), Reason.SEAL_INVALID)
    await step.refused(replace(asking, key_id="nobody's"), Reason.SEAL_INVALID)
    theirs = await step.asking(reviews, sealed_to="northshire")
    await step.refused(theirs, Reason.SEAL_INVALID)


async def test_facts_that_are_not_those_committed_to(step: Step) -> None:
    asking = await step.asking(facts="Something else altogether.")
    await step.refused(asking, Reason.DISCLOSURE_INVALID, "facts_commitment")


# --- what became of it ------------------------------------------------------------------------


async def test_nobody_is_told_of_a_request_that_is_not_there(step: Step) -> None:
    asking = await step.asking()
    await refused(Reason.NOT_FOUND, step.became(asking))
    assert entries(step.here.adapter)[-1]["reason"] == "NOT_FOUND"


async def test_details_are_handed_over_until_they_can_be_opened_no_more(step: Step) -> None:
    asking = await released(step)
    assert (await step.became(asking)).sealed_disclosure
    step.here.clock.ahead += timedelta(hours=169)
    reply = await step.became(asking)
    assert reply.HasField("decision")
    assert not reply.sealed_disclosure
    await step.here.adapter.second_step.deciding.erase_expired()
    kept = step.here.adapter.second_step.asking.releases.of(asking.digest)
    assert kept is not None
    assert kept.sealed == b""


async def released(step: Step) -> Asking:
    asking = await step.asking()
    await step.ask(asking)
    async with inbox(step.here) as people:
        await people.release(asking.said.request_id, reviewer="R-1", reasons="Needed.")
    return asking


# --- the agency's own people ------------------------------------------------------------------


async def test_a_refusal_tells_nothing(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    async with inbox(step.here) as people:
        done = await people.refuse(
            asking.said.request_id, reviewer="R-1", reasons="The face is another's."
        )
        assert done.state == "refused"
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, OWNER_REFUSED)
    (entry,) = admin(step.here, "release.refused")
    assert set(entry["commitments"]) == {"reviewer", "reasons"}
    assert "another" not in str(entries(step.here.adapter))


async def test_where_two_must_release_two_different_people_do(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_with(monkeypatch, defaults=Defaults(owner_reviewers=2))
    asking = await step.asking()
    await step.ask(asking)
    request = asking.said.request_id
    async with inbox(step.here) as people:
        done = await people.release(request, reviewer="R-1", reasons="a")
        assert (done.verdict, done.released_by, done.needed) == (None, 1, 2)
        for same in ("R-1", "r-1", "R-1 "):
            for deed in (people.release, people.refuse):
                await refused(Reason.RELEASE_INVALID, deed(request, reviewer=same, reasons="b"))
        assert not (await step.became(asking)).HasField("decision")
        done = await people.release(request, reviewer="R-2", reasons="b")
        assert done.state == "released"
    assert (await step.details(asking)).fields


async def test_reasons_and_a_person_are_required(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    async with inbox(step.here) as people:
        for deed in (people.release, people.refuse):
            for who, why in (("", "x"), ("R-1", ""), ("R-1", "  "), ("R-1", "\0")):
                deed_done = deed(asking.said.request_id, reviewer=who, reasons=why)
                await refused(Reason.TEXT_INVALID, deed_done)
        await refused(Reason.NOT_FOUND, people.show("nobody"))


async def test_a_contributor_must_be_asked(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = ReleaseRule("custody.ask", "-", lambda _record: "southmere-police")
    kind_with(monkeypatch, release=(rule,))
    asking = await step.asking()
    await step.ask(asking)
    async with inbox(step.here) as people:
        for asked in ((), ("northshire",)):
            release = people.release(
                asking.said.request_id, reviewer="R-1", reasons="r", asked=asked
            )
            await refused(Reason.RELEASE_INVALID, release)
        done = await people.release(
            asking.said.request_id, reviewer="R-1", reasons="r", asked=("southmere-police",)
        )
        assert done.state == "released"


async def test_what_is_switched_off_waits_and_can_be_refused(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    async with at_work(step.here) as operator:
        await operator.switch("agency:custody", off=True, reference="2026/17")
    async with inbox(step.here) as people:
        release = people.release(asking.said.request_id, reviewer="R-1", reasons="r")
        await refused(Reason.RELEASE_SWITCHED_OFF, release)
        (wanted,) = await people.waiting()
        assert wanted.switched_off == ("agency:custody",)
        done = await people.refuse(asking.said.request_id, reviewer="R-1", reasons="r")
        assert done.state == "refused"


async def test_a_switch_turned_off_after_the_release_holds_it_back(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    deciding = step.here.adapter.second_step.deciding
    desk = asyncio.create_task(step.here.adapter.serve_desk())
    operator = replace(Operator.open(step.here.adapter.settings), clock=step.here.clock)
    release = ReleaseInbox.of(operator).release(asking.said.request_id, reviewer="R-1", reasons="r")
    waiting = asyncio.create_task(release)
    for _ in range(200):
        if admin(step.here, "release.released"):
            break
        await asyncio.sleep(0.05)
    await operator.switch("agency:custody", off=True, reference="2026/17")
    await deciding.settle()
    assert not (await step.became(asking)).HasField("decision")
    await operator.switch("agency:custody", off=False, reference="2026/18")
    await deciding.settle()
    assert (await waiting).state == "released"
    desk.cancel()
    operator.close()


@pytest.mark.parametrize("gone", ["erased", "barred"])
async def test_a_record_that_may_be_disclosed_no_more_when_it_is_released(
    step: Step, gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = await step.asking()
    await step.ask(asking)
    if gone == "erased":
        with editing(tmp_path / "gallery") as editor:
            editor.erase([MATE], step.now)
        await step.here.adapter.refresh_gallery()
    else:
        rule = replace(CUSTODY.eligibility[0], barred=lambda _record: EVERY_DAY)
        kind_with(monkeypatch, eligibility=(rule,))
    async with inbox(step.here) as people:
        done = await people.release(asking.said.request_id, reviewer="R-1", reasons="r")
    assert (done.verdict, done.state) == (Verdict.RELEASED, "refused")
    assert (await step.decision(asking)).reason == "DISCLOSURE_DENIED"


async def test_nobody_decides_in_time(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    step.here.clock.ahead += timedelta(hours=49)
    for _ in range(2):
        await step.here.adapter.second_step.deciding.record_overdue()
    (overdue,) = [e for e in entries(step.here.adapter) if e["type"] == "release.overdue"]
    assert overdue["request_sha256"] == asking.digest.hex()
    async with inbox(step.here) as people:
        (wanted,) = await people.waiting()
        assert wanted.overdue
        done = await people.release(asking.said.request_id, reviewer="R-1", reasons="late")
    assert done.state == "released"


# --- crashes, and what is left behind ---------------------------------------------------------


async def test_a_crash_between_a_decision_and_its_report(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    operator = replace(Operator.open(step.here.adapter.settings), clock=step.here.clock)
    people = ReleaseInbox.of(operator)
    await step.here.server.stop(0)
    await step.here.adapter.close()
    # The adapter is down: the decision counts, and nothing carries it out.
    done = await people.release(asking.said.request_id, reviewer="R-1", reasons="r")
    assert (done.verdict, done.state) == (Verdict.RELEASED, "")
    operator.close()
    await reopened(step.here)
    assert not (await step.became(asking)).HasField("decision")
    for _ in range(2):
        await step.here.adapter.second_step.deciding.settle()
    assert (await step.details(asking)).fields
    decided = [e for e in entries(step.here.adapter) if e["type"] == "release.decided"]
    assert len(decided) == 1


async def test_the_facts_are_gone_once_it_is_decided(step: Step, tmp_path: Path) -> None:
    before = await step.asking()
    await step.ask(before)
    assert any(FACTS.encode() in file for file in _database(tmp_path))
    async with inbox(step.here) as people:
        await people.release(before.said.request_id, reviewer="R-1", reasons="r")
        await refused(Reason.RELEASE_INVALID, people.show(before.said.request_id))
    for _ in range(100):
        if not any(FACTS.encode() in file for file in _database(tmp_path)):
            break
        await step.here.adapter.second_step.deciding.settle()
        await asyncio.sleep(0.05)
    assert not any(FACTS.encode() in file for file in _database(tmp_path))
    connection = sqlite3.connect(tmp_path / "state" / DATABASE_FILE)
    try:
        row = connection.execute("SELECT facts, order_payload, reviewers FROM releases").fetchone()
    finally:
        connection.close()
    assert row == (None, None, None)


async def reopened(here: Scene) -> None:
    """Open the adapter again on the same state."""
    here.adapter = await Adapter.open(here.adapter.settings, here.clock)
    here.server = await here.adapter.listen()
    here.channels.clear()


def _database(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in (root / "state").glob(f"{DATABASE_FILE}*")]


async def test_who_released_is_erased_with_the_value_of_the_entry(step: Step) -> None:
    asking = await step.asking()
    await step.ask(asking)
    engine = step.here.adapter.state.engine
    async with inbox(step.here) as people:
        done = await people.release(asking.said.request_id, reviewer="R-1", reasons="It fits.")
    said = {"type": ERASED, "log": "admin", "entries": [done.index], "fields": ["reviewer"]}
    with engine.begin() as connection:
        RELEASE_CLERK.also(connection, 0, said)
    release = Releases(engine).of(asking.digest)
    assert release is not None
    assert [one.reviewer for one in release.reviews] == [f"erased {done.index}"]
    assert release.verdict is Verdict.RELEASED
