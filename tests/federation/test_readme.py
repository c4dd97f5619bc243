"""What the documentation shows works as shown, over a federation of real processes.

A block of code behind ``<!-- tested -->`` is run as it stands, in the order of the page, in a
folder that looks like the repository's. Every file that a page names exists, and every setting is
in the page for operators.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from agency_adapters.settings import AdapterSettings
from audit.settings import LogSettings, WitnessServerSettings, WitnessSettings
from broker.settings import BrokerSettings
from deploy.local.place import Place
from deploy.local.processes import Processes
from deploy.local.setting_up import set_up
from force_client import ForceSettings

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = ("README.md", "docs/api.md")
LINKED: Final = ("docs", "policy", "protos", "tests")
"""Folders of the repository that the commands name."""
ROWS: Final = 150
"""Invented records in each gallery; the commands' words do not depend on it."""
TIMEOUT_S: Final = 120
_BLOCK: Final = re.compile(r"<!-- tested -->\n```(sh|python)\n(.*?)```", re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")
_FILE: Final = re.compile(
    r"`((?:tests|docs|scripts|deploy|broker|audit|policy|trust|agency_adapters|force_client)"
    r"/[\w./-]+)`"
)


@dataclass(frozen=True, slots=True)
class Block:
    """One tested block of a page."""

    page: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return a page's tested blocks in order."""
    return [Block(page, *found) for found in _BLOCK.findall((ROOT / page).read_text())]


def pages() -> list[Path]:
    """Return every page of documentation."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like the repository's, with the demonstration made small and not yet up."""
    folder = tmp_path_factory.mktemp("readme")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    place = Place(folder / ".probegate" / "demo")
    set_up(place, rows=ROWS, say=lambda _what: None)
    yield folder
    Processes(place).stop()


def run(block: Block, folder: Path) -> str:
    """Run a block as a person would, and return what it printed."""
    commands = {
        "sh": ["bash", "-euo", "pipefail", "-c", block.text],
        "python": [sys.executable, "-c", block.text],
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not _ours(name)}
    done = subprocess.run(
        commands[block.language],
        cwd=folder,
        env={**kept, "PATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _ours(name: str) -> bool:
    return name.startswith("PROBEGATE_") or name == "PYTHONPATH"


def test_every_tested_block_works_as_shown(here: Path) -> None:
    first, *others = PAGES
    shown = blocks(first)
    down = [block for block in shown if "demo down" in block.text]
    printed = [run(block, here) for block in shown if block not in down]
    for page in others:  # over the federation that the first page brought up
        printed += [run(block, here) for block in blocks(page)]
    for block in down:
        run(block, here)
    everything = "\n".join(printed)
    assert "35 rejected" in everything
    assert "R102051" in everything
    assert "everything verifies" in everything
    assert "passport: PERMIT" in everything


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_tested_blocks(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text.count("<!-- tested -->") == len(blocks(page)) > 0


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = [page.parent / link for link in _LINK.findall(text)]
    named += [ROOT / file for file in _FILE.findall(text)]
    assert [str(path) for path in named if not path.exists()] == []


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings,
        BrokerSettings,
        ForceSettings,
        LogSettings,
        WitnessServerSettings,
        WitnessSettings,
    ],
    ids=lambda settings: settings.__name__,
)
def test_every_setting_is_documented_with_its_default(settings: type[BaseSettings]) -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    section = page.partition(f"`{settings.model_config['env_prefix']}")[2].partition("\n#")[0]
    missing = [row for row in settings_rows(settings) if row not in section.splitlines()]
    assert missing == [], "docs/operating.md should have these rows"


def settings_rows(settings: type[BaseSettings]) -> list[str]:
    """Return the rows of a settings type's table: name, default, the words in the code."""
    words = {}
    for base in settings.__mro__[: settings.__mro__.index(BaseSettings)]:
        (kind,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(kind, ast.ClassDef)
        for pair in pairwise(kind.body):
            match pair:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=text)),
                ):
                    words[name] = " ".join(str(text).split()).replace("``", "`")
    return [
        f"| `{name}` | {_default(field)} | {_plain(words[name])} |"
        for name, field in settings.model_fields.items()
    ]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return "empty" if field.default in {None, ""} else f"`{field.default}`"


def _plain(words: str) -> str:
    """Leave out where in the code something is."""
    return re.sub(r" \(`trust\.[\w.]+`\)", "", words)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_machine(page: Path) -> None:
    found = re.findall(r"(?<![\w.])/(?:home|root|tmp|work|opt|mnt)/\S*", page.read_text())
    assert found == []
