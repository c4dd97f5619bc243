"""Record what a force states of a candidate: other evidence, or that it is not the person.

1. The statement is signed by the force that owns the channel, and of this moment.
2. It is about a candidate of the result, as it stands, of one of its searches that has ended; or,
   once what its agency found is gone, about one whose details were released, which are kept for
   longer.
3. Whoever makes it holds a token for the part of an officer that says the same of them.
4. The same signed bytes again return what they recorded; its id used for another is refused.
5. It is on the log before it is acknowledged, and the owner of the record is told of a wrong match.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from audit.leaves import JsonValue
from audit.writer import LogWriter, NewEntry
from broker.leaves import sha256
from broker.second_step import leaves
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.models import Receipt, SignedByForce
from broker.second_step.notice_store import NoticeStore, StatementStore
from broker.second_step.opening import Caller, ended_search, require_listed
from broker.second_step.receipts import Receipts
from broker.second_step.refusing import Refusals
from broker.settings import BrokerSettings
from broker.store import SearchStore
from broker.storing import Write, together
from trust.clock import Clock
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.second_step import Corroboration, WrongMatch
from trust.tokens import Part


@dataclass(frozen=True, slots=True)
class _Statement:
    """What both kinds have in common."""

    said: Corroboration | WrongMatch
    statement_id: str
    person: Person
    made_at: datetime
    field: str
    leaf: dict[str, JsonValue]
    private: dict[str, JsonValue]
    also: Write


@dataclass(frozen=True, slots=True)
class RecordStatements:
    """The commands; one per process."""

    settings: BrokerSettings
    store: SearchStore
    disclosures: DisclosureStore
    statements: StatementStore
    notices: NoticeStore
    refusals: Refusals
    receipts: Receipts
    log: LogWriter
    clock: Clock

    async def corroborate(
        self, params: SignedByForce, peer: PeerIdentity, directory: Directory
    ) -> Receipt:
        """Record evidence that does not come from comparing faces.

        Raises:
            ProbegateError: an envelope's or key's reason, ``NOTICE_INVALID``, ``NOT_FOUND``,
                ``RESULT_GONE``, ``OFFICER_TOKEN_INVALID``, or the log's own failure.
        """
        caller = Caller(peer, directory, self.clock())
        said = await self.refusals.opened(  # (1)
            caller, params.envelope, PayloadType.CORROBORATION, Corroboration
        )
        payload = params.envelope.payload
        return await self._record(
            caller,
            params,
            _Statement(
                said=said,
                statement_id=said.corroboration_id,
                person=said.person,
                made_at=said.recorded_at,
                field="recorded_at",
                leaf=leaves.corroboration_recorded(said, payload, caller.now),
                private=leaves.corroboration_facts(said),
                also=self._kept(caller, said.corroboration_id, said.search_id, params),
            ),
        )

    async def report_wrong_match(
        self, params: SignedByForce, peer: PeerIdentity, directory: Directory
    ) -> Receipt:
        """Record that a candidate is not the person sought, and have its owner told (5).

        Raises:
            ProbegateError: as ``corroborate``.
        """
        caller = Caller(peer, directory, self.clock())
        said = await self.refusals.opened(  # (1)
            caller, params.envelope, PayloadType.WRONG_MATCH, WrongMatch
        )
        payload = params.envelope.payload
        until = caller.now + timedelta(hours=self.settings.notice_at_most_h)
        return await self._record(
            caller,
            params,
            _Statement(
                said=said,
                statement_id=said.report_id,
                person=said.reporter,
                made_at=said.reported_at,
                field="reported_at",
                leaf=leaves.wrong_match(said, payload, caller.now),
                private=leaves.wrong_match_facts(said),
                also=together(
                    self._kept(caller, said.report_id, said.search_id, params),
                    self.notices.to_tell((said.agency,), params.envelope, caller.now, until),
                ),
            ),
        )

    def _kept(
        self, caller: Caller, statement_id: str, search_id: str, params: SignedByForce
    ) -> Write:
        return self.statements.recorded(caller.force, statement_id, search_id, params.envelope)

    async def _record(
        self, caller: Caller, params: SignedByForce, statement: _Statement
    ) -> Receipt:
        try:
            index = await self._recorded(caller, params, statement)
        except ProbegateError as error:
            await self.refusals.note_statement(
                error, caller, params.envelope, statement.said.search_id
            )
            raise
        return self.receipts.of(index)

    async def _recorded(self, caller: Caller, params: SignedByForce, statement: _Statement) -> int:
        earlier = await self._earlier(caller, params, statement)  # (4)
        if earlier is not None:
            return earlier
        await self._require_candidate(caller.force, statement.said)  # (2)
        skew = timedelta(seconds=self.settings.clock_skew_s)
        caller.require_fresh(statement.made_at, skew, Reason.NOTICE_INVALID, statement.field)  # (1)
        caller.require_person(params.token, Part.OFFICER, statement.person)  # (3)
        entry = NewEntry(  # (5)
            leaf=statement.leaf,
            private=statement.private,
            retain_until=caller.now + timedelta(days=self.settings.values_retain_days),
            also=statement.also,
        )
        try:
            return (await self.log.append(entry)).index
        except ProbegateError:
            earlier = await self._earlier(caller, params, statement)
            if earlier is None:
                raise
            return earlier  # the same bytes came at once

    async def _require_candidate(self, force: str, said: Corroboration | WrongMatch) -> None:
        try:
            record = await ended_search(self.store, force, said, Reason.NOTICE_INVALID)
            require_listed(record, said, (said.reference,), Reason.NOTICE_INVALID)
        except ProbegateError as error:
            if error.reason is not Reason.RESULT_GONE or not await self.disclosures.was_released(
                force, said.search_id, said.agency, said.reference
            ):
                raise

    async def _earlier(
        self, caller: Caller, params: SignedByForce, statement: _Statement
    ) -> int | None:
        """Return where in the log these very bytes are, if they are (4)."""
        envelope = params.envelope
        kept = await self.statements.get(
            caller.force, envelope.payload_type, statement.statement_id
        )
        if kept is None:
            return None
        if kept.sha256 != sha256(envelope.payload):
            raise ProbegateError(Reason.NOTICE_INVALID, "the id was used", field="id")
        return kept.leaf_index
