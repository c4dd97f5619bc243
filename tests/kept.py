"""What an organisation's files still hold, whatever its database says."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class _Settings(Protocol):
    @property
    def state_dir(self) -> Path: ...

    @property
    def logs_dir(self) -> Path: ...


class _Server(Protocol):
    @property
    def settings(self) -> _Settings: ...


def files_with(server: _Server, *texts: bytes) -> set[str]:
    """Name every file of a broker or an adapter that holds one of some byte strings."""
    return {
        path.name
        for folder in (server.settings.state_dir, server.settings.logs_dir)
        for path in folder.rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in texts)
    }
