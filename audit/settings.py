"""Every limit of the audit log and of the witness, with its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LEAF_MAX_BYTES: Final = 65_535
"""A bundle stores an entry's length in two bytes (C2SP tlog-tiles), so this one can't be raised."""

NOTE_MAX_BYTES: Final = 65_536
"""Longest signed note that is read; a checkpoint with a hundred cosignatures takes about 20 kB."""

NOTE_MAX_SIGNATURES: Final = 100
"""Signature lines read in one note (C2SP asks for at least 16)."""


class LogSettings(BaseSettings):
    """How a log commits and publishes (environment: ``PROBEGATE_LOG_…``)."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_LOG_", frozen=True, extra="forbid")

    batch_max_entries: int = Field(default=1024, ge=1, le=16_384)
    """Entries in one commit."""
    batch_window_s: float = Field(default=0.005, ge=0, le=1)
    """Seconds to wait for company after the first entry, if the last commit had company; 0 takes
    what queued meanwhile."""
    pending_max_entries: int = Field(default=16_384, ge=1)
    """Entries waiting for a commit before new ones are refused as SERVER_BUSY."""
    publish_interval_s: float = Field(default=0.2, ge=0.01, le=10)
    """Seconds within which commits are gathered into one round of file writing."""
    unpublished_max_entries: int = Field(default=65_536, ge=512)
    """Committed entries not yet in files before new ones are refused."""
    unpublished_max_bytes: int = Field(default=128 * 2**20, ge=2**20)
    """Bytes of committed entries not yet in files before new ones are refused."""
    recent_nodes: int = Field(default=4096, ge=256)
    """Leaf hashes kept in memory behind the newest (and half as many per level upwards)."""
    tile_cache_tiles: int = Field(default=512, ge=8)
    """Full hash tiles (8 kB each) kept in memory for old proofs."""
    proof_cache_pairs: int = Field(default=1024, ge=1)
    """Consistency proofs kept, by pair of sizes."""
    lock_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds a commit waits for another writer of the same database."""


class WitnessSettings(BaseSettings):
    """How a witness remembers a log (environment: ``PROBEGATE_WITNESS_…``)."""

    model_config = SettingsConfigDict(env_prefix="PROBEGATE_WITNESS_", frozen=True, extra="forbid")

    debt_max_age_s: float = Field(default=30.0, gt=0)
    """Seconds a checkpoint may wait for proof that it belongs to the chain."""
    debt_max_count: int = Field(default=256, ge=0)
    """Checkpoints that may wait at once."""
    recent_max_age_s: float = Field(default=120.0, gt=0)
    """Seconds a superseded root still serves as a base for proofs; grants live a minute."""
    recent_max_count: int = Field(default=4096, ge=1)
    """Superseded roots kept in memory."""
    recent_stored_count: int = Field(default=16, ge=0)
    """Superseded roots that survive a restart."""
    proofs_max_count: int = Field(default=1024, ge=1)
    """Consistency proofs read in one admission."""
    evidence_max_count: int = Field(default=1000, ge=1)
    """Pairs of contradicting notes kept per log."""


class WitnessServerSettings(BaseSettings):
    """A witness that cosigns for anybody (environment: ``PROBEGATE_WITNESS_SERVER_…``)."""

    model_config = SettingsConfigDict(
        env_prefix="PROBEGATE_WITNESS_SERVER_", frozen=True, extra="forbid"
    )

    name: str
    """The name of the witness's key, such as its address without a scheme."""
    policy: Path
    """The policy file (c2sp.org/tlog-policy) whose logs are watched."""
    key: Path
    """The witness's Ed25519 private key, PKCS#8 PEM, mode 0600."""
    state_dir: Path
    """Where the witness keeps its database."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite in `state_dir`."""
    listen: str = "127.0.0.1:7480"
    """Address to serve on, host:port; port 0 lets the system choose."""
    port_file: Path | None = None
    """Where to write the port that was chosen, once the witness serves."""
    tls_cert: Path | None = None
    """Certificate chain for HTTPS, PEM; without it the witness speaks plain HTTP."""
    tls_key: Path | None = None
    """The certificate's private key, PEM, mode 0600."""
    body_max_bytes: int = Field(default=69_632, ge=1024)
    """Largest request body, bytes: 63 hashes and the longest note."""
    connections_max: int = Field(default=256, ge=1)
    """Most connections at once; beyond it callers are told to wait."""
    running_max: int = Field(default=4, ge=1, le=64)
    """Most requests in the database at once; the others wait their turn."""
    request_timeout_s: float = Field(default=10.0, gt=0)
    """Longest a caller may take to send one request, seconds."""
    idle_timeout_s: float = Field(default=60.0, gt=0)
    """Longest a connection may be silent between two requests, seconds."""
    history_max_count: int = Field(default=100_000, ge=1)
    """Cosigned checkpoints remembered per log, to tell another root of the same size."""
    evidence_max_count: int = Field(default=1000, ge=1)
    """Pairs of contradicting notes kept per log."""
