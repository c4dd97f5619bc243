"""A sitting on paper, as it were: one page that a reviewer works on, and the findings it saves.

The page holds everything it needs and sends nothing: its policy allows it no address at all. The
letters' meaning is not in it (``Sitting.keep``), nor is anything of the case, a score or an agency.
The page measures time at each candidate while that candidate is on view and the page is visible.

What the page saves is a file for ``submit_findings``; it is a stranger's until it is checked.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from force_client.second_step.images import Picture
from force_client.second_step.sitting import Noted, Seat, SittingNotes
from trust import files
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_RANKED, MAX_REASON_CHARS, FreeText, Model, Uuid
from trust.second_step import MAX_SECONDS_ON_TASK, Opinion, Words

MAX_FINDINGS_BYTES: Final = 16 * 2**20
"""Largest file of findings, bytes."""
_OPINIONS: Final[Mapping[Opinion, tuple[str, str]]] = {
    Opinion.POTENTIAL_CANDIDATE: ("Potential candidate", "The two may be the same person."),
    Opinion.NO_CANDIDATE: ("No candidate", "The two are not the same person."),
    Opinion.INCONCLUSIVE: ("Inconclusive", "The images do not allow an opinion."),
}


class SheetFinding(Model):
    """What a reviewer wrote of one letter."""

    label: Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,4}$")]
    opinion: Opinion
    reasons: Words
    disconfirming: FreeText = ""
    seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS_ON_TASK)]
    looked: bool


class Findings(Model):
    """What a sheet saves."""

    v: Literal[1]
    review_id: Uuid
    search_id: Uuid
    findings: Annotated[tuple[SheetFinding, ...], Field(min_length=1, max_length=MAX_RANKED)]

    @property
    def noted(self) -> Mapping[str, Noted]:
        """The findings by letter."""
        return {
            one.label: Noted(
                seconds=float(one.seconds),
                looked=one.looked,
                opinion=one.opinion,
                reasons=one.reasons,
                disconfirming=one.disconfirming,
            )
            for one in self.findings
        }


def read_findings(path: Path) -> Findings:
    """Read a file that a sheet saved.

    Raises:
        ProbegateError: ``FILE_MISSING``, or ``REVIEW_INVALID`` with the field's name.
    """
    content = files.read(path)
    if len(content) > MAX_FINDINGS_BYTES:
        raise ProbegateError(Reason.REVIEW_INVALID, f"{path} is too large", field="findings")
    try:
        findings = Findings.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ProbegateError(
            Reason.REVIEW_INVALID, first["type"], field=place or "findings"
        ) from None
    if len({one.label for one in findings.findings}) != len(findings.findings):
        raise ProbegateError(Reason.REVIEW_INVALID, "a letter twice", field="findings.label")
    return findings


def findings_of(sitting: SittingNotes) -> Findings:
    """Return what was found at a sitting, as a sheet would have saved it.

    Raises:
        ProbegateError: ``REVIEW_INVALID`` while a candidate has no finding.
    """
    return Findings(
        v=1,
        review_id=sitting.review_id,
        search_id=sitting.search_id,
        findings=tuple(
            SheetFinding(
                label=label,
                opinion=opinion,
                reasons=noted.reasons,
                disconfirming=noted.disconfirming,
                seconds=min(int(noted.seconds), MAX_SECONDS_ON_TASK),
                looked=noted.looked,
            )
            for label, opinion, noted in sitting.found()
        ),
    )


def render_sheet(sitting: SittingNotes, banner: str) -> str:
    """Return a sitting as one self-contained page; keep it its owner's alone.

    Args:
        sitting: the sitting; call its ``keep`` too.
        banner: what stands at the head of everything that shows candidates.
    """
    script, style = _part("sheet.js"), _part("sheet.css")
    probe = _data_uri(sitting.probe) if sitting.probe is not None else ""
    return Template(_part("sheet.html")).substitute(
        banner=escape(banner),
        script=script,
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
        style=style,
        review_id=escape(sitting.review_id),
        search_id=escape(sitting.search_id),
        reviewer=escape(sitting.reviewer.id),
        count=len(sitting.candidates),
        probe=probe,
        letters="\n".join(_letter(one) for one in sitting.seats),
        candidates="\n".join(
            _candidate(one, len(sitting.candidates), banner, has_probe=bool(probe))
            for one in sitting.seats
        ),
    )


def _letter(seat: Seat) -> str:
    label = seat.candidate.label
    return (
        f'<li><button type="button" data-go="{label}" aria-label="Candidate {label}, to do">'
        f"{label}</button></li>"
    )


def _candidate(seat: Seat, count: int, banner: str, *, has_probe: bool) -> str:
    label, shown = seat.candidate.label, seat.candidate.shown
    comparable = has_probe and seat.picture is not None
    probe = (
        f'<img data-probe alt="The probe, beside candidate {label}">'
        if has_probe
        else '<p class="none">No probe image</p>'
    )
    image = (
        f'<img data-image src="{_data_uri(seat.picture)}" alt="Candidate {label}">'
        if seat.picture is not None
        else '<p class="none">No image of this candidate</p>'
    )
    why_not = (
        ""
        if comparable
        else '<p class="note">Without both images only "Inconclusive" can be recorded.</p>'
    )
    return f"""<section id="c-{label}" data-label="{label}" aria-labelledby="h-{label}">
<p class="printed">{escape(banner)}</p>
<h2 id="h-{label}" tabindex="-1">Candidate {label} <small>{shown} of {count}</small></h2>
<div class="work">
<div class="pair">
<figure><div class="frame">{probe}</div><figcaption>Probe</figcaption></figure>
<figure><div class="frame">{image}</div><figcaption>Candidate {label}</figcaption></figure>
</div>
<form autocomplete="off">
<fieldset><legend>Your opinion</legend>
{"".join(_choice(label, one, enabled=comparable) for one in Opinion)}
</fieldset>
{why_not}
<label for="r-{label}">Reasons <span>(needed; name nobody)</span></label>
<textarea id="r-{label}" data-field="reasons" rows="5" maxlength="{MAX_REASON_CHARS}"
 required></textarea>
<label for="d-{label}">What speaks against it</label>
<textarea id="d-{label}" data-field="disconfirming" rows="3"
 maxlength="{MAX_REASON_CHARS}"></textarea>
</form>
</div>
</section>"""


def _choice(label: str, opinion: Opinion, *, enabled: bool) -> str:
    title, meaning = _OPINIONS[opinion]
    off = "" if enabled or opinion is Opinion.INCONCLUSIVE else " disabled"
    return (
        f'<label class="choice"><input type="radio" name="o-{label}" value="{opinion.value}"{off}>'
        f"<span><strong>{title}</strong> {meaning}</span></label>"
    )


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.content).decode()}"


@lru_cache
def _part(name: str) -> str:
    return (resources(__package__) / name).read_text(encoding="utf-8")
