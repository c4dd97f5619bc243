"""The agreements that are decided on and the requests that are asked, all from the examples.

1. ``side_by_side``: several agreements between each of the six agencies and one force. Numbers and
   quotas differ from one to the next; words and dates are the same, as they would mostly be.
2. ``spread_out``: one agreement for each pair of an agency and a force, more of both as the bundle
   grows; what is asked stays the same six agencies and one force.
3. Requests are lawful ones of which most have one fact changed, and none is asked twice in a round.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from policy.agreements import CASES_FILE, Agreement, AgreementFile, read_folder
from policy.cases import dry_run_facts
from policy.decision import Bundle, PartyAgreement
from policy.facts import Facts
from policy.yaml_source import parse_yaml, read_file

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "policy" / "examples"
FILES: Final = read_folder(EXAMPLES)
AGENCIES: Final = tuple(file.agreement.agency for file in FILES)
FORCE: Final = "example-force"
AT: Final = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
_YEAR: Final = timedelta(days=365)
_BASE: Final[dict[str, Any]] = parse_yaml(
    read_file(EXAMPLES / "custody" / CASES_FILE), CASES_FILE
).data["base"]
_CHANGES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {},
    {"purpose": "protect_life"},
    {"purpose": "curiosity"},
    {"offence_seriousness": "recordable"},
    {"offence_seriousness": "missing_at_risk"},
    {"authoriser_rank": "constable"},
    {"authoriser_id": _BASE["officer_id"]},
    {"probe_quality": 35},
    {"probe_edits": ["crop", "generative"]},
    {"probe_source": "live_camera"},
    {"subject_category": "witness"},
    {"authorised_at": AT - timedelta(days=3)},
    {"sealed": None},
    {"urgent": True, "purpose": "protect_life"},
)


def bundle_of(parties: Iterable[PartyAgreement]) -> Bundle:
    """Return agreements as a bundle that every party signed."""
    return Bundle("bench", 1, AT - _YEAR, AT + _YEAR, b"b" * 32, tuple(parties))


def side_by_side(each: int) -> tuple[PartyAgreement, ...]:
    """Return ``each`` agreements between every agency of the examples and one force (1)."""
    return tuple(
        PartyAgreement(_renamed(_refigured(file, number), f"-{number}"), frozenset({FORCE}))
        for number in range(each)
        for file in FILES
    )


def _refigured(file: AgreementFile, number: int) -> AgreementFile:
    """Return an agreement whose whole numbers and quotas are a little higher."""
    clauses = tuple(
        clause.model_copy(update={"value": clause.value + number})
        if type(clause.value) is int
        else clause
        for clause in file.agreement.clauses
    )
    quotas = tuple(
        quota.model_copy(update={"most": quota.most + number}) for quota in file.agreement.quotas
    )
    return _changed(file, clauses=clauses, quotas=quotas)


def spread_out(count: int) -> Iterator[PartyAgreement]:
    """Yield ``count`` agreements, each between another agency and force (2)."""
    agencies = max(1, min(10, count // len(FILES) // 10))
    forces = count // len(FILES) // agencies
    for copy, force, file in itertools.product(range(agencies), range(forces), FILES):
        name = FORCE if force == 0 else f"force-{force}"
        agency = file.agreement.agency if copy == 0 else f"{file.agreement.agency}-{copy}"
        renamed = _changed(_renamed(file, f"-{copy}-{force}"), agency=agency, forces=(name,))
        yield PartyAgreement(renamed, frozenset({name}))


def _renamed(file: AgreementFile, suffix: str) -> AgreementFile:
    return _changed(file, id=f"{file.agreement.id}{suffix}")


def _changed(file: AgreementFile, **update: Any) -> AgreementFile:
    agreement: Agreement = file.agreement.model_copy(update=update)
    return replace(file, agreement=agreement)


def requests(count: int, seed: int) -> list[Facts]:
    """Return requests that nothing was asked of before (3)."""
    rng = Random(seed)
    hour = timedelta(hours=1)
    made = []
    for _ in range(count):
        answered = {name: AT - rng.randint(1, 48) * hour for name in ("custody", "pnd")}
        standing = {"answered": answered}
        made.append(dry_run_facts(_BASE | rng.choice(_CHANGES) | {"standing": standing}, AGENCIES))
    return made
