"""A force at the tests' federation: its client, its searches, and its people's command line."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypedDict

import pytest

from cli.main import main
from deploy.local.demo import AUTHORISER, FORCE, OFFICER, ROBBERY
from deploy.local.people import MODEL
from deploy.local.place import AGENCIES, Place
from force_client import (
    ForceClient,
    ForceSettings,
    OrderDraft,
    Part,
    Probe,
    ProbeFacts,
    SearchView,
    load_probe,
)
from force_client.orders import PreparedSearch
from trust.clock import utc_now

ROOT: Final = Path(__file__).resolve().parents[1]
COMMAND_S: Final = 90
"""How long one command may take, seconds; none gets near it."""
Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Sent:
    """One search as the force made it and as it came back."""

    prepared: PreparedSearch
    view: SearchView
    probe: Probe


def settings_of(place: Place, force: str = FORCE) -> ForceSettings:
    """Return a force's settings."""
    return ForceSettings.load(place.config(force))


def probe_of(place: Place, name: str = "suspect-good") -> tuple[Probe, ProbeFacts]:
    """Return one of the federation's probes and its facts."""
    facts = json.loads((place.probes / "probes.json").read_text())[name]
    probe = load_probe(place.probes / f"{name}.npy", model=MODEL)
    kept = {key: facts[key] for key in ("source", "quality", "captured_at", "edits")}
    return probe, ProbeFacts.model_validate(kept | {"edits": tuple(facts["edits"])})


def robbery(client: ForceClient, facts: ProbeFacts, **changes: Any) -> OrderDraft:
    """Return the draft of the demonstration's robbery."""
    values: dict[str, Any] = {
        "officer": client.officers.person(OFFICER, option="officer"),
        "authoriser": client.officers.person(AUTHORISER, option="authoriser"),
        "authorised_at": utc_now() - timedelta(minutes=20),
        "justification": ROBBERY,
        "probe": facts,
        "agencies": AGENCIES,
    }
    return OrderDraft(**values | changes)


class Tokens(TypedDict):
    """What ``ForceClient.create`` takes for the two people."""

    officer_token: str
    authoriser_token: str


def tokens(client: ForceClient) -> Tokens:
    """Return tokens for both people."""
    return Tokens(
        officer_token=client.issue_token(OFFICER, Part.OFFICER),
        authoriser_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
    )


def search(client: ForceClient, place: Place, name: str = "suspect-good", **changes: Any) -> Sent:
    """Search with one of the federation's probes and wait for the end."""
    probe, facts = probe_of(place, name)
    prepared = client.prepare(robbery(client, facts, **changes), probe)
    return Sent(prepared, client.create(prepared, **tokens(client), wait=20), probe)


def probegate(*words: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Ended:
    """Run the ``probegate`` command as a person would, at 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT)} | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


def probegate_here(capsys: pytest.CaptureFixture[str], *words: object) -> Ended:
    """Run the command in this process: the same program without Python's start, for many."""
    arguments = [str(word) for word in words]
    capsys.readouterr()
    status = main(arguments)
    said = capsys.readouterr()
    return Ended(arguments, status, said.out, said.err)


def facts_options(place: Place, agencies: Sequence[str] = ("all",), **changes: str) -> list[str]:
    """Return the options of ``preview`` and ``search`` for the robbery; "" drops one."""
    options = {
        "purpose": ROBBERY.purpose,
        "legal-basis": ROBBERY.legal_basis,
        "schedule8": ROBBERY.schedule8_condition,
        "aim": ROBBERY.aim,
        "subject-category": ROBBERY.subject_category,
        "offence": ROBBERY.offence.code,
        "seriousness": ROBBERY.offence.seriousness,
        "case": ROBBERY.case_reference,
        "necessity": ROBBERY.necessity,
        "proportionality": ROBBERY.proportionality,
        "tried-first": ",".join(ROBBERY.tried_first),
        "probe-source": "cctv",
        "probe-quality": "84",
        "officer": OFFICER,
        "authoriser": AUTHORISER,
        "agency": ",".join(agencies),
        "config": str(place.config(FORCE)),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return [word for name, value in options.items() if value for word in (f"--{name}", value)]


def strangers_verifier(name: str = "verify_log") -> ModuleType:
    """Return a script of ``docs/verify``, which shares no code with Probegate."""
    folder = str(ROOT / "docs" / "verify")
    if folder not in sys.path:
        sys.path.append(folder)  # one of them imports the other
    return importlib.import_module(name)
