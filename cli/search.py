"""``probegate search``: one probe, followed live, verified, and shown for a person to read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli import facts
from cli.following import finish, follow
from cli.output import console, plain
from cli.people import presented
from force_client import (
    AsyncForceClient,
    ForceSettings,
    Part,
    ProbegateError,
    SearchView,
    load_probe,
    require_saveable,
    save_evidence,
)
from force_client.orders import SignedOrder
from trust import telemetry

_PROBE = "The probe"
_PEOPLE = "Who"
_SETUP = "Setup and output"

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for, facts aside."""

    settings: ForceSettings
    drafting: facts.Drafting
    agencies: list[str]
    officer: str
    authoriser: str
    officer_token: Path | None
    authoriser_token: Path | None
    probe: Path
    row: int | None
    normalise: bool
    model: str
    request_id: str | None
    as_json: bool
    save: Path | None


@app.command()
def search(
    *,
    probe: Annotated[
        Path,
        typer.Option(metavar="FILE", rich_help_panel=_PROBE, help="The template: .npy or .npz."),
    ],
    purpose: facts.Purpose,
    legal_basis: facts.LegalBasis,
    case: facts.Case,
    officer: facts.Officer,
    authoriser: facts.Authoriser,
    agency: facts.Agencies,
    row: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=_PROBE, help="Its row, from 0.")
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option("--normalise", rich_help_panel=_PROBE, help="Bring it to unit length."),
    ] = False,
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
    max_candidates: facts.MaxCandidates = 20,
    min_score: facts.MinScore = None,
    timeout: facts.Timeout = 10.0,
    completeness: facts.Enough = facts.BEST_EFFORT,
    officer_token: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_PEOPLE, help="The officer's token."),
    ] = None,
    authoriser_token: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=_PEOPLE, help="The authoriser's token."),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(metavar="UUID", rich_help_panel=_SETUP, help="Your own id of the request."),
    ] = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=_SETUP, help="Keep the evidence here."),
    ] = None,
) -> None:
    """Search with one probe, follow it, and verify the answer.

    Each agency's answer is shown as it comes. At the end every signature, every
    outcome and the log receipt are verified, or no result is shown. What comes
    back is an investigative lead and identifies nobody.

    Without token files, the force's own identity key issues the tokens (demonstrations only).

    Exit status: 0 when at least one agency was not denied; 3 when every agency was denied; 4 when
    it ended with less than --completeness asks for; 1 when it is refused or cannot be saved.
    """
    request = Request(
        settings=facts.settings_from(config),
        drafting=facts.drafting(
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
            enough=completeness,
        ),
        agencies=agency,
        officer=officer,
        authoriser=authoriser,
        officer_token=officer_token,
        authoriser_token=authoriser_token,
        probe=probe,
        row=row,
        normalise=normalise,
        model=model,
        request_id=request_id,
        as_json=as_json,
        save=save,
    )
    telemetry.setup("probegate-force")
    try:
        with telemetry.span("probegate search"):
            view, unsaved = asyncio.run(_search(request))
    finally:
        telemetry.shutdown()
    finish(view, as_json=as_json, afterwards=unsaved)


async def _search(request: Request) -> tuple[SearchView, ProbegateError | None]:
    """Return the ended search, and why it could not be saved if it could not."""
    if request.save is not None:
        require_saveable(request.save)  # before there is a search that cannot be saved
    template = load_probe(
        request.probe,
        model=request.model or request.settings.model,
        row=request.row,
        normalise=request.normalise,
    )
    async with AsyncForceClient(request.settings) as client:
        officer, officer_token = presented(
            client, request.officer, request.officer_token, Part.OFFICER
        )
        authoriser, authoriser_token = presented(
            client, request.authoriser, request.authoriser_token, Part.AUTHORISER
        )
        agencies = facts.agencies_from(request.agencies, client)
        prepared = client.prepare(
            request.drafting(officer, authoriser, agencies),
            template,
            request_id=request.request_id,
        )
        view = await client.create(
            prepared, officer_token=officer_token, authoriser_token=authoriser_token
        )
        screen = console(stderr=request.as_json)
        named = len(view.decisions)
        screen.print(f"Search {plain(view.search_id)} is on the record; {named} agencies named.")
        view = await follow(client, view.search_id, screen)
    return view, _unsaved(request.save, view, prepared.order)


def _unsaved(folder: Path | None, view: SearchView, order: SignedOrder) -> ProbegateError | None:
    if folder is None:
        return None
    try:
        save_evidence(folder, view, order)
    except ProbegateError as error:
        return error
    return None
