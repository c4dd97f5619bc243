"""A person's own question: which searches returned my record, and who saw it?

Answered by the agency that holds the record, for nobody else knows what a reference stands for.

1. The question is an entry of the admin log before it is answered; the record's id is committed to,
   not written there.
2. An entry is about the record if it names its reference, or a request for its details, or the
   search as a whole. What names other candidates of the search alone is about them.
3. Whoever reads the list of recalls sees those that were ordered before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agency_adapters.operators import Operator
from audit import kinds
from audit.organisation import ADMIN, SEARCH
from audit.reader import LogReader

SUBJECT_READ: Final = "subject.read"
_REPORTS: Final = {kinds.REPORT: "search_id"}
_FOLLOWED: Final = {
    kinds.IMAGES_SENT: "references",
    kinds.RELEASE_REQUESTED: "reference",
    kinds.RELEASE_DECIDED: "reference",
    kinds.WRONG_MATCH: "reference",
    kinds.RECALL_ISSUED: "reference",
    kinds.RECALL_ACKNOWLEDGED: "reference",
}
"""What leaves the agency about a candidate after its report, and comes back."""
_ORDERED: Final = "recall.ordered"
_RECALLS_LISTED: Final = "recall.listed"
_LOOKED: Final = {
    "candidates.resolved": "references",
    "held.listed": "searches",
    "held.released": "search_id",
    "held.refused": "search_id",
    "release.listed": "requests",
    "release.released": "request_sha256",
    "release.refused": "request_sha256",
    _ORDERED: "recalls",
    _RECALLS_LISTED: "",
}
"""What the agency's people do with candidates of a search.

Each of these tables has types of entries, and the field that says what one is about (2)."""


@dataclass(frozen=True, slots=True)
class Returned:
    """One search that returned the record.

    Attributes:
        search_id: which.
        reference: what stood for the record in it.
        rank: its place in this agency's answer, from 1.
        score: as reported.
        reports: the agency's entries about the search: index, time, state.
        followed: those about what left for the force afterwards, its images and details: index,
            time, type, and of a decision its state and the codes of what was released.
        seen: entries of the admin log about people who looked: index, time, type.
        force: who asked, if the broker's log was given.
    """

    search_id: str
    reference: str
    rank: int
    score: float
    reports: tuple[Mapping[str, Any], ...]
    followed: tuple[Mapping[str, Any], ...]
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
            "followed": list(self.followed),
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
    names = {name: one.reference for search, one in rows for name in (search, one.reference)}
    about = _About(names)
    logs = operator.settings.logs_dir
    reports, followed = about.entries(logs / SEARCH, _REPORTS, _FOLLOWED)
    (seen,) = about.entries(logs / ADMIN, _LOOKED)
    forces = _forces(broker, {search_id for search_id, _ in rows}) if broker is not None else {}
    return tuple(
        Returned(
            search_id=search_id,
            reference=found.reference,
            rank=found.rank,
            score=found.score,
            reports=tuple(reports.get(found.reference, ())),
            followed=tuple(followed.get(found.reference, ())),
            seen=tuple(seen.get(found.reference, ())),
            force=forces.get(search_id, ""),
        )
        for search_id, found in rows
    )


@dataclass(slots=True)
class _About:
    """Finds entries about one record; those of the search log first, for they name its requests.

    Attributes:
        by_name: what stands for the record, by whatever names it: the search, the reference itself,
            the digest of a request for its details.
        recalled: the references that are on the list of recalls so far (3).
    """

    by_name: dict[str, str]
    recalled: set[str] = field(default_factory=set)

    def entries(
        self, folder: Path, *groups: Mapping[str, str]
    ) -> tuple[dict[str, list[Mapping[str, Any]]], ...]:
        """Return a log's entries about the record, by reference, for each table of types."""
        found: tuple[dict[str, list[Mapping[str, Any]]], ...] = tuple({} for _ in groups)
        for index, said in LogReader(folder).facts():
            for group, mine in zip(groups, found, strict=True):
                named = group.get(str(said.get("type")))
                if named is not None:
                    for reference in self._of(said, named):
                        mine.setdefault(reference, []).append(_line(index, said))
        return found

    def _of(self, said: Mapping[str, Any], named: str) -> set[str]:
        """Return which references an entry is about, by the field that says so (2) (3)."""
        if said["type"] == _RECALLS_LISTED:
            return set(self.recalled)
        value: Any = said.get(named, ())
        names: Any = [value] if isinstance(value, str) else value
        if said["type"] == _ORDERED:
            names = [one["reference"] for one in names]
        about = {self.by_name[one] for one in names if one in self.by_name}
        if said["type"] == _ORDERED:
            self.recalled |= about
        elif said["type"] == kinds.RELEASE_REQUESTED:
            self.by_name |= {str(said["request_sha256"]): one for one in about}
        return about


def _line(index: int, said: Mapping[str, Any]) -> Mapping[str, Any]:
    told = ("state", "fields") if said["type"] == kinds.RELEASE_DECIDED else ("state",)
    line = {"entry": index, "at": said.get("at"), "type": said["type"]}
    return line | {name: said[name] for name in told if name in said}


def _forces(broker: Path, wanted: set[str]) -> dict[str, str]:
    return {
        str(said["search_id"]): str(said["force"])
        for _, said in LogReader(broker).facts()
        if said.get("search_id") in wanted and "force" in said
    }
