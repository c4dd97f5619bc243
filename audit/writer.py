"""The sequencer: an append that has returned is durable, signed and provable.

1. One sequencer per log: a lock on the folder, and on PostgreSQL an advisory lock as well.
2. Entries, their private values and the caller's own changes commit in one transaction, whose
   last statement is the compare-and-swap of the signed checkpoint: the commit point.
3. Nothing is acknowledged before that commit has returned.
4. After a commit that failed or whose fate is unknown the writer is poisoned: it takes nothing
   more until it is opened again and has read what the database really holds. A transaction that
   got no lock, because another had the database for too long, refuses its entries and no more.
5. Files follow the commit and never lead it; staged entries are deleted only once their full
   bundle is durable. Opening replays whatever was committed but not yet published.
6. A database older than the folder (a restored backup) is refused: signing on from it would be a
   second history.

A private thread commits everything that queued while the last commit ran, signing once per
batch; another writes the folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from audit import tables
from audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from audit.entry import Appended, NewEntry, Verdict, Waiting, deliver
from audit.folder import LogFolder
from audit.gathering import Gathering
from audit.leaves import build_leaf
from audit.merkle import EMPTY_ROOT, consistency_proof, leaf_hash
from audit.notes import NoteSigner, VerifierKey
from audit.publisher import lock_folder, publish, write_vkey
from audit.settings import LogSettings
from audit.tables import Session, storage_failure
from audit.tiles import CHECKPOINT_FILE, TILE_WIDTH, VKEY_FILE
from audit.tree import LiveTree
from trust.errors import ProbegateError, Reason

__all__ = ["Appended", "LogWriter", "NewEntry"]

_log = logging.getLogger(__name__)


class _CallerError(Exception):
    """An ``also`` raised; the storage itself is well."""


class LogWriter:
    """The single writer of one log. Made by ``open``; append from any task of any loop."""

    def __init__(
        self,
        *,
        connection: Connection,
        name: str,
        signer: NoteSigner,
        folder: LogFolder,
        lock: int,
        settings: LogSettings,
    ) -> None:
        self._session = Session(connection, name)
        self._name = name
        self._signer = signer
        self._folder = folder
        self._lock = lock
        self._settings = settings
        self._tree = LiveTree(folder, settings.recent_nodes)
        self._recent: dict[int, bytes] = {}
        self._committed_bytes = self._published_bytes = 0
        self._published = self._deleted_below = 0
        self._queue = Gathering[Waiting](settings)
        self._gate = threading.Lock()
        self._refusal: ProbegateError | None = None
        self._backlog: ProbegateError | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._consistency = lru_cache(settings.proof_cache_pairs)(self._make_consistency)
        self._threads = (
            threading.Thread(target=self._write_loop, name=f"log-{name}", daemon=True),
            threading.Thread(target=self._publish_loop, name=f"log-{name}-files", daemon=True),
        )

    # ------------------------------------------------------------ opening

    @classmethod
    def open(
        cls,
        engine: Engine,
        *,
        name: str,
        origin: str,
        signer: NoteSigner,
        folder: Path,
        settings: LogSettings | None = None,
    ) -> Self:
        """Take the log's lock, replay what was committed, check it against its signature.

        Args:
            engine: SQLite in a file, or PostgreSQL; the log's tables are made if missing.
            name: tells apart the logs of one database.
            origin: the log's public name, the first line of its checkpoints.
            signer: the log's Ed25519 key (type 0x01), named as the origin.
            folder: where the public files go.
            settings: limits.

        Raises:
            ProbegateError: LOG_UNAVAILABLE if another process has the log or the storage can't be
                used; LOG_CORRUPT if files, database and signature disagree; DISK_FULL.
        """
        settings = settings or LogSettings()
        lock = lock_folder(folder)  # (1)
        connection = None
        try:
            tables.create(engine)
            connection = tables.connect(engine, settings.lock_timeout_s)
            tables.take_advisory_lock(connection, name)  # (1)
            writer = cls(
                connection=connection,
                name=name,
                signer=signer,
                folder=LogFolder(folder, settings.tile_cache_tiles),
                lock=lock,
                settings=settings,
            )
            writer._restore(origin)
        except BaseException as error:
            if connection is not None:
                connection.invalidate()
                connection.close()
            os.close(lock)
            if isinstance(error, SQLAlchemyError | OSError):
                raise storage_failure(error) from error
            raise
        return writer

    def _restore(self, origin: str) -> None:
        key = VerifierKey.of(self._signer)
        head = tables.read_head(self._session.connection, self._name)
        if head is None:
            first = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), self._signer)
            head = (origin, 0, EMPTY_ROOT, first.note, 0)
            tables.insert_head(self._session.connection, self._name, head)
        _, size, root, note, published = head
        try:
            self._checkpoint = open_checkpoint(note, [key], origin)
        except ProbegateError as error:
            raise _corrupt(f"the stored checkpoint: {error.detail}") from error
        if self._checkpoint.checkpoint != Checkpoint(origin, size, root):
            raise _corrupt("the stored root is not the signed one")
        self._refuse_an_older_database(key, size, published)
        try:
            self._replay(published - published % TILE_WIDTH)
            self._compare_roots(key)
        except ProbegateError as error:
            if error.reason is Reason.FILE_MISSING:
                raise _corrupt(f"missing {error.metadata.get('file')}") from error
            raise
        write_vkey(self._folder.path, str(key))
        self._session.commit()
        publish(self._folder.path, self._tree, self.leaf, published, self._checkpoint)
        self._published = size
        for thread in self._threads:
            thread.start()

    def _replay(self, start: int) -> None:
        """Rebuild the right edge from full tiles before ``start`` and the stage after it."""
        self._tree.restore(start)
        self._deleted_below = start
        self._recent = tables.read_stage(self._session.connection, self._name, start)
        if list(self._recent) != list(range(start, self._checkpoint.checkpoint.size)):
            raise _corrupt("staged entries are missing")
        for leaf in self._recent.values():
            self._tree.append(leaf_hash(leaf))

    def _compare_roots(self, key: VerifierKey) -> None:
        for one in (self._checkpoint.checkpoint, self._shown(key)):
            if one is not None and self._tree.root(one.size) != one.root:
                raise _corrupt("the entries do not hash to a signed root")

    def _refuse_an_older_database(self, key: VerifierKey, size: int, published: int) -> None:
        shown = self._shown(key)
        if published and shown is None:
            raise _corrupt("the folder has lost its checkpoint")
        if shown is not None and not published <= shown.size <= size:  # (6)
            raise _corrupt(f"the folder holds {shown.size} entries, the database {size}")
        if (self._folder.path / VKEY_FILE).exists() and self._folder.vkey() != key:
            raise _corrupt("the folder belongs to another key")

    def _shown(self, key: VerifierKey) -> Checkpoint | None:
        """Return the checkpoint that readers of the folder see now."""
        if not (self._folder.path / CHECKPOINT_FILE).exists():
            return None
        origin = self._checkpoint.checkpoint.origin
        try:
            return open_checkpoint(self._folder.checkpoint(), [key], origin).checkpoint
        except ProbegateError as error:
            raise _corrupt(f"the folder's checkpoint: {error.detail}") from error

    # ------------------------------------------------------------ for callers

    async def append(self, entry: NewEntry) -> Appended:
        """Put ``entry`` on the record; it is durable when this returns.

        A caller that is cancelled meanwhile may still find its entry in the log.

        Raises:
            ProbegateError: LOG_UNAVAILABLE or DISK_FULL if it could not be made durable;
                SERVER_BUSY if too many wait; TEXT_INVALID or MESSAGE_TOO_LARGE for the leaf.
            Exception: whatever the entry's own ``also`` raised.
        """
        leaf, private = build_leaf(entry.leaf, entry.private)
        until, loop = entry.retain_until, asyncio.get_running_loop()
        waiting = Waiting(
            leaf,
            leaf_hash(leaf),
            private,
            None if until is None else int(until.timestamp()),
            entry.also,
            loop,
            loop.create_future(),
        )
        with self._gate:
            self._refuse_if_unwell()
            self._queue.put(waiting)
        return await waiting.future

    @property
    def checkpoint(self) -> SignedCheckpoint:
        """The newest committed checkpoint."""
        return self._checkpoint

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that ``old`` is a prefix of ``new``, a committed size; cached.

        Raises:
            ProbegateError: CHECKPOINT_INCONSISTENT if the sizes are not of this log.
        """
        return self._consistency(old, new)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of entry ``index`` under the committed size ``size``.

        Raises:
            ProbegateError: LOG_PROOF_INVALID if there is no such entry.
        """
        if not 0 <= index < size <= self._checkpoint.checkpoint.size:
            raise ProbegateError(Reason.LOG_PROOF_INVALID, detail=f"no leaf {index} in {size}")
        return self._tree.inclusion(index, size, self._tree.edge(size))

    def leaf(self, index: int) -> bytes:
        """Return the bytes of a committed entry.

        Raises:
            ProbegateError: NOT_FOUND; LOG_CORRUPT or FILE_MISSING if its bundle cannot be read.
        """
        if not 0 <= index < self._checkpoint.checkpoint.size:
            raise ProbegateError(Reason.NOT_FOUND, detail=f"no entry {index}")
        recent = self._recent.get(index)
        if recent is not None:
            return recent
        return self._folder.full_entries(index // TILE_WIDTH)[index % TILE_WIDTH]

    @property
    def is_well(self) -> bool:
        """Whether it takes entries, now or once others are through; if not, never again (4)."""
        return self._refusal is None

    def pending(self) -> int:
        """Return how many entries wait for a commit."""
        return self._queue.waiting()

    async def close(self) -> None:
        """Commit what waits, publish it, release the lock. Closing twice does nothing more."""
        with self._gate:
            if not self._closing.is_set():
                self._closing.set()
                self._queue.end()
        await asyncio.to_thread(self._threads[0].join)

    def _refuse_if_unwell(self) -> None:
        settings = self._settings
        if self._refusal is not None:
            raise ProbegateError(self._refusal.reason, detail=self._refusal.detail)
        if self._closing.is_set():
            raise ProbegateError(Reason.LOG_UNAVAILABLE, detail="the log is closed")
        if self._queue.waiting() >= settings.pending_max_entries:
            raise ProbegateError(Reason.SERVER_BUSY, detail="too many entries wait")
        if (
            self._tree.size - self._published > settings.unpublished_max_entries
            or self._committed_bytes - self._published_bytes > settings.unpublished_max_bytes
        ):
            behind = self._backlog or ProbegateError(Reason.LOG_UNAVAILABLE)
            raise ProbegateError(behind.reason, detail="the log's files are too far behind")

    def _make_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        if new > self._checkpoint.checkpoint.size:
            raise ProbegateError(Reason.CHECKPOINT_INCONSISTENT, detail=f"size {new} is not ours")
        return consistency_proof(self._tree.node, old, new)

    # ------------------------------------------------------------ the writer's thread

    def _write_loop(self) -> None:
        closing, batch = False, list[Waiting]()
        try:
            while not closing:
                batch, closing = self._queue.take()
                if batch:
                    deliver(self._commit(batch))
        except BaseException as error:  # noqa: BLE001 - whatever it is, nothing more is taken (4)
            self._poison(storage_failure(error), batch)
        self._finish()

    def _commit(self, batch: list[Waiting]) -> list[Verdict]:
        session, first = self._session, self._tree.size
        refused: list[Verdict] = []
        try:
            session.begin()
            self._stage(batch, first)
        except _CallerError:
            session.rollback()
            session.begin()
            batch, refused = self._stage_one_by_one(batch, first)
        except Exception as error:
            if not tables.is_busy(error):
                raise
            session.rollback()
            busy = ProbegateError(Reason.LOG_UNAVAILABLE, "the database is another's for too long")
            return [(one, busy) for one in batch]  # (4)
        if not batch:
            session.rollback()
            return refused
        for one in batch:
            self._tree.append(one.leaf_hash)
        root, proofs = self._tree.newest(first)
        checkpoint = Checkpoint(self._checkpoint.checkpoint.origin, self._tree.size, root)
        signed = sign_checkpoint(checkpoint, self._signer)
        self._swap(first, signed)  # (2)
        # Made before the commit: the first work after the disk's sleep costs several times as much.
        done: list[Verdict] = [
            (one, Appended(index, one.leaf, one.leaf_hash, signed, proof))
            for index, (one, proof) in enumerate(zip(batch, proofs, strict=True), first)
        ]
        for index, one in enumerate(batch, first):
            self._recent[index] = one.leaf  # read from when the checkpoint covers it
        session.commit()
        self._checkpoint = signed
        # After the checkpoint: whoever reads the bytes first never counts too many as published.
        self._committed_bytes += sum(len(one.leaf) for one in batch)
        if not self._wake.is_set():
            self._wake.set()
        return done + refused  # (3)

    def _stage(self, batch: Sequence[Waiting], first: int) -> None:
        """Stage a batch in the fewest statements; _CallerError if an ``also`` raises."""
        self._session.stage(first, [one.leaf for one in batch])
        kept = [
            (index, value.field, value.value, value.salt, one.retain_until)
            for index, one in enumerate(batch, first)
            for value in one.private
        ]
        if kept:
            self._session.keep(kept)
        for index, one in enumerate(batch, first):
            if one.also is not None:
                try:
                    one.also(self._session.connection, index)
                except Exception as error:
                    if _is_storage(error):
                        raise
                    raise _CallerError from error

    def _stage_one_by_one(
        self, batch: Sequence[Waiting], first: int
    ) -> tuple[list[Waiting], list[Verdict]]:
        """Stage a batch again, each entry in a savepoint, so that one failure costs one entry."""
        staged: list[Waiting] = []
        refused: list[Verdict] = []
        for one in batch:
            savepoint = self._session.connection.begin_nested()
            try:
                self._stage([one], first + len(staged))
            except _CallerError as error:
                savepoint.rollback()
                cause = error.__cause__
                refused.append((one, cause if isinstance(cause, Exception) else error))
            else:
                savepoint.commit()
                staged.append(one)
        return staged, refused

    def _swap(self, old_size: int, signed: SignedCheckpoint) -> None:
        """Advance the head from ``old_size``; record what is published, and drop its stage."""
        published = min(self._published, old_size)
        keep_from = published - published % TILE_WIDTH
        if not self._session.advance(old_size, signed, published):
            raise ProbegateError(Reason.LOG_UNAVAILABLE, detail="another sequencer moved the log")
        if keep_from > self._deleted_below:  # (5)
            self._session.delete_below(keep_from)
            self._deleted_below = keep_from

    def _poison(self, why: ProbegateError, batch: Iterable[Waiting]) -> None:
        _log.error("the log %s takes no more entries: %s", self._name, why.line())
        with self._gate:
            self._refusal = ProbegateError(
                Reason.LOG_UNAVAILABLE, detail="an earlier commit failed"
            )
        stranded = [*batch, *self._queue.drain()]
        deliver([(one, ProbegateError(why.reason, detail=why.detail)) for one in stranded])

    def _finish(self) -> None:
        """Publish the last entries, record it, and let the next sequencer in."""
        if self._refusal is not None:
            # Poisoned: keep the lock until close, so that no one opens the log under our callers.
            self._session.end()
            self._closing.wait()
        self._wake.set()
        self._threads[1].join()
        try:
            if self._published < self._checkpoint.checkpoint.size:
                self._publish()  # what was committed after the publisher's last look
            if self._refusal is None:
                self._session.begin()
                self._swap(self._tree.size, self._checkpoint)
                self._session.commit()
        except Exception as error:  # noqa: BLE001 - a driver's errors have no common base
            # Harmless: the next opening publishes the same files again.
            _log.warning("the log %s: %s", self._name, storage_failure(error).line())
        finally:
            self._session.end()
            os.close(self._lock)

    # ------------------------------------------------------------ the publisher's thread

    def _publish_loop(self) -> None:
        while not self._closing.is_set() or self._wake.is_set():
            self._wake.wait()
            self._closing.wait(self._settings.publish_interval_s)
            self._wake.clear()
            self._publish()

    def _publish(self) -> None:
        committed = self._committed_bytes  # before the checkpoint: at most what it covers
        target, published = self._checkpoint, self._published
        size = target.checkpoint.size
        try:
            publish(self._folder.path, self._tree, self.leaf, published, target)
        except (OSError, ProbegateError) as error:
            self._backlog = storage_failure(error)
            _log.warning("the log %s: files are behind: %s", self._name, self._backlog.line())
            if not self._closing.is_set():
                self._wake.set()  # try again after the interval
            return
        self._backlog = None
        self._published, self._published_bytes = size, committed
        before, now = (one - one % TILE_WIDTH for one in (published, size))
        for index in range(before, now):
            self._recent.pop(index, None)
        self._tree.forget(size)


def _is_storage(error: Exception) -> bool:
    """Whether an ``also`` failed because the database did, not because of what it asked."""
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or tables.is_disk_full(error)


def _corrupt(why: str) -> ProbegateError:
    return ProbegateError(Reason.LOG_CORRUPT, detail=why)
