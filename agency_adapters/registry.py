"""The kinds of agency, by name. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from agency_adapters.agency import AgencyKind
from agency_adapters.asylum import ASYLUM
from agency_adapters.custody import CUSTODY
from agency_adapters.dwp import DWP
from agency_adapters.nhs import NHS
from agency_adapters.passport import PASSPORT
from agency_adapters.pnd import PND
from trust.errors import ProbegateError, Reason

KINDS: Final[Mapping[str, AgencyKind]] = MappingProxyType(
    {kind.name: kind for kind in (ASYLUM, CUSTODY, DWP, NHS, PASSPORT, PND)}
)


def kind_named(name: str) -> AgencyKind:
    """Return the kind of agency with this name.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` if there is none.
    """
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(KINDS)
        raise ProbegateError(Reason.CONFIG_INVALID, f"one of {known}", field="kind") from None
