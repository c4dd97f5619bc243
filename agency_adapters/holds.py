"""What keeps an answer from being erased: a legal hold.

1. The entries of an adapter's search log commit to nothing, so there is no value beside one of an
   answer to hold. A hold that names the entry of an answer (``match.report``), or of what was
   decided about its details (``release.decided``), holds the answer itself. It commits with its
   entry of the admin log, and so does its end.
2. An answer is held, too, while a value beside an entry of the admin log about it is: who decided
   about it or its details and why, who recalled it.
3. A hold is lifted by what names all fields of its entry, and by nothing less.
4. It keeps what there is when it comes. What goes for a reason of its own goes all the same: what a
   decision was made on, and sealed details that nobody can open any more, which say nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Select,
    delete,
    insert,
    or_,
    select,
    union,
)

from agency_adapters.gone import NOTHING
from agency_adapters.state import reading
from agency_adapters.tables import (
    answer_holds,
    held,
    held_reviews,
    matches,
    recalls,
    release_reviews,
    releases,
)
from audit.kinds import EVERY_FIELD, HOLD_LIFTED, HOLD_SET
from audit.organisation import ADMIN, SEARCH
from audit.tables import values


class HoldClerk:
    """Keeps which entries' answers are held (1) (3); other entries are none of its business."""

    def before(self, leaf: Mapping[str, Any]) -> None:
        """Nothing: it commits with the entry."""

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None:
        """Hold, or let go."""
        del index
        if leaf["type"] not in {HOLD_SET, HOLD_LIFTED} or leaf["log"] != SEARCH:
            return
        if leaf["type"] == HOLD_LIFTED and leaf["fields"] != [EVERY_FIELD]:
            return
        named = list(leaf["entries"])
        connection.execute(delete(answer_holds).where(answer_holds.c.leaf_index.in_(named)))
        if leaf["type"] == HOLD_SET and named:
            rows = [{"leaf_index": entry} for entry in dict.fromkeys(named)]
            connection.execute(insert(answer_holds), rows)

    def after(self, leaf: Mapping[str, Any]) -> None:
        """Nothing."""


def is_held(search_id: Column[str]) -> ColumnElement[bool]:
    """Return the condition that something of a search's answers is held (1) (2)."""
    answers = matches.alias("answers")  # the search's id may be a column of the table itself
    entry, value = answer_holds.c.leaf_index, values.c.idx
    named = select(entry)
    said = select(value).where(values.c.log == ADMIN, values.c.legal_hold)
    of_held = held_reviews.c.order_sha256 == held.c.order_sha256
    of_release = release_reviews.c.request_sha256 == releases.c.request_sha256
    ways: tuple[Select[tuple[int]], ...] = (
        named.where(entry == answers.c.leaf_index, answers.c.search_id == search_id),  # (1)
        named.where(entry == held.c.leaf_index, held.c.search_id == search_id),
        named.where(entry == releases.c.leaf_index, releases.c.search_id == search_id),
        said.where(  # (2)
            value == held_reviews.c.leaf_index, of_held, held.c.search_id == search_id
        ),
        said.where(
            value == release_reviews.c.leaf_index, of_release, releases.c.search_id == search_id
        ),
        said.where(value == recalls.c.ordered_index, recalls.c.search_id == search_id),
    )
    return or_(*(one.exists() for one in ways))


def answers_at(engine: Engine, log: str, entries: Sequence[int]) -> tuple[int, ...]:
    """Return which entries of a log are of an answer that can be held (1).

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    if log != SEARCH:
        return ()
    answered, released, followed = matches.c.leaf_index, releases.c.leaf_index, held.c.leaf_index
    ours = union(
        select(answered).where(answered.in_(entries), matches.c.report != NOTHING),
        select(followed).where(followed.in_(entries)),
        select(released).where(released.in_(entries)),
    )
    with reading(engine) as connection:
        return tuple(sorted(connection.execute(ours).scalars()))
