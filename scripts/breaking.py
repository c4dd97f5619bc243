"""Ask buf whether the wire contract breaks the last released one.

The baseline is an image of the contract as last released, checked in beside the protos, so that the
check needs neither history nor network. A release replaces it with ``--accept``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "protos" / "baseline.binpb"
BUF = Path(sys.executable).parent / "buf"


def main(arguments: list[str]) -> int:
    """Compare with the baseline, or accept the contract as the new baseline."""
    if "--accept" in arguments:
        command = [str(BUF), "build", "--exclude-source-info", "-o", str(BASELINE)]
    else:
        command = [str(BUF), "breaking", "--against", str(BASELINE)]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
