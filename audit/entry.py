"""An entry on its way into the log, and what its caller gets back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection

from audit.checkpoints import SignedCheckpoint
from audit.leaves import JsonValue, PrivateValue


class NewEntry(NamedTuple):
    """What a caller wants on the record.

    Args:
        leaf: facts without personal data, and without ``commitments``.
        private: field to value; the leaf gets salted commitments, the side store the values.
        retain_until: when the private values are due for erasure.
        also: runs on the writer's thread in the transaction that appends the entry, and gets its
            index. It must confine itself to that connection and not commit. If it raises, only
            this entry fails, with that exception. Because the batch is then rolled back and staged
            again, every ``also`` of the batch may run twice, so it must have no other effects.
    """

    leaf: Mapping[str, JsonValue]
    private: Mapping[str, JsonValue] = MappingProxyType({})
    retain_until: datetime | None = None
    also: Callable[[Connection, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry that is durable, with its proof of inclusion under a signed checkpoint."""

    index: int
    leaf: bytes
    leaf_hash: bytes
    checkpoint: SignedCheckpoint
    proof: tuple[bytes, ...]


@dataclass(slots=True)
class Waiting:
    """An entry in the queue, and who waits for it."""

    leaf: bytes
    leaf_hash: bytes
    private: tuple[PrivateValue, ...]
    retain_until: int | None
    also: Callable[[Connection, int], None] | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Appended]


Verdict = tuple[Waiting, "Appended | Exception"]
"""What becomes of an entry: its place in the log, or why it has none."""


def deliver(verdicts: Sequence[Verdict]) -> None:
    """Wake every waiting task, once per loop."""
    if len(verdicts) == 1:
        _wake(verdicts[0][0].loop, verdicts)
        return
    by_loop: dict[asyncio.AbstractEventLoop, list[Verdict]] = {}
    for verdict in verdicts:
        by_loop.setdefault(verdict[0].loop, []).append(verdict)
    for loop, some in by_loop.items():
        _wake(loop, some)


def _wake(loop: asyncio.AbstractEventLoop, verdicts: Sequence[Verdict]) -> None:
    try:  # noqa: SIM105 - suppress() is dear where a lone append comes by
        loop.call_soon_threadsafe(_resolve, verdicts)
    except RuntimeError:
        pass  # the loop was closed; its entries are durable all the same


def _resolve(verdicts: Sequence[Verdict]) -> None:
    for waiting, verdict in verdicts:
        if waiting.future.done():
            continue  # cancelled
        if isinstance(verdict, Appended):
            waiting.future.set_result(verdict)
        else:
            waiting.future.set_exception(verdict)
