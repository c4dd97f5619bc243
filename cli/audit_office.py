"""An organisation's own side of its logs, for commands that read or erase personal values."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.opening import PURPOSES
from cli.operators import adapter_operator, broker_operator

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Side(StrEnum):
    """Whose settings a file holds."""

    BROKER = "broker"
    ADAPTER = "adapter"


Config = Annotated[
    Path | None, typer.Option(help="Settings (TOML) of the broker or adapter whose log it is.")
]
OfSide = Annotated[Side, typer.Option("--of", help="Whose settings they are.")]
Purpose = Annotated[
    str, typer.Option(help=f"Why values are read: {', '.join(PURPOSES)}; it is logged.")
]


@dataclass(frozen=True, slots=True)
class Office:
    """What such a command needs of a broker or an adapter.

    Attributes:
        id: the member's id.
        logs_dir: its logs.
        engine: its database.
        log: puts an entry on the admin log.
        tables: where erasing removes something.
        answers: returns which entries of a log are of an answer that a hold keeps whole.
    """

    id: str
    logs_dir: Path
    engine: Engine
    log: Callable[..., Coroutine[None, None, int]]
    tables: tuple[str, ...]
    answers: Callable[[str, Sequence[int]], tuple[int, ...]]


def open_office(config: Path | None, side: Side) -> Office:
    """Open the side whose settings are given.

    Raises:
        ProbegateError: what is wrong with the settings; ``STATE_UNAVAILABLE``.
    """
    from audit.tables import values

    if side is Side.BROKER:
        from broker import erasing

        broker = broker_operator(config)
        settings, tables = broker.settings, (values.name, *erasing.TABLES)
        engine, none = broker.desk.engine, lambda _log, _entries: ()
        return Office(settings.id, settings.logs_dir, engine, broker.log, tables, none)
    from agency_adapters.holds import answers_at
    from agency_adapters.tables import held_reviews

    agency = adapter_operator(config)
    given, names = agency.settings, (values.name, held_reviews.name)
    engine = agency.desk.engine
    return Office(given.id, given.logs_dir, engine, agency.log, names, partial(answers_at, engine))
