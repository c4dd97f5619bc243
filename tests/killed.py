"""A process that is killed while it writes a file."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTENT = b"what somebody must not find later"
_SCRIPT = f"""
import os, pathlib, signal, sys
from trust import files
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write_private(pathlib.Path(sys.argv[1]), {CONTENT!r}, replace=True)
"""


def killed_writing(path: Path) -> None:
    """Write ``CONTENT`` to a file and be killed before it is on the disk."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
