"""How the servers look for cyclic garbage: less often, and not among what lives as long as they."""

from __future__ import annotations

import gc
from typing import Final

COLLECT_AFTER: Final = 20_000
"""How many more objects there are to be before cyclic garbage is looked for: those of some dozens
of requests, a few megabytes."""


def spare_the_collector() -> None:
    """Leave out of the search for cyclic garbage what lives as long as the process.

    A request makes thousands of objects, few of them in cycles; looking through all of them, and
    through every agreement, each time some hundreds are there is a tenth of a search's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
