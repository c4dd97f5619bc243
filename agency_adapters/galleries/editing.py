"""Changing a gallery: every change is a new generation, or nothing (promise 8).

1. One command changes a gallery at a time; it holds the lock.
2. New segments are written and flushed first. Then the manifest is replaced by one rename, and that
   is the change: before it the gallery is the old one, after it the new one, and a crash at any
   instant leaves one of the two.
3. Segments that no manifest names are left by a crash, or are what the change replaced. They, and
   manifests that were not written to the end, are removed after the change, and by the next command
   that holds the lock. Where the crash may have come before the overwriting of (4), that command
   overwrites them whole first; the manifest says then that no older generation is read any more.
4. A record that was erased or updated is overwritten with zeros in the segment it was in, flushed,
   before that segment is removed and before the command says that it is done. So no file of the
   gallery holds its template any more, and whoever still reads the old generation reads zeros: the
   manifest, which is in place before the first of them, says since when every row is as it was.
5. Each change is a line of the journal. The manifest holds the newest one, so that a crash between
   the two loses no line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.manifest import (
    MANIFEST,
    Change,
    Manifest,
    SegmentEntry,
    known_kind,
    read_manifest,
)
from agency_adapters.galleries.rejecting import Losing, anybody
from agency_adapters.galleries.segment_content import (
    SEGMENT_ROWS,
    NewRecord,
    SegmentContent,
    content_of,
    merged,
    write_segment,
)
from agency_adapters.galleries.segments import overwrite_rows
from agency_adapters.galleries.store import SEGMENTS, StoredGallery, rule_names
from trust import files
from trust.errors import ProbegateError, Reason

LOCK: Final = "lock"
JOURNAL: Final = "journal.jsonl"
MAX_LINE_BYTES: Final = 4096
"""More than a line of the journal ever takes, bytes."""
SPARSE: Final = 0.5
"""A segment less full than this is compacted."""


@dataclass(slots=True)
class _Draft:
    """A change on its way: what is new, what goes, and which rows of what goes were erased."""

    new: list[SegmentEntry] = field(default_factory=list)
    gone: dict[str, list[int]] = field(default_factory=dict)


class Editor:
    """Changes one gallery; made by ``editing``, which holds the lock (1)."""

    def __init__(self, path: Path, kind: AgencyKind, manifest: Manifest | None) -> None:
        self._path = path
        self._kind = kind
        self.manifest = manifest
        self._next = manifest.next_segment if manifest else 1

    @property
    def generation(self) -> int:
        """The generation as it is now; 0 before there is one."""
        return self.manifest.generation if self.manifest else 0

    def replace(
        self,
        model: str,
        dims: int,
        contents: Iterable[SegmentContent],
        now: datetime,
        losing: Losing = anybody,
    ) -> int:
        """Make a gallery of some contents, or the next generation of one; return how many records.

        They are taken as they are written, so that a gallery of any size is made in the memory of
        one segment. If taking them fails, or ``losing`` refuses when all are, nothing changes.
        """
        draft = _Draft(gone={entry.name: [] for entry in self._entries})
        with self._undone(draft):
            for content in contents:
                self._write(draft, content)
            losing(self._held())
            count = sum(entry.rows for entry in draft.new)
            rules = rule_names(self._kind)
            self._commit(draft, model, dims, now, "import", rules, enrolled=count)
        return count

    def enrol(self, records: Sequence[NewRecord], now: datetime) -> tuple[int, int]:
        """Enrol records; one whose id is held replaces what was. Return how many of each."""
        if self.manifest is not None and self.manifest.rules != rule_names(self._kind):
            self.compact(now)
        stored, manifest = self._opened()
        held = stored.find([one.record.record_id for one in records])
        draft = _Draft()
        with self._undone(draft):
            parts = [content_of(self._kind, records)] if records else []
            rest = self._without(stored, draft, held.values())
            last = manifest.segments[-1] if manifest.segments else None
            if records and last and last.rows < SEGMENT_ROWS and last.name not in draft.gone:
                parts.append(stored.segments[-1].content())
                draft.gone[last.name] = []
            for content in rest:
                self._write(draft, content)
            if parts:
                self._write(draft, merged(parts))
            self._commit(
                draft,
                manifest.model,
                manifest.dims,
                now,
                "enrol",
                manifest.rules,
                enrolled=len(records) - len(held),
                updated=len(held),
            )
        return len(records) - len(held), len(held)

    def erase(self, record_ids: Sequence[str], now: datetime) -> tuple[str, ...]:
        """Erase records (4); return the ids of those that were held."""
        stored, manifest = self._opened()
        held = stored.find(record_ids)
        if not held:
            return ()
        draft = _Draft()
        with self._undone(draft):
            for content in self._without(stored, draft, held.values()):
                self._write(draft, content)
            self._commit(
                draft,
                manifest.model,
                manifest.dims,
                now,
                "erase",
                manifest.rules,
                erased=len(held),
            )
        return tuple(sorted(held))

    def held(self, record_ids: Sequence[str]) -> tuple[str, ...]:
        """Return which of some records are held, in order."""
        stored, _ = self._opened()
        return tuple(sorted(stored.find(record_ids)))

    def compact(self, now: datetime) -> int:
        """Put the rows of sparse segments together; return how many segments there are fewer.

        A gallery that was written under other eligibility rules is written anew.
        """
        stored, manifest = self._opened()
        stale = manifest.rules != rule_names(self._kind)
        sparse = [
            segment for segment in stored.segments if stale or segment.rows < SPARSE * SEGMENT_ROWS
        ]
        if len(sparse) < 2 and not stale:  # noqa: PLR2004 - one alone has nothing to join
            return 0
        draft = _Draft(gone={segment.name: [] for segment in sparse})
        with self._undone(draft):
            waiting: list[SegmentContent] = []
            for segment in sparse:
                content = segment.content()
                waiting.append(content.with_days(self._kind) if stale else content)
                if sum(one.rows for one in waiting) >= SEGMENT_ROWS:
                    whole = merged(waiting)
                    self._write(draft, whole.only(np.arange(SEGMENT_ROWS)))
                    rest = whole.only(np.arange(SEGMENT_ROWS, whole.rows))
                    waiting = [rest] if rest.rows else []
            if waiting:
                self._write(draft, merged(waiting))
            rules = rule_names(self._kind)
            self._commit(draft, manifest.model, manifest.dims, now, "compact", rules)
        return len(sparse) - len(draft.new)

    def sweep(self) -> None:
        """Remove what a crash left (3), and complete the journal (5)."""
        files.sweep(self._path / MANIFEST)
        folder = self._path / SEGMENTS
        named = {entry.name for entry in self._entries}
        for left in folder.iterdir() if folder.is_dir() else ():
            if left.name not in named:
                if self._may_hold_erased:
                    for path in left.iterdir():
                        files.overwrite(path)
                shutil.rmtree(left)
        if self.manifest is not None:
            self._journal(self.manifest.change)

    @property
    def _may_hold_erased(self) -> bool:
        """Whether the newest change overwrites rows of segments that it replaced (3)."""
        return self.manifest is not None and self.manifest.whole_since == self.manifest.generation

    @property
    def _entries(self) -> tuple[SegmentEntry, ...]:
        return self.manifest.segments if self.manifest else ()

    def _held(self) -> Iterator[str]:
        """Yield the id of every record held; nothing is opened before the first is asked for."""
        if self.manifest is not None:
            for segment in StoredGallery.open(self._path).segments:
                yield from (segment.record_id(row) for row in range(segment.rows))
                segment.let_go()

    def _opened(self) -> tuple[StoredGallery, Manifest]:
        if self.manifest is None:
            raise ProbegateError(Reason.GALLERY_MISSING, str(self._path))
        return StoredGallery.open(self._path), self.manifest

    def _without(
        self, stored: StoredGallery, draft: _Draft, places: Iterable[tuple[int, int]]
    ) -> Iterator[SegmentContent]:
        """Note that some rows go, and yield what is left of the segments they are in."""
        rows: dict[int, list[int]] = {}
        for number, row in places:
            rows.setdefault(number, []).append(row)
        for number, erased in rows.items():
            draft.gone[stored.segments[number].name] = erased
        return (
            stored.segments[number]
            .content()
            .only(np.setdiff1d(np.arange(stored.segments[number].rows), erased))
            for number, erased in rows.items()
            if len(erased) < stored.segments[number].rows
        )

    def _write(self, draft: _Draft, content: SegmentContent) -> None:
        for start in range(0, content.rows, SEGMENT_ROWS):
            part = content.only(np.arange(start, min(start + SEGMENT_ROWS, content.rows)))
            name = f"s{self._next:07d}"
            self._next += 1
            digest = write_segment(self._path / SEGMENTS / name, part)
            draft.new.append(SegmentEntry(name=name, rows=part.rows, sha256=digest))

    def _commit(
        self,
        draft: _Draft,
        model: str,
        dims: int,
        now: datetime,
        what: Literal["import", "enrol", "erase", "compact"],
        rules: tuple[str, ...],
        **counts: int,
    ) -> None:
        kept = [entry for entry in self._entries if entry.name not in draft.gone]
        segments = (*kept, *draft.new)
        generation = self.manifest.generation + 1 if self.manifest else 1
        manifest = Manifest(
            kind=self._kind.name,
            model=model,
            dims=dims,
            rules=rules,
            count=sum(entry.rows for entry in segments),
            generation=generation,
            next_segment=self._next,
            segments=segments,
            change=Change(generation=generation, at=now, what=what, **counts),
            whole_since=self._whole_since(generation, draft),
        )
        written = manifest.to_json()
        old_rules = len(self.manifest.rules) if self.manifest else 0
        files.write_atomic(self._path / MANIFEST, written, mode=files.PRIVATE_FILE_MODE)  # (2)
        self.manifest = Manifest.model_validate_json(written)
        for name, erased in draft.gone.items():  # (4)
            folder = self._path / SEGMENTS / name
            if erased:
                overwrite_rows(folder, erased, dims=dims, rules=old_rules)
            shutil.rmtree(folder)
        files.sync_folder(self._path / SEGMENTS)
        self._journal(self.manifest.change)

    def _whole_since(self, generation: int, draft: _Draft) -> int:
        """Return since when every row is as it was, once ``draft`` is the new generation (4)."""
        if self.manifest is None or any(draft.gone.values()):
            return generation
        return self.manifest.whole_since or self.manifest.generation

    @contextmanager
    def _undone(self, draft: _Draft) -> Iterator[None]:
        """Remove the new segments of a change that fails before it is one."""
        try:
            (self._path / SEGMENTS).mkdir(mode=files.PRIVATE_FOLDER_MODE, exist_ok=True)
            yield
        except OSError as error:
            raise unwritable(self._path, error) from None
        finally:
            # What the manifest on the disk names is the gallery's, whatever failed after that.
            exists = (self._path / MANIFEST).exists()
            named = {e.name for e in read_manifest(self._path).segments} if exists else set()
            for entry in draft.new:
                if entry.name not in named:
                    shutil.rmtree(self._path / SEGMENTS / entry.name, ignore_errors=True)

    def _journal(self, change: Change) -> None:
        line = change.model_dump_json().encode() + b"\n"
        handle = os.open(
            self._path / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, files.PRIVATE_FILE_MODE
        )
        with os.fdopen(handle, "r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - MAX_LINE_BYTES))
            tail = stream.read()
            if tail.endswith(line):
                return
            if tail and not tail.endswith(b"\n"):  # the last line was cut short by a crash
                stream.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def editing(path: Path, kind: AgencyKind | None = None) -> Iterator[Editor]:
    """Hold a gallery's lock and change it (1).

    Args:
        path: the gallery's folder, which is made if ``kind`` is given.
        kind: whose gallery it is to be; otherwise there must be one.

    Raises:
        ProbegateError: ``GALLERY_MISSING``, ``GALLERY_CORRUPT``, ``GALLERY_LOCKED``,
            ``FILE_UNWRITABLE`` or ``DISK_FULL``; ``IMPORT_INVALID`` if it is of another kind.
    """
    exists = (path / MANIFEST).exists()
    if not exists and kind is None:
        raise ProbegateError(Reason.GALLERY_MISSING, str(path))
    files.make_folder(path, mode=files.PRIVATE_FOLDER_MODE)
    with _locked(path):
        manifest = read_manifest(path) if (path / MANIFEST).exists() else None
        if manifest is not None:
            if kind is not None and kind.name != manifest.kind:
                raise ProbegateError(
                    Reason.IMPORT_INVALID, f"{path} is a gallery of kind {manifest.kind}"
                )
            kind = known_kind(manifest)
        if kind is None:
            raise ProbegateError(Reason.GALLERY_MISSING, str(path))
        editor = Editor(path, kind, manifest)
        editor.sweep()
        yield editor


def swept(path: Path) -> None:
    """Remove what a crash left of a change (3), unless somebody is changing the gallery now."""
    try:
        with editing(path):
            pass
    except ProbegateError as error:
        if error.reason is not Reason.GALLERY_LOCKED:
            raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, files.PRIVATE_FILE_MODE)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProbegateError(Reason.GALLERY_LOCKED, str(path)) from None
        yield
    finally:
        os.close(handle)


def unwritable(path: Path, error: Any) -> ProbegateError:
    """Return what is said where the gallery's files cannot be written."""
    full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}
    reason = Reason.DISK_FULL if full else Reason.FILE_UNWRITABLE
    return ProbegateError(reason, f"{path}: {type(error).__name__}", file=path.name)
