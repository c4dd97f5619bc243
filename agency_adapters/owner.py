"""What the agency's owner decided about a request that is to come, and for which order it counts.

1. A decision commits with its entry of the admin log or not at all, and so does its withdrawal.
2. It counts for one order: the first that is searched for under it. In the transaction of that
   answer's entry it is bound to the order's digest, and another order with the same request id is
   denied as without a decision. An order that is denied, or whose probe cannot be used, uses none.
3. A decision that names a force counts for that force's order alone.
4. One that was not used can be withdrawn, or replaced by a later one. One that was used can not.
5. What is withdrawn, or used for another order, while it is searched under answers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from agency_adapters.tables import owner_decisions
from trust.errors import ProbegateError, Reason

OWNER_DECISION: Final = "owner.decision"
OWNER_WITHDRAWN: Final = "owner.withdrawn"


class OwnerClerk:
    """Keeps the owner's decisions; other entries are none of its business."""

    def before(self, leaf: Mapping[str, Any]) -> None:
        """Nothing: it commits with the entry (1)."""

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None:
        """Keep a decision, or forget it (1) (4).

        Raises:
            ProbegateError: ``USAGE`` if the one on this request was used; ``NOT_FOUND`` if there is
                none to withdraw.
        """
        if leaf["type"] not in {OWNER_DECISION, OWNER_WITHDRAWN}:
            return
        here = owner_decisions.c.request_id == leaf["request_id"]
        there = connection.execute(select(owner_decisions.c.order_sha256).where(here)).first()
        if there is not None and there.order_sha256 is not None:
            raise ProbegateError(Reason.USAGE, "the decision on this request was used already")
        if there is None and leaf["type"] == OWNER_WITHDRAWN:
            raise ProbegateError(Reason.NOT_FOUND, "no decision on this request")
        connection.execute(delete(owner_decisions).where(here))
        if leaf["type"] == OWNER_DECISION:
            row = {name: leaf[name] for name in ("request_id", "authority", "reference", "force")}
            connection.execute(insert(owner_decisions), row | {"leaf_index": index})

    def after(self, leaf: Mapping[str, Any]) -> None:
        """Nothing."""


def keep_used(connection: Connection, request_id: str, order_sha256: bytes) -> None:
    """Bind the decision on a request to the order it is used for (2).

    Raises:
        ProbegateError: ``POLICY_DENIED`` if it no longer counts for it (5).
    """
    used = owner_decisions.c.order_sha256
    bound = connection.execute(
        update(owner_decisions)
        .where(
            owner_decisions.c.request_id == request_id,
            used.is_(None) | (used == order_sha256),
        )
        .values(order_sha256=order_sha256)
    )
    if bound.rowcount != 1:
        raise ProbegateError(Reason.POLICY_DENIED, "the owner's decision no longer counts")
