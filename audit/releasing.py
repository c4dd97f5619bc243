"""What followed a search, in the logs alone: was it reviewed twice before anybody asked for a name?

1. Who reviewed is not in a log; that so many people did is: each sitting is an entry of its own,
   and a request for details names the reviews it stands on by digest.
2. A request is in order if the broker's log has at least two sittings whose reviews of this agency
   it names, every one before the request, and the decision after it.
3. An agency wrote down the broker's checkpoint that came with the request. If that is a root of the
   broker's log and covers the request's entry, the request was on the record before the agency's
   people saw it.
4. What the broker says was decided is what the agency says it decided: the same digest and state.
5. A request that only an agency's log has was on nobody's record before, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from audit import kinds

LEAST_REVIEWS: Final = 2
"""Fewest people who review a candidate before anybody has a name (promise 4)."""

RootOf = Callable[[int], str | None]
"""The root of the broker's log at a size, in hexadecimal; None beyond its end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log: whose, where, and what it says."""

    log: str
    index: int
    said: Mapping[str, Any]


class Asked(BaseModel):
    """One request for the details of a candidate.

    Attributes:
        agency: whose record it is.
        reference: the candidate.
        request_sha256: the request.
        entry: the broker's entry that recorded it; None if it was refused before.
        reviews: the broker's entries of the sittings it stands on.
        state: released, refused, lapsed, or empty while it waits.
        reason: of a refusal.
        decided: the broker's entry that says so.
        agency_entry: the agency's entry of its decision; None without its log.
        faults: what is not in order, in words (2) (3) (4).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agency: str
    reference: str
    request_sha256: str
    entry: int | None = None
    reviews: tuple[int, ...] = ()
    state: str = ""
    reason: str = ""
    decided: int | None = None
    agency_entry: int | None = None
    faults: tuple[str, ...] = ()


def asked_of(entries: Sequence[Entry], agencies: frozenset[str], root_of: RootOf) -> list[Asked]:
    """Return the requests for details that a search led to, each judged.

    Args:
        entries: everything about one search, each log in its own order; the broker's log is
            ``broker``, an agency's its id.
        agencies: whose logs were given.
        root_of: the broker's roots.
    """
    ours = [one for one in entries if one.log == "broker"]
    sittings = _sittings(ours)
    found: dict[str, list[Entry]] = {}
    for one in ours:
        if one.said["type"] in _OF_REQUESTS:
            digest = one.said["request_sha256"]
            found.setdefault(digest, []).append(one)
    return [
        _judged(digest, said, sittings, entries, agencies, root_of)
        for digest, said in found.items()
    ] + _unknown(entries, found)


def _unknown(entries: Sequence[Entry], known: Mapping[str, object]) -> list[Asked]:
    """Return the requests that only an agency's log has (5)."""
    theirs: dict[tuple[str, str], list[Entry]] = {}
    for one in entries:
        if one.said["type"] in {kinds.RELEASE_REQUESTED, kinds.RELEASE_DECIDED}:
            theirs.setdefault((one.log, one.said["request_sha256"]), []).append(one)
    return [
        Asked(
            agency=agency,
            reference=str(said[-1].said.get("reference", "")),
            request_sha256=digest,
            state=str(said[-1].said.get("state", "")),
            agency_entry=said[-1].index,
            faults=("only the agency's log has it: nothing says that it was recorded before",),
        )
        for (agency, digest), said in theirs.items()
        if digest not in known
    ]


_ENDS: Final = {
    kinds.DISCLOSURE_REFUSED: "refused",
    kinds.DISCLOSURE_LAPSED: "lapsed",
    kinds.DISCLOSURE_DECIDED: "",
}
_OF_REQUESTS: Final = frozenset({kinds.DISCLOSURE_REQUESTED, *_ENDS})


def _sittings(ours: Sequence[Entry]) -> dict[str, int]:
    """Return in which entry each review was recorded, by its digest (1)."""
    return {
        digest: one.index
        for one in ours
        if one.said["type"] == kinds.REVIEWED
        for digest in one.said["reviews"].values()
    }


def _judged(
    digest: str,
    said: Sequence[Entry],
    sittings: Mapping[str, int],
    entries: Sequence[Entry],
    agencies: frozenset[str],
    root_of: RootOf,
) -> Asked:
    asked = next((one for one in said if one.said["type"] == kinds.DISCLOSURE_REQUESTED), None)
    ended = next((one for one in reversed(said) if one.said["type"] in _ENDS), None)
    facts = said[0].said
    agency = facts["agency"]
    state, reason, faults = "", "", []
    if ended is not None:
        state = _ENDS[ended.said["type"]] or ended.said["state"]
        reason = ended.said.get("reason", "")
    reviews: tuple[int, ...] = ()
    if asked is not None:
        named = asked.said["reviews"]
        reviews = tuple(sorted(sittings[one] for one in named if one in sittings))
        before = [index for index in reviews if index < asked.index]
        if len(set(before)) < LEAST_REVIEWS or len(before) < len(named):  # (2)
            faults.append("not every review it names was recorded before it")
    if state == "released" and (asked is None or (ended and ended.index < asked.index)):  # (2)
        faults.append("released without a request that was recorded before")
    of_agency = [
        one for one in entries if one.log == agency and one.said.get("request_sha256") == digest
    ]
    decided = next((one for one in of_agency if one.said["type"] == kinds.RELEASE_DECIDED), None)
    if agency in agencies:
        faults += _against(asked, ended, of_agency, decided, root_of)
    return Asked(
        agency=agency,
        reference=facts["reference"],
        request_sha256=digest,
        entry=asked.index if asked else None,
        reviews=reviews,
        state=state,
        reason=reason,
        decided=ended.index if ended else None,
        agency_entry=decided.index if decided else None,
        faults=tuple(faults),
    )


def _against(
    asked: Entry | None,
    ended: Entry | None,
    of_agency: Sequence[Entry],
    decided: Entry | None,
    root_of: RootOf,
) -> list[str]:
    """Return what the agency's own log says otherwise (3) (4)."""
    faults = []
    for one in of_agency:
        shown = one.said.get("broker_checkpoint")
        if one.said["type"] != kinds.RELEASE_REQUESTED or asked is None:
            continue
        if (  # (3)
            shown is None or shown["size"] <= asked.index or root_of(shown["size"]) != shown["root"]
        ):
            faults.append("the agency was not shown a log that holds the request")
    by_decision = ended is not None and ended.said["type"] == kinds.DISCLOSURE_DECIDED
    if by_decision and ended is not None:
        if decided is None:
            faults.append("the agency's own log holds no decision")  # (4)
        elif (decided.said["decision_sha256"], decided.said["state"]) != (
            ended.said["decision_sha256"],
            ended.said["state"],
        ):
            faults.append("the agency recorded another decision")
    return faults
