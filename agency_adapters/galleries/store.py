"""A gallery on disk: what it must look like before it is searched.

::

    <gallery>/manifest.json        names one generation: its segments and their digests
    <gallery>/segments/s0000001/   one segment (``segments``)
    <gallery>/journal.jsonl        one line for each change that was made (``editing``)
    <gallery>/lock                 held by whoever changes the gallery

1. The manifest carries a digest of itself; a gallery is what its manifest says or it is corrupt.
2. A new generation is written beside the old one and takes effect by one rename of the manifest.
   A reader keeps the generation it opened, even after its files are unlinked.
3. Opening always checks the length of every file, and maps them: it costs seconds at any size. The
   digests are checked as well in full (``Check.FULL``), or at a start (``Check.START``) where the
   gallery is small enough to be read at once.
4. Which records are barred on a day is worked out from the days in the segments, which the rules
   gave when the record was enrolled. A gallery written under other rules is read record by record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agency_adapters.agency import AgencyKind, Record
from agency_adapters.galleries.segment_content import days_of
from agency_adapters.galleries.segments import Rows, Segment, segment_digest
from agency_adapters.registry import kind_named
from trust import strict_json
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_DIMS

MANIFEST: Final = "manifest.json"
SEGMENTS: Final = "segments"
START_DIGEST_BYTES: Final = 256 * 2**20
"""Largest gallery whose digests are checked at every start, bytes of full-precision templates."""
OPEN_ATTEMPTS: Final = 5
"""How often a reader starts again because the gallery changed while it opened it."""
_FLOAT32_BYTES: Final = 4
_CLASSES: Final = (
    (1_000, "<1k"),
    (10_000, "1k-10k"),
    (100_000, "10k-100k"),
    (1_000_000, "100k-1m"),
    (10_000_000, "1m-10m"),
)
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Check(Enum):
    """How much of a gallery is read before it is trusted."""

    FULL = "full"
    START = "start"


class SegmentEntry(BaseModel):
    """One segment of a generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^s[0-9]{7,12}$")]
    rows: Annotated[int, Field(ge=1)]
    sha256: Sha256Hex


class Change(BaseModel):
    """What made a generation out of the one before; it names nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: Annotated[int, Field(ge=1)]
    at: AwareDatetime
    what: Literal["import", "enrol", "erase", "compact"]
    enrolled: Annotated[int, Field(ge=0)] = 0
    updated: Annotated[int, Field(ge=0)] = 0
    erased: Annotated[int, Field(ge=0)] = 0


class Manifest(BaseModel):
    """What a gallery says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["probegate-gallery/2"] = "probegate-gallery/2"
    kind: str
    model: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    dims: Annotated[int, Field(ge=1, le=MAX_DIMS)]
    rules: tuple[str, ...]
    """The eligibility rules, in the order that the segments' days have them."""
    count: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=1)]
    next_segment: Annotated[int, Field(ge=1)]
    """The number of the next segment; none is used twice."""
    segments: tuple[SegmentEntry, ...]
    change: Change
    sha256: str = ""
    """SHA-256 of the RFC 8785 form of everything else."""

    def digest(self) -> str:
        """Return what ``sha256`` must be."""
        fields = self.model_dump(mode="json", exclude={"sha256"})
        return hashlib.sha256(strict_json.canonical(fields)).hexdigest()

    def to_json(self) -> bytes:
        """Return the manifest as it is written, with its digest."""
        sealed = self.model_copy(update={"sha256": self.digest()})
        return sealed.model_dump_json(indent=1).encode() + b"\n"


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

    def __init__(self, manifest: Manifest, kind: AgencyKind, segments: Sequence[Segment]) -> None:
        self.manifest = manifest
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
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
        """
        for _ in range(OPEN_ATTEMPTS):
            manifest = read_manifest(path)
            try:
                return cls._opened(path, manifest, check, known)
            except OSError as error:
                # The segment may have gone because a newer manifest took its place meanwhile.
                failure = corrupt(f"{Path(str(error.filename)).name}: {error.strerror}")
                if read_manifest(path).sha256 == manifest.sha256:
                    break
        raise failure

    @classmethod
    def _opened(
        cls, path: Path, manifest: Manifest, check: Check, known: StoredGallery | None
    ) -> Self:
        kind = known_kind(manifest)
        here = {segment.name: segment for segment in known.segments} if known else {}
        small = manifest.count * manifest.dims * _FLOAT32_BYTES < START_DIGEST_BYTES
        segments = []
        for entry in manifest.segments:
            folder = path / SEGMENTS / entry.name
            if entry.name in here and check is not Check.FULL:
                segments.append(here[entry.name])
                continue
            segment = Segment.open(folder, entry.rows, manifest.dims, len(manifest.rules))
            if (check is Check.FULL or small) and segment_digest(folder) != entry.sha256:
                raise corrupt(f"segment {entry.name} does not have its digest")
            segments.append(segment)
        if sum(entry.rows for entry in manifest.segments) != manifest.count:
            raise corrupt("the segments do not add up to the count")
        return cls(manifest, kind, segments)

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


def read_manifest(path: Path) -> Manifest:
    """Read and check a gallery's manifest (1).

    Raises:
        ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
    """
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise ProbegateError(Reason.GALLERY_MISSING, f"{path}: {error.strerror}") from None
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        raise corrupt(f"{MANIFEST} does not parse") from None
    if manifest.sha256 != manifest.digest():
        raise corrupt(f"{MANIFEST} does not have its digest")
    return manifest


def size_class(count: int) -> str:
    """Return the coarse class of a number of records, the only size ever told to others."""
    return next((name for bound, name in _CLASSES if count < bound), ">10m")


def rule_names(kind: AgencyKind) -> tuple[str, ...]:
    """Return the names of a kind's eligibility rules, in order."""
    return tuple(rule.name for rule in kind.eligibility)


def corrupt(why: str) -> ProbegateError:
    """Return what is said of a gallery that is not what its manifest says."""
    return ProbegateError(Reason.GALLERY_CORRUPT, why)


def known_kind(manifest: Manifest) -> AgencyKind:
    """Return whose gallery it is.

    Raises:
        ProbegateError: ``GALLERY_CORRUPT`` if there is no such kind of agency.
    """
    try:
        return kind_named(manifest.kind)
    except ProbegateError:
        raise corrupt("an agency kind that is not known") from None
