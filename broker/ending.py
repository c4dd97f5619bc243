"""The signed end of a search, and the one that replaces it when another answer comes after it.

1. Every agency of the order has exactly one outcome in it (promise 5).
2. The result is signed, its digest logged and its row written in one commit, and only then is
   anybody told (promise 8).
3. An end that replaces an earlier one is made the same way, names it by digest, and is written only
   over that very one: no answer is lost between two that come at once. What is new in it is marked
   with when it came.
4. With an end go the answers that are to be asked for later (``held``): those an agency holds, and
   those that may have been given after we stopped waiting; unless the force cancelled the search,
   and so waits for neither. Link tokens are kept as long as something is asked for, for the groups
   to be made again, and not longer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from audit.writer import LogWriter, NewEntry
from broker import leaves
from broker.dispatch import outcome_metrics
from broker.held_store import HeldStore
from broker.models import AgencyAnswer, Replaced, SearchRecord, SearchState
from broker.results import result_of
from broker.retention import ResultRetention
from broker.store import SearchStore
from policy.ledger import Ledger
from trust import dsse
from trust.clock import Clock
from trust.dsse import Envelope
from trust.keys import Signer
from trust.messages import SearchLimits
from trust.payload_types import PayloadType
from trust.wire import encode_result


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
        payload = encode_result(result_of(record, answers, limits, now, replaces))
        result: Envelope = dsse.sign(PayloadType.SEARCH_RESULT, payload, self.signer)
        fresh = tuple(a for a in answers if replaces is None or a.outcome.agency in came)
        appended = await self.log.append(
            NewEntry(
                leaf=leaves.result_leaf(
                    record.search_id, record.order_sha256, payload, answers, now, replaces
                ),
                also=self._writes(record, answers, fresh, state, result, now, replaces),
            )
        )
        _count(fresh)
        return replace(
            record,
            state=state,
            answers=answers,
            result=result,
            result_leaf_index=appended.index,
        )

    def _writes(
        self,
        record: SearchRecord,
        answers: tuple[AgencyAnswer, ...],
        fresh: tuple[AgencyAnswer, ...],
        state: SearchState,
        result: Envelope,
        now: datetime,
        replaces: Replaced | None,
    ) -> Callable[[Connection, int], None]:
        """Return what is written in the transaction of a result's log entry (2) (3) (4)."""
        row = self.store.end(
            record.search_id,
            state,
            answers,
            result,
            self.retention.until(record.decisions, now),
            replaces.leaf_index if replaces else None,
        )
        links = self.store.keep_links(record.search_id, answers, again=replaces is not None)
        answered = [answer.outcome.agency for answer in answers if answer.statement is not None]
        wait = state is SearchState.FINISHED

        def write(connection: Connection, index: int) -> None:
            row(connection, index)
            if answered:
                self.ledger.write_answered(connection, record.search_id, answered, now)
            if replaces is not None:
                self.held.write_came(
                    connection, record.search_id, [a.outcome.agency for a in fresh]
                )
            if wait:
                self.held.write(connection, record, fresh, now)
            links(connection, index)

        return write


def _marked(answer: AgencyAnswer, at: datetime) -> AgencyAnswer:
    """Return an answer that came after the end of its search as one that did (3)."""
    return replace(answer, outcome=answer.outcome.model_copy(update={"late_at": at}))


_count = outcome_metrics()
