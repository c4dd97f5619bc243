"""Show a force what agencies recalled of its searches, and record that it acted on it.

1. A force sees the recalls of its own searches, and no others.
2. An acknowledgement is signed by the force that owns the channel, of this moment, and names a
   recall of its own by id and digest. Another's and one that never was get the same answer.
3. Whoever acknowledges holds a token for the part of an officer that says the same of them.
4. The same signed bytes again return what they recorded; a recall is acknowledged once.
5. It is on the log before it is acknowledged, and the agency is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from audit.writer import LogWriter, NewEntry
from broker.leaves import sha256
from broker.second_step import leaves
from broker.second_step.models import KeptRecall, RecallView, Receipt, SignedByForce
from broker.second_step.notice_store import NoticeStore, RecallStore
from broker.second_step.opening import Caller
from broker.second_step.receipts import Receipts
from broker.second_step.refusing import Refusals
from broker.settings import BrokerSettings
from broker.storing import together
from trust.clock import Clock
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.second_step import RecallAcknowledgement
from trust.tokens import Part

AT_ONCE: Final = 100
"""Most recalls in one answer."""
_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ReadRecalls:
    """The command; one per process."""

    recalls: RecallStore
    receipts: Receipts

    async def execute(self, force: str, after: int) -> tuple[RecallView, ...]:
        """Return recalls after a number, the oldest first (1).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        found = await self.recalls.page(force, min(after, _LAST), AT_ONCE)
        return tuple(RecallView(one, self.receipts.of(one.leaf_index)) for one in found)


@dataclass(frozen=True, slots=True)
class AcknowledgeRecall:
    """The command; one per process."""

    settings: BrokerSettings
    recalls: RecallStore
    notices: NoticeStore
    refusals: Refusals
    receipts: Receipts
    log: LogWriter
    clock: Clock

    async def execute(
        self, params: SignedByForce, peer: PeerIdentity, directory: Directory
    ) -> Receipt:
        """Record an acknowledgement.

        Raises:
            ProbegateError: an envelope's or key's reason, ``NOTICE_INVALID``, ``NOT_FOUND``,
                ``OFFICER_TOKEN_INVALID``, or the log's own failure.
        """
        caller = Caller(peer, directory, self.clock())
        said = await self.refusals.opened(  # (2)
            caller, params.envelope, PayloadType.RECALL_ACKNOWLEDGEMENT, RecallAcknowledgement
        )
        search_id = ""
        try:
            recall = await self._recall(said)  # (2)
            search_id = recall.said.search_id
            index = await self._recorded(caller, params, said, recall)
        except ProbegateError as error:
            await self.refusals.note_statement(error, caller, params.envelope, search_id)
            raise
        return self.receipts.of(index)

    async def _recall(self, said: RecallAcknowledgement) -> KeptRecall:
        recall = await self.recalls.get(said.force, said.recall_id, said.recall_sha256)
        if recall is None:
            raise ProbegateError(Reason.NOT_FOUND)
        return recall

    async def _recorded(
        self,
        caller: Caller,
        params: SignedByForce,
        said: RecallAcknowledgement,
        recall: KeptRecall,
    ) -> int:
        payload = params.envelope.payload
        if recall.acknowledgement_index is not None:  # (4)
            if recall.acknowledgement_sha256 != sha256(payload):
                raise ProbegateError(Reason.NOTICE_INVALID, field="recall_id")
            return recall.acknowledgement_index
        skew = timedelta(seconds=self.settings.clock_skew_s)
        caller.require_fresh(said.acknowledged_at, skew, Reason.NOTICE_INVALID, "acknowledged_at")
        caller.require_person(params.token, Part.OFFICER, said.person)  # (3)
        until = caller.now + timedelta(hours=self.settings.notice_at_most_h)
        entry = NewEntry(  # (5)
            leaf=leaves.recall_acknowledged(said, recall.said, payload, caller.now),
            private=leaves.acknowledgement_facts(said),
            retain_until=caller.now + timedelta(days=self.settings.values_retain_days),
            also=together(
                self.recalls.acknowledged(recall, payload, caller.now),
                self.notices.to_tell((recall.said.agency,), params.envelope, caller.now, until),
            ),
        )
        try:
            return (await self.log.append(entry)).index
        except ProbegateError:
            now = await self._recall(said)
            if now.acknowledgement_sha256 == sha256(payload) and now.acknowledgement_index:
                return now.acknowledgement_index  # the same bytes came at once
            raise
