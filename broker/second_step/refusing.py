"""Every refusal of what follows a search is an entry of the log, with its reason.

1. What the force signed is named by its digest; the search by its id, unless it is not the force's
   own, or never was.
2. What does not even verify is recorded as that, and nothing it says of itself is.
3. A failure of our own is no refusal: nothing was decided, and the same may be sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from audit.leaves import JsonValue
from audit.writer import LogWriter, NewEntry
from broker.leaves import sha256
from broker.second_step import leaves
from broker.second_step.opening import Caller
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason, Status
from trust.messages import Model
from trust.payload_types import PayloadType

_OURS: Final = frozenset({Status.UNAVAILABLE, Status.DATA_LOSS, Status.DEADLINE_EXCEEDED})
_BUSY: Final = frozenset({Reason.SERVER_BUSY, Reason.DIRECTORY_EXPIRED})
_PREFIX: Final = "application/vnd.probegate."
_Said = TypeVar("_Said", bound=Model)


@dataclass(frozen=True, slots=True)
class Refusals:
    """Puts refusals on the search log."""

    log: LogWriter

    async def opened(
        self, caller: Caller, envelope: Envelope, kind: PayloadType, model: type[_Said]
    ) -> _Said:
        """Verify and decode what the force signed; a refusal of it is recorded (2).

        Raises:
            ProbegateError: as ``Caller.opened``, or the log's own failure.
        """
        try:
            return caller.opened(envelope, kind, model)
        except ProbegateError as error:
            unread = leaves.request_refused(
                caller.force, short_name(kind), b"", "", error.reason.name, caller.now
            )
            await self.note(error, lambda _reason, _search_id: unread)
            raise

    async def note(
        self,
        error: ProbegateError,
        leaf: Callable[[str, str], dict[str, JsonValue]],
        search_id: str = "",
    ) -> None:
        """Record a refusal, unless it is a failure of our own (1) (3).

        Args:
            error: the refusal.
            leaf: makes the entry of the reason's name and the search's id.
            search_id: the search it is about.

        Raises:
            ProbegateError: the log's own failure.
        """
        if error.reason in _BUSY or error.reason.entry.status in _OURS:
            return
        named = "" if error.reason is Reason.NOT_FOUND else search_id
        await self.log.append(NewEntry(leaf=leaf(error.reason.name, named)))

    async def note_statement(
        self, error: ProbegateError, caller: Caller, envelope: Envelope, search_id: str = ""
    ) -> None:
        """Record the refusal of something that has no entry of its own for it (1).

        Raises:
            ProbegateError: the log's own failure.
        """
        kind = short_name(envelope.payload_type)
        digest = sha256(envelope.payload)
        await self.note(
            error,
            lambda reason, named: leaves.request_refused(
                caller.force, kind, digest, named, reason, caller.now
            ),
            search_id,
        )


def short_name(payload_type: str) -> str:
    """Return what a payload type is called in an entry, such as ``wrong-match``."""
    return payload_type.removeprefix(_PREFIX).partition(".")[0]
