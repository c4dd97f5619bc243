"""What a command opens is closed when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Final

_LEFT_TO_DO: Final[ContextVar[ExitStack]] = ContextVar("what is done when the command ends")


@contextmanager
def closed_at_the_end() -> Iterator[None]:
    """Do what was left to do within the block, the last first."""
    with ExitStack() as stack:
        token = _LEFT_TO_DO.set(stack)
        try:
            yield
        finally:
            _LEFT_TO_DO.reset(token)


def at_the_end(close: Callable[[], object]) -> None:
    """Have something closed when the running command ends."""
    _LEFT_TO_DO.get().callback(close)
