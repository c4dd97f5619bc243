"""A gallery as the adapter sees it, whatever engine is behind it.

1. A search returns at most ``limit`` eligible records at or above the threshold, best first, ties
   in the order of record ids. Records that are not eligible on the query's day are as if they were
   not there, and do not count in ``eligible``.
2. Where ``facts.exact`` is true, the answer is that of comparing every eligible record in float64.
   Where it is false the report says so, and promise 6 is shown as not met.
3. One open gallery is one generation: what is enrolled or erased meanwhile is seen by opening it
   anew. A record that is erased meanwhile is never returned with bytes that are gone.
4. A generation of which anything was overwritten or removed, but for records that were erased, is
   not searched any more: whoever was updated would be missed in silence. Whoever has it is told
   that it is gone, and searches its successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from agency_adapters.agency import Record
from agency_adapters.galleries.templates import Probe
from trust.errors import ProbegateError, Reason


class GenerationGoneError(ProbegateError):
    """What is said of a generation that is no longer kept whole (4); ``newer`` has another."""

    def __init__(self) -> None:
        super().__init__(Reason.GALLERY_UNAVAILABLE, "this generation is no longer kept")


@dataclass(frozen=True, slots=True)
class GalleryFacts:
    """What a gallery says about itself.

    Attributes:
        kind: the kind of agency whose records it holds.
        model: the template model's id.
        dims: the number of dimensions.
        count: how many records it holds.
        generation: rises with every change; 0 if the engine cannot tell.
        changed_at: when it last changed.
        sha256: what names this very content, 64 hexadecimal digits, or empty if the engine has
            nothing of the kind.
        matcher: the matcher's name and version, stated with every score.
        exact: whether no record can be missed (promise 6).
        counted: whether ``count`` is known; where it is not, nobody can say how many false
            candidates to expect.
        keeps_records: whether it can say what is held of a record; a vendor's matcher cannot.
    """

    kind: str
    model: str
    dims: int
    count: int
    generation: int
    changed_at: datetime
    sha256: str
    matcher: str
    exact: bool
    counted: bool = True
    keeps_records: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """One probe's search.

    Attributes:
        probe: float64, shape ``(dims,)``, unit length; its owner wipes it.
        threshold: the lowest score to return, in the matcher's scale.
        limit: the most records to return, at least 1.
        day: the day that eligibility is decided on.
        switches: the operator's eligibility switches that are on.
        deadline: when the answer is of no more use, on the event loop's clock, seconds.
        company: how many calls the adapter serves now, this one included.
    """

    probe: Probe = field(repr=False)
    threshold: float
    limit: int
    day: date
    switches: frozenset[str] = frozenset()
    deadline: float | None = None
    company: int = 1


@dataclass(frozen=True, slots=True)
class Scored:
    """One record that reached the threshold."""

    record_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found (1), and among how many eligible records."""

    candidates: tuple[Scored, ...]
    eligible: int


@dataclass(frozen=True, slots=True)
class Eligible:
    """How many records may be searched on a day.

    Attributes:
        count: how many.
        met: eligibility rule to how many records it bars, or would bar if its switch were on.
    """

    count: int
    met: Mapping[str, int]


class Gallery(Protocol):
    """One generation of a gallery, open for searching."""

    @property
    def facts(self) -> GalleryFacts:
        """What it says about itself."""

    @property
    def load(self) -> int:
        """How many probes wait to be searched for."""

    async def search(self, query: Query) -> Found:
        """Search for one probe (1) (2).

        Raises:
            GenerationGoneError: if it is no longer kept whole (4).
            ProbegateError: ``GALLERY_CORRUPT``, ``GALLERY_UNAVAILABLE``, ``SERVER_BUSY`` or
                ``DEADLINE_PASSED``.
        """

    async def eligible(self, day: date, switches: frozenset[str]) -> Eligible:
        """Count who may be searched; also makes ready whatever a search on that day needs."""

    async def record(self, record_id: str) -> Record | None:
        """Return one record, in this generation or a newer one, or None if it is not there.

        Raises:
            GenerationGoneError: if it is no longer kept whole (4).
            ProbegateError: ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
        """

    async def newer(self) -> Gallery | None:
        """Return the newest generation, opened, if it is not this one; otherwise None."""

    async def close(self) -> None:
        """Let go of it; searches under way end first."""
