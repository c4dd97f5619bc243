"""The review sheet: it sends nothing, tells nothing, and what it saves is a stranger's.

That it works in a browser was looked at in one; what can be held without one is held here.
"""

from __future__ import annotations

import base64
import json
import re
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from force_client.second_step.exporting import BANNER
from force_client.second_step.images import Picture
from force_client.second_step.sheet import Findings, SheetFinding, read_findings, render_sheet
from force_client.second_step.sitting import SittingNotes
from tests.unit.force_scene import Scene
from tests.unit.force_second_peer import png
from tests.unit.test_force_sitting import PROBE, matter_of, scene, sitting_of
from trust.errors import ProbegateError, Reason

__all__ = ["scene"]
ID = "4fa3c1de-0000-4000-8000-000000000001"
REFERENCES = {"custody": ("reference-one", "reference-two"), "asylum": ("reference-six",)}


class Page(HTMLParser):
    """The elements of a page with what is on them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag]


@pytest.fixture
def sitting(scene: Scene) -> SittingNotes:
    matter = matter_of(scene, REFERENCES)
    pictures = {
        ("custody", "reference-one"): Picture("image/png", png(10)),
        ("asylum", "reference-six"): Picture("image/jpeg", b"\xff\xd8\xff jpeg"),
    }
    return sitting_of(matter, pictures=pictures)


def test_a_sheet_tells_neither_who_nor_how_likely(sitting: SittingNotes) -> None:
    page = render_sheet(sitting, BANNER)
    for hidden in ("custody", "asylum", "reference-", "score", "log10", "0.81"):
        assert hidden not in page
    assert page.count(BANNER) == 1 + 3  # at the head, and on each printed page
    assert sitting.review_id in page


def test_a_sheet_may_reach_no_address(sitting: SittingNotes) -> None:
    text = render_sheet(sitting, BANNER)
    page = Page(text)
    (policy,) = [m["content"] for m in page.of("meta") if "http-equiv" in m]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert "form-action" in rules
    assert "http://" not in text
    assert "https://" not in text
    for tag in ("link", "iframe", "object", "a"):
        assert page.of(tag) == []
    assert all(not name.startswith("on") for _, found in page.elements for name in found)


def test_each_candidate_is_beside_the_probe_and_labelled(sitting: SittingNotes) -> None:
    page = Page(render_sheet(sitting, BANNER))
    labels = [one.label for one in sitting.candidates]
    assert [one["data-label"] for one in page.of("section")] == labels
    ids = {found["id"] for _, found in page.elements if "id" in found}
    for section in page.of("section"):
        assert section["aria-labelledby"] in ids
    for label in page.of("label"):
        assert label.get("for") in {None, *ids}
    images = page.of("img")
    assert all("alt" in one for one in images)
    assert len([one for one in images if "data-probe" in one]) == 3
    shown = [one["src"] for one in images if "data-image" in one]
    assert len(shown) == 2
    assert any(str(one).startswith("data:image/jpeg;base64,") for one in shown)


@pytest.mark.parametrize("has_probe", [True, False])
def test_only_what_can_be_compared_can_be_judged(scene: Scene, *, has_probe: bool) -> None:
    matter = matter_of(scene, {"custody": ("a", "b")})
    pictures = {("custody", "a"): Picture("image/png", png(10))}
    made = sitting_of(matter, probe=PROBE if has_probe else None, pictures=pictures)
    page = Page(render_sheet(made, BANNER))
    for seat in made.seats:
        name = f"o-{seat.candidate.label}"
        choices = {c["value"]: "disabled" in c for c in page.of("input") if c.get("name") == name}
        off = not (has_probe and seat.picture is not None)
        assert choices == {
            "potential_candidate": off,
            "no_candidate": off,
            "inconclusive": False,
        }


def test_the_page_saves_what_is_read(sitting: SittingNotes) -> None:
    text = render_sheet(sitting, BANNER)
    for kind in (Findings, SheetFinding):
        for name in kind.model_fields:
            assert re.search(rf"\b{name}\b", text.split("<script>")[1]), name


def document(**changes: Any) -> dict[str, Any]:
    finding = {
        "label": "A",
        "opinion": "inconclusive",
        "reasons": "Blurred.",
        "disconfirming": "",
        "seconds": 3,
        "looked": False,
    }
    return {"v": 1, "review_id": ID, "search_id": ID, "findings": [finding]} | changes


def with_finding(**changes: Any) -> dict[str, Any]:
    made = document()
    made["findings"] = [made["findings"][0] | changes]
    return made


def test_findings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    path.write_text(json.dumps(document()))
    assert read_findings(path).noted["A"].seconds == 3.0


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "findings"),
        (b"[]", "findings"),
        (b"\xff", "findings"),
        (json.dumps(document(v=2)).encode(), "v"),
        (json.dumps(document(review_id="x")).encode(), "review_id"),
        (json.dumps(document(findings=[])).encode(), "findings"),
        (json.dumps(document(more=1)).encode(), "more"),
        (json.dumps(document(findings=document()["findings"] * 2)).encode(), "findings.label"),
        (json.dumps(with_finding(opinion="sure")).encode(), "findings.0.opinion"),
        (json.dumps(with_finding(opinion=None)).encode(), "findings.0.opinion"),
        (json.dumps(with_finding(reasons="")).encode(), "findings.0.reasons"),
        (json.dumps(with_finding(seconds=-1)).encode(), "findings.0.seconds"),
        (json.dumps(with_finding(seconds=90_000)).encode(), "findings.0.seconds"),
        (json.dumps(with_finding(label="../A")).encode(), "findings.0.label"),
    ],
)
def test_findings_that_are_none_are_refused(tmp_path: Path, content: bytes, field: str) -> None:
    path = tmp_path / "findings.json"
    path.write_bytes(content)
    with pytest.raises(ProbegateError) as refused:
        read_findings(path)
    assert refused.value.reason is Reason.REVIEW_INVALID
    assert refused.value.metadata == {"field": field}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_are_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("findings") / "findings.json"
    path.write_bytes(content)
    with pytest.raises(ProbegateError) as refused:
        read_findings(path)
    assert refused.value.reason is Reason.REVIEW_INVALID
