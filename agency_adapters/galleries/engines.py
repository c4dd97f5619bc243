"""Settings of the engines a gallery may be in, other than files; and how they are spoken to.

1. A secret is never part of a location: it comes from a file that only its owner can read. So a
   location may be shown, and one that carries a password is refused without being repeated.
2. Whatever an engine does, nobody waits beyond the query's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trust import files
from trust.errors import ProbegateError, Reason
from trust.keys import require_private

MAX_SECRET_BYTES: Final = 16_384
"""Longest password or token read from a file, bytes."""
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts that may be spoken to without TLS."""

T = TypeVar("T")


class EngineSettings(BaseSettings):
    """Settings of a gallery's engine; each may come from ``PROBEGATE_ADAPTER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_ADAPTER_", frozen=True, extra="forbid")

    engine_secret_file: Path | None = None
    """The gallery engine's password or token, in a file of mode 0600."""
    engine_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Longest one question to a gallery's engine may take, seconds; a deadline may be sooner."""
    engine_write_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Longest one enrolment or erasure in a gallery's engine may take, seconds."""
    engine_connections: Annotated[int, Field(ge=1, le=64)] = 4
    """Most connections to a gallery's engine at once."""

    def secret(self) -> str:
        """Return the engine's password or token, empty if there is none (1).

        Raises:
            ProbegateError: ``FILE_MISSING``, ``KEY_FILE_INVALID`` or ``CONFIG_INVALID``.
        """
        path = self.engine_secret_file
        if path is None:
            return ""
        require_private(path)
        try:
            secret = files.read(path).decode("ascii").strip()
        except UnicodeDecodeError:
            secret = ""
        if not secret.isprintable() or not 0 < len(secret) <= MAX_SECRET_BYTES:
            raise config_invalid("not one line of printable ASCII", "engine_secret_file")
        return secret


def split_location(location: str) -> SplitResult:
    """Return the parts of an engine's location (1).

    Raises:
        ProbegateError: ``CONFIG_INVALID``; the location is not repeated.
    """
    try:
        parts = urlsplit(location)
        parts.port  # noqa: B018 - raises if it is no port
    except ValueError:
        raise config_invalid("not an address") from None
    if parts.password is not None:
        raise config_invalid("put the password into engine_secret_file, not into the address")
    return parts


def config_invalid(why: str, setting: str = "gallery") -> ProbegateError:
    """Return what a wrong setting is reported as."""
    return ProbegateError(Reason.CONFIG_INVALID, why, setting=setting)


def extra_missing(extra: str) -> ProbegateError:
    """Return what is reported where a location needs an extra that is not installed."""
    return config_invalid(f"this engine needs `pip install probegate[{extra}]`")


async def within(deadline: float | None, work: Awaitable[T]) -> T:
    """Await ``work`` up to ``deadline``, on the event loop's clock, seconds (2).

    Raises:
        ProbegateError: ``DEADLINE_PASSED``, and whatever ``work`` raises.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise ProbegateError(Reason.DEADLINE_PASSED, "the gallery's engine") from None
