"""What a gallery in files says about itself: its manifest, one for each generation.

1. A manifest carries a digest of itself; a gallery is what its manifest says or it is corrupt.
2. Rows of an old generation are overwritten once a newer manifest is in place, and not before. That
   one says which generations still have every row as it was. So what was read of a generation
   counts if, after reading, its manifest is still in its place, or the one there says so. It is
   known by its file, which a reader keeps open: no other is given its number meanwhile.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agency_adapters.agency import AgencyKind
from agency_adapters.registry import kind_named
from trust import strict_json
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_DIMS

MANIFEST: Final = "manifest.json"
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


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

    format: Literal["probegate-gallery/2", "probegate-gallery/3"] = "probegate-gallery/3"
    """Version 2 had no ``whole_since``."""
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
    whole_since: Annotated[int, Field(ge=1)] | None = None
    """The oldest generation that still has every row as it was (2)."""
    sha256: str = ""
    """SHA-256 of the RFC 8785 form of everything else."""

    def digest(self) -> str:
        """Return what ``sha256`` must be."""
        fields = self.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)
        return hashlib.sha256(strict_json.canonical(fields)).hexdigest()

    def to_json(self) -> bytes:
        """Return the manifest as it is written, with its digest."""
        sealed = self.model_copy(update={"sha256": self.digest()})
        return sealed.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest, and the file that it was read from (2). Made by ``read``.

    Attributes:
        path: where it was.
        manifest: what it says.
    """

    path: Path
    manifest: Manifest
    _status: os.stat_result = field(repr=False)
    _open: mmap.mmap = field(repr=False)

    @classmethod
    def read(cls, gallery: Path) -> Self:
        """Read and check a gallery's manifest (1).

        Raises:
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
        """
        path = gallery / MANIFEST
        try:
            with path.open("rb") as stream:
                manifest, number = _parsed(stream.read()), stream.fileno()
                still_open = mmap.mmap(number, 0, prot=mmap.PROT_READ)
                return cls(path, manifest, os.fstat(number), still_open)
        except OSError as error:
            raise ProbegateError(Reason.GALLERY_MISSING, f"{gallery}: {error.strerror}") from None

    def is_in_place(self) -> bool:
        """Whether the gallery's manifest is still this one."""
        try:
            return os.path.samestat(self.path.stat(), self._status)
        except OSError:
            return False

    def still_has_its_rows(self) -> bool:
        """Whether what was read of its generation until now was as it was at first (2).

        Raises:
            ProbegateError: ``GALLERY_CORRUPT``, of the manifest in its place.
        """
        if self.is_in_place():
            return True
        try:
            since = ManifestFile.read(self.path.parent).manifest.whole_since
        except ProbegateError as error:
            # Without another in its place nothing of it was overwritten.
            if error.reason is Reason.GALLERY_MISSING:
                return True
            raise
        return since is not None and since <= self.manifest.generation


def read_manifest(gallery: Path) -> Manifest:
    """Read and check a gallery's manifest (1).

    Raises:
        ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
    """
    return ManifestFile.read(gallery).manifest


def _parsed(content: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        raise corrupt(f"{MANIFEST} does not parse") from None
    if manifest.sha256 != manifest.digest():
        raise corrupt(f"{MANIFEST} does not have its digest")
    return manifest


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
