"""A force's second step against a real broker and real adapters: review to recall."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic, sleep

import pytest

from deploy.local.demo import AUTHORISER, FORCE, OFFICER
from deploy.local.place import Place
from deploy.local.processes import Processes
from force_client import (
    CorroborationKind,
    DisclosureState,
    ForceClient,
    Opinion,
    Part,
    ProbegateError,
    Reason,
    RecallView,
)
from tests.forces import probegate, search, settings_of

RECALLED_S = 60.0
"""How long a recall may take to the force, seconds."""


def _reviewers(client: ForceClient) -> list[str]:
    return [
        one
        for one, record in client.officers.by_id.items()
        if record.accreditation.startswith("facial-examination")
    ]


def _recalls(client: ForceClient) -> list[RecallView]:
    """Wait for the broker to have collected them."""
    until = monotonic() + RECALLED_S
    while not (found := list(client.recalls())) and monotonic() < until:
        sleep(0.5)
    return found


def test_from_review_to_recall(federation: Processes, place: Place, tmp_path: Path) -> None:
    probe_image = place.probes / "suspect-good.png"
    with ForceClient(settings_of(place)) as client:
        sent = search(client, place, agencies=("custody", "pnd"))
        view = sent.view
        best = next(c for c in view.candidates if c.agency == "custody")
        reviewers = _reviewers(client)
        for reviewer in reviewers[:2]:
            with client.review(
                view.search_id,
                reviewer=client.officers.person(reviewer, option="reviewer"),
                reviewer_token=client.issue_token(reviewer, Part.REVIEWER),
                probe_image=probe_image,
            ) as sitting:
                for one in sitting.candidates:
                    image = sitting.look(one)
                    seat = next(s for s in sitting._sitting.seats if s.candidate == one)
                    same = (seat.agency, seat.reference) == (best.agency, best.reference)
                    opinion = Opinion.INCONCLUSIVE if image is None else Opinion.NO_CANDIDATE
                    if same:
                        assert image is not None
                        opinion = Opinion.POTENTIAL_CANDIDATE
                    sitting.record(one, opinion, reasons="Ears and hairline, as far as they show.")
                status = sitting.submit()
        assert not status.open
        officer = client.officers.person(OFFICER, option="officer")
        asked = client.request_disclosure(
            view.search_id,
            best.agency,
            best.reference,
            requester=officer,
            requester_token=client.issue_token(OFFICER, Part.OFFICER),
            facts="A robbery; the face is that of whoever held the weapon.",
            fields=("family_name", "given_names", "date_of_birth"),
        )
        config = place.config("custody")
        done = probegate(
            *("adapter", "releases", "release", asked.request_id, "--config", config),
            *("--reviewer", "custody-owner", "--reasons", "In order."),
        )
        assert done.returncode == 0, done.stderr
        states = [one.state for one in client.await_disclosure(asked.request_id, 60)]
        assert states[-1] is DisclosureState.RELEASED
        opened = client.open_disclosure(asked.request_id)
        assert {one.name for one in opened.details.fields} <= set(asked.request.fields)
        client.corroborate(
            view.search_id,
            best.agency,
            best.reference,
            kind=CorroborationKind.WITNESS,
            case_material="statement 12",
            person=officer,
            person_token=client.issue_token(OFFICER, Part.OFFICER),
        )
        client.export(asked.request_id, tmp_path / "lead.json")
        assert json.loads((tmp_path / "lead.json").read_text())["details"]
        client.report_wrong_match(
            view.search_id,
            best.agency,
            best.reference,
            reporter=officer,
            reporter_token=client.issue_token(OFFICER, Part.OFFICER),
            reasons="He was in prison on the day.",
        )
        assert [one.request_id for one in client.disclosures(view.search_id)] == [asked.request_id]
        done = probegate(
            *("adapter", "recall", "--config", config, "--reference", best.reference),
            *(
                "--reason",
                "wrong_match",
                "--notice",
                "Another person.",
                "--person",
                "custody-owner",
            ),
        )
        assert done.returncode == 0, done.stderr
        (recalled,) = _recalls(client)
        assert (recalled.recall.agency, recalled.recall.reference) == ("custody", best.reference)
        for refused in (
            lambda: client.open_disclosure(asked.request_id),
            lambda: client.export(asked.request_id, tmp_path / "again.json"),
        ):
            with pytest.raises(ProbegateError) as error:
                refused()
            assert error.value.reason is Reason.STOP_USE
        client.acknowledge_recall(
            recalled.recall.recall_id,
            person=officer,
            person_token=client.issue_token(OFFICER, Part.OFFICER),
            action="The officer in the case was told, and the copy destroyed.",
        )
        assert _recalls(client)[0].acknowledged_at is not None
        assert client.get(view.search_id).stop_use == {("custody", best.reference)}
        revoked = client.revoke_reviewer(
            reviewers[1],
            since=view.received.created_at,
            reasons="The accreditation was withdrawn.",
            person=client.officers.person(AUTHORISER, option="person"),
            person_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
        )
        assert revoked >= 1
        assert client.review_status(view.search_id).open
    assert client.force == FORCE
