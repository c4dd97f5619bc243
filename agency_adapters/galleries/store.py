"""A gallery on disk: what it must look like before it is searched.

::

    <gallery>/manifest.json             names one generation and the digests of its files
    <gallery>/g000001/templates.npy     float32 (n, dims), unit length, memory-mapped
    <gallery>/g000001/records.sqlite    one row per template, in the order of record ids

1. The manifest carries a digest of itself; a gallery is what its manifest says or it is corrupt.
2. A new generation is written beside the old one and takes effect by one rename of the manifest.
   A reader keeps the generation it opened, even after its files are unlinked.
3. Opening always checks every file's size, the templates' header and the records' digest and count.
   The templates' digest is checked as well in full (``Check.FULL``), or at serve start
   (``Check.START``) where they are small enough to read at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.templates import Templates
from agency_adapters.registry import kind_named
from trust import strict_json
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_DIMS

MANIFEST: Final = "manifest.json"
TEMPLATES: Final = "templates.npy"
RECORDS: Final = "records.sqlite"
START_DIGEST_BYTES: Final = 256 * 2**20
"""Largest templates file whose digest is checked at every start, bytes."""
_CLASSES: Final = (
    (1_000, "<1k"),
    (10_000, "1k-10k"),
    (100_000, "10k-100k"),
    (1_000_000, "100k-1m"),
    (10_000_000, "1m-10m"),
)
_SHA256_HEX: Final = r"^[0-9a-f]{64}$"


class Check(Enum):
    """How much of a gallery is read before it is trusted."""

    FULL = "full"
    START = "start"


class FileEntry(BaseModel):
    """One file of a generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=_SHA256_HEX)]


class Manifest(BaseModel):
    """What a gallery says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["probegate-gallery/1"] = "probegate-gallery/1"
    kind: str
    model: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    dims: Annotated[int, Field(ge=1, le=MAX_DIMS)]
    count: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=1)]
    created_at: AwareDatetime
    templates: FileEntry
    records: FileEntry
    sha256: str = ""
    """SHA-256 of the RFC 8785 form of everything else."""

    @property
    def folder(self) -> str:
        """The folder of this generation, relative to the gallery's."""
        return f"g{self.generation:06d}"

    def digest(self) -> str:
        """Return what ``sha256`` must be."""
        fields = self.model_dump(mode="json", exclude={"sha256"})
        return hashlib.sha256(strict_json.canonical(fields)).hexdigest()

    def to_json(self) -> bytes:
        """Return the manifest as it is written, with its digest."""
        sealed = self.model_copy(update={"sha256": self.digest()})
        return sealed.model_dump_json(indent=2).encode() + b"\n"


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


class Gallery:
    """One generation of a gallery, open for searching. Made by ``open``.

    Attributes:
        manifest: what it says about itself.
        kind: whose it is.
        templates: float32, shape ``(count, dims)``, memory-mapped and read-only.
    """

    def __init__(
        self, manifest: Manifest, kind: AgencyKind, templates: Templates, records: Path
    ) -> None:
        self.manifest = manifest
        self.kind = kind
        self.templates = templates
        self._connection = sqlite3.connect(
            f"{records.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        self._lock = threading.Lock()
        self._eligible: tuple[tuple[date, frozenset[str]], Eligibility] | None = None

    @classmethod
    def open(cls, path: Path, *, check: Check = Check.START) -> Self:
        """Open a gallery's newest generation and check it (3).

        Raises:
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
        """
        manifest = read_manifest(path)
        kind = _known_kind(manifest)
        folder = path / manifest.folder
        templates_path, records_path = folder / TEMPLATES, folder / RECORDS
        for file, entry in ((templates_path, manifest.templates), (records_path, manifest.records)):
            if not file.is_file() or file.stat().st_size != entry.bytes:
                raise _corrupt(f"{file.name} is missing or of another size")
        if file_sha256(records_path) != manifest.records.sha256:
            raise _corrupt(f"{RECORDS} does not have its digest")
        small = manifest.templates.bytes < START_DIGEST_BYTES
        if (check is Check.FULL or small) and (
            file_sha256(templates_path) != manifest.templates.sha256
        ):
            raise _corrupt(f"{TEMPLATES} does not have its digest")
        try:
            templates = np.load(templates_path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            raise _corrupt(f"{TEMPLATES} is not an array") from None
        if templates.dtype != np.dtype("<f4") or templates.shape != (manifest.count, manifest.dims):
            raise _corrupt(f"{TEMPLATES} is not of the stated shape")
        gallery = cls(manifest, kind, templates, records_path)
        gallery._require_all_records()
        return gallery

    def close(self) -> None:
        """Let go of the records; the templates go with the last reference."""
        self._connection.close()

    def eligibility(self, today: date, switches: Collection[str] = ()) -> Eligibility:
        """Return which rows may be searched on ``today``; computed once a day.

        Args:
            today: the day the rules are applied on.
            switches: the operator's switches that are on.

        Raises:
            ProbegateError: ``GALLERY_CORRUPT`` if a record cannot be read.
        """
        key = (today, frozenset(switches))
        cached = self._eligible
        if cached is not None and cached[0] == key:
            return cached[1]
        mask = np.ones(self.manifest.count, dtype=np.bool_)
        met = dict.fromkeys((rule.name for rule in self.kind.eligibility), 0)
        for row, fields in self._rows("SELECT row, fields FROM records ORDER BY row"):
            try:
                record = self.kind.record.model_validate_json(fields)
            except ValidationError:
                raise _corrupt(f"record in row {row} does not parse") from None
            for rule in self.kind.eligibility:
                if rule.barred(record).hold(today):
                    met[rule.name] += 1
                    if not rule.switch or rule.switch in key[1]:
                        mask[row] = False
        mask.flags.writeable = False
        made = Eligibility(mask, int(mask.sum()), MappingProxyType(met))
        self._eligible = (key, made)
        return made

    def record_ids(self, rows: Sequence[int]) -> tuple[str, ...]:
        """Return the record ids of some rows, in the order given."""
        query = "SELECT record_id FROM records WHERE row = ?"
        return tuple(self._rows(query, (row,))[0][0] for row in rows)

    def record(self, record_id: str) -> Mapping[str, Any] | None:
        """Return one record's fields, or None."""
        found = self._rows("SELECT fields FROM records WHERE record_id = ?", (record_id,))
        return json.loads(found[0][0]) if found else None

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise _corrupt(f"{RECORDS}: {type(error).__name__}") from None

    def _require_all_records(self) -> None:
        query = "SELECT count(*), coalesce(min(row), 0), coalesce(max(row), -1) FROM records"
        count = self.manifest.count
        if tuple(self._rows(query)[0]) != (count, 0, count - 1):
            self.close()
            raise _corrupt(f"{RECORDS} does not have one row per template")


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
        raise _corrupt(f"{MANIFEST} does not parse") from None
    if manifest.sha256 != manifest.digest():
        raise _corrupt(f"{MANIFEST} does not have its digest")
    return manifest


def size_class(count: int) -> str:
    """Return the coarse class of a number of records, the only size ever told to others."""
    return next((name for bound, name in _CLASSES if count < bound), ">10m")


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _known_kind(manifest: Manifest) -> AgencyKind:
    try:
        return kind_named(manifest.kind)
    except ProbegateError:
        raise _corrupt("an agency kind that is not known") from None


def _corrupt(why: str) -> ProbegateError:
    return ProbegateError(Reason.GALLERY_CORRUPT, why)
