"""Generate the stubs under ``protos/gen`` from ``protos/``; with ``--check``, compare instead.

Stubs are checked in so that nothing has to be built before the tests can run; the check makes sure
that they are what the protos say.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = PROTOS / "gen"
# protoc looks for its plugins on the PATH, and ours are beside this interpreter.
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
}


def generate(target: Path) -> None:
    """Run protoc over every proto file into ``target``."""
    sources = sorted(str(p.relative_to(PROTOS)) for p in (PROTOS / "probegate").rglob("*.proto"))
    services = [s for s in sources if s.endswith("_service.proto")]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    messages = [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
    subprocess.run([*protoc, *messages, *sources], check=True, cwd=PROTOS, env=ENVIRONMENT)
    rpcs = [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
    subprocess.run([*protoc, *rpcs, *services], check=True, cwd=PROTOS, env=ENVIRONMENT)


def differences(left: Path, right: Path) -> list[str]:
    """Name every generated file that is missing on one side or differs in its bytes."""
    names = {
        str(path.relative_to(side))
        for side in (left, right)
        for path in side.rglob("*.py*")
        if "__pycache__" not in path.parts
    }
    return sorted(
        name
        for name in names
        if not (left / name).is_file()
        or not (right / name).is_file()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    )


def main(arguments: list[str]) -> int:
    """Generate or check; the exit code says whether the stubs are fresh."""
    if "--check" not in arguments:
        GENERATED.mkdir(exist_ok=True)
        generate(GENERATED)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = differences(Path(folder), GENERATED)
    for name in stale:
        print(f"stale stub: {name}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
