"""Types of entries that the audit package itself writes or looks for (docs/log-entries.md)."""

from __future__ import annotations

from typing import Final

ERASED: Final = "values.erased"
HOLD_SET: Final = "values.held"
HOLD_LIFTED: Final = "values.hold_lifted"
EVERY_FIELD: Final = "*"
"""Stands for all fields of the entries that are named."""
READ: Final = "log.read"
RESULT: Final = "search.result"
REPORT: Final = "match.report"
REFUSED: Final = "match.refused"
