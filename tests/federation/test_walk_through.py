"""The walk-through works cell by cell as it stands, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from deploy.local.place import Place
from deploy.local.processes import Processes
from deploy.local.setting_up import set_up

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "walk-through.md"
ROWS: Final = 150
TIMEOUT_S: Final = 120
MARK: Final = "--- end of cell ---"
_CELL: Final = re.compile(r"```(sh|python)\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, and what the page says that it prints."""

    language: str
    code: str
    shown: str


def cells() -> list[Cell]:
    return [Cell(*found) for found in _CELL.findall(PAGE.read_text())]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with the demonstration, made small and not yet up."""
    place = Place(tmp_path / ".probegate" / "demo")
    set_up(place, rows=ROWS, say=lambda _what: None)
    yield tmp_path
    Processes(place).stop()


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PROBEGATE_")}
    return kept | {"PATH": path, "COLUMNS": "80", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def shell(cell: Cell, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", cell.code],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{cell.code}\n{done.stdout}\n{done.stderr}"


class Notebook:
    """One interpreter that runs cells one after the other."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-iqu", "-c", "import sys; sys.ps1 = sys.ps2 = ''"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, code: str) -> str:
        """Run a cell whole and return what it printed, a traceback too."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"exec({code!r}, globals())\nprint({MARK!r})\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.strip() == MARK:
                return "".join(said)
            said.append(line)
        raise AssertionError("the interpreter is gone: " + "".join(said))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_every_cell_prints_what_the_page_shows(folder: Path) -> None:
    notebook = Notebook(folder)
    try:
        for cell in cells():
            if cell.language == "sh":
                shell(cell, folder)
            else:
                assert notebook.run(cell.code) == cell.shown, cell.code
    finally:
        notebook.close()


def test_every_cell_of_python_is_shown_with_what_it_prints() -> None:
    found = cells()
    assert len(found) == PAGE.read_text().count("```sh") + PAGE.read_text().count("```python")
    assert all(cell.shown for cell in found if cell.language == "python")
