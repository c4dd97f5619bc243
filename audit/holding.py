"""Holding a log to the checkpoints of it that another log embeds.

1. An embedded signature must be the log's own: otherwise nothing was shown, something was made up.
2. A size beyond the log's end means that the log was cut, or that this copy is older.
3. At a size within the log, the root must be the root of its first entries: otherwise whoever
   signed showed two histories.

A checkpoint that an earlier version embedded without its signature is compared, (2) and (3), and
proves nothing against the log's owner alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache, partial
from pathlib import Path
from typing import Any

from audit.embedded import is_signed, open_embedded
from audit.folder import LogFolder
from audit.reader import LogReader
from audit.roots import root_at
from trust.errors import ProbegateError, Reason


class Verdict(Enum):
    """What an embedded checkpoint says of a log."""

    HOLDS = auto()
    UNSIGNED = auto()
    """It fits, and an earlier version kept no signature."""
    FORGED = auto()
    BEYOND = auto()
    ANOTHER_HISTORY = auto()


class HeldLog:
    """A log to be held to what it signed.

    Args:
        folder: its files.

    Raises:
        ProbegateError: FILE_MISSING; CHECKPOINT_INVALID.
    """

    def __init__(self, folder: Path) -> None:
        files = LogFolder(folder)
        self._key = files.vkey()
        self.reader = LogReader(folder, self._key)
        self._root = cache(partial(root_at, files, self.reader.size))

    @property
    def size(self) -> int:
        """How many entries it holds."""
        return self.reader.size

    def judge(self, said: Mapping[str, Any]) -> Verdict:
        """Compare the log with an embedded checkpoint of it.

        Raises:
            KeyError: it has no size or root.
            ProbegateError: FILE_MISSING or LOG_CORRUPT if a tile cannot be read.
        """
        if is_signed(said):
            try:
                open_embedded(said, [self._key])  # (1)
            except ProbegateError as error:
                if error.reason is not Reason.CHECKPOINT_INVALID:
                    raise
                return Verdict.FORGED
        size, root = int(said["size"]), str(said["root"])
        if size > self.size:  # (2)
            return Verdict.BEYOND
        if self._root(size).hex() != root:  # (3)
            return Verdict.ANOTHER_HISTORY
        return Verdict.HOLDS if is_signed(said) else Verdict.UNSIGNED
