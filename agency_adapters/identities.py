"""Whom a reference stands for, as the agency's own record said when it was listed.

An id can come to name somebody else: after an erasure, or where a gallery is imported anew. What is
shown or told of a candidate later must be of the person whose face was compared.

1. With each candidate goes a keyed digest of what its record says and no change of the rest
   touches: the day of capture, and the date of birth where the kind of agency cannot do without
   it. It says nothing without the adapter's own key. A record in which one of these was corrected
   counts as another: whoever needs it searches again.
2. Before an image or details of a candidate go out, the record under its id is looked at again. One
   with another digest, one that is not there and one whose erasure began are gone, alike. An answer
   that was held is released with all its candidates (``deciding``): it names nobody.
3. What was listed before this was kept has no digest, and its id is taken at its word. So it is
   where no records are kept (``GalleryFacts.keeps_records``).
4. The digest goes when the record's erasure begins, and with the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hmac import compare_digest

from agency_adapters.agency import Record
from agency_adapters.galleries.gallery import Gallery
from agency_adapters.models import FoundRecord
from agency_adapters.references import References


@dataclass(frozen=True, slots=True)
class Identities:
    """Recognises records under one adapter's key."""

    references: References

    def of_detail(self, record_id: str, code: str, value: str) -> bytes:
        """Return what a detail of a record is recognised by, 32 bytes."""
        return self.references.digest("detail", record_id, code, value)

    def of_record(self, record: Record) -> bytes:
        """Return what a record is recognised by, 32 bytes (1)."""
        return self.references.digest("record", record.record_id, *record.constants)

    async def listed(
        self, found: Sequence[FoundRecord], gallery: Gallery
    ) -> tuple[FoundRecord, ...]:
        """Return what was found, each with what its record is recognised by (1).

        Raises:
            GenerationGoneError: if this generation is no longer kept whole.
            ProbegateError: ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
        """
        known = []
        for one in found:
            record = await gallery.record(one.record_id)
            identity = None if record is None else self.of_record(record)
            known.append(replace(one, identity=identity))
        return tuple(known)

    async def record(self, gallery: Gallery, listed: FoundRecord) -> Record | None:
        """Return the record that was listed, or None if it is gone (2).

        Raises:
            ProbegateError: ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
        """
        record = None if listed.erased else await gallery.record(listed.record_id)
        if record is None or listed.identity is None:
            return record
        return record if compare_digest(listed.identity, self.of_record(record)) else None
