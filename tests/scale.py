"""How many cases a property or fault test runs: few on every change, many under ``make soak``."""

from __future__ import annotations

import os

SOAKING = os.environ.get("PROBEGATE_SOAK") == "1"


def scaled(quick: int, soak: int) -> int:
    """Return ``quick`` in the everyday run and ``soak`` under ``make soak``."""
    return soak if SOAKING else quick
