"""A verified search as people and programs read it."""

from __future__ import annotations

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.checkpoints import Checkpoint
from audit.notes import split_note
from audit.proofs import parse_proof
from cli.output import plain, text
from cli.second_step import stop_use
from force_client import (
    LEAD_ONLY,
    SCALE_NOTE,
    AgencyOutcome,
    Lane,
    LanedCandidate,
    SearchView,
    support,
)
from trust.messages import HIT_ONLY, Completeness, ExpectedFalse, OutcomeState, SearchLimits

BANNER: Final = LEAD_ONLY
WARNINGS: Final = {
    "necessity.short": "the necessity says very little",
    "proportionality.short": "the proportionality says very little",
    "reasons.repeated": "the same reasons were given in another case",
}
"""The signs of boilerplate in words."""
_STYLES: Final = {
    OutcomeState.CANDIDATES: "bold green",
    OutcomeState.NO_CANDIDATE: "green",
    OutcomeState.DENIED: "yellow",
    OutcomeState.HELD: "yellow",
}
_NO_ANSWER: Final = "red"
_RANKING_NOTE: Final = "Expected false: how many other people there are expected to score as high."
_GROUP_NOTE: Final = "Same #: one person, these agencies say. Of a group the strongest line counts."


def document(view: SearchView) -> dict[str, Any]:
    """Return a search as one JSON value."""
    return {
        "search_id": view.search_id,
        "request_id": view.request_id,
        "order_sha256": view.order_sha256.hex(),
        "state": view.state.value,
        "complete": view.complete,
        "missing": list(view.missing),
        "completeness": asked_for(view.limits),
        "sufficient": view.sufficient,
        "revision": view.revision,
        "warnings": list(view.warnings),
        "confirm_by": view.confirm_by.isoformat() if view.confirm_by else None,
        "outcomes": [
            {
                "agency": one.agency,
                "state": one.state.value,
                "reason": one.reason,
                "failed_clauses": list(one.failed_clauses),
                "decided_by": one.decided_by,
                "candidates": [
                    {"reference": c.reference, "score": c.score, "rank": c.rank} | _strength(c)
                    for c in one.candidates
                ],
                "matcher": one.matcher,
                "calibration": one.calibration,
                "threshold": one.threshold,
                "gallery_class": one.gallery_class,
                "exact": one.exact,
                "latency_ms": round(one.latency_ms, 3),
                "late_at": one.late_at.isoformat() if one.late_at else None,
                "erased_at": one.erased_at.isoformat() if one.erased_at else None,
                "released": one.released,
            }
            for one in view.outcomes
        ],
        "ranking": [
            {"place": place, **_candidate(one), "support": support(one.log10_lr or 0.0)}
            for place, one in enumerate(view.ranking, 1)
        ],
        "lanes": [
            {
                "agency": lane.agency,
                "matcher": lane.matcher,
                "candidates": [_candidate(one) for one in lane.candidates],
            }
            for lane in view.lanes
        ],
        "groups": [
            {
                "group": group.number,
                "log10_lr": group.log10_lr,
                "agencies": sorted({one.agency for one in group.candidates}),
                "references": [one.reference for one in group.candidates],
            }
            for group in view.groups
        ],
        "candidates": [_candidate(one) for one in view.candidates],
        "notice": BANNER,
        "stop_use": [
            {"agency": agency, "reference": reference}
            for agency, reference in sorted(view.stop_use)
        ],
        "receipt": view.receipt,
        "verified": view.verified,
    }


def _candidate(one: LanedCandidate) -> dict[str, Any]:
    return {
        "agency": one.agency,
        "reference": one.reference,
        "score": one.score,
        "rank": one.rank,
        "lane": one.lane,
        "group": one.group,
    } | _strength(one)


def _strength(one: LanedCandidate) -> dict[str, Any]:
    expected = one.expected_false
    return {
        "log10_lr": one.log10_lr,
        "expected_false": expected.model_dump() if expected else None,
    }


def progress(outcome: AgencyOutcome) -> Text:
    """Return one line for an outcome that has just come."""
    line = Text("  ")
    line.append_text(text(outcome.agency))
    line.append(": ")
    line.append_text(_state(outcome))
    if outcome.latency_ms:
        line.append(f" ({outcome.latency_ms:.0f} ms)", "dim")
    return line


def show(view: SearchView, screen: Console) -> None:
    """Print a search: the ranking, raw scores apart, outcomes, and what the evidence is worth."""
    screen.print()
    if view.candidates or any(one.reason == HIT_ONLY for one in view.outcomes):
        screen.print(Text(BANNER, "bold reverse"), justify="center")
    if view.ranking:
        screen.print(Text("Ranked by strength of evidence", "bold"))
        screen.print(_ranking(view))
        screen.print(Text(_RANKING_NOTE, "dim"))
        screen.print(Text(SCALE_NOTE, "dim"))
    for lane in view.lanes:
        screen.print()
        scale = f"raw scores of {lane.matcher or 'an unnamed matcher'}, in no ranking"
        screen.print(text(f"{lane.agency}: {scale}", "bold"))
        screen.print(_lane(lane))
    if len(view.lanes) + bool(view.ranking) > 1:
        screen.print("Scores of different lists are on different scales: never compare them.")
    if view.groups:
        screen.print(Text(_GROUP_NOTE))
    screen.print(_outcomes(view))
    screen.print(_completeness(view))
    for line in notices(view):
        screen.print(text(line, "yellow"))
    screen.print(_receipt(view))


def notices(view: SearchView) -> list[str]:
    """Return what people must be told of a search besides what it found."""
    lines = stop_use(view.stop_use)
    lines += [f"Warning: {WARNINGS.get(one, one)}." for one in view.warnings]
    if view.confirm_by is not None:
        ranks = sorted({one.confirmer_rank for one in view.decisions if one.confirm_by})
        lines.append(
            f"Urgent: to be confirmed in writing by {view.confirm_by:%Y-%m-%d %H:%M} UTC, by a "
            f"{' and a '.join(map(plain, ranks))} or above (`probegate confirm`). Otherwise later "
            f"searches of this officer are denied."
        )
    return lines


def _outcomes(view: SearchView) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Agency", overflow="fold", max_width=24)
    table.add_column("Outcome", no_wrap=True)
    table.add_column("Reason", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    for one in view.outcomes:
        latency = f"{one.latency_ms:.0f}" if one.latency_ms else ""
        table.add_row(text(one.agency), _state(one), _reason(one), latency)
    return table


def _state(outcome: AgencyOutcome) -> Text:
    count = len(outcome.candidates)
    said = outcome.state.value.replace("_", " ")
    if outcome.reason == HIT_ONLY:
        said = "something is held"
    elif count:
        said = f"{count} candidate{'s' if count > 1 else ''}"
    return Text(said, _STYLES.get(outcome.state, _NO_ANSWER))


def _reason(outcome: AgencyOutcome) -> Text:
    parts = [plain(outcome.reason)] if outcome.reason else []
    if outcome.decided_by:
        parts.append(f"(by the {outcome.decided_by})")
    if outcome.state is OutcomeState.HELD:
        parts.append("a person there must release the answer")
    if outcome.late_at is not None:
        came = "released" if outcome.released else "came late"
        parts.append(f"{came}, {outcome.late_at:%Y-%m-%d %H:%M} UTC")
    if outcome.erased_at is not None:
        parts.append(f"erased {outcome.erased_at:%Y-%m-%d %H:%M} UTC: its time is over")
    reason = Text(" ".join(parts))
    if outcome.failed_clauses:
        reason.append("\n" if parts else "")
        reason.append_text(text(", ".join(outcome.failed_clauses), "dim"))
    return reason


def _lane(lane: Lane) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Rank", justify="right")
    table.add_column("Score", justify="right")
    table.add_column("Reference", overflow="fold")
    table.add_column("Same", no_wrap=True)
    for one in lane.candidates:
        table.add_row(str(one.rank), f"{one.score:.4f}", text(one.reference), _same(one))
    return table


def _ranking(view: SearchView) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("Agency", overflow="fold", max_width=14)
    table.add_column("Reference", overflow="fold", max_width=20)
    table.add_column("log10 LR", overflow="fold", max_width=18)
    table.add_column("Expected false", no_wrap=True)
    table.add_column("Same", no_wrap=True)
    for place, one in enumerate(view.ranking, 1):
        strength = one.log10_lr or 0.0
        table.add_row(
            str(place),
            text(one.agency),
            text(one.reference),
            f"{strength:.2f} {support(strength)}",
            expectation(one.expected_false) if one.expected_false else "",
            _same(one),
        )
    return table


def _same(one: LanedCandidate) -> str:
    return f"#{one.group}" if one.group else ""


def expectation(expected: ExpectedFalse) -> str:
    """Return an expected number with its interval, such as ``0.3 (0.1-0.9)``."""
    low, high = f"{expected.low:.2g}", f"{expected.high:.2g}"
    return f"{expected.expected:.2g} ({low}-{high})"


def asked_for(limits: SearchLimits) -> str:
    """Return how much the order asks for, as the command line has it."""
    least = f":{limits.min_answers}" if limits.min_answers else ""
    return f"{limits.completeness.value}{least}"


def _completeness(view: SearchView) -> Text:
    if not view.state.ended:
        return text(f"Still running: {len(view.missing)} to come. Nothing of this is final.", "red")
    if view.complete:
        line = Text("Complete: every agency named gave its answer.", "green")
    else:
        missing = ", ".join(view.missing)
        said = f"Not complete: nothing final from {missing}. That is never a 'no match'."
        line = text(said, "red")
    if view.limits.completeness is not Completeness.BEST_EFFORT:
        line.append("\n")
        reached = Text("enough.", "green") if view.sufficient else Text("not enough.", "bold red")
        line.append_text(text(f"Asked for {_WANTED[view.limits.completeness]}"))
        if view.limits.min_answers:
            searched = sum(one.state.searched for one in view.outcomes)
            line.append(f" {view.limits.min_answers}, got {searched}")
        line.append(": ")
        line.append_text(reached)
    return line


_WANTED: Final = {
    Completeness.ALL: "an answer of every agency",
    Completeness.MIN_N: "agencies that searched, at least",
}


def _receipt(view: SearchView) -> Text:
    if not view.verified:
        return Text(
            "Each report is verified; result and receipt are there when it has ended.", "dim"
        )
    proof = parse_proof(view.receipt)
    checkpoint = Checkpoint.parse(split_note(proof.note)[0])
    anew = f", revision {view.revision}" if view.revision else ""
    return text(
        f"Verified: signatures, outcomes and receipt (entry {proof.index} of {checkpoint.origin}, "
        f"size {checkpoint.size}{anew}).",
        "green",
    )
