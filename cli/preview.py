"""``probegate preview``: what each agency's agreement says of these facts, without a search."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import facts
from cli.output import EXIT_ALL_DENIED, console, plain, print_json, text
from cli.results import WARNINGS, expectation
from force_client import AgencyDecision, AsyncForceClient, Explanation, ForceSettings
from trust.messages import MAX_DIMS

app = typer.Typer(add_completion=False)


@app.command()
def preview(
    *,
    purpose: facts.Purpose,
    legal_basis: facts.LegalBasis,
    case: facts.Case,
    officer: facts.Officer,
    authoriser: facts.Authoriser,
    agency: facts.Agencies,
    offence: facts.OffenceCode = "",
    seriousness: facts.Seriousness = "",
    aim: facts.Aim = "",
    subject_category: facts.SubjectCategory = "",
    schedule8: facts.Schedule8 = "",
    necessity: facts.Necessity = "",
    proportionality: facts.Proportionality = "",
    tried_first: facts.TriedFirst = [],  # noqa: B006 - typer copies it
    urgent: facts.Urgent = False,
    authorised_at: facts.AuthorisedAt = "",
    probe_source: facts.ProbeSource = facts.NOT_STATED,
    probe_quality: facts.ProbeQuality = 0,
    probe_edit: facts.ProbeEdits = [],  # noqa: B006 - typer copies it
    captured_at: facts.CapturedAt = "",
    model: facts.ModelId = "",
    dims: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_DIMS, metavar="N", rich_help_panel="The probe", help="Its dimensions."
        ),
    ] = 512,
    max_candidates: facts.MaxCandidates = 20,
    min_score: facts.MinScore = None,
    timeout: facts.Timeout = 10.0,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """See what each agency's agreement says of these facts, without a probe or a search.

    Every unmet clause is listed with what it requires.

    Exit status: 0 when at least one agency would be asked; 3 when every agency would be denied.
    """
    drafting = facts.drafting(
        purpose=purpose,
        legal_basis=legal_basis,
        case=case,
        offence=offence,
        seriousness=seriousness,
        aim=aim,
        subject_category=subject_category,
        schedule8=schedule8,
        necessity=necessity,
        proportionality=proportionality,
        tried_first=tried_first,
        urgent=urgent,
        authorised_at=authorised_at,
        probe_source=probe_source,
        probe_quality=probe_quality,
        probe_edits=probe_edit,
        captured_at=captured_at,
        max_candidates=max_candidates,
        min_score=min_score,
        timeout=timeout,
    )
    explained = asyncio.run(
        _preview(facts.settings_from(config), drafting, (officer, authoriser), agency, model, dims)
    )
    if as_json:
        shown = [_document(one) for one in explained.decisions]
        total = explained.expected_false
        print_json(
            {
                "decisions": shown,
                "warnings": list(explained.warnings),
                "expected_false": total.model_dump() if total else None,
                "without_expectation": list(explained.without_expectation),
            }
        )
    else:
        _show(explained.decisions, console())
        console().print(_expected(explained))
        for one in explained.warnings:
            console().print(text(f"Warning: {WARNINGS.get(one, one)}.", "yellow"))
    if not any(one.permitted for one in explained.decisions):
        raise typer.Exit(EXIT_ALL_DENIED)


async def _preview(
    settings: ForceSettings,
    drafting: facts.Drafting,
    people: tuple[str, str],
    agencies: list[str],
    model: str,
    dims: int,
) -> Explanation:
    async with AsyncForceClient(settings) as client:
        officer = client.officers.person(people[0], option="officer")
        authoriser = client.officers.person(people[1], option="authoriser")
        draft = drafting(officer, authoriser, facts.agencies_from(agencies, client))
        return await client.preview(draft, model=model or None, dims=dims)


def _document(decision: AgencyDecision) -> dict[str, Any]:
    duties = decision.obligations
    return {
        "agency": decision.agency,
        "permitted": decision.permitted,
        "code": decision.code,
        "agreement": decision.agreement,
        "failed_clauses": list(decision.failed_clauses),
        "clauses": [
            {
                "agreement": one.agreement,
                "clause": one.clause,
                "citation": one.citation,
                "attribute": one.attribute,
                "operator": one.operator,
                "required": one.required,
                "actual": one.actual,
                "verdict": one.verdict,
                "waived": one.waived,
            }
            for one in decision.clauses
        ],
        "obligations": duties.model_dump(mode="json") if duties else None,
        "waived": list(decision.waived),
        "confirm_by": decision.confirm_by.isoformat() if decision.confirm_by else None,
        "confirmer_rank": decision.confirmer_rank,
        "expected_false": decision.expected_false.model_dump() if decision.expected_false else None,
    }


def _expected(explained: Explanation) -> Text:
    """Say how many false candidates this search would yield, and for whom nobody can say."""
    if not any(one.permitted for one in explained.decisions):
        return Text("")
    total, unknown = explained.expected_false, ", ".join(explained.without_expectation)
    said = (
        f"Expected false candidates of all permitted agencies together: {expectation(total)}."
        if total
        else "No permitted agency states how many false candidates to expect."
    )
    return text(
        f"{said} Not counted, because they state none: {unknown}." if total and unknown else said
    )


def _show(decisions: tuple[AgencyDecision, ...], screen: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Agency", overflow="fold", max_width=24)
    table.add_column("Decision", overflow="fold")
    table.add_column("What it would take, or what it is held to", overflow="fold", ratio=1)
    for one in decisions:
        verdict = Text("permitted", "green") if one.permitted else text(one.code, "yellow")
        table.add_row(text(one.agency), verdict, _held_to(one) if one.permitted else _taken(one))
    screen.print(table)


def _taken(decision: AgencyDecision) -> Text:
    """Say of every unmet clause what it requires."""
    lines = [
        f"{one.clause}: {one.attribute} {one.operator} {one.required}"
        + (f" ({one.citation})" if one.citation else "")
        for one in decision.clauses
        if not one.met and one.clause in decision.failed_clauses
    ]
    return Text("\n".join(map(plain, lines or decision.failed_clauses)))


def _held_to(decision: AgencyDecision) -> Text:
    duties = decision.obligations
    parts = [f"under {decision.agreement}"]
    if duties is not None:
        parts += [
            "only whether something is held"
            if duties.hit_no_hit
            else f"at most {duties.max_candidates} candidates",
            f"score {duties.min_score:g} or more",
        ]
        if decision.expected_false is not None:
            parts.append(f"expected false candidates {expectation(decision.expected_false)}")
        parts += [duties.mode] if duties.mode else []
        parts += ["released by a person"] if duties.release_by_human else []
        parts += [f"kept {duties.retention_days} days"] if duties.retention_days else []
    if decision.confirm_by is not None:
        parts.append(
            f"urgent route (waived {', '.join(decision.waived)}), to be confirmed in writing by "
            f"{decision.confirm_by:%Y-%m-%d %H:%M} UTC by a {decision.confirmer_rank} or above"
        )
    return text(", ".join(parts))
