"""Every limit of this package, with its unit, in one place.

These bound what is read from outside (files, bundles). None of them changes a decision: what is
permitted comes from the agreements alone, so two parties with different settings still agree.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PolicySettings(BaseSettings):
    """Limits on files and bundles, from the environment (``PROBEGATE_POLICY_…``)."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_POLICY_", frozen=True, extra="ignore")

    max_file_bytes: Annotated[int, Field(ge=1_024, le=16_777_216)] = 262_144
    """Largest agreement or case file, bytes."""
    max_yaml_depth: Annotated[int, Field(ge=4, le=64)] = 16
    """Deepest nesting of a YAML file, levels."""
    max_yaml_nodes: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """Most nodes (keys, values, items) in a YAML file."""
    max_bundle_files: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Most agreements in a bundle."""
    max_bundle_bytes: Annotated[int, Field(ge=1_024, le=268_435_456)] = 33_554_432
    """Largest bundle file, bytes."""
    ledger_tallies: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """Most quota counters held in memory at once; others are read again when wanted."""


@cache
def limits() -> PolicySettings:
    """Return the limits, read from the environment once."""
    return PolicySettings()
