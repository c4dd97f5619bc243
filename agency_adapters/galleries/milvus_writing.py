"""Writing a gallery in Milvus, which has no transactions.

1. What a write adds or ends belongs to the next generation, which nobody reads before its row of
   facts is inserted, last. What a write that was cut short left behind is taken back by the next.
2. An updated record's older version is kept for galleries that are still open, until the first
   write after ``KEEP_SUPERSEDED_S``; then galleries from before it are refused.
3. Erasure copies what is kept into a new collection, which the next row of facts names, and drops
   the old one: deleted rows stay in their files until a compaction that cannot be waited for
   (Milvus Lite's ``compact`` does nothing). An erasure cut short before that row has not happened;
   after it, the next write drops what is left. Milvus Lite removes a dropped collection's files at
   once, a server's collector in its own time, which the report says.
4. One writer at a time: nothing in Milvus keeps a second one out, its operator must.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.engines import EngineSettings
from agency_adapters.galleries.milvus_tables import (
    Facts,
    Server,
    barred_fields,
    connect,
    count,
    create_facts,
    create_records,
    drop_records,
    faults,
    query,
    read_facts,
    require_flat,
    stream,
)
from agency_adapters.galleries.rejecting import Losing, anybody
from agency_adapters.galleries.segment_content import NewRecord
from agency_adapters.galleries.writing import (
    NEVER,
    EnrolReport,
    ErasureReport,
    GalleryStats,
    barred_days,
    require_erasable,
    require_fitting,
    require_model,
    require_storable,
)
from trust.clock import Clock, utc_now
from trust.errors import ProbegateError, Reason

BATCH_ROWS: Final = 500
"""Records sent at once."""
KEEP_SUPERSEDED_S: Final = 60.0
"""How long the older version of an updated record is kept, seconds; galleries reload sooner."""
REMAINS: Final = (
    "the dropped collection's files in object storage, until dataCoord.gc.dropTolerance has passed",
    "the query nodes' caches of those files",
    "the message queue's log, until its retention has passed",
    "backups and snapshots of the object storage, and its noncurrent versions",
)
"""What an erasure in a server cannot reach (``docs/engines.md``)."""
REMAINS_LITE: Final = (
    "copies taken before, such as backups",
    "freed blocks of the file system and snapshots of it",
)
"""What an erasure in Milvus Lite cannot reach."""


class MilvusWriter:
    """Writes one gallery. Made by ``open``."""

    def __init__(
        self, server: Server, kind: AgencyKind, facts: Facts, timeout_s: float, clock: Clock
    ) -> None:
        self._server = server
        self._kind = kind
        self._dims = facts.dims
        self._timeout_s = timeout_s
        self._clock = clock

    @classmethod
    def open(
        cls,
        location: str,
        kind: AgencyKind,
        settings: EngineSettings,
        *,
        model: str = "",
        dims: int = 0,
        clock: Clock = utc_now,
    ) -> Self:
        """Open a gallery for writing; with ``model`` and ``dims``, make it if it is not there.

        Raises:
            ProbegateError: ``CONFIG_INVALID``, ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or
                ``GALLERY_UNAVAILABLE``; ``IMPORT_INVALID`` if it is of another kind or model.
        """
        server, timeout_s = connect(location, settings), settings.engine_write_timeout_s
        try:
            facts = _opened(server, kind, model, dims, timeout_s, clock)
        except ProbegateError:
            server.client.close()
            raise
        return cls(server, kind, facts, timeout_s, clock)

    def enrol(
        self, records: Iterable[NewRecord], *, replace: bool = False, losing: Losing = anybody
    ) -> EnrolReport:
        """Enrol and update records; with ``replace``, erase every other, if ``losing`` agrees."""
        with faults():
            facts = self._begin()
            generation = facts.generation + 1
            enrolled, updated = 0, 0
            seen: set[str] = set()
            pending = iter(records)
            while batch := list(islice(pending, BATCH_ROWS)):
                ids = {one.record.record_id for one in batch}
                if len(ids) != len(batch) or ids & seen:
                    self._take_back(facts)
                    raise ProbegateError(Reason.IMPORT_INVALID, "a record id comes twice")
                seen |= ids
                new, changed = self._write(facts, batch)
                enrolled, updated = enrolled + new, updated + changed
            removed = self._others(facts, seen, losing) if replace else 0
            store = self._copy(facts, seen.__contains__) if removed else facts.store
            self._commit(facts, facts.count + enrolled - removed, store)
        return EnrolReport(generation, enrolled, updated, removed)

    def erase(self, record_ids: Sequence[str], authority: str) -> ErasureReport:
        """Erase records (3)."""
        ids = require_erasable(record_ids)
        with faults():
            facts, wanted = self._begin(), frozenset(ids)
            held = {row["record_id"] for row in self._current(facts, ids, ["record_id"])}
            # Even if nothing is held: rows that were taken back or let go of are in the files yet.
            store = self._copy(facts, lambda one: one not in wanted)
            generation = self._commit(facts, facts.count - len(held), store).generation
        gone = tuple(one for one in ids if one in held)
        unknown = tuple(one for one in ids if one not in held)
        remains = REMAINS_LITE if self._server.folder else REMAINS
        return ErasureReport(generation, self._clock(), authority, gone, unknown, remains)

    @property
    def stats(self) -> GalleryStats:
        """What the engine holds now."""
        facts = read_facts(self._server, self._timeout_s)
        records, ended = self._server.records(facts.store), f"until <= {facts.generation}"
        superseded = count(self._server, records, ended, self._timeout_s)
        return GalleryStats(facts.generation, facts.count, superseded, 0)

    def close(self) -> None:
        """Let go of the client."""
        self._server.client.close()

    def _begin(self) -> Facts:
        """Return the newest facts, with nothing left of a write that was cut short (1) (3)."""
        facts = read_facts(self._server, self._timeout_s)
        for store in (facts.store - 1, facts.store + 1):
            if store >= 0:
                drop_records(self._server, store, self._timeout_s)
        self._take_back(facts)
        return facts

    def _write(self, facts: Facts, batch: list[NewRecord]) -> tuple[int, int]:
        """Write what is new or changed; return how many of each."""
        generation, records = facts.generation + 1, self._server.records(facts.store)
        rows = {one.record.record_id: self._row(one, generation) for one in batch}
        ended = []
        current = self._current(facts, rows, ["*"])
        for old in current:
            if _same(old, rows[old["record_id"]]):
                del rows[old["record_id"]]
            else:
                ended.append(self._ended(old, generation))
        for some in (list(rows.values()), ended):
            if some:
                self._server.client.upsert(records, some, timeout=self._timeout_s)
        return len(rows) - len(ended), len(ended)

    def _row(self, one: NewRecord, generation: int) -> dict[str, Any]:
        require_storable(one, self._kind, self._dims)
        ends = [
            end for days in barred_days(self._kind, one.record) for end in (days.first, days.end)
        ]
        return {
            "version_id": f"{one.record.record_id}#{generation}",
            "record_id": one.record.record_id,
            "since": generation,
            "until": NEVER,
            "superseded_s": 0,
            "fields": one.record.model_dump_json(),
            "template": one.template,
            **dict(zip(barred_fields(len(self._kind.eligibility)), ends, strict=True)),
        }

    def _ended(self, old: dict[str, Any], generation: int) -> dict[str, Any]:
        now_s = int(self._clock().timestamp())
        return dict(old) | {"until": generation, "superseded_s": now_s}

    def _others(self, facts: Facts, seen: set[str], losing: Losing) -> int:
        """Return how many records there are besides some, unless ``losing`` refuses."""
        records, current = self._server.records(facts.store), f"until == {NEVER}"
        rows = stream(self._server, records, current, ["record_id"], self._timeout_s)
        others = [row["record_id"] for row in rows if row["record_id"] not in seen]
        try:
            losing(others)
        except ProbegateError:
            self._take_back(facts)
            raise
        return len(others)

    def _current(self, facts: Facts, ids: Iterable[str], fields: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        records = self._server.records(facts.store)
        for some in _batches(sorted(ids)):
            condition = f"until == {NEVER} and record_id in {json.dumps(some)}"
            found += query(self._server, records, condition, fields, self._timeout_s)
        return found

    def _copy(self, facts: Facts, kept: Callable[[str], bool]) -> int:
        """Copy every version of the records kept into the next collection (3); return which."""
        store, old = facts.store + 1, self._server.records(facts.store)
        create_records(self._server, store, self._kind, self._dims)
        rows = stream(self._server, old, "since >= 0", ["*"], self._timeout_s)
        wanted = (dict(row) for row in rows if kept(row["record_id"]))
        while batch := list(islice(wanted, BATCH_ROWS)):
            records = self._server.records(store)
            self._server.client.insert(records, batch, timeout=self._timeout_s)
        return store

    def _take_back(self, facts: Facts) -> None:
        """Undo what a write that was cut short left behind (1)."""
        g, name = facts.generation, self._server.records(facts.store)
        self._server.client.delete(name, filter=f"since > {g}", timeout=self._timeout_s)
        condition = f"until > {g} and until < {NEVER}"
        ended = query(self._server, name, condition, ["*"], self._timeout_s)
        for some in _batches(ended):
            restored = [dict(row) | {"until": NEVER, "superseded_s": 0} for row in some]
            self._server.client.upsert(name, restored, timeout=self._timeout_s)

    def _commit(self, facts: Facts, held: int, store: int) -> Facts:
        """Insert the next generation's facts (1), then let go of old versions (2) and files (3)."""
        now = self._clock()
        before_s = int((now - timedelta(seconds=KEEP_SUPERSEDED_S)).timestamp())
        condition = f"superseded_s > 0 and superseded_s < {before_s}"
        name, timeout_s = self._server.records(store), self._timeout_s
        old = query(self._server, name, condition, ["until"], timeout_s)
        made = facts.model_copy(
            update={
                "generation": facts.generation + 1,
                "oldest": max([facts.oldest, *(row["until"] for row in old)]),
                "count": held,
                "changed_at": now,
                "store": store,
            }
        )
        self._server.client.flush(name, timeout=timeout_s)
        _insert_facts(self._server, made, timeout_s)
        self._server.client.delete(name, filter=condition, timeout=timeout_s)
        self._server.client.delete(
            self._server.facts, filter=f"generation < {facts.generation}", timeout=timeout_s
        )
        if store != facts.store:
            drop_records(self._server, facts.store, timeout_s)
        return made


def _opened(
    server: Server, kind: AgencyKind, model: str, dims: int, timeout_s: float, clock: Clock
) -> Facts:
    try:
        facts = read_facts(server, timeout_s)
    except ProbegateError as error:
        if error.reason is not Reason.GALLERY_MISSING or not model:
            raise
        require_model(model)
        facts = _new_facts(kind, model, dims, clock)
        create_records(server, facts.store, kind, dims)
        create_facts(server)
        with faults():
            _insert_facts(server, facts, timeout_s)
    require_fitting(kind, model, dims, (facts.kind, facts.model, facts.dims))
    require_flat(server, facts.store, timeout_s)
    return facts


def _new_facts(kind: AgencyKind, model: str, dims: int, clock: Clock) -> Facts:
    return Facts(
        kind=kind.name,
        model=model,
        dims=dims,
        generation=0,
        oldest=0,
        count=0,
        changed_at=clock(),
        rules=tuple(rule.name for rule in kind.eligibility),
    )


def _insert_facts(server: Server, facts: Facts, timeout_s: float) -> None:
    row = {"generation": facts.generation, "body": facts.model_dump_json(), "unused": [0.0, 0.0]}
    server.client.insert(server.facts, [row], timeout=timeout_s)
    server.client.flush(server.facts, timeout=timeout_s)


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a stored version says what a new one would."""
    own = {"version_id", "since", "until", "superseded_s", "template"}
    if any(old[name] != value for name, value in new.items() if name not in own):
        return False
    stored: npt.NDArray[np.float32] = np.asarray(old["template"], dtype=np.float32)
    return np.array_equal(stored.view(np.uint32), new["template"].view(np.uint32))


def _batches(items: Sequence[Any]) -> Iterator[Any]:
    for start in range(0, len(items), BATCH_ROWS):
        yield list(items[start : start + BATCH_ROWS])
