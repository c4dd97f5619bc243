"""An organisation's own people at its database, for as long as one command runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from trust.config import load_settings

if TYPE_CHECKING:
    from agency_adapters.operators import Operator as AdapterOperator
    from broker.operators import Operator as BrokerOperator


class _Closed(Protocol):
    def close(self) -> object: ...


_Opened = TypeVar("_Opened", bound=_Closed)


def until_the_end(opened: _Opened) -> _Opened:
    """Return what was opened, and close it when the command ends."""
    return click.get_current_context().with_resource(closing(opened))


def broker_operator(config: Path | None) -> BrokerOperator:
    """Open a broker's database for its people.

    Raises:
        ProbegateError: ``CONFIG_INVALID``, ``FILE_MISSING`` or ``STATE_UNAVAILABLE``.
    """
    from broker.operators import Operator
    from broker.settings import BrokerSettings

    return until_the_end(Operator.open(load_settings(BrokerSettings, config)))


def adapter_operator(config: Path | None) -> AdapterOperator:
    """Open an adapter's database for its people.

    Raises:
        ProbegateError: ``CONFIG_INVALID``, ``FILE_MISSING`` or ``STATE_UNAVAILABLE``.
    """
    from agency_adapters.operators import Operator
    from agency_adapters.settings import AdapterSettings

    return until_the_end(Operator.open(load_settings(AdapterSettings, config)))
