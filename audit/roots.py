"""Roots of a log's earlier sizes, from its tiles: what others remember of it can be compared."""

from __future__ import annotations

from audit.log_source import LogSource, node_reader
from audit.merkle import EMPTY_ROOT, range_hash


def root_at(source: LogSource, held: int, size: int) -> bytes:
    """Return the root over a log's first ``size`` entries.

    Args:
        source: the log; what it holds is believed, so verify it as well.
        held: how many entries its checkpoint covers.
        size: at most ``held``.

    Raises:
        ProbegateError: FILE_MISSING or LOG_CORRUPT if a tile cannot be read.
    """
    return range_hash(node_reader(source, held), 0, size) if size else EMPTY_ROOT
