"""The generation of the gallery that is in use, and its successors.

1. A generation is on the admin log before anything is searched in it.
2. A generation of another kind is not taken up: the rules of the kind in use are this agency's own,
   and nobody changes them by changing the gallery. The one in use stays.
3. Searches under way keep the generation they took. Where it is no longer kept whole, the search is
   made again in its successor, and what is reported is of that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from agency_adapters.galleries.gallery import Gallery, GenerationGoneError
from audit.organisation import Logs
from trust.clock import Clock
from trust.errors import ProbegateError, Reason

MOST_GENERATIONS: Final = 5
"""In how many generations one search is made, each of which was gone before it ended."""
T = TypeVar("T")


@dataclass(slots=True)
class Shelf:
    """Holds the generation in use.

    Attributes:
        gallery: that generation.
        logs: where it is recorded.
        switches: the operator's eligibility switches that are on.
        clock: tells the time.
    """

    gallery: Gallery
    logs: Logs
    switches: frozenset[str]
    clock: Clock
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def record_gallery(self, gallery: Gallery) -> None:
        """Put a generation on the admin log (1).

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE``.
        """
        facts = gallery.facts
        await self.logs.record(
            "gallery.activated",
            self.clock(),
            generation=facts.generation,
            sha256=facts.sha256,
            switches=sorted(self.switches),
        )

    async def renew(self) -> None:
        """Look once for a newer generation, and have it in use (1).

        Raises:
            ProbegateError: ``CONFIG_INVALID`` for one of another kind (2), and whatever else is
                wrong with it; the one in use stays.
        """
        async with self._renewing:
            newer = await self.gallery.newer()
            if newer is None:
                return
            if newer.facts.kind != self.gallery.facts.kind:  # (2)
                await newer.close()
                raise ProbegateError(
                    Reason.CONFIG_INVALID, "the gallery is of another kind", field="kind"
                )
            # Who is eligible is worked out before any search waits for it.
            await newer.eligible(self.clock().date(), self.switches)
            await self.record_gallery(newer)
            self.gallery = newer

    async def while_whole(self, search: Callable[[Gallery], Awaitable[T]]) -> T:
        """Return what ``search`` finds, in a generation that was kept whole until it ended (3).

        Raises:
            GenerationGoneError: if that comes to no end.
            ProbegateError: what it raises, and as ``renew``.
        """
        gone = GenerationGoneError()
        for _ in range(MOST_GENERATIONS):
            try:
                return await search(self.gallery)
            except GenerationGoneError as error:
                gone = error
            with suppress(GenerationGoneError):  # its successor went as well: look again
                await self.renew()
        raise gone
