"""Until when an adapter keeps what its answers found.

1. An answer is kept for as long as its recipients may keep it: the days of our own agreement,
   whatever the broker's grant said, never more than a setting of ours, and a margin. A broker
   counts from when the answer came, which for held and late ones is later than when it was made,
   and a recall must still reach whoever may hold something.
2. It counts from when the answer was made. One that is held counts anew from its release.
3. While something of it is under way it may stay longer, and no longer than our setting and the
   margin.
4. What was answered before this was kept has no days on record. It counts as ours from when it was
   made, as its report says; so do details that were released before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from agency_adapters.settings import AdapterSettings
from agency_adapters.tables import held, matches, releases
from audit.tables import storage_failure
from trust.clock import to_us
from trust.errors import Reason
from trust.second_step import DisclosureRequest, ReleaseDecision, ReleaseState
from trust.wire import decode, decode_report, envelope_from_bytes

UNDATED: Final = 0
"""In place of the instant at which an answer goes, where none was said yet (4)."""
AT_ONCE: Final = 500
"""Rows of before that are given their time in one transaction."""


@dataclass(frozen=True, slots=True)
class Until:
    """Until when an answer is kept.

    Attributes:
        due: when it goes.
        latest: when it goes if something of it is still under way.
    """

    due: datetime
    latest: datetime

    def columns(self) -> dict[str, int]:
        """Return it as the row of an answer has it."""
        return {"erase_us": to_us(self.due), "latest_us": to_us(self.latest)}


@dataclass(frozen=True, slots=True)
class KeptFor:
    """Says until when answers are kept.

    Attributes:
        longest: how long at most, the margin not counted.
        margin: how much longer than their recipients may keep them.
    """

    longest: timedelta
    margin: timedelta

    @classmethod
    def of(cls, settings: AdapterSettings) -> KeptFor:
        """Return what an adapter's settings say."""
        return cls(
            timedelta(days=settings.answers_retain_days),
            timedelta(days=settings.answers_margin_days),
        )

    def until(self, made_at: datetime, days: int | None = None) -> Until:
        """Return until when an answer is kept (1) (2) (3).

        Args:
            made_at: when it was made, or released.
            days: how long its recipients may keep it; none where that is not said, as of an answer
                that is still held.
        """
        latest = made_at + self.longest + self.margin
        if days is None:
            return Until(latest, latest)
        return Until(made_at + min(timedelta(days=days), self.longest) + self.margin, latest)


def keep_until(connection: Connection, order_sha256: bytes, until: Until) -> None:
    """Write until when an answer is kept, within the log's transaction."""
    mine = matches.c.order_sha256 == order_sha256
    connection.execute(update(matches).where(mine).values(until.columns()))


def date_earlier(engine: Engine, kept: KeptFor) -> None:
    """Say until when what was answered and released before is kept (4).

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    try:
        for some in (_date_answers, _date_releases):
            while _in_a_transaction(engine, kept, some) == AT_ONCE:
                pass
    except SQLAlchemyError as error:
        raise storage_failure(error, Reason.STATE_UNAVAILABLE) from error


def _in_a_transaction(
    engine: Engine, kept: KeptFor, some: Callable[[Connection, KeptFor], int]
) -> int:
    with engine.begin() as connection:
        return some(connection, kept)


def _date_answers(connection: Connection, kept: KeptFor) -> int:
    query = (
        select(matches.c.order_sha256, matches.c.report, held.c.report.label("followed"))
        .outerjoin(held, held.c.order_sha256 == matches.c.order_sha256)
        .where(matches.c.erase_us == UNDATED)
        .limit(AT_ONCE)
    )
    rows = connection.execute(query).all()
    for row in rows:
        report = decode_report(envelope_from_bytes(row.followed or row.report).payload)
        mine = (matches.c.order_sha256 == row.order_sha256) & (matches.c.erase_us == UNDATED)
        values = kept.until(report.reported_at).columns()
        connection.execute(update(matches).where(mine).values(values))
    return len(rows)


def _date_releases(connection: Connection, kept: KeptFor) -> int:
    query = (
        select(releases.c.request_sha256, releases.c.request, releases.c.decision)
        .where(releases.c.search_id.is_(None))
        .limit(AT_ONCE)
    )
    rows = connection.execute(query).all()
    for row in rows:
        request = decode(DisclosureRequest, envelope_from_bytes(row.request).payload)
        mine = releases.c.request_sha256 == row.request_sha256
        # One that is decided meanwhile says its own.
        until = func.coalesce(releases.c.until_us, _released_until(row.decision, kept))
        values = {"search_id": request.search_id, "until_us": until}
        connection.execute(update(releases).where(mine).values(values))
    return len(rows)


def _released_until(decision: bytes | None, kept: KeptFor) -> int | None:
    if not decision:
        return None
    said = decode(ReleaseDecision, envelope_from_bytes(decision).payload)
    released = said.state is ReleaseState.RELEASED
    return to_us(said.decided_at + kept.longest if released else said.decided_at)
