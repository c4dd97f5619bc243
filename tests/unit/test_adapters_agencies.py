"""The words that agencies' rules use, ages and check digits, and kinds of agency from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from agency_adapters.agency import age_on
from agency_adapters.registry import KINDS, kind_named, place_of
from docs.examples.driving_licences import DRIVING_LICENCES
from policy.codes import REGISTRY
from tests.forces import ROOT
from tests.world import MODEL, template
from trust.errors import ProbegateError, Reason

TODAY = date(2026, 11, 23)
OUTSIDE = "docs.examples.driving_licences:DRIVING_LICENCES"
SETTING = "PROBEGATE_AGENCY_KINDS"


def test_the_words_the_rules_use_exist() -> None:
    used = {
        "purpose": {
            "immigration_enforcement",
            "public_order_intelligence",
            "civil_penalty",
            "missing_person",
            "unidentified_remains",
            "protect_life",
            "safeguarding",
            "national_security",
        },
        "offence_seriousness": {
            "serious_crime",
            "threat_to_life",
            "national_security",
            "missing_at_risk",
        },
        "onward_transfer": {"prohibited", "with_owner_consent"},
        "aim": {"more_on_known"},
        "schedule8_condition": {"vital_interests"},
        "tried_first": {"own_custody", "pnd"},
        "subject_category": {"victim", "witness", "missing_person"},
    }
    for vocabulary, words in used.items():
        assert words <= set(REGISTRY[vocabulary].codes)


def test_ages_and_check_digits() -> None:
    assert age_on(date(2000, 2, 29), date(2018, 2, 28)) == 17
    assert age_on(date(2000, 2, 29), date(2018, 3, 1)) == 18
    nhs = KINDS["nhs"].record.model_validate(
        {
            "record_id": "R",
            "captured_on": "2020-01-01",
            "date_of_birth": "1980-01-01",
            "nhs_number": "9434765918",
        }
    )
    assert nhs.incoherence(TODAY) == "nhs_number: check digit is wrong"
    with pytest.raises(ProbegateError) as raised:
        kind_named("library")
    assert raised.value.reason is Reason.CONFIG_INVALID


# --- kinds from outside ------------------------------------------------------------------------


def test_a_kind_from_outside_is_unknown_until_the_operator_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    with pytest.raises(ProbegateError) as raised:
        kind_named("driving_licences")
    assert raised.value.reason is Reason.CONFIG_INVALID
    monkeypatch.setenv(SETTING, OUTSIDE)
    assert kind_named("driving_licences") is DRIVING_LICENCES
    assert place_of("driving_licences") == OUTSIDE
    assert place_of("custody") == ""
    assert kind_named("custody") is KINDS["custody"]


@pytest.mark.parametrize(
    "setting",
    [
        "docs.examples.nothing:DRIVING_LICENCES",
        "docs.examples.driving_licences:NOTHING",
        "docs.examples.driving_licences:Registry",
        "docs.examples.driving_licences",
        ":DRIVING_LICENCES",
        "../driving_licences:DRIVING_LICENCES",
        "agency_adapters.custody:CUSTODY",
        f"{OUTSIDE} {OUTSIDE}",
    ],
)
def test_what_is_no_kind_of_its_own_stops_the_process(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(SETTING, setting)
    with pytest.raises(ProbegateError) as raised:
        kind_named("driving_licences")
    assert raised.value.reason is Reason.CONFIG_INVALID
    assert kind_named("custody") is KINDS["custody"]


def blocks(language: str) -> Iterator[str]:
    page = (ROOT / "docs" / "new-agency.md").read_text()
    yield from re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_code_as_it_is() -> None:
    code = (ROOT / "docs" / "examples" / "driving_licences.py").read_text()
    shown = list(blocks("python"))
    assert len(shown) >= 4
    for block in shown:
        assert block in code


def test_the_pages_commands_run_as_written(tmp_path: Path) -> None:
    (commands,) = blocks("sh")
    np.savez(tmp_path / "faces.npz", templates=np.stack([template(n) for n in range(3)]))
    (tmp_path / "records.csv").write_text(
        "record_id,captured_on,date_of_birth,licence_number,registry,surrendered_on,objection\n"
        "L1,2020-01-01,1980-01-01,MORGA657054,mainland,,\n"
        "L2,2020-01-01,1980-01-01,MORGA657055,island,2021-01-01,\n"
        "L3,2020-01-01,1980-01-01,nothing,mainland,,\n"
    )
    script = commands.replace("PYTHONPATH=docs/examples", f"PYTHONPATH={ROOT}:{ROOT}/docs/examples")
    script = script.replace("probegate ", f"{sys.executable} -m cli.main ")
    script = script.replace("example-model-1", MODEL)
    done = subprocess.run(
        ["/bin/sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sound: 2 records, 1 eligible" in done.stdout
    assert "driving_licences" in done.stdout
