"""Starts, watches and stops the processes of a local federation.

Each server is an ordinary ``probegate … serve`` with its own settings file, detached, so that a
federation that was brought up stays up when the command that did so ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy.local.place import BROKER, Place
from trust import files
from trust.ceremony import Scheme
from trust.errors import ProbegateError, Reason

START_TIMEOUT_S: Final = 60.0
"""How long a server may take until it listens, seconds."""
STOP_TIMEOUT_S: Final = 15.0
"""How long a server may take to stop before it is killed, seconds."""
_POLL_S: Final = 0.05
_LAST_LINES: Final = 3


class Processes:
    """The servers of one local federation."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._scheme = Scheme.open(place.scheme)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, int] = {}
        """How children of ours ended that were not told to."""

    @property
    def endpoints(self) -> dict[str, str]:
        """Where each member that serves listens; who has joined since is there too."""
        return {member.id: member.endpoint for member in self._scheme.members() if member.endpoint}

    @property
    def servers(self) -> tuple[str, ...]:
        """Every member that serves, the broker last."""
        return (*sorted(self.endpoints.keys() - {BROKER}), BROKER)

    def start(self, members: Iterable[str] | None = None) -> None:
        """Start servers that do not run, and wait until each listens.

        Raises:
            ProbegateError: ``SERVICE_UNREACHABLE`` with the server's last words if it ends.
        """
        wanted = tuple(self.servers if members is None else members)
        for member in wanted:
            if not self.running(member):
                self._spawn(member)
        for member in wanted:
            self._await(member)

    def running(self, member: str) -> bool:
        """Whether a member's server runs."""
        return self._pid(member) is not None

    def stop(self, members: Iterable[str] | None = None) -> None:
        """Stop servers gracefully, and kill those that will not."""
        wanted = tuple(reversed(self.servers)) if members is None else tuple(members)
        found = {member: pid for member in wanted if (pid := self._pid(member)) is not None}
        for pid in found.values():
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for member in found:
            while self.running(member) and time.monotonic() < deadline:
                self._reap(member)
                time.sleep(_POLL_S)
            self.kill(member)

    def kill(self, member: str) -> None:
        """End a member's server at once (SIGKILL), as a crash would."""
        pid = self._pid(member)
        if pid is not None:
            _signal(pid, signal.SIGKILL)
            while self.running(member):
                self._reap(member)
                time.sleep(_POLL_S)
        child = self._children.pop(member, None)
        if child is not None:
            child.wait()  # it has let go of its memory, and so no longer runs, but is still ours
        self._place.pid(member).unlink(missing_ok=True)

    def pid(self, member: str) -> int | None:
        """Return the process id of a member's server, or none."""
        return self._pid(member)

    def _spawn(self, member: str) -> None:
        role = "broker" if member == BROKER else "adapter"
        command = [
            sys.executable,
            "-m",
            "cli.main",
            role,
            "serve",
            "--config",
            str(self._place.config(member)),
        ]
        output = self._place.output(member)
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab") as stream:
            child = subprocess.Popen(  # noqa: S603 - our own command and our own files
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._ended.pop(member, None)
        self._children[member] = child
        files.write_atomic(self._place.pid(member), f"{child.pid}\n".encode())

    def _await(self, member: str) -> None:
        host, _, port = self.endpoints[member].rpartition(":")
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.running(member):
                break
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            time.sleep(_POLL_S)
        words = (_ending(self._ended.get(member)), _last_words(self._place.output(member)))
        raise ProbegateError(
            Reason.SERVICE_UNREACHABLE, " / ".join(filter(None, words)), member=member
        )

    def _pid(self, member: str) -> int | None:
        self._reap(member)
        child = self._children.get(member)
        if child is not None:
            return child.pid  # the system may not show yet what it was started with
        try:
            pid = int(self._place.pid(member).read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # A number may have been given to another process since: ours names its settings file.
        return pid if os.fsencode(self._place.config(member)) in command else None

    def _reap(self, member: str) -> None:
        child = self._children.get(member)
        if child is not None and child.poll() is not None:
            self._ended[member] = child.returncode
            del self._children[member]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _ending(status: int | None) -> str:
    if status is None:
        return ""
    by = signal.Signals(-status).name if -status in set(signal.Signals) else ""
    return f"it was ended by {by}" if by else f"it ended with status {status}"


def _last_words(output: Path) -> str:
    try:
        lines = output.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return " / ".join(lines[-_LAST_LINES:])[:600]
