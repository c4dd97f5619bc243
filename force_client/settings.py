"""Every setting and limit of a force's client, in one type."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trust.config import load_settings

ENV_PREFIX: Final = "PROBEGATE_FORCE_"
DEFAULT_ORDER_LIFETIME: Final = timedelta(minutes=5)
"""How long an order may be used after it is made."""
MAX_CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far another member's clock may be from ours."""
MAX_PROBE_FILE_BYTES: Final = 4 * 2**30
"""Largest file a probe is read from, bytes; a ``.npy`` of many rows is mapped, not read."""
MAX_PACKED_PROBE_BYTES: Final = 2**30
"""Largest array taken out of an ``.npz``, bytes once unpacked."""
UNIT_TOLERANCE: Final = 1e-3
"""How far a template's length may be from one."""
SALT_KEY_BYTES: Final = 32
"""Length of the force's probe-salt key, bytes."""
MAX_OFFICERS_FILE_BYTES: Final = 8 * 2**20
"""Largest officers file, bytes."""
MAX_TOKEN_FILE_BYTES: Final = 8192
"""Largest officer token file, bytes."""


class ForceSettings(BaseSettings):
    """Settings of one force's client; each may come from ``PROBEGATE_FORCE_<NAME>``.

    ``load`` reads them from a TOML file, which goes before the environment; relative paths in it
    are taken from the file's own folder.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    member_folder: Path
    """Folder with this force's keys and certificate (``trust.member_folder.MemberFolder``)."""
    directory: Path
    """The signed directory."""
    scheme_key: Path
    """The scheme authority's pinned public key."""
    state_dir: Path
    """Where the highest directory version seen, the probe-salt key, the orders and the highest
    revision seen of each search are kept."""
    broker: str = ""
    """The broker's member id; empty means the only broker of the directory."""
    officers: Path | None = None
    """YAML file of the force's people: id to role, rank, unit and accreditation."""

    model: str = "invented-face-1"
    """The template model of probes where a call does not say; by default the demonstration's."""
    keep_orders: bool = True
    """Whether orders and the revisions seen are kept in ``state_dir``, so that results can be
    verified after a restart."""
    call_timeout_s: Annotated[float, Field(gt=0, le=110)] = 10.0
    """Longest a call may take beyond what it was told to wait, seconds."""
    watch_timeout_s: Annotated[float, Field(gt=0, le=110)] = 110.0
    """Longest a search is followed before the call is renewed, and longest it is tried to reach a
    broker that is away meanwhile, seconds."""
    max_wait_s: Annotated[float, Field(gt=0, le=100)] = 90.0
    """Longest one call waits for the end of a search, seconds."""
    call_attempts: Annotated[int, Field(ge=0, le=1000)] = 0
    """Most attempts of one call on connection faults; 0: as many as its time has room for."""
    retry_first_s: Annotated[float, Field(gt=0)] = 0.1
    """First pause between attempts, seconds; it doubles."""
    retry_longest_s: Annotated[float, Field(gt=0)] = 2.0
    """Longest pause between attempts, seconds."""
    reload_interval_s: Annotated[float, Field(gt=0)] = 5.0
    """How often the directory and the certificate are looked at for a change, seconds."""
    forget_interval_s: Annotated[float, Field(gt=0)] = 60.0
    """How often what is kept is looked at for something whose time has come, seconds."""
    records_retain_days: Annotated[int, Field(gt=0, le=36_500)] = 2_190
    """How long orders, the revisions seen, requests for details and evidence are kept in
    ``state_dir``, days."""
    max_message_bytes: Annotated[int, Field(gt=0)] = 8 * 2**20
    """Largest answer taken from the broker, bytes."""
    keepalive_ms: Annotated[int, Field(ge=20_000)] = 30_000
    """How often a quiet connection is tried while calls are under way, milliseconds."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read settings from a TOML file, whose relative paths are relative to it.

        Raises:
            ProbegateError: ``FILE_MISSING``, or ``CONFIG_INVALID`` with the setting's name.
        """
        return load_settings(cls, path)

    @classmethod
    def from_environment(cls) -> Self:
        """Read settings from the environment alone.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` with the setting's name.
        """
        return load_settings(cls, None)

    @property
    def directory_floor(self) -> Path:
        """Where the highest directory version seen is kept."""
        return self.state_dir / "directory-floor.json"

    @property
    def salt_key(self) -> Path:
        """The probe-salt key's file."""
        return self.state_dir / "probe-salt.key"

    @property
    def orders(self) -> Path:
        """The folder of signed orders, one file for each request id."""
        return self.state_dir / "orders"

    @property
    def revisions(self) -> Path:
        """The folder of which result of each search was shown, one file for each search id."""
        return self.state_dir / "revisions"
