"""What the broker keeps of what followed a search besides its log's values, erased with them.

A signed review, request, statement or notice holds all that its entry's values hold, and no part of
it can be taken out. All of it goes with the first value that is erased, tokens and whatever was
sealed too. Digests, states and signed decisions stay. What was erased no longer counts: a review
whose text is gone is no review, and a request that is still open ends. Who was revoked, and since
when, stays as long as reviews of theirs may count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, String, cast, literal, update

from audit.kinds import ERASED
from audit.organisation import SEARCH
from broker.second_step.tables import (
    disclosures,
    force_statements,
    notices,
    reviewer_revocations,
    reviews,
)

TABLES: Final = tuple(
    table.name for table in (disclosures, force_statements, notices, reviewer_revocations, reviews)
)
"""Where it is erased."""
_NOTHING: Final = b""


@dataclass(frozen=True, slots=True)
class SecondStepClerk:
    """Erases what was signed of entries whose values are erased."""

    def before(self, leaf: Mapping[str, Any]) -> None:
        """Nothing: it commits with the entry."""

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None:
        """Erase."""
        del index
        if leaf["type"] != ERASED or leaf["log"] != SEARCH:
            return
        entries = list(leaf["entries"])
        nobody = literal("erased ") + cast(reviews.c.number, String)
        for table, values in (
            (reviews, {"envelope": _NOTHING, "token": "", "person": nobody}),
            (reviewer_revocations, {"envelope": _NOTHING}),
            (
                disclosures,
                {"envelope": _NOTHING, "sealed_facts": _NOTHING, "token": "", "sealed": None},
            ),
            (force_statements, {"envelope": _NOTHING}),
            (notices, {"envelope": _NOTHING, "next_us": None, "outcome": ERASED}),
        ):
            erased = update(table).where(table.c.leaf_index.in_(entries)).values(values)
            connection.execute(erased)

    def after(self, leaf: Mapping[str, Any]) -> None:
        """Nothing."""
