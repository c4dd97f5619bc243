"""Opening the gallery that the settings name, whatever engine it is in."""

from __future__ import annotations

from pathlib import Path

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.files import DEFAULT_LIMITS, FileGallery, ScanLimits
from agency_adapters.galleries.gallery import Gallery
from trust.errors import ProbegateError, Reason


async def open_gallery(
    location: str, kind: AgencyKind, limits: ScanLimits = DEFAULT_LIMITS
) -> Gallery:
    """Open the newest generation of a gallery of one kind.

    Args:
        location: a folder.
        kind: whose records it must hold.
        limits: how it is scanned.

    Raises:
        ProbegateError: ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``;
            ``CONFIG_INVALID`` if it is of another kind.
    """
    gallery = await FileGallery.open(Path(location), limits)
    if gallery.facts.kind != kind.name:
        await gallery.close()
        raise ProbegateError(Reason.CONFIG_INVALID, "the gallery is of another kind", field="kind")
    return gallery
