"""What the desks of an agency's own people share: what is typed, and waiting for the adapter.

1. What is typed is checked before anything is done, and a fault names the field, not the value.
2. What a kill switch has turned off cannot be released, and who must be asked has been asked.
3. A decision is carried out by the running adapter; nobody waits for one that does not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from agency_adapters.agency import Text
from agency_adapters.operators import Operator
from audit.desk import POLL_S, SERVER_PATIENCE_S
from audit.organisation import SEARCH
from audit.publisher import in_use
from trust.errors import ProbegateError, Reason
from trust.messages import FreeText, Identifier

_State = TypeVar("_State")
_ID: Final[TypeAdapter[str]] = TypeAdapter(Identifier)
_LINE: Final[TypeAdapter[str]] = TypeAdapter(Text)
_PROSE: Final[TypeAdapter[str]] = TypeAdapter(FreeText)


def checked_id(text: str, field: str) -> str:
    """Return a person's id as typed (1).

    Raises:
        ProbegateError: ``TEXT_INVALID``.
    """
    return _checked(_ID, text, field)


def checked_line(text: str, field: str) -> str:
    """Return a line as typed (1).

    Raises:
        ProbegateError: ``TEXT_INVALID``.
    """
    return _checked(_LINE, text, field)


def checked_prose(text: str, field: str) -> str:
    """Return some sentences as typed, at least one word (1).

    Raises:
        ProbegateError: ``TEXT_INVALID``.
    """
    if not _checked(_PROSE, text, field).strip():
        raise ProbegateError(Reason.TEXT_INVALID, field=field)
    return text


def require_releasable(
    operator: Operator, switches: Iterable[str], ask: Sequence[str], asked: Sequence[str]
) -> None:
    """Check that nothing stands in the way of a release but the decision itself (2).

    Args:
        operator: whose kill switches count.
        switches: the switches that the release hangs on.
        ask: who must be asked.
        asked: who was, and agreed.

    Raises:
        ProbegateError: ``RELEASE_SWITCHED_OFF`` or ``RELEASE_INVALID``.
    """
    off = sorted(operator.switched_off.intersection(switches))
    if off:
        raise ProbegateError(Reason.RELEASE_SWITCHED_OFF, switch=", ".join(off))
    if set(asked) != set(ask):
        raise to_be_asked(ask)


def to_be_asked(ask: Sequence[str]) -> ProbegateError:
    """Return what is said where a release does not name whoever must be asked (2)."""
    names = ", ".join(ask) or "nobody"
    return ProbegateError(Reason.RELEASE_INVALID, f"to be asked first: {names}")


async def carried_out(
    operator: Operator, look: Callable[[], _State], done: Callable[[_State], bool]
) -> _State:
    """Look until the running adapter has done it, for a while; once if none runs (3)."""
    log = operator.settings.logs_dir / SEARCH
    state = look()
    for _ in range(int(SERVER_PATIENCE_S / POLL_S)):
        if done(state) or not in_use(log):
            break
        await asyncio.sleep(POLL_S)
        state = look()
    return state


def _checked(model: TypeAdapter[str], text: str, field: str) -> str:
    try:
        return model.validate_python(text)
    except ValidationError:
        raise ProbegateError(Reason.TEXT_INVALID, field=field) from None
