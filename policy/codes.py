"""The one registry of words: purposes, gateways, ranks and the rest, read from ``codes.yaml``.

Codes are data so that new law is an edit a data-protection officer can review, not a release of
the decision's logic. The registry is loaded once, at import, and nothing can change it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

from policy.yaml_source import read_model
from trust.messages import Code as CodeText

CODES_FILE: Final = Path(__file__).with_name("codes.yaml")

_Title = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _CodeRow(BaseModel):
    """One code as written in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: _Title
    citation: Annotated[str, StringConstraints(max_length=200)] = ""
    verified: bool = True
    beside: bool = False


class _VocabularyRow(BaseModel):
    """One vocabulary as written in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: _Title
    ordered: bool = False
    codes: dict[CodeText, _CodeRow]


class _RegistryFile(BaseModel):
    """The file: exactly these vocabularies, no fewer and no more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: _VocabularyRow
    aim: _VocabularyRow
    subject_category: _VocabularyRow
    legal_basis: _VocabularyRow
    schedule8_condition: _VocabularyRow
    offence_seriousness: _VocabularyRow
    officer_role: _VocabularyRow
    rank: _VocabularyRow
    probe_source: _VocabularyRow
    probe_edits: _VocabularyRow
    tried_first: _VocabularyRow
    mode: _VocabularyRow
    disclosure_field: _VocabularyRow
    onward_transfer: _VocabularyRow
    images: _VocabularyRow


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """One word, what it means, and the law it stands for.

    ``verified`` is false where the citation was not checked against primary text.
    """

    code: str
    title: str
    citation: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A closed set of codes; ``scale`` gives each ordered code its place, lowest 0."""

    name: str
    title: str
    codes: Mapping[str, CodeEntry]
    scale: Mapping[str, int]

    @property
    def ordered(self) -> bool:
        """Whether its codes can be compared with ``ge``, ``le`` and ``between``."""
        return bool(self.scale)

    def __contains__(self, code: object) -> bool:
        return code in self.codes

    def unknown(self, codes: Iterable[str]) -> list[str]:
        """Return those of ``codes`` that are not words of this vocabulary, sorted."""
        return sorted(code for code in codes if code not in self.codes)


def _vocabulary(name: str, row: _VocabularyRow) -> Vocabulary:
    entries = {
        code: CodeEntry(code, entry.title, entry.citation, entry.verified)
        for code, entry in row.codes.items()
    }
    on_scale = [code for code, entry in row.codes.items() if row.ordered and not entry.beside]
    return Vocabulary(
        name=name,
        title=row.title,
        codes=MappingProxyType(entries),
        scale=MappingProxyType({code: place for place, code in enumerate(on_scale)}),
    )


def load_registry(path: Path = CODES_FILE) -> Mapping[str, Vocabulary]:
    """Read the registry.

    Raises:
        ProbegateError: BUNDLE_INVALID naming file, line and field; FILE_MISSING.
    """
    file = read_model(_RegistryFile, path)
    return MappingProxyType(
        {name: _vocabulary(name, getattr(file, name)) for name in _RegistryFile.model_fields}
    )


REGISTRY: Final = load_registry()
"""Every vocabulary by name."""
