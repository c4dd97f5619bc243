"""The matrix of who may ask whom for what: force x agency x purpose, at one instant.

1. A cell is permitted if some request of the force to the agency for the purpose is; denied without
   agreement if no agreement of the two names the purpose; else denied although one does, because no
   request can satisfy it (or it is not in force), and the cell says by which clauses.
2. What a permission obliges to is marked: always, or for some of the requests only.
3. Whoever is not in the matrix has no agreement and is denied everything.

Kill switches and what is on record of a force or an officer are not looked at: a permitted cell
says that there is a request that may be permitted, not that every one will be.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from policy.boxes import is_empty, meet
from policy.codes import REGISTRY
from policy.decision import CompiledPolicy
from policy.regions import Part, Space
from policy.table import CompiledAgreement

PURPOSES: Final = tuple(REGISTRY["purpose"].codes)
"""Every purpose, in the registry's order."""


class Answer(StrEnum):
    """What a request of this kind can be answered."""

    PERMITTED = "permitted"
    NO_AGREEMENT = "denied (no agreement)"
    UNSATISFIABLE = "denied (agreement, but no request can satisfy it)"


class Extent(StrEnum):
    """Of how many of the permitted requests something is true."""

    NEVER = "no"
    SOMETIMES = "some"
    ALWAYS = "yes"


@dataclass(frozen=True, slots=True)
class CoverageCell:
    """One force, agency and purpose.

    ``agreements`` are those that permit it, or that name the purpose and cannot be satisfied; then
    ``hindered_by`` names clauses no request can satisfy together. ``urgent`` says whether an urgent
    route is offered.
    """

    force: str
    agency: str
    purpose: str
    answer: Answer
    agreements: tuple[str, ...] = ()
    hit_no_hit: Extent = Extent.NEVER
    release_by_human: Extent = Extent.NEVER
    urgent: bool = False
    hindered_by: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the cell as JSON values."""
        return {
            "force": self.force,
            "agency": self.agency,
            "purpose": self.purpose,
            "answer": self.answer.value,
            "agreements": list(self.agreements),
            "hit_no_hit": self.hit_no_hit.value,
            "release_by_human": self.release_by_human.value,
            "urgent_route": self.urgent,
            "hindered_by": list(self.hindered_by),
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """The whole matrix, by force, agency and purpose."""

    at: datetime
    policy_sha256: bytes
    forces: tuple[str, ...]
    agencies: tuple[str, ...]
    cells: tuple[CoverageCell, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the matrix as JSON values."""
        return {
            "at": self.at.isoformat(),
            "policy_sha256": self.policy_sha256.hex(),
            "forces": list(self.forces),
            "agencies": list(self.agencies),
            "purposes": list(PURPOSES),
            "cells": [cell.as_json() for cell in self.cells],
        }


def coverage(
    policy: CompiledPolicy,
    at: datetime,
    *,
    forces: Iterable[str] = (),
    agencies: Iterable[str] = (),
) -> Coverage:
    """Return the matrix of every force and agency with an agreement, and of those named.

    Raises:
        ValueError: ``at`` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the instant of a matrix needs a time zone")
    every_force = sorted({*forces, *(force for _, force in policy.parties)})
    every_agency = sorted({*agencies, *(agency for agency, _ in policy.parties)})
    found: dict[tuple[str, str], list[CoverageCell]] = {}
    for agency in every_agency:
        each = {id(one): one for force in every_force for one in policy.agreements(agency, force)}
        space = Space(each.values(), agency, every_force, at)
        for force in every_force:
            row = _Row(space, policy.agreements(agency, force), agency, force)
            found[force, agency] = [row.cell(purpose) for purpose in PURPOSES]
    return Coverage(
        at=at,
        policy_sha256=policy.bundle.sha256,
        forces=tuple(every_force),
        agencies=tuple(every_agency),
        cells=tuple(cell for pair in sorted(found) for cell in found[pair]),
    )


def as_csv(matrix: Coverage) -> str:
    """Return the matrix as a table for a spreadsheet, a line for each cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cell in matrix.cells:
        row = cell.as_json()
        writer.writerow([_plain(row[name]) for name in _COLUMNS])
    return out.getvalue()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)


def alike(matrix: Coverage) -> list[tuple[list[str], list[CoverageCell]]]:
    """Return the forces that are answered alike, and the cells of the first of them."""
    of_force: dict[str, list[CoverageCell]] = {force: [] for force in matrix.forces}
    for cell in matrix.cells:
        of_force[cell.force].append(cell)
    groups: dict[tuple[CoverageCell, ...], list[str]] = {}
    for force, cells in of_force.items():
        groups.setdefault(tuple(replace(cell, force="") for cell in cells), []).append(force)
    return [(forces, of_force[forces[0]]) for forces in groups.values()]


_COLUMNS: Final = (
    "force",
    "agency",
    "purpose",
    "answer",
    "agreements",
    "hit_no_hit",
    "release_by_human",
    "urgent_route",
    "hindered_by",
)


class _Row:
    """The cells of one force and agency."""

    def __init__(
        self, space: Space, agreements: Sequence[CompiledAgreement], agency: str, force: str
    ) -> None:
        self._space, self._agreements = space, agreements
        self._agency, self._force = agency, force
        chosen, complete = space.chosen(agreements, force)
        if not complete:  # then rather an agreement too many than a permission too few
            mine = space.of_force(force)
            chosen = [(part, [meet(part.box, mine)]) for part, _ in chosen]
        self._chosen = chosen

    def cell(self, purpose: str) -> CoverageCell:  # (1)
        """Return the cell of one purpose."""
        wanted = self._space.for_purpose(purpose)
        parts = [
            part
            for part, boxes in self._chosen
            if any(not is_empty(meet(box, wanted)) for box in boxes)
        ]
        if parts:
            return self._permitted(purpose, parts)
        named = [
            one
            for one in self._agreements
            if any(gateway.purpose == purpose for gateway in one.agreement.gateways)
        ]
        return CoverageCell(
            self._force,
            self._agency,
            purpose,
            Answer.UNSATISFIABLE if named else Answer.NO_AGREEMENT,
            agreements=tuple(one.agreement.id for one in named),
            hindered_by=tuple(dict.fromkeys(self._hindrances(named, purpose))),
        )

    def _permitted(self, purpose: str, parts: Sequence[Part]) -> CoverageCell:  # (2)
        duties = [part.compiled.agreement.obligations for part in parts]
        return CoverageCell(
            self._force,
            self._agency,
            purpose,
            Answer.PERMITTED,
            agreements=tuple(dict.fromkeys(part.compiled.agreement.id for part in parts)),
            hit_no_hit=_extent(one.hit_no_hit for one in duties),
            release_by_human=_extent(one.release_by_human for one in duties),
            urgent=any(part.urgent for part in parts),
        )

    def _hindrances(self, named: Sequence[CompiledAgreement], purpose: str) -> Iterator[str]:
        """Yield the clauses that no request of this force and purpose can satisfy together."""
        asked = meet(self._space.of_force(self._force), self._space.for_purpose(purpose))
        for one in named:
            for clause in one.clauses:
                if not self._space.read_by(clause) and is_empty(self._space.permits(clause)):
                    yield clause.id
            for _, clauses in self._space.excluding(one.clauses, asked):
                yield from (clause.id for clause in clauses)


def _extent(facts: Iterable[bool]) -> Extent:
    found = set(facts)
    if found == {True}:
        return Extent.ALWAYS
    return Extent.SOMETIMES if True in found else Extent.NEVER
