"""What kind of image some bytes are: agency and force must agree, since a page will show them.

Their first bytes say it (PNG, W3C third edition, section 5.2; JPEG, ITU-T T.81 annex B: SOI and the
next marker), never a name or what somebody claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trust.second_step import MediaType

_FIRST_BYTES: Final[Mapping[MediaType, bytes]] = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
}
HEAD_BYTES: Final = max(map(len, _FIRST_BYTES.values()))
"""How many bytes are enough to tell."""


def media_type_of(content: bytes) -> MediaType | None:
    """Return the kind of an image from its first bytes; None for anything but JPEG and PNG."""
    for media_type, first in _FIRST_BYTES.items():
        if content.startswith(first):
            return media_type
    return None
