"""Agreements at work over the running federation: order, urgency, switches and new versions.

Everything is done through the commands that people use, against real processes; what one test
changes it puts back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.output import EXIT_ALL_DENIED
from deploy.local.demo import FORCE, OFFICER, ROBBERY, SUPERINTENDENT
from deploy.local.place import AGENCIES, BROKER, FORCES, Place
from deploy.local.processes import Processes
from force_client import ForceClient
from policy.bundle import open_bundle
from tests.forces import (
    Ended,
    facts_options,
    probe_of,
    probegate,
    robbery,
    search,
    settings_of,
)
from tests.world import edit_agreement
from trust.messages import OutcomeState


@pytest.fixture
def client(place: Place, up: Processes) -> Iterator[ForceClient]:
    with ForceClient(settings_of(place)) as opened:
        yield opened


def done(ended: Ended, status: int = 0) -> str:
    assert ended.returncode == status, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    return ended.stdout


def of_case(case: str, **changes: Any) -> dict[str, Any]:
    return {"justification": ROBBERY.model_copy(update={"case_reference": case, **changes})}


def answer(client: ForceClient, place: Place, agency: str, **changes: Any) -> tuple[str, Any]:
    """Search one agency; return how it ended and which clauses failed."""
    view = search(client, place, agencies=(agency,), **changes).view
    (outcome,) = view.outcomes
    return outcome.state.value, outcome.failed_clauses


# --- prior answers ----------------------------------------------------------------------------


def test_passports_want_the_polices_own_galleries_asked_first_at_broker_and_agency(
    client: ForceClient, place: Place
) -> None:
    why = of_case("NS/2026/ORDER/1")
    denied = ("denied", ("passport.police-galleries-answered",))
    assert answer(client, place, "passport", **why) == denied
    search(client, place, agencies=("custody",), **why)
    assert answer(client, place, "passport", **why) == denied, "one of two is not both"
    search(client, place, agencies=("pnd",), **why)
    assert answer(client, place, "passport", **why)[0] == "candidates"
    assert answer(client, place, "passport", **of_case("NS/2026/ORDER/2")) == denied


# --- the urgent route -------------------------------------------------------------------------

LIFE = {
    "purpose": "protect_life",
    "schedule8": "vital_interests",
    "seriousness": "threat_to_life",
}


def test_an_urgent_search_is_made_shown_as_such_and_confirmed(
    client: ForceClient, place: Place
) -> None:
    urgent = facts_options(place, ("passport",), case="NS/2026/URGENT/1", **LIFE)
    probe = place.probes / "suspect-good.npy"
    said = done(probegate("search", "--probe", probe, *urgent, "--urgent"))
    assert "to be confirmed in writing by" in " ".join(said.split())
    robbery_only = facts_options(place, ("passport",), case="NS/2026/URGENT/1")
    refused = probegate("search", "--probe", probe, *robbery_only, "--urgent")
    assert "passport.police-galleries-answered" in done(refused, EXIT_ALL_DENIED)
    made = json.loads(
        done(
            probegate(
                *("search", "--probe", probe, "--urgent", "--json"),
                *facts_options(place, ("passport",), case="NS/2026/URGENT/2", **LIFE),
            )
        )
    )
    assert made["outcomes"][0]["state"] == "candidates"
    assert made["confirm_by"] is not None
    confirm = (
        "confirm",
        made["search_id"],
        "--config",
        place.config(FORCE),
        "--reasons",
        "A life.",
    )
    inspector = probegate(*confirm, "--confirmer", f"{FORCE}-3302")
    assert "CONFIRMATION_INVALID" in inspector.stderr
    assert done(inspector, 1) == ""
    herself = probegate(*confirm, "--confirmer", OFFICER)
    assert "CONFIRMATION_INVALID" in herself.stderr
    done(probegate(*confirm, "--confirmer", SUPERINTENDENT))
    again = json.loads(done(probegate(*confirm, "--confirmer", SUPERINTENDENT, "--json")))
    assert again["confirmed_at"] is not None
    assert client.get(made["search_id"]).confirm_by is None
    # The next search by that officer shows the agency the confirmation, and is answered.
    search(client, place, agencies=("custody", "pnd"), **of_case("NS/2026/URGENT/2"))
    assert answer(client, place, "passport", **of_case("NS/2026/URGENT/2"))[0] == "candidates"


# --- kill switches ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", [BROKER, "custody"])
def test_a_switch_is_in_force_when_the_command_returns(
    client: ForceClient, place: Place, where: str
) -> None:
    role = "broker" if where == BROKER else "adapter"
    config = ("--config", place.config(where))
    turn = (f"force:{FORCE}", "--reference", "INC-2026-1", *config)
    assert answer(client, place, "custody")[0] == "candidates"
    done(probegate(role, "switch", "off", *turn))
    try:
        assert answer(client, place, "custody") == ("denied", ("core.not-switched-off",))
        listed = json.loads(done(probegate(role, "switches", *config, "--json")))
        assert listed == {"switched_off": [f"force:{FORCE}"]}
        refused = probegate(role, "switch", "off", "force:nobody", *turn[1:])
        assert "USAGE" in refused.stderr
    finally:
        done(probegate(role, "switch", "on", *turn))
    assert answer(client, place, "custody")[0] == "candidates"
    shown = done(probegate("audit", "show", place.logs(where) / "admin", "--last", 2))
    assert "switch" in shown


# --- a new version of the agreements ----------------------------------------------------------


def signed(place: Place, folder: Path, out: Path, version: int) -> Path:
    """Have every party sign the agreements of a folder."""
    members = place.scheme / "members"
    draft = out.with_suffix(".draft")
    words = [word for one in AGENCIES for word in ("--signer", members / one)]
    done(probegate("policy", "sign", folder, "--out", draft, "--version", version, *words))
    words = [word for one in FORCES for word in ("--signer", members / one)]
    done(probegate("policy", "sign", draft, "--out", out, *words))
    return out


def test_a_new_version_is_compared_simulated_activated_and_decides_without_a_restart(
    client: ForceClient, place: Place, tmp_path: Path
) -> None:
    def stricter(agreement: dict[str, Any]) -> None:
        agreement["version"] += 1
        (one,) = (c for c in agreement["clauses"] if c["id"] == "custody.probe-quality")
        one["value"] = 95

    version = open_bundle(place.bundle.read_bytes()).manifest.version
    before = place.bundle.read_bytes()
    folder = tmp_path / "agreements"
    folder.mkdir()
    for agency in AGENCIES:
        text = (place.agreements / agency / f"{agency}.yaml").read_text()
        (folder / f"{agency}.yaml").write_text(text)
    same = signed(place, folder, tmp_path / "same.json", version + 2)
    edit_agreement(folder / "custody.yaml", stricter)
    candidate = signed(place, folder, tmp_path / "candidate.json", version + 1)
    assert answer(client, place, "custody")[0] == "candidates"

    changes = json.loads(done(probegate("policy", "diff", place.bundle, candidate, "--json")))
    assert "probe_quality" in json.dumps(changes)
    config = ("--config", place.config(BROKER))
    rerun = json.loads(done(probegate("policy", "simulate", *config, "--json")))
    assert rerun["total"] > 0
    assert rerun["differing"] == 0
    would = json.loads(
        done(probegate("policy", "simulate", *config, "--bundle", candidate, "--json"))
    )
    assert would["counts"]["allow->deny"] > 0
    assert {one["agency"] for one in would["examples"] if one["kind"] == "allow->deny"} == {
        "custody"
    }

    activated = json.loads(done(probegate("policy", "activate", candidate, *config, "--json")))
    assert activated["version"] == version + 1
    assert isinstance(activated["admin_log_entry"], int)
    done(probegate("policy", "activate", candidate, "--config", place.config("custody")))
    assert answer(client, place, "custody") == ("denied", ("custody.probe-quality",))

    # The old file, or another of the same version, is not put in the new one's place.
    for stale in (before, tampered(candidate)):
        path = tmp_path / "stale.json"
        path.write_bytes(stale)
        refused = probegate("policy", "activate", path, *config)
        assert "BUNDLE_" in refused.stderr
        assert place.bundle.read_bytes() == candidate.read_bytes()

    for server in (BROKER, "custody"):  # the others find the same file and take it up by themselves
        done(probegate("policy", "activate", same, "--config", place.config(server)))
    assert answer(client, place, "custody")[0] == "candidates"
    rerun = json.loads(done(probegate("policy", "simulate", *config, "--json")))
    assert rerun["differing"] == 0


def tampered(bundle: Path) -> bytes:
    document = json.loads(bundle.read_bytes())
    text = document["files"]["custody.yaml"]
    document["files"]["custody.yaml"] = text.replace("value: 95", "value: 5")
    return json.dumps(document).encode()


# --- reasons ----------------------------------------------------------------------------------


def test_boilerplate_is_pointed_out_before_and_after_a_search(
    client: ForceClient, place: Place
) -> None:
    options = facts_options(place, ("custody",), necessity="Needed.", case="NS/2026/SHORT/1")
    said = done(probegate("preview", *options))
    assert "the necessity says very little" in said
    probe = place.probes / "suspect-good.npy"
    shown = done(probegate("search", "--probe", probe, *options))
    assert "the necessity says very little" in shown
    view = search(client, place, agencies=("custody",)).view
    assert "reasons.repeated" in view.warnings
    assert view.outcomes[0].state is OutcomeState.CANDIDATES
    _, facts = probe_of(place)
    draft = robbery(client, facts, agencies=("custody",))
    assert "reasons.repeated" in client.explain(draft).warnings
