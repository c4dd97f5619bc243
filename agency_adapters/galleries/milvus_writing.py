"""Writing a gallery in Milvus, which has no transactions.

1. What a write adds or ends belongs to the next generation, which nobody reads before its row of
   facts is inserted, last. What a write that was cut short left behind is taken back by the next.
2. An updated record's older version is kept for galleries that are still open, until the first
   write after ``KEEP_SUPERSEDED_S``; then galleries from before it are refused.
3. Erasure deletes every version of a record, at once for everybody, then flushes and compacts.
   Milvus drops the deleted bytes when the compaction has run and its collector comes by, in its own
   time, which the report says.
4. One writer at a time: nothing in Milvus keeps a second one out, its operator must.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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
    create_collections,
    faults,
    query,
    read_facts,
    require_flat,
)
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
    "segments, until compaction has run and Milvus's garbage collector has removed the old ones",
    "the message queue's log, until its retention has passed",
    "backups and snapshots of the object storage, and its noncurrent versions",
)
"""What an erasure here cannot reach (``docs/engines.md``)."""


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

    def enrol(self, records: Iterable[NewRecord], *, replace: bool = False) -> EnrolReport:
        """Enrol and update records; with ``replace``, erase every other record."""
        with faults():
            facts = read_facts(self._server, self._timeout_s)
            self._take_back(facts)
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
                new, changed = self._write(batch, generation)
                enrolled, updated = enrolled + new, updated + changed
            removed = self._end_all_but(seen, generation) if replace else []
            self._commit(facts, facts.count + enrolled - len(removed))
            self._delete(removed)
            if removed:
                self._compact()
        return EnrolReport(generation, enrolled, updated, len(removed))

    def erase(self, record_ids: Sequence[str], authority: str) -> ErasureReport:
        """Erase records (3)."""
        ids = require_erasable(record_ids)
        with faults():
            facts = read_facts(self._server, self._timeout_s)
            self._take_back(facts)
            held = {row["record_id"] for row in self._current(ids, ["record_id"])}
            self._delete(ids)
            generation = facts.generation
            if held:
                generation = self._commit(facts, facts.count - len(held)).generation
            self._compact()  # even if nothing was there: it finishes an erasure cut short
        gone = tuple(one for one in ids if one in held)
        unknown = tuple(one for one in ids if one not in held)
        return ErasureReport(generation, self._clock(), authority, gone, unknown, REMAINS)

    @property
    def stats(self) -> GalleryStats:
        """What the engine holds now."""
        facts = read_facts(self._server, self._timeout_s)
        superseded = count(self._server, f"until <= {facts.generation}", self._timeout_s)
        return GalleryStats(facts.generation, facts.count, superseded, 0)

    def close(self) -> None:
        """Let go of the client."""
        self._server.client.close()

    def _write(self, batch: list[NewRecord], generation: int) -> tuple[int, int]:
        """Write what is new or changed; return how many of each."""
        rows = {one.record.record_id: self._row(one, generation) for one in batch}
        ended = []
        current = self._current(rows, ["*"])
        for old in current:
            if _same(old, rows[old["record_id"]]):
                del rows[old["record_id"]]
            else:
                ended.append(self._ended(old, generation))
        for some in (list(rows.values()), ended):
            if some:
                self._server.client.upsert(self._server.records, some, timeout=self._timeout_s)
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

    def _end_all_but(self, kept: set[str], generation: int) -> list[str]:
        """End every record that is not in ``kept``; return their ids."""
        all_ids = query(
            self._server, self._server.records, f"until == {NEVER}", ["record_id"], self._timeout_s
        )
        gone = sorted({row["record_id"] for row in all_ids} - kept)
        for some in _batches(gone):
            ended = [self._ended(old, generation) for old in self._current(some, ["*"])]
            self._server.client.upsert(self._server.records, ended, timeout=self._timeout_s)
        return gone

    def _current(self, ids: Iterable[str], fields: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for some in _batches(sorted(ids)):
            condition = f"until == {NEVER} and record_id in {json.dumps(some)}"
            found += query(self._server, self._server.records, condition, fields, self._timeout_s)
        return found

    def _delete(self, ids: Sequence[str]) -> None:
        """Delete every version of some records."""
        for some in _batches(ids):
            condition = f"record_id in {json.dumps(some)}"
            self._server.client.delete(
                self._server.records, filter=condition, timeout=self._timeout_s
            )

    def _compact(self) -> None:
        self._server.client.flush(self._server.records, timeout=self._timeout_s)
        self._server.client.compact(self._server.records, timeout=self._timeout_s)

    def _take_back(self, facts: Facts) -> None:
        """Undo what a write that was cut short left behind (1)."""
        g, name = facts.generation, self._server.records
        self._server.client.delete(name, filter=f"since > {g}", timeout=self._timeout_s)
        condition = f"until > {g} and until < {NEVER}"
        ended = query(self._server, name, condition, ["*"], self._timeout_s)
        for some in _batches(ended):
            restored = [dict(row) | {"until": NEVER, "superseded_s": 0} for row in some]
            self._server.client.upsert(name, restored, timeout=self._timeout_s)

    def _commit(self, facts: Facts, held: int) -> Facts:
        """Insert the next generation's facts (1), having let go of old versions (2)."""
        now = self._clock()
        before_s = int((now - timedelta(seconds=KEEP_SUPERSEDED_S)).timestamp())
        condition = f"superseded_s > 0 and superseded_s < {before_s}"
        name, timeout_s = self._server.records, self._timeout_s
        old = query(self._server, name, condition, ["until"], timeout_s)
        made = facts.model_copy(
            update={
                "generation": facts.generation + 1,
                "oldest": max([facts.oldest, *(row["until"] for row in old)]),
                "count": held,
                "changed_at": now,
            }
        )
        self._server.client.flush(name, timeout=timeout_s)
        _insert_facts(self._server, made, timeout_s)
        self._server.client.delete(name, filter=condition, timeout=timeout_s)
        self._server.client.delete(
            self._server.facts, filter=f"generation < {facts.generation}", timeout=timeout_s
        )
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
        create_collections(server, kind, dims)
        with faults():
            _insert_facts(server, facts, timeout_s)
    require_fitting(kind, model, dims, (facts.kind, facts.model, facts.dims))
    require_flat(server, timeout_s)
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
