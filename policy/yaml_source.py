"""YAML read strictly, so that an error can name the file, the line and the field.

Rules:
1. One document of plain mappings, lists and scalars. Anchors, aliases, tags, repeated keys and
   keys that are not text are refused: each lets a file say something other than what it seems to.
   So do numbers that are not written in plain decimals (YAML reads ``060`` as 48 and ``1:30`` as
   90) and truths that are not ``true`` or ``false`` (it reads ``no`` as one): they are refused too.
2. Size, depth and node count are bounded before anything is built.
3. Every refusal is ``BUNDLE_INVALID`` with ``file``, ``line`` (from 1) and ``field`` (dotted path)
   and never quotes what was found there: case tables may hold an example officer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml import MarkedYAMLError

from policy.settings import limits
from trust.errors import ProbegateError, Reason

ModelT = TypeVar("ModelT", bound=BaseModel)
FieldPath = tuple[str | int, ...]

MAX_QUOTED_CHARS: Final = 200
"""Most characters of a file's own words that an error repeats."""
_NOTHING: Final = re.compile(r"(?!)")
_INTEGER: Final = "[-+]?(0|[1-9][0-9]*)"
_SPELT: Final = {
    f"tag:yaml.org,2002:{kind}": (re.compile(spelling), what)
    for kind, spelling, what in (
        ("str", r"(?s:.*)", "text"),
        ("timestamp", r".*", "a date or an instant"),
        ("int", _INTEGER, "a number in plain decimals"),
        ("float", rf"({_INTEGER}|[-+]?)\.[0-9]+([eE][-+]?[0-9]+)?", "a number in plain decimals"),
        ("bool", "(?i:true|false)", "true or false"),
        ("null", "(?i:null)|~|", "null"),
    )
}
"""How what is not quoted must be written, by the tag that YAML gives it (1)."""


def invalid(detail: str, *, file: str, line: int = 1, at: FieldPath = ()) -> ProbegateError:
    """Return the error for a fault at ``line`` and field path ``at`` of ``file``."""
    return ProbegateError(
        Reason.BUNDLE_INVALID,
        _plain(detail),
        file=_plain(file),
        line=str(line),
        field=_plain(".".join(str(part) for part in at)) or "-",
    )


def _plain(text: str) -> str:
    """Return ``text`` fit for one line of a terminal: a key may hold escapes and line ends."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_QUOTED_CHARS])


@dataclass(slots=True)
class YamlDocument:
    """Plain data with the line each field was written on."""

    file: str
    data: Any = None
    lines: dict[FieldPath, int] = field(default_factory=dict)

    def error(self, at: FieldPath, detail: str, *, missing: bool = False) -> ProbegateError:
        """Return the error for a fault at ``at``, on the line of its nearest written field.

        Pydantic's path of a fault may go on past what was written, except where it names a field
        that is ``missing``.
        """
        known = at
        while known and known not in self.lines:
            known = known[:-1]
        field_path = at if missing or not known else known
        return invalid(detail, file=self.file, line=self.lines.get(known, 1), at=field_path)

    def validated(self, model: type[ModelT]) -> ModelT:
        """Return the data as ``model``; the first fault is the error.

        Raises:
            ProbegateError: BUNDLE_INVALID naming file, line and field.
        """
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
            fault = faults[0]
            raise self.error(
                tuple(fault["loc"]), f"{fault['msg']}{more}", missing=fault["type"] == "missing"
            ) from None


class _PlainLoader(yaml.SafeLoader):
    """Takes no anchors, aliases and tags (1), whatever they are of."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:
            raise MarkedYAMLError(
                problem="anchors and aliases are not allowed", problem_mark=event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise MarkedYAMLError(problem="tags are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Reader:
    """Builds plain data from YAML nodes, noting lines as it goes."""

    def __init__(self, document: YamlDocument) -> None:
        self.document = document
        self.scalars = yaml.SafeLoader("")
        self.nodes = 0

    def fault(self, node: yaml.Node, at: FieldPath, detail: str) -> ProbegateError:
        return invalid(detail, file=self.document.file, line=node.start_mark.line + 1, at=at)

    def read(self, node: yaml.Node, at: FieldPath) -> Any:
        self.nodes += 1  # (2) bounded before it is built
        if self.nodes > limits().max_yaml_nodes or len(at) > limits().max_yaml_depth:
            raise self.fault(node, at, "too deep or too long")
        self.document.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return dict(self.pairs(node, at))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*at, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, at)

    def pairs(self, node: yaml.MappingNode, at: FieldPath) -> Iterator[tuple[str, Any]]:
        keys: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag != "tag:yaml.org,2002:str" or not isinstance(key, str):
                raise self.fault(key_node, at, "keys are text")
            if key in keys:
                raise self.fault(key_node, (*at, key), "the key is repeated")
            keys.add(key)
            self.document.lines[*at, key] = key_node.start_mark.line + 1
            yield key, self.read(value_node, (*at, key))

    def scalar(self, node: yaml.Node, at: FieldPath) -> Any:
        spelling, what = _SPELT.get(node.tag, (_NOTHING, "text, quoted where YAML wants it"))
        if not spelling.fullmatch(node.value):  # (1)
            raise self.fault(node, at, f"the value is not written as {what}")
        try:
            value = self.scalars.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError):
            raise self.fault(node, at, "the value cannot be read") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self.fault(node, at, "the value cannot be read")
        return value


def parse_yaml(raw: bytes, file: str) -> YamlDocument:
    """Return the one document in ``raw``; ``file`` is the name errors give.

    Raises:
        ProbegateError: BUNDLE_INVALID naming file, line and field.
    """
    document = YamlDocument(file)
    if len(raw) > limits().max_file_bytes:  # (2)
        raise invalid(f"larger than {limits().max_file_bytes} bytes", file=file)
    try:
        text = raw.decode("utf-8")
        node = yaml.compose(text, Loader=_PlainLoader)
    except UnicodeDecodeError:
        raise invalid("not UTF-8", file=file) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise invalid(error.problem or "not YAML", file=file, line=line) from None
    except (yaml.YAMLError, RecursionError):
        raise invalid("not YAML, or nested too deeply", file=file) from None
    if node is None:
        raise invalid("the file is empty", file=file)
    document.data = _Reader(document).read(node, ())
    return document


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ProbegateError: FILE_MISSING if it cannot be read; BUNDLE_INVALID if it is too large.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(limits().max_bundle_bytes + 1)
    except OSError as error:
        raise ProbegateError(Reason.FILE_MISSING, error.strerror or "", file=str(path)) from None
    if len(raw) > limits().max_bundle_bytes:
        raise invalid(f"larger than {limits().max_bundle_bytes} bytes", file=path.name)
    return raw


def read_model(model: type[ModelT], path: Path) -> ModelT:
    """Return the YAML file at ``path`` as ``model``.

    Raises:
        ProbegateError: FILE_MISSING; BUNDLE_INVALID naming file, line and field.
    """
    return parse_yaml(read_file(path), path.name).validated(model)
