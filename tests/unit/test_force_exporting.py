"""What may leave the force: the rules, over every case, and documents that cannot be forged."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from force_client.second_step.exporting import (
    BANNER,
    as_html,
    as_json,
    as_text,
    document,
    require_exportable,
)
from force_client.second_step.models import OpenedDisclosure, Receipt, RecordedCorroboration
from trust.dsse import Envelope, Signature
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.second_step import (
    Corroboration,
    CorroborationKind,
    DisclosedField,
    Disclosure,
    Nature,
)

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ID = "4fa3c1de-0000-4000-8000-000000000001"
NO_SURROGATES: Final[tuple[Literal["Cs"]]] = ("Cs",)
VALUES = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=NO_SURROGATES),
    max_size=80,
)
DETAILS = st.text(st.characters(exclude_categories=NO_SURROGATES), max_size=80)
"""What an agency may write: control characters too."""


def evidence(material: str = "statement 12") -> RecordedCorroboration:
    said = Corroboration(
        corroboration_id=ID,
        search_id=ID,
        order_sha256=bytes(32),
        force="northshire",
        agency="custody",
        reference="custody-a",
        kind=CorroborationKind.WITNESS,
        case_material=material,
        person=Person(id="ns-4411"),
        recorded_at=NOW,
    )
    return RecordedCorroboration(said, Receipt(b"proof", b"leaf"))


@st.composite
def disclosures(draw: st.DrawFn) -> OpenedDisclosure:
    names = draw(
        st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True), min_size=1, max_size=6, unique=True)
    )
    details = Disclosure(
        request_sha256=bytes(32),
        search_id=ID,
        agency="custody",
        reference="custody-a",
        fields=tuple(
            DisclosedField(name=one, value=draw(DETAILS), nature=draw(st.sampled_from(Nature)))
            for one in names
        ),
        subject_category=draw(st.sampled_from(("", "suspect", "witness"))),
        caveats=tuple(draw(st.lists(VALUES, max_size=3))),
        delete_by=NOW + timedelta(days=1),
        onward_transfer="never",
        released_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    signed = Envelope("type", b"payload", (Signature("key", b"signature"),))
    return OpenedDisclosure(ID, details, signed, draw(VALUES))


@settings(deadline=None)
@given(
    st.booleans(),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(-3000, 3000)),
)
def test_what_may_leave(recalled: bool, known: int, seconds: int | None) -> None:  # noqa: FBT001
    """Recalled: never. Without evidence: never. Past its end: never. Otherwise: always."""
    delete_by = None if seconds is None else NOW + timedelta(seconds=seconds)
    expected = (
        Reason.STOP_USE
        if recalled
        else Reason.CORROBORATION_MISSING
        if not known
        else Reason.RELEASE_EXPIRED
        if seconds is not None and seconds <= 0
        else None
    )
    evidences = [evidence()] * known
    if expected is None:
        require_exportable(evidences, delete_by, NOW, recalled=recalled)
        return
    with pytest.raises(ProbegateError) as refused:
        require_exportable(evidences, delete_by, NOW, recalled=recalled)
    assert refused.value.reason is expected


class Cells(HTMLParser):
    """The tags of a page, and the text of its table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attrs if name.startswith("on")}
        self.tags.add(tag)
        if tag == "td":
            self._inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


def one_line(value: str) -> str:
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in value)
    return " ".join("".join(kept).split())


def unseen(text: str) -> set[str]:
    """The characters of a text that do something and are not seen, but for line ends and tabs."""
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf"}} - set("\t\n\r")


def spelt_out(value: str) -> str:
    """A value as a page shows it."""
    return "".join(json.dumps(c)[1:-1] if c in unseen(value) else c for c in value)


PAGE_TAGS = {"html", "head", "meta", "title", "style", "body", "main", "p", "strong"}
PAGE_TAGS |= {"h1", "h2", "table", "tr", "th", "td"}


@settings(deadline=None)
@given(disclosures(), VALUES.filter(bool))
def test_a_page_shows_every_value_as_text(opened: OpenedDisclosure, material: str) -> None:
    page = as_html(document(opened, [evidence(material)], NOW))
    read = Cells()
    read.feed(page)
    assert read.tags <= PAGE_TAGS
    for value in (*(one.value for one in opened.details.fields), *opened.details.caveats, material):
        shown = spelt_out(value)
        assert shown in read.cells or shown.replace("\r", "\n") in read.cells
    assert page.count(BANNER) == 2


HIDDEN = "a\x1b[2J\x7f\x9b31m\u202e\u2066\u200b\U000e0041z"


def hiding() -> OpenedDisclosure:
    """Details whose value would repaint a terminal and turn writing round."""
    field = DisclosedField(name="name", value=HIDDEN, nature=Nature.FACT)
    details = Disclosure(
        request_sha256=bytes(32),
        search_id=ID,
        agency="custody",
        reference="custody-a",
        fields=(field,),
        caveats=("a\x9b31m\u202ez",),
        delete_by=NOW + timedelta(days=1),
        onward_transfer="never",
        released_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    signed = Envelope("type", b"payload", (Signature("key", b"signature"),))
    return OpenedDisclosure(ID, details, signed, "")


@pytest.mark.parametrize("write", [as_html, as_json, as_text])
def test_no_export_holds_what_is_not_seen(write: Callable[[Any], str]) -> None:
    content = write(document(hiding(), [evidence()], NOW))
    assert unseen(content) == set()
    if write is as_json:
        assert json.loads(content)["details"][0]["value"] == HIDDEN
    if write is as_html:
        assert r"\u202e" in content


@settings(deadline=None)
@given(disclosures(), VALUES.filter(bool))
def test_no_value_can_pass_for_a_line_of_the_text(opened: OpenedDisclosure, material: str) -> None:
    text = as_text(document(opened, [evidence(material)], NOW))
    lines = text.split("\n")
    assert lines[0] == BANNER
    assert [line for line in lines if line == BANNER] == [BANNER, BANNER]
    facts = [one for one in opened.details.fields if one.nature is Nature.FACT]
    if facts:
        start = lines.index("Facts") + 2
        shown = lines[start : start + len(facts)]
        assert shown == [f"{one.name}: {one_line(one.value)}" for one in facts]
    else:
        assert "Facts" not in lines


@settings(deadline=None)
@given(disclosures())
def test_a_document_marks_facts_and_assessments(opened: OpenedDisclosure) -> None:
    said = json.loads(as_json(document(opened, [evidence()], NOW)))
    assert next(iter(said)) == "notice"
    assert said["notice"] == BANNER
    natures = {one["name"]: one["nature"] for one in said["details"]}
    assert natures == {one.name: one.nature.value for one in opened.details.fields}
    assert said["terms"]["caveats"] == list(opened.details.caveats)
    assert said["terms"]["delete_by"] == opened.details.delete_by.isoformat()
    assert said["corroboration"][0]["case_material"] == "statement 12"
