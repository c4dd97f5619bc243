"""Runs the examples in docstrings, those with ``await`` too, so that they cannot rot."""

from __future__ import annotations

import ast
import doctest
import inspect
import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples_of(docstring: str | None) -> list[doctest.Example]:
    """Return the examples of a docstring."""
    return doctest.DocTestParser().get_examples(inspect.cleandoc(docstring or ""))


async def run_examples(docstring: str | None, namespace: Mapping[str, Any]) -> int:
    """Run a docstring's examples one after the other; return how many there were.

    Args:
        docstring: the docstring.
        namespace: the names they stand on.
    """
    names = dict(namespace)
    examples = examples_of(docstring)
    for example in examples:
        said = io.StringIO()
        code = compile(example.source, "<example>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with redirect_stdout(said):
            ended = eval(code, names)  # noqa: S307 - our own docstrings
            if inspect.iscoroutine(ended):
                await ended
        checker = doctest.OutputChecker()
        if not checker.check_output(example.want, said.getvalue(), OPTIONS):
            difference = checker.output_difference(example, said.getvalue(), OPTIONS)
            raise AssertionError(f"{example.source}{difference}")
    return len(examples)
