"""Opening the gallery that the settings name, whatever engine it is in.

The location's scheme picks the engine: a folder's path, ``postgresql://user@host/database``,
``milvus://host:port/database``, ``milvus+file:///path/name.db`` (Milvus Lite), or
``osia+https://host/galleryId``. Engines are imported where they are named.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.engines import EngineSettings, config_invalid
from agency_adapters.galleries.files import DEFAULT_LIMITS, FileGallery, ScanLimits
from agency_adapters.galleries.gallery import Gallery
from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.galleries.matching import MATCHER
from agency_adapters.galleries.writing import GalleryWriter
from trust.errors import ProbegateError, Reason

POSTGRES: Final = "postgresql"
MILVUS: Final = frozenset({"milvus", "milvus+file"})
OSIA: Final = frozenset({"osia+https", "osia+http"})


def scheme_of(location: str) -> str:
    """Return a location's scheme, or empty for a folder."""
    scheme, mark, _ = location.partition("://")
    return scheme if mark else ""


async def open_gallery(
    location: str,
    kind: AgencyKind,
    limits: ScanLimits = DEFAULT_LIMITS,
    engines: EngineSettings | None = None,
) -> Gallery:
    """Open the newest generation of a gallery of one kind.

    Args:
        location: a folder, or an engine's address.
        kind: whose records it must hold.
        limits: how a gallery in files is scanned.
        engines: how engines are spoken to; from the environment if it is not given.

    Raises:
        ProbegateError: ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``;
            ``CONFIG_INVALID`` if it is of another kind or the location makes no sense.
    """
    gallery = await _opened(location, kind, limits, engines or EngineSettings())
    if gallery.facts.kind != kind.name:
        await gallery.close()
        raise ProbegateError(Reason.CONFIG_INVALID, "the gallery is of another kind", field="kind")
    return gallery


async def _opened(
    location: str, kind: AgencyKind, limits: ScanLimits, engines: EngineSettings
) -> Gallery:
    scheme = scheme_of(location)
    if not scheme:
        return await FileGallery.open(Path(location), limits)
    if scheme == POSTGRES:
        from agency_adapters.galleries.pgvector import PgvectorGallery

        return await PgvectorGallery.open(location, engines)
    if scheme in MILVUS:
        from agency_adapters.galleries.milvus import MilvusGallery

        return await MilvusGallery.open(location, engines)
    if scheme in OSIA:
        from agency_adapters.galleries.osia import OsiaGallery

        return await OsiaGallery.open(location, kind, engines)
    raise config_invalid("no engine of this scheme")


def names_without_opening(location: str) -> tuple[str, str] | None:
    """Return a gallery's matcher and template model, or None where only its engine could say.

    Nothing is opened and no engine is asked.
    """
    scheme = scheme_of(location)
    with suppress(ProbegateError, ImportError):
        if not scheme:
            return MATCHER, read_manifest(Path(location)).model
        if scheme in OSIA:
            from agency_adapters.galleries.osia import OsiaSettings

            settings = OsiaSettings.stated()
            return settings.matcher, settings.model
    return None


def open_writer(
    location: str,
    kind: AgencyKind,
    engines: EngineSettings | None = None,
    *,
    model: str = "",
    dims: int = 0,
) -> GalleryWriter:
    """Open a gallery in an engine for writing; with ``model`` and ``dims``, make it if need be.

    Raises:
        ProbegateError: ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``;
            ``IMPORT_INVALID`` if it is of another kind or model; ``CONFIG_INVALID`` if the
            location makes no sense or is one that is not written to from here.
    """
    scheme, settings = scheme_of(location), engines or EngineSettings()
    if scheme == POSTGRES:
        from agency_adapters.galleries.pgvector_writing import PgvectorWriter

        return PgvectorWriter.open(location, kind, settings, model=model, dims=dims)
    if scheme in MILVUS:
        from agency_adapters.galleries.milvus_writing import MilvusWriter

        return MilvusWriter.open(location, kind, settings, model=model, dims=dims)
    raise config_invalid("no engine that is written to with this scheme")
