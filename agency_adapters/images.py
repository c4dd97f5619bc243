"""The agency's own images: a folder with one file for each record, which stays the agency's.

1. A record's file is named after its id, percent-encoded, with ``.png`` or ``.jpg`` behind it, so
   that no id can name a file elsewhere.
2. What a file is follows from its first bytes, not from its name. Anything but a PNG or a JPEG of
   at most ``MAX_IMAGE_BYTES`` is as no image, and the operator's log says so.
3. A record without a file has no image; that is no error.
4. An erased record's image is overwritten with zeros, flushed, and unlinked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from trust import files, telemetry
from trust.errors import ProbegateError, Reason
from trust.media import HEAD_BYTES, media_type_of
from trust.second_step import MAX_IMAGE_BYTES, MediaType

SUFFIXES: Final = (".png", ".jpg")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image as it is kept; never printed."""

    media_type: MediaType
    content: bytes

    def __repr__(self) -> str:
        return f"ImageFile({self.media_type})"


@dataclass(frozen=True, slots=True)
class ImageStore:
    """The images of one agency; ``folder`` is none where it keeps none for review."""

    folder: Path | None

    def has(self, record_id: str) -> bool:
        """Whether ``find`` would find one; reads no more than tells what it is.

        Raises:
            ProbegateError: as ``find``.
        """
        return self._first(record_id, HEAD_BYTES) is not None

    def find(self, record_id: str) -> ImageFile | None:
        """Return a record's image, or None if there is none that can be sent (2) (3).

        Raises:
            ProbegateError: ``FILE_MISSING`` if a file that is there cannot be read.
        """
        return self._first(record_id, MAX_IMAGE_BYTES + 1)

    def names(self, record_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the names of records' image files, in order."""
        return tuple(
            sorted(path.name for record_id in record_ids for path in self._files(record_id))
        )

    def erase(self, record_ids: Sequence[str]) -> int:
        """Erase records' images (4); return how many files there were.

        Raises:
            ProbegateError: ``FILE_UNWRITABLE``.
        """
        erased = 0
        for record_id in record_ids:
            for path in self._files(record_id):
                try:
                    files.overwrite(path)
                    path.unlink()
                except OSError as error:
                    detail = error.strerror or ""
                    raise ProbegateError(Reason.FILE_UNWRITABLE, detail, file="image") from None
                erased += 1
        if erased and self.folder is not None:
            files.sync_folder(self.folder)
        return erased

    def _first(self, record_id: str, most: int) -> ImageFile | None:
        """Read at most so many bytes of the record's first file that can be sent (2) (3)."""
        for path in self._files(record_id):
            try:
                with path.open("rb") as stream:
                    content = stream.read(most)
                    size = os.fstat(stream.fileno()).st_size
            except OSError as error:
                detail = error.strerror or ""
                raise ProbegateError(Reason.FILE_MISSING, detail, file="image") from None
            kind = media_type_of(content)
            if kind is not None and max(size, len(content)) <= MAX_IMAGE_BYTES:
                return ImageFile(kind, content)
            telemetry.log("an image that cannot be sent", logging.WARNING, bytes=size)
        return None

    def _files(self, record_id: str) -> tuple[Path, ...]:
        if self.folder is None:
            return ()
        name = quote(record_id, safe="")  # (1)
        paths = (self.folder / f"{name}{suffix}" for suffix in SUFFIXES)
        return tuple(path for path in paths if path.is_file())
