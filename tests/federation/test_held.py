"""A held answer end to end: real adapter, broker and force; processes die and nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.verify import verify_folder
from deploy.local.demo import LOGS
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from deploy.local.setting_up import set_up, sign_agreements
from force_client import ForceClient, SearchView, save_evidence, verify_evidence
from tests.forces import Sent, probegate, search, settings_of
from tests.world import edit_agreement
from trust.ceremony import Scheme
from trust.clock import utc_now
from trust.errors import Reason
from trust.messages import OWNER_REFUSED, OutcomeState

ROWS = 300
PASSPORT = "passport"
WAIT_S = 90.0
"""How long a decision may take to reach the force, seconds; none gets near it."""


def _held_by_two(agreement: dict[str, Any]) -> None:
    """Let passports answer without other galleries' answers, and only by a person's hand."""
    for part in ("answered_first", "urgent"):
        agreement.pop(part)
    agreement["obligations"]["release_by_human"] = True


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("held") / "demo")
    set_up(place, rows=ROWS, say=lambda _what: None)
    edit_agreement(place.agreements / PASSPORT / f"{PASSPORT}.yaml", _held_by_two)
    sign_agreements(place, Scheme.open(place.scheme))
    return place


@pytest.fixture(scope="module")
def processes(here: Place) -> Iterator[Processes]:
    running = Processes(here)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBEGATE_BROKER_HELD_FIRST_S", "0.2")
        patch.setenv("PROBEGATE_BROKER_HELD_LONGEST_S", "0.5")
        patch.setenv("PROBEGATE_BROKER_HELD_POLL_S", "0.1")
        running.start((PASSPORT, BROKER))
        yield running
    running.stop((BROKER, PASSPORT))


def people(here: Place, *words: object, status: int = 0) -> Any:
    """Run a command of the passport agency's own people."""
    ended = probegate("adapter", *words, "--config", here.config(PASSPORT), "--json")
    assert ended.returncode == status, ended.stderr
    return json.loads(ended.stdout) if status == 0 else ended.stderr


def held(client: ForceClient, here: Place) -> Sent:
    sent = search(client, here, agencies=(PASSPORT,))
    assert state(sent.view) is OutcomeState.HELD
    assert not sent.view.complete
    return sent


def state(view: SearchView) -> OutcomeState:
    return view.outcomes[0].state


def decided(client: ForceClient, search_id: str) -> SearchView:
    """Return the search once it is complete."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        view = client.get(search_id)
        if state(view) is not OutcomeState.HELD:
            return view
        time.sleep(0.2)
    raise AssertionError("the decision has not come")


def test_two_reviewers_release_a_passport_answer_over_two_crashes(
    here: Place, processes: Processes, tmp_path: Path
) -> None:
    with ForceClient(settings_of(here)) as client:
        sent = held(client, here)
        search_id = sent.view.search_id
        (listed,) = people(here, "inbox")
        assert (listed["search_id"], listed["needed"], listed["released_by"]) == (search_id, 2, 0)
        assert listed["candidates"] == 1
        one = ("release", search_id, "--reviewer", "P-114", "--reference", "HMPO/1")
        assert people(here, *one)["decided"] is None
        assert Reason.RELEASE_INVALID.name in people(here, *one, status=1)
        processes.kill(BROKER)
        processes.kill(PASSPORT)
        two = ("release", search_id, "--reviewer", "P-209", "--reference", "HMPO/2")
        done = people(here, *two)
        assert (done["decided"], done["reported"]) == ("released", False)
        processes.start((PASSPORT, BROKER))
        view = decided(client, search_id)
        assert state(view) is OutcomeState.CANDIDATES
        assert view.verified
        assert view.complete
        assert view.revision == 1
        (outcome,) = view.outcomes
        assert outcome.released
        assert len(outcome.candidates) == 1
        save_evidence(tmp_path / "evidence", view, sent.prepared.order)
        again = verify_evidence(tmp_path / "evidence", client.directory, BROKER, utc_now())
        assert again.candidates == view.candidates
        assert people(here, "inbox") == []
    told = probegate(  # as docs/inspecting.md asks it
        *("audit", "search", "--config", here.config(PASSPORT), "--of", "adapter"),
        *("--log", "admin", "--purpose", "lawfulness", "--type", "held.released"),
    )
    assert told.returncode == 0, told.stderr
    assert "P-114" in told.stdout
    assert "P-209" in told.stdout


def test_a_refusal_reaches_the_force_as_the_owners_denial(
    here: Place, processes: Processes
) -> None:
    processes.start((PASSPORT, BROKER))
    with ForceClient(settings_of(here)) as client:
        sent = held(client, here)
        words = ("--reviewer", "P-114", "--reasons", "The offence does not warrant it.")
        done = people(here, "refuse", sent.view.search_id, *words)
        assert (done["decided"], done["reported"]) == ("refused", True)
        view = decided(client, sent.view.search_id)
        (outcome,) = view.outcomes
        assert (outcome.state, outcome.reason) == (OutcomeState.DENIED, OWNER_REFUSED)
        assert outcome.decided_by == "agency"
        assert outcome.candidates == ()
        assert view.complete
    for member in (PASSPORT, BROKER):
        for log in LOGS:
            assert verify_folder(here.logs(member) / log).ok
