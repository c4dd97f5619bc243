"""Every package that Probegate pins has a licence that docs/adr/0006 takes, and its hashes."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import pytest

REQUIREMENTS: Final = sorted((Path(__file__).resolve().parents[2] / "requirements").glob("*.txt"))
TAKEN: Final = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|0BSD|Zlib|CC0|MPL-2\.0|MPL 2\.0|Enthought"
)
REFUSED: Final = re.compile(r"\b[AL]?GPL|General Public|BUSL|Business Source|SSPL|Server Side")
_FIELDS: Final = ("License-Expression", "License")
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==[^ ]+ \\$", re.MULTILINE)


def stated(package: Distribution) -> str:
    """Return all that a package says of its licence: its metadata, first lines only.

    One whose metadata says nothing is taken by the headings of the licence files it ships.
    """
    facts = package.metadata
    said = [one.split("\n")[0] for field in _FIELDS for one in facts.get_all(field, [])]
    said += [one for one in facts.get_all("Classifier", []) if one.startswith("License")]
    if not said:
        names = facts.get_all("License-File", [])
        said += [heading(package.read_text(f"licenses/{name}") or "") for name in names]
    return " ".join(said)


def heading(text: str) -> str:
    """Return the first lines of a licence that are not blank."""
    return " ".join([line.strip() for line in text.splitlines() if line.strip()][:2])


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_every_licence_is_one_we_take(path: Path) -> None:
    names = _PIN.findall(path.read_text())
    assert names
    seen = 0
    for name in names:
        try:
            licence = stated(distribution(name))
        except PackageNotFoundError:  # for a role or a build that is not installed here
            continue
        seen += 1
        assert TAKEN.search(licence), f"{name}: {licence!r}"
        assert not REFUSED.search(licence), f"{name}: {licence!r}"
    assert seen > len(names) // 2


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_every_pin_has_hashes_and_names_no_place(path: Path) -> None:
    text = path.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    blocks = "\n".join(lines).replace(" \\\n    --hash", " --hash").splitlines()
    assert all(re.fullmatch(r"[^ ]+==[^ ]+( --hash=sha256:[0-9a-f]{64})+", one) for one in blocks)
    assert "://" not in text
    assert not re.search(r"^probegate\b", text, re.MULTILINE)
