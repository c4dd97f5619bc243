"""A witness's judgement and memory: one checkpoint for each log, and never one beside it.

The rules (c2sp.org/tlog-witness), as numbered in the code, in the order in which they are judged:

1. 404: the origin is not one of the policy's logs.
2. 403: no key trusted for this origin signed. Signatures by others are ignored. A log against
   which evidence stands (6) is trusted no more until people have dealt with it.
3. 400: the old size is larger than the checkpoint's.
4. 409 with the remembered size: the old size is not the remembered one (0 if there is none).
5. 422: the proof does not lead from the remembered root to this one; a proof from size 0 is not
   empty; the same size has another root; an empty tree's root is not the empty tree's.
6. Two signed notes of one size and two roots contradict each other, whatever 4 and 5 say of the
   request. Both are kept as evidence, and the second is not cosigned.
7. 200: check, memory and cosignature are one transaction, which holds the log's row from before
   the first look at it until it is committed. The reply is made of what was committed.

So of two inconsistent checkpoints at most one is ever cosigned: the later one would need a proof
from a remembered root (4, 5), and a transaction that died before its commit gave no reply (7). A
failed proof alone is not kept as evidence, since anybody may send a log's checkpoint with a bad
proof. The memory of earlier sizes only makes contradictions plain; it is bounded and may forget.

Only the signatures of trusted keys are kept of a note, so strangers' lines take no room.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Final, Self

from sqlalchemy import Connection, Engine

from audit import cosigner_memory
from audit.add_checkpoint import AddCheckpoint, is_wrongly_empty
from audit.cosignatures import only_signed_by
from audit.cosigner_memory import Remembered
from audit.merkle import verify_consistency
from audit.notes import NoteSigner, VerifierKey, cosign, open_note
from audit.policy_file import LogPolicy
from audit.tables import state_storage
from trust import telemetry
from trust.errors import ProbegateError, Reason

HISTORY_MAX: Final = 100_000
EVIDENCE_MAX: Final = 1000
_evidence_found: Final = telemetry.meter().create_counter("probegate.witness.evidence")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is answered: an HTTP status, and what goes with it.

    Attributes:
        status: one of 200, 400, 403, 404, 409, 422.
        lines: with 200, the cosignature line.
        size: with 409, the remembered size.
    """

    status: HTTPStatus
    lines: bytes = b""
    size: int = 0


class Cosigner:
    """The judgement of a witness over all logs of its policy; calls may come from any thread.

    Args:
        engine: its database, made by ``cosigner_memory.open_memory``.
        policy: whose logs are watched.
        signer: the witness's key, of type COSIGNATURE_V1.
        history_max: earlier checkpoints kept per log.
        evidence_max: contradictions kept per log.
    """

    def __init__(
        self,
        engine: Engine,
        policy: LogPolicy,
        signer: NoteSigner,
        *,
        history_max: int = HISTORY_MAX,
        evidence_max: int = EVIDENCE_MAX,
    ) -> None:
        self._engine = engine
        self._signer = signer
        self._history_max = history_max
        self._evidence_max = evidence_max
        self._keys: dict[str, tuple[VerifierKey, ...]] = {
            one.vkey.name: policy.log_keys(one.vkey.name) for one in policy.logs
        }
        self._origins = {sha256(one.encode()).hexdigest(): one for one in self._keys}

    @classmethod
    def open(
        cls,
        engine: Engine,
        policy: LogPolicy,
        signer: NoteSigner,
        *,
        history_max: int = HISTORY_MAX,
        evidence_max: int = EVIDENCE_MAX,
    ) -> Self:
        """Begin the memory of each log that is new.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` if the policy lists no log; ``STATE_UNAVAILABLE``.
        """
        if not policy.logs:
            raise ProbegateError(Reason.CONFIG_INVALID, "the policy lists no log to watch")
        with state_storage(), engine.begin() as connection:
            cosigner_memory.begin(connection, frozenset(one.vkey.name for one in policy.logs))
        return cls(engine, policy, signer, history_max=history_max, evidence_max=evidence_max)

    def add(self, request: AddCheckpoint, now: datetime) -> Verdict:
        """Judge a request and, if all is well, remember and cosign its checkpoint.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``; then nothing was cosigned.
        """
        keys = self._keys.get(request.checkpoint.origin)
        if keys is None:
            return Verdict(HTTPStatus.NOT_FOUND)  # (1)
        try:
            open_note(request.note, keys)
        except ProbegateError:
            return Verdict(HTTPStatus.FORBIDDEN)  # (2)
        note = only_signed_by(request.note, keys)
        with (
            state_storage(),
            self._engine.connect() as connection,
            connection.begin() as transaction,
        ):
            verdict, changed = self._decide(connection, request, note, now)
            if changed:
                transaction.commit()  # (7)
            else:
                transaction.rollback()
        return verdict

    def newest(self, origin_sha256: str) -> bytes | None:
        """Return the newest cosigned note of the log whose origin has this hash, in hex.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        origin = self._origins.get(origin_sha256)
        if origin is None:
            return None
        with state_storage(), self._engine.connect() as connection:
            return cosigner_memory.newest(connection, origin).note or None

    def _decide(
        self, connection: Connection, request: AddCheckpoint, note: bytes, now: datetime
    ) -> tuple[Verdict, bool]:
        """Return the verdict, and whether anything is to be committed."""
        new = request.checkpoint
        held = cosigner_memory.hold(connection, new.origin)  # (7)
        first = cosigner_memory.contradicted(connection, held, new)
        if first is not None:
            self._accuse(connection, new.origin, (first, note), now)  # (6)
            return _judge(request, held), True
        if cosigner_memory.accused(connection, new.origin):
            return Verdict(HTTPStatus.FORBIDDEN), False  # (2)
        verdict = _judge(request, held)
        if verdict.status is not HTTPStatus.OK:
            return verdict, False
        line = cosign(note, self._signer, int(now.timestamp()))
        cosigner_memory.remember(connection, new, note + line, now, self._history_max)
        return Verdict(HTTPStatus.OK, lines=line), True

    def _accuse(
        self, connection: Connection, origin: str, pair: tuple[bytes, bytes], now: datetime
    ) -> None:
        if cosigner_memory.keep_evidence(connection, origin, pair, now, self._evidence_max):
            _evidence_found.add(1)
            telemetry.log(
                "EQUIVOCATION: a log signed two histories; see `probegate audit witness show`",
                level=logging.CRITICAL,
                log=origin,
            )


def _judge(request: AddCheckpoint, held: Remembered) -> Verdict:
    """Apply rules 3 to 5 to a request that a trusted key signed."""
    new = request.checkpoint
    if request.old > new.size:
        return Verdict(HTTPStatus.BAD_REQUEST)  # (3)
    if request.old != held.size:
        return Verdict(HTTPStatus.CONFLICT, size=held.size)  # (4)
    if is_wrongly_empty(new) or (held.size == 0 and request.proof):
        return Verdict(HTTPStatus.UNPROCESSABLE_ENTITY)  # (5)
    if held.size:
        try:
            verify_consistency(held.size, new.size, held.root, new.root, request.proof)
        except ProbegateError:
            return Verdict(HTTPStatus.UNPROCESSABLE_ENTITY)  # (5)
    return Verdict(HTTPStatus.OK)
