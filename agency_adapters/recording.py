"""What an adapter puts on its search log, durably before anything is said (rule 16).

1. An answer, until when it is kept, what its references stand for and are recognised by, what was
   acknowledged of the broker's log, what the ledger keeps, what is held for a person and the entry
   commit in one transaction.
2. A caller that gives up meanwhile changes nothing: an entry on its way is seen to its end, and
   what it changes in memory with it.
3. The statement beside a report says that this agency searched and answered, nothing of what it
   found; it follows from report and order alone, so the same report has the same statement.
4. An urgent search that is past its deadline without confirmation is on the log once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from agency_adapters.checks import Admitted, Permission
from agency_adapters.holding import keep_held
from agency_adapters.lifetimes import KeptFor
from agency_adapters.models import Finding, FoundRecord, StoredMatch
from agency_adapters.ruling import Records, Ruling
from agency_adapters.second_step.answered import keep_recipient
from agency_adapters.state import keep_answer
from audit import kinds
from audit.leaves import JsonValue, stamp
from audit.witness import Admission
from audit.writer import LogWriter, NewEntry
from policy.ledger import UNCONFIRMED_ENTRY, Ledger, UrgentUse
from trust import dsse, telemetry
from trust.errors import Reason
from trust.keys import Signer
from trust.messages import AnswerStatement, MatchReport, SearchOrder
from trust.payload_types import PayloadType
from trust.wire import decode_report, encode_report, encode_statement

REPORT_ENTRY: Final = kinds.REPORT
REFUSAL_ENTRY: Final = kinds.REFUSED
_Done = TypeVar("_Done")


@dataclass(frozen=True, slots=True)
class Seen:
    """The broker's checkpoint that came with a request.

    Attributes:
        admission: what the witness of that log said of it.
        checkpoint: as an entry embeds it, signature included.
    """

    admission: Admission
    checkpoint: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records how requests end.

    Attributes:
        log: this agency's search log.
        records: this agency's own records.
        signer: signs reports and statements.
        kept: says until when answers are kept.
        listed: returns what was found, each with what its record is recognised by.
    """

    log: LogWriter
    records: Records
    signer: Signer
    kept: KeptFor
    listed: Callable[[Sequence[FoundRecord]], Awaitable[tuple[FoundRecord, ...]]]

    async def answer(
        self, seen: Seen, admitted: Admitted, ruling: Ruling, finding: Finding
    ) -> StoredMatch:
        """Record an answer and return it (1) (2)."""
        return await to_its_end(self._answer(seen, admitted, ruling, finding))

    async def _answer(
        self, seen: Seen, admitted: Admitted, ruling: Ruling, finding: Finding
    ) -> StoredMatch:
        report = finding.report
        envelope = dsse.sign(PayloadType.MATCH_REPORT, encode_report(report), self.signer)
        days = _retention_days(admitted, ruling)
        until = self.kept.until(report.reported_at, None if finding.hold is not None else days)

        try:
            found = await self.listed(finding.found)
        except BaseException:
            ruling.release()
            raise

        def stored(index: int) -> StoredMatch:
            return StoredMatch(
                order_sha256=admitted.order_sha256,
                grant_sha256=admitted.grant_sha256,
                search_id=report.search_id,
                report=envelope,
                leaf_index=index,
                links=finding.links,
                said=report,
            )

        def also(connection: Connection, index: int) -> None:  # (1)
            keep_answer(connection, stored(index), found, until)
            if finding.hold is not None:
                keep_held(connection, report, finding.hold, days)
            keep_recipient(
                connection,
                admitted.order_sha256,
                admitted.order.force,
                seen.admission.checkpoint.origin,
            )
            seen.admission.persist(connection)
            self.records.write(connection, ruling)

        leaf = _leaf(REPORT_ENTRY, report.reported_at, admitted, seen.checkpoint)
        leaf |= {
            "report_sha256": hashlib.sha256(envelope.payload).hexdigest(),
            "state": report.state.value,
            "reason": report.reason,
            "policy_sha256": report.policy_sha256.hex(),
            **_said_of(ruling),
        }
        try:
            appended = await self.log.append(NewEntry(leaf=leaf, also=also))
        except Exception:
            ruling.release()
            raise
        self.records.written(ruling)
        telemetry.log("answered", search_id=report.search_id, state=report.state.value)
        return stored(appended.index)

    async def refusal(
        self,
        reason: Reason,
        at: datetime,
        admitted: Admitted | None,
        checkpoint: Mapping[str, JsonValue] | None,
        admission: Admission | None,
    ) -> None:
        """Record a refusal, with what is certain of the request."""
        leaf = _leaf(REFUSAL_ENTRY, at, admitted, checkpoint)
        leaf["reason"] = reason.name
        also = None
        if admission is not None:
            persist = admission.persist

            def also(connection: Connection, _index: int) -> None:
                persist(connection)

        await self.log.append(NewEntry(leaf=leaf, also=also))
        telemetry.log("refused", reason=reason.name)

    def statement(
        self, report: dsse.Envelope, order: SearchOrder, said: MatchReport | None = None
    ) -> dsse.Envelope | None:
        """Return the signed statement that goes with our report on an order, or None (3).

        Args:
            report: the report.
            order: what it answers.
            said: what the report says, if that is at hand.
        """
        said = said or decode_report(report.payload)
        if not said.state.searched:
            return None
        statement = AnswerStatement(
            search_id=said.search_id,
            agency=said.agency,
            order_sha256=said.order_sha256,
            answered_at=said.reported_at,
            matter_sha256=order.matter_sha256,
        )
        return dsse.sign(PayloadType.ANSWER_STATEMENT, encode_statement(statement), self.signer)


async def record_unconfirmed(log: LogWriter, ledger: Ledger, now: datetime) -> None:
    """Put every urgent search that is late on the log, unless it is there already (4)."""
    for use in ledger.urgent.overdue(now):
        await to_its_end(_record_unconfirmed(log, ledger, use, now))


async def _record_unconfirmed(
    log: LogWriter, ledger: Ledger, use: UrgentUse, now: datetime
) -> None:
    def also(connection: Connection, _index: int) -> None:
        ledger.urgent.write_flagged(connection, use)

    leaf: dict[str, JsonValue] = {
        "v": 1,
        "type": UNCONFIRMED_ENTRY,
        "at": stamp(now),
        "search_id": "",  # the ledger knows a search by its order
        "order_sha256": use.ref,
        "agency": use.agency,
        "deadline": stamp(use.deadline),
    }
    await log.append(NewEntry(leaf=leaf, also=also))
    ledger.urgent.flagged(use)


async def to_its_end(work: Coroutine[Any, Any, _Done]) -> _Done:
    """Do work that a cancellation must not interrupt; it is raised when the work is done (2)."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _retention_days(admitted: Admitted, ruling: Ruling) -> int:
    """Return how long recipients may keep an answer, as far as this agency goes by it.

    That is by our own agreement. The grant may oblige them to less; but we could not hold them to
    it, and what a broker says must not make us forget whom to recall from. Of a denial, in which
    nothing was found, only the grant says anything.
    """
    outcome = ruling.outcome
    if isinstance(outcome, Permission):
        return outcome.retention_days
    return admitted.permit.obligations.retention_days


def asked_by(log: LogWriter, index: int) -> str:
    """Return the name of the log that an answered request was on, by the answer's entry."""
    entry = json.loads(log.leaf(index))
    return str(entry["broker_checkpoint"]["origin"])


def _said_of(ruling: Ruling) -> dict[str, JsonValue]:
    """Say what was out of the ordinary about a decision; mostly nothing."""
    said: dict[str, JsonValue] = {}
    outcome = ruling.outcome
    if isinstance(outcome, Permission) and outcome.confirm_by is not None:
        said["waived"] = list(outcome.waived)
        said["confirm_by"] = stamp(outcome.confirm_by)
    if ruling.confirmed:
        said["confirmed"] = sorted(ruling.confirmed)
    return said


def _leaf(
    kind: str,
    at: datetime,
    admitted: Admitted | None,
    checkpoint: Mapping[str, JsonValue] | None,
) -> dict[str, JsonValue]:
    """Say what is certain of a request, in digests; nothing in it is personal."""
    return {
        "v": 1,
        "type": kind,
        "at": stamp(at),
        "search_id": admitted.grant.search_id if admitted else "",
        "order_sha256": admitted.order_sha256.hex() if admitted else "",
        "grant_sha256": admitted.grant_sha256.hex() if admitted else "",
        "broker_checkpoint": checkpoint,
    }
