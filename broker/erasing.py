"""What the broker keeps of a search besides its log's values, erased together with them.

A signed order holds all that the values hold (who asked, for which case, why), and a confirmation
who confirmed and why. No part of a signed document can be taken out of it, so all of it goes with
the first value that is erased. The search's digests, decisions and signed result stay; an order of
a search that still runs stays until it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, select, update

from audit.kinds import ERASED
from audit.organisation import SEARCH
from broker.models import SearchState
from broker.second_step import erasing as second_step
from broker.tables import confirmations, searches
from trust.errors import ProbegateError, Reason

TABLES: Final = (searches.name, confirmations.name, *second_step.TABLES)
"""Where more than values is erased."""


@dataclass(frozen=True, slots=True)
class OrderClerk:
    """Erases orders and confirmations of entries whose values are erased."""

    def before(self, leaf: Mapping[str, Any]) -> None:
        """Nothing: it commits with the entry."""

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None:
        """Erase.

        Raises:
            ProbegateError: ``SEARCH_RUNNING`` for a search that has not ended.
        """
        del index
        if leaf["type"] != ERASED or leaf["log"] != SEARCH:
            return
        entries = list(leaf["entries"])
        mine = searches.c.order_index.in_(entries)
        running = select(searches.c.search_id).where(
            mine, searches.c.state == SearchState.RUNNING.value
        )
        if connection.execute(running.limit(1)).first() is not None:
            raise ProbegateError(Reason.SEARCH_RUNNING)
        connection.execute(update(searches).where(mine).values(order_envelope=b""))
        connection.execute(delete(confirmations).where(confirmations.c.leaf_index.in_(entries)))

    def after(self, leaf: Mapping[str, Any]) -> None:
        """Nothing."""
