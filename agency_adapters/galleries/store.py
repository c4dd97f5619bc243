"""A gallery on disk: what it must look like before it is searched.

::

    <gallery>/manifest.json        names one generation: its segments and their digests
    <gallery>/segments/s0000001/   one segment (``segments``)
    <gallery>/journal.jsonl        one line for each change that was made (``editing``)
    <gallery>/lock                 held by whoever changes the gallery

1. A gallery is what its manifest says or it is corrupt (``manifest``).
2. A new generation is written beside the old one and takes effect by one rename of the manifest.
   A reader keeps the generation it opened, even after its files are unlinked. While it opens one,
   another may take its place: then it begins again with that one.
3. Opening always checks the length of every file, and maps them: it costs seconds at any size. The
   digests are checked as well in full (``Check.FULL``), or at a start (``Check.START``) where the
   gallery is small enough to be read at once.
4. Which records are barred on a day is worked out from the days in the segments, which the rules
   gave when the record was enrolled. A gallery written under other rules is read record by record.
5. Rows of an old generation that were erased or updated are overwritten. Whoever reads one asks
   afterwards whether all of it was as it should be (``while_whole``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.gallery import GenerationGoneError
from agency_adapters.galleries.manifest import ManifestFile, SegmentEntry, corrupt, known_kind
from agency_adapters.galleries.segment_content import days_of
from agency_adapters.galleries.segments import Rows, Segment, segment_digest
from trust.errors import ProbegateError, Reason

SEGMENTS: Final = "segments"
START_DIGEST_BYTES: Final = 256 * 2**20
"""Largest gallery whose digests are checked at every start, bytes of full-precision templates."""
OPEN_PATIENCE_S: Final = 30.0
"""How long a reader begins again because the gallery changed while it opened it, seconds."""
_FLOAT32_BYTES: Final = 4
_CLASSES: Final = (
    (1_000, "<1k"),
    (10_000, "1k-10k"),
    (100_000, "10k-100k"),
    (1_000_000, "100k-1m"),
    (10_000_000, "1m-10m"),
)

T = TypeVar("T")


class Check(Enum):
    """How much of a gallery is read before it is trusted."""

    FULL = "full"
    START = "start"


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which rows may be searched on one day.

    Attributes:
        mask: bool, shape ``(n,)``.
        count: how many may be.
        met: eligibility rule to how many records it bars, or would bar if its switch were on.
    """

    mask: npt.NDArray[np.bool_]
    count: int
    met: Mapping[str, int]


class StoredGallery:
    """One generation of a gallery, open for reading. Made by ``open``.

    Attributes:
        manifest: what it says about itself.
        kind: whose it is.
        segments: its segments, in the order that rows are numbered.
        rows: finds rows in them.
    """

    def __init__(self, file: ManifestFile, kind: AgencyKind, segments: Sequence[Segment]) -> None:
        self._file = file
        self.manifest = file.manifest
        self.kind = kind
        self.segments = tuple(segments)
        self.rows = Rows(self.segments)
        self._eligible: tuple[tuple[date, frozenset[str]], Eligibility] | None = None
        self._current_days: dict[str, npt.NDArray[np.int32]] = {}

    @classmethod
    def open(
        cls, path: Path, *, check: Check = Check.START, known: StoredGallery | None = None
    ) -> Self:
        """Open a gallery's newest generation and check it (3).

        Args:
            path: the gallery's folder.
            check: how much is read.
            known: an older generation, whose segments are taken over where they are the same.

        Raises:
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``; ``GALLERY_LOCKED`` if it
                changes again and again for as long as ``OPEN_PATIENCE_S``.
        """
        here: dict[SegmentEntry, Segment] = {}
        if known is not None and check is not Check.FULL:
            # By its digest: names begin again where a gallery was removed and made anew.
            here = dict(zip(known.manifest.segments, known.segments, strict=True))
        until = time.monotonic() + OPEN_PATIENCE_S
        while True:
            file = ManifestFile.read(path)
            try:
                return cls._opened(path, file, check, here)
            except OSError as error:
                failure = corrupt(f"{Path(str(error.filename)).name}: {error.strerror}")
            except ProbegateError as error:
                failure = error
            if file.is_in_place():
                raise failure
            if time.monotonic() > until:
                raise ProbegateError(Reason.GALLERY_LOCKED, str(path))

    @classmethod
    def _opened(
        cls, path: Path, file: ManifestFile, check: Check, here: dict[SegmentEntry, Segment]
    ) -> Self:
        """Open what is not here yet of a generation's segments, and have it here."""
        manifest = file.manifest
        kind = known_kind(manifest)
        small = manifest.count * manifest.dims * _FLOAT32_BYTES < START_DIGEST_BYTES
        for entry in manifest.segments:
            if entry in here:
                continue
            folder = path / SEGMENTS / entry.name
            segment = Segment.open(folder, entry.rows, manifest.dims, len(manifest.rules))
            if (check is Check.FULL or small) and segment_digest(folder) != entry.sha256:
                raise corrupt(f"segment {entry.name} does not have its digest")
            here[entry] = segment
        if sum(entry.rows for entry in manifest.segments) != manifest.count:
            raise corrupt("the segments do not add up to the count")
        return cls(file, kind, [here[entry] for entry in manifest.segments])

    def while_whole(self, read: Callable[[], T]) -> T:
        """Return what ``read`` finds in this generation, whose every row was as it should be (5).

        Raises:
            GenerationGoneError: if rows were overwritten before it had read them all.
            ProbegateError: what it raises; ``GALLERY_CORRUPT``, of the newest manifest.
        """
        try:
            found = read()
        except ProbegateError:
            if self._file.still_has_its_rows():
                raise
            raise GenerationGoneError from None
        if not self._file.still_has_its_rows():
            raise GenerationGoneError
        return found

    def eligibility(self, day: date, switches: frozenset[str] = frozenset()) -> Eligibility:
        """Return which rows may be searched on ``day`` (4); computed once a day.

        Args:
            day: the day the rules are applied on.
            switches: the operator's switches that are on.

        Raises:
            ProbegateError: ``GALLERY_CORRUPT`` if a record has to be read and cannot be.
        """
        key = (day, switches)
        cached = self._eligible
        if cached is not None and cached[0] == key:
            return cached[1]
        rules = self.kind.eligibility
        on = [not rule.switch or rule.switch in switches for rule in rules]
        mask = np.ones(self.manifest.count, dtype=np.bool_)
        met = np.zeros(len(rules), dtype=np.int64)
        for segment, start in zip(self.segments, self.rows.starts, strict=False):
            days = self._days(segment)
            barred = (days[:, :, 0] <= day.toordinal()) & (day.toordinal() < days[:, :, 1])
            met += barred.sum(axis=0)
            mask[start : start + segment.rows] = ~barred[:, on].any(axis=1)
            segment.let_go()
        mask.flags.writeable = False
        counts = {rule.name: int(n) for rule, n in zip(rules, met, strict=True)}
        made = Eligibility(mask, int(mask.sum()), MappingProxyType(counts))
        self._eligible = (key, made)
        return made

    def _days(self, segment: Segment) -> npt.NDArray[np.int32]:
        if self.manifest.rules == rule_names(self.kind):
            return segment.days
        if segment.name not in self._current_days:
            records = [self._record(segment.fields(row)) for row in range(segment.rows)]
            days = [days_of(self.kind, record) for record in records]
            self._current_days[segment.name] = np.stack(days)
        return self._current_days[segment.name]

    def find(self, record_ids: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        """Return the number of the segment and the row within it of each record that is held."""
        found = {}
        for number, segment in enumerate(self.segments):
            for record_id in record_ids:
                row = segment.find(record_id)
                if row is not None:
                    found[record_id] = (number, row)
        return found

    def record(self, record_id: str) -> Record | None:
        """Return one record, or None.

        Raises:
            ProbegateError: ``GALLERY_CORRUPT`` if it cannot be read.
        """
        place = self.find([record_id]).get(record_id)
        return None if place is None else self._record(self.segments[place[0]].fields(place[1]))

    def _record(self, fields: str) -> Record:
        try:
            return self.kind.record.model_validate_json(fields)
        except ValidationError:
            raise corrupt("a record does not parse") from None


def size_class(count: int) -> str:
    """Return the coarse class of a number of records, the only size ever told to others."""
    return next((name for bound, name in _CLASSES if count < bound), ">10m")


def rule_names(kind: AgencyKind) -> tuple[str, ...]:
    """Return the names of a kind's eligibility rules, in order."""
    return tuple(rule.name for rule in kind.eligibility)
