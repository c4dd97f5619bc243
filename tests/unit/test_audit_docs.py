"""The examples in the audit package's documentation run as written."""

from __future__ import annotations

import doctest

import audit
import audit.tiles


def test_the_examples_run() -> None:
    for module in (audit, audit.tiles):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
