"""The kinds of agency, by name. A new one of ours is a module and a line here.

A kind of somebody else's is named by the operator, in ``PROBEGATE_AGENCY_KINDS``: its rules decide
what is answered, so none is taken up because it happens to be installed.

1. Nothing is loaded unless that setting names it, as ``module:ATTRIBUTE``.
2. A kind from outside cannot take the name of one of ours, or of another one.
3. What cannot be loaded, or is no kind of agency, stops the process with ``CONFIG_INVALID``.
4. An adapter that uses one says so on its admin log before it answers (``serve``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BeforeValidator, StringConstraints
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agency_adapters.agency import AgencyKind
from agency_adapters.asylum import ASYLUM
from agency_adapters.custody import CUSTODY
from agency_adapters.dwp import DWP
from agency_adapters.nhs import NHS
from agency_adapters.passport import PASSPORT
from agency_adapters.pnd import PND
from trust.config import load_settings
from trust.errors import ProbegateError, Reason

KINDS: Final[Mapping[str, AgencyKind]] = MappingProxyType(
    {kind.name: kind for kind in (ASYLUM, CUSTODY, DWP, NHS, PASSPORT, PND)}
)
_PLACE: Final = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"


def _listed(value: object) -> object:
    return value.split() if isinstance(value, str) else value


class OutsideSettings(BaseSettings):
    """Kinds of agency from outside; from the environment only."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_", frozen=True)

    agency_kinds: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=_PLACE)], ...],
        NoDecode,
        BeforeValidator(_listed),
    ] = ()
    """Where they are, ``module:ATTRIBUTE``, separated by spaces; empty means none."""


def kind_named(name: str) -> AgencyKind:
    """Return the kind of agency with this name.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` if there is none, or if one from outside cannot be used.
    """
    kind = KINDS.get(name)
    if kind is not None:
        return kind
    outside = _outside(load_settings(OutsideSettings, None).agency_kinds)
    try:
        return outside[name][1]
    except KeyError:
        known = ", ".join((*KINDS, *outside))
        raise ProbegateError(Reason.CONFIG_INVALID, f"one of {known}", field="kind") from None


def place_of(name: str) -> str:
    """Return where a kind from outside is, as the setting names it; empty for one of ours."""
    if name in KINDS:
        return ""
    kind_named(name)
    return _outside(load_settings(OutsideSettings, None).agency_kinds)[name][0]


@lru_cache
def _outside(places: tuple[str, ...]) -> Mapping[str, tuple[str, AgencyKind]]:
    """Load the kinds that the setting names (1) (2) (3)."""
    found: dict[str, tuple[str, AgencyKind]] = {}
    for place in places:
        kind = _loaded(place)
        if kind.name in KINDS or kind.name in found:
            raise _unusable(place, f"there is a kind {kind.name} already")
        found[kind.name] = (place, kind)
    return MappingProxyType(found)


def _loaded(place: str) -> AgencyKind:
    module, _, attribute = place.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise _unusable(place, type(error).__name__) from error
    if not isinstance(kind, AgencyKind):
        raise _unusable(place, "no AgencyKind")
    return kind


def _unusable(place: str, why: str) -> ProbegateError:
    return ProbegateError(Reason.CONFIG_INVALID, f"{place}: {why}", field="agency_kinds")
