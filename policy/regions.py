"""What an agreement permits, as products of sets of cells: boxes.

1. A clause that reads one dimension of ``policy.cells`` permits a set of its cells, found by asking
   the clause's own closure. One that reads several (every coded fact, every prior answer) is met
   where each of them meets it by itself, so it too permits a set of cells in each.
2. An agreement needs every clause, so it permits the product of their intersections: one box. Its
   urgent route permits a second, of urgent requests, without the clauses it waives.
3. A clause that reads nothing of a request (in force, documents) permits all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from policy.boxes import Box, bits, meet, minus_all
from policy.cells import GATEWAY, Cell, Dimension, dimensions, facts_of
from policy.clauses import SATISFIED, CompiledClause
from policy.facts import CODED, Facts
from policy.standing_clauses import ANSWERED
from policy.table import CompiledAgreement

Choice = tuple[int, ...]
"""One cell of each dimension, by number."""

_CODED: Final = frozenset(attribute.name for attribute in CODED)
_READS: Final[Mapping[str, Callable[[Dimension], bool]]] = {
    "every coded fact": lambda dimension: bool(dimension.attributes & _CODED),
    "legal_basis": lambda dimension: dimension.name == GATEWAY,
    "decided_at": lambda _dimension: False,
    "switches": lambda _dimension: False,
    "unconfirmed_urgent": lambda _dimension: False,
}
"""What the clauses that read more than one attribute's value read, by what they call it."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A box of requests that an agreement permits, outright or by its urgent route."""

    compiled: CompiledAgreement
    urgent: bool
    box: Box

    @property
    def duties(self) -> tuple[Hashable, ...]:
        """What a permission by it obliges to, and how it must be confirmed; equal for equals."""
        route = self.compiled.agreement.urgent if self.urgent else None
        confirmation = (route.confirm_within_hours, route.confirmer_rank) if route else None
        return self.compiled.agreement.obligations, confirmation


class Space:
    """The requests to one agency at one instant, cut fine enough for some agreements.

    Attributes:
        dimensions: what a request states, and the cells of each fact.
        at: the instant of the decision, UTC.
    """

    def __init__(
        self,
        compiled: Iterable[CompiledAgreement],
        agency: str,
        forces: Iterable[str],
        at: datetime,
    ) -> None:
        self.at = at.astimezone(UTC)
        self._forces = tuple(sorted(set(forces)))
        agreements = [one.agreement for one in compiled]
        self.dimensions = dimensions(agreements, agency, self._forces, self.at)
        self._permits: dict[Hashable, Box] = {}

    @cached_property
    def everything(self) -> Box:
        """The box of every request."""
        return tuple((1 << len(dimension.cells)) - 1 for dimension in self.dimensions)

    @cached_property
    def _plain(self) -> tuple[Cell, ...]:
        """A request with a known word for every coded fact, that every agency answered just now."""
        return tuple(min(d.cells, key=lambda c: (c.missing, c.rank)) for d in self.dimensions)

    @cached_property
    def _answered_now(self) -> tuple[Cell, ...]:
        now = [
            Cell(((path, self.at),))
            for dimension in self.dimensions
            for path, _ in dimension.cells[0].stated
            if ANSWERED in dimension.attributes
        ]
        return (*self._plain, *now)

    @cached_property
    def _requests(self) -> tuple[tuple[Facts, ...], ...]:
        """For each cell, the plain request with that cell in place of its own."""
        return tuple(
            tuple(facts_of((*self._answered_now, cell)) for cell in dimension.cells)
            for dimension in self.dimensions
        )

    def permits(self, clause: CompiledClause) -> Box:  # (1)
        """Return the box of the requests that satisfy a clause; asked once for equal clauses."""
        if clause.key not in self._permits:
            read = self.read_by(clause)
            if not read and clause.test(facts_of(self._plain), self.at) is not SATISFIED:  # (3)
                self._permits[clause.key] = (0,) * len(self.dimensions)
            else:
                self._permits[clause.key] = tuple(
                    self._cells_for(clause, index) if index in read else everything
                    for index, everything in enumerate(self.everything)
                )
        return self._permits[clause.key]

    def _cells_for(self, clause: CompiledClause, index: int) -> int:
        return sum(
            1 << number
            for number, facts in enumerate(self._requests[index])
            if clause.test(facts, self.at) is SATISFIED
        )

    def read_by(self, clause: CompiledClause) -> frozenset[int]:
        """Return the dimensions that a clause reads, by number.

        Raises:
            LookupError: it reads what no dimension has; a new kind of clause needs one.
        """
        attribute = clause.attribute
        if clause.holds is None and attribute in _READS:
            reads = _READS[attribute]
            return frozenset(i for i, d in enumerate(self.dimensions) if reads(d))
        found = frozenset(i for i, d in enumerate(self.dimensions) if attribute in d.attributes)
        if not found:
            raise LookupError(f"no dimension has {attribute}")
        return found

    def box(self, clauses: Iterable[CompiledClause]) -> Box:
        """Return the requests that satisfy every one of ``clauses``."""
        found = self.everything
        for clause in clauses:
            found = meet(found, self.permits(clause))
        return found

    def excluding(
        self, clauses: Sequence[CompiledClause], among: Box
    ) -> Iterator[tuple[int, list[CompiledClause]]]:
        """Yield the dimensions of which clauses leave no cell of a box, and the fewest that do.

        None of those can be spared. Clauses that read nothing of a request are not looked at.
        """
        asked = [clause for clause in clauses if self.read_by(clause)]
        for index, mask in enumerate(meet(self.box(asked), among)):
            left = [clause for clause in asked if index in self.read_by(clause)]
            for clause in tuple(left) if not mask else ():
                # The built-in ones come first, so they are the first to be spared.
                without = [other for other in left if other is not clause]
                if not self.box(without)[index] & among[index]:
                    left = without
            if not mask:
                yield index, left

    def of_force(self, force: str) -> Box:
        """Return the requests of one force."""
        return self._stating(("force",), frozenset({force}))

    def for_purpose(self, purpose: str) -> Box:
        """Return the requests for one purpose."""
        return self._stating(("purpose",), frozenset({purpose}))

    def _stating(self, path: tuple[str, ...], values: frozenset[Any]) -> Box:
        return tuple(
            sum(
                1 << number
                for number, cell in enumerate(dimension.cells)
                if all(value in values for at, value in cell.stated if at == path)
            )
            for dimension in self.dimensions
        )

    @cached_property
    def _urgent(self) -> Box:
        return self._stating(("urgent",), frozenset({True}))

    def parts(
        self, compiled: CompiledAgreement, *, timeless: bool = False
    ) -> tuple[Part, ...]:  # (2)
        """Return what an agreement permits: outright first, then by its urgent route.

        ``timeless`` leaves out the clauses that read nothing of the request, such as its days.
        """
        clauses = [c for c in compiled.clauses if not timeless or self.read_by(c)]
        outright = Part(compiled, urgent=False, box=self.box(clauses))
        route = compiled.agreement.urgent
        if route is None:
            return (outright,)
        needed = [clause for clause in clauses if clause.id not in route.waives]
        # It is open to some purposes only, and they are among the gateways' boxes already.
        opened = meet(self._urgent, self._stating(("purpose",), frozenset(route.purposes)))
        return (outright, Part(compiled, urgent=True, box=meet(self.box(needed), opened)))

    def chosen(
        self, agreements: Iterable[CompiledAgreement], force: str
    ) -> tuple[list[tuple[Part, list[Box]]], bool]:
        """Return each part with the requests of a force that it decides, and whether that is all.

        ``agreements`` are in the order of the choice, least disclosing first; a request is decided
        by the first part that permits it.
        """
        mine = self.of_force(force)
        found: list[tuple[Part, list[Box]]] = []
        complete = True
        earlier: list[Box] = []
        for part in (part for compiled in agreements for part in self.parts(compiled)):
            box = meet(part.box, mine)
            left, all_of_it = minus_all([box], earlier)
            found.append((part, left))
            earlier.append(box)
            complete = complete and all_of_it
        return found, complete

    def facts(self, choice: Choice) -> Facts:
        """Return the request that states one cell of each dimension."""
        chosen = zip(self.dimensions, choice, strict=True)
        return facts_of(dimension.cells[number] for dimension, number in chosen)

    def plainest(self, box: Box) -> Choice:
        """Return the request of a box that states its facts and least out of the ordinary."""
        return tuple(map(plainest_cell, self.dimensions, box))


def plainest_cell(dimension: Dimension, mask: int) -> int:
    """Return the cell of some that states its facts and least out of the ordinary."""
    cells = dimension.cells
    return min(bits(mask), key=lambda number: (cells[number].missing, cells[number].rank))
