"""What a new version of the agreements permits or forbids that the old one did not.

1. Both versions are compared at one instant, between each agency and each force. What one permits
   and the other does not is found by subtracting regions (``policy.regions``), not by trying.
2. Every difference is shown by a request. None is reported before both versions have really decided
   it, so a difference that is reported is one.
3. There is one request for each reason: each set of clauses that the denying side says failed. Sets
   that are reached only by failing more than a request must are left out.
4. Where both permit, what a permission obliges to is compared: every obligation, and by whom and
   how soon an urgent permission must be confirmed.
5. What was left out for its number is said in ``PolicyDiff.incomplete``.

Kill switches, unconfirmed urgent searches and words that nobody knows are the same to both sides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any, Final

from policy.boxes import is_empty, meet, minus_all
from policy.clauses import SATISFIED
from policy.decision import CompiledPolicy, Decision, DecisionCode
from policy.diff_model import (
    AgreementChange,
    Change,
    DutyChange,
    Flip,
    PartyChange,
    PolicyDiff,
)
from policy.explain import sentence
from policy.facts import Facts
from policy.regions import Choice, Part, Space
from policy.table import CompiledAgreement
from policy.witnesses import choices

MAX_REASONS: Final = 12
"""Most requests shown for one agency and force in one direction."""


def compare(old: CompiledPolicy, new: CompiledPolicy, at: datetime) -> PolicyDiff:
    """Return what differs between two versions when deciding at ``at``.

    Raises:
        ValueError: ``at`` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the instant of a comparison needs a time zone")
    flips: list[Flip] = []
    duties: list[DutyChange] = []
    incomplete: list[str] = []
    for agency in sorted({agency for agency, _ in old.parties | new.parties}):
        one = _OfAgency(old, new, agency, at)
        for forces in one.alike():
            one.look(forces)
        flips += one.flips
        duties += one.duties
        incomplete += one.incomplete
    return PolicyDiff(
        at=at,
        old_sha256=old.bundle.sha256,
        new_sha256=new.bundle.sha256,
        agreements=tuple(_agreements(old, new)),
        parties=tuple(_parties(old, new)),
        flips=tuple(flips),
        duties=tuple(duties),
        incomplete=tuple(incomplete),
    )


def _agreements(old: CompiledPolicy, new: CompiledPolicy) -> Iterator[AgreementChange]:
    before, after = (
        {party.file.agreement.id: party.file for party in policy.bundle.agreements}
        for policy in (old, new)
    )
    for agreement_id in sorted(before.keys() | after.keys()):
        was, is_now = before.get(agreement_id), after.get(agreement_id)
        if was is not None and is_now is not None and was.sha256 == is_now.sha256:
            continue
        change = Change.REPLACED
        if was is None or is_now is None:
            change = Change.APPEARED if was is None else Change.VANISHED
        agency = next(file.agreement.agency for file in (is_now, was) if file is not None)
        versions = [None if file is None else file.agreement.version for file in (was, is_now)]
        yield AgreementChange(change, agency, agreement_id, *versions)


def _parties(old: CompiledPolicy, new: CompiledPolicy) -> Iterator[PartyChange]:
    for agency, force in sorted(old.parties ^ new.parties):
        appeared = (agency, force) in new.parties
        yield PartyChange(Change.APPEARED if appeared else Change.VANISHED, agency, force)


class _OfAgency:
    """The comparison of two versions at one agency."""

    def __init__(self, old: CompiledPolicy, new: CompiledPolicy, agency: str, at: datetime) -> None:
        self._old, self._new, self._agency, self._at = old, new, agency, at
        self._forces = sorted({f for a, f in old.parties | new.parties if a == agency})
        every: dict[int, CompiledAgreement] = {}
        for policy in (old, new):
            for force in self._forces:
                every |= {id(one): one for one in policy.agreements(agency, force)}
        self._every = every.values()
        self._space = Space(self._every, agency, self._forces, at)
        self.flips: list[Flip] = []
        self.duties: list[DutyChange] = []
        self.incomplete: list[str] = []

    def alike(self) -> Iterable[list[str]]:
        """Return the forces, those together between whom no agreement tells a difference."""
        named = any(clause.attribute == "force" for one in self._every for clause in one.clauses)
        groups: dict[Any, list[str]] = defaultdict(list)
        for force in self._forces:
            sides = [policy.agreements(self._agency, force) for policy in (self._old, self._new)]
            groups[force if named else tuple(tuple(map(id, side)) for side in sides)].append(force)
        return groups.values()

    def look(self, forces: list[str]) -> None:
        """Find the differences for forces that are alike, by looking at the first."""
        before, after = (
            policy.agreements(self._agency, forces[0]) for policy in (self._old, self._new)
        )
        self._flips(forces, after, before, Change.PERMITTED)
        self._flips(forces, before, after, Change.DENIED)
        self._duties(forces, before, after)

    def _flips(
        self,
        forces: list[str],
        permitting: tuple[CompiledAgreement, ...],
        denying: tuple[CompiledAgreement, ...],
        change: Change,
    ) -> None:
        mine = self._space.of_force(forces[0])
        pieces, complete = minus_all(
            (meet(part.box, mine) for part in self._parts(permitting)),
            [part.box for part in self._parts(denying)],
        )
        if not complete:
            self._note(forces, f"some of what is newly {change} was not looked at")
        clauses = [clause for compiled in denying for clause in compiled.clauses]
        found: dict[frozenset[str], tuple[Choice, Flip]] = {}
        for piece in pieces:
            for choice in choices(self._space, piece, clauses):  # (3)
                flip = self._confirmed(choice, forces[0], change)
                if flip is None:
                    self._note(forces, "a difference that was worked out did not come about")
                else:
                    found.setdefault(frozenset(flip.failed), (choice, flip))
        shown = sorted(found.values(), key=lambda one: (len(one[1].failed), one[1].failed))
        if len(shown) > MAX_REASONS:
            more = len(shown) - MAX_REASONS
            self._note(forces, f"{more} more reasons of what is newly {change} are not shown")
        for force in forces:
            again = (self._confirmed(choice, force, change) for choice, _ in shown[:MAX_REASONS])
            self.flips += [flip for flip in again if flip is not None]

    def _confirmed(self, choice: Choice, force: str, change: Change) -> Flip | None:  # (2)
        """Return the difference that a request makes, or None if it makes none."""
        facts = self._space.facts(choice).model_copy(update={"force": force})
        before, after = self._decisions(facts)
        permit, denial = (after, before) if change is Change.PERMITTED else (before, after)
        if denial.permitted or not permit.permitted:
            return None
        return Flip(
            change=change,
            agency=self._agency,
            force=force,
            facts=facts,
            agreement_id=permit.agreement_id,
            code=denial.code,
            failed=denial.failed,
            reasons=tuple(_reasons(denial)),
        )

    def _duties(
        self,
        forces: list[str],
        before: tuple[CompiledAgreement, ...],
        after: tuple[CompiledAgreement, ...],
    ) -> None:
        old, new = (self._space.chosen(side, forces[0]) for side in (before, after))
        if not (old[1] and new[1]):
            self._note(forces, "some of what both permit was not looked at")
        found: dict[Any, Choice] = {}
        for (was, was_in), (is_now, now_in) in product(old[0], new[0]):
            if was.duties == is_now.duties:
                continue
            shared = (meet(one, other) for one, other in product(was_in, now_in))
            box = next((box for box in shared if not is_empty(box)), None)
            if box is not None:
                found.setdefault((was.duties, is_now.duties), self._space.plainest(box))
        if len(found) > MAX_REASONS:
            self._note(forces, f"{len(found) - MAX_REASONS} more changed obligations are not shown")
        for force in forces:
            said: dict[str, DutyChange] = {}
            for choice in list(found.values())[:MAX_REASONS]:
                facts = self._space.facts(choice).model_copy(update={"force": force})
                for duty in self._changed_duties(facts, force):
                    said.setdefault(repr(replace(duty, facts=Facts())), duty)
            self.duties += said.values()

    def _changed_duties(self, facts: Facts, force: str) -> Iterator[DutyChange]:
        before, after = self._decisions(facts)
        was, is_now = duties_of(before), duties_of(after)
        fields = tuple((n, was[n], is_now[n]) for n in was if n in is_now and was[n] != is_now[n])
        if fields:
            ids = before.agreement_id, after.agreement_id
            yield DutyChange(self._agency, force, facts, *ids, fields)

    def _decisions(self, facts: Facts) -> tuple[Decision, Decision]:
        decide = self._old.decide, self._new.decide
        return decide[0](facts, self._agency, self._at), decide[1](facts, self._agency, self._at)

    def _parts(self, side: tuple[CompiledAgreement, ...]) -> list[Part]:
        return [part for compiled in side for part in self._space.parts(compiled)]

    def _note(self, forces: list[str], text: str) -> None:
        note = f"{self._agency}, {', '.join(forces)}: {text}"
        if note not in self.incomplete:
            self.incomplete.append(note)


def duties_of(decision: Decision) -> dict[str, Any]:
    """Return what a permission obliges to, by field; nothing for a denial."""
    if decision.obligations is None:
        return {}
    stated = decision.obligations.model_dump(mode="json")
    hours = None
    if decision.confirm_by is not None:
        hours = round((decision.confirm_by - decision.decided_at).total_seconds() / 3600)
    return stated | {
        "confirm_within_hours": hours,
        "confirmer_rank": decision.confirmer_rank or None,
    }


def _reasons(denial: Decision) -> Iterator[str]:
    """Yield in words why a version denied; an agreement is named where there are several."""
    if denial.code is DecisionCode.NO_AGREEMENT:
        yield f"no agreement binds this force and {denial.agency}"
    said = set()
    for clause in denial.clauses:
        if clause.verdict is SATISFIED or clause.waived:
            continue
        same = replace(clause, agreement_id="")
        if same not in said:
            said.add(same)
            of = f" ({clause.agreement_id})" if len(denial.considered) > 1 else ""
            yield f"{sentence(clause)}{of}"
