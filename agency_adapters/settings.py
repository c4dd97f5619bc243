"""Every setting and limit of an adapter, in one type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from agency_adapters.galleries.engines import EngineSettings

_HOURS_A_DAY: Final = 24

Switch = Literal["bar_unconvicted_minors", "bar_overdue_reviews"]
"""An operator's switch that turns on an eligibility rule."""


class AdapterSettings(EngineSettings):
    """Settings of one adapter; each may come from ``PROBEGATE_ADAPTER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_ADAPTER_", frozen=True, extra="forbid")

    id: str
    """The agency's member id in the directory."""
    kind: str
    """What kind of agency it is (``agency_adapters.registry``)."""
    member_folder: Path
    """Folder with this member's keys and certificate (``trust.ceremony.MemberFolder``)."""
    directory: Path
    """The signed directory."""
    scheme_key: Path
    """The scheme authority's pinned public key."""
    bundle: Path
    """The signed agreement bundle."""
    gallery: str
    """Where the gallery is: a folder, or an engine's address (`docs/engines.md`)."""
    calibration: Path | None = None
    """The signed calibration; without one, or one that can be trusted, scores are raw."""
    state_dir: Path
    """Where the adapter keeps its database, reference key and version floors."""
    logs_dir: Path
    """Where the search and admin logs are published, one folder each."""
    listen: str = "127.0.0.1:0"
    """Address to serve on, host:port; port 0 lets the system choose."""
    port_file: Path | None = None
    """Where to write the port that was chosen, once the adapter serves."""

    images_dir: Path | None = None
    """The agency's own store of images, one file for each record; without one none is sent."""

    bar_unconvicted_minors: bool = False
    """Custody: whether images of unconvicted people under 18 at capture are left out."""
    bar_overdue_reviews: bool = False
    """Custody: whether images whose review is overdue are left out."""

    decide_within_h: Annotated[float, Field(gt=0, le=720)] = 48.0
    """How long the agency's people have to decide about an answer that is held, hours."""

    release_opens_h: Annotated[float, Field(gt=0, le=8760)] = 168.0
    """How long a force can open the details that were released to it, hours."""
    max_requests_per_candidate: Annotated[int, Field(gt=0, le=1_000)] = 8
    """Most requests for details of one candidate that wait for a decision; another is refused."""
    values_retain_days: Annotated[int, Field(ge=1)] = 2190
    """How long what entries only commit to (reviewers, their reasons, records asked for) is kept
    beside the logs, days; then `probegate audit erase --of adapter --log admin --expired` erases
    it, unless it is under legal hold."""

    answers_retain_days: Annotated[int, Field(ge=1, le=36_500)] = 365
    """How long what an answer found is kept at most, days, the margin not counted; agreements
    mostly say less (``retention_days``), and then that is how long. Released details are kept in
    mind until they must be deleted, however long that is."""
    answers_margin_days: Annotated[int, Field(ge=1, le=3_650)] = 7
    """How much longer than its recipients may keep it what an answer found is kept, days: they
    count from when it came, and a recall must still reach them."""
    answers_poll_s: Annotated[float, Field(gt=0)] = 600.0
    """How often answers are looked through for some whose time is over, seconds."""

    clock_skew_s: Annotated[float, Field(ge=0, le=60)] = 30.0
    """How far ahead of ours another organisation's clock may be, seconds."""
    max_deadline_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Longest deadline a caller may set, seconds."""
    max_message_bytes: Annotated[int, Field(ge=65_536, le=16 * 2**20)] = 2**20
    """Largest message taken from anybody, bytes."""
    max_concurrent_calls: Annotated[int, Field(gt=0)] = 512
    """Most calls under way at once."""
    scan_threads: Annotated[int, Field(ge=0, le=256)] = 0
    """How many threads scan a gallery in files; 0 is as many as cores, and more gain nothing."""
    probes_per_pass: Annotated[int, Field(gt=0, le=256)] = 64
    """Most probes searched for in one pass over a gallery in files."""
    max_waiting_probes: Annotated[int, Field(gt=0, le=4096)] = 256
    """Most probes that wait for a pass; another is refused with a time to come back."""
    gather_patience_s: Annotated[float, Field(ge=0, le=5)] = 0.1
    """How long a pass over a gallery in files waits for company while several searches are being
    served, seconds: more are answered, each a little later. One that is alone waits for nobody."""
    reload_interval_s: Annotated[float, Field(gt=0)] = 2.0
    """How often directory, bundle, gallery and calibration are looked at for a change, seconds."""
    admin_poll_s: Annotated[float, Field(gt=0)] = 0.25
    """How often operators' requests are taken from the database, seconds."""

    def switches(self) -> frozenset[str]:
        """Return the eligibility switches that are on."""
        names: tuple[Switch, ...] = ("bar_unconvicted_minors", "bar_overdue_reviews")
        return frozenset(name for name in names if getattr(self, name))

    @field_validator("answers_margin_days")
    @classmethod
    def _outlast_the_clock(cls, margin_days: int, info: ValidationInfo) -> int:
        """A held answer is kept at least until it is to be decided."""
        decide_h = info.data.get("decide_within_h")
        retain_days = info.data.get("answers_retain_days")
        if decide_h is None or retain_days is None:  # refused already
            return margin_days
        if (retain_days + margin_days) * _HOURS_A_DAY < decide_h:
            raise PydanticCustomError(
                "outlast_the_clock",
                "with answers_retain_days shorter than decide_within_h: a held answer would be "
                "erased before it is to be decided",
            )
        return margin_days
