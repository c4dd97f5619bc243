"""The demonstration: four searches over a running federation, and whether they found the truth.

1. A robbery, asked of the police's own galleries: what the passport and asylum agreements want to
   see on the log before they answer.
2. The robbery, asked of all six agencies: permitted at some, denied at others with the clauses
   named.
3. The same probe for a parking fine: denied everywhere, and on the record all the same.
4. The robbery again with one agency down: it is UNAVAILABLE, which is not "no candidate".

What was found is held against who was planted where. The agencies' own operators say which record a
reference stands for; nobody else can.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any, Final

from agency_adapters.state import AdapterState
from agency_adapters.tables import open_engine
from audit.verify import verify_folder
from deploy.local.people import MODEL
from deploy.local.place import AGENCIES, BROKER, FORCES, Place
from deploy.local.processes import Processes
from force_client import ForceClient, ForceSettings, OrderDraft, Part, ProbeFacts, SearchView
from force_client.probes import Probe, load_probe
from trust.clock import utc_now
from trust.messages import Justification, Offence, OutcomeState

DOWN: Final = "pnd"
"""The agency that is down in the last search."""
OWN_GALLERIES: Final = ("custody", "pnd")
"""The agencies that are asked first."""
FORCE: Final = FORCES[0]
OFFICER: Final = f"{FORCE}-1041"
AUTHORISER: Final = f"{FORCE}-3302"
SUPERINTENDENT: Final = f"{FORCE}-4401"
LOGS: Final = ("search", "admin")

ROBBERY: Final = Justification(
    purpose="crime_investigation",
    legal_basis="common_law_policing",
    schedule8_condition="statutory_purposes",
    aim="identify_unknown",
    subject_category="suspect",
    offence=Offence(code="theft-act-1968-s8", seriousness="serious_crime"),
    case_reference="NS/2026/004411",
    necessity="The person on the camera was not known to any officer who saw the recording.",
    proportionality="One image, one robbery with a weapon; own galleries and witnesses came first.",
    tried_first=("own_custody", "pnd"),
)
PARKING: Final = ROBBERY.model_copy(
    update={
        "purpose": "civil_penalty",
        "offence": Offence(code="parking", seriousness="none"),
        "case_reference": "NS/2026/004412",
        "necessity": "The driver of the car was not identified by its registration.",
        "proportionality": "The penalty is unpaid and the image shows the driver's face clearly.",
    }
)


@dataclass(frozen=True, slots=True)
class DemoSearch:
    """One search of the demonstration and how it is checked."""

    title: str
    justification: Justification
    probe: str
    down: tuple[str, ...] = ()
    agencies: tuple[str, ...] = AGENCIES


FIRST: Final = DemoSearch(
    "A robbery: the police's own galleries first",
    ROBBERY,
    "suspect-good",
    agencies=OWN_GALLERIES,
)
SEARCHES: Final = (
    FIRST,
    DemoSearch("The robbery, asked of six agencies", ROBBERY, "suspect-good"),
    DemoSearch("The same face for a parking fine", PARKING, "suspect-good"),
    DemoSearch("The robbery again, one agency down", ROBBERY, "suspect-fair", (DOWN,)),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an agency found of the planted person, held against the truth."""

    agency: str
    held: bool
    found: bool
    rank: int | None

    @property
    def as_it_should_be(self) -> bool:
        """Whether the person was found exactly where they are held."""
        return self.held == self.found


@dataclass(frozen=True, slots=True)
class DemoResult:
    """One search as it came out."""

    search: DemoSearch
    view: SearchView
    findings: tuple[Finding, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class LogCheck:
    """One log as the offline verifier found it."""

    member: str
    log: str
    origin: str
    entries: int
    ok: bool
    problems: tuple[str, ...]


class Demo:
    """Runs the demonstration on a federation that is up."""

    def __init__(self, place: Place, processes: Processes) -> None:
        self._place = place
        self._processes = processes
        self.truth: dict[str, dict[str, list[str]]] = json.loads(place.truth.read_text())

    def run(self, tell: Callable[[DemoResult], None]) -> tuple[DemoResult, ...]:
        """Run every search; ``tell`` hears of each as it ends. Agencies stopped start again."""
        settings = ForceSettings.load(self._place.config(FORCE))
        results = []
        with ForceClient(settings) as client:
            for search in SEARCHES:
                for agency in search.down:
                    self._processes.kill(agency)
                try:
                    result = self.search(client, search)
                finally:
                    self._processes.start(search.down)
                tell(result)
                results.append(result)
        return tuple(results)

    def search(self, client: ForceClient, search: DemoSearch) -> DemoResult:
        """Run one search and hold it against the truth."""
        probe, facts = self._probe(search.probe)
        draft = OrderDraft(
            officer=client.officers.person(OFFICER, option="officer"),
            authoriser=client.officers.person(AUTHORISER, option="authoriser"),
            authorised_at=utc_now() - timedelta(minutes=20),
            justification=search.justification,
            probe=facts,
            agencies=search.agencies,
        )
        began = perf_counter()
        view = client.search(
            draft,
            probe,
            officer_token=client.issue_token(OFFICER, Part.OFFICER),
            authoriser_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
        )
        seconds = perf_counter() - began
        return DemoResult(search, view, self._findings(search.probe, view), seconds)

    def _probe(self, name: str) -> tuple[Probe, ProbeFacts]:
        facts = json.loads((self._place.probes / "probes.json").read_text())[name]
        probe = load_probe(self._place.probes / f"{name}.npy", model=MODEL)
        return probe, ProbeFacts(
            source=facts["source"],
            quality=facts["quality"],
            captured_at=facts["captured_at"],
            edits=tuple(facts["edits"]),
        )

    def _findings(self, probe: str, view: SearchView) -> tuple[Finding, ...]:
        mates = self.truth[probe]
        found = []
        for outcome in view.outcomes:
            answered = outcome.state in {OutcomeState.CANDIDATES, OutcomeState.NO_CANDIDATE}
            records = self.records(outcome.agency, view.search_id) if answered else {}
            ranks = [
                candidate.rank
                for candidate in outcome.candidates
                if records.get(candidate.reference) in mates.get(outcome.agency, ())
            ]
            held = answered and outcome.agency in mates
            found.append(Finding(outcome.agency, held, bool(ranks), min(ranks) if ranks else None))
        return tuple(found)

    def records(self, agency: str, search_id: str) -> Mapping[str, str]:
        """Ask the agency's own memory, as its operator, what its references stand for."""
        state = AdapterState(open_engine(self._place.state(agency)))
        try:
            resolved = state.resolve(search_id=search_id)
        finally:
            state.engine.dispose()
        return {record.reference: record.record_id for _, record in resolved}


def verify_logs(place: Place) -> tuple[LogCheck, ...]:
    """Verify every published log of the federation offline."""
    checks = []
    joined = [one for one in Processes(place).servers if one not in {BROKER, *AGENCIES}]
    for member in (BROKER, *AGENCIES, *joined):
        for log in LOGS:
            folder = place.logs(member) / log
            report = verify_folder(folder)
            checks.append(
                LogCheck(
                    member,
                    log,
                    report.origin,
                    report.entries,
                    report.ok,
                    tuple(str(problem) for problem in report.problems),
                )
            )
    return tuple(checks)


def as_json(results: tuple[DemoResult, ...]) -> dict[str, Any]:
    """Return the searches as JSON."""
    return {"searches": [_search_json(result) for result in results]}


def logs_json(logs: tuple[LogCheck, ...]) -> dict[str, Any]:
    """Return how the logs verified as JSON."""
    return {
        "logs": [
            {
                "org": check.member,
                "log": check.log,
                "origin": check.origin,
                "entries": check.entries,
                "verified": check.ok,
                "problems": list(check.problems),
            }
            for check in logs
        ]
    }


def passed(results: tuple[DemoResult, ...]) -> bool:
    """Whether everything verified, and the planted person was found where held and nowhere else."""
    _, robbery, parking, one_down = results
    return (
        all(result.view.verified for result in results)
        and all(finding.as_it_should_be for result in results for finding in result.findings)
        and {f.agency for f in robbery.findings if f.found} > set(OWN_GALLERIES)
        and parking.view.all_denied
        and any(o.state is OutcomeState.UNAVAILABLE for o in one_down.view.outcomes)
    )


def _search_json(result: DemoResult) -> dict[str, Any]:
    view = result.view
    return {
        "title": result.search.title,
        "search_id": view.search_id,
        "state": view.state.value,
        "complete": view.complete,
        "missing": list(view.missing),
        "outcomes": [
            {
                "agency": outcome.agency,
                "state": outcome.state.value,
                "reason": outcome.reason,
                "failed_clauses": list(outcome.failed_clauses),
                "candidates": [
                    {"reference": c.reference, "score": c.score, "rank": c.rank}
                    for c in outcome.candidates
                ],
                "latency_ms": round(outcome.latency_ms, 3),
            }
            for outcome in view.outcomes
        ],
        "candidates": [
            {"agency": c.agency, "reference": c.reference, "score": c.score, "rank": c.rank}
            for c in view.candidates
        ],
        "planted": [
            {"agency": f.agency, "held": f.held, "found": f.found, "rank": f.rank}
            for f in result.findings
        ],
        "receipt": view.receipt,
        "verified": view.verified,
        "seconds": round(result.seconds, 4),
    }
