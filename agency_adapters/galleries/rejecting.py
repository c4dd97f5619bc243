"""Rows that an import does not enrol, and what is said where it is refused because of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from trust.errors import ProbegateError, Reason

Losing = Callable[[Iterable[str]], None]
"""Told which held records may go, before a gallery is replaced; raises where one must not."""


class RejectedRow(BaseModel):
    """One row that was not enrolled; ``row`` counts data rows from 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    record_id: str
    reasons: tuple[str, ...]


class RowsRejectedError(ProbegateError):
    """An import that was refused because of its bad rows; the gallery is as it was.

    Args:
        why: what would have come of it.
        rejected: the bad rows, in order; at least one.
    """

    def __init__(self, why: str, rejected: Sequence[RejectedRow]) -> None:
        self.rejected = tuple(rejected)
        first = self.rejected[0]
        super().__init__(
            Reason.IMPORT_INVALID,
            f"{why}; {len(self.rejected):,} rows are bad, the first is row {first.row}: "
            f"{'; '.join(first.reasons)}",
        )


def anybody(_held: Iterable[str]) -> None:
    """Let any record go, as where a gallery is replaced by what nobody exported."""
