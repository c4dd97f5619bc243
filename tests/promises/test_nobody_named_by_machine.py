"""Promise 4: nobody is named by a machine. Every way to learn a name early, and where it ends.

At the broker a force tries it; at the agency a broker that owns a real log tries it; at the force
a broker and an agency that lie do. What is refused is refused with its catalogued reason, and is on
the log of whoever refused. At last the whole way is gone in real processes, and the broker's memory
and disk are searched for the names that went past it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from probegate.broker.v1 import disclosure_service_pb2 as pb

from audit.reader import LogReader
from deploy.local.demo import LOGS, OFFICER
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from deploy.local.second_step import (
    EXAMINERS,
    FACTS,
    REFUSES,
    RELEASES,
    SecondStep,
    Step,
    passed,
)
from deploy.local.setting_up import set_up
from force_client import AsyncForceClient
from tests.adapters import Scene, make_world, scene
from tests.memory import Secrets, files_under, leaks, memory_of
from tests.release_peers import Owner, SimulatedOwner
from tests.second_steps import ONE, TWO, Case, Office, opened, refused
from tests.second_steps import searched as searched_at_broker
from tests.unit import force_second_peer as peer
from tests.unit.adapters_kit import make_gallery
from tests.unit.second_kit import client, kept_files, refusal, running, second
from tests.unit.second_step_kit import Step as AgencyStep
from tests.unit.second_step_kit import reviewer, three_candidates
from tests.unit.second_step_kit import searched as searched_at_agency
from tests.world import AUTHORISER as AUTHORISING
from tests.world import OFFICER as SEARCHING
from tests.world import World
from trust.errors import Reason
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import ReleaseState
from trust.tokens import Part

__all__ = ["client", "running", "second"]
ROWS = 400
OTHER_FORCE = "southmere"

# --- at the broker: a force that is in a hurry ---------------------------------------------------


@pytest.fixture
async def office(world: World) -> AsyncIterator[Office]:
    async with opened(world) as made:
        yield made


@pytest.fixture
async def case(office: Office) -> Case:
    return await searched_at_broker(office)


def on_the_log(office: Office, kind: str, reason: Reason) -> None:
    """Assert that the newest refusal of a kind on the broker's log is this one."""
    assert office.entries(kind)[-1]["reason"] == reason.name


async def digests_of(case: Case, *people: Person) -> tuple[bytes, ...]:
    """Let people review, and return the digests of what they found at custody."""
    digests = []
    for one in people:
        recorded = case.office.proved((await case.review(one)).receipt)
        digests.append(bytes.fromhex(recorded["reviews"]["custody"]))
    return tuple(digests)


async def test_one_opinion_names_nobody(case: Case) -> None:
    (digest,) = await digests_of(case, ONE)
    said = await case.disclosure(review_sha256s=(digest, bytes(32)))
    assert (await refused(case.ask(said))).reason is Reason.REVIEW_MISSING
    on_the_log(case.office, "disclosure.refused", Reason.REVIEW_MISSING)


@pytest.mark.parametrize("spelt", ["reviewer-0001", "REVIEWER-0001"])
async def test_one_person_is_not_two_however_they_are_spelt(case: Case, spelt: str) -> None:
    await case.review(ONE)
    again = ONE.model_copy(update={"id": spelt})
    assert (await refused(case.review(again))).reason is Reason.REVIEW_NOT_INDEPENDENT
    on_the_log(case.office, "review.refused", Reason.REVIEW_NOT_INDEPENDENT)


@pytest.mark.parametrize("person", [SEARCHING, AUTHORISING], ids=["officer", "authoriser"])
async def test_who_searched_or_let_it_be_searched_does_not_review(
    case: Case, person: Person
) -> None:
    posing = ONE.model_copy(update={"id": person.id})
    assert (await refused(case.review(posing))).reason is Reason.REVIEW_NOT_INDEPENDENT
    on_the_log(case.office, "review.refused", Reason.REVIEW_NOT_INDEPENDENT)


async def test_a_revoked_reviewers_opinion_names_nobody(case: Case) -> None:
    digests = await digests_of(case, ONE, TWO)
    await case.revoke(TWO)
    said = await case.disclosure(review_sha256s=digests)
    reason = (await refused(case.ask(said))).reason
    assert reason in {Reason.REVIEWER_REVOKED, Reason.REVIEW_MISSING}
    on_the_log(case.office, "disclosure.refused", reason)


async def test_another_force_learns_nothing_of_what_was_released(case: Case) -> None:
    await case.settled()
    office, released = case.office, await case.released()
    assert (await case.read(released)).state == pb.DISCLOSURE_STATE_RELEASED
    for request_id in (released, "4fa3c1de-0000-4000-8000-000000000001"):
        error = await refused(case.read(request_id, OTHER_FORCE))
        assert error.reason is Reason.NOT_FOUND  # alike for what there is and what there is not
    theirs = (await case.disclosure()).model_copy(update={"force": OTHER_FORCE})
    asking = case.asking(theirs, OTHER_FORCE)
    error = await refused(office.call("RequestDisclosure", asking, OTHER_FORCE))
    assert error.reason is Reason.NOT_FOUND
    on_the_log(office, "disclosure.refused", Reason.NOT_FOUND)


async def test_an_agency_that_replays_a_release_is_not_believed(case: Case) -> None:
    await case.settled()
    office, record = case.office, await case.ask()
    owner: SimulatedOwner = office.owners["custody"]
    owner.knobs.owner = Owner.REPLAYED
    await office.work()
    office.ahead(seconds=6)
    await office.work()
    read = await case.read(record.request_id)
    assert (read.state, read.sealed_disclosure) == (pb.DISCLOSURE_STATE_WAITING, b"")
    assert office.entries("disclosure.disbelieved")[-1]["reason"] in Reason.__members__
    assert not office.entries("disclosure.decided")


async def test_a_release_past_its_end_is_handed_to_nobody(case: Case) -> None:
    await case.settled()
    office, request_id = case.office, await case.released()
    assert (await case.read(request_id)).sealed_disclosure
    office.ahead(days=400)
    for _ in range(2):
        read = await case.read(request_id)
        assert (read.sealed_disclosure, read.reason) == (b"", Reason.RELEASE_EXPIRED.name)
        await office.work()
    on_the_log(office, "disclosure.withheld", Reason.RELEASE_EXPIRED)
    assert len(office.entries("disclosure.withheld")) == 1


@pytest.mark.parametrize("fetched", [False, True])
async def test_a_release_on_a_revoked_reviewers_opinion_is_handed_to_nobody(
    case: Case, *, fetched: bool
) -> None:
    await case.settled()
    office, request_id = case.office, await case.released()
    if fetched:
        assert (await case.read(request_id)).sealed_disclosure
    await case.revoke(TWO)
    for _ in range(2):
        read = await case.read(request_id)
        assert (read.sealed_disclosure, read.reason) == (b"", Reason.REVIEWER_REVOKED.name)
    on_the_log(office, "disclosure.withheld", Reason.REVIEWER_REVOKED)
    assert len(office.entries("disclosure.withheld")) == 1
    assert len(office.entries("disclosure.delivered")) == fetched


# --- at the agency: a broker that lies, with a real log of its own -------------------------------


@pytest.fixture(scope="module")
def agency_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("agency"), three_candidates)


@pytest.fixture
async def here(
    agency_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    make_gallery(tmp_path / "gallery")
    async with scene(
        agency_world, tmp_path, monkeypatch, gallery=str(tmp_path / "gallery")
    ) as made:
        yield made


@pytest.fixture
async def step(here: Scene) -> AgencyStep:
    return await searched_at_agency(here)


async def test_the_agency_takes_in_what_is_in_order(step: AgencyStep) -> None:
    assert (await step.ask(await step.asking())).HasField("decide_by")


async def test_a_broker_cannot_invent_a_request(step: AgencyStep) -> None:
    for signer in ("broker", OTHER_FORCE):
        await step.refused(await step.asking(by=signer), Reason.KEY_UNKNOWN)


async def test_a_broker_cannot_invent_a_review(step: AgencyStep) -> None:
    invented = await step.review(reviewer(2), by="broker")
    asking = await step.asking([await step.review(reviewer(1)), invented])
    await step.refused(asking, Reason.KEY_UNKNOWN)


async def test_a_force_and_a_broker_together_cannot_invent_a_reviewer(step: AgencyStep) -> None:
    """Both sign whatever they like; only the force's identity provider vouches for people."""
    real, invented = reviewer(1), reviewer(99)
    token = step.token(real, Part.REVIEWER)
    asking = await step.asking([await step.review(real), await step.review(invented, token=token)])
    await step.refused(asking, Reason.OFFICER_TOKEN_INVALID)


async def test_the_agency_counts_people_by_itself(step: AgencyStep) -> None:
    one = await step.review(reviewer(1))
    again = await step.review(reviewer(1, id="REVIEWER-1"))
    await step.refused(await step.asking([one, again]), Reason.REVIEW_NOT_INDEPENDENT)
    officer = await step.review(reviewer(2, id=SEARCHING.id))
    await step.refused(await step.asking([one, officer]), Reason.REVIEW_NOT_INDEPENDENT)


async def test_a_review_that_was_never_recorded_counts_nowhere(step: AgencyStep) -> None:
    hidden = await step.review(reviewer(2), log=False)
    asking = await step.asking([await step.review(reviewer(1)), hidden])
    await step.refused(asking, Reason.LOG_PROOF_INVALID)


async def test_a_reviewer_who_is_revoked_while_it_waits_ends_it(step: AgencyStep) -> None:
    asking = await step.asking()
    await step.ask(asking)
    await step.send("Notify", await step.notice(step.revocation(reviewer(2))))
    await step.here.adapter.second_step.deciding.settle()
    said = await step.decision(asking)
    assert (said.state, said.reason) == (ReleaseState.REFUSED, Reason.REVIEWER_REVOKED.name)
    assert not (await step.became(asking)).sealed_disclosure


async def test_a_revocation_cannot_be_kept_from_the_agency_by_showing_an_older_one(
    step: AgencyStep,
) -> None:
    told = step.signed(step.revocation(reviewer(2)), PayloadType.REVIEWER_REVOCATION)
    await step.refused(await step.asking(revocations=[told]), Reason.REVIEWER_REVOKED)


# --- at the force: a broker and an agency that lie -----------------------------------------------


@pytest.mark.parametrize("signer", ["broker", "northshire", "pnd"])
async def test_a_forged_release_opens_nothing(
    client: AsyncForceClient,
    running: peer.RunningSecondPeer,
    second: peer.SecondPeer,
    signer: str,
) -> None:
    view = await peer.asked(client, running)
    second.signers |= {"decision": signer}
    second.release(view.request_id)
    with refusal(Reason.RESULT_INVALID):
        await client.open_disclosure(view.request_id)
    assert [one for one in kept_files(client, "disclosures") if ".request." not in one.name] == []


async def test_details_that_the_broker_sealed_itself_are_not_opened(
    client: AsyncForceClient, running: peer.RunningSecondPeer, second: peer.SecondPeer
) -> None:
    view = await peer.asked(client, running)
    second.signers |= {"details": "broker"}
    second.release(view.request_id)
    with refusal(Reason.RESULT_INVALID):
        await client.open_disclosure(view.request_id)


async def test_an_expired_release_is_not_opened(
    client: AsyncForceClient, running: peer.RunningSecondPeer, second: peer.SecondPeer
) -> None:
    view = await peer.asked(client, running)
    second.release(view.request_id, opens_for=timedelta(microseconds=1))
    with refusal(Reason.RELEASE_EXPIRED):
        await client.open_disclosure(view.request_id)


# --- the whole way, and what the broker has of it --------------------------------------------


@pytest.fixture(scope="module")
def went(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Processes, list[Step]]]:
    """A federation of real processes in which the demonstration's second step was gone."""
    place = Place(tmp_path_factory.mktemp("named") / "demo")
    set_up(place, rows=ROWS, say=lambda _what: None)
    processes = Processes(place)
    processes.start((BROKER, RELEASES, REFUSES))
    steps: list[Step] = []
    SecondStep(place, processes, steps.append).run()
    yield place, processes, steps
    processes.stop((BROKER, RELEASES, REFUSES))


def test_each_way_round_fails_and_the_right_way_leads_there_and_back(
    went: tuple[Place, Processes, list[Step]],
) -> None:
    steps = went[2]
    assert passed(tuple(steps)), [step for step in steps if not step.as_it_should_be]
    came = [step.came for step in steps]
    assert {"REVIEW_MISSING", "REVIEW_NOT_INDEPENDENT", "STOP_USE", "released"} <= set(came)


def test_what_failed_is_on_the_brokers_log(went: tuple[Place, Processes, list[Step]]) -> None:
    facts = [said for _, said in LogReader(went[0].logs(BROKER) / "search").facts()]
    refusals = [one["reason"] for one in facts if str(one["type"]).endswith(".refused")]
    # The examiner who came again. The officer's own client does not let them sit down.
    assert refusals == ["REVIEW_NOT_INDEPENDENT"]
    decided = {one["state"] for one in facts if one["type"] == "disclosure.decided"}
    assert decided == {"refused", "released"}


def secrets_of(place: Place) -> Secrets:
    """The planted person's details at both owners, their pictures, and the facts of the request."""
    secrets = Secrets()
    truth = json.loads(place.truth.read_text())["suspect-good"]
    for agency in (RELEASES, REFUSES):
        records = set(truth[agency])
        with (place.sources / agency / "records.csv").open() as rows:
            for row in csv.DictReader(rows):
                if row["record_id"] in records:
                    names = (row["family_name"], row["given_names"], row["date_of_birth"])
                    secrets.add_words(f"{agency}'s record", names)
        for record in records:
            picture = (place.images(agency) / f"{record}.png").read_bytes()
            secrets.add_binary(f"{agency}'s picture", picture[64:])
    secrets.add_binary("the probe's picture", (place.probes / "suspect-good.png").read_bytes()[64:])
    secrets.add_words("the facts", [FACTS])
    return secrets


def test_the_broker_saw_no_face_no_name_and_no_facts(
    went: tuple[Place, Processes, list[Step]],
) -> None:
    place, processes, _ = went
    pid = processes.pid(BROKER)
    assert pid is not None
    places = {
        "memory": memory_of(pid),
        "state": files_under(place.state(BROKER)),
        "logs": files_under(place.logs(BROKER)),
        "output": [place.output(BROKER).read_bytes()],
    }
    assert leaks(secrets_of(place), places) == {}


def test_the_scanner_finds_them_where_they_are(
    went: tuple[Place, Processes, list[Step]],
) -> None:
    place = went[0]
    everywhere = files_under(place.sources, place.images(RELEASES), place.probes)
    found = secrets_of(place).found_in(everywhere)
    assert "custody's picture" in found
    assert "the probe's picture" in found
    assert any("'s record" in name for name in found)


def test_no_log_says_who_reviewed_or_decided_or_was_named(
    went: tuple[Place, Processes, list[Step]],
) -> None:
    place = went[0]
    secrets = secrets_of(place)
    secrets.add_words("a person", (*EXAMINERS, OFFICER, "custody-custodian-1", "records-office"))
    for member in (BROKER, RELEASES, REFUSES):
        leaves = [leaf for log in LOGS for _, leaf in LogReader(place.logs(member) / log).leaves()]
        assert leaks(secrets, {"leaves": leaves, "files": files_under(place.logs(member))}) == {}
