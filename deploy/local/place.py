"""Where everything of a local federation lies, under one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

BROKER: Final = "broker"
AUDITOR: Final = "inspectorate"
FORCES: Final = ("northshire", "southmere")
AGENCIES: Final = ("custody", "pnd", "passport", "asylum", "nhs", "dwp")


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one local federation."""

    root: Path

    @property
    def ready(self) -> Path:
        """A file that exists once the federation has been set up whole."""
        return self.root / "ready.json"

    @property
    def scheme(self) -> Path:
        """The scheme: directory, pinned key, members' folders."""
        return self.root / "scheme"

    @property
    def agreements(self) -> Path:
        """The agreements as YAML."""
        return self.root / "agreements"

    @property
    def bundle(self) -> Path:
        """The signed bundle of the agreements."""
        return self.root / "bundle.json"

    @property
    def vkeys(self) -> Path:
        """The logs' public keys, to pin when verifying."""
        return self.root / "vkeys"

    @property
    def sources(self) -> Path:
        """What each agency imported, and the probes."""
        return self.root / "sources"

    @property
    def probes(self) -> Path:
        """Probes to search with, one ``.npy`` each."""
        return self.root / "probes"

    @property
    def truth(self) -> Path:
        """Who is where, for checking what a search found."""
        return self.root / "truth.json"

    def gallery(self, agency: str) -> Path:
        """An agency's gallery."""
        return self.root / "galleries" / agency

    def images(self, agency: str) -> Path:
        """An agency's own store of images."""
        return self.root / "images" / agency

    def calibration(self, agency: str) -> Path:
        """An agency's signed calibration, if it has one."""
        return self.root / "calibrations" / f"{agency}.json"

    def state(self, member: str) -> Path:
        """A member's database and version floors."""
        return self.root / "state" / member

    def logs(self, member: str) -> Path:
        """A member's published logs: ``search/`` and ``admin/``."""
        return self.root / "logs" / member

    def vkey(self, member: str, log: str) -> Path:
        """The public key of a member's ``search`` or ``admin`` log."""
        return self.vkeys / f"{member}-{log}"

    def config(self, member: str) -> Path:
        """A member's settings; a force's is what ``--config`` takes."""
        folder = self.root if member in FORCES else self.root / "config"
        return folder / f"{member}.toml"

    def officers(self, force: str) -> Path:
        """A force's people."""
        return self.root / "config" / f"{force}-officers.yaml"

    def pid(self, member: str) -> Path:
        """The process id of a member's server, while it runs."""
        return self.root / "run" / f"{member}.pid"

    def output(self, member: str) -> Path:
        """What a member's server wrote to its standard error."""
        return self.root / "run" / f"{member}.log"
