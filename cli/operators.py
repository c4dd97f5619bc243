"""An organisation's own people at its database, for as long as one command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.opened import at_the_end
from trust.config import load_settings

if TYPE_CHECKING:
    from agency_adapters.operators import Operator as AdapterOperator
    from broker.operators import Operator as BrokerOperator


def broker_operator(config: Path | None) -> BrokerOperator:
    """Open a broker's database for its people.

    Raises:
        ProbegateError: ``CONFIG_INVALID``, ``FILE_MISSING`` or ``STATE_UNAVAILABLE``.
    """
    from broker.operators import Operator
    from broker.settings import BrokerSettings

    operator = Operator.open(load_settings(BrokerSettings, config))
    at_the_end(operator.close)
    return operator


def adapter_operator(config: Path | None) -> AdapterOperator:
    """Open an adapter's database for its people.

    Raises:
        ProbegateError: ``CONFIG_INVALID``, ``FILE_MISSING`` or ``STATE_UNAVAILABLE``.
    """
    from agency_adapters.operators import Operator
    from agency_adapters.settings import AdapterSettings

    operator = Operator.open(load_settings(AdapterSettings, config))
    at_the_end(operator.close)
    return operator
