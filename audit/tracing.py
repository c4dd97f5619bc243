"""One search through everybody's logs: was it recorded before it ran, and what became of it?

1. An agency that answered wrote down the broker's checkpoint that it was shown. If that checkpoint
   is a root of the broker's log and covers the order's entry, the order was on the record before
   the agency acted: the agency could not have had the checkpoint otherwise. That is of the order
   that the agency answered; another one under the same search's id proves nothing. Where the broker
   has an agency's signed answer and the agency's log nothing of the search, nothing is proved.
2. Clocks prove nothing here. Times are shown as each side states them.
3. An agency that gave no answer is part of what became of a search, with the reason.
4. So is what followed it: reviews, requests for details and what was decided on them, each judged
   by what the logs prove (``releasing``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from audit.evidence import ORDER_ENTRY
from audit.folder import LogFolder
from audit.holding import HeldLog, Verdict
from audit.kinds import REFUSED, REPORT, RESULT
from audit.reader import LogReader
from audit.releasing import Asked, Entry, asked_of
from audit.roots import root_at
from trust.errors import ProbegateError, Reason

_PROVES: Final = (Verdict.HOLDS, Verdict.UNSIGNED)


class Recorded(StrEnum):
    """Whether an order was on the record before an agency acted on it."""

    BEFORE = "before"
    NOT_PROVED = "not_proved"
    NOT_ASKED = "not_asked"
    NO_LOG = "no_log"


class Step(BaseModel):
    """One entry about the search.

    Attributes:
        log: whose log: ``broker`` or an agency's id.
        entry: its index.
        at: when, as it says.
        kind: its type.
        said: what it says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: str
    entry: int
    at: str
    kind: str
    said: dict[str, Any]


class AtAgency(BaseModel):
    """What became of a search at one agency.

    Attributes:
        agency: its id.
        permitted: whether the broker's decision let it be asked.
        failed: the clauses that denied it.
        recorded: whether the order was recorded before it acted (1).
        covered: entries of the broker's checkpoint that it wrote down.
        state: the outcome by the newest result; empty if there is none.
        reason: why, if it did not search.
        own_state: its own newest entry's state; empty without its log.
        erased_at: when what it found was erased at the broker, its time being over; empty if it was
            not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agency: str
    permitted: bool
    failed: tuple[str, ...] = ()
    recorded: Recorded = Recorded.NO_LOG
    covered: int | None = None
    state: str = ""
    reason: str = ""
    own_state: str = ""
    erased_at: str = ""


class Trace(BaseModel):
    """Everything the logs say of one search.

    Attributes:
        search_id: which.
        order_entry: the broker's entry that recorded its order.
        agencies: each agency of the order.
        requests: each request for a candidate's details.
        steps: every entry about it, each log in its own order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    search_id: str
    order_entry: int
    agencies: tuple[AtAgency, ...]
    requests: tuple[Asked, ...] = ()
    steps: tuple[Step, ...]

    @property
    def recorded_first(self) -> bool:
        """Whether that is proved of every agency that acted and whose log was given."""
        return all(one.recorded is not Recorded.NOT_PROVED for one in self.agencies)

    @property
    def in_order(self) -> bool:
        """Whether that is so, and every request for details was in order (4)."""
        return self.recorded_first and not any(one.faults for one in self.requests)


def trace(search_id: str, broker: Path, agencies: Mapping[str, Path]) -> Trace:
    """Follow one search.

    Args:
        search_id: its id.
        broker: folder of the broker's search log.
        agencies: folders of agencies' search logs, by their ids.

    Raises:
        ProbegateError: ``NOT_FOUND`` if the broker's log has no order of it; what reading raises.
    """
    reader = LogReader(broker)
    steps = _steps("broker", reader, search_id)
    orders = [step for step in steps if step.kind == ORDER_ENTRY]
    if not orders:
        raise ProbegateError(Reason.NOT_FOUND, "no order of this search is in the log")
    order = orders[0]
    results = [step for step in steps if step.kind == RESULT]
    outcomes = {one["agency"]: one for one in results[-1].said["outcomes"]} if results else {}
    found = []
    for decision in order.said["decisions"]:
        agency = decision["agency"]
        outcome = outcomes.get(agency, {})
        one = AtAgency(
            agency=agency,
            permitted=decision["permitted"],
            failed=tuple(decision.get("failed", ())),
            state=outcome.get("state", ""),
            reason=outcome.get("reason", ""),
            erased_at=outcome.get("erased_at", ""),
        )
        if agency in agencies:
            own = _steps(agency, LogReader(agencies[agency]), search_id)
            steps += own
            answered = bool(outcome.get("report_sha256"))
            one = _judged(one, own, order, broker, answered=answered)
        found.append(one)
    entries = [Entry(step.log, step.entry, step.said) for step in steps]
    tiles = LogFolder(broker)

    def root_of(size: int) -> str | None:
        return root_at(tiles, reader.size, size).hex() if size <= reader.size else None

    return Trace(
        search_id=search_id,
        order_entry=order.entry,
        agencies=tuple(found),
        requests=tuple(asked_of(entries, frozenset(agencies), root_of)),  # (4)
        steps=tuple(steps),
    )


def _judged(
    one: AtAgency, own: list[Step], order: Step, folder: Path, *, answered: bool
) -> AtAgency:
    acted = [step for step in own if step.kind in {REPORT, REFUSED}]
    if not acted:
        recorded = Recorded.NOT_PROVED if answered else Recorded.NOT_ASKED  # (1)
        return one.model_copy(update={"recorded": recorded})
    log = HeldLog(folder)
    # What follows a person's decision on a held answer was shown no checkpoint of its own.
    shown = [step.said["broker_checkpoint"] for step in acted if step.said["broker_checkpoint"]]
    # A request may be refused before its order is read.
    orders = {step.said.get("order_sha256", "") for step in acted} - {""}
    proved = (
        bool(shown)
        and orders <= {order.said.get("order_sha256", "")}
        and all(order.entry < seen["size"] and log.judge(seen) in _PROVES for seen in shown)
    )
    return one.model_copy(
        update={
            "recorded": Recorded.BEFORE if proved else Recorded.NOT_PROVED,
            "covered": min((seen["size"] for seen in shown), default=None),
            "own_state": acted[-1].said.get("state", "refused"),
        }
    )


def _steps(log: str, reader: LogReader, search_id: str) -> list[Step]:
    return [
        Step(log=log, entry=index, at=str(said.get("at", "")), kind=str(said["type"]), said=said)
        for index, said in reader.facts()
        if said.get("search_id") == search_id
    ]
