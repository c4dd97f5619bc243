"""Which result of each search this force was shown: a broker cannot take a later one back.

Every result is signed and on the log, an older one too. Whoever is shown it again after a newer one
would miss what came late, or use what was erased.

1. Of each search the highest revision that verified is remembered, with the digest of that result,
   before it is shown.
2. A lower revision, or another result of the same one, is ``RESULT_INVALID`` (``revision``).
3. What is remembered never falls, whichever of this force's processes reads first: who remembers
   waits their turn and looks again.

It is forgotten with the search's order.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from force_client.ground import invalid
from trust import files
from trust.errors import ProbegateError, Reason

REMEMBERED: Final = 4096
"""Most searches remembered where nothing is kept on the disk."""
_END: Final = ".json"
_LOCK: Final = "revisions.lock"


class Seen(BaseModel):
    """A result that was shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: Annotated[int, Field(ge=0)]
    result_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    ordered_at: AwareDatetime
    """When the order was made."""


class RevisionBook:
    """What was shown of each search; every method waits for the disk.

    Args:
        folder: where it is kept; None keeps it in memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._in_memory: OrderedDict[str, Seen] = OrderedDict()

    def require_newest(self, search_id: str, seen: Seen) -> None:
        """Remember a result that verified, unless a newer or another one was shown before.

        Raises:
            ProbegateError: ``RESULT_INVALID`` with ``check`` ``revision`` (2);
                ``STATE_UNAVAILABLE`` if what is remembered is damaged; ``FILE_UNWRITABLE`` or
                ``DISK_FULL``.
        """
        if self._folder is None:
            if _is_later(seen, self._in_memory.get(search_id)):
                self._in_memory[search_id] = seen
                while len(self._in_memory) > REMEMBERED:
                    self._in_memory.popitem(last=False)
            return
        path = self._folder / f"{UUID(search_id)}{_END}"  # text from afar never becomes a path
        if _is_later(seen, _read(path)):
            with files.turn(self._folder.parent / _LOCK):  # (3)
                if _is_later(seen, _read(path)):
                    files.write_private(path, seen.model_dump_json().encode(), replace=True)

    def forget(self, before: datetime) -> int:
        """Forget the searches whose order was made before an instant; return how many.

        Raises:
            ProbegateError: ``FILE_UNWRITABLE``.
        """
        if self._folder is None or not self._folder.is_dir():
            return 0
        forgotten = files.sweep_folder(self._folder, before)
        for path in files.older(self._folder, f"*{_END}", before):
            if _ordered_before(path, before):
                path.unlink(missing_ok=True)
                forgotten += 1
        return forgotten


def _is_later(seen: Seen, known: Seen | None) -> bool:
    """Whether a result is to be remembered (1) (2)."""
    if known is None or seen.revision > known.revision:
        return True
    if seen.revision < known.revision:
        raise invalid(f"revision {known.revision} was shown before", "revision")
    if seen.result_sha256 != known.result_sha256:
        raise invalid("another result of this revision was shown before", "revision")
    return False


def _read(path: Path) -> Seen | None:
    try:
        return Seen.model_validate_json(files.read(path))
    except ProbegateError as error:
        if error.reason is Reason.FILE_MISSING and not path.exists():
            return None
        raise
    except ValidationError:
        raise ProbegateError(
            Reason.STATE_UNAVAILABLE, f"{path} is damaged", file=path.name
        ) from None


def _ordered_before(path: Path, instant: datetime) -> bool:
    try:
        seen = _read(path)
    except ProbegateError:
        return True  # it is old and says nothing
    return seen is None or seen.ordered_at < instant
