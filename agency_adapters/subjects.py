"""A person's own question: which searches returned my record, and who saw it?

Answered by the agency that holds the record, for nobody else knows what a reference stands for. The
question is an entry of the admin log before it is answered; the record's id is committed to, not
written there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agency_adapters.operators import Operator
from audit.kinds import REPORT
from audit.organisation import ADMIN, SEARCH
from audit.reader import LogReader

SUBJECT_READ = "subject.read"
_LOOKED = ("candidates.resolved", "held.released", "held.refused")
"""What the agency's people do with candidates of a search."""


@dataclass(frozen=True, slots=True)
class Returned:
    """One search that returned the record.

    Attributes:
        search_id: which.
        reference: what stood for the record in it.
        rank: its place in this agency's answer, from 1.
        score: as reported.
        reports: the agency's entries about the search: index, time, state.
        seen: entries of the admin log about people who looked: index, time, type.
        force: who asked, if the broker's log was given.
    """

    search_id: str
    reference: str
    rank: int
    score: float
    reports: tuple[Mapping[str, Any], ...]
    seen: tuple[Mapping[str, Any], ...]
    force: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "search_id": self.search_id,
            "force": self.force,
            "reference": self.reference,
            "rank": self.rank,
            "score": self.score,
            "reports": list(self.reports),
            "seen": list(self.seen),
        }


async def searches_of(
    operator: Operator, record_id: str, purpose: str, broker: Path | None = None
) -> tuple[Returned, ...]:
    """Return every search whose answer had the record, once the read is on the log.

    Args:
        operator: the agency's own.
        record_id: the record's id.
        purpose: why, one of ``audit.opening.PURPOSES``.
        broker: folder of the broker's search log, to name the forces.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``, ``LOG_UNAVAILABLE``, what reading a log raises.
    """
    rows = operator.state.of_record(record_id)
    await operator.log(SUBJECT_READ, {"record": record_id}, purpose=purpose, searches=len(rows))
    wanted = {search_id for search_id, _ in rows}
    references = {found.reference: search_id for search_id, found in rows}
    logs = operator.settings.logs_dir
    reports = _by_search(logs / SEARCH, wanted, {}, (REPORT,))
    seen = _by_search(logs / ADMIN, wanted, references, _LOOKED)
    forces = _forces(broker, wanted) if broker is not None else {}
    return tuple(
        Returned(
            search_id=search_id,
            reference=found.reference,
            rank=found.rank,
            score=found.score,
            reports=tuple(reports.get(search_id, ())),
            seen=tuple(seen.get(search_id, ())),
            force=forces.get(search_id, ""),
        )
        for search_id, found in rows
    )


def _by_search(
    folder: Path, wanted: set[str], references: Mapping[str, str], kinds: tuple[str, ...]
) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for index, said in LogReader(folder).facts():
        if said.get("type") not in kinds:
            continue
        named: Any = said.get("references", [])
        about = {references[one] for one in named if one in references}
        if said.get("search_id") in wanted:
            about.add(str(said["search_id"]))
        one = {"entry": index, "at": said.get("at"), "type": said["type"]}
        if "state" in said:
            one["state"] = said["state"]
        for search_id in about:
            found.setdefault(search_id, []).append(one)
    return found


def _forces(broker: Path, wanted: set[str]) -> dict[str, str]:
    return {
        str(said["search_id"]): str(said["force"])
        for _, said in LogReader(broker).facts()
        if said.get("search_id") in wanted and "force" in said
    }
