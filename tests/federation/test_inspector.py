"""Questions an inspector asks, each answered by one command over a federation that searched.

The page that lists them is ``docs/inspecting.md``; the commands here are the ones it gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.reader import LogReader
from audit.verify import verify_folder
from deploy.local.demo import FORCE, OFFICER
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from deploy.local.second_step import EXAMINERS, SecondStep, Step
from deploy.local.setting_up import set_up
from tests.forces import facts_options, probegate

ROWS = 200
ASKED = ("custody", "pnd")
PUBLISHED_S = 1.0
"""Longer than a log's files are behind its database, seconds."""
CASE = "NS/2026/INSPECTED/1"
COLUMNS = 80


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A federation of its own: nobody else's attacks are on its logs."""
    place = Place(tmp_path_factory.mktemp("inspected") / "demo")
    set_up(place, rows=ROWS, say=lambda _what: None)
    running = Processes(place)
    running.start((*ASKED, BROKER))
    yield place
    running.stop((BROKER, *ASKED))


def said(*words: object, status: int = 0) -> str:
    ended = probegate(*words)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    assert max((len(line) for line in ended.stdout.splitlines()), default=0) <= COLUMNS
    return ended.stdout


def document(*words: object, status: int = 0) -> Any:
    ended = probegate(*words, "--json")
    assert ended.returncode == status, ended.stderr
    return json.loads(ended.stdout)


def lines(*words: object) -> list[dict[str, Any]]:
    ended = probegate(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def search(here: Place) -> dict[str, Any]:
    """One search of three agencies: two answer, the third denies it at the broker."""
    probe = here.probes / "suspect-good.npy"
    options = facts_options(here, (*ASKED, "nhs"), case=CASE)
    found: dict[str, Any] = document("search", "--probe", probe, *options)
    time.sleep(PUBLISHED_S)
    return found


def own(here: Place) -> list[object]:
    """The options that read the broker's values."""
    return ["--config", here.config(BROKER), "--purpose", "lawfulness"]


def both_sides(here: Place) -> list[object]:
    return [f"--agency={agency}={here.logs(agency) / 'search'}" for agency in ASKED]


def test_who_searched_without_the_authority_that_the_agreement_requires(
    here: Place, search: dict[str, Any]
) -> None:
    outcome = next(one for one in search["outcomes"] if one["agency"] == "nhs")
    clause = outcome["failed_clauses"][0]
    (found,) = lines("audit", "search", *own(here), "--agency", "nhs", "--clause", clause)
    assert found["values"]["officer"]["id"] == OFFICER
    assert found["values"]["authoriser"]["rank"]
    assert found["entry"]["force"] == FORCE
    assert OFFICER in said("audit", "search", *own(here), "--clause", clause)


def test_was_it_on_the_record_before_it_ran(here: Place, search: dict[str, Any]) -> None:
    words = ("audit", "trace", search["search_id"], "--broker", here.logs(BROKER) / "search")
    found = document(*words, *both_sides(here))
    judged = {one["agency"]: one["recorded"] for one in found["agencies"]}
    assert judged == {"custody": "before", "pnd": "before", "nhs": "no_log"}
    assert "recorded before it" in said(*words, *both_sides(here))


def test_what_became_of_the_search_at_every_agency_those_that_did_not_answer_included(
    here: Place, search: dict[str, Any]
) -> None:
    (found,) = lines("audit", "search", *own(here), "--case", CASE)
    words = ("audit", "trace", found["entry"]["search_id"])
    traced = document(*words, "--broker", here.logs(BROKER) / "search")
    states = {one["agency"]: (one["permitted"], one["state"]) for one in traced["agencies"]}
    expected = {one["agency"]: one["state"] for one in search["outcomes"]}
    assert {agency: state for agency, (_, state) in states.items()} == expected
    assert states["nhs"] == (False, "denied")


def test_a_case_is_exported_as_evidence_that_stands_on_its_own(
    here: Place, search: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "case.json"
    made = document("audit", "export", out, *own(here), "--case", CASE)
    assert made["searches"] == [search["search_id"]]
    assert (made["entries"], made["documents"]) == (2, 4)  # order, two reports, result
    assert out.stat().st_mode & 0o077 == 0
    key = ("--vkey", here.vkey(BROKER, "search"))
    assert document("audit", "verify-export", out, *key) == made
    assert "Everything verifies" in said("audit", "verify-export", out, *key)
    bundle = json.loads(out.read_text())
    reports = [one for one in bundle["documents"] if one["kind"] == "report"]
    assert {one["agency"] for one in reports} == set(ASKED)
    # Any value, proof or document that is changed, added or taken from an entry is noticed.
    spoilers: list[Callable[[Any], Any]] = [
        lambda b: b["entries"][0]["values"]["officer"].update(value="e30="),
        lambda b: b["entries"][0]["values"].pop("officer"),
        lambda b: b["entries"][1].update(leaf=b["entries"][0]["leaf"]),
        lambda b: b["documents"][1]["envelope"].update(payload="e30="),
        lambda b: b["entries"][0].update(proof=b["entries"][1]["proof"]),
        lambda b: b.update(extra=1),
    ]
    for spoil in spoilers:
        spoiled = json.loads(out.read_text())
        spoil(spoiled)
        bad = tmp_path / "bad.json"
        bad.write_text(json.dumps(spoiled))
        refused = probegate("audit", "verify-export", bad, *key)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
    other = ("--vkey", here.vkey(BROKER, "admin"))
    assert probegate("audit", "verify-export", out, *other).returncode == 1


def test_which_searches_returned_this_record_and_who_saw_it(
    here: Place, search: dict[str, Any]
) -> None:
    config = ("--config", here.config("custody"))
    resolved = document("adapter", "resolve", "--search", search["search_id"], *config)
    record = resolved[0]["record_id"]
    time.sleep(PUBLISHED_S)
    words = ("audit", "subject", record, *config, "--purpose", "lawfulness")
    (found,) = document(*words, "--broker", here.logs(BROKER) / "search")
    assert (found["search_id"], found["force"]) == (search["search_id"], FORCE)
    assert [one["state"] for one in found["reports"]] == ["candidates"]
    assert [one["type"] for one in found["seen"]] == ["candidates.resolved"]
    assert search["search_id"] in said(*words)
    assert document("audit", "subject", "nobody", *words[3:]) == []
    time.sleep(PUBLISHED_S)
    *_, last = [one for _, one in LogReader(here.logs("custody") / "admin").facts()]
    assert (last["type"], last["purpose"]) == ("subject.read", "lawfulness")
    assert "record" in last["commitments"]  # type: ignore[operator]


def test_would_the_policy_decide_the_same_again(here: Place, search: dict[str, Any]) -> None:
    found = document("policy", "simulate", "--config", here.config(BROKER))
    assert found["differing"] == 0


def test_do_the_logs_agree_and_was_silence_ever_taken_for_an_answer(
    here: Place, search: dict[str, Any]
) -> None:
    words = ("audit", "reconcile", here.logs(BROKER) / "search", *both_sides(here))
    found = document(*words)
    assert found["ok"]
    assert found["counts"] == {}
    assert found["agreed"] == found["searches"] * len(ASKED)
    assert "The logs agree." in said(*words)


def test_what_was_erased_when_and_on_whose_authority(here: Place) -> None:
    probe = here.probes / "suspect-fair.npy"
    options = facts_options(here, ("custody",), case="NS/2026/ERASED/1")
    made = document("search", "--probe", probe, *options)
    time.sleep(PUBLISHED_S)
    config = ("--config", here.config(BROKER))
    authority = ("--authority", "DPO/2026/3")
    done = document("audit", "erase", "--search", made["search_id"], *config, *authority)
    time.sleep(PUBLISHED_S)
    (found,) = lines("audit", "search", here.logs(BROKER) / "admin", "--type", "values.erased")
    assert found["index"] == done["admin_entries"][0]
    assert found["entry"]["authority"] == "DPO/2026/3"
    shown = said("audit", "search", *own(here), "--search", made["search_id"])
    assert "under DPO/2026/3" in " ".join(shown.split())
    for folder in here.logs(BROKER).iterdir():
        assert verify_folder(folder).ok


def test_who_read_the_log_and_what_for(here: Place) -> None:
    lines("audit", "search", *own(here), "--case", "NS/2026/NONE/1")
    time.sleep(PUBLISHED_S)
    words = ("audit", "search", here.logs(BROKER) / "admin", "--type", "log.read")
    read = lines(*words)
    assert {one["entry"]["purpose"] for one in read} == {"lawfulness"}
    assert {one["entry"]["reader"] for one in read} == {BROKER}
    assert "purpose: lawfulness" in said(*words)


@pytest.fixture(scope="module")
def followed(here: Place) -> str:
    """A search that was reviewed, disclosed by one owner, refused by another, and recalled."""
    steps: list[Step] = []
    SecondStep(here, Processes(here), steps.append).run()
    assert all(step.as_it_should_be for step in steps)
    time.sleep(PUBLISHED_S)
    found = [one for _, one in LogReader(here.logs(BROKER) / "search").facts()]
    return str(next(one["search_id"] for one in found if one["type"] == "review.settled"))


def test_did_two_people_review_before_details_were_asked_for_and_did_the_owner_decide(
    here: Place, followed: str
) -> None:
    words = ("audit", "trace", followed, "--broker", here.logs(BROKER) / "search")
    traced = document(*words, *both_sides(here))
    asked = {one["agency"]: one for one in traced["requests"] if one["entry"] is not None}
    assert {agency: one["state"] for agency, one in asked.items()} == {
        "custody": "released",
        "pnd": "refused",
    }
    for one in asked.values():
        first, second = one["reviews"]
        assert first < second < one["entry"] < one["decided"]
        assert one["agency_entry"] is not None
        assert one["faults"] == []
    shown = said(*words, *both_sides(here))
    assert "released" in shown
    assert "NOT IN ORDER" not in shown
    reviewed = lines(
        "audit", "search", *own(here), "--search", followed, "--type", "review.recorded"
    )
    people = {one["values"]["reviewer"]["id"] for one in reviewed}
    assert people == set(EXAMINERS)


def test_the_logs_agree_on_what_followed_and_the_statistics_count_it(
    here: Place, followed: str
) -> None:
    assert followed
    words = ("audit", "reconcile", here.logs(BROKER) / "search", *both_sides(here))
    found = document(*words)
    assert (found["ok"], found["followed"]) == (True, [])
    counted = document("audit", "stats", here.logs(BROKER) / "search", "--suppress-below", "0")
    assert {"reviews", "disclosures", "wrong"} <= {table["name"] for table in counted["tables"]}
