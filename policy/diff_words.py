"""A comparison of two versions in words and as JSON.

Forces between whom the versions make no difference are named together. A request in it is made up:
officer and authoriser are placeholders, and the reasons given are letters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from policy.clauses import render
from policy.diff_model import AgreementChange, Change, DutyChange, Flip, PolicyDiff

MAX_NAMES: Final = 4
"""Most forces named in one line."""
_GIST: Final = ("purpose", "legal_basis", "subject_category", "offence_seriousness")
"""The facts by which a reader tells a request from another."""


def lines(diff: PolicyDiff) -> list[str]:
    """Return the comparison as plain text lines."""
    text = [f"Compared as decided at {diff.at.isoformat()}."]
    text += [f"{_agreement(change)}." for change in diff.agreements]
    for change in (Change.APPEARED, Change.VANISHED):
        pairs = [(one.agency, one.force) for one in diff.parties if one.change is change]
        for agency, forces in _by_agency(pairs):
            now = "now have" if change is Change.APPEARED else "no longer have"
            text.append(f"{agency} and {forces} {now} an agreement.")
    agencies = {one.agency for one in diff.flips} | {one.agency for one in diff.duties}
    for agency in sorted(agencies):
        text += ["", agency, *_of_agency(diff, agency)]
    if diff.same:
        text.append("No request is answered otherwise, and no obligation differs.")
    if diff.incomplete:
        text += ["", "This comparison is not complete:", *(f"  {one}." for one in diff.incomplete)]
    return text


def _of_agency(diff: PolicyDiff, agency: str) -> Iterator[str]:
    for change, other in ((Change.PERMITTED, "old"), (Change.DENIED, "new")):
        same: dict[Any, list[Flip]] = defaultdict(list)
        for flip in diff.flips:
            if flip.agency == agency and flip.change is change:
                same[flip.reasons, flip.agreement_id].append(flip)
        for flips in same.values():
            permits = "new" if other == "old" else "old"
            yield f"  Newly {change}, {_names(one.force for one in flips)}: {gist(flips[0])}"
            for reason in flips[0].reasons:
                yield f"    The {other} version denied it: {reason}."
            yield f"    The {permits} version permits it under {flips[0].agreement_id}."
    duties: dict[Any, list[DutyChange]] = defaultdict(list)
    for duty in diff.duties:
        if duty.agency == agency:
            duties[repr(duty.fields)].append(duty)
    for alike in duties.values():
        yield f"  Other obligations, {_names(one.force for one in alike)}: {gist(alike[0])}"
        for name, old, new in alike[0].fields:
            yield f"    {name}: {_value(old)} becomes {_value(new)}"


def gist(one: Flip | DutyChange) -> str:
    """Return in short what sort of request it is."""
    stated = one.request
    words = [str(stated[name]) for name in _GIST if name in stated]
    return ", ".join([*words, *(["urgent"] if stated.get("urgent") else [])])


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    return render(tuple(value)) if isinstance(value, list) else render(value)


def _agreement(change: AgreementChange) -> str:
    name = f"{change.agency}: agreement {change.agreement_id}"
    match change.change:
        case Change.APPEARED:
            return f"{name} version {change.new_version} is new"
        case Change.VANISHED:
            return f"{name} version {change.old_version} is gone"
        case _ if change.old_version == change.new_version:
            return f"{name} has another text under the same version {change.new_version}"
        case _:
            return f"{name} goes from version {change.old_version} to {change.new_version}"


def _by_agency(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    forces: dict[str, list[str]] = defaultdict(list)
    for agency, force in pairs:
        forces[agency].append(force)
    for agency, found in forces.items():
        yield agency, _names(found)


def _names(names: Iterable[str]) -> str:
    """Return names in a row, the first few of many."""
    found = list(dict.fromkeys(names))
    if len(found) <= MAX_NAMES + 1:
        return ", ".join(found)
    return f"{', '.join(found[:MAX_NAMES])} and {len(found) - MAX_NAMES} more"


def as_json(diff: PolicyDiff) -> dict[str, Any]:
    """Return the comparison as JSON values, every request whole."""
    return {
        "at": diff.at.isoformat(),
        "old_sha256": diff.old_sha256.hex(),
        "new_sha256": diff.new_sha256.hex(),
        "same": diff.same,
        "agreements": [
            {
                "change": one.change.value,
                "agency": one.agency,
                "agreement_id": one.agreement_id,
                "old_version": one.old_version,
                "new_version": one.new_version,
            }
            for one in diff.agreements
        ],
        "parties": [
            {"change": one.change.value, "agency": one.agency, "force": one.force}
            for one in diff.parties
        ],
        "requests": [_flip(one) for one in diff.flips],
        "obligations": [
            {
                "agency": one.agency,
                "force": one.force,
                "old_agreement_id": one.old_agreement_id,
                "new_agreement_id": one.new_agreement_id,
                "fields": {name: {"old": old, "new": new} for name, old, new in one.fields},
                "request": one.request,
            }
            for one in diff.duties
        ],
        "incomplete": list(diff.incomplete),
    }


def _flip(one: Flip) -> Mapping[str, Any]:
    return {
        "change": one.change.value,
        "agency": one.agency,
        "force": one.force,
        "permitted_under": one.agreement_id,
        "code": one.code.value,
        "failed": list(one.failed),
        "reasons": list(one.reasons),
        "request": one.request,
    }
