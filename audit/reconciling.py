"""Do the broker's log and each agency's log agree? Both sides of every search, laid side by side.

1. A permitted agency ends in the broker's log with an outcome. An outcome that is the agency's own
   (it names a report) is an entry of the agency's log with the same digest and the same state.
2. A state that says the agency searched (candidates or none) is believed on a report alone: an
   outcome without one is a silence that was written down as an answer (promise 5).
3. A report of an agency is for an order that the broker's log permits it to answer.
4. A refusal of an agency that names an order is of an order the broker's log knows.
5. A checkpoint of one log that the other wrote down is the root of that log at that size: otherwise
   its owner showed two histories. Its signature, if it was written down too, is the log's own
   (``audit.holding``).
6. What is younger than ``patience`` before the newest entry of the broker's log is under way.
   What an agency was shown beyond the end of the broker's log is one finding, not thousands: the
   copy is older than the agency's, or the log was cut. The broker's log is copied first, so it
   names nothing beyond the end of an agency's: an agency's log that is shorter was cut.
7. An agency that answered and of which the broker recorded a failure is no fault: its answer came
   too late. It is counted.
8. The checkpoint that an agency sent with its report covers the report's entry.

The two sides are joined in a database on disk, so that logs may be larger than memory.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from audit.evidence import ORDER_ENTRY
from audit.holding import HeldLog, Verdict
from audit.kinds import REFUSED, REPORT, RESULT
from audit.reader import LogReader, Told, untold
from audit.reconciliation import Fault, Finding, Reconciliation
from trust.errors import ProbegateError, Reason

FINDINGS_MAX: Final = 1000
"""Findings listed; counting goes on."""
DEFAULT_PATIENCE: Final = timedelta(hours=1)
"""How long a search may be under way."""
_SEARCHED: Final = ("candidates", "no_candidate")


_TABLES: Final = """
CREATE TABLE asked (
  order_sha TEXT, agency TEXT, search TEXT, entry INTEGER, permitted INTEGER, young INTEGER,
  PRIMARY KEY (order_sha, agency)) WITHOUT ROWID;
CREATE TABLE ended (order_sha TEXT, entry INTEGER, PRIMARY KEY (order_sha, entry)) WITHOUT ROWID;
CREATE TABLE outcome (
  order_sha TEXT, agency TEXT, entry INTEGER, state TEXT, report TEXT, covers INTEGER,
  PRIMARY KEY (order_sha, agency, entry)) WITHOUT ROWID;
CREATE TABLE told (
  agency TEXT, entry INTEGER, kind TEXT, order_sha TEXT, search TEXT, state TEXT, report TEXT,
  beyond INTEGER, PRIMARY KEY (agency, entry)) WITHOUT ROWID;
CREATE INDEX told_order ON told (order_sha, agency);
"""
_ENDED: Final = "EXISTS (SELECT 1 FROM ended e WHERE e.order_sha = a.order_sha)"
_OURS: Final = "(SELECT DISTINCT agency FROM given)"


def reconcile(
    broker: Path,
    agencies: Mapping[str, Path],
    *,
    patience: timedelta = DEFAULT_PATIENCE,
    told: Told = untold,
) -> Reconciliation:
    """Compare the broker's search log with the agencies'.

    Args:
        broker: the folder of the broker's search log.
        agencies: each agency's id and the folder of its search log, copied after the broker's.
        patience: how long a search may be under way (6).
        told: hears how far reading is.

    Raises:
        ProbegateError: whatever ``LogReader`` raises; ``LOG_CORRUPT`` for an entry that does not
            say what its type must.
    """
    with _database() as database:
        held, found = HeldLog(broker), _Found()
        others = {agency: HeldLog(folder) for agency, folder in agencies.items()}
        _read_broker(database, held.reader, patience, others, found, told)
        database.execute("CREATE TABLE given (agency TEXT)")
        for agency, log in others.items():
            database.execute("INSERT INTO given VALUES (?)", (agency,))
            _read_agency(database, agency, log.reader, held, found, told)
        _compare(database, found)
        return _report(database, found)


class _Found:
    def __init__(self) -> None:
        self.counts: dict[Fault, int] = {}
        self.findings: list[Finding] = []
        self.held = 0

    def add(self, fault: Fault, agency: str, what: str, **where: Any) -> None:
        self.counts[fault] = self.counts.get(fault, 0) + 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(fault=fault, agency=agency, what=what, **where))


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    """A scratch database: it holds digests and ids, and goes with the folder."""
    with (
        tempfile.TemporaryDirectory(prefix="probegate-reconcile-") as folder,
        closing(sqlite3.connect(Path(folder) / "join.db", isolation_level=None)) as database,
    ):
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_TABLES)
        database.execute("BEGIN")
        yield database


def _read_broker(
    database: sqlite3.Connection,
    reader: LogReader,
    patience: timedelta,
    agencies: Mapping[str, HeldLog],
    found: _Found,
    told: Told,
) -> None:
    beyond: dict[str, tuple[int, int]] = {}
    newest = _newest(reader)
    young_from = newest - patience if newest else None
    for index, said in reader.facts():
        told("broker", index + 1, reader.size)
        try:
            _take_broker(database, index, said, young_from)
            _hold_agencies(index, said, agencies, found, beyond)
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt("broker", index) from error
    for agency, (size, index) in beyond.items():  # (6)
        what = f"it showed the broker {size} entries of its log, which has {agencies[agency].size}"
        found.add(Fault.AGENCY_LOG_SHORTER, agency, what, broker_entry=index)


def _hold_agencies(
    index: int,
    said: Any,
    agencies: Mapping[str, HeldLog],
    found: _Found,
    beyond: dict[str, tuple[int, int]],
) -> None:
    """Hold agencies' logs to the checkpoints that a result of the broker's embeds (5)."""
    for one in said["outcomes"] if said["type"] == RESULT else ():
        agency, seen = one["agency"], one.get("checkpoint")
        if seen is None or agency not in agencies:
            continue
        where = {"search_id": said["search_id"], "order_sha256": said["order_sha256"]}
        match agencies[agency].judge(seen):
            case Verdict.BEYOND:
                beyond[agency] = max(beyond.get(agency, (0, 0)), (int(seen["size"]), index))
            case Verdict.ANOTHER_HISTORY:
                what = f"it showed the broker another history of {seen['size']} entries"
                found.add(Fault.AGENCY_HISTORY, agency, what, broker_entry=index, **where)
            case Verdict.FORGED:
                what = "the broker embeds a checkpoint that this log did not sign"
                found.add(Fault.CHECKPOINT_FORGED, agency, what, broker_entry=index, **where)
            case Verdict.HOLDS:
                found.held += 1


def _take_broker(
    database: sqlite3.Connection, index: int, said: Any, young_from: datetime | None
) -> None:
    if said["type"] == ORDER_ENTRY:
        at = datetime.fromisoformat(said["at"])
        young = young_from is not None and at > young_from
        database.executemany(
            "INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    *(said["order_sha256"], one["agency"], said["search_id"], index),
                    *(bool(one["permitted"]), young),
                )
                for one in said["decisions"]
            ],
        )
    elif said["type"] == RESULT:
        database.execute("INSERT INTO ended VALUES (?, ?)", (said["order_sha256"], index))
        database.executemany(
            "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    *(said["order_sha256"], one["agency"], index, one["state"]),
                    *(one["report_sha256"], (one.get("checkpoint") or {}).get("size")),
                )
                for one in said["outcomes"]
            ],
        )


def _read_agency(
    database: sqlite3.Connection,
    agency: str,
    reader: LogReader,
    broker: HeldLog,
    found: _Found,
    told: Told,
) -> None:
    beyond_size = 0
    for index, said in reader.facts():
        told(agency, index + 1, reader.size)
        matched = said.get("type") in {REPORT, REFUSED}
        if not matched and not said.get("broker_checkpoint"):
            continue  # what followed a search was shown a checkpoint too
        try:
            seen: Any = said["broker_checkpoint"]
            verdict = None if seen is None else broker.judge(seen)
            order, search = said.get("order_sha256", ""), said["search_id"]
            if matched:
                database.execute(
                    "INSERT INTO told VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(agency, index, said["type"], order, search),
                        *(said.get("state", ""), said.get("report_sha256", "")),
                        verdict is Verdict.BEYOND,
                    ),
                )
            where: dict[str, Any] = {"search_id": search, "order_sha256": order}
            match verdict:  # (5)
                case Verdict.BEYOND:
                    beyond_size = max(beyond_size, int(seen["size"]))
                case Verdict.ANOTHER_HISTORY:
                    what = f"the broker showed it another history of {seen['size']} entries"
                    found.add(Fault.ANOTHER_HISTORY, agency, what, agency_entry=index, **where)
                case Verdict.FORGED:
                    what = "it embeds a checkpoint that the broker's log did not sign"
                    found.add(Fault.CHECKPOINT_FORGED, agency, what, agency_entry=index, **where)
                case Verdict.HOLDS:
                    found.held += 1
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(agency, index) from error
    if beyond_size:  # (6)
        what = f"it was shown {beyond_size} entries of the broker's log, which has {broker.size}"
        found.add(Fault.BROKER_LOG_SHORTER, agency, what)


def _compare(database: sqlite3.Connection, found: _Found) -> None:
    for row in database.execute(  # (1)
        f"SELECT a.agency, a.search, a.order_sha, a.entry, NULL, {_ENDED} FROM asked a "  # noqa: S608 - constants
        "WHERE a.permitted AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.order_sha = a.order_sha "
        f"AND o.agency = a.agency) AND ({_ENDED} OR NOT a.young)"
    ):
        what = "permitted, and the result says nothing of it" if row[5] else "it never ended"
        _add(found, Fault.GRANT_WITHOUT_REPORT, row, what)
    for row in database.execute(  # (2)
        "SELECT o.agency, '', o.order_sha, o.entry, NULL, o.state FROM outcome o "
        "WHERE o.report = '' AND o.state IN (?, ?)",
        _SEARCHED,
    ):
        _add(found, Fault.SILENCE_AS_ANSWER, row, f"{row[5]} without a report of the agency")
    reports = "told t WHERE t.kind = 'match.report'"
    mine = "t.order_sha = o.order_sha AND t.agency = o.agency"
    for row in database.execute(  # (1)
        "SELECT o.agency, '', o.order_sha, o.entry, "  # noqa: S608 - constants
        f"(SELECT max(t.entry) FROM {reports} AND {mine}), o.state FROM outcome o "
        f"WHERE o.report != '' AND o.agency IN {_OURS} AND NOT EXISTS "
        f"(SELECT 1 FROM {reports} AND {mine} AND t.report = o.report)"
    ):
        if row[4] is None:
            what = f"the broker recorded its report ({row[5]}), its own log has none"
            _add(found, Fault.GRANT_WITHOUT_REPORT, row, what)
        else:
            what = "the broker recorded another report than the agency did"
            _add(found, Fault.DIGEST_DIFFERS, row, what)
    for row in database.execute(  # (1)
        "SELECT o.agency, t.search, o.order_sha, o.entry, t.entry, o.state, t.state FROM outcome o "
        "JOIN told t ON t.report = o.report AND t.agency = o.agency AND t.order_sha = o.order_sha "
        "WHERE o.report != '' AND o.state != t.state"
    ):
        what = f"the broker says {row[5]}, the agency {row[6]}"
        _add(found, Fault.STATE_DIFFERS, row, what)
    for row in database.execute(  # (8)
        "SELECT o.agency, t.search, o.order_sha, o.entry, t.entry, o.covers FROM outcome o "
        "JOIN told t ON t.report = o.report AND t.agency = o.agency AND t.order_sha = o.order_sha "
        "WHERE o.report != '' AND t.kind = 'match.report' AND o.covers <= t.entry"
    ):
        what = f"the checkpoint it sent, of {row[5]} entries, does not cover its report"
        _add(found, Fault.REPORT_NOT_COVERED, row, what)
    for row in database.execute(  # (3) (4)
        "SELECT t.agency, t.search, t.order_sha, a.entry, t.entry, t.kind, a.permitted FROM told t "
        "LEFT JOIN asked a ON a.order_sha = t.order_sha AND a.agency = t.agency "
        "WHERE NOT t.beyond AND t.order_sha != '' "
        "AND ((t.kind = 'match.report' AND a.permitted IS NOT 1) OR "
        "(t.kind = 'match.refused' AND a.permitted IS NULL))"
    ):
        if row[5] == REFUSED:
            _add(found, Fault.ENTRY_UNKNOWN_TO_BROKER, row, "it refused an order the broker lacks")
        elif row[6] is None:
            what = "it answered an order the broker's log does not hold for it"
            _add(found, Fault.REPORT_WITHOUT_GRANT, row, what)
        else:
            what = "it answered an order the broker denied"
            _add(found, Fault.REPORT_WITHOUT_GRANT, row, what)


def _add(found: _Found, fault: Fault, row: Any, what: str) -> None:
    agency, search, order, broker_entry, agency_entry = row[:5]
    found.add(
        fault,
        agency,
        what,
        search_id=search or "",
        order_sha256=order,
        broker_entry=broker_entry,
        agency_entry=agency_entry,
    )


def _report(database: sqlite3.Connection, found: _Found) -> Reconciliation:
    def count(query: str) -> int:
        number: int = database.execute(query).fetchone()[0]
        return number

    last = "o.entry = (SELECT max(e.entry) FROM ended e WHERE e.order_sha = o.order_sha)"
    answered = (
        "EXISTS (SELECT 1 FROM told t WHERE t.agency = o.agency AND t.order_sha = o.order_sha "
        "AND t.kind = 'match.report')"
    )
    permitted = (
        "outcome o JOIN asked a ON a.order_sha = o.order_sha AND a.agency = o.agency "
        "WHERE a.permitted"
    )
    missing = (
        f"SELECT DISTINCT agency FROM asked WHERE permitted AND agency NOT IN {_OURS} "  # noqa: S608 - constants
        "ORDER BY agency"
    )
    return Reconciliation(
        ok=not found.counts,
        searches=count("SELECT count(DISTINCT order_sha) FROM asked"),
        agreed=count(
            "SELECT count(*) FROM outcome o JOIN told t ON t.report = o.report AND "
            "t.agency = o.agency AND t.order_sha = o.order_sha AND t.state = o.state "
            "WHERE o.report != ''"
        ),
        failed=count(f"SELECT count(*) FROM {permitted} AND {last} AND o.report = ''"),  # noqa: S608
        late=count(
            f"SELECT count(*) FROM {permitted} AND {last} AND o.report = '' AND {answered}"  # noqa: S608
        ),
        held=found.held,
        under_way=count(
            f"SELECT count(*) FROM asked a WHERE a.permitted AND a.young AND NOT {_ENDED}"  # noqa: S608
        ),
        not_compared=tuple(row[0] for row in database.execute(missing)),
        counts=dict(sorted(found.counts.items())),
        findings=tuple(found.findings),
    )


def _newest(reader: LogReader) -> datetime | None:
    if not reader.size:
        return None
    try:
        (last,) = (said for _, said in reader.facts(reader.size - 1))
        return datetime.fromisoformat(str(last["at"]))
    except (KeyError, ValueError) as error:
        raise _corrupt("broker", reader.size - 1) from error


def _corrupt(log: str, index: int) -> ProbegateError:
    return ProbegateError(Reason.LOG_CORRUPT, f"{log}: entry {index} is not of its type's form")
