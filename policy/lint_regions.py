"""What agreements permit, looked at for ``policy.lint``: nothing, nothing new, or twice.

1. An agreement permits nothing if on some fact no value satisfies all its clauses; the fewest of
   them that exclude each other are named. The dates it is in force do not count here.
2. It is never chosen if for all that it permits today another would be chosen first, and it adds
   nothing if another permits as much with the very same duties.
3. Two agreements conflict if both permit a request today with different duties. The choice between
   them is certain, but whoever signed the other may expect theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import combinations, product
from typing import Any, Final

from policy.agreements import AgreementFile
from policy.boxes import Box, is_empty, meet, minus_all
from policy.bundle import unsigned_bundle_for_dry_run
from policy.cells import as_mapping
from policy.clauses import SATISFIED, CompiledClause
from policy.decision import CompiledPolicy, Decision, compile_bundle
from policy.facts import ATTRIBUTES
from policy.regions import Part, Space
from policy.table import CompiledAgreement

ANY_FORCE: Final = "any-force"
"""Stands for a force that no agreement names."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on one agreement, and a request that shows it where there is one."""

    agreement_id: str
    text: str
    request: Mapping[str, Any] | None = None


def forces_of(files: Sequence[AgreementFile]) -> list[str]:
    """Return every force that agreements name, and one that none does if any is open to all."""
    named = {f for file in files if file.agreement.forces != "all" for f in file.agreement.forces}
    open_to_all = any(file.agreement.forces == "all" for file in files)
    return [*sorted(named), *([ANY_FORCE] if open_to_all else [])]


def dry_run(files: Sequence[AgreementFile]) -> CompiledPolicy:
    """Return agreements compiled as if everybody had signed; never decide a search on it."""
    return compile_bundle(unsigned_bundle_for_dry_run(files, forces_of(files)))


def _noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def unsatisfiable(file: AgreementFile, today: date) -> Iterator[str]:  # (1)
    """Yield why an agreement, or a purpose it names, can permit no request."""
    agreement = file.agreement
    policy = dry_run([file])
    force = min(force for _, force in policy.parties)
    (compiled,) = policy.agreements(agreement.agency, force)
    day = min(max(today, agreement.in_force.from_), agreement.in_force.to)
    forces = [force for _, force in policy.parties]
    space = Space([compiled], agreement.agency, forces, _noon(day))
    box, *urgent = (part.box for part in space.parts(compiled, timeless=True))
    instead = "; only its urgent route can be used" if any(not is_empty(b) for b in urgent) else ""
    for index, excluding in space.excluding(compiled.clauses, space.everything):
        if len(excluding) == 1 and not _carried(excluding[0]):
            continue  # the finding that no request carries the fact says so already
        yield f"{_exclusion(space, index, excluding)}, so no request can satisfy it{instead}"
    for gateway in () if is_empty(box) else agreement.gateways:
        wanted = space.for_purpose(gateway.purpose)
        for _, excluding in space.excluding(compiled.clauses, wanted):
            ids = " with ".join(clause.id for clause in excluding)
            yield f"has a gateway for {gateway.purpose}, but {ids} permits none"


def _carried(clause: CompiledClause) -> bool:
    attribute = ATTRIBUTES.get(clause.attribute)
    return attribute is None or attribute.carried


def _exclusion(space: Space, index: int, clauses: Sequence[CompiledClause]) -> str:
    ids = [f"{clause.id} ({clause.operator} {clause.required})" for clause in clauses]
    name = space.dimensions[index].name
    if len(ids) == 1:
        return f"{name}: nothing satisfies {ids[0]}"
    return f"{name}: {' and '.join(ids)} exclude each other"


@dataclass(frozen=True, slots=True)
class _Agency:
    """The agreements of one agency that are open to a force, and what they permit today."""

    policy: CompiledPolicy
    space: Space
    agency: str

    def parts(self, compiled: CompiledAgreement, force: str) -> list[Part]:
        """Return what an agreement permits a force."""
        mine = self.space.of_force(force)
        found = [
            Part(one.compiled, one.urgent, meet(one.box, mine))
            for one in self.space.parts(compiled)
        ]
        return [part for part in found if not is_empty(part.box)]


def _agencies(files: Sequence[AgreementFile], today: date) -> Iterator[tuple[_Agency, list[str]]]:
    """Yield every agency that has more than one agreement, and its forces."""
    policy = dry_run(files)
    for agency in sorted({agency for agency, _ in policy.parties}):
        forces = sorted(force for of, force in policy.parties if of == agency)
        every = {id(one): one for force in forces for one in policy.agreements(agency, force)}
        if len(every) > 1:
            space = Space(every.values(), agency, forces, _noon(today))
            yield _Agency(policy, space, agency), forces


def never_chosen(files: Sequence[AgreementFile], today: date) -> Iterator[Remark]:  # (2)
    """Yield the agreements that others make superfluous today, whatever the force."""
    for one, forces in _agencies(files, today):
        beside: dict[str, list[_Beside]] = {}
        for force in forces:
            for each in _besides(one, force):
                beside.setdefault(each.agreement_id, []).append(each)
        shadowed = {name for name, found in beside.items() if all(b.shadowed_by for b in found)}
        for name, found in sorted(beside.items()):
            earlier = sorted(frozenset[str]().union(*(b.shadowed_by for b in found)))
            as_good = sorted(frozenset[str]().union(*(b.doubled_by for b in found)) - shadowed)
            if name in shadowed:
                text = f"is never chosen: for all that it permits, {', '.join(earlier)} comes first"
                yield Remark(name, text)
            elif as_good and all(b.shadowed_by or b.doubled_by - shadowed for b in found):
                text = f"adds nothing: {' or '.join(as_good)} permits as much with the same duties"
                yield Remark(name, text)


@dataclass(frozen=True, slots=True)
class _Beside:
    """An agreement that permits a force something, and the others that permit it all too."""

    agreement_id: str
    shadowed_by: frozenset[str]
    doubled_by: frozenset[str]


def _besides(one: _Agency, force: str) -> Iterator[_Beside]:
    agreements = one.policy.agreements(one.agency, force)
    for place, compiled in enumerate(agreements):
        parts = one.parts(compiled, force)
        if not parts:
            continue
        earlier = [p for other in agreements[:place] for p in one.parts(other, force)]
        over = {p.compiled.agreement.id for p in earlier if _overlap(parts, p)}
        double = {
            other.agreement.id
            for other in agreements[place + 1 :]
            if _doubles(one, parts, other, force)
        }
        yield _Beside(
            compiled.agreement.id,
            frozenset(over if _inside(parts, earlier) else ()),
            frozenset(double),
        )


def _boxes(parts: Sequence[Part]) -> list[Box]:
    return [part.box for part in parts]


def _inside(parts: Sequence[Part], others: Sequence[Part]) -> bool:
    left, complete = minus_all(_boxes(parts), _boxes(others))
    return complete and not left


def _overlap(parts: Sequence[Part], other: Part) -> bool:
    return any(not is_empty(meet(part.box, other.box)) for part in parts)


def _doubles(one: _Agency, parts: Sequence[Part], other: CompiledAgreement, force: str) -> bool:
    """Whether another agreement permits all that some parts do with the very same duties."""
    theirs = one.parts(other, force)
    return all(_inside([part], [p for p in theirs if p.duties == part.duties]) for part in parts)


def conflicts(files: Sequence[AgreementFile], today: date) -> Iterator[Remark]:  # (3)
    """Yield, for each two agreements that permit a request with other duties, one such request."""
    for one, forces in _agencies(files, today):
        said: set[tuple[str, str]] = set()
        for force in forces:
            for pair in combinations(one.policy.agreements(one.agency, force), 2):
                names = (pair[0].agreement.id, pair[1].agreement.id)
                found = None if names in said else _conflict(one, *pair, force)
                if found is not None:
                    said.add(names)
                    yield found


def _conflict(
    one: _Agency, first: CompiledAgreement, second: CompiledAgreement, force: str
) -> Remark | None:
    for part, other in product(one.parts(first, force), one.parts(second, force)):
        box = meet(part.box, other.box)
        if part.duties == other.duties or is_empty(box):
            continue
        facts = one.space.facts(one.space.plainest(box))
        decision = one.policy.decide(facts, one.agency, one.space.at)
        if all(_permits(decision, compiled.agreement.id) for compiled in (first, second)):
            differing = _differing(part, other)
            ids = first.agreement.id, second.agreement.id
            text = f"permits requests that {ids[1]} permits with other duties ({differing})"
            return Remark(ids[0], f"{text}; {decision.agreement_id} is chosen", as_mapping(facts))
    return None


def _permits(decision: Decision, agreement_id: str) -> bool:
    mine = [clause for clause in decision.clauses if clause.agreement_id == agreement_id]
    return all(clause.verdict is SATISFIED or clause.waived for clause in mine)


def _differing(part: Part, other: Part) -> str:
    mine, theirs = (p.compiled.agreement.obligations.model_dump() for p in (part, other))
    names = [name for name in mine if mine[name] != theirs[name]]
    if part.duties[1] != other.duties[1]:
        names.append("confirmation of urgency")
    return ", ".join(names)
