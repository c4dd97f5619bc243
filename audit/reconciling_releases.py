"""Do the broker's log and each agency's agree on what followed searches: images, details, recalls?

Both sides write an entry of each step; the digest of what was signed joins them.

1. An agency acts on what the broker's log holds: images it sent, and requests for details it took,
   are recorded there.
2. What the broker says an agency decided or recalled is an entry of the agency's own, the same.
3. What an agency decided or recalled reaches the broker, unless it is younger than ``patience``
   before the newest entry of the broker's log, or the broker had ended the request by itself: it
   lapsed, or a reviewer was revoked.

Memory follows the number of these steps, which is small beside that of searches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from audit import kinds
from audit.reader import LogReader
from trust.errors import ProbegateError, Reason


class StepFault(StrEnum):
    """What can be wrong between two logs about what followed a search."""

    IMAGES_UNKNOWN_TO_BROKER = "images_unknown_to_broker"
    REQUEST_UNKNOWN_TO_BROKER = "request_unknown_to_broker"
    DECISION_UNKNOWN_TO_AGENCY = "decision_unknown_to_agency"
    DECISION_UNKNOWN_TO_BROKER = "decision_unknown_to_broker"
    DECISION_DIFFERS = "decision_differs"
    RECALL_UNKNOWN_TO_AGENCY = "recall_unknown_to_agency"
    RECALL_UNKNOWN_TO_BROKER = "recall_unknown_to_broker"


class StepFinding(BaseModel):
    """One disagreement, and where to look.

    Attributes:
        fault: its kind.
        agency: between the broker and whom.
        search_id: of which search.
        broker_entry: the broker's entry, if there is one.
        agency_entry: the agency's entry, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: StepFault
    agency: str
    search_id: str
    broker_entry: int | None = None
    agency_entry: int | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    """What one side says of one step."""

    entry: int
    search_id: str
    content: tuple[str, ...]
    at: datetime


_ENDED: Final = "ended"
_KEYS: Final = {
    kinds.IMAGES_REQUESTED: ("images", "request_sha256"),
    kinds.IMAGES_SENT: ("images", "request_sha256"),
    kinds.DISCLOSURE_REQUESTED: ("request", "request_sha256"),
    kinds.RELEASE_REQUESTED: ("request", "request_sha256"),
    kinds.DISCLOSURE_DECIDED: ("decision", "request_sha256"),
    kinds.DISCLOSURE_LAPSED: (_ENDED, "request_sha256"),
    kinds.DISCLOSURE_REFUSED: (_ENDED, "request_sha256"),
    kinds.RELEASE_DECIDED: ("decision", "request_sha256"),
    kinds.RECALL_RECEIVED: ("recall", "recall_id"),
    kinds.RECALL_ISSUED: ("recall", "recall_id"),
}
"""Which step an entry is about, and the name of what joins the two sides."""
_CONTENT: Final = {
    "decision": ("decision_sha256", "state"),
    "recall": ("recall_sha256",),
}
_Key = tuple[str, str]


@dataclass(slots=True)
class _Side:
    """What one log says of one agency's steps."""

    said: dict[_Key, _Said] = field(default_factory=dict)
    newest: datetime | None = None

    def take(self, index: int, said: Mapping[str, Any], at: datetime) -> None:
        step, name = _KEYS[said["type"]]
        content = tuple(str(said[one]) for one in _CONTENT.get(step, ()))
        self.said.setdefault(
            (step, str(said[name])), _Said(index, str(said["search_id"]), content, at)
        )

    def of(self, step: str) -> Iterator[tuple[_Key, _Said]]:
        return ((key, said) for key, said in self.said.items() if key[0] == step)


def _read(name: str, folder: Path, agencies: Collection[str]) -> dict[str, _Side]:
    """Read a log once, and return what it says of each agency; an agency's own names nobody.

    Raises:
        ProbegateError: ``LOG_CORRUPT`` for an entry that does not say what its type must.
    """
    sides = {agency: _Side() for agency in agencies}
    newest: datetime | None = None
    for index, said in LogReader(folder).facts():
        try:
            at = datetime.fromisoformat(str(said["at"]))
            newest = max(at, newest or at)
            if said["type"] in _KEYS:
                for agency in (str(said["agency"]),) if "agency" in said else agencies:
                    if agency in sides:
                        sides[agency].take(index, said, at)
        except (KeyError, TypeError, ValueError) as error:
            detail = f"{name}: entry {index} is not of its type's form"
            raise ProbegateError(Reason.LOG_CORRUPT, detail) from error
    for side in sides.values():
        side.newest = newest
    return sides


def reconcile_releases(
    broker: Path, agencies: Mapping[str, Path], patience: timedelta
) -> tuple[StepFinding, ...]:
    """Compare what the broker's search log and the agencies' say of what followed searches.

    Args:
        broker: the folder of the broker's search log.
        agencies: each agency's id and the folder of its search log, copied after the broker's.
        patience: how long a step may be under way (3).

    Raises:
        ProbegateError: whatever ``LogReader`` raises; ``LOG_CORRUPT``.
    """
    found: list[StepFinding] = []
    ours = _read("broker", broker, agencies)
    for agency, folder in agencies.items():
        theirs = _read(agency, folder, (agency,))[agency]
        found += _compared(agency, ours[agency], theirs, patience)
    return tuple(found)


def _compared(
    agency: str, ours: _Side, theirs: _Side, patience: timedelta
) -> Iterator[StepFinding]:
    for step, fault in (  # (1)
        ("images", StepFault.IMAGES_UNKNOWN_TO_BROKER),
        ("request", StepFault.REQUEST_UNKNOWN_TO_BROKER),
    ):
        for key, other in theirs.of(step):
            if key not in ours.said:
                yield _finding(fault, agency, None, other)
    yield from _stated(agency, ours, theirs)
    for step, fault in (  # (3)
        ("decision", StepFault.DECISION_UNKNOWN_TO_BROKER),
        ("recall", StepFault.RECALL_UNKNOWN_TO_BROKER),
    ):
        for key, other in theirs.of(step):
            young = ours.newest is None or other.at > ours.newest - patience
            if key not in ours.said and not young and (_ENDED, key[1]) not in ours.said:
                yield _finding(fault, agency, None, other)


def _stated(agency: str, ours: _Side, theirs: _Side) -> Iterator[StepFinding]:
    """Compare what the broker states of the agency with what it states itself (2)."""
    for step, fault in (
        ("decision", StepFault.DECISION_UNKNOWN_TO_AGENCY),
        ("recall", StepFault.RECALL_UNKNOWN_TO_AGENCY),
    ):
        for key, mine in ours.of(step):
            other = theirs.said.get(key)
            if other is None:
                yield _finding(fault, agency, mine, None)
            elif other.content != mine.content:
                yield _finding(StepFault.DECISION_DIFFERS, agency, mine, other)


def _finding(fault: StepFault, agency: str, mine: _Said | None, other: _Said | None) -> StepFinding:
    either = mine or other
    return StepFinding(
        fault=fault,
        agency=agency,
        search_id=either.search_id if either else "",
        broker_entry=mine.entry if mine else None,
        agency_entry=other.entry if other else None,
    )
