"""What comes in while an adapter carries out a release: the last word before its entry counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from agency_adapters.deciding import Deciding as DecidingHeld
from agency_adapters.erasing import erase_records
from agency_adapters.galleries.editing import Editor, editing
from agency_adapters.galleries.segment_content import NewRecord
from agency_adapters.galleries.store import StoredGallery
from agency_adapters.inbox import Inbox
from agency_adapters.operators import Operator
from agency_adapters.second_step.asking import Disclosable
from agency_adapters.second_step.inbox import ReleaseInbox
from agency_adapters.second_step.recall_desk import RecallDesk
from agency_adapters.tables import releases
from agency_adapters.verdicts import Verdict
from tests.adapters import Scene, entries, make_world, scene, the_operator
from tests.galleries import NOW
from tests.unit.adapters_kit import MATE, make_gallery
from tests.unit.second_step_kit import Asking, Step, reviewer, searched, three_candidates
from tests.unit.test_adapters_erasing import enrolled
from tests.unit.test_adapters_held import Waits, held
from tests.unit.test_adapters_images import PNG
from tests.world import World, template
from trust.errors import ProbegateError, Reason
from trust.messages import OWNER_REFUSED, OutcomeState
from trust.second_step import RecallReason, ReleaseState

Deed = Callable[[], Awaitable[None]]


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


@asynccontextmanager
async def people_at(here: Scene) -> AsyncIterator[Operator]:
    """The agency's own people; what they decide is logged, and carried out when a test says so."""
    async with the_operator(here) as operator:
        yield replace(operator, clock=here.clock)


def meanwhile(deciding: DecidingHeld | Disclosable, deed: Deed) -> None:
    """Let something happen once, right after the first record was read for a release."""
    gallery = deciding.gallery()
    done: list[str] = []

    class Read:
        """The gallery itself; only what follows a read is ours."""

        def __getattr__(self, name: str) -> Any:
            return getattr(gallery, name)

        async def record(self, record_id: str) -> Any:
            found = await gallery.record(record_id)
            if not done:
                done.append(record_id)
                await deed()
            return found

    object.__setattr__(deciding, "gallery", Read)


async def released_by_one(here: Scene, operator: Operator) -> Waits:
    """Return a held answer that one person has released and nothing has carried out."""
    waits, people = await held(here), Inbox.of(operator)
    asked = asyncio.create_task(
        people.release(waits.papers.search_id, reviewer="R-1", reference="2026/1")
    )
    await until(lambda: people.held.waiting()[0].verdict is Verdict.RELEASED)
    asked.cancel()
    return waits


async def details_released_by_one(
    here: Scene, operator: Operator, **said: Any
) -> tuple[Step, Asking]:
    """Return a request for details that one person has released and nothing has carried out."""
    step = await searched(here)
    asking, people = await step.asking(**said), ReleaseInbox.of(operator)
    await step.ask(asking)
    asked = asyncio.create_task(
        people.release(asking.said.request_id, reviewer="R-1", reasons="Needed.")
    )
    await until(lambda: people.releases.waiting()[0].verdict is Verdict.RELEASED)
    asked.cancel()
    return step, asking


async def until(so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not so():  # noqa: ASYNC110 - it is the desk's turn
        await asyncio.sleep(0.01)


# --- a refusal, a switch or a recall that is on the log first ---------------------------------


async def test_a_refusal_that_is_on_the_log_before_the_report_refuses_a_held_answer(
    here: Scene,
) -> None:
    async with people_at(here) as operator:
        waits = await released_by_one(here, operator)
        search, order = waits.papers.search_id, waits.papers.order_sha256

        async def refuse() -> None:
            private = {"reviewer": "R-2", "reasons": "Not proportionate."}
            await operator.log("held.refused", private, search_id=search, order_sha256=order.hex())

        meanwhile(here.adapter.deciding, refuse)
        await here.adapter.deciding.settle()
        assert not (await waits.collected()).HasField("answer")
        await here.adapter.deciding.settle()
    report = await waits.report()
    assert (report.state, report.reason) == (OutcomeState.DENIED, OWNER_REFUSED)


async def test_a_switch_that_is_off_before_the_report_keeps_a_held_answer(here: Scene) -> None:
    async with people_at(here) as operator:
        waits = await released_by_one(here, operator)

        async def switch() -> None:
            await operator.switch("force:northshire", off=True, reference="2026/17")

        meanwhile(here.adapter.deciding, switch)
        for _ in range(2):
            await here.adapter.deciding.settle()
        assert not (await waits.collected()).HasField("answer")
        await operator.switch("force:northshire", off=False, reference="2026/18")
        await here.adapter.deciding.settle()
    assert (await waits.report()).state is OutcomeState.CANDIDATES


async def test_a_refusal_that_is_on_the_log_before_the_decision_refuses_the_details(
    here: Scene,
) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)

        async def refuse() -> None:
            await operator.log(
                "release.refused",
                {"reviewer": "R-2", "reasons": "The face is another's."},
                search_id=step.report.search_id,
                request_sha256=asking.digest.hex(),
            )

        deciding = here.adapter.second_step.deciding
        meanwhile(deciding.disclosable, refuse)
        await deciding.settle()
        assert not (await step.became(asking)).HasField("decision")
        await deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, OWNER_REFUSED)


async def test_a_switch_that_is_off_before_the_decision_keeps_the_details(here: Scene) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)

        async def switch() -> None:
            await operator.switch("agency:custody", off=True, reference="2026/17")

        deciding = here.adapter.second_step.deciding
        meanwhile(deciding.disclosable, switch)
        for _ in range(2):
            await deciding.settle()
        assert not (await step.became(asking)).HasField("decision")
        await operator.switch("agency:custody", off=False, reference="2026/18")
        await deciding.settle()
    assert (await step.details(asking)).fields


async def test_a_recall_that_is_ordered_before_the_decision_stops_the_details(here: Scene) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)

        async def recall() -> None:
            ordered = RecallDesk.of(operator).order(
                record_id=MATE, reason=RecallReason.WRONG_RECORD, notice="Not he.", person="P-1"
            )
            asked = asyncio.create_task(ordered)
            recalled = here.adapter.second_step.recalling.recalls.recalled
            await until(lambda: recalled(step.reference))
            asked.cancel()

        deciding = here.adapter.second_step.deciding
        meanwhile(deciding.disclosable, recall)
        for _ in range(2):
            await deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, "STOP_USE")


# --- a record that is erased ------------------------------------------------------------------


async def test_details_read_before_an_erasure_are_not_released_after_its_certificate(
    here: Scene,
) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)

        async def erase() -> None:
            await erase_records(operator, [MATE], "Request 2026/17")

        deciding = here.adapter.second_step.deciding
        meanwhile(deciding.disclosable, erase)
        await deciding.settle()
        assert not (await step.became(asking)).HasField("decision")
        await deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, "DISCLOSURE_DENIED")
    assert not (await step.became(asking)).sealed_disclosure


async def test_details_released_while_a_gallery_is_being_changed_are_not_released(
    here: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding, real = here.adapter.second_step.deciding, Editor.erase
    loop = asyncio.get_running_loop()

    def erase(editor: Editor, *about: Any) -> Any:
        """Erase as ever, a turn of the adapter later."""
        asyncio.run_coroutine_threadsafe(deciding.settle(), loop).result()
        return real(editor, *about)

    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)
        monkeypatch.setattr(Editor, "erase", erase)
        await erase_records(operator, [MATE], "Request 2026/17")
    assert (await step.decision(asking)).state is ReleaseState.REFUSED
    assert not (await step.became(asking)).sealed_disclosure


async def test_a_record_erased_while_a_held_answer_is_released_is_left_out(here: Scene) -> None:
    async with people_at(here) as operator:
        waits = await released_by_one(here, operator)

        async def erase() -> None:
            await erase_records(operator, [MATE], "Request 2026/17")

        meanwhile(here.adapter.deciding, erase)
        await here.adapter.deciding.settle()
        assert not (await waits.collected()).HasField("answer")
        await here.adapter.deciding.settle()
    report = await waits.report()
    left = {one.reference for one in report.candidates}
    listed = here.adapter.state.resolve(search_id=waits.papers.search_id)
    assert left == {one.reference for _, one in listed if one.record_id != MATE}
    assert entries(here.adapter)[-1]["left_out"] == 1


async def test_sealed_details_of_an_erased_record_are_in_no_file_when_it_is_certified(
    here: Scene,
) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)
        await here.adapter.second_step.deciding.settle()
        sealed = (await step.became(asking)).sealed_disclosure
        assert any(sealed[-64:] in content for content in state_of(operator))
        certificate, _ = await erase_records(operator, [MATE], "Request 2026/17")
        assert not any(sealed[-64:] in content for content in state_of(operator))
    assert "backups and snapshots of the disk, if you make any" in certificate.remains


async def test_what_could_still_be_told_of_a_record_that_an_import_dropped_is_erased(
    here: Scene, tmp_path: Path
) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)
        await here.adapter.second_step.deciding.settle()
        sealed = (await step.became(asking)).sealed_disclosure
        with editing(tmp_path / "gallery") as editor:
            editor.erase([MATE], NOW)
        certificate, _ = await erase_records(operator, [MATE], "Request 2026/17")
        assert (certificate.erased, certificate.not_held) == ((), (MATE,))
        assert not any(sealed[-64:] in content for content in state_of(operator))
        with pytest.raises(ProbegateError) as raised:
            await erase_records(operator, [MATE], "Request 2026/18")
        assert raised.value.reason is Reason.NOT_FOUND
    assert not (await step.became(asking)).sealed_disclosure


async def test_an_id_given_to_somebody_else_after_an_erasure_is_asked_about_anew(
    here: Scene, tmp_path: Path
) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator)
        await erase_records(operator, [MATE], "Request 2026/17")
        enrolled(tmp_path, [MATE], template()[None])
        await here.adapter.refresh_gallery()
        deciding = here.adapter.second_step.deciding
        await deciding.settle()
        assert (await step.decision(asking)).state is ReleaseState.REFUSED
        again, anew = await details_released_by_one(here, operator)
        await deciding.settle()
    assert (await again.details(anew)).fields


def state_of(operator: Operator) -> list[bytes]:
    """Return what is in the files of an adapter's database."""
    folder = operator.settings.state_dir
    return [path.read_bytes() for path in folder.iterdir() if path.is_file()]


# --- a record that changes --------------------------------------------------------------------


def rewritten(operator: Operator, **changes: Any) -> None:
    """Change what the gallery holds of the mate; the template stays."""
    folder = Path(operator.settings.gallery)
    stored = StoredGallery.open(folder)
    segment, row = stored.find([MATE])[MATE]
    record = stored.record(MATE)
    assert record is not None
    changed = type(record).model_validate(record.model_dump() | changes)
    vector = np.array(stored.segments[segment].templates[row])
    with editing(folder) as editor:
        editor.enrol([NewRecord(changed, vector)], NOW)


async def test_a_detail_that_was_gained_or_changed_since_the_request_is_left_out(
    here: Scene,
) -> None:
    fields = ("reference", "family_name", "date_of_birth", "disposal")
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator, fields=fields)
        rewritten(operator, family_name="Invented", disposal="pending")
        await here.adapter.refresh_gallery()
        await here.adapter.second_step.deciding.settle()
    said = [(one.name, one.value) for one in (await step.details(asking)).fields]
    assert said == [("reference", MATE), ("date_of_birth", "1980-01-01")]
    assert entries(here.adapter)[-1]["fields"] == ["reference", "date_of_birth"]


async def test_where_every_detail_was_changed_nothing_is_disclosed(here: Scene) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator, fields=("disposal",))
        rewritten(operator, disposal="pending")
        await here.adapter.refresh_gallery()
        await here.adapter.second_step.deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, "DISCLOSURE_DENIED")


async def test_what_was_shown_is_kept_as_digests_and_goes_with_the_decision(here: Scene) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator, fields=("disposal",))
        kept = here.adapter.second_step.asking.releases
        before = kept.of(asking.digest)
        assert before is not None
        assert before.shown is not None
        assert {code: len(digest) for code, digest in before.shown.items()} == {"disposal": 32}
        await here.adapter.second_step.deciding.settle()
        after = kept.of(asking.digest)
    assert after is not None
    assert after.shown is None
    assert (await step.details(asking)).fields


# --- an id that names somebody else -----------------------------------------------------------


@pytest.mark.parametrize(
    "changed", [{"date_of_birth": "1955-01-01"}, {"captured_on": "2021-06-01"}]
)
async def test_the_details_of_another_record_under_the_id_are_not_disclosed(
    here: Scene, changed: dict[str, str]
) -> None:
    async with people_at(here) as operator:
        step, asking = await details_released_by_one(here, operator, fields=("reference",))
        rewritten(operator, **changed)
        await here.adapter.refresh_gallery()
        await here.adapter.second_step.deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, "DISCLOSURE_DENIED")


async def test_a_held_answer_loses_nobody_to_a_correction(here: Scene) -> None:
    """It names nobody; what would name another person by now is refused later."""
    async with people_at(here) as operator:
        waits = await released_by_one(here, operator)
        rewritten(operator, date_of_birth="1955-01-01")
        await here.adapter.refresh_gallery()
        await here.adapter.deciding.settle()
    report = await waits.report()
    listed = here.adapter.state.resolve(search_id=waits.papers.search_id)
    assert {one.reference for one in report.candidates} == {one.reference for _, one in listed}
    assert "left_out" not in entries(here.adapter)[-1]


async def test_no_image_is_sent_of_another_record_under_the_id(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gallery(tmp_path / "gallery")
    images = tmp_path / "images"
    images.mkdir()
    (images / f"{MATE}.png").write_bytes(PNG)
    places = {"gallery": str(tmp_path / "gallery"), "images_dir": images}
    async with scene(world, tmp_path, monkeypatch, **places) as here:
        step = await searched(here)
        (image, *_) = await step.images(await step.image_request())
        assert image.sealed_image
        async with people_at(here) as operator:
            rewritten(operator, family_name="Corrected")
            await here.adapter.refresh_gallery()
            (image, *_) = await step.images(await step.image_request())
            assert image.sealed_image
            rewritten(operator, date_of_birth="1955-01-01")
            await here.adapter.refresh_gallery()
        (image, *_) = await step.images(await step.image_request())
        assert not image.sealed_image


# --- many requests ----------------------------------------------------------------------------


async def test_about_one_candidate_no_more_than_so_many_requests_wait(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(world, tmp_path, monkeypatch, max_requests_per_candidate=2) as here:
        step = await searched(here)
        reviews = await step.reviews()
        first, second, third = [await step.asking(reviews) for _ in range(3)]
        await step.ask(first)
        await step.ask(second)
        await step.refused(third, Reason.DISCLOSURE_PENDING)
        await step.ask(first)  # it is there already
        await step.ask(await step.asking(reviews, reference=step.references[1]))
        async with people_at(here) as operator:
            people = ReleaseInbox.of(operator)
            deed = people.refuse(first.said.request_id, reviewer="R-1", reasons="Not needed.")
            refusing = asyncio.create_task(deed)
            await until(lambda: bool(people.releases.reviewed()))
            await here.adapter.second_step.deciding.settle()
            await refusing
        await step.ask(third)


async def test_a_turn_reads_only_requests_that_somebody_decided_about(here: Scene) -> None:
    deciding = here.adapter.second_step.deciding
    other = await searched(here)
    unread = await other.asking()
    await other.ask(unread)
    await deciding.settle()  # the first turn looks at all of them
    spoilt = update(releases).where(releases.c.request_sha256 == unread.digest)
    with here.adapter.state.engine.begin() as connection:
        connection.execute(spoilt.values(request=b"not to be read"))
    step = await searched(here)
    asking = await step.asking()
    await step.ask(asking)
    async with people_at(here) as operator:
        await operator.log(
            "release.released",
            {"reviewer": "R-1", "reasons": "Needed."},
            search_id=step.report.search_id,
            request_sha256=asking.digest.hex(),
        )
    await deciding.settle()
    assert (await step.details(asking)).fields


async def test_a_revocation_that_comes_later_refuses_what_nobody_has_decided_about(
    here: Scene,
) -> None:
    deciding = here.adapter.second_step.deciding
    step = await searched(here)
    asking = await step.asking()
    await step.ask(asking)
    for _ in range(2):
        await deciding.settle()
    await step.send("Notify", await step.notice(step.revocation(reviewer(2))))
    await deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, "REVIEWER_REVOKED")
