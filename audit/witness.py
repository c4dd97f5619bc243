"""What an adapter remembers of a broker's log, so that nobody can show it two histories.

The rules, as numbered in the code:

1. A checkpoint must be signed by the log's key and be of the log's origin: CHECKPOINT_INVALID.
2. It must be proved consistent with a root this witness has accepted: the newest, or one that was
   newest within ``recent_max_age_s``. Size 0 is known to everyone, needs no proof, and grows old
   like any other root. Otherwise, or if a proof fails: CHECKPOINT_INCONSISTENT.
3. A known size with another root is two histories signed by one key. Both notes are kept, in a
   transaction of their own, and nothing more is accepted: CHECKPOINT_INCONSISTENT.
4. Grants overtake one another. A checkpoint proved only from an older root than the newest is
   accepted as a *debt*. While any debt is older than ``debt_max_age_s``, or more than
   ``debt_max_count`` would be outstanding, nothing is admitted: CHECKPOINT_UNRECONCILED.
5. A debt is settled by proof that it is a prefix of a root on the *chain*: of that very root, for
   another history may have one of the same size. What is refused leaves no such proof behind.
6. The chain grows only from its newest root, and never gives a root back.
7. State persists with the caller's transaction (``Admission.persist``).

Why this is enough. Every root on the chain is a prefix of the newest, by proofs this witness
verified (6), and a settled debt is a prefix of a chain root (5); so all roots on the chain belong
to one history. Of two inconsistent checkpoints at most one is on the chain. The other, if it was
accepted, is a debt, and settling it would take a proof that does not exist unless SHA-256
collides; it ages until it blocks everything (4). A debt's clock starts once and never restarts.

It is tempting, when a larger checkpoint arrives that is proved only from an older root, to make it
the newest and the displaced roots debts. A broker with two histories could then alternate between
them for ever, each turn settling one history's debts and restarting the other's clock. Hence (6):
the larger one waits as a debt too. Nothing honest is lost: proofs between any two known sizes are
welcome, a proof remembered between two debts settles both at once, and the broker learns the
newest size and the debts from each ``Acknowledged``. A broker does best to prove each checkpoint
from the last acknowledged size, every acknowledged debt, and the last few sizes it sent here.

If the caller's transaction fails, memory is ahead of the database, which does no harm: the search
in question was not answered, and after a restart an older verified root is as good a base.

One lock guards each instance; ``admit`` may be called from any thread, outside any transaction.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final, Self

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    String,
    Table,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from audit.merkle import EMPTY_ROOT, verify_consistency
from audit.notes import VerifierKey, split_note
from audit.settings import WitnessSettings
from audit.tables import metadata, storage_failure
from trust.errors import ProbegateError, Reason

_log = logging.getLogger(__name__)

states: Final = Table(
    "witness_states",
    metadata,
    Column("origin", String, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
"""One row per watched log: the newest root, recent ones and debts, as signed notes."""

evidence: Final = Table(
    "witness_evidence",
    metadata,
    Column("digest", String, primary_key=True),
    Column("origin", String, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("note_a", LargeBinary, nullable=False),
    Column("note_b", LargeBinary, nullable=False),
    Column("resolved_at", BigInteger),
)
"""Pairs of notes that contradict each other: proof of misconduct by whoever holds the key."""


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """A claim that the log at ``old_size`` is a prefix of the log at ``new_size``."""

    old_size: int
    new_size: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What to prove the next checkpoint from: the newest chain size and every debt's size."""

    newest_size: int
    debts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Admission:
    """An accepted checkpoint; ``persist`` belongs in the transaction that acts on it."""

    checkpoint: Checkpoint
    acknowledged: Acknowledged
    persist: Callable[[Connection], None]


_Root = tuple[int, bytes]
"""A log's size and root: one without the other does not say which history is meant."""


@dataclass(slots=True)
class _Known:
    """An accepted checkpoint."""

    note: bytes
    checkpoint: Checkpoint
    since: float
    """When it became a debt (Unix seconds)."""
    ahead: set[_Root] = field(default_factory=set)
    """Roots it was proved a prefix of, while it is a debt or the newest."""

    @property
    def root(self) -> _Root:
        """Its size and root."""
        return self.checkpoint.size, self.checkpoint.root


class Witness:
    """The memory of one log, for one process. Made by ``open``."""

    def __init__(
        self, engine: Engine, origin: str, vkey: VerifierKey, settings: WitnessSettings
    ) -> None:
        self._engine = engine
        self._origin = origin
        self._vkey = vkey
        self._settings = settings
        self._lock = threading.Lock()
        self._revision = 0
        self._newest = 0
        self._chain = {0: _Known(b"", Checkpoint(origin, 0, EMPTY_ROOT), 0.0)}
        self._retired: deque[tuple[float, int]] = deque()
        self._debts: dict[int, _Known] = {}
        self._stopped = False
        self._written = (0, b"{}")

    @classmethod
    def open(
        cls,
        engine: Engine,
        origin: str,
        vkey: VerifierKey,
        settings: WitnessSettings | None = None,
    ) -> Self:
        """Read what was remembered, or start knowing only the empty log.

        Raises:
            ProbegateError: STATE_UNAVAILABLE if the memory cannot be read.
        """
        witness = cls(engine, origin, vkey, settings or WitnessSettings())
        try:
            metadata.create_all(engine, [states, evidence])
            with engine.begin() as connection:
                witness._load(connection)
        except (SQLAlchemyError, ProbegateError, ValueError, LookupError, TypeError) as error:
            raise ProbegateError(Reason.STATE_UNAVAILABLE, detail="the witness's memory") from error
        return witness

    @property
    def acknowledged(self) -> Acknowledged:
        """What the next checkpoint should be proved from."""
        with self._lock:
            return self._acknowledged()

    def admit(self, note: bytes, proofs: Sequence[ConsistencyProof], now: datetime) -> Admission:
        """Accept a checkpoint under the rules above.

        Args:
            note: the signed checkpoint.
            proofs: between this checkpoint and sizes known here, or between two known sizes;
                those about unknown sizes are ignored.
            now: the adapter's clock, with a time zone.

        Raises:
            ProbegateError: CHECKPOINT_INVALID, CHECKPOINT_INCONSISTENT, CHECKPOINT_UNRECONCILED;
                the last two carry ``newest_size`` and ``debts`` (a count), from which an honest
                broker can tell what to prove; MESSAGE_TOO_LARGE for too many proofs.
        """
        signed = open_checkpoint(note, [self._vkey], self._origin)  # (1)
        if len(proofs) > self._settings.proofs_max_count:
            raise ProbegateError(Reason.MESSAGE_TOO_LARGE, field="consistency_proofs")
        at = now.timestamp()
        with self._lock:
            contradicted = self._contradicted(signed.checkpoint)
            self._stopped = self._stopped or contradicted is not None  # (3)
            revision, refusal = self._revision, None
            try:
                self._judge(signed, proofs, at)
            except ProbegateError as error:
                refusal = error
            settled = self._revision > revision
            acknowledged = self._acknowledged()
        # Outside the lock: someone inside a transaction may be waiting for it to persist.
        if contradicted is not None:
            self._keep_evidence(contradicted, note, at)
        if refusal is not None:
            if settled:
                self._persist_apart()
            raise refusal
        return Admission(signed.checkpoint, acknowledged, self._persist)

    # ------------------------------------------------------------ the rules

    def _contradicted(self, new: Checkpoint) -> bytes | None:
        """Return the known note of the same size with another root, if there is one."""
        known = self._chain.get(new.size) or self._debts.get(new.size)
        return None if known is None or known.checkpoint.root == new.root else known.note

    def _judge(
        self, signed: SignedCheckpoint, proofs: Sequence[ConsistencyProof], at: float
    ) -> None:
        if self._stopped:
            raise self._refusal(Reason.CHECKPOINT_INCONSISTENT, "two histories were signed")  # (3)
        self._grow_old(at)
        edges = self._verified(signed.checkpoint, proofs)
        self._settle(signed, edges, at)
        try:
            self._accept(signed, edges, at)
        except ProbegateError:
            self._forget(signed.checkpoint)
            raise

    def _verified(
        self, new: Checkpoint, proofs: Sequence[ConsistencyProof]
    ) -> set[tuple[int, int]]:
        """Return the pairs of known sizes (the new one included) that ``proofs`` connect."""
        roots = {new.size: new.root}
        edges = set()
        for proof in proofs:
            pair = (proof.old_size, proof.new_size)
            for size in pair:
                known = self._chain.get(size) or self._debts.get(size)
                if known is not None:
                    roots[size] = known.checkpoint.root
            if 0 in pair or pair[0] == pair[1] or not roots.keys() >= set(pair):
                continue  # proves nothing, or about what is not known here
            if self._chain.keys() >= set(pair):
                continue  # nothing to learn
            try:
                verify_consistency(*pair, roots[pair[0]], roots[pair[1]], proof.hashes)
            except ProbegateError as error:
                raise self._refusal(error.reason, error.detail) from None  # (2)
            edges.add(pair)
        if 0 in self._chain and new.size:
            edges.add((0, new.size))  # (2)
        return edges

    def _settle(self, signed: SignedCheckpoint, edges: set[tuple[int, int]], at: float) -> None:
        """Put on the chain whatever is proved to belong there."""
        waiting = dict(self._debts)
        size = signed.checkpoint.size
        if size not in self._chain and size not in waiting:
            waiting[size] = _Known(signed.note, signed.checkpoint, at)
        for old, new in edges:
            known = waiting.get(new) or self._chain[new]
            if old in waiting:
                waiting[old].ahead.add(known.root)
            elif old == self._newest:
                self._chain[old].ahead.add(known.root)
        before = len(waiting)
        while True:
            ahead = self._chain[self._newest].ahead
            grown = [one for one, known in waiting.items() if known.root in ahead]
            if grown:  # (6)
                self._retire(self._newest, at)
                self._newest = max(grown)
                self._chain[self._newest] = waiting.pop(self._newest)
                continue
            joined = [one for one, known in waiting.items() if self._reaches_chain(known)]
            for one in joined:  # (5)
                self._chain[one] = waiting.pop(one)
                self._retire(one, at)
            if not joined:
                break
        self._debts = {one: self._debts[one] for one in self._debts if one in waiting}
        self._revision += len(waiting) < before

    def _reaches_chain(self, known: _Known) -> bool:
        return any(
            (there := self._chain.get(size)) is not None and there.checkpoint.root == root
            for size, root in known.ahead
        )

    def _accept(self, signed: SignedCheckpoint, edges: set[tuple[int, int]], at: float) -> None:
        size = signed.checkpoint.size
        settled = size in self._chain or size == 0
        if not settled and size not in self._debts and not any(size in one for one in edges):
            why = "not proved from a root known here"
            raise self._refusal(Reason.CHECKPOINT_INCONSISTENT, why)  # (2)
        owed = len(self._debts) + (not settled and size not in self._debts)
        oldest = min((known.since for known in self._debts.values()), default=at)
        if owed > self._settings.debt_max_count or at - oldest > self._settings.debt_max_age_s:
            why = "debts are too many or too old"
            raise self._refusal(Reason.CHECKPOINT_UNRECONCILED, why)  # (4)
        if not settled and size not in self._debts:
            larger = (new for old, new in edges if old == size)
            ahead = {(self._chain.get(new) or self._debts[new]).root for new in larger}
            self._debts[size] = _Known(signed.note, signed.checkpoint, at, ahead)
        self._revision += 1

    def _forget(self, new: Checkpoint) -> None:
        """Forget what was proved of a checkpoint that was refused (5)."""
        if new.size not in self._chain and new.size not in self._debts:
            for known in (self._chain[self._newest], *self._debts.values()):
                known.ahead.discard((new.size, new.root))

    # ------------------------------------------------------------ memory

    def _retire(self, size: int, at: float) -> None:
        """Let a chain root that is not the newest grow old."""
        self._chain[size].ahead.clear()
        self._retired.append((at, size))

    def _grow_old(self, at: float) -> None:
        settings, retired = self._settings, self._retired
        while retired and (
            at - retired[0][0] > settings.recent_max_age_s
            or len(retired) > settings.recent_max_count
        ):
            del self._chain[retired.popleft()[1]]

    def _acknowledged(self) -> Acknowledged:
        return Acknowledged(self._newest, tuple(sorted(self._debts)))

    def _refusal(self, reason: Reason, why: str) -> ProbegateError:
        return ProbegateError(
            reason, detail=why, newest_size=str(self._newest), debts=str(len(self._debts))
        )

    def _persist(self, connection: Connection) -> None:
        """Write the newest state; an older transaction that commits later changes nothing."""
        with self._lock:
            if self._written[0] != self._revision:  # one commit writes it for many admissions
                self._written = self._revision, self._state()
            revision, state = self._written
        connection.execute(
            _REMEMBER, {"of": self._origin, "new_revision": revision, "new_state": state}
        )  # (7)

    def _state(self) -> bytes:
        """Return what is remembered as it is stored."""
        stored = self._settings.recent_stored_count
        recent = list(self._retired)[-stored:] if stored else []
        state = {
            "newest": self._chain[self._newest].note.decode(),
            "recent": [[self._chain[size].note.decode(), since] for since, size in recent],
            "debts": [[one.note.decode(), one.since] for one in self._debts.values()],
        }
        return json.dumps(state).encode()

    def _persist_apart(self) -> None:
        """Keep what a refused admission proved, on its own."""
        try:
            with self._engine.begin() as connection:
                self._persist(connection)
        except SQLAlchemyError as error:
            _log.warning("the witness of %s: %s", self._origin, storage_failure(error).line())

    def _load(self, connection: Connection) -> None:
        count = select(func.count()).where(
            evidence.c.origin == self._origin, evidence.c.resolved_at.is_(None)
        )
        self._stopped = connection.execute(count).scalar_one() > 0  # (3)
        query = select(states.c.revision, states.c.state).where(states.c.origin == self._origin)
        row = connection.execute(query).first()
        if row is None:
            connection.execute(
                insert(states), {"origin": self._origin, "revision": 0, "state": b"{}"}
            )
            return
        self._revision = row.revision
        state = json.loads(bytes(row.state))
        if state:
            newest = self._known(state["newest"], 0.0)
            self._newest = newest.checkpoint.size
            self._chain = {self._newest: newest}
            for note, since in state["recent"]:
                known = self._known(note, since)
                self._chain[known.checkpoint.size] = known
                self._retired.append((since, known.checkpoint.size))
            debts = [self._known(note, since) for note, since in state["debts"]]
            self._debts = {one.checkpoint.size: one for one in debts}

    def _known(self, note: str, since: float) -> _Known:
        if not note:
            return _Known(b"", Checkpoint(self._origin, 0, EMPTY_ROOT), since)
        text, _ = split_note(note.encode())
        return _Known(note.encode(), Checkpoint.parse(text), since)

    def _keep_evidence(self, first: bytes, second: bytes, at: float) -> None:
        digest = sha256(first + second).hexdigest()
        row = {"origin": self._origin, "seen_at": int(at), "note_a": first, "note_b": second}
        of_log = select(func.count()).where(evidence.c.origin == self._origin)
        same = select(func.count()).where(evidence.c.digest == digest)
        try:
            with self._engine.begin() as connection:
                full = connection.execute(of_log).scalar_one() >= self._settings.evidence_max_count
                if not full and not connection.execute(same).scalar_one():
                    connection.execute(insert(evidence), {"digest": digest, **row})
        except SQLAlchemyError as error:
            _log.error("evidence against %s is not kept: %s", self._origin, storage_failure(error))


_REMEMBER: Final = (
    update(states)
    .where(states.c.origin == bindparam("of"), states.c.revision < bindparam("new_revision"))
    .values(revision=bindparam("new_revision"), state=bindparam("new_state"))
)


def evidence_against(engine: Engine, origin: str) -> list[tuple[bytes, bytes]]:
    """Return the pairs of contradicting notes kept for a log, oldest first."""
    query = (
        select(evidence.c.note_a, evidence.c.note_b)
        .where(evidence.c.origin == origin)
        .order_by(evidence.c.seen_at, evidence.c.digest)
    )
    with engine.connect() as connection:
        return [(bytes(row.note_a), bytes(row.note_b)) for row in connection.execute(query)]


def resolve_evidence(engine: Engine, origin: str, now: datetime) -> int:
    """Let searching resume once people have dealt with the evidence; it stays kept.

    Takes effect when the witness is opened again. Returns how many pairs were resolved.
    """
    statement = (
        update(evidence)
        .where(evidence.c.origin == origin, evidence.c.resolved_at.is_(None))
        .values(resolved_at=int(now.timestamp()))
    )
    with engine.begin() as connection:
        return connection.execute(statement).rowcount
