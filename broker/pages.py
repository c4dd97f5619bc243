"""Where a page of things ends that are listed newest first, as a token that says nothing else."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import datetime
from typing import Final

from broker.store import Position
from trust.clock import to_us
from trust.errors import ProbegateError, Reason

_LAST_US: Final = 2**63 - 1
"""Latest instant a database can be asked for, microseconds since 1970."""


def token_after(created_at: datetime, thing_id: str) -> str:
    """Return the token of a page that ends with something of this instant and UUID."""
    text = f"{to_us(created_at)}.{thing_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def position_of(token: str) -> Position:
    """Return where a page ended.

    Raises:
        ProbegateError: ``PAGE_INVALID``.
    """
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
        created, _, thing_id = text.partition(".")
        after = Position(int(created), str(uuid.UUID(thing_id)))
    except (ValueError, binascii.Error) as error:
        raise ProbegateError(Reason.PAGE_INVALID, field="page_token") from error
    if not 0 <= after.created_us <= _LAST_US:
        raise ProbegateError(Reason.PAGE_INVALID, field="page_token")
    return after
