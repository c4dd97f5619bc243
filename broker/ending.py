"""The signed end of a search, and the one that replaces it when an answer comes or expires later.

1. Every agency of the order has exactly one outcome in it (promise 5).
2. The result is signed, its digest logged and its row written in one commit, and only then is
   anybody told (promise 8).
3. An end that replaces an earlier one is made the same way, names it by digest, and is written only
   over that very one: no answer is lost between two that come at once. What is new in it is marked
   with when it came, and what is no longer in it with when it was erased.
4. With an end go the answers that are to be asked for later (``held``): those an agency holds, and
   those that may have been given after we stopped waiting; unless the force cancelled the search,
   and so waits for neither. Link tokens are kept as long as something is asked for, for the groups
   to be made again, and not longer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from audit.writer import LogWriter, NewEntry
from broker import leaves
from broker.dispatch import outcome_metrics
from broker.held_store import HeldStore
from broker.models import AgencyAnswer, Replaced, SearchRecord, SearchState
from broker.results import result_of, result_without
from broker.retention import ResultRetention
from broker.store import SearchStore, Times
from broker.storing import Write
from policy.ledger import Ledger
from trust import dsse
from trust.clock import Clock
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import SearchLimits, SearchResult
from trust.payload_types import PayloadType
from trust.wire import decode_result, encode_result

WriteExpired = Callable[
    [str, Sequence[AgencyAnswer], Envelope, datetime | None, Replaced],
    Write,
]
"""Makes the write of an end without what is gone (``expiring_store``)."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Ends searches.

    Attributes:
        store: where searches are kept.
        held: where the answers are kept that are to be asked for later.
        retention: how long ended searches are kept.
        ledger: what later decisions are made on.
        log: the search log.
        signer: the broker's envelope key.
        clock: the time.
    """

    store: SearchStore
    held: HeldStore
    retention: ResultRetention
    ledger: Ledger
    log: LogWriter
    signer: Signer
    clock: Clock

    async def conclude(
        self,
        record: SearchRecord,
        answers: tuple[AgencyAnswer, ...],
        state: SearchState,
        limits: SearchLimits,
        *,
        replaces: Replaced | None = None,
        came: Collection[str] = (),
    ) -> SearchRecord:
        """Sign, log and keep the end of a search, and return it (1) (2).

        Args:
            record: the search.
            answers: one for each agency of the order, in its sequence.
            state: how it ended.
            limits: what the order asks for.
            replaces: the end that this one replaces, if it does (3).
            came: the agencies whose answers are new in such an end; all are in a first one.

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE``, ``DISK_FULL``, or ``STATE_UNAVAILABLE`` if another
                end came first.
        """
        now = self.clock()
        if replaces is not None:
            now = max(now, replaces.finished_at)  # whatever our clock was set to meanwhile
            answers = tuple(_marked(a, now) if a.outcome.agency in came else a for a in answers)
        result = self._signed(result_of(record, answers, limits, now, replaces))
        fresh = tuple(a for a in answers if replaces is None or a.outcome.agency in came)
        also = self._writes(record, answers, fresh, state, result, now, replaces)
        index = await self._logged(record, answers, result, now, replaces, also)
        _count(fresh)
        return replace(record, state=state, answers=answers, result=result, result_leaf_index=index)

    async def without(
        self,
        record: SearchRecord,
        gone: Collection[str],
        again: datetime | None,
        expired: WriteExpired,
    ) -> None:
        """Sign, log and keep the end of a search without what some agencies found (1) (2) (3).

        Args:
            record: the search as it stands.
            gone: the agencies whose candidates are no longer kept.
            again: when the next one's are to go, if any.
            expired: makes the write of it.

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE``, ``DISK_FULL``, ``LEGAL_HOLD``, or
                ``STATE_UNAVAILABLE`` if another end came first.
        """
        prior = decode_result(_standing(record)[0].payload)
        replaces = replaced(record)
        now = max(self.clock(), replaces.finished_at)
        answers = tuple(_emptied(a, now) if a.outcome.agency in gone else a for a in record.answers)
        result = self._signed(result_without(prior, answers, gone, now, replaces))
        also = expired(record.search_id, answers, result, again, replaces)
        await self._logged(record, answers, result, now, replaces, also)

    def _signed(self, result: SearchResult) -> Envelope:
        return dsse.sign(PayloadType.SEARCH_RESULT, encode_result(result), self.signer)

    async def _logged(
        self,
        record: SearchRecord,
        answers: tuple[AgencyAnswer, ...],
        result: Envelope,
        now: datetime,
        replaces: Replaced | None,
        also: Write,
    ) -> int:
        leaf = leaves.result_leaf(
            record.search_id, record.order_sha256, result.payload, answers, now, replaces
        )
        return (await self.log.append(NewEntry(leaf=leaf, also=also))).index

    def _writes(
        self,
        record: SearchRecord,
        answers: tuple[AgencyAnswer, ...],
        fresh: tuple[AgencyAnswer, ...],
        state: SearchState,
        result: Envelope,
        now: datetime,
        replaces: Replaced | None,
    ) -> Write:
        """Return what is written in the transaction of a result's log entry (2) (3) (4)."""
        ended_at = replaces.ended_at if replaces else now
        until = self.retention.answers_until(record.decisions, answers, ended_at)
        row = self.store.end(
            record.search_id,
            state,
            answers,
            result,
            Times(
                erase_at=self.retention.until(record.decisions, now),
                expire_at=min((time for _, time in until), default=None),
            ),
            replaces.leaf_index if replaces else None,
        )
        links = self.store.keep_links(record.search_id, answers, again=replaces is not None)
        answered = [answer.outcome.agency for answer in answers if answer.statement is not None]
        newly = any(answer.statement is not None for answer in fresh)
        wait = state is SearchState.FINISHED

        def write(connection: Connection, index: int) -> None:
            row(connection, index)
            if newly:
                self.ledger.write_answered(connection, record.search_id, answered, now)
            if replaces is not None:
                self.held.write_came(
                    connection, record.search_id, [a.outcome.agency for a in fresh]
                )
            if wait:
                self.held.write(connection, record, fresh, now)
            links(connection, index)

        return write


def replaced(record: SearchRecord) -> Replaced:
    """Return the end of a search as what another replaces.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` for a search that has not ended.
    """
    result, index = _standing(record)
    said = decode_result(result.payload)
    return Replaced(
        revision=said.revision,
        result_sha256=leaves.sha256(result.payload),
        leaf_index=index,
        finished_at=said.finished_at,
        ended_at=said.ended_at,
    )


def _standing(record: SearchRecord) -> tuple[Envelope, int]:
    if record.result is None or record.result_leaf_index is None:
        raise ProbegateError(Reason.STATE_UNAVAILABLE, "a search that has not ended")
    return record.result, record.result_leaf_index


def _emptied(answer: AgencyAnswer, at: datetime) -> AgencyAnswer:
    """Return an answer without what was found, marked with when it was erased (3)."""
    outcome = answer.outcome.model_copy(update={"erased_at": at})
    return replace(answer, outcome=outcome, report=None, said=None, links=None)


def _marked(answer: AgencyAnswer, at: datetime) -> AgencyAnswer:
    """Return an answer that came after the end of its search as one that did (3)."""
    return replace(answer, outcome=answer.outcome.model_copy(update={"late_at": at}))


_count = outcome_metrics()
