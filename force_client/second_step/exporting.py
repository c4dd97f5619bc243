"""What may leave this force's hands, and how it looks: details as a document, never without terms.

1. Nothing is exported on a comparison of faces alone: without independent evidence that this force
   recorded for this very candidate it is ``CORROBORATION_MISSING``.
2. Nothing recalled is exported (``STOP_USE``), nor anything past the day it is to be deleted by.
3. Every document says at its head that it is an investigative lead only, and carries what travels
   with the details: caveats, retention, onward transfer, the subject's category, and for each
   detail whether it is a fact or somebody's assessment (DPA 2018 s.38(2)).
4. What agencies wrote is text: it is never markup in a page, and nowhere does it hold characters
   that are not seen (controls, and what turns writing round): they are spelt out, or spaces.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from force_client.second_step.models import OpenedDisclosure, RecordedCorroboration
from trust.errors import ProbegateError, Reason
from trust.second_step import DisclosedField, Nature

BANNER: Final = "INVESTIGATIVE LEAD ONLY: not identification, not evidence"
_NOT_STATED: Final = "not stated"
_UNSEEN: Final = frozenset({"Cc", "Cf"})
"""The Unicode categories of characters that do something and are not seen."""
_NATURES: Final[Mapping[Nature, str]] = {Nature.FACT: "fact", Nature.ASSESSMENT: "assessment"}


def require_exportable(
    evidence: Sequence[RecordedCorroboration],
    delete_by: datetime | None,
    now: datetime,
    *,
    recalled: bool,
) -> None:
    """Refuse what must not leave: rules (1) and (2).

    Args:
        evidence: what was recorded for this candidate that does not come from comparing faces.
        delete_by: when the details are to be deleted, None before they were opened.
        now: the time.
        recalled: whether the candidate is marked.

    Raises:
        ProbegateError: ``STOP_USE``, ``CORROBORATION_MISSING`` or ``RELEASE_EXPIRED``.
    """
    if recalled:
        raise ProbegateError(Reason.STOP_USE)
    if not evidence:
        raise ProbegateError(Reason.CORROBORATION_MISSING)
    if delete_by is not None and now >= delete_by:
        raise ProbegateError(Reason.RELEASE_EXPIRED)


def document(
    opened: OpenedDisclosure, evidence: Sequence[RecordedCorroboration], exported_at: datetime
) -> dict[str, Any]:
    """Return the export as one JSON value (3)."""
    details = opened.details
    return {
        "notice": BANNER,
        "request_id": opened.request_id,
        "search_id": details.search_id,
        "agency": details.agency,
        "reference": details.reference,
        "subject_category": details.subject_category or None,
        "details": [
            {"name": one.name, "value": one.value, "nature": one.nature.value}
            for one in details.fields
        ],
        "terms": {
            "caveats": list(details.caveats),
            "delete_by": details.delete_by.isoformat(),
            "onward_transfer": details.onward_transfer,
        },
        "released_at": details.released_at.isoformat(),
        "asked_for": opened.asked_for or None,
        "corroboration": [
            {
                "kind": one.corroboration.kind.value,
                "case_material": one.corroboration.case_material,
                "recorded_at": one.corroboration.recorded_at.isoformat(),
            }
            for one in evidence
        ],
        "exported_at": exported_at.isoformat(),
        "signed_by_agency": json.loads(opened.signed.to_json()),
    }


def as_json(exported: Mapping[str, Any]) -> str:
    """Return an export for programs: the same value, with no character that is not seen (4)."""
    return _spelt_out(json.dumps(exported, indent=2, ensure_ascii=False), "\n") + "\n"


def as_text(exported: Mapping[str, Any]) -> str:
    """Return an export for people, as plain text."""
    lines = [BANNER, "=" * len(BANNER), ""]
    for title, rows in _sections(exported):
        lines += [title, "-" * len(title)]
        lines += [f"{_flat(label)}: {_flat(value)}" for label, value in rows]
        lines.append("")
    return "\n".join([*lines, BANNER, ""])


def as_html(exported: Mapping[str, Any]) -> str:
    """Return an export for people, as one page without scripts (4)."""
    banner = f'<p class="banner" role="note"><strong>{escape(BANNER)}</strong></p>'
    parts = [_HEAD, banner, "<main>", "<h1>Details behind one reference</h1>"]
    for title, rows in _sections(exported):
        parts += [f"<h2>{escape(title)}</h2>", "<table>"]
        parts += [
            f'<tr><th scope="row">{_in_page(label)}</th><td>{_in_page(value)}</td></tr>'
            for label, value in rows
        ]
        parts.append("</table>")
    return "\n".join([*parts, "</main>", banner, "</body>", "</html>", ""])


WRITERS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    ".json": as_json,
    ".txt": as_text,
    ".html": as_html,
}
"""How an export looks, by the end of its file's name."""


def writer_for(path: Path) -> Callable[[Mapping[str, Any]], str]:
    """Return what writes a file of this name.

    Raises:
        ProbegateError: ``USAGE`` for another end than ``WRITERS`` has.
    """
    try:
        return WRITERS[path.suffix]
    except KeyError:
        ends = ", ".join(WRITERS)
        raise ProbegateError(Reason.USAGE, f"end the file's name in {ends}", option="out") from None


def terms_of(opened: OpenedDisclosure) -> list[tuple[str, str]]:
    """Return the terms that travel with details, as labels and words."""
    details = opened.details
    return [
        ("Subject category", details.subject_category or _NOT_STATED),
        *(("Caveat", one) for one in details.caveats),
        ("Delete by", f"{details.delete_by:%Y-%m-%d %H:%M} UTC"),
        ("Onward transfer", details.onward_transfer),
    ]


def labelled(one: DisclosedField) -> tuple[str, str]:
    """Return a detail with its label, which says whether it is a fact or an assessment."""
    return f"{one.name} ({_NATURES[one.nature]})", one.value


def _sections(exported: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    terms = exported["terms"]
    facts, assessments = (
        [(one["name"], one["value"]) for one in exported["details"] if one["nature"] == nature]
        for nature in (Nature.FACT, Nature.ASSESSMENT)
    )
    sections = [
        (
            "Record",
            [
                ("Agency", exported["agency"]),
                ("Reference", exported["reference"]),
                ("Subject category", exported["subject_category"] or _NOT_STATED),
            ],
        ),
        ("Facts", facts),
        ("Assessments (somebody's opinion, not facts)", assessments),
        (
            "Terms",
            [
                *(("Caveat", one) for one in terms["caveats"]),
                ("Delete by", terms["delete_by"]),
                ("Onward transfer", terms["onward_transfer"]),
            ],
        ),
        (
            "Evidence that does not come from comparing faces",
            [(one["kind"], one["case_material"]) for one in exported["corroboration"]],
        ),
        (
            "Where this comes from",
            [
                ("Search", exported["search_id"]),
                ("Request", exported["request_id"]),
                ("Asked for", exported["asked_for"] or _NOT_STATED),
                ("Released", exported["released_at"]),
                ("Exported", exported["exported_at"]),
            ],
        ),
    ]
    return [(title, rows) for title, rows in sections if rows]


def _in_page(text: str) -> str:
    return escape(_spelt_out(text, "\t\n\r"))


def _spelt_out(text: str, kept: str) -> str:
    """Return text with characters that are not seen as JSON escapes them, all but ``kept``."""
    unseen = {c for c in set(text) - set(kept) if unicodedata.category(c) in _UNSEEN}
    return text.translate({ord(c): json.dumps(c)[1:-1] for c in unseen})


def _flat(text: str) -> str:
    """Return text on one line, so that a value cannot pass for a line of the document's own.

    Control characters, which could repaint a terminal or turn its writing round, become spaces.
    """
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join("".join(kept).split())


_HEAD: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Investigative lead only</title>
<style>
body { margin: 0; font: 16px/1.5 "DejaVu Sans", Arial, sans-serif; color: #111; background: #fff; }
main { max-width: 50rem; margin: 0 auto; padding: 0 1.5rem 1.5rem; }
.banner { margin: 0; padding: .75rem 1.5rem; background: #7a1f00; color: #fff; text-align: center; }
h2 { margin: 1.5rem 0 .25rem; font-size: 1.1rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid #bbb; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { width: 14rem; font-weight: 600; }
@media print { .banner { background: #fff; color: #000; border: 2px solid #000; }
  tr { break-inside: avoid; } }
</style>
</head>
<body>"""
