"""What every request of the second step must show, whatever it asks for.

1. The channel is a broker's (the servicer admits no other role), and the directory is in force.
2. The order's bytes are those of an order that was answered here, to this broker, with a report
   that was handed out. Whatever else is named is NOT_FOUND, alike for what was never asked, what
   is still held, and another broker's; this broker's own that was erased when its time was over is
   RESULT_GONE. The order is signed by its force, with a key that was valid when the order was made.
3. What the force says now is signed with a key that the directory lists as that force's, now.
4. The broker's entry is in the tree of a checkpoint that the broker's search log key signed.
5. That checkpoint is consistent with what this adapter's witness has seen of that log.
6. The entry says the very same as the request: its type, its digest, what it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from agency_adapters import checks
from agency_adapters.command import Witnesses
from agency_adapters.recording import Seen, asked_by
from agency_adapters.second_step.answered import Answered, HandedOut
from agency_adapters.second_step.models import Recorded
from audit import kinds
from audit.checkpoints import Checkpoint, open_checkpoint
from audit.embedded import embed
from audit.evidence import LoggedEntry
from audit.leaves import parse_leaf
from audit.merkle import leaf_hash, verify_inclusion
from audit.notes import VerifierKey
from audit.writer import LogWriter
from trust import dsse
from trust.clock import Clock
from trust.directory import Directory, KeyUse, Member, Role
from trust.errors import ProbegateError, Reason
from trust.messages import SearchOrder
from trust.payload_types import PayloadType
from trust.wire import decode_order

IMAGES_ENTRY: Final = kinds.IMAGES_REQUESTED
REVIEW_ENTRY: Final = kinds.REVIEWED
REQUEST_ENTRY: Final = kinds.DISCLOSURE_REQUESTED
WRONG_MATCH_ENTRY: Final = kinds.WRONG_MATCH
ACKNOWLEDGED_ENTRY: Final = kinds.RECALL_ACKNOWLEDGED
REVOKED_ENTRY: Final = kinds.REVOKED


@dataclass(frozen=True, slots=True)
class Shown:
    """An order that was answered here, as it was shown again.

    Attributes:
        order: the order.
        answer: the report that was handed out, with the records behind it.
    """

    order: SearchOrder
    answer: HandedOut

    @property
    def force(self) -> str:
        """Whose order it is."""
        return self.order.force


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry of the broker's log that is proved.

    Attributes:
        seen: the checkpoint as the witness admitted it, and as an entry embeds it.
        said: what the entry says.
        index: where it is.
        at: when the broker says that it was made.
    """

    seen: Seen
    said: Mapping[str, Any]
    index: int
    at: datetime

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the proof leads to."""
        return self.seen.admission.checkpoint


@dataclass(frozen=True, slots=True)
class Papers:
    """Checks papers; free of transport.

    Attributes:
        agency: this agency's member id.
        answered: what was answered here.
        log: this agency's search log.
        witnesses: what is remembered of the brokers' logs.
        directory: returns the directory in force.
        clock: tells the time.
    """

    agency: str
    answered: Answered
    log: LogWriter
    witnesses: Witnesses
    directory: Callable[[], Directory]
    clock: Clock

    def admit_channel(self, peer: Member) -> Directory:
        """Apply rule (1) and return the directory.

        Raises:
            ProbegateError: ``CHANNEL_ROLE`` or ``DIRECTORY_EXPIRED``.
        """
        checks.require_broker(peer)
        directory = self.directory()
        directory.require_current(self.clock())
        return directory

    def shown(self, order: dsse.Envelope, peer: Member) -> Shown:
        """Apply rule (2).

        Raises:
            ProbegateError: ``NOT_FOUND`` or ``RESULT_GONE``; ``ORDER_INVALID``; an envelope's or
                key's reason.
        """
        answer = self.answer_to(sha256(order.payload).digest(), peer)
        said = decode_order(order.payload)  # the very bytes that were verified when they came
        return Shown(checks.signed_order(order, self.directory(), said.created_at), answer)

    def answer_to(self, order_sha256: bytes, peer: Member) -> HandedOut:
        """Return what was handed out to this broker in answer to an order (2).

        Raises:
            ProbegateError: ``NOT_FOUND``, or ``RESULT_GONE`` if it was erased.
        """
        origin = self._log_key(peer).name
        answer = self.answered.to_order(order_sha256)
        if answer is None:
            stored = self.answered.state.answered(order_sha256)
            gone = stored is not None and stored.report is None
            if stored is not None and gone and asked_by(self.log, stored.leaf_index) == origin:
                raise ProbegateError(Reason.RESULT_GONE)
        if answer is None or answer.origin != origin:
            raise ProbegateError(Reason.NOT_FOUND)
        return answer

    def said_by(self, force: str, envelope: dsse.Envelope, kind: PayloadType) -> bytes:
        """Apply rule (3) and return the digest of what the force signed.

        Raises:
            ProbegateError: an envelope's or key's reason; ``NOT_FOUND`` if there is no such force.
        """
        self.directory().member(force, Role.FORCE)
        resolve = self.directory().resolver(force, KeyUse.SIGN, self.clock())
        dsse.verify(envelope, kind, resolve)
        return sha256(envelope.payload).digest()

    def proved(self, recorded: Recorded, peer: Member, says: Mapping[str, Any]) -> Proved:
        """Apply rules (4) to (6).

        Args:
            recorded: the entry with its proofs.
            peer: the broker.
            says: what the entry must say.

        Raises:
            ProbegateError: ``LOG_PROOF_INVALID``, or a reason of the checkpoint's.
        """
        log_key = self._log_key(peer)
        checkpoint = open_checkpoint(recorded.checkpoint, [log_key], log_key.name).checkpoint
        said, at = require_entry(recorded.entry, checkpoint, says)  # (4) (6)
        admission = self.witnesses.of(log_key).admit(  # (5)
            recorded.checkpoint, recorded.consistency, self.clock()
        )
        return Proved(Seen(admission, embed(recorded.checkpoint)), said, recorded.entry.index, at)

    def origin_of(self, peer: Member) -> str:
        """Return the name of a broker's search log.

        Raises:
            ProbegateError: ``KEY_UNKNOWN``.
        """
        return self._log_key(peer).name

    def _log_key(self, peer: Member) -> VerifierKey:
        return checks.search_log_key(self.directory(), peer.id, self.clock())


def require_entry(
    entry: LoggedEntry, checkpoint: Checkpoint, says: Mapping[str, Any]
) -> tuple[Mapping[str, Any], datetime]:
    """Apply rules (4) and (6) to one entry; return what it says, and when it was made.

    Raises:
        ProbegateError: ``LOG_PROOF_INVALID``.
    """
    verify_inclusion(
        entry.index, checkpoint.size, leaf_hash(entry.leaf), entry.inclusion, checkpoint.root
    )
    try:
        said: Mapping[str, Any] = parse_leaf(entry.leaf)
    except ProbegateError:
        raise not_recorded("leaf") from None
    for field, expected in {"v": 1, **says}.items():
        if said.get(field) != expected:
            raise not_recorded(field)
    try:
        at = datetime.fromisoformat(said["at"])
    except (KeyError, TypeError, ValueError):
        raise not_recorded("at") from None
    if at.tzinfo is None:
        raise not_recorded("at")
    return said, at


def not_recorded(field: str) -> ProbegateError:
    """Return why an entry does not prove a request."""
    return ProbegateError(Reason.LOG_PROOF_INVALID, "the entry says otherwise", field=field)
