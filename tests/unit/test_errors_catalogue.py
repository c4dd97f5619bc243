"""The catalogue, its page and the code are of one mind."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from scripts.docs import ERRORS, errors_page
from trust.errors import ERROR_DOMAIN, ProbegateError, Reason, Status
from trust.rpc import to_status

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "trust",
    "policy",
    "audit",
    "broker",
    "agency_adapters",
    "force_client",
    "cli",
    "deploy",
)
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")

UNUSED: dict[Reason, str] = {}
"""Reasons that nothing gives yet, each with why it is in the catalogue all the same."""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def used_reasons() -> set[str]:
    """Return every ``Reason.X`` in the code."""
    return {
        node.attr
        for path, tree in sources()
        if path != ROOT / "trust" / "errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
        and NAME.fullmatch(node.attr)
    }


def test_names_are_what_the_wire_allows_in_alphabetical_order() -> None:
    names = [reason.name for reason in Reason]
    assert names == sorted(names)
    for name in names:
        assert NAME.fullmatch(name), name
        assert len(name) <= 63, name  # google.rpc.ErrorInfo
    assert ERROR_DOMAIN == "probegate"


def test_no_two_reasons_are_one() -> None:
    # Two names of one row would be aliases, and the second would never be given.
    assert len(Reason.__members__) == len(list(Reason))
    messages = [reason.entry.message for reason in Reason]
    assert len(set(messages)) == len(messages)


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_each_says_what_is_wrong_and_what_to_do_in_a_sentence_each(reason: Reason) -> None:
    for sentence in (reason.entry.message, reason.entry.remedy):
        assert sentence[0].isupper() or sentence[0] == "`"
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert "|" not in sentence  # it stands in a table
        assert 10 < len(sentence) < 160


def test_every_status_is_one_of_grpcs() -> None:
    assert {status.value for status in Status} <= {code.name for code in grpc.StatusCode}
    assert not {"INTERNAL", "UNKNOWN", "OK"} & {status.value for status in Status}


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_what_a_peer_is_told_is_the_catalogues_sentence_and_nothing_else(reason: Reason) -> None:
    secret = "the operator's own detail"
    status = to_status(ProbegateError(reason, secret))
    assert status.details == reason.entry.message
    assert status.code.name == reason.entry.status.value
    assert all(secret.encode() not in value for _, value in status.trailing_metadata)


def test_the_page_is_the_catalogue() -> None:
    assert ERRORS.read_text() == errors_page()
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", ERRORS.read_text(), re.MULTILINE)
    assert rows == [reason.name for reason in Reason]


def test_the_code_gives_every_reason_and_no_other() -> None:
    used = used_reasons()
    assert used <= set(Reason.__members__)
    assert set(Reason.__members__) - used == {reason.name for reason in UNUSED}


def test_nothing_is_raised_that_is_not_of_the_catalogue() -> None:
    """No other exception class is made; what leaves is a ``ProbegateError`` or Python's own."""
    made = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(base, ast.Name) and base.id.endswith(("Error", "Exception"))
            for base in node.bases
        )
    ]
    assert sorted(made) == sorted(INTERNAL_EXCEPTIONS)


INTERNAL_EXCEPTIONS = [
    # GALLERY_UNAVAILABLE, told from the others by whoever has a newer generation to ask
    "agency_adapters/galleries/gallery.py: GenerationGoneError",
    # IMPORT_INVALID, with the rows that the command shows
    "agency_adapters/galleries/rejecting.py: RowsRejectedError",
    "audit/writer.py: _CallerError",  # tells a caller's failure from the storage's; never leaves
    "broker/dispatch.py: SwitchedOffError",  # becomes an outcome where it is caught
    "trust/errors.py: ProbegateError",
]
