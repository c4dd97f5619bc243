"""Types of entries on what follows a search that only the broker writes (docs/log-entries.md).

Those that auditors look for as well are in ``audit.kinds``.
"""

from __future__ import annotations

from typing import Final

IMAGES_REFUSED: Final = "images.refused"
REQUEST_REFUSED: Final = "request.refused"
NOTICE_LAPSED: Final = "notice.lapsed"
DISCLOSURE_DISBELIEVED: Final = "disclosure.disbelieved"
RECALL_DISBELIEVED: Final = "recall.disbelieved"
