"""Every setting and limit of the broker, in one type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MAX_ORDER_BYTES: Final = 64 * 1024
"""Largest signed order, bytes."""
MAX_SEALED_PROBE_BYTES: Final = 20 * 1024
"""Largest sealed probe, bytes: 4,096 float32 dimensions, salt, the hybrid suite's overhead."""
MAX_TOKEN_CHARS: Final = 4096
"""Longest officer token, characters."""
MAX_AGENCY_NOTE_BYTES: Final = 4096
"""Longest checkpoint an agency may attach, bytes."""


class BrokerSettings(BaseSettings):
    """Settings of one broker process; each may come from ``PROBEGATE_BROKER_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_BROKER_", frozen=True, extra="forbid")

    id: str = "broker"
    """The broker's member id in the directory."""
    member_folder: Path
    """Folder with this member's keys and certificate (``trust.ceremony.MemberFolder``)."""
    directory: Path
    """The signed directory."""
    scheme_key: Path
    """The scheme authority's pinned public key."""
    bundle: Path
    """The signed agreement bundle."""
    state_dir: Path
    """Where the broker keeps its database and version floors."""
    logs_dir: Path
    """Where the search and admin logs are published, one folder each."""
    listen: str = "127.0.0.1:0"
    """Address to serve on, host:port; port 0 lets the system choose."""
    port_file: Path | None = None
    """Where to write the port that was chosen, once the broker serves."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite in ``state_dir``."""

    clock_skew_s: Annotated[float, Field(ge=0, le=60)] = 30.0
    """How far ahead of ours a force's clock may be, seconds."""
    max_deadline_s: Annotated[float, Field(gt=0, le=600)] = 120.0
    """Longest deadline a caller may set, seconds."""
    agency_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """Longest time one agency may take, seconds; an order may ask for less."""
    grant_lifetime_s: Annotated[float, Field(gt=0, le=60)] = 60.0
    """How long a grant lives, seconds."""
    max_message_bytes: Annotated[int, Field(gt=0)] = 2 * 1024 * 1024
    """Largest message taken from anybody, bytes: one order and 64 sealed probes."""
    max_concurrent_calls: Annotated[int, Field(gt=0)] = 2048
    """Most calls under way at once, watchers included."""
    max_running_searches: Annotated[int, Field(gt=0)] = 512
    """Most searches under way at once; beyond it callers are told to wait."""
    max_calls_per_agency: Annotated[int, Field(gt=0)] = 128
    """Most calls under way to one agency."""
    call_attempts: Annotated[int, Field(ge=1, le=5)] = 3
    """Most attempts of one agency call on connection faults."""
    backoff_after_failures: Annotated[int, Field(ge=1)] = 3
    """Outages in a row after which an agency is not called for a while; calls under way at once are
    one."""
    backoff_first_s: Annotated[float, Field(gt=0)] = 1.0
    """First pause, seconds; it doubles with each further outage."""
    backoff_longest_s: Annotated[float, Field(gt=0)] = 300.0
    """Longest pause, seconds."""
    default_page_size: Annotated[int, Field(ge=1)] = 50
    """Searches on a page when the caller does not say."""
    max_page_size: Annotated[int, Field(ge=1)] = 500
    """Most searches on a page."""
    reload_interval_s: Annotated[float, Field(gt=0)] = 2.0
    """How often the directory, the bundle and certificates are looked at for a change, seconds."""
    admin_poll_s: Annotated[float, Field(gt=0)] = 0.25
    """How often operators' requests are taken from the database, seconds."""
    held_poll_s: Annotated[float, Field(gt=0)] = 1.0
    """How often the answers that agencies hold are looked through for one to ask for, seconds."""
    held_first_s: Annotated[float, Field(gt=0)] = 5.0
    """How long after its end a search's held answer is first asked for, seconds; it doubles."""
    held_longest_s: Annotated[float, Field(gt=0)] = 900.0
    """Longest time between asking for a held answer, seconds."""
    held_margin_h: Annotated[float, Field(ge=0)] = 24.0
    """How long after an agency was to decide it is still asked, hours."""
    held_at_most_h: Annotated[float, Field(gt=0)] = 336.0
    """How long a held answer is asked for at most, whatever the agency says, hours."""
    late_first_s: Annotated[float, Field(gt=0)] = 2.0
    """How long after its end a search's missing answer is first asked for, seconds; it doubles."""
    late_longest_s: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between asking for a missing answer, seconds."""
    late_at_most_s: Annotated[float, Field(ge=0)] = 600.0
    """How long a missing answer is asked for at most, seconds."""
    images_timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Longest time an agency may take to send candidates' images, seconds."""
    release_poll_s: Annotated[float, Field(gt=0)] = 1.0
    """How often requests for disclosure and notices are looked through for work, seconds."""
    release_first_s: Annotated[float, Field(gt=0)] = 5.0
    """First pause before an agency is asked again about one of them, seconds; it doubles."""
    release_longest_s: Annotated[float, Field(gt=0)] = 900.0
    """Longest such pause, seconds."""
    release_handover_h: Annotated[float, Field(gt=0)] = 24.0
    """How long it is tried to hand a request over to an agency that does not answer, hours."""
    release_margin_h: Annotated[float, Field(ge=0)] = 24.0
    """How long after an agency was to decide on a request it is still asked, hours."""
    release_at_most_h: Annotated[float, Field(gt=0)] = 768.0
    """How long an agency is asked at most, whatever it says, hours."""
    notice_at_most_h: Annotated[float, Field(gt=0)] = 720.0
    """How long it is tried to tell an agency something, hours."""
    recall_poll_s: Annotated[float, Field(gt=0)] = 5.0
    """How often agencies are asked for recalls, seconds."""
    values_retain_days: Annotated[int, Field(ge=1)] = 2190
    """How long what entries only commit to (officer, case, reasons) is kept beside the log, days;
    then `probegate audit erase --expired` erases it, unless it is under legal hold."""
    results_retain_days: Annotated[int, Field(ge=1)] = 365
    """How long what an ended search found is kept at most, days; agreements mostly say less
    (``retention_days``), and then that is how long."""
    results_poll_s: Annotated[float, Field(gt=0)] = 600.0
    """How often ended searches are looked through for some whose time is over, seconds."""
    watch_poll_s: Annotated[float, Field(gt=0)] = 0.5
    """How often a search that another process runs is read while watched, seconds."""
